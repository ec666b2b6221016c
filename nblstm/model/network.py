"""Network: kernels composed into embedding -> recurrent layers -> linear head, forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

import numpy as np

from nblstm.config import ModelConfig, check_card, check_writes
from nblstm.errors import ConfigError
from nblstm.kernels import Beam, DecoderWeights, Filters, Hypotheses, load
from nblstm.kernels.packed import last_rows, reading_backwards
from nblstm.kernels.threads import available
from nblstm.model.noise import EMBEDDING, HIDDEN, INPUT, LAYER, RECURRENT, TEXT, Noise
from nblstm.model.parameters import cell_views, views
from nblstm.model.state import State

MASK = 0  # the id that a bidirectional network reads for a hidden token: <unk>'s
SIDE_BY_SIDE = 2048  # tokens of a text's copies, each with other tokens hidden, that are read at once


@dataclass
class Pass:
    """One way through the network: what was read, what the way back needs, what came out."""

    tokens: np.ndarray  # (M,) ids
    offsets: np.ndarray  # (T + 1,) where the steps of the packed texts begin
    state: State  # before
    after: State
    works: list[Any]  # of every cell
    weights: list[dict[str, np.ndarray]]  # of every cell, as this pass uses them
    noise: Noise | None  # None outside of training
    backwards: np.ndarray | None  # (M,) the row that stands at a place when every text is read backwards
    distinct: np.ndarray | None = None  # ids of the distinct inputs; None where the inputs are all in place
    inputs: list[tuple[np.ndarray, np.ndarray | None]] = field(default_factory=list)  # (x, index) of every layer
    outputs: list[np.ndarray] = field(default_factory=list)  # h of every cell and step
    top: np.ndarray = field(default_factory=lambda: np.empty(0))  # (M, head_size) what the head sees


class Network:
    """A recurrent language model over one flat buffer of parameters.

    parameters (num_parameters,) is shared, not copied: an optimizer that updates it updates the network.
    With backend "cuda" it is copied to the card, where all arrays then are; States may be there or NumPy arrays.
    backend: "numpy", "cpu" or "cuda". precision: "single", or on cuda "half": weights and activations are read and kept
    as float16, sums and gradients stay float32. threads: 0 means every core. Buffers are kept between calls, so one
    Network serves one thread of the caller. classes (V,) and smoothing: weights of the targets' classes and label
    smoothing in training.
    """

    def __init__(
        self, config: ModelConfig, parameters: np.ndarray, backend: str = "cpu", threads: int = 0,
        precision: str = "single",
    ) -> None:  # fmt: skip
        if not isinstance(threads, (int, np.integer)) or threads < 0:
            raise ConfigError(f"threads must be a whole number of at least 0, got {threads!r:.40}.")
        self.config = config
        self.kernels: ModuleType = load(backend)
        if backend == "cuda":
            check_card(config)
        self.parameters = self.kernels.array(parameters)
        self.kept = np.dtype("float16" if precision == "half" else config.dtype)  # how activations are stored
        self._rounded = self.kernels.empty(parameters.shape, self.kept) if precision == "half" else None
        self.weights = self._views()
        self.cell_weights = cell_views(self.weights, config)
        self.threads = threads or available()
        self.classes: np.ndarray | None = None
        self.smoothing = 0.0
        self._arrays: dict[str, np.ndarray] = {}
        self._works: dict[str, tuple[tuple[int, ...], Any]] = {}

    def _views(self) -> dict[str, np.ndarray]:
        """The parameters by name; in half precision, matrices are the rounded ones."""
        named = views(self.parameters, self.config)
        if self._rounded is None:
            return named
        rounded = views(self._rounded, self.config)
        return {name: rounded[name] if len(array.shape) == 2 else array for name, array in named.items()}

    # ------------------------------------------------------------ states

    def initial_state(self, num_texts: int = 1) -> State:
        """The state of texts of which nothing has been read: zero, or as it was learned."""
        state = State.zeros(self.config, num_texts)
        if self.config.learned_state:
            state.h[...] = self.weights["initial_state.h"][:, None]
            if self.config.cells[0].has_memory:
                state.c[...] = self.weights["initial_state.c"][:, None]
        return state

    def before(self, chunk: Any, state: State) -> State:
        """The state from which a chunk (`nblstm.text.batches.Chunk`) is read, `state` being where the last one ended.

        Whoever reads backwards has not read what follows the chunk: that direction starts anew in every chunk.
        """
        if chunk.fresh:
            return self.initial_state(chunk.num_texts)
        return self._backwards_anew(state.first(chunk.num_texts))

    def _backwards_anew(self, state: State) -> State:
        """The state with what reads backwards at its start."""
        if not self.config.bidirectional:
            return state
        state, initial = state.copy(), self.initial_state()
        state.h[1::2], state.c[1::2] = initial.h[1::2], initial.c[1::2]
        return state

    # ------------------------------------------------------------ training

    def loss_and_gradient(
        self, gradient: np.ndarray, chunk: Any, state: State, seed: int, step: int
    ) -> tuple[float, State]:
        """The mean loss (nats per token) of a chunk (`nblstm.text.batches.Chunk`), and the state after it.

        gradient (num_parameters,): overwritten with that of the mean loss, weighted by chunk.weights. state: that of
        the chunk's texts before it, see `before`. All dropout is a function of (seed, step). A bidirectional network,
        which would see a token that follows, predicts hidden tokens instead, see `hiding`.
        """
        noise = Noise(self.kernels, seed, step, self.threads)
        chunk = self._asked(chunk, noise, step)
        self.kernels.clear(gradient, self.threads)
        grads = views(gradient, self.config)
        run = self._forward("training", chunk, state, noise)
        loss, dtop = self._head_and_gradient(run, grads, chunk)
        self._backward(run, grads, dtop, chunk.fresh)
        return loss, run.after

    def _asked(self, chunk: Any, noise: Noise, step: int) -> Any:
        """The chunk as it is trained on: where both directions are read, some of its tokens are hidden."""
        if not self.config.bidirectional:
            return chunk
        hidden = noise.factors((len(chunk.targets),), np.dtype("float32"), 1 - self.config.mask_fraction, HIDDEN) > 0
        hidden[step % len(hidden)] = True  # at least one
        return hiding(chunk, hidden)

    def _head_and_gradient(self, run: Pass, grads: dict[str, np.ndarray], chunk: Any) -> tuple[float, np.ndarray]:
        """The mean loss, and its gradient with respect to run.top; that of the head's parameters goes to grads."""
        if chunk.weights is None:
            return self._head_of_rows(run.top, grads, chunk.targets, np.ones(len(run.tokens), self.config.dtype))
        rows = np.flatnonzero(chunk.weights)  # the others add nothing
        top, dtop = self._array("top of rows", len(rows), run.top.shape[1]), self._array("dtop", *run.top.shape)
        self.kernels.embedding_forward(top, rows, run.top, self.threads)
        loss, d = self._head_of_rows(top, grads, chunk.targets[rows], chunk.weights[rows].astype(self.config.dtype))
        self.kernels.clear(dtop.reshape(dtop.size), self.threads)
        self.kernels.embedding_backward(dtop, d, rows, self.threads)
        return loss, dtop

    def _head_of_rows(self, top: np.ndarray, grads, targets, weights: np.ndarray) -> tuple[float, np.ndarray]:
        """`_head_and_gradient` of top (M, head_size) and its targets (M,), each with a weight (M,)."""
        M, F, dtype = len(top), self.config.head_size, self.config.dtype
        counted = weights if self.classes is None else weights * self.classes[targets]
        total = float(counted.sum(dtype=np.float64))
        scales = weights / total if total > 0 else np.zeros_like(weights)  # where no target counts, nothing is learnt
        losses, dtop = self._array("losses", M), self._array("dtop of rows", M, F)
        self._losses_and_gradient(losses, dtop, grads, top, targets, scales.astype(dtype))
        losses = self.kernels.host(losses)
        return float(np.dot(losses.astype(np.float64), scales.astype(np.float64))), dtop

    def _losses_and_gradient(self, losses: np.ndarray, dtop: np.ndarray, grads, top, targets, scales) -> None:
        """losses (M,) of the rows, and the gradient of sum(scales * losses): dtop overwritten, the head's added."""
        work = self._head_work(self.kernels.softmax_gradient_work, len(top))
        self.kernels.softmax_losses_and_gradient(
            losses, dtop, grads["head.weight"], grads["head.bias"], work, top, targets, scales, self.classes,
            self.smoothing, self.weights["head.weight"], self.weights["head.bias"], self.threads,
        )  # fmt: skip

    # ------------------------------------------------------------ forward

    def _forward(self, purpose: str, chunk: Any, state: State, noise: Noise | None) -> Pass:
        """Read a chunk. purpose: "training" or "reading", each with its own buffers."""
        c, offsets = self.config, chunk.offsets
        M, N = len(chunk.tokens), int(offsets[1])
        in_place = self._is_in_place(noise)
        first = 0 if in_place else min(M, c.vocab_size)
        works = self._work(purpose, self._cell_works, M, N, first)
        if self._rounded is not None:
            self.kernels.convert(self._rounded, self.parameters)
        shapes = state.h.shape, state.c.shape, (N, c.head_size)
        after = State(*(self.kernels.empty(tuple(shape), c.dtype) for shape in shapes))
        run = Pass(
            chunk.tokens, offsets, state, after, works, self._cell_weights(noise), noise,
            reading_backwards(offsets) if c.bidirectional else None,
        )  # fmt: skip
        x, index = self._inputs(run, in_place)
        for layer in range(c.num_layers):
            x, index = self._layer(run, layer, x, index), None
        run.top = x if c.head == "linear" else self._with_memory(run, x)
        self.kernels.embedding_forward(run.after.top, last_rows(offsets), run.top, self.threads)
        return run

    def _cell_works(self, M: int, N: int, first: int) -> list[Any]:
        """Work of every cell; `first`: the most distinct inputs of the first layer."""
        c = self.config
        rows = [first if number < c.directions else 0 for number in range(len(c.cells))]
        for number in range(1, len(rows), 2) if c.bidirectional else ():
            rows[number] = rows[number] or M  # the backward direction reads its inputs through an index
        return self.kernels.recurrent_work(c.cells, M, N, rows, self.kept, self.threads)

    def _cell_weights(self, noise: Noise | None) -> list[dict[str, np.ndarray]]:
        """The weights of every cell; in training some of the recurrent ones are zero (DropConnect).

        Source: Merity, Keskar & Socher 2018 (AWD-LSTM), section 2.
        """
        if noise is None or self.config.weight_dropout == 0:
            return self.cell_weights
        kept = []
        for number, weights in enumerate(self.cell_weights):
            dropped = self._array(f"weight_hh {number}", *weights["weight_hh"].shape)
            noise.drop(dropped, weights["weight_hh"], self.config.weight_dropout, RECURRENT + number)
            kept.append({**weights, "weight_hh": dropped})
        return kept

    def _is_in_place(self, noise: Noise | None) -> bool:
        """Whether the first layer's inputs differ at every place: where noise falls on each."""
        return noise is not None and (self.config.input_dropout > 0 or self.config.variational_dropout > 0)

    def _inputs(self, run: Pass, in_place: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """(x, index): the vectors of the distinct tokens and where each stands, or all in place and None.

        A chunk has few distinct tokens, so the first layer projects those and gathers: a quarter of a two-layer
        character model's products disappears. Where noise makes every position differ, x is all of them.
        """
        c, noise = self.config, run.noise
        if in_place:
            ids, index = run.tokens, None
        else:
            ids, index = distinct_tokens(run.tokens, c.vocab_size)
            run.distinct = ids
        x = self._array("x", len(ids), c.embedding_size, dtype=self.kept)
        self.kernels.embedding_forward(x, ids, self.weights["embedding.weight"], self.threads)
        if noise is not None:
            self._embedding_noise(run, x, ids)
        if in_place:
            self._noise_behind(run, x, c.input_dropout, INPUT, into=x)
        return x, index

    def _embedding_noise(self, run: Pass, x: np.ndarray, ids: np.ndarray) -> None:
        """Zero the whole vectors of some tokens, in place (Gal & Ghahramani 2016, section 4.2); its own gradient."""
        rate = self.config.embedding_dropout
        if rate > 0:
            x *= run.noise.factors((self.config.vocab_size,), x.dtype, rate, EMBEDDING)[ids, None]

    def _noise_behind(self, run: Pass, x: np.ndarray, rate: float, site: int, into: np.ndarray | None = None) -> np.ndarray:
        """x (M, D) after dropout of single numbers, and of whole texts' units; its own gradient.

        Written to `into` or an array of the site's own; x itself where there is no noise.
        """
        whole = self.config.variational_dropout
        if run.noise is None or rate == whole == 0:
            return x
        y = self._array(f"noisy {site}", *x.shape, dtype=self.kept) if into is None else into
        if rate > 0:
            run.noise.drop(y, x, rate, site)
            x = y
        if whole > 0:  # Gal & Ghahramani 2016: one mask a text, the same at all steps
            factors = run.noise.factors((int(run.offsets[1]), x.shape[1]), x.dtype, whole, TEXT + site)
            self.kernels.scale_texts(y, x, factors, run.offsets, self.threads)
        return y

    def _layer(self, run: Pass, layer: int, x: np.ndarray, index: np.ndarray | None) -> np.ndarray:
        """A layer's outputs (M, output_size), after its noise, its input added if it is residual."""
        c, M = self.config, len(run.tokens)
        run.inputs.append((x, index))
        y = self._join(run, layer, [self._cell(run, number, x, index) for number in self._numbers(layer)])
        y = self._noise_behind(run, y, c.dropouts[layer], LAYER + layer)
        if self._is_residual(x):
            y = np.add(y, x if index is None else x[index], out=self._array(f"sum {layer}", M, c.output_size))
        return y

    def _numbers(self, layer: int) -> range:
        """The places of a layer's cells in config.cells."""
        return range(layer * self.config.directions, (layer + 1) * self.config.directions)

    def _is_residual(self, x: np.ndarray) -> bool:
        return self.config.residual and x.shape[1] == self.config.output_size

    def _cell(self, run: Pass, number: int, x: np.ndarray, index: np.ndarray | None) -> np.ndarray:
        """One cell's h of every step, in the order of its own reading."""
        cell, M = self.config.cells[number], len(run.tokens)
        y, cs = self._array(f"y {number}", M, cell.output_size, dtype=self.kept), None
        if self._feeds_the_head(number):
            cs = self._array(f"c {number}", M, cell.memory_size)
        self.kernels.recurrent_forward(
            y, cs, run.after.h[number], run.after.c[number], run.works[number], x, self._read_by(run, number, index),
            run.state.h[number], run.state.c[number], run.weights[number], cell, run.offsets, self.threads,
        )  # fmt: skip
        run.outputs.append(y)
        return y

    def _feeds_the_head(self, number: int) -> bool:
        """Whether a cell's memory goes to the head."""
        return self.config.head == "cell" and number >= len(self.config.cells) - self.config.directions

    def _read_by(self, run: Pass, number: int, index: np.ndarray | None) -> np.ndarray | None:
        """The index through which a cell reads its inputs: the second direction reads every text backwards."""
        if number % self.config.directions == 0:
            return index
        return run.backwards if index is None else index[run.backwards]

    def _join(self, run: Pass, layer: int, ys: list[np.ndarray], name: str = "joined") -> np.ndarray:
        """Both directions side by side, (M, 2 H), the second put back into the text's order."""
        if len(ys) == 1:
            return ys[0]
        H = ys[0].shape[1]
        both = self._array(f"{name} {layer}", len(ys[0]), 2 * H)
        both[:, :H], both[:, H:] = ys[0], ys[1][run.backwards]
        return both

    def _split(self, run: Pass, d: np.ndarray) -> list[np.ndarray]:
        """The gradients of both directions from that of `_join`."""
        if self.config.directions == 1:
            return [d]
        H = d.shape[1] // 2
        return [np.ascontiguousarray(d[:, :H]), d[:, H:][run.backwards]]  # backwards is its own inverse

    def _with_memory(self, run: Pass, y: np.ndarray) -> np.ndarray:
        """The last layer's outputs and its cell state side by side: logits = W_hy h + W_cy c + b, the article's eq. 8."""
        c, last = self.config, self._numbers(self.config.num_layers - 1)
        cells = [self._array(f"c {number}", len(y), c.hidden_size) for number in last]
        top = self._array("top", len(y), c.head_size)
        top[:, : c.output_size], top[:, c.output_size :] = y, self._join(run, 0, cells, "memory")
        return top

    # ------------------------------------------------------------ backward

    def _backward(self, run: Pass, grads: dict[str, np.ndarray], dtop: np.ndarray, fresh: bool) -> None:
        """Gradients of all parameters but the head's, from dtop (M, head_size)."""
        c = self.config
        dcs: list[np.ndarray | None] = [None] * c.directions
        if c.head == "cell":
            dcs = list(self._split(run, np.ascontiguousarray(dtop[:, c.output_size :])))
            dtop = np.ascontiguousarray(dtop[:, : c.output_size])
        d, of_cells = dtop, cell_views(grads, c)
        for layer in reversed(range(c.num_layers)):
            d = self._layer_backward(run, grads, of_cells, layer, d, dcs, fresh)
            dcs = [None] * c.directions
        self._inputs_backward(run, grads, d)

    def _layer_backward(self, run: Pass, grads, of_cells, layer: int, d: np.ndarray, dcs, fresh: bool) -> np.ndarray:
        """The gradient of a layer's input x from d, that of its output, which is overwritten."""
        c, (x, index) = self.config, run.inputs[layer]
        around = d.copy() if self._is_residual(x) else None
        d = self._noise_behind(run, d, c.dropouts[layer], LAYER + layer, into=d)
        dx = None
        for number, dy, dc in zip(self._numbers(layer), self._split(run, d), dcs):
            into = self._array(f"dx {layer % 2} {number % c.directions}", *x.shape)
            self._cell_backward(run, grads, of_cells[number], number, into, dy, dc, fresh)
            dx = into if dx is None else np.add(dx, into, out=dx)
        if around is not None and index is None:
            dx += around
        elif around is not None:
            self.kernels.embedding_backward(dx, around, index, self.threads)  # x[index] was added
        return dx

    def _cell_backward(self, run: Pass, grads, of_cell, number: int, dx, dy, dcs, fresh: bool) -> None:
        """One cell's gradients; dx is overwritten."""
        c, cell, (x, index) = self.config, self.config.cells[number], run.inputs[number // self.config.directions]
        state = run.state.h[number], run.state.c[number]
        dh, dc = map(self.kernels.zeros_like, state)  # truncated: nothing flows back
        wanted = of_cell
        if c.weight_dropout > 0:
            wanted = {**of_cell, "weight_hh": np.zeros_like(of_cell["weight_hh"])}
        self.kernels.recurrent_backward(
            dx, dh, dc, wanted, dy, dcs, run.outputs[number], run.works[number], x, self._read_by(run, number, index),
            run.state.h[number], run.weights[number], cell, run.offsets, self.threads,
        )  # fmt: skip
        if c.weight_dropout > 0:
            dropped = wanted["weight_hh"]
            run.noise.drop(dropped, dropped, c.weight_dropout, RECURRENT + number)
            of_cell["weight_hh"] += dropped
        if c.learned_state and (fresh or number % c.directions == 1):
            grads["initial_state.h"][number] += dh.sum(axis=0)
            if cell.has_memory:
                grads["initial_state.c"][number] += dc.sum(axis=0)

    def _inputs_backward(self, run: Pass, grads: dict[str, np.ndarray], dx: np.ndarray) -> None:
        """The gradient of the embedding: only rows of tokens that occurred are touched."""
        if run.distinct is not None:
            self._embedding_noise(run, dx, run.distinct)
            self.kernels.embedding_backward(grads["embedding.weight"], dx, run.distinct, self.threads)
            return
        self._noise_behind(run, dx, self.config.input_dropout, INPUT, into=dx)
        self._embedding_noise(run, dx, run.tokens)
        self.kernels.embedding_backward(grads["embedding.weight"], dx, run.tokens, self.threads)

    # ------------------------------------------------------------ scoring and generation

    def losses(self, chunk: Any, state: State) -> tuple[np.ndarray, State]:
        """-log p(target) of every token of a chunk (`nblstm.text.batches.Chunk`), (M,) in nats, and the state after.

        A bidirectional network hides every token once and fills it in from both sides, see `_filled_in`.
        """
        if not self.config.bidirectional:
            run = self._forward("reading", chunk, state, None)
            return self._losses(run.top, chunk.targets), self._on_host(run.after)
        state = self._backwards_anew(state)
        losses = self._filled_in(chunk, state)
        return losses, self.read(hiding(chunk, np.zeros(len(losses), bool)), state)

    def _filled_in(self, chunk: Any, state: State) -> np.ndarray:
        """-log p of every token of a chunk (M,) where it is hidden: the pseudo-log-likelihood of Salazar et al. 2020.

        Each k-th token of a text is hidden at a time, k = config.masked_passes, so k copies of the chunk are read, as
        texts of their own: copy j of its row r is row r C + j of C copies.
        """
        M, steps = len(chunk.targets), np.diff(chunk.offsets)
        losses, passes = np.empty(M, self.config.dtype), self.config.masked_passes
        hidden_in, copies = np.repeat(np.arange(len(steps)), steps) % passes, np.arange(min(passes, len(steps)))
        for part in np.array_split(copies, -(-len(copies) // max(1, SIDE_BY_SIDE // M))):
            C = len(part)
            several = replace(chunk, targets=np.repeat(chunk.targets, C), offsets=chunk.offsets * C, weights=None)
            several = hiding(several, np.repeat(hidden_in, C) == np.tile(part, M))
            run = self._forward("reading", several, state.take(np.repeat(np.arange(chunk.num_texts), C)), None)
            rows = np.flatnonzero((part[0] <= hidden_in) & (hidden_in <= part[-1]))
            losses[rows] = self._losses(run.top[rows * C + hidden_in[rows] - part[0]], chunk.targets[rows])
        return losses

    def _losses(self, top: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """-log p(target) (M,), given what the head sees, top (M, head_size)."""
        losses = np.empty(len(top), self.config.dtype)
        self.kernels.softmax_losses(
            losses, self._head_work(self.kernels.softmax_work, len(top)), top, targets,
            self.weights["head.weight"], self.weights["head.bias"], self.threads,
        )  # fmt: skip
        return losses

    def read(self, chunk: Any, state: State) -> State:
        """The state after reading a chunk (`nblstm.text.batches.Chunk`)."""
        return self._on_host(self._forward("reading", chunk, state, None).after)

    def _on_host(self, state: State) -> State:
        """The state in NumPy arrays."""
        return State(*map(self.kernels.host, (state.h, state.c, state.top)))

    def decoder(self, num_texts: int = 1) -> Decoder:
        """What reads token by token, up to num_texts texts side by side. Holds until the parameters change."""
        return Decoder(self, num_texts)

    def logits(self, h: np.ndarray) -> np.ndarray:
        """The head: logits (M, V) of the next token, for what it sees, h (M, head_size), such as state.top."""
        c, y = self.config, np.empty((len(h), self.config.vocab_size), self.config.dtype)
        work = self.kernels.linear_work(len(h), c.head_size, c.vocab_size, c.dtype, self.threads)
        self.kernels.linear_forward(y, work, h, self.weights["head.weight"], self.weights["head.bias"], self.threads)
        return y

    # ------------------------------------------------------------ buffers

    def _array(self, name: str, *shape: int, dtype: Any = None) -> np.ndarray:
        """An uninitialised array that is kept between calls under its name, and grows as it must; of config.dtype."""
        size, kept = int(np.prod(shape)), self._arrays.get(name)
        if kept is None or kept.size < size:
            kept = self._arrays[name] = self.kernels.empty((size,), dtype or self.config.dtype)
        return kept[:size].reshape(shape)

    def _work(self, name: str, make: Callable[..., Any], *sizes: int) -> Any:
        """What `make(*sizes)` gives, kept between calls under its name, and made anew where it is too small."""
        room, work = self._works.get(name, (sizes, None))
        if work is None or any(size > held for size, held in zip(sizes, room)):
            self._works.pop(name, None)
            room = tuple(map(max, zip(sizes, room)))
            work = make(*room)
            self._works[name] = room, work
        return work

    def _head_work(self, kernel: Callable[..., Any], rows: int) -> Any:
        """The work of one of the head's kernels."""
        c = self.config
        return self._work(kernel.__name__, lambda M: kernel(M, c.head_size, c.vocab_size, c.dtype, self.threads), rows)


class Decoder:
    """A network's weights made ready to go on token by token with up to num_texts texts."""

    def __init__(self, network: Network, num_texts: int) -> None:
        c, weights = network.config, network.weights
        check_writes(c)
        net = DecoderWeights(
            weights["embedding.weight"], c.cells, network.cell_weights, c.residual, c.head == "cell",
            weights["head.weight"], weights["head.bias"],
        )  # fmt: skip
        self.config, self.kernels, self.threads = c, network.kernels, network.threads
        self.work = self.kernels.decode_work(num_texts, net, self.threads)

    def __call__(self, tokens: np.ndarray, state: State, want_logits: bool = True) -> np.ndarray:
        """Read one token of each text: logits (N, V) of the next ones, (0, V) if they are not wanted.

        tokens (N,) int; state is overwritten with the one after them.
        """
        logits = np.empty((len(tokens) if want_logits else 0, self.config.vocab_size), self.config.dtype)
        self.kernels.decode(logits, state.h, state.c, state.top, np.asarray(tokens, np.int64), self.work, self.threads)
        return logits

    def generate(
        self, history: np.ndarray, length: int, state: State, logits: np.ndarray, uniform: np.ndarray,
        banned: np.ndarray, filters: Filters,
    ) -> None:  # fmt: skip
        """Draw and read K tokens of each text, to history[:, length : length + K]; see `kernels.reference.generate`.

        state and logits (N, V), those of the next token, are overwritten with the ones after the K tokens.
        """
        self.kernels.generate(
            history, length, state.h, state.c, state.top, logits, uniform, banned, filters, self.work, self.threads
        )

    def search(
        self, parents: np.ndarray, tokens: np.ndarray, start: int, hypotheses: Hypotheses, state: State, logits: np.ndarray,
        noise: np.ndarray, banned: np.ndarray, beam: Beam,
    ) -> int:  # fmt: skip
        """Take up to len(noise) steps of a beam search, and return how many; see `kernels.reference.search`."""
        return self.kernels.search(
            parents, tokens, start, hypotheses, state.h, state.c, state.top, logits, noise, banned, beam, self.work,
            self.threads,
        )  # fmt: skip


def hiding(chunk: Any, hidden: np.ndarray) -> Any:
    """A chunk for a network that reads in both directions: its targets, to be read where they are not hidden (M,).

    A hidden token is read as MASK, and only hidden ones count (Devlin et al. 2019, section 3.1).
    """
    weights = hidden if chunk.weights is None else hidden * chunk.weights
    return replace(chunk, tokens=np.where(hidden, MASK, chunk.targets).astype(np.int32), weights=weights)


def distinct_tokens(tokens: np.ndarray, vocab_size: int) -> tuple[np.ndarray, np.ndarray]:
    """(distinct ids in rising order, index (M,) int32 with distinct[index] == tokens), as np.unique but O(V + M)."""
    place = np.zeros(vocab_size, np.int32)
    place[tokens] = 1
    distinct = np.flatnonzero(place)
    place[distinct] = np.arange(len(distinct), dtype=np.int32)
    return distinct, place[tokens]
