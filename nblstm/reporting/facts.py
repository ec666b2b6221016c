"""What a model is, how it was made and how good it is: names and values for a reader."""

from __future__ import annotations

import math
import os

from nblstm.tasks.language.model import LanguageModel

TOKENS_SHOWN = 40


def model_facts(path: str | os.PathLike[str], model: LanguageModel) -> list[tuple[str, str]]:
    """(name, value) of what the model in a file is, in the order to be read."""
    c, v, t = model.config, model.vocabulary, model.training
    shown = " ".join(repr(token)[1:-1] for token in v.tokens[:TOKENS_SHOWN]) + (" ..." if len(v) > TOKENS_SHOWN else "")
    facts = [
        ("file", f"{path} ({os.path.getsize(path) / 1e6:.1f} MB)"),
        ("network", f"{c.description}, embedding {c.embedding_size}"),
        ("parameters", f"{c.num_parameters:,} {c.dtype}"),
        ("dropout", f"{c.dropout:g} between layers, {c.input_dropout:g} on the input, {c.output_dropout:g} on the output"),
        ("vocabulary", f"{len(v):,} tokens, level {v.level}"),
        ("tokens", shown),
    ]
    if t.get("corpus"):
        documents = f"{t['documents']:,} documents, " if "documents" in t else ""
        facts.append(("trained on", f"{', '.join(map(str, t['corpus']))}: {documents}{t.get('tokens', 0):,} tokens"))
        facts.append(("for", f"{t.get('steps', 0):,} steps, {t.get('epochs', 0):g} epochs, {t.get('seconds', 0):.0f} s"))
    if isinstance(t.get("valid_loss"), float):
        loss = t["valid_loss"]
        facts.append(("validation", f"{loss:.4f} nats per token, perplexity {math.exp(min(loss, 700)):.2f}"))
    return facts
