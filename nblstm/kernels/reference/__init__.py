"""The specification: every kernel in plain NumPy, in any float type. Also the runtime where numba is absent.

Each backward function stands below its forward function; the comment on a backward line names the forward
line it differentiates. Weights, shapes and gate order are PyTorch's (torch.nn.LSTM).
"""

from __future__ import annotations

from nblstm.kernels.contract import on_first_use

__all__, __getattr__ = on_first_use(__name__)
