"""nblstm info: what is in a model file."""

from __future__ import annotations

import math
import os
from typing import Any

import click

from nblstm.cli.options import echo_json, json_option, model_option


@click.command("info")
@model_option
@click.option("--training", is_flag=True, help="Also say how much memory training such a model takes.")
@json_option
def command(model: str, training: bool, json: bool) -> None:
    """What a model is, how it was made and how good it is."""
    from nblstm.language_model import load

    loaded = load(model)
    if json:
        echo_json({
            "config": loaded.config.to_dict(),
            "parameters": loaded.config.num_parameters,
            "vocabulary": loaded.vocabulary.to_dict(),
            "training": loaded.training,
            **({"training_memory": _memory(loaded)} if training else {}),
        })
        return
    lines = _lines(model, loaded)
    if training:
        m = _memory(loaded)
        lines.append(("memory", f"{m['bytes'] / 1e6:.0f} MB to train on chunks of {m['batch_size']} x {m['bptt']} tokens:"))
        lines.append(("", f"{m['per_parameter']} bytes per parameter, {m['per_token']:,} per token of a chunk, and"))
        lines.append(("", "the logits and packed weights; Python, NumPy and numba come on top"))
    for name, value in lines:
        click.echo(f"{name:<12}{value}")


def _memory(model: Any) -> dict[str, int]:
    """What training takes, with the batch and bptt that the model was trained with."""
    from nblstm.config import TrainConfig
    from nblstm.training import memory

    config = TrainConfig.from_dict(model.training.get("config", {}))
    return {
        "bytes": memory.training_bytes(model.config, config),
        "per_parameter": memory.per_parameter(config, model.config),
        "per_token": memory.per_token(model.config),
        "batch_size": config.batch_size,
        "bptt": config.bptt,
    }


def _lines(path: str, model: Any) -> list[tuple[str, str]]:
    c, v, t = model.config, model.vocabulary, model.training
    shown = " ".join(repr(token)[1:-1] for token in v.tokens[:40]) + (" ..." if len(v) > 40 else "")
    lines = [
        ("file", f"{path} ({os.path.getsize(path) / 1e6:.1f} MB)"),
        ("network", f"{c.description}, embedding {c.embedding_size}"),
        ("parameters", f"{c.num_parameters:,} {c.dtype}"),
        ("dropout", f"{c.dropout:g} between layers, {c.input_dropout:g} on the input, {c.output_dropout:g} on the output"),
        ("vocabulary", f"{len(v):,} tokens, level {v.level}"),
        ("tokens", shown),
    ]
    if t.get("corpus"):
        documents = f"{t['documents']:,} documents, " if "documents" in t else ""
        lines.append(("trained on", f"{', '.join(map(str, t['corpus']))}: {documents}{t.get('tokens', 0):,} tokens"))
        lines.append(("for", f"{t.get('steps', 0):,} steps, {t.get('epochs', 0):g} epochs, {t.get('seconds', 0):.0f} s"))
    if isinstance(t.get("valid_loss"), float):
        loss = t["valid_loss"]
        lines.append(("validation", f"{loss:.4f} nats per token, perplexity {math.exp(min(loss, 700)):.2f}"))
    return lines
