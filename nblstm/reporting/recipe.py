"""The command line that makes a model, from what its file says of its training: settings that are not the default."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from nblstm.config import TrainConfig
from nblstm.config.text import CorpusConfig
from nblstm.errors import ConfigError

VALUE_CHARACTERS = 60  # characters of a value that are shown
NO_OPTIONS = ("vocab_size", "dtype")  # fields of a network that no option sets
RUN_LIMITS = ("epochs", "steps", "minutes")


def command_line(model: Any) -> str | None:
    """Write the command that trained a model of text; None where its file does not say it as training does.

    The number of threads and where the run was limited by a resumed one are no part of it.
    """
    training = model.training
    names, recipe, text = (training.get(name) for name in ("corpus", "config", "text"))
    try:
        train = TrainConfig.from_dict(recipe)
        reading = CorpusConfig.from_dict(text or {})
    except ConfigError:
        return None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        return None
    words = ["nblstm train", *("--demo" if name == "the demo text" else shlex.quote(name) for name in names)]
    words += _options(reading.to_dict(), CorpusConfig().to_dict())
    words += _options(_shape(model.config), _shape(type(model.config)(vocab_size=model.config.vocab_size)))
    words += ["--bidirectional"] * model.config.to_dict().get("bidirectional", False)
    words += ["--teacher FILE"] * (train.distil_temperature is not None)
    defaults = TrainConfig(optimizer=train.optimizer).to_dict()
    defaults["even_chunks"] = train.even_chunks  # no option
    limited = dict.fromkeys(RUN_LIMITS) if train.steps or train.minutes else {}
    words += _options(train.to_dict(), {**defaults, "optimizer": TrainConfig.optimizer, **limited})
    return " ".join(words)


def _shape(config: Any) -> dict[str, Any]:
    """Return what options set of a network. An embedding as large as the layers is the default."""
    fields = {name: getattr(config, name) for name in sorted(config.names()) if name not in NO_OPTIONS}
    if fields.get("embedding_size") == (config.head_size if fields.get("tie") else config.hidden_size):
        fields["embedding_size"] = 0
    return fields


def _options(fields: Mapping[str, Any], defaults: Mapping[str, Any]) -> Iterator[str]:
    """Yield the options of settings that are not the default."""
    for name, value in fields.items():
        flag = name.replace("_", "-")
        if value == defaults.get(name) or value is None:
            continue
        if isinstance(value, bool):
            yield f"--{'' if value else 'no-'}{flag}"
        else:
            shown = f"{value:g}" if isinstance(value, float) else "FILE" if isinstance(value, dict) else str(value)
            yield f"--{flag} {shlex.quote(shown[:VALUE_CHARACTERS])}"
