"""Cells: what a recurrent layer computes with, as a row of facts. The equations are in reference.py, by `kind`."""

from __future__ import annotations

from dataclasses import dataclass

GATES = {"lstm": 4, "gru": 3, "rnn": 1, "update-lstm": 5}  # i, f, g, o | r, z, n | h | i, f, g, o, u
KINDS = tuple(GATES)
NONLINEARITIES = ("tanh", "relu")


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

    @property
    def gates(self) -> int:
        """G: blocks of H rows in weight_ih and weight_hh, in PyTorch's order; the update gate comes last."""
        return GATES[self.kind]

    @property
    def has_memory(self) -> bool:
        """Whether there is a cell state c beside h."""
        return self.kind in ("lstm", "update-lstm")

    @property
    def compiled(self) -> bool:
        """Whether fast kernels compute it: it has none of the options that only the specification knows."""
        return not (self.layer_norm or self.peepholes or self.proj_size)

    @property
    def memory_size(self) -> int:
        """Numbers in c."""
        return self.hidden_size if self.has_memory else 0

    @property
    def output_size(self) -> int:
        """Numbers in h."""
        return self.proj_size or self.hidden_size

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of every parameter; PyTorch's names where it has them."""
        G, H = self.gates * self.hidden_size, self.hidden_size
        shapes: dict[str, tuple[int, ...]] = {
            "weight_ih": (G, self.input_size), "weight_hh": (G, self.output_size), "bias_ih": (G,), "bias_hh": (G,)
        }  # fmt: skip
        if self.proj_size:
            shapes["weight_hr"] = (self.proj_size, H)
        if self.peepholes:
            shapes["peepholes"] = (3, H)  # into i, f and o
        if self.layer_norm:
            shapes |= {"gain_ih": (G,), "gain_hh": (G,)}
        if self.layer_norm and self.has_memory:
            shapes |= {"gain_c": (H,), "bias_c": (H,)}
        return shapes
