"""nblstm info: the content of a model file."""

from __future__ import annotations

from typing import Any

import click
from nblstm.cli.models import trained_model
from nblstm.cli.names import Command
from nblstm.cli.options import echo_json, json_option, model_option
from nblstm.cli.shown import say


@click.command("info", cls=Command)
@model_option
@click.option("--training", is_flag=True, help="Also say how much memory training such a model takes.")
@json_option
def command(model: str, training: bool, json: bool) -> None:
    """Show what a model is, how it was made and how good it is."""
    from nblstm.reporting.facts import model_facts, sparsity_of, type_of_weights

    loaded = trained_model(model)
    if json:
        echo_json(
            {
                "config": loaded.config.to_dict(),
                "parameters": loaded.config.num_parameters,
                "weights": type_of_weights(loaded),
                "sparsity": round(sparsity_of(loaded), 4),
                "vocabulary": loaded.vocabulary.to_dict(),
                "training": loaded.training,
                **({"training_memory": _memory(loaded)} if training else {}),
            }
        )
        return
    lines = model_facts(model, loaded)
    if training:
        m = _memory(loaded)
        lines.append(
            ("memory", f"{m['bytes'] / 1e6:.0f} MB to train on chunks of {m['batch_size']} x {m['bptt']} tokens:")
        )
        lines.append(("", f"{m['per_parameter']} bytes per parameter, {m['per_token']:,} per token of a chunk, and"))
        lines.append(("", "the logits and packed weights; Python, NumPy and numba come on top"))
    for name, value in lines:
        say(f"{name:<12}{value}")


def _memory(model: Any) -> dict[str, int]:
    """Return the memory that training takes, with the batch and bptt that the model was trained with."""
    from nblstm.config import TrainConfig
    from nblstm.errors import ConfigError, ModelFileError
    from nblstm.training import memory

    try:
        config = TrainConfig.from_dict(model.training.get("config", {}))
    except ConfigError:
        raise ModelFileError("the model's file does not say how it was trained; leave out --training.") from None
    return {
        "bytes": memory.training_bytes(model.config, config),
        "per_parameter": memory.per_parameter(config, model.config),
        "per_token": memory.per_token(model.config, config.precision),
        "batch_size": config.batch_size,
        "bptt": config.bptt,
    }
