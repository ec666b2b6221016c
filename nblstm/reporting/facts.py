"""Facts of a model: its shape, its making and its losses, as names and values for a reader."""

from __future__ import annotations

import math
import os
from typing import Any

from nblstm.files.fields import AMOUNT, COUNT, STRINGS, optional
from nblstm.scoring import worse_than_guessing
from nblstm.tasks.language.model import LanguageModel

TOKENS_SHOWN = 40
TRAINING = {  # facts under `training` that are shown, and what they must be; a file may hold anything there
    "corpus": STRINGS, "documents": COUNT, "tokens": COUNT, "steps": COUNT, "epochs": AMOUNT, "seconds": AMOUNT,
    "valid_loss": optional(AMOUNT),
}  # fmt: skip


def model_facts(path: str | os.PathLike[str], model: LanguageModel) -> list[tuple[str, str]]:
    """Return (name, value) of what the model in a file is, in the order to be read."""
    c, v = model.config, model.vocabulary
    shown = " ".join(repr(token)[1:-1] for token in v.tokens[:TOKENS_SHOWN]) + (" ..." if len(v) > TOKENS_SHOWN else "")
    return [
        ("file", f"{path} ({os.path.getsize(path) / 1e6:.1f} MB)"),
        ("network", f"{c.description}, embedding {c.embedding_size}"),
        ("parameters", f"{c.num_parameters:,} {c.dtype}"),
        (
            "dropout",
            f"{c.dropout:g} between layers, {c.input_dropout:g} on the input, {c.output_dropout:g} on the output",
        ),
        ("vocabulary", f"{len(v):,} tokens, level {v.level}"),
        ("tokens", shown),
        *_training_facts(model.training, len(v)),
    ]


def _training_facts(training: dict[str, Any], vocab_size: int) -> list[tuple[str, str]]:
    """Return (name, value) of how a model was made, as far as its file says so in the way that training does."""
    fits = {name: rule.holds(training[name]) for name, rule in TRAINING.items() if name in training}
    t = {name: training[name] for name, good in fits.items() if good}
    facts = []
    if t.get("corpus"):
        documents = f"{t['documents']:,} documents, " if "documents" in t else ""
        facts.append(("trained on", f"{', '.join(t['corpus'])}: {documents}{t.get('tokens', 0):,} tokens"))
        seconds = f", {t['seconds']:.0f} s" if "seconds" in t else ""
        facts.append(("for", f"{t.get('steps', 0):,} steps, {t.get('epochs', 0):g} epochs{seconds}"))
    if t.get("valid_loss") is not None:
        loss = t["valid_loss"]
        facts.append(("validation", f"{loss:.4f} nats per token, perplexity {math.exp(min(loss, 700)):.2f}"))
        if (found := worse_than_guessing(loss, vocab_size)) is not None:
            facts.append(("warning", found))
    if not all(fits.values()):
        wrong = ", ".join(name for name, good in fits.items() if not good)
        facts.append(("not shown", f"{wrong}: the file has another kind of value than training writes"))
    return facts
