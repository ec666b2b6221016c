"""What nblstm stores: a model (ModelConfig + Vocabulary + weights), a training checkpoint, a state, a model of series.

Each is one safetensors file. A model's tensors have PyTorch's names and shapes, so that other programs read them:

    embedding.weight (V, E)    rnn.weight_ih_l{k} (4H, E or H)    rnn.bias_ih_l{k} (4H)    head.weight (V, H)
                               rnn.weight_hh_l{k} (4H, H)         rnn.bias_hh_l{k} (4H)    head.bias (V)

(no head.weight if the config says tie), those of a windowed model the names of `WindowConfig.shapes`. All else is one
JSON text in the container's metadata, under the key "nblstm", or of a windowed model "nblstm_window":

    {"format_version": 1, "config": ModelConfig (or WindowConfig), "vocabulary": Vocabulary,
     "training": facts about how it was made}

or, in a checkpoint, under "nblstm_checkpoint": {"format_version": 1, "facts": what the trainer needs}. Which tensors
and facts a checkpoint has is the trainer's business. A state has the tensors h and c (L, 1, H), top (1, F), and
under "nblstm_state":
{"format_version": 1, "fingerprint": that of the model it belongs to}. A model of series has the tensors of a model, but
no embedding, beside them those of SCALES (D,) and (K,) in float64, and under "nblstm_series": {"format_version": 1,
"config": SeriesConfig, "training": as in a model}.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nblstm.config import ModelConfig, SeriesConfig, WindowConfig, check_masking
from nblstm.errors import ConfigError, ModelFileError
from nblstm.files import safetensors
from nblstm.files.safetensors import Path
from nblstm.text.vocabulary import Vocabulary

FORMAT_VERSION = 1
MODEL, WINDOW, SERIES = "nblstm", "nblstm_window", "nblstm_series"  # metadata keys of the kinds of files
CHECKPOINT, STATE = "nblstm_checkpoint", "nblstm_state"
KINDS = {
    MODEL: "model", WINDOW: "windowed model", SERIES: "model of series", CHECKPOINT: "training checkpoint",
    STATE: "state",
}  # fmt: skip
READERS = {
    MODEL: "nblstm.load", WINDOW: "nblstm.MLPLanguageModel.load", SERIES: "nblstm.SeriesModel.load",
    CHECKPOINT: "nblstm train --resume", STATE: "nblstm sample --state",
}  # fmt: skip
KEYS: dict[type, str] = {ModelConfig: MODEL, WindowConfig: WINDOW, SeriesConfig: SERIES}  # metadata key of a config
SCALES = ("inputs.mean", "inputs.deviation", "targets.mean", "targets.deviation")  # by which series are standardised


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
    config = _config(kind, document, path)
    vocabulary = _vocabulary(document, path)
    training = _object(document.get("training", {}), "training", path)
    _check_model(config, vocabulary, weights, path)
    return ModelFile(config, vocabulary, weights, training)


def save_series(
    path: Path, config: SeriesConfig, weights: Mapping[str, np.ndarray], scales: Mapping[str, np.ndarray],
    training: Mapping[str, Any],
) -> None:  # fmt: skip
    """Write a model of series, atomically. scales: the arrays of SCALES; all else as in `save_model`."""
    _check_series(config, weights, scales, path)
    _save(path, SERIES, {**weights, **scales}, {"config": config.to_dict(), "training": dict(training)})


def load_series(path: Path) -> tuple[SeriesConfig, dict[str, np.ndarray], dict[str, np.ndarray], dict[str, Any]]:
    """The config, weights, scales and training facts of a model of series. ModelFileError as in `load_model`."""
    weights, document = _load(path, SERIES)
    config, scales = _config(SeriesConfig, document, path), {}
    for name in SCALES:
        if name in weights:
            scales[name] = weights.pop(name)
    _check_series(config, weights, scales, path)
    return config, weights, scales, _object(document.get("training", {}), "training", path)


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
        found = next((kind for kind in KINDS if kind in metadata), None)
        if found:
            raise ModelFileError(f"{path} is a {KINDS[found]}, not a {KINDS[key]}; {READERS[found]} reads it.")
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


def _config(kind: type, document: dict[str, Any], path: Path) -> Any:
    """The document's config, of this kind."""
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
    _check_weights(weights, config.dtype, path)


def _check_weights(weights: Mapping[str, np.ndarray], dtype: str, path: Path) -> None:
    """Raise ModelFileError unless every weight is a finite number of the config's dtype."""
    for name, weight in weights.items():
        if weight.dtype != dtype:
            raise ModelFileError(f"{path}: tensor {name!r} must be {dtype} by the config, got {weight.dtype}.")
        if not np.isfinite(weight).all():
            raise ModelFileError(f"{path}: tensor {name!r} has values that are not finite; the model is useless.")


def _check_series(config: SeriesConfig, weights: Mapping, scales: Mapping[str, np.ndarray], path: Path) -> None:
    """Raise ModelFileError unless weights and scales are finite, the scales of their sizes and above 0."""
    _check_weights(weights, config.dtype, path)
    sizes = {"inputs": config.embedding_size, "targets": config.vocab_size}
    check_tensors(scales, {name: (sizes[name.split(".")[0]],) for name in SCALES}, path)
    _check_weights(scales, "float64", path)
    for name in SCALES:
        if name.endswith("deviation") and not (scales[name] > 0).all():
            raise ModelFileError(f"{path}: tensor {name!r} must be above 0, got {scales[name].min()}.")
