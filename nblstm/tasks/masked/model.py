"""MaskedLanguageModel: a model that reads in both directions, to score with."""

from __future__ import annotations

from nblstm.tasks.masked.config import MaskedConfig
from nblstm.tasks.masked.network import MaskedNetwork
from nblstm.tasks.text_model import TextModel


class MaskedLanguageModel(TextModel):
    """A trained masked language model, see `TextModel`. It sees the token that follows, so it cannot write."""

    CONFIG = MaskedConfig
    NETWORK = MaskedNetwork
