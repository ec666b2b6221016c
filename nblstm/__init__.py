"""nblstm: LSTM language models with NumPy and Numba, no framework."""
from nblstm.version import __version__ as __version__
