"""The linear-chain CRF: a card has no kernels for it, which is said in a line."""

from __future__ import annotations

from nblstm.errors import DeviceError


def _refuse():
    raise DeviceError("no kernel of a card computes a CRF; choose cpu.")


def crf_work(M, K, dtype, threads):
    """DeviceError."""
    _refuse()


def crf_losses(losses, work, emissions, targets, chain, offsets, threads):
    """DeviceError."""
    _refuse()


def crf_losses_and_gradient(losses, demissions, dchain, work, emissions, targets, scales, chain, offsets, threads):
    """DeviceError."""
    _refuse()


def crf_decode(tags, emissions, chain, offsets, threads):
    """DeviceError."""
    _refuse()
