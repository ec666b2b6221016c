"""RecurrentStack: layers of cells, one above the other, in one direction or both. Forward and backward."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nblstm.kernels import Outputs, Packed
from nblstm.kernels.packed import last_rows, reading_backwards
from nblstm.nn.noise import LAYER, RECURRENT
from nblstm.nn.parameters import Gradients, cell_views
from nblstm.nn.state import State
from nblstm.nn.tape import Inputs, Tape

StateGradient = list[tuple[np.ndarray, np.ndarray]]  # (dh, dc) of every cell, (N, H) each


@dataclass(eq=False, repr=False)
class _Run:
    """Arrays that a stack keeps of a pass."""

    state: State  # before
    after: State
    works: list[Any]  # of every cell
    weights: list[dict[str, np.ndarray]]  # of every cell, as this pass uses them
    backwards: np.ndarray | None  # (M,) the row that stands at a place when every text is read from its end
    inputs: list[Inputs] = field(default_factory=list)  # of every layer
    outputs: list[np.ndarray] = field(default_factory=list)  # h (M, H) of every cell


class RecurrentStack:
    """The body of a recurrent network.

    config: `cells`, one for each layer and direction, and how layers are joined: `directions`, `residual`, `dropouts`,
    `variational_dropout`, `weight_dropout`, `learned_state`; `head` "cell" hands on the last layer's c beside its h.
    """

    def __init__(self, config: Any, weights: Mapping[str, np.ndarray]) -> None:
        self.config, self.weights = config, weights
        self.cell_weights = cell_views(weights, config)

    # ------------------------------------------------------------ states

    def initial_state(self, batch_size: int = 1) -> State:
        """Return the state of texts of which nothing has been read: zero, or as it was learned."""
        state = State.zeros(self.config, batch_size)
        if self.config.learned_state:
            state.h[...] = self.weights["initial_state.h"][:, None]
            if self.config.cells[0].has_memory:
                state.c[...] = self.weights["initial_state.c"][:, None]
        return state

    def carried(self, state: State) -> State:
        """Return the state to go on from where a batch ended in `state`.

        Whoever reads from the end has not read what follows: that direction starts from the first state in every batch.
        """
        if self.config.directions == 1:
            return state
        state, initial = state.copy(), self.initial_state()
        state.h[1::2], state.c[1::2] = initial.h[1::2], initial.c[1::2]
        return state

    def checked(self, state: State, batch_size: int) -> State:
        """Return the state of so many texts, as the kernels read it. ConfigError if it is not of this stack."""
        return state.of(self.config, batch_size)

    # ------------------------------------------------------------ forward

    def forward(self, tape: Tape, inputs: Inputs, state: State) -> State:
        """Read a batch of N texts: put the features (M, head_size) on the tape, and return the state after it."""
        c, kernels, offsets, M, N = (
            self.config,
            tape.backend.kernels,
            tape.offsets,
            int(tape.offsets[-1]),
            int(tape.offsets[1]),
        )
        first = 0 if inputs.index is None else min(M, inputs.most_rows)
        purpose = "reading" if tape.noise is None else "training"
        works = tape.scratch.work(f"cells {purpose}", lambda *sizes: self._works(tape, *sizes), M, N, first)
        shapes = state.h.shape, state.c.shape, (N, c.head_size)
        after = State(*(kernels.empty(tuple(shape), c.dtype) for shape in shapes))
        run = tape.body_kept = _Run(
            state, after, works, self._dropped_weights(tape), reading_backwards(offsets) if c.directions == 2 else None
        )
        for layer in range(c.num_layers):
            inputs = Inputs(self._layer(tape, run, layer, inputs), None, 0)
        tape.features = self._beside_memory(tape, run, inputs.x) if c.head == "cell" else inputs.x
        kernels.embedding_forward(after.features, last_rows(offsets), tape.features, tape.backend.threads)
        return after

    def _works(self, tape: Tape, M: int, N: int, first: int) -> list[Any]:
        """Return the kernels' work of every cell; `first`: unique inputs of the first layer; 0: M."""
        c = self.config
        rows = [first if number < c.directions else 0 for number in range(len(c.cells))]
        for number in range(1, len(rows), 2) if c.directions == 2 else ():
            rows[number] = rows[number] or M  # the direction from the end reads its inputs through an index
        return tape.backend.kernels.recurrent_work(c.cells, M, N, rows, tape.backend.stored, tape.backend.threads)

    def _dropped_weights(self, tape: Tape) -> list[dict[str, np.ndarray]]:
        """Return the weights of every cell; in training some of the recurrent ones are zero (DropConnect).

        Source: Merity, Keskar & Socher 2018 (AWD-LSTM), section 2.
        """
        if tape.noise is None or self.config.weight_dropout == 0:
            return self.cell_weights
        found = []
        for number, weights in enumerate(self.cell_weights):
            dropped = tape.scratch.array(f"weight_hh {number}", *weights["weight_hh"].shape)
            tape.noise.drop(dropped, weights["weight_hh"], self.config.weight_dropout, RECURRENT + number)
            found.append({**weights, "weight_hh": dropped})
        return found

    def _layer(self, tape: Tape, run: _Run, layer: int, inputs: Inputs) -> np.ndarray:
        """Return a layer's outputs (M, output_size), after its noise, its input added if it is residual."""
        c, (x, index, _) = self.config, inputs
        run.inputs.append(inputs)
        y = self._join(tape, run, f"joined {layer}", [self._cell(tape, run, k, inputs) for k in self._numbers(layer)])
        y = tape.dropped(y, c.dropouts[layer], c.variational_dropout, LAYER + layer)
        if self._is_residual(x):
            total = tape.scratch.array(f"sum {layer}", len(y), c.output_size)
            y = np.add(y, x if index is None else x[index], out=total)
        return y

    def _numbers(self, layer: int) -> range:
        """Return the places of a layer's cells in config.cells."""
        return range(layer * self.config.directions, (layer + 1) * self.config.directions)

    def _is_residual(self, x: np.ndarray) -> bool:
        return self.config.residual and x.shape[1] == self.config.output_size

    def _cell(self, tape: Tape, run: _Run, number: int, inputs: Inputs) -> np.ndarray:
        """Return one cell's h of every step, in the order of its own reading."""
        cell, M, backend = self.config.cells[number], int(tape.offsets[-1]), tape.backend
        y, cs = tape.scratch.array(f"y {number}", M, cell.output_size, dtype=backend.stored), None
        if self.config.head == "cell" and number in self._numbers(self.config.num_layers - 1):
            cs = tape.scratch.array(f"c {number}", M, cell.memory_size)
        backend.kernels.recurrent_forward(
            Outputs(y, cs, run.after.h[number], run.after.c[number]), run.works[number],
            self._packed(tape, run, number, inputs), run.weights[number], cell, backend.threads,
        )  # fmt: skip
        run.outputs.append(y)
        return y

    def _packed(self, tape: Tape, run: _Run, number: int, inputs: Inputs) -> Packed:
        """Return what a cell reads; the second direction reads every text from its end."""
        x, index, _ = inputs
        if number % self.config.directions == 1:
            index = run.backwards if index is None else index[run.backwards]
        return Packed(x, index, run.state.h[number], run.state.c[number], tape.offsets)

    def _join(self, tape: Tape, run: _Run, name: str, ys: list[np.ndarray]) -> np.ndarray:
        """Join both directions, (M, 2 H), the second put back into the text's order."""
        if len(ys) == 1:
            return ys[0]
        H = ys[0].shape[1]
        both = tape.scratch.array(name, len(ys[0]), 2 * H)
        both[:, :H], both[:, H:] = ys[0], ys[1][run.backwards]
        return both

    def _split(self, run: _Run, d: np.ndarray) -> list[np.ndarray]:
        """Split the gradient of `_join` into those of both directions."""
        if self.config.directions == 1:
            return [d]
        H = d.shape[1] // 2
        return [np.ascontiguousarray(d[:, :H]), d[:, H:][run.backwards]]  # backwards is its own inverse

    def _beside_memory(self, tape: Tape, run: _Run, y: np.ndarray) -> np.ndarray:
        """Join the last layer's outputs and cell state: logits = W_hy h + W_cy c + b, the article's eq. 8."""
        c = self.config
        cells = [tape.scratch.array(f"c {k}", len(y), c.hidden_size) for k in self._numbers(c.num_layers - 1)]
        features = tape.scratch.array("features", len(y), c.head_size)
        features[:, : c.output_size], features[:, c.output_size :] = y, self._join(tape, run, "memory", cells)
        return features

    # ------------------------------------------------------------ backward

    def backward(
        self, tape: Tape, grads: Gradients, dfeatures: np.ndarray, fresh: bool, dlast: StateGradient | None = None
    ) -> tuple[np.ndarray, StateGradient]:
        """Add the gradients of the stack's parameters; return those of its inputs x and of its first state.

        dfeatures (M, head_size), overwritten. fresh: whether the texts began here, from a state that may be learned.
        dlast: the gradient of the state after the batch, if that is used (N, H); None: it is not, as in truncated
        back-propagation through time.
        """
        c, run = self.config, tape.body_kept
        dcs: list[np.ndarray | None] = [None] * c.directions
        if c.head == "cell":
            dcs = list(self._split(run, np.ascontiguousarray(dfeatures[:, c.output_size :])))
            dfeatures = np.ascontiguousarray(dfeatures[:, : c.output_size])
        d, of_cells = dfeatures, cell_views(grads, c)
        dfirst: list[Any] = [None] * len(c.cells)
        for layer in reversed(range(c.num_layers)):
            d = self._layer_backward(tape, grads, of_cells, layer, d, dcs, fresh, dlast, dfirst)
            dcs = [None] * c.directions
        return d, dfirst

    def _layer_backward(self, tape, grads, of_cells, layer, d, dcs, fresh, dlast, dfirst) -> np.ndarray:
        """Return the gradient of a layer's input x from the gradient d of its output, which is overwritten."""
        c, run, backend = self.config, tape.body_kept, tape.backend
        x, index, _ = run.inputs[layer]
        around = d.copy() if self._is_residual(x) else None
        d = tape.dropped(d, c.dropouts[layer], c.variational_dropout, LAYER + layer, into=d)
        dx: Any = None
        for number, dy, dc in zip(self._numbers(layer), self._split(run, d), dcs):
            into = tape.scratch.array(f"dx {layer % 2} {number % c.directions}", *x.shape)
            dstate = self._state_gradient(tape, number, dlast)
            self._cell_backward(tape, of_cells[number], number, into, dy, dc, dstate)
            self._learn_state(grads, number, dstate, fresh)
            dfirst[number] = dstate
            dx = into if dx is None else np.add(dx, into, out=dx)
        if around is not None and index is None:
            dx += around
        elif around is not None:
            backend.kernels.embedding_backward(dx, around, index, backend.threads)  # x[index] was added
        return dx

    def _state_gradient(self, tape: Tape, number: int, dlast: StateGradient | None) -> tuple[np.ndarray, np.ndarray]:
        """Return (dh, dc) of a cell's last state, to become those of its first one: zero where nothing flows back."""
        kernels, state = tape.backend.kernels, tape.body_kept.state
        dh, dc = kernels.zeros_like(state.h[number]), kernels.zeros_like(state.c[number])
        if dlast is not None:
            kernels.assign(dh, dlast[number][0])
            kernels.assign(dc, dlast[number][1])
        return dh, dc

    def _cell_backward(self, tape: Tape, of_cell, number: int, dx, dy, dcs, dstate) -> None:
        """Add one cell's gradients; dx and dstate are overwritten."""
        c, run, backend = self.config, tape.body_kept, tape.backend
        wanted, noise = of_cell, tape.noise if c.weight_dropout > 0 else None
        if noise is not None:
            wanted = {**of_cell, "weight_hh": np.zeros_like(of_cell["weight_hh"])}
        packed = self._packed(tape, run, number, run.inputs[number // c.directions])
        backend.kernels.recurrent_backward(
            dx, wanted, Outputs(dy, dcs, *dstate), run.outputs[number], run.works[number], packed, run.weights[number],
            c.cells[number], backend.threads,
        )  # fmt: skip
        if noise is not None:
            dropped = wanted["weight_hh"]
            noise.drop(dropped, dropped, c.weight_dropout, RECURRENT + number)
            of_cell["weight_hh"] += dropped

    def _learn_state(self, grads: Gradients, number: int, dstate: tuple[np.ndarray, np.ndarray], fresh: bool) -> None:
        """Add the gradient of a learned first state, where the cell started from it."""
        if self.config.learned_state and (fresh or number % self.config.directions == 1):
            grads["initial_state.h"][number] += dstate[0].sum(axis=0)
            if self.config.cells[number].has_memory:
                grads["initial_state.c"][number] += dstate[1].sum(axis=0)
