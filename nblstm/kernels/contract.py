"""Which functions every backend has, in which of its files: a file is imported on the first use of it or of one of them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

FILES = {  # file -> its functions; the legend and the arguments are in `nblstm.kernels`
    "arrays": ("array", "assign", "empty", "host", "zeros_like"),
    "attention": ("attention_backward", "attention_forward", "attention_work"),
    "cache": ("cache_losses",),
    "crf": ("crf_decode", "crf_losses", "crf_losses_and_gradient", "crf_work"),
    "decoding": ("decode", "decode_weights", "decode_work", "generate"),
    "distilling": ("distillation",),
    "drawing": ("draw",),
    "elementwise": (
        "clear", "clip_values", "dropout", "embedding_backward", "embedding_forward", "scale_texts", "squared_norm",
    ),
    "head": (
        "linear_backward", "linear_forward", "linear_work", "softmax_gradient_work", "softmax_losses",
        "softmax_losses_and_gradient", "softmax_work", "squared_error",
    ),
    "optimizers": ("adam", "average", "rmsprop", "sgd"),
    "recurrent": ("recurrent_backward", "recurrent_forward", "recurrent_work"),
    "searching": ("search",),
}  # fmt: skip


def on_first_use(
    backend: str, more: Mapping[str, tuple[str, ...]] | None = None
) -> tuple[list[str], Callable[[str], Any]]:
    """Return a backend package's `__all__` and `__getattr__`.

    more: functions that it alone has, or the whole name of a module -> those that it shares with another backend.
    """
    files = {**FILES, **(more or {})}
    homes = {name: file if "." in file else f"{backend}.{file}" for file, names in files.items() for name in names}

    def find(name: str) -> Any:
        if name in homes:
            function = getattr(import_module(homes[name]), name)
            setattr(sys.modules[backend], name, function)
            return function
        if name.startswith("_") or find_spec(f"{backend}.{name}") is None:
            raise AttributeError(f"module {backend!r} has no attribute {name!r}")
        return import_module(f"{backend}.{name}")

    return sorted(homes), find
