"""The specification: every kernel in plain NumPy, in any float type. Also the runtime where numba is absent.

Each backward function stands below its forward function; the comment on a backward line names the forward
line it differentiates. Weights, shapes and gate order are PyTorch's (torch.nn.LSTM).
"""

from __future__ import annotations

from nblstm.kernels.reference.arrays import array, assign, empty, host, zeros_like
from nblstm.kernels.reference.attention import attention_backward, attention_forward, attention_work
from nblstm.kernels.reference.cache import cache_losses
from nblstm.kernels.reference.crf import crf_decode, crf_losses, crf_losses_and_gradient, crf_work
from nblstm.kernels.reference.decoding import decode, decode_weights, decode_work, generate
from nblstm.kernels.reference.distillation import distillation
from nblstm.kernels.reference.drawing import draw
from nblstm.kernels.reference.elementwise import (
    clear,
    clip_values,
    dropout,
    embedding_backward,
    embedding_forward,
    scale_texts,
    squared_norm,
)
from nblstm.kernels.reference.head import (
    linear_backward,
    linear_forward,
    linear_work,
    softmax_gradient_work,
    softmax_losses,
    softmax_losses_and_gradient,
    softmax_work,
    squared_error,
)
from nblstm.kernels.reference.optimizers import adam, average, rmsprop, sgd
from nblstm.kernels.reference.recurrent import recurrent_backward, recurrent_forward, recurrent_work
from nblstm.kernels.reference.searching import search

__all__ = [
    "adam", "array", "assign", "attention_backward", "attention_forward",
    "attention_work", "average", "cache_losses", "clear", "clip_values",
    "crf_decode", "crf_losses", "crf_losses_and_gradient", "crf_work", "decode", "decode_weights",
    "decode_work", "distillation", "draw", "dropout",
    "embedding_backward", "embedding_forward", "empty", "generate", "host", "linear_backward", "linear_forward",
    "linear_work", "recurrent_backward", "recurrent_forward", "recurrent_work", "rmsprop", "scale_texts", "search",
    "sgd", "softmax_gradient_work", "softmax_losses", "softmax_losses_and_gradient", "softmax_work", "squared_error",
    "squared_norm", "zeros_like",
]  # fmt: skip
