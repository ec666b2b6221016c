"""The math, once per device: `reference` (NumPy, the specification), `cpu` (numba), `cuda` (numba, NVIDIA cards).

Legend
    T time steps, N batch, D input size, H hidden size, V vocabulary.
    M rows: the tokens of N packed texts, time step by time step, the batch shrinking as texts end (PyTorch's
    PackedSequence); M = T * N where all are equally long. Step t holds rows offsets[t] : offsets[t + 1].
    Arrays are C-contiguous, weights have PyTorch's shapes and gate order. A leading `d` is the gradient of the loss.

Contract
    Every module holds the same functions with the same argument names: outputs first, then inputs, `threads`
    last. The caller allocates, so calls of several threads share nothing but what they only read.
    Forward functions overwrite their outputs; backward functions overwrite `dx` and add into parameter gradients.
    What a `work` tuple holds is the module's own business. `array`, `empty` and `zeros_like` make arrays where the
    kernels work, `assign` and `host` cross over; cuda takes NumPy arrays everywhere, and copies them there and back.

    array(x)                                                           -> x where the kernels work
    empty(shape, dtype)                                                -> array
    zeros_like(x)                                                      -> array
    assign(y, x)
    host(x)                                                            -> x as a NumPy array
    dropout(y, x, rate, key, threads)
    scale_texts(y, x, scales, offsets, threads)
    embedding_forward(y, tokens, weight, threads)
    embedding_backward(dweight, dy, tokens, threads)
    recurrent_work(cells, M, N, rows, dtype, threads)                  -> work of each cell
    recurrent_forward(outputs, work, packed, weights, cell, threads)
    recurrent_backward(dx, grads, slopes, y, work, packed, weights, cell, threads)
    decode_weights(net, threads)                                       -> weights, only read from then on
    decode_work(N, weights, threads)                                   -> work
    decode(state, tokens, work, threads)
    draw(tokens, logits, uniform, history, banned, filters, threads)
    generate(history, length, state, uniform, banned, filters, work, threads)
    search(history, hypotheses, state, noise, banned, beam, work, threads)    -> int
    linear_work(M, D, V, dtype, threads)                               -> work
    linear_forward(y, work, x, weight, bias, threads)
    linear_backward(dx, dweight, dbias, dy, work, x, weight, threads)
    squared_error(losses, dy, y, targets, scales, threads)
    distillation(losses, dy, y, lesson, threads)
    softmax_work(M, D, V, dtype, threads)                              -> work
    softmax_losses(losses, work, x, targets, weight, bias, threads)
    softmax_gradient_work(M, D, V, dtype, threads)                     -> work
    softmax_losses_and_gradient(losses, dx, dweight, dbias, work, x, loss, weight, bias, threads)
    attention_work(queries, keys, sizes, texts, dtype, threads)        -> work
    attention_forward(context, weights, work, inputs, alignment, threads)
    attention_backward(dquery, dkey, dvalue, dvector, dcontext, weights, work, inputs, alignment, threads)
    crf_work(M, K, dtype, threads)                                     -> work
    crf_losses(losses, work, emissions, targets, chain, offsets, threads)
    crf_losses_and_gradient(losses, demissions, dchain, work, emissions, targets, scales, chain, offsets, threads)
    crf_decode(tags, emissions, chain, offsets, threads)
    cache_losses(losses, similarity, targets, cache, threads)
    clear(g, threads)
    squared_norm(g, threads)                                          -> float
    clip_values(g, limit, threads)
    adam(w, m, v, g, settings, step, scale, threads)
    sgd(w, m, g, lr, momentum, nesterov, weight_decay, scale, threads)
    average(a, w, share, threads)
    rmsprop(w, v, g, lr, alpha, eps, weight_decay, scale, threads)

    Whole texts are read with int8 weights by the `reading` of cpu, which that of `reference` specifies; others read in floats.
"""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from nblstm.errors import ConfigError, DeviceError
from nblstm.kernels.cells import Cell

LOGITS_BYTES = 1 << 26  # what `softmax_gradient_work` may take for logits; more rows are worked off in turns


class Packed(NamedTuple):
    """Packed texts as a layer reads them, in one direction."""

    x: np.ndarray  # (rows, D): the unique inputs
    index: np.ndarray | None  # type: ignore[assignment]  # (M,) int32: the row of x at a place; None: x is in place
    h0: np.ndarray  # (N, H): each text's state before its first step
    c0: np.ndarray  # (N, H or 0)
    offsets: np.ndarray  # (T + 1,) int64: where each step begins; falling counts of rows


class Outputs(NamedTuple):
    """What a layer gives for packed texts; or the gradients of these."""

    y: np.ndarray  # (M, H): h of every step
    cs: np.ndarray | None  # (M, H): c of every step; None where nobody asks
    hn: np.ndarray  # (N, H): each text's state after its last step, not in the place of h0, c0
    cn: np.ndarray  # (N, H or 0)


class CrossEntropy(NamedTuple):
    """The loss of every row of a softmax: torch.nn.CrossEntropyLoss."""

    targets: np.ndarray  # (M,) int
    scales: np.ndarray  # (M,): the weight of each row, over the sum of all weights for a mean; 0 leaves a row out
    classes: np.ndarray | None = None  # (V,): the weight of each class; None for ones
    smoothing: float = 0.0  # of labels, in [0, 1)


class NeuralCache(NamedTuple):
    """The numbers of a neural cache, see `reference.cache`."""

    size: int  # positions that it holds
    theta: float  # how much more the states that are like now's count
    share: float  # of the probability that it has, in [0, 1): lambda


class Lesson(NamedTuple):
    """What a student's logits are compared with, see `reference.distillation`."""

    targets: np.ndarray  # (M,) int
    scales: np.ndarray  # (M,): as those of CrossEntropy
    taught: np.ndarray  # (M, V): the teacher's logits
    temperature: float  # above 0; both distributions are softmax(logits / temperature)
    weight: float  # of the teacher's share in the loss, in [0, 1]


class AdamSettings(NamedTuple):
    """The numbers of an update by `adam`."""

    lr: float
    beta1: float
    beta2: float
    eps: float
    weight_decay: float  # added to the gradient
    decoupled: float  # the decay of AdamW


class Int8(NamedTuple):
    """A matrix of small integers: row r is scales[r] * numbers[r]."""

    numbers: np.ndarray  # (R, K) int8, -127 ... 127
    scales: np.ndarray  # (R,) float32

    @property
    def shape(self) -> tuple[int, ...]:
        """(R, K)."""
        return self.numbers.shape


class DecoderWeights(NamedTuple):
    """The weights of a network that reads in one direction, as `decode_weights` takes them.

    All matrices are arrays; or all are `Int8`, of cells that the CPU kernels compute. See `reference.int8`.
    """

    embedding: Any  # (V, E)
    cells: list[Cell]  # of every layer
    layers: list[dict[str, Any]]  # the weights of every layer, by the names of Cell.shapes
    residual: bool  # a layer's input is added to its output where their sizes match
    with_memory: bool  # the head sees the last layer's c beside its output
    head_weight: Any  # (V, F); of an adaptive head its first layer's, with fewer rows
    head_bias: np.ndarray  # (V,)


class Attended(NamedTuple):
    """What attention reads: rows of queries, and of the keys and values that they look at."""

    query: np.ndarray  # (Mq, D)
    key: np.ndarray  # (Mk, D)
    value: np.ndarray  # (Mk, F)
    vector: np.ndarray | None  # (D,) of an additive score; None where it is multiplicative


class Alignment(NamedTuple):
    """Whose queries look at which keys: text n has rows queries[n] : queries[n + 1], keys likewise, at least one each."""

    queries: np.ndarray  # (N + 1,) int64
    keys: np.ndarray  # (N + 1,) int64
    cells: np.ndarray  # (N + 1,) int64: where the weights of each text stand, (its queries, its keys), flat

    @classmethod
    def of(cls, queries: np.ndarray, keys: np.ndarray) -> Alignment:
        """The alignment of these rows, weights text after text."""
        return cls(queries, keys, np.concatenate([[0], np.cumsum(np.diff(queries) * np.diff(keys))]).astype(np.int64))


class Chain(NamedTuple):
    """The scores of a linear chain of tags, see `reference.crf`; or their gradient."""

    transitions: np.ndarray  # (K, K) from the tag of a row to that of a column
    start: np.ndarray  # (K,) of the first tag
    end: np.ndarray  # (K,) of the last one


class DecoderState(NamedTuple):
    """Where N texts stand that are read on token by token."""

    h: np.ndarray  # (L, N, H)
    c: np.ndarray  # (L, N, H or 0)
    features: np.ndarray  # (N, F): what the head sees
    logits: np.ndarray  # (N, V) of the next token; (0, V) where they are not wanted


class Filters(NamedTuple):
    """How `draw` changes a distribution before it draws; the defaults leave it as it is. The order is told there."""

    temperature: float = 1.0  # 0 takes the most likely token
    top_k: int = 0  # 0: all
    top_p: float = 1.0  # in (0, 1]
    min_p: float = 0.0  # in [0, 1]
    typical_p: float = 1.0  # in (0, 1]
    repetition_penalty: float = 1.0
    repetition_window: int = 0  # 0: the whole history
    no_repeat_ngram: int = 0  # 0: off
    presence_penalty: float = 0.0  # nats that a token costs that is in the window of the history
    frequency_penalty: float = 0.0  # nats that it costs for each time that it is there

    @property
    def penalises(self) -> bool:
        """Whether tokens that were there become less likely."""
        return (self.repetition_penalty, self.presence_penalty, self.frequency_penalty) != (1.0, 0.0, 0.0)

    @property
    def repeats(self) -> bool:
        """Whether the tokens before change a distribution."""
        return self.penalises or self.no_repeat_ngram > 0

    @property
    def cuts(self) -> bool:
        """Whether tokens that are not likely enough are left out."""
        return (self.top_k, self.top_p, self.min_p, self.typical_p) != (0, 1.0, 0.0, 1.0)


class Beam(NamedTuple):
    """How `search` chooses, and when it is over."""

    groups: int = 1  # of slots, that choose one after the other
    diversity: float = 0.0  # nats that a token costs for each slot of an earlier group that takes it at the same step
    stochastic: bool = False  # draw without replacement
    end: int = -1  # id of the token that ends a text; -1: there is none
    length_penalty: float = 0.0  # alpha of the rank
    longest: int = 1  # tokens of a text, at most
    wanted: int = 1  # texts of each group


class History(NamedTuple):
    """What a `search` has chosen at every step."""

    parents: np.ndarray  # (S, B) int64: in which slot each hypothesis stood before
    tokens: np.ndarray  # (S, B) int64: its new token; V where it has ended and keeps its slot
    start: int  # the step that comes next


class Hypotheses(NamedTuple):
    """The B hypotheses of a `search`."""

    log_probability: np.ndarray  # (B,) float64, in nats; -inf where the slot is empty
    perturbed: np.ndarray  # (B,) float64: the G of a stochastic beam
    length: np.ndarray  # (B,) int64: tokens so far
    finished: np.ndarray  # (B,) bool: whether it has ended


def fastest() -> str:
    """The name of the fastest kernels that can run here: "cpu", or "numpy" where numba is not installed."""
    return "cpu" if importlib.util.find_spec("numba") else "numpy"


def fallback(cell: Cell, name: str, precision: str = "single") -> str | None:
    """A sentence for who will wait: where the kernels called `name` leave a cell to the specification; else None.

    Or where the machine has no products of the precision.
    """
    if name == "cpu" and precision == "bfloat16" and not importlib.import_module("nblstm.kernels.cpu.tiles").PAIRWISE:
        return (
            "this processor does not multiply bfloat16 numbers; products of float32 stand for theirs, no faster than "
            "precision single."
        )
    if name == "numpy" or (cell.compiled if name == "cpu" else cell.definition.cuda is not None):
        return None
    options = " with these options" if cell.has_options else ""
    return f"no {name} kernel computes the cell {cell.kind}{options}; NumPy does, several times slower."


def load(name: str, precision: str = "single") -> ModuleType:
    """The kernels called `name`: "numpy" (the specification), "cpu" (numba) or "cuda" (NVIDIA cards).

    precision: "bfloat16" is for those whose products round their factors, which cuda has none of. ConfigError for another
    name; DeviceError if numba cannot be imported, or there is no card.
    """
    files = {"numpy": "reference", "cpu": "cpu", "cuda": "cuda"}
    if not isinstance(name, str) or name not in files:
        raise ConfigError(f"backend must be one of {', '.join(files)}, got {name!r:.40}.")
    try:
        if name != "numpy":
            importlib.import_module("numba")  # the error names it, not what it needs itself
        part = ".bfloat16" if precision == "bfloat16" else ""
        module = importlib.import_module(f"nblstm.kernels.{files[name]}{part}")
    except ImportError as error:
        if name == "cuda":
            raise DeviceError(
                f"device cuda needs numba's CUDA package, which cannot be imported here ({error}): "
                'pip install "nblstm[cuda]", or choose cpu.'
            ) from error
        raise DeviceError(
            f"the compiled kernels need numba, which cannot be imported here ({error}); install it, or for sampling "
            "and scoring choose the numpy backend."
        ) from error
    if name == "cuda":
        module.require()
    return module
