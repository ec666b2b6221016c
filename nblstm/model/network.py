"""Network: kernels composed into embedding -> recurrent layers -> linear head, forward and backward."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

import numpy as np

from nblstm import checks
from nblstm.config import MAX_SIZE, PRECISIONS, ModelConfig, WindowConfig, check_card, check_writes
from nblstm.errors import ConfigError
from nblstm.kernels import Beam, Filters, Net, Places, load
from nblstm.kernels.packed import indices, last_rows, reading_backwards
from nblstm.kernels.threads import WORKERS, available
from nblstm.model.noise import EMBEDDING, HIDDEN, INPUT, LAYER, RECURRENT, TEXT, Noise
from nblstm.model.parameters import cell_views, views
from nblstm.model.state import State
from nblstm.model.workspace import Workspace, Workspaces

MASK = 0  # the id that a bidirectional network reads for a hidden token: <unk>'s
SIDE_BY_SIDE = 2048  # tokens of a text's copies, each with other tokens hidden, that are read at once


@dataclass
class Pass:
    """One way through the network: what was read, what the way back needs, what came out."""

    space: Workspace  # where all that is not returned stands
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

    parameters (num_parameters,) of config.dtype is shared, not copied, if it is `checks.in_form` (ConfigError for
    another shape or dtype): an optimizer that updates it updates the network.
    With backend "cuda" it is copied to the card, where all arrays then are; States may be there or NumPy arrays.
    backend: "numpy", "cpu" or "cuda". precision: "single", or on cuda "half": weights and activations are read and kept
    as float16, sums and gradients stay float32. threads: 0 means every core. constant: the parameters will never change,
    so what is derived from them is kept. classes (V,) and smoothing: weights of the targets' classes and label smoothing
    in training.

    While nobody changes the parameters, any number of the caller's threads may read at once: they share the weights,
    and every call borrows scratch of its own.
    """

    def __init__(
        self, config: ModelConfig, parameters: np.ndarray, backend: str = "cpu", threads: int = 0,
        precision: str = "single", constant: bool = False,
    ) -> None:  # fmt: skip
        checks.whole("threads", threads, 0, WORKERS)
        self.config = checks.a((ModelConfig, WindowConfig), "config", config)
        self.kernels: ModuleType = load(backend)
        if backend == "cuda":
            check_card(config)
        checks.one_of("precision", precision, PRECISIONS)
        parameters = checks.in_form("parameters", parameters, (config.num_parameters,), config.dtype)
        self.parameters = self.kernels.array(parameters)
        self.kept = np.dtype("float16" if precision == "half" else config.dtype)  # how activations are stored
        self._rounded = self.kernels.empty(parameters.shape, self.kept) if precision == "half" else None
        self.weights = self._views()
        self.cell_weights = cell_views(self.weights, config)
        self.threads = threads or available()
        self.classes: np.ndarray | None = None
        self.smoothing = 0.0
        self.constant = constant
        self._decoder_weights: Any = None
        self._spaces = Workspaces(self.kernels, config.dtype)

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

    def _checked(self, chunk: Any, state: State) -> tuple[Any, State]:
        """A chunk and the state before it as the kernels read them. ConfigError if they are not of this network."""
        offsets = checks.offsets("chunk.offsets", chunk.offsets, len(chunk.tokens))
        weights = None if chunk.weights is None else checks.weights("chunk.weights", chunk.weights, len(chunk.tokens))
        tokens, targets = self._checked_rows(chunk)
        chunk = replace(chunk, tokens=tokens, targets=targets, offsets=offsets, weights=weights)
        return chunk, self._checked_state(state, chunk.num_texts)

    def _checked_rows(self, chunk: Any) -> tuple[np.ndarray, np.ndarray]:
        """The tokens and targets of a chunk, see `_checked`."""
        V, M = self.config.vocab_size, len(chunk.tokens)
        tokens = checks.ids("chunk.tokens", chunk.tokens, V, (M,), np.int32)
        return tokens, checks.ids("chunk.targets", chunk.targets, V, (M,), np.int32)

    def _checked_state(self, state: State, num_texts: int) -> State:
        """The state of so many texts, see `_checked`."""
        return checks.a(State, "state", state).of(self.config, num_texts)

    def _check_gradient(self, gradient: Any) -> None:
        """ConfigError unless it has room for a gradient; one on a card is the trainer's own."""
        if isinstance(gradient, np.ndarray):
            checks.in_place("gradient", gradient, self.parameters.shape, self.config.dtype)

    # ------------------------------------------------------------ training

    def loss_and_gradient(
        self, gradient: np.ndarray, chunk: Any, state: State, seed: int, step: int
    ) -> tuple[float, State]:
        """The mean loss (nats per token) of a chunk (`nblstm.text.batches.Chunk`), and the state after it.

        gradient (num_parameters,): overwritten with that of the mean loss, weighted by chunk.weights. state: that of
        the chunk's texts before it, see `before`. All dropout is a function of (seed, step). A bidirectional network,
        which would see a token that follows, predicts hidden tokens instead, see `hiding`.
        """
        chunk, state = self._checked(chunk, state)
        self._check_gradient(gradient)
        noise = Noise(self.kernels, seed, step, self.threads)
        chunk = self._asked(chunk, noise, step)
        self.kernels.clear(gradient, self.threads)
        grads = views(gradient, self.config)
        with self._spaces.lend() as space:
            run = self._forward(space, "training", chunk, state, noise)
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
            ones = np.ones(len(run.tokens), self.config.dtype)
            return self._head_of_rows(run.space, run.top, grads, chunk.targets, ones)
        rows = np.flatnonzero(chunk.weights)  # the others add nothing
        top = run.space.array("top of rows", len(rows), run.top.shape[1])
        dtop = run.space.array("dtop", *run.top.shape)
        self.kernels.embedding_forward(top, rows, run.top, self.threads)
        weights = chunk.weights[rows].astype(self.config.dtype)
        loss, d = self._head_of_rows(run.space, top, grads, chunk.targets[rows], weights)
        self.kernels.clear(dtop.reshape(dtop.size), self.threads)
        self.kernels.embedding_backward(dtop, d, rows, self.threads)
        return loss, dtop

    def _head_of_rows(
        self, space: Workspace, top: np.ndarray, grads, targets, weights: np.ndarray
    ) -> tuple[float, np.ndarray]:
        """`_head_and_gradient` of top (M, head_size) and its targets (M,), each with a weight (M,)."""
        M, F, dtype = len(top), self.config.head_size, self.config.dtype
        counted = weights if self.classes is None else weights * self.classes[targets]
        total = float(counted.sum(dtype=np.float64))
        scales = weights / total if total > 0 else np.zeros_like(weights)  # where no target counts, nothing is learnt
        losses, dtop = space.array("losses", M), space.array("dtop of rows", M, F)
        self._losses_and_gradient(space, losses, dtop, grads, top, targets, scales.astype(dtype))
        losses = self.kernels.host(losses)
        return float(np.dot(losses.astype(np.float64), scales.astype(np.float64))), dtop

    def _losses_and_gradient(self, space: Workspace, losses, dtop, grads, top, targets, scales) -> None:
        """losses (M,) of the rows, and the gradient of sum(scales * losses): dtop overwritten, the head's added."""
        work = self._head_work(space, self.kernels.softmax_gradient_work, len(top))
        self.kernels.softmax_losses_and_gradient(
            losses, dtop, grads["head.weight"], grads["head.bias"], work, top, targets, scales, self.classes,
            self.smoothing, self.weights["head.weight"], self.weights["head.bias"], self.threads,
        )  # fmt: skip

    # ------------------------------------------------------------ forward

    def _forward(self, space: Workspace, purpose: str, chunk: Any, state: State, noise: Noise | None) -> Pass:
        """Read a chunk. purpose: "training" or "reading", each with works of its own."""
        c, offsets = self.config, chunk.offsets
        M, N = len(chunk.tokens), int(offsets[1])
        in_place = self._is_in_place(noise)
        first = 0 if in_place else min(M, c.vocab_size)
        works = space.work(purpose, self._cell_works, M, N, first)
        if self._rounded is not None:
            self.kernels.convert(self._rounded, self.parameters)
        shapes = state.h.shape, state.c.shape, (N, c.head_size)
        after = State(*(self.kernels.empty(tuple(shape), c.dtype) for shape in shapes))
        run = Pass(
            space, chunk.tokens, offsets, state, after, works, self._cell_weights(space, noise), noise,
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

    def _cell_weights(self, space: Workspace, noise: Noise | None) -> list[dict[str, np.ndarray]]:
        """The weights of every cell; in training some of the recurrent ones are zero (DropConnect).

        Source: Merity, Keskar & Socher 2018 (AWD-LSTM), section 2.
        """
        if noise is None or self.config.weight_dropout == 0:
            return self.cell_weights
        kept = []
        for number, weights in enumerate(self.cell_weights):
            dropped = space.array(f"weight_hh {number}", *weights["weight_hh"].shape)
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
        x = run.space.array("x", len(ids), c.embedding_size, dtype=self.kept)
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
        y = run.space.array(f"noisy {site}", *x.shape, dtype=self.kept) if into is None else into
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
            y = np.add(y, x if index is None else x[index], out=run.space.array(f"sum {layer}", M, c.output_size))
        return y

    def _numbers(self, layer: int) -> range:
        """The places of a layer's cells in config.cells."""
        return range(layer * self.config.directions, (layer + 1) * self.config.directions)

    def _is_residual(self, x: np.ndarray) -> bool:
        return self.config.residual and x.shape[1] == self.config.output_size

    def _cell(self, run: Pass, number: int, x: np.ndarray, index: np.ndarray | None) -> np.ndarray:
        """One cell's h of every step, in the order of its own reading."""
        cell, M = self.config.cells[number], len(run.tokens)
        y, cs = run.space.array(f"y {number}", M, cell.output_size, dtype=self.kept), None
        if self._feeds_the_head(number):
            cs = run.space.array(f"c {number}", M, cell.memory_size)
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
        both = run.space.array(f"{name} {layer}", len(ys[0]), 2 * H)
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
        cells = [run.space.array(f"c {number}", len(y), c.hidden_size) for number in last]
        top = run.space.array("top", len(y), c.head_size)
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
            into = run.space.array(f"dx {layer % 2} {number % c.directions}", *x.shape)
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
        chunk, state = self._checked(chunk, state)
        with checks.quiet(), self._spaces.lend() as space:
            if not self.config.bidirectional:
                run = self._forward(space, "reading", chunk, state, None)
                return self._losses(space, run.top, chunk.targets), self._on_host(run.after)
            state = self._backwards_anew(state)
            losses = self._filled_in(space, chunk, state)
        return losses, self.read(hiding(chunk, np.zeros(len(losses), bool)), state)

    def _filled_in(self, space: Workspace, chunk: Any, state: State) -> np.ndarray:
        """-log p of every token of a chunk (M,) where it is hidden: the pseudo-log-likelihood of Salazar et al. 2020.

        Each k-th token of a text is hidden at a time, k = config.masked_passes, so k copies of the chunk are read, as
        texts of their own: copy j of its row r is row r C + j of C copies.
        """
        M, steps = len(chunk.targets), np.diff(chunk.offsets)
        losses, passes = np.empty(M, self.config.dtype), self.config.masked_passes
        hidden_in, copies = np.repeat(np.arange(len(steps)), indices(steps)) % passes, np.arange(min(passes, len(steps)))
        for part in np.array_split(copies, -(-len(copies) // max(1, SIDE_BY_SIDE // M))):
            C = len(part)
            several = replace(chunk, targets=np.repeat(chunk.targets, C), offsets=chunk.offsets * C, weights=None)
            several = hiding(several, np.repeat(hidden_in, C) == np.tile(part, M))
            run = self._forward(space, "reading", several, state.take(np.repeat(np.arange(chunk.num_texts), C)), None)
            rows = np.flatnonzero((part[0] <= hidden_in) & (hidden_in <= part[-1]))
            losses[rows] = self._losses(space, run.top[rows * C + hidden_in[rows] - part[0]], chunk.targets[rows])
        return losses

    def _losses(self, space: Workspace, top: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """-log p(target) (M,), given what the head sees, top (M, head_size)."""
        losses = np.empty(len(top), self.config.dtype)
        self.kernels.softmax_losses(
            losses, self._head_work(space, self.kernels.softmax_work, len(top)), top, targets,
            self.weights["head.weight"], self.weights["head.bias"], self.threads,
        )  # fmt: skip
        return losses

    def read(self, chunk: Any, state: State) -> State:
        """The state after reading a chunk (`nblstm.text.batches.Chunk`)."""
        chunk, state = self._checked(chunk, state)
        with checks.quiet(), self._spaces.lend() as space:
            return self._on_host(self._forward(space, "reading", chunk, state, None).after)

    def _on_host(self, state: State) -> State:
        """The state in NumPy arrays."""
        return State(*map(self.kernels.host, (state.h, state.c, state.top)))

    def decoder(self, num_texts: int = 1) -> Decoder:
        """What reads token by token, up to num_texts texts side by side; for one thread at a time.

        Holds until the parameters change. Its packed weights are one copy for all decoders where they are constant.
        """
        return Decoder(self, self._weights_to_decode(), num_texts)

    def _weights_to_decode(self) -> Any:
        """The weights as the kernels decode with them. Threads that ask at once may pack them twice, to the same bits."""
        weights = self._decoder_weights
        if weights is None:
            check_writes(self.config)
            net = Net(
                self.weights["embedding.weight"], self.config.cells, self.cell_weights, self.config.residual,
                self.config.head == "cell", self.weights["head.weight"], self.weights["head.bias"],
            )  # fmt: skip
            weights = self.kernels.decode_weights(net, self.threads)
            if self.constant:
                self._decoder_weights = weights
        return weights

    def logits(self, h: np.ndarray) -> np.ndarray:
        """The head: logits (M, V) of the next token, for what it sees, h (M, head_size), such as state.top."""
        c = self.config
        h = h if hasattr(h, "copy_to_host") else checks.in_form("h", h, (*getattr(h, "shape", ())[:1], c.head_size), c.dtype)
        y = np.empty((len(h), c.vocab_size), c.dtype)
        work = self.kernels.linear_work(len(h), c.head_size, c.vocab_size, c.dtype, self.threads)
        with checks.quiet():
            weight, bias = self.weights["head.weight"], self.weights["head.bias"]
            self.kernels.linear_forward(y, work, h, weight, bias, self.threads)
        return y

    def _head_work(self, space: Workspace, kernel: Callable[..., Any], rows: int) -> Any:
        """The work of one of the head's kernels."""
        c = self.config
        return space.work(kernel.__name__, lambda M: kernel(M, c.head_size, c.vocab_size, c.dtype, self.threads), rows)


class Decoder:
    """What goes on token by token with up to num_texts texts: a network's weights, made ready, and scratch of its own."""

    def __init__(self, network: Network, weights: Any, num_texts: int) -> None:
        """weights: what `kernels.decode_weights` has made of the network's."""
        self.config, self.kernels, self.threads = network.config, network.kernels, network.threads
        self.num_texts = checks.whole("num_texts", num_texts, 1, MAX_SIZE)
        self.work = self.kernels.decode_work(num_texts, weights, self.threads)

    def __call__(self, tokens: np.ndarray, state: State, want_logits: bool = True) -> np.ndarray:
        """Read one token of each text: logits (N, V) of the next ones, (0, V) if they are not wanted.

        tokens (N,) int; state is overwritten with the one after them. ConfigError if they are not of this network,
        NonFiniteError if the logits are no distributions.
        """
        N, V = self._check_state(state), self.config.vocab_size
        tokens, logits = checks.ids("tokens", tokens, V, (N,)), np.empty((N if want_logits else 0, V), self.config.dtype)
        with checks.quiet():
            self.kernels.decode(logits, state.h, state.c, state.top, tokens, self.work, self.threads)
        return checks.distributions(logits, "behind these tokens") if want_logits else logits

    def _check_state(self, state: State) -> int:
        """How many texts a state is of that will be written to. ConfigError if it is not of this decoder's."""
        N = checks.whole("state.num_texts", checks.a(State, "state", state).num_texts, 1, self.num_texts)
        state.check_in_place(self.config, N)
        return N

    def _check(self, state: State, logits: np.ndarray, banned: np.ndarray) -> tuple[int, int]:
        """(N, V). ConfigError for a state or logits that are not of this decoder's, or for banned ids that leave none."""
        N, V = self._check_state(state), self.config.vocab_size
        checks.in_place("logits", logits, (N, V), self.config.dtype)
        if len(np.unique(checks.ids("banned", banned, V))) == V:
            raise ConfigError(f"banned must leave one of the {V} tokens.")
        return N, V

    def generate(
        self, history: np.ndarray, length: int, state: State, logits: np.ndarray, uniform: np.ndarray,
        banned: np.ndarray, filters: Filters,
    ) -> None:  # fmt: skip
        """Draw and read K tokens of each text, to history[:, length : length + K]; see `kernels.reference.generate`.

        state and logits (N, V), those of the next token, are overwritten with the ones after the K tokens. A text gets
        -1 where its logits are no distribution, and then nothing that means anything. ConfigError for what does not fit.
        """
        (N, V), K = self._check(state, logits, banned), len(uniform)
        room = checks.whole("the room in history", np.shape(history)[-1], length + K, sys.maxsize)
        checks.in_place("history", history, (N, room), np.int64)
        checks.ids("history", history[:, :length], V)
        checks.in_place("uniform", uniform, (K, N), np.float64)
        with checks.quiet():
            self.kernels.generate(
                history, length, state.h, state.c, state.top, logits, uniform, banned, filters, self.work, self.threads
            )

    def search(
        self, parents: np.ndarray, tokens: np.ndarray, start: int, places: Places, state: State, logits: np.ndarray,
        noise: np.ndarray, banned: np.ndarray, beam: Beam,
    ) -> int:  # fmt: skip
        """Take up to len(noise) steps of a beam search, and return how many; see `kernels.reference.search`."""
        (B, V), K = self._check(state, logits, banned), len(noise)
        steps = checks.whole("parents", len(parents), start + K, sys.maxsize)
        for name, array in (("parents", parents), ("tokens", tokens)):
            checks.in_place(name, array, (steps, B), np.int64)
        for name, array, dtype in zip(Places._fields, places, (np.float64, np.float64, np.int64, np.bool_)):
            checks.in_place(name, array, (B,), dtype)
        checks.in_place("noise", noise, (K, B, V if beam.stochastic else 0), np.float64)
        if start > 0:
            checks.ids("parents", parents[start - 1], B)
            checks.ids("tokens", tokens[start - 1], V + 1)
        with checks.quiet():
            return self.kernels.search(
                parents, tokens, start, places, state.h, state.c, state.top, logits, noise, banned, beam, self.work,
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
