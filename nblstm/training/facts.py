"""Facts of a model's training, as its file holds them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nblstm.text.corpus import Corpus
from nblstm.training.trainer import Trainer

MOST_CONTEXTS = 1000  # of documents, that are kept: more are no labels, and any other may do as well


def training_facts(names: Sequence[str], corpus: Corpus, trainer: Trainer) -> dict[str, Any]:
    """Return the facts of a model's training, as its file holds them. names: of the texts.

    Time and threads are no part of it: the same seed and text give the same file, byte by byte, on any machine of a kind.
    """
    offsets = corpus.train_offsets
    return {
        "corpus": list(names),
        "fingerprint": corpus.train_fingerprint,
        "tokens": len(corpus.train) if offsets is None else int(offsets[-1]),
        **({} if offsets is None else {"documents": len(offsets) - 1}),
        **({"contexts": list(corpus.contexts)} if 0 < len(corpus.contexts) <= MOST_CONTEXTS else {}),
        "steps": trainer.step,
        "epochs": round(trainer.epoch, 3),
        "valid_loss": trainer.best_loss,
        "config": trainer.config.recipe(),
    }
