"""From a file of weights and a file of tokens to a language model."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from nblstm import checks
from nblstm.config.network import NONLINEARITIES
from nblstm.convert import keras_file, state_dict, torch_file, vocabulary_file
from nblstm.errors import ModelFileError
from nblstm.files import safetensors
from nblstm.files.safetensors import Path
from nblstm.nn.parameters import flatten
from nblstm.tasks.language.model import LanguageModel

NEVER = -100.0  # the logit of an <unk> that the weights do not know


def import_weights(
    weights: Path, vocabulary: Path, *, level: str | None = None, tokenizer: str = "whitespace",
    nonlinearity: str = "tanh", names: Mapping[str, str] | None = None,
) -> LanguageModel:  # fmt: skip
    """Read the language model of a PyTorch state dict, a .safetensors or a .pt file, or of a .keras file.

    Neither PyTorch nor Keras is used; the last needs h5py.
    vocabulary: the file of its tokens, see `vocabulary_file.read_vocabulary`; level, tokenizer: how they cut a text.
    nonlinearity: of an rnn. names: a tensor's name -> ours, "" for one to leave out. The order of the tokens changes
    where <unk> is not the first. ModelFileError says what is wrong with the files, ConfigError with a setting.
    """
    checks.choice("nonlinearity", nonlinearity, NONLINEARITIES)
    tensors, told = _read(weights)
    ours, order = vocabulary_file.read_vocabulary(vocabulary, level, tokenizer)
    try:
        fields, named = state_dict.network(tensors, names or {}, told or nonlinearity)
        _arrange(fields, named, order, vocabulary)
        config = state_dict.check_arrays(fields, named)
    except ModelFileError as error:
        raise ModelFileError(f"{weights}: {error}") from None
    return LanguageModel(config, ours, flatten(named, config), {})


def _read(path: Path) -> tuple[dict[str, np.ndarray], str | None]:
    """The tensors of a file, floats as float32, and the nonlinearity of an rnn where the file tells it."""
    told = None
    if not _is_zip(checks.path("weights", path)):
        tensors = safetensors.read(path)[0]
    elif keras_file.is_keras(path):
        tensors, told = keras_file.read_keras(path)
    else:
        tensors = torch_file.read_torch(path)
    with checks.quiet():  # what is too large is noticed with what is not finite
        floats = {
            name: array.astype(np.float32) if array.dtype.kind == "f" else array for name, array in tensors.items()
        }
    return floats, told


def _is_zip(path: str) -> bool:
    """Tell whether a file is a zip archive, sound or damaged. A pipe is not opened, which would wait for its writer."""
    try:
        return os.path.isfile(path) and zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # one of several disks
        return True


def _arrange(fields: dict[str, Any], named: dict[str, np.ndarray], order: list[int], vocabulary: Path) -> None:
    """Put the tokens' rows into our order; a new <unk> reads as the mean token and is never likely."""
    V = fields["vocab_size"]
    if len(order) - (-1 in order) != V:
        raise ModelFileError(f"it has {V:,} tokens, but {vocabulary} has {len(order) - (-1 in order):,}.")
    for name in ("embedding.weight", "head.weight", "head.bias"):
        if name in named:
            array = named[name]
            if len(array) != V:
                raise ModelFileError(f"{name} must have {V:,} rows, one for each token, got {len(array):,}.")
            first = array.mean(axis=0, keepdims=True) if name == "embedding.weight" else np.zeros_like(array[:1])
            if name == "head.bias":
                first = first + np.float32(NEVER)
            with_new = np.concatenate([array, first])
            named[name] = np.ascontiguousarray(with_new[np.array(order)])  # -1 is the last row, the new one
    fields["vocab_size"] = len(order)
