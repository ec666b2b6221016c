"""`CellKind`, the facts and equations of a cell, and `Cell`, one direction of one layer made of it.

A kind is one file beside this one, and all that the rest of the package knows of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

NONLINEARITIES = ("tanh", "relu")
Shapes = dict[str, tuple[int, ...]]


class Panel(NamedTuple):
    """How the gates of a cell stand in a panel of the CPU kernels: `blocks` blocks of `units` columns each.

    Each half of the pre-activations is (the first block it goes to, which of its gates stand there in what order).
    """

    units: int  # w, a multiple of 16
    blocks: int  # numbers that a unit keeps at every step
    inputs: tuple[int, tuple[int, ...]]  # W x + b
    hidden: tuple[int, tuple[int, ...]] | None  # U h + b; None where there is none
    output: int | None = None  # the block of o, where h = o tanh(c): options come in there


class CpuFunctions(NamedTuple):
    """The equations of a cell on vectors of 16 units; both functions are compiled by `inlined`.

    Gate g of a unit stands at gates[z + g * Panel.units]; its memory is c where there is one, else h.
    """

    name: str  # of the kernels made of it: the cache tells them apart by it
    forward: Any  # (gates, z, memory before) -> (memory, h); pre-activations in `gates` become the gates
    backward: Any  # (gates, z, before, memory, dh, dmemory) -> gradient of `before`; gates become their gradients


class CudaFunctions(NamedTuple):
    """The equations of a cell for one unit, as device functions; `kernels.cuda.steps` says what they are called with."""

    name: str
    forward: Any  # (gates, o, inner, place, H, z, r, h, c) -> (h, c)
    backward: Any  # (da, db, gates, o, inner, place, H, dh, dc, (h before, c before, c)) -> (dh, dc) of those before
    apart: bool = False  # whether the gradients of W x and U h differ, and U h of a gate is kept for them


@dataclass(frozen=True, eq=False, repr=False)
class CellKind:
    """A kind of cell.

    forward(a, b, h, c, weights, cell) -> (h, c, saved): a = W x + b_ih (n, gates of W x, H), b = U h + b_hh (n, gates
    of U h, H), either None where the cell has none; the state before, h (n, H) and c (n, H or 0).
    backward(dh, dc, saved, h_prev, c_prev, weights, grads, cell) -> (da, db, dh_prev, dc_prev): dh_prev without what
    passes through b. The gradients of the cell's own parameters are added into `grads`.
    mix(x, h, weights, cell) -> (x, h, saved), where x and h change each other before W x and U h are formed, and
    mix_backward(dx, dh, saved, weights, grads, cell) -> (dx, dh).
    rounds(cell) -> the names of the matrices of a `mix` as that of `mogrifier_lstm`, in order: the first, third, ... gates
    x by h, the others h by x. No other `mix` has kernels.

    Without `panel` and `cpu`, or without `cuda`, the specification computes the cell there; see `Cell.loop`.
    """

    name: str  # in a config
    inputs: tuple[str, ...]  # gates that see W x + b_ih: blocks of H rows of weight_ih, in order
    hidden: tuple[str, ...]  # gates that see U h + b_hh; () leaves out weight_hh and bias_hh
    forward: Callable[..., Any]
    backward: Callable[..., Any]
    has_memory: bool = False  # carries c beside h
    options: tuple[str, ...] = ()  # fields of `Cell` that change it, beside layer_norm
    shapes: Callable[[Cell], Shapes] = lambda cell: {}  # of parameters that only this kind has
    initial_biases: tuple[tuple[str, float], ...] = ()  # of bias_ih, by gate; the others start at 0
    output_scale: float = 1.0  # of the first weights of what reads its outputs
    mix: Callable[..., Any] | None = None
    mix_backward: Callable[..., Any] | None = None
    rounds: Callable[[Cell], tuple[str, ...]] | None = None
    panel: Panel | None = None
    cpu: Callable[[Cell], CpuFunctions] | None = None  # imports numba, so it is called only by the CPU kernels
    cuda: Callable[[Cell], CudaFunctions] | None = None  # the same for the GPU kernels


KINDS: dict[str, CellKind] = {}  # name -> kind, in the order in which they were registered


def register(kind: CellKind) -> CellKind:
    """Make a kind known by its name; returns it."""
    KINDS[kind.name] = kind
    return kind


@dataclass(frozen=True)
class Cell:
    """One direction of one layer."""

    kind: str  # of KINDS
    input_size: int  # D
    hidden_size: int  # H
    nonlinearity: str = "tanh"  # of an rnn: tanh | relu
    layer_norm: bool = False  # normalise W x and U h before the gates, and c before h = o tanh(c)
    peepholes: bool = False  # of an lstm: the gates see c
    proj_size: int = 0  # of an lstm: h is projected to so many numbers; 0 leaves it as it is
    mogrifier_rounds: int = 5  # of a mogrifier-lstm: how often x and h gate each other

    @property
    def definition(self) -> CellKind:
        """The kind itself."""
        return KINDS[self.kind]

    @property
    def gates(self) -> int:
        """How many blocks of H rows weight_ih has, in PyTorch's order; an update gate comes last."""
        return len(self.definition.inputs)

    @property
    def has_memory(self) -> bool:
        """Whether there is a cell state c beside h."""
        return self.definition.has_memory

    @property
    def has_options(self) -> bool:
        """Whether it has layer normalisation, peepholes or a projection, which no kernel of a card computes."""
        return bool(self.layer_norm or self.peepholes or self.proj_size)

    @property
    def rounds(self) -> tuple[str, ...]:
        """The names of the matrices by which x and h gate each other before a step."""
        return self.definition.rounds(self) if self.definition.rounds else ()

    @property
    def loop(self) -> str | None:
        """Which time loop of the CPU kernels computes it: "plain", "options" or "rounds"; None: only the specification does.

        Options need to know where o is, if there is a c. Rounds have no options beside them, and W x and U h in the same
        columns of a panel.
        """
        kind, panel = self.definition, self.definition.panel
        if panel is None:
            return None
        if kind.mix is not None:
            fits = kind.rounds is not None and panel.inputs == panel.hidden and not self.has_options
            return "rounds" if fits else None
        if not self.has_options:
            return "plain"
        return None if self.has_memory and panel.output is None else "options"

    @property
    def compiled(self) -> bool:
        """Whether the CPU kernels compute it."""
        return self.loop is not None

    @property
    def is_plain(self) -> bool:
        """Whether the CPU kernels have all that they can do for it: small integers, bfloat16, weights of zeros."""
        return self.loop == "plain"

    @property
    def kept_size(self) -> int:
        """Numbers that a unit of a compiled cell keeps for its gates at every step."""
        return self.definition.panel.blocks if self.definition.panel else self.gates

    @property
    def kept_in_rounds(self) -> int:
        """Numbers that a row keeps for the rounds at every step: x and h before and after each, and what it gates them by."""
        of_x = (len(self.rounds) + 1) // 2
        of_h = len(self.rounds) - of_x
        sizes = (2 * of_x + 1) * self.input_size + (2 * of_h + 1) * self.output_size
        return sizes if self.definition.rounds else 0

    @property
    def memory_size(self) -> int:
        """Numbers in c."""
        return self.hidden_size if self.has_memory else 0

    @property
    def output_size(self) -> int:
        """Numbers in h."""
        return self.proj_size or self.hidden_size

    @property
    def sides(self) -> dict[str, int]:
        """Rows of weight_ih and weight_hh by side, "ih" and "hh"; a side that the kind does not have is left out."""
        rows = {"ih": len(self.definition.inputs), "hh": len(self.definition.hidden)}
        return {side: gates * self.hidden_size for side, gates in rows.items() if gates}

    @property
    def shapes(self) -> Shapes:
        """Name -> shape of every parameter; PyTorch's names where it has them."""
        return dict(_shapes(self, self.definition))

    @property
    def num_parameters(self) -> int:
        """How many numbers are trained."""
        return sum(map(math.prod, self.shapes.values()))

    def initial_biases(self, bias: np.ndarray) -> None:
        """Set bias_ih (gates * H,) to what it starts from."""
        bias[...] = 0
        for gate, value in self.definition.initial_biases:
            bias.reshape(-1, self.hidden_size)[self.definition.inputs.index(gate)] = value


@lru_cache(maxsize=1024)  # a network asks for them at every step
def _shapes(cell: Cell, kind: CellKind) -> Shapes:
    """`Cell.shapes` of a cell of this kind."""
    columns, H = {"ih": cell.input_size, "hh": cell.output_size}, cell.hidden_size
    shapes: Shapes = {f"weight_{side}": (rows, columns[side]) for side, rows in cell.sides.items()}
    shapes |= {f"bias_{side}": (rows,) for side, rows in cell.sides.items()}
    if cell.proj_size:
        shapes["weight_hr"] = (cell.proj_size, H)
    shapes |= kind.shapes(cell)
    if cell.layer_norm:
        shapes |= {f"gain_{side}": (rows,) for side, rows in cell.sides.items()}
    if cell.layer_norm and cell.has_memory:
        shapes |= {"gain_c": (H,), "bias_c": (H,)}
    return shapes
