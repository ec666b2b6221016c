"""What nblstm stores: a model (ModelConfig + Vocabulary + weights), a training checkpoint or a state, each one file.

All are safetensors files. A model's tensors have PyTorch's names and shapes, so that other programs read them:

    embedding.weight (V, E)    rnn.weight_ih_l{k} (4H, E or H)    rnn.bias_ih_l{k} (4H)    head.weight (V, H)
                               rnn.weight_hh_l{k} (4H, H)         rnn.bias_hh_l{k} (4H)    head.bias (V)

(no head.weight if the config says tie), those of a windowed model the names of `WindowConfig.shapes`. All else is one
JSON text in the container's metadata, under the key "nblstm", or of a windowed model "nblstm_window":

    {"format_version": 1, "config": ModelConfig (or WindowConfig), "vocabulary": Vocabulary,
     "training": facts about how it was made}

or, in a checkpoint, under "nblstm_checkpoint": {"format_version": 1, "facts": what the trainer needs}. Which tensors
and facts a checkpoint has is the trainer's business. A state has the tensors h and c (L, 1, H), top (1, F), and
under "nblstm_state":
{"format_version": 1, "fingerprint": that of the model it belongs to}.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nblstm.config import ModelConfig, WindowConfig, check_masking
from nblstm.errors import ConfigError, ModelFileError
from nblstm.files import safetensors
from nblstm.files.safetensors import Path
from nblstm.text.vocabulary import Vocabulary

FORMAT_VERSION = 1
MODEL, WINDOW, CHECKPOINT, STATE = "nblstm", "nblstm_window", "nblstm_checkpoint", "nblstm_state"  # metadata keys
KINDS = {MODEL: "model", WINDOW: "windowed model", CHECKPOINT: "training checkpoint", STATE: "state"}
KEYS: dict[type, str] = {ModelConfig: MODEL, WindowConfig: WINDOW}


@dataclass(frozen=True)
class ModelFile:
    """What a model file holds."""

    config: ModelConfig | WindowConfig
    vocabulary: Vocabulary
    weights: dict[str, np.ndarray]  # by PyTorch's names, of config.dtype, all finite
    training: dict[str, Any]  # how it was made: validation loss, steps, corpus, ...; may be empty


def save_model(
    path: Path,
    config: ModelConfig | WindowConfig,
    vocabulary: Vocabulary,
    weights: Mapping[str, np.ndarray],
    training: Mapping[str, Any] | None = None,
) -> None:
    """Write a model file, atomically.

    weights: name -> array of config.dtype. training: JSON values.
    ModelFileError if `load_model` would refuse the file, or it cannot be written.
    """
    _check_model(config, vocabulary, weights, path)
    document = {"config": config.to_dict(), "vocabulary": vocabulary.to_dict(), "training": dict(training or {})}
    _save(path, KEYS[type(config)], weights, document)


def load_model(path: Path, kind: type = ModelConfig) -> ModelFile:
    """Read a model file. ModelFileError says what is wrong with it. kind: ModelConfig or WindowConfig.

    Names and shapes of the weights are for `check_tensors`: the network knows which it needs.
    """
    weights, document = _load(path, KEYS[kind])
    config = _config(document, kind, path)
    vocabulary = _vocabulary(document, path)
    training = _object(document.get("training", {}), "training", path)
    _check_model(config, vocabulary, weights, path)
    return ModelFile(config, vocabulary, weights, training)


def check_tensors(weights: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]], path: Path) -> None:
    """Raise ModelFileError unless `weights` has exactly the names and shapes of `shapes`."""
    for name, shape in shapes.items():
        if name not in weights:
            raise ModelFileError(f"{path} lacks the tensor {name!r} that its config calls for.")
        if weights[name].shape != tuple(shape):
            raise ModelFileError(
                f"{path}: tensor {name!r} must have shape {tuple(shape)} by its config, got {weights[name].shape}."
            )
    unknown = sorted(set(weights) - set(shapes))
    if unknown:
        raise ModelFileError(f"{path} has a tensor {unknown[0]!r} that its config does not call for.")


def save_checkpoint(path: Path, tensors: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
    """Write a training checkpoint, atomically. facts: JSON values. ModelFileError if it cannot be written."""
    _save(path, CHECKPOINT, tensors, {"facts": dict(facts)})


def load_checkpoint(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The tensors and facts of a training checkpoint. ModelFileError if the file is not a readable one."""
    tensors, document = _load(path, CHECKPOINT)
    return tensors, _object(document.get("facts"), "facts", path)


def save_state(path: Path, tensors: Mapping[str, np.ndarray], fingerprint: str) -> None:
    """Write the state of the model with this fingerprint, atomically. ModelFileError if it cannot be written."""
    _save(path, STATE, tensors, {"fingerprint": fingerprint})


def load_state(path: Path, fingerprint: str, dtype: str) -> dict[str, np.ndarray]:
    """The tensors of a state, finite numbers of this dtype. ModelFileError if the file is not one of such a model.

    fingerprint: the model's. Names and shapes are for `check_tensors`.
    """
    tensors, document = _load(path, STATE)
    if document.get("fingerprint") != fingerprint:
        raise ModelFileError(f"{path} is the state of another model, or of this one before it was trained further.")
    for name, tensor in tensors.items():
        if tensor.dtype != dtype or not np.isfinite(tensor).all():
            raise ModelFileError(f"{path}: tensor {name!r} must hold finite {dtype} numbers; save the state again.")
    return tensors


# ------------------------------------------------------------------------------------------- tensors + a document


def _save(path: Path, key: str, tensors: Mapping[str, np.ndarray], document: dict[str, Any]) -> None:
    """Write tensors and, under the metadata key, the document and its format version."""
    try:
        text = json.dumps({"format_version": FORMAT_VERSION, **document}, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ModelFileError(f"cannot write {path}: what it should say is not JSON: {error}.") from None
    safetensors.write(path, tensors, {key: text})


def _load(path: Path, key: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The tensors and the document under the metadata key, its version checked."""
    tensors, metadata = safetensors.read(path)
    if key not in metadata:
        found = next((kind for other, kind in KINDS.items() if other in metadata), None)
        if found:
            raise ModelFileError(f"{path} is a {found}, not a {KINDS[key]}; name a {KINDS[key]} file.")
        raise ModelFileError(f"{path} is a safetensors file, but not an nblstm {KINDS[key]}.")
    try:
        document = json.loads(metadata[key])
    except (ValueError, RecursionError):
        raise ModelFileError(f"{path}: its {key} metadata is not JSON.") from None
    _check_version(_object(document, key, path).get("format_version"), path)
    return tensors, document


def _check_version(version: Any, path: Path) -> None:
    """Raise ModelFileError unless this nblstm reads the format version."""
    if type(version) is not int or version < 1:
        raise ModelFileError(f"{path}: format_version must be an integer >= 1, got {version!r:.40}.")
    if version > FORMAT_VERSION:
        raise ModelFileError(f"{path} was written by a newer nblstm (format {version!r:.40}); upgrade nblstm.")


def _object(value: Any, name: str, path: Path) -> dict[str, Any]:
    """The JSON value, if it is an object."""
    if not isinstance(value, dict):
        raise ModelFileError(f"{path}: its {name} must be a JSON object, got {value!r:.40}.")
    return value


# --------------------------------------------------------------------------------------------- the parts of a model


def _config(document: dict[str, Any], kind: type, path: Path) -> Any:
    """The document's config."""
    try:
        return kind.from_dict(_object(document.get("config"), "config", path))
    except (ConfigError, ArithmeticError) as error:  # math.isfinite(10**400) overflows
        raise ModelFileError(f"{path}: its config is not valid: {error}") from None


def _vocabulary(document: dict[str, Any], path: Path) -> Vocabulary:
    """The document's vocabulary."""
    fields = _object(document.get("vocabulary"), "vocabulary", path)
    try:
        return Vocabulary.from_dict(fields)
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from None


def _check_model(
    config: ModelConfig | WindowConfig, vocabulary: Vocabulary, weights: Mapping[str, np.ndarray], path: Path
) -> None:
    """Raise ModelFileError unless the three parts fit together and every weight is a finite number."""
    if len(vocabulary) != config.vocab_size:
        raise ModelFileError(f"{path}: vocab_size is {config.vocab_size}, but the vocabulary has {len(vocabulary)}.")
    try:
        check_masking(vocabulary.level, config.bidirectional)
    except ConfigError as error:
        raise ModelFileError(f"{path}: {error}") from None
    for name, weight in weights.items():
        if weight.dtype != config.dtype:
            raise ModelFileError(f"{path}: tensor {name!r} must be {config.dtype} by the config, got {weight.dtype}.")
        if not np.isfinite(weight).all():
            raise ModelFileError(f"{path}: tensor {name!r} has values that are not finite; the model is useless.")
