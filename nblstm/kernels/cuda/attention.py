"""Attention on cards: there is none yet."""

from __future__ import annotations

from typing import NoReturn

from nblstm.errors import DeviceError


def _refuse() -> NoReturn:
    """DeviceError."""
    raise DeviceError("no cuda kernel computes attention; choose device cpu.")


def attention_work(queries, keys, sizes, texts, dtype, threads):
    """DeviceError."""
    _refuse()


def attention_forward(context, weights, work, inputs, alignment, threads):
    """DeviceError."""
    _refuse()


def attention_backward(dquery, dkey, dvalue, dvector, dcontext, weights, work, inputs, alignment, threads):
    """DeviceError."""
    _refuse()
