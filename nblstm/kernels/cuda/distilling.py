"""Distillation: a card has no kernel for it, which is said in a line."""

from __future__ import annotations

from nblstm.errors import DeviceError


def distillation(losses, dy, y, lesson, threads):
    """DeviceError."""
    raise DeviceError("no kernel of a card distils; choose cpu.")
