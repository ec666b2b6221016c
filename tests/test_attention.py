"""Attention: the kernels against the specification, that against finite differences and PyTorch, one text against many."""

import numpy as np
import pytest
from support.cases import each, pairs
from support.compare import close
from support.gradients import check_gradient
from support.kernels import TOLERANCE

from nblstm.kernels import Alignment, Attended, load

LENGTHS = [[(3, 4), (1, 1), (7, 2), (2, 7)], [(1, 70)], [(5, 16), (5, 130), (17, 1)], [(1, 1)]]  # queries, keys
SIZES = [(5, 3), (16, 64), (33, 70), (1, 1)]  # D, F


def starts(lengths):
    """Where each begins, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def given(lengths, D, F, additive, dtype=np.float64):
    """Random inputs, their alignment and a gradient of the context."""
    r = np.random.default_rng(2)
    alignment = Alignment.of(*(starts(column) for column in zip(*lengths)))
    new = lambda *shape: r.normal(0, 0.7, shape).astype(dtype)
    Mq, Mk = int(alignment.queries[-1]), int(alignment.keys[-1])
    inputs = Attended(new(Mq, D), new(Mk, D), new(Mk, F), new(D) if additive else None)
    return inputs, alignment, new(Mq, F)


def run(backend, threads, inputs, alignment, dcontext):
    """All outputs by name; the gradient of the vector is added to ones."""
    kernels, dtype = load(backend), dcontext.dtype
    longest = [int(np.diff(rows).max()) for rows in alignment[:2]]
    sizes, texts = (inputs.key.shape[1], inputs.value.shape[1]), len(alignment.queries) - 1
    work = kernels.attention_work(*longest, sizes, texts + 1, dtype, threads)
    context, weights = np.full_like(dcontext, np.nan), np.full(alignment.cells[-1], np.nan, dtype)
    kernels.attention_forward(context, weights, work, inputs, alignment, threads)
    found = {name: np.full_like(getattr(inputs, name), np.nan) for name in ("query", "key", "value")}
    dvector = None if inputs.vector is None else np.ones_like(inputs.vector)
    kernels.attention_backward(*found.values(), dvector, dcontext, weights, work, inputs, alignment, threads)
    last = {} if dvector is None else {"vector": dvector}
    return {"context": context, "weights": weights, **found, **last}


@each("lengths, size, additive, dtype", pairs(LENGTHS, SIZES, [False, True], [np.float32, np.float64]))
def test_kernels_equal_the_specification(lengths, size, additive, dtype):
    """Weights, context and all gradients, for lengths and sizes that fill no tile, on any number of threads."""
    pytest.importorskip("numba")
    values = given(lengths, *size, additive, dtype)
    expected, found = run("numpy", 1, *values), run("cpu", 3, *values)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype == dtype
        close(found[name], value, TOLERANCE[dtype])
    for name, value in run("cpu", 1, *values).items():
        assert np.array_equal(found[name], value), name


@each("backend", ["numpy", "cpu"])
@each("additive", [False, True])
@each("sign", [1, -1])
def test_a_score_that_overflows_shows_in_the_context(backend, additive, sign):
    """A key that cannot be compared, whichever it is, would have the weight 0 or 1 like any other: its query gets NaN."""
    if backend == "cpu":
        pytest.importorskip("numba")
    for place in (0, 16, 40):
        inputs, alignment, slopes = given([(1, 41), (1, 3)], 5, 3, additive, np.float32)
        inputs.key[place], inputs.query[0] = sign * 3e38, (sign if additive else 1) * 3e38
        with np.errstate(all="ignore"):
            found = run(backend, 1, inputs, alignment, slopes)
        assert np.isnan(found["context"][0]).all() and np.isfinite(found["context"][1]).all()


@each("additive", [False, True])
def test_gradients_of_the_specification(additive):
    """Texts of 1 to 7 queries and keys: finite differences of a weighted sum of the context."""
    inputs, alignment, slopes = given([(1, 7), (3, 1), (7, 4), (2, 2)], 5, 3, additive)
    found = run("numpy", 1, inputs, alignment, slopes)
    for name, array in inputs._asdict().items():
        if array is not None:
            gradient = found[name] - (1 if name == "vector" else 0)
            check_gradient(
                name, lambda: (run("numpy", 1, inputs, alignment, slopes)["context"] * slopes).sum(), array, gradient
            )


@each("backend", ["numpy", "cpu"])
@each("additive", [False, True])
def test_attention_is_pytorchs(backend, additive):
    """The same equations in PyTorch's operations, one text at a time: context and gradients."""
    torch = pytest.importorskip("torch")
    inputs, alignment, slopes = given(LENGTHS[0], 5, 18, additive)
    found = run(backend, 2, inputs, alignment, slopes)
    query, key, value, *rest = (torch.from_numpy(x).requires_grad_() for x in inputs if x is not None)
    contexts = []
    for n in range(len(LENGTHS[0])):
        q, k, v = (
            x[rows[n] : rows[n + 1]] for x, rows in ((query, alignment[0]), (key, alignment[1]), (value, alignment[1]))
        )
        scores = torch.tanh(q[:, None] + k[None]) @ rest[0] if additive else q @ k.T
        contexts.append(torch.softmax(scores, dim=1) @ v)
    context = torch.cat(contexts)
    context.backward(torch.from_numpy(slopes))
    close(found["context"], context.detach().numpy(), 1e-12)
    for name, peer in zip(("query", "key", "value"), (query, key, value)):
        close(found[name], peer.grad.numpy(), 1e-12)
    if additive:
        close(found["vector"] - 1, rest[0].grad.numpy(), 1e-12)


@each("backend", ["numpy", "cpu"])
def test_huge_scores_and_one_by_one(backend):
    """Scores of a thousand give weights that sum to 1; a text's outputs do not depend on those beside it."""
    inputs, alignment, slopes = given(LENGTHS[0], 5, 3, False)
    inputs = inputs._replace(query=1000 * inputs.query)
    found = run(backend, 2, inputs, alignment, slopes)
    for n, (T, S) in enumerate(LENGTHS[0]):
        a = found["weights"][alignment.cells[n] : alignment.cells[n + 1]].reshape(T, S)
        close(a.sum(axis=1), np.ones(T), 1e-12)
        q, k = (slice(rows[n], rows[n + 1]) for rows in alignment[:2])
        alone = Attended(inputs.query[q], inputs.key[k], inputs.value[k], None)
        parts = run(backend, 1, alone, Alignment.of(starts([T]), starts([S])), slopes[q])
        for name, rows in (("context", q), ("query", q), ("key", k), ("value", k)):
            close(parts[name], found[name][rows], 1e-12)
