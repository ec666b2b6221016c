"""The CPU kernels: the functions of `reference` as numba loops on vectors and register tiles, one thread a slice.

No sum is ever split between threads, so the results do not depend on their number. Beside the files that every backend
has stand the parts they are made of: `jit`, `vectors` and `functions`, `tiles`, `products`, `layouts`, `barrier`.
"""

from __future__ import annotations

from nblstm.kernels.cpu.attention import attention_backward, attention_forward, attention_work
from nblstm.kernels.cpu.cache import cache_losses
from nblstm.kernels.cpu.crf import crf_decode, crf_losses, crf_losses_and_gradient, crf_work
from nblstm.kernels.cpu.decoding import decode, decode_weights, decode_work, generate
from nblstm.kernels.cpu.distillation import distillation
from nblstm.kernels.cpu.drawing import draw
from nblstm.kernels.cpu.elementwise import (
    clear,
    clip_values,
    dropout,
    embedding_backward,
    embedding_forward,
    scale_texts,
    squared_norm,
)
from nblstm.kernels.cpu.head import (
    linear_backward,
    linear_forward,
    linear_work,
    softmax_gradient_work,
    softmax_losses,
    softmax_losses_and_gradient,
    softmax_work,
    squared_error,
)
from nblstm.kernels.cpu.optimizers import adam, average, rmsprop, sgd
from nblstm.kernels.cpu.recurrent import recurrent_backward, recurrent_forward, recurrent_work
from nblstm.kernels.cpu.searching import search
from nblstm.kernels.reference.arrays import array, assign, empty, host, zeros_like

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
