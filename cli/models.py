"""The models that commands read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from nblstm.errors import ConfigError, ModelFileError, TextError


def text_model(path: str) -> Any:
    """Read a model of text, which can score. ModelFileError for any other file."""
    from nblstm.tasks.registry import TEXT_MODELS, load

    return load(path, TEXT_MODELS)


def trained_model(path: str) -> Any:
    """Read a model of any task that is trained on files. ModelFileError for any other file."""
    from nblstm.tasks.registry import RUNS, load

    return load(path, list(RUNS))


def model_of_task(path: str, task: str) -> Any:
    """Read a model of a task. ModelFileError for any other file."""
    from nblstm.tasks.registry import load

    return load(path, [task])


def rounded(model: Any, weights: str | None) -> Any:
    """Return a model with weights of a kind, None: as they are. ConfigError for one that has no others."""
    if weights is None:
        return model
    if not model.config.may_be_int8:
        raise ConfigError(
            f"only language models that write have int8 weights, got {type(model).__name__}; use it as it is."
        )
    return model.quantize()


def writer(path: str) -> Any:
    """Read a model that can write. ConfigError for one that reads both ways."""
    from nblstm.nn.decoder import check_writes

    if not os.path.lexists(path) and " " in path.strip():
        raise ModelFileError(
            f"{path} does not exist; if that is what the model is to go on from, put it behind --prompt."
        )
    model = text_model(path)
    check_writes(model.config)
    return model


def texts_and_models(files: Sequence[str], models: Sequence[str]) -> tuple[list[str], list[str]]:
    """Tell models from texts in the files of a command line, where no model is named by its option; (texts, models).

    Raises ConfigError if no text is left, TextError for words that stand where a file belongs.
    """
    found = [] if models else [file for file in files if _is_model(file)]
    texts = [file for file in files if file not in found]
    for file in texts:
        if " " in file.strip() and not os.path.lexists(file):
            raise TextError(
                f"{file} cannot be read: No such file; to score these words themselves, use nblstm score --text."
            )
    if files and not texts:
        raise ConfigError(f"{found[0]} is a model; name the text that it is to read, too.")
    return texts, [*models, *found]


def _is_model(file: str) -> bool:
    """Tell whether there is a safetensors file of this name."""
    from nblstm.text.kinds import is_safetensors

    if not os.path.isfile(file):  # to open a pipe would wait for a writer
        return False
    try:
        with open(file, "rb") as stream:
            return is_safetensors(stream.read(16))
    except (OSError, ValueError):
        return False
