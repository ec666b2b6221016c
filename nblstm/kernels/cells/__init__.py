"""Cells, one file each: see `kind.CellKind` for what a file says, and docs/add-a-cell.md for how one is added.

None of these files imports numba before a CPU or CUDA kernel asks for its functions.
"""

from __future__ import annotations

from nblstm.kernels.cells import gru, lstm, min_gru, mogrifier_lstm, rnn, update_lstm
from nblstm.kernels.cells.kind import KINDS, NONLINEARITIES, Cell, CellKind, register

for _kind in (lstm.KIND, gru.KIND, rnn.KIND, update_lstm.KIND, min_gru.KIND, mogrifier_lstm.KIND):
    register(_kind)

__all__ = ["KINDS", "NONLINEARITIES", "Cell", "CellKind", "register"]
