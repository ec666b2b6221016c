"""The GPU kernels: the functions of `reference` for NVIDIA cards. The only folder that knows the CUDA package.

Arrays are on the device where `array`, `empty` and `zeros_like` made them; integers, and whatever else is a NumPy
array, are copied there for the call, and outputs that are NumPy arrays are copied back. All sums have a fixed order and
no kernel uses atomics: the same inputs give the same bits. Numbers are stored as float32 or, where a work was made for
float16, activations as that; every sum is float32 or wider. Inside a kernel arrays are flat.
"""

from __future__ import annotations

from nblstm.kernels.cuda.arrays import array, assign, convert, empty, host, zeros_like
from nblstm.kernels.cuda.attention import attention_backward, attention_forward, attention_work
from nblstm.kernels.cuda.cache import cache_losses
from nblstm.kernels.cuda.crf import crf_decode, crf_losses, crf_losses_and_gradient, crf_work
from nblstm.kernels.cuda.decoding import decode, decode_weights, decode_work, generate
from nblstm.kernels.cuda.device import describe, require
from nblstm.kernels.cuda.distillation import distillation
from nblstm.kernels.cuda.drawing import draw
from nblstm.kernels.cuda.elementwise import (
    clear,
    clip_values,
    dropout,
    embedding_backward,
    embedding_forward,
    scale_texts,
    squared_norm,
)
from nblstm.kernels.cuda.head import (
    linear_backward,
    linear_forward,
    linear_work,
    softmax_gradient_work,
    softmax_losses,
    softmax_losses_and_gradient,
    softmax_work,
    squared_error,
)
from nblstm.kernels.cuda.optimizers import adam, average, rmsprop, sgd
from nblstm.kernels.cuda.recurrent import recurrent_backward, recurrent_forward, recurrent_work
from nblstm.kernels.cuda.searching import search

__all__ = [
    "adam", "array", "assign", "attention_backward", "attention_forward",
    "attention_work", "average", "cache_losses", "clear", "clip_values",
    "crf_decode", "crf_losses", "crf_losses_and_gradient", "crf_work", "decode", "decode_weights",
    "decode_work", "distillation", "draw", "dropout",
    "embedding_backward", "embedding_forward", "empty", "generate", "host", "linear_backward", "linear_forward",
    "linear_work", "convert", "describe", "require", "recurrent_backward", "recurrent_forward", "recurrent_work",
    "rmsprop", "scale_texts", "search",
    "sgd", "softmax_gradient_work", "softmax_losses", "softmax_losses_and_gradient", "softmax_work", "squared_error",
    "squared_norm", "zeros_like",
]  # fmt: skip
