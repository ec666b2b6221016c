"""Scoring: how probable a network finds a text.

A text is judged in one of two ways. As a stream: one text of any length, its state carried from piece to piece. Or as
one of many: short texts that know nothing of each other, read side by side, which keeps the machine busy. Each text's
result depends on that text alone, not on its neighbours or on how it is cut.

A network that has a `span` sees the token that follows. It is judged by filling in: every token is masked once and
predicted from both sides, the first and an end token as well (`Network.losses`). What is read is all there is:
no token is given, and none stands before a text. A text longer than the network's span is read in spans of so many;
from one to the next the state is carried from left to right, and the other direction starts again.
"""

from nblstm.scoring.amounts import backend_for, batch_size, rows_at_once
from nblstm.scoring.parts import score_in_streams, score_in_windows
from nblstm.scoring.results import NOTHING, OnProgress, Score, Surprisals, Text, worse_than_guessing
from nblstm.scoring.streams import following_losses, score, stream
from nblstm.scoring.texts import judge
from nblstm.scoring.validation import (
    SCORED_AT_ONCE,
    VALIDATION_STREAMS,
    validation_documents,
    validation_loss,
    validation_streams,
)

__all__ = [
    "NOTHING", "SCORED_AT_ONCE", "VALIDATION_STREAMS", "OnProgress", "Score", "Surprisals", "Text", "backend_for",
    "batch_size", "following_losses", "judge", "rows_at_once", "score", "score_in_streams", "score_in_windows", "stream",
    "validation_documents", "validation_loss", "validation_streams", "worse_than_guessing",
]  # fmt: skip
