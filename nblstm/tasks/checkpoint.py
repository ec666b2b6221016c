"""The checkpoint of a run, read: every field has its type and range here, and every tensor the size that they call for.

All of it is checked before a tensor is read and before anything is made of the sizes that a file claims.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nblstm.config import TextConfig, TokenStackConfig, TrainConfig
from nblstm.errors import ConfigError, ModelFileError, TrainingError
from nblstm.files.fields import AMOUNT, COUNT, OBJECT, STRING, STRINGS, fault
from nblstm.files.model_file import check_tensors, load_checkpoint
from nblstm.files.safetensors import Entry
from nblstm.tasks.registry import stored_config
from nblstm.text.vocabulary import Vocabulary
from nblstm.training import optimizers
from nblstm.training.trainer import check_facts

RUN = {
    "corpus": STRINGS, "valid": STRINGS, "text": OBJECT, "asked": OBJECT, "fingerprint": STRING, "vocabulary": OBJECT,
    "model": OBJECT, "config": OBJECT, "trainer": OBJECT, "rollbacks": COUNT,
}  # fmt: skip
ASKED = {"batch_size": COUNT, "bptt": COUNT, "lr": AMOUNT}
NEVER_DIVERGED = {"rollbacks": 0}, {"lr": 0.0}  # what then is not there, of RUN and of ASKED


def read_checkpoint(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read the tensors and the facts of a run. ModelFileError says which of them is not as training writes it."""

    def check(facts: dict[str, Any], entries: Mapping[str, Entry]) -> None:
        run, asked = NEVER_DIVERGED
        broken = fault({**run, **facts}, RUN) or fault({**asked, **facts["asked"]}, ASKED)
        if broken:
            raise ModelFileError(f"{path} is damaged: {broken}; start the run anew.")
        try:
            model, train = _configs(facts)
            check_facts(facts["trainer"], train)
        except (ConfigError, ModelFileError, TrainingError) as error:
            raise ModelFileError(f"{path} is damaged: {error}") from None
        _check_entries(entries, model, train, path)

    return load_checkpoint(path, check)


def _configs(facts: dict[str, Any]) -> tuple[TokenStackConfig, TrainConfig]:
    """Make the configs of the network and of its training. An error unless they fit text and vocabulary."""
    model, train = stored_config(facts["model"]), TrainConfig.from_dict(facts["config"])
    vocabulary, text = Vocabulary.from_dict(facts["vocabulary"]), TextConfig.from_dict(facts["text"])
    if len(vocabulary) != model.vocab_size:
        raise ConfigError(f"vocab_size is {model.vocab_size}, but the vocabulary has {len(vocabulary)}.")
    if vocabulary.level != text.level:
        raise ConfigError(f"level is {text.level}, but that of the vocabulary is {vocabulary.level}.")
    model.check_level(vocabulary.level)
    train.check_documents(text.documents)
    _ = train.boundaries  # ConfigError for buckets that are none
    return model, train


def _check_entries(entries: Mapping[str, Entry], model: TokenStackConfig, train: TrainConfig, path: Path) -> None:
    """Raise ModelFileError unless the tensors are those of this network, optimizer and some carried state."""
    flat, cell = (model.num_parameters,), model.cells[0]
    moments = [f"optimizer.{name}" for name in optimizers.OPTIMIZER_CLASSES[train.optimizer].names]
    state = entries.get("state.h")
    texts = state.shape[1] if state is not None and len(state.shape) == 3 else 1
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(["parameters", "best.parameters", *moments], flat)
    shapes["state.h"] = (len(model.cells), texts, cell.output_size)
    shapes["state.c"] = (len(model.cells), texts, cell.memory_size)
    check_tensors(entries, shapes, path)
    for name, entry in entries.items():
        if entry.dtype != model.dtype:
            raise ModelFileError(f"{path}: tensor {name!r} must be {model.dtype} by its config, got {entry.dtype}.")
