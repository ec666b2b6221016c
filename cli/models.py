"""The models that commands read."""

from __future__ import annotations

from typing import Any


def text_model(path: str) -> Any:
    """Read a model of text, which can score. ModelFileError for any other file."""
    from nblstm.tasks.registry import OF_RUNS, load

    return load(path, OF_RUNS)


def writer(path: str) -> Any:
    """Read a model that can write. ConfigError for one that reads both ways."""
    from nblstm.nn.decoder import check_writes

    model = text_model(path)
    check_writes(model.config)
    return model


def classifier(path: str) -> Any:
    """Read a classifier. ModelFileError for any other file."""
    from nblstm.tasks.registry import load

    return load(path, ["classification"])
