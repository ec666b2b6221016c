"""The linear-chain CRF: the specification against enumeration, compiled kernels against the specification."""

import itertools

import numpy as np
import pytest
from support.cases import each, pairs
from support.compare import close
from support.gradients import check_gradient
from support.kernels import TOLERANCE, offsets_of

from nblstm.errors import DeviceError
from nblstm.kernels import Chain, load, reference
from nblstm.kernels.packed import lengths as lengths_of

BACKENDS = ["numpy", "cpu"]


def case(seed, lengths, K, dtype=np.float64, scale=1.0):
    """Random emissions, targets, weights of texts and a chain."""
    r = np.random.default_rng(seed)
    new = lambda *shape: r.normal(0, scale, shape).astype(dtype)
    M = sum(lengths)
    chain = Chain(new(K, K), new(K), new(K))
    return new(M, K), r.integers(0, K, M).astype(np.int32), np.abs(new(len(lengths))), chain, offsets_of(lengths)


def run(kernels, emissions, targets, scales, chain, offsets, threads=2):
    """Every output by name; gradients of the chain are added to ones."""
    work = kernels.crf_work(len(targets), emissions.shape[1], emissions.dtype, threads)
    plain, losses = np.empty((2, len(targets)), emissions.dtype)
    kernels.crf_losses(plain, work, emissions, targets, chain, offsets, threads)
    demissions, dchain = np.full_like(emissions, np.nan), Chain(*map(np.ones_like, chain))
    kernels.crf_losses_and_gradient(
        losses, demissions, dchain, work, emissions, targets, scales, chain, offsets, threads
    )
    tags = np.empty(len(targets), np.int32)
    kernels.crf_decode(tags, emissions, chain, offsets, threads)
    return {"plain": plain, "losses": losses, "demissions": demissions, "tags": tags, **dchain._asdict()}


def score_of(tags, emissions, chain):
    """s(y) of one text."""
    between = sum(chain.transitions[i, j] for i, j in zip(tags, tags[1:]))
    return chain.start[tags[0]] + sum(e[y] for e, y in zip(emissions, tags)) + between + chain.end[tags[-1]]


def enumerated(emissions, targets, scales, chain, offsets):
    """What `run` gives, by the sum over all tags of every text."""
    K, lengths = len(chain.start), lengths_of(offsets)
    found = {"demissions": np.zeros_like(emissions), "tags": np.zeros(len(targets), np.int32), "totals": []}
    dchain = Chain(*map(np.ones_like, chain))
    for n, length in enumerate(lengths):
        rows = offsets[:length] + n
        every = list(itertools.product(range(K), repeat=length))
        scores = np.array([score_of(tags, emissions[rows], chain) for tags in every])
        own = tuple(targets[rows])
        log_z = np.log(np.exp(scores).sum())
        found["totals"].append(log_z - scores[every.index(own)])
        found["tags"][rows] = every[scores.argmax()]
        for tags, p in zip(every, np.exp(scores - log_z)):
            slope = scales[n] * (p - (tags == own))
            found["demissions"][rows, tags] += slope
            np.add.at(dchain.transitions, (tags[:-1], tags[1:]), slope)
            dchain.start[tags[0]] += slope
            dchain.end[tags[-1]] += slope
    return {**found, **dchain._asdict()}


@pytest.mark.parametrize("backend", BACKENDS)
def test_equals_enumeration(backend):
    """200 small batches of up to 4 tags and texts of up to 5 steps: log Z - s(y), every gradient, the best tags."""
    kernels = pytest.importorskip("numba") and load(backend)
    for seed in range(200):
        r = np.random.default_rng([1, seed])
        lengths = sorted(r.integers(1, 6, r.integers(1, 4)).tolist(), reverse=True)
        given = case(seed, lengths, int(r.integers(1, 5)))
        found, expected = run(kernels, *given), enumerated(*given)
        rows = [given[4][:length] + n for n, length in enumerate(lengths)]
        for name in ("plain", "losses"):
            close([found[name][row].sum() for row in rows], expected["totals"], 1e-11)
        for name in ("demissions", "tags", *Chain._fields):
            close(found[name], expected[name], 1e-11)


@pytest.mark.parametrize("backend", BACKENDS)
def test_losses_are_of_a_tag_given_those_before(backend):
    """Each row's is -log of the share of all tags with its prefix among those with the prefix before."""
    emissions, targets, _, chain, offsets = given = case(3, [4], 3)
    scores = {tags: np.exp(score_of(tags, emissions, chain)) for tags in itertools.product(range(3), repeat=4)}
    mass = [sum(p for tags, p in scores.items() if tags[:t] == tuple(targets[:t])) for t in range(5)]
    close(run(load(backend), *given)["plain"], -np.log(np.array(mass[1:]) / mass[:-1]), 1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradient(backend):
    """Emissions, transitions, start and end against finite differences, texts of 5, 3, 3 and 1 steps."""
    kernels = load(backend)
    emissions, targets, scales, chain, offsets = given = case(5, [5, 3, 3, 1], 4)
    found, rows = run(kernels, *given), [offsets[:n] + k for k, n in enumerate((5, 3, 3, 1))]

    def loss():
        losses = run(kernels, *given)["plain"]
        return sum(scale * losses[row].sum() for scale, row in zip(scales, rows))

    check_gradient("emissions", loss, emissions, found["demissions"])
    for name, array in chain._asdict().items():
        check_gradient(name, loss, array, found[name] - 1)


SHAPES = [([7], 1), ([4, 4, 4], 5), ([9, 6, 6, 2, 1, 1, 1], 17), ([30, 1], 33), ([1], 3), ([12] * 40, 9)]


@each("shape, dtype, threads", pairs(SHAPES, [np.float32, np.float64], [1, 3]))
def test_compiled_kernels_equal_the_specification(shape, dtype, threads):
    """Losses, every gradient and the best tags, in the type of the emissions, however many threads there are."""
    pytest.importorskip("numba")
    lengths, K = shape
    given = case(7, lengths, K, dtype, 2.0)
    expected, found = run(reference, *given, threads=1), run(load("cpu"), *given, threads=threads)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype, name
        close(found[name], value, TOLERANCE[dtype])


def test_number_of_threads_does_not_change_a_bit():
    """No sum is split between threads."""
    pytest.importorskip("numba")
    given = case(8, [9, 6, 6, 2, 1], 17, np.float32)
    runs = [run(load("cpu"), *given, threads=threads) for threads in (1, 2, 5)]
    for name, value in runs[0].items():
        assert all(np.array_equal(value, other[name]) for other in runs[1:]), name


@pytest.mark.parametrize("backend", BACKENDS)
def test_scores_far_apart(backend):
    """Thousands of nats between tags: the losses and gradients that float64 logarithms give, no overflow and no NaN."""
    emissions, targets, scales, chain, offsets = case(9, [4, 2], 3, np.float32, 900.0)
    found = run(load(backend), emissions, targets, scales, chain, offsets)
    wide = [np.float64(emissions), targets, np.float64(scales), Chain(*map(np.float64, chain)), offsets]
    expected = run(reference, *wide)
    assert np.isfinite(found["losses"]).all() and expected["losses"].max() > 500
    for name in ("losses", "demissions", "transitions", "tags"):
        close(found[name], expected[name], 1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_not_finite_shows(backend):
    """NaN in one emission makes its text's losses NaN, as the trainer must see."""
    emissions, *others = case(10, [3, 2], 3)
    emissions[0, 1] = np.nan
    with np.errstate(invalid="ignore"):
        assert np.isnan(run(load(backend), emissions, *others)["losses"]).any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_equal_scores_give_the_first_tag(backend):
    """All tags alike: tag 0 at every step; transitions of -inf are not taken."""
    kernels, K, offsets = load(backend), 3, offsets_of([4, 2])
    tags, chain = np.full(6, -1, np.int32), Chain(np.zeros((K, K)), np.zeros(K), np.zeros(K))
    kernels.crf_decode(tags, np.zeros((6, K)), chain, offsets, 1)
    assert not tags.any()
    np.fill_diagonal(chain.transitions, -np.inf)
    kernels.crf_decode(tags, np.zeros((6, K)), chain, offsets, 1)
    assert all(tags[offsets[t] + n] != tags[offsets[t - 1] + n] for n, T in ((0, 4), (1, 2)) for t in range(1, T))


def test_a_card_refuses():
    """In a line, whatever is asked."""
    cuda = pytest.importorskip("nblstm.kernels.cuda")
    with pytest.raises(DeviceError, match="no kernel of a card computes a CRF; choose cpu."):
        cuda.crf_work(1, 1, np.float32, 1)
