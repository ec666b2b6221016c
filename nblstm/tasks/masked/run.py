"""MaskedRun: a masked language model trained on files of text."""

from __future__ import annotations

from typing import Any

from nblstm.tasks.language.run import LanguageRun
from nblstm.tasks.masked.model import MaskedLanguageModel
from nblstm.tasks.masked.settings import MASKED_SETTINGS


class MaskedRun(LanguageRun):
    """A run of a network that fills in tokens; it reads and trains as a language model does."""

    TASK, DIVIDES = "masked", False  # the tokens that an update masks are drawn for a whole batch
    SETTINGS = MASKED_SETTINGS
    MODEL = MaskedLanguageModel

    def next(self, shape: Any) -> str:
        """Return the name of the command that uses the model."""
        return "score"
