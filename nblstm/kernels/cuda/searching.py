"""Beam search on a card."""

from __future__ import annotations

from nblstm.kernels.cuda.decoding import decode
from nblstm.kernels.reference.searching import search_by


def search(history, hypotheses, state, noise, banned, beam, work, threads):
    """See reference.search: the card reads, the host chooses."""
    return search_by(decode, history, hypotheses, state, noise, banned, beam, work, threads)
