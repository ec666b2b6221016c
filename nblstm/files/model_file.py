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
"config": SeriesConfig, "training": as in a model}. Beside the document stands the digest of it and of all tensors
(`nblstm.files.digest`).

No field is believed before it is checked: the document is checked first, then the names, dtypes and shapes of the
tensors against it, and only then a tensor is read.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nblstm.config import ModelConfig, SeriesConfig, WindowConfig, check_masking, said
from nblstm.errors import ConfigError, ModelFileError
from nblstm.files import safetensors
from nblstm.files.digest import with_digest, without_digest
from nblstm.files.safetensors import Entry, Header, Path
from nblstm.text.vocabulary import Vocabulary

FORMAT_VERSION = 1
MAX_BRACKETS, MAX_COMMAS = 1000, 100_000  # of a document, outside of strings; a vocabulary has a comma for each token
BYTES_PER_COMMA = 8  # of tensors, at least, where there are more: every token has a row of the head
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
Shapes = Callable[[Any], Mapping[str, "tuple[int, ...]"]]  # config -> name -> shape of the weights that it calls for
SCALES = ("inputs.mean", "inputs.deviation", "targets.mean", "targets.deviation")  # by which series are standardised


@dataclass(frozen=True)
class ModelFile:
    """What a model file holds."""

    config: ModelConfig | WindowConfig
    vocabulary: Vocabulary
    weights: dict[str, np.ndarray]  # by PyTorch's names, of config.dtype and the shapes that it calls for, all finite
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
    _check_parts(config, vocabulary, path)
    _check_dtypes(weights, config.dtype, path)
    _check_finite(weights, path)
    document = {"config": config.to_dict(), "vocabulary": vocabulary.to_dict(), "training": dict(training or {})}
    _save(path, KEYS[type(config)], weights, document)


def load_model(path: Path, shapes: Shapes, kind: type = ModelConfig) -> ModelFile:
    """Read a model file. ModelFileError says what is wrong with it.

    shapes: config -> name -> shape of the weights that it calls for. kind: ModelConfig or WindowConfig.
    """

    def check(document: dict[str, Any], entries: Mapping[str, Entry]) -> ModelFile:
        config, vocabulary = _config(kind, document, path), _vocabulary(document, path)
        training = _object(document.get("training", {}), "training", path)
        _check_parts(config, vocabulary, path)
        check_tensors(entries, shapes(config), path)
        _check_dtypes(entries, config.dtype, path)
        return ModelFile(config, vocabulary, {}, training)

    weights, file = _load(path, KEYS[kind], check)
    _check_finite(weights, path)
    return dataclasses.replace(file, weights=weights)


def save_series(
    path: Path, config: SeriesConfig, weights: Mapping[str, np.ndarray], scales: Mapping[str, np.ndarray],
    training: Mapping[str, Any],
) -> None:  # fmt: skip
    """Write a model of series, atomically. scales: the arrays of SCALES; all else as in `save_model`."""
    _check_dtypes(weights, config.dtype, path)
    _check_scales(config, scales, path)
    _check_finite({**weights, **scales}, path)
    _check_deviations(scales, path)
    _save(path, SERIES, {**weights, **scales}, {"config": config.to_dict(), "training": dict(training)})


def load_series(
    path: Path, shapes: Shapes
) -> tuple[SeriesConfig, dict[str, np.ndarray], dict[str, np.ndarray], dict[str, Any]]:
    """Read the config, weights, scales and training facts of a model of series. Arguments and errors: `load_model`."""

    def check(document: dict[str, Any], entries: Mapping[str, Entry]) -> tuple[SeriesConfig, dict[str, Any]]:
        config = _config(SeriesConfig, document, path)
        training = _object(document.get("training", {}), "training", path)
        weights = {name: entry for name, entry in entries.items() if name not in SCALES}
        scales = {name: entry for name, entry in entries.items() if name in SCALES}
        check_tensors(weights, shapes(config), path)
        _check_dtypes(weights, config.dtype, path)
        _check_scales(config, scales, path)
        return config, training

    weights, (config, training) = _load(path, SERIES, check)
    _check_finite(weights, path)
    scales = {name: weights.pop(name) for name in SCALES}
    _check_deviations(scales, path)
    return config, weights, scales, training


def check_tensors(weights: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], path: Path) -> None:
    """Raise ModelFileError unless `weights`, arrays or entries of a header, has exactly these names and shapes."""
    for name, shape in shapes.items():
        if name not in weights:
            raise ModelFileError(f"{path} lacks the tensor {name!r} that its config calls for.")
        if weights[name].shape != tuple(shape):
            raise ModelFileError(
                f"{path}: tensor {name!r} must have shape {tuple(shape)} by its config, got {weights[name].shape}."
            )
    unknown = sorted(set(weights) - set(shapes))
    if unknown:
        raise ModelFileError(f"{path} has a tensor {unknown[0]!r:.80} that its config does not call for.")


def save_checkpoint(path: Path, tensors: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
    """Write a training checkpoint, atomically. facts: JSON values. ModelFileError if it cannot be written."""
    _save(path, CHECKPOINT, tensors, {"facts": dict(facts)})


def load_checkpoint(
    path: Path, check: Callable[[dict[str, Any], Mapping[str, Entry]], Any] = lambda facts, entries: None
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read the tensors and facts of a training checkpoint. ModelFileError if the file is not a readable one.

    check: asked with the facts and the header's entries before a tensor is read; what it raises is raised.
    """

    def checked(document: dict[str, Any], entries: Mapping[str, Entry]) -> dict[str, Any]:
        facts = _object(document.get("facts"), "facts", path)
        check(facts, entries)
        return facts

    return _load(path, CHECKPOINT, checked)


def save_state(path: Path, tensors: Mapping[str, np.ndarray], fingerprint: str) -> None:
    """Write the state of the model with this fingerprint, atomically. ModelFileError if it cannot be written."""
    _save(path, STATE, tensors, {"fingerprint": fingerprint})


def load_state(
    path: Path, fingerprint: str, shapes: Mapping[str, tuple[int, ...]], dtype: str
) -> dict[str, np.ndarray]:
    """Read the tensors of a state, finite numbers of these shapes and this dtype. ModelFileError if it is another's.

    fingerprint: the model's.
    """

    def check(document: dict[str, Any], entries: Mapping[str, Entry]) -> None:
        if document.get("fingerprint") != fingerprint:
            raise ModelFileError(f"{path} is the state of another model, or of this one before it was trained further.")
        check_tensors(entries, shapes, path)
        for name, entry in entries.items():
            if entry.dtype != dtype:
                raise _useless_state(name, dtype, path)

    tensors, _ = _load(path, STATE, check)
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise _useless_state(name, dtype, path)
    return tensors


def _useless_state(name: str, dtype: str, path: Path) -> ModelFileError:
    return ModelFileError(f"{path}: tensor {name!r} must hold finite {dtype} numbers; save the state again.")


# ------------------------------------------------------------------------------------------- tensors + a document


def _save(path: Path, key: str, tensors: Mapping[str, np.ndarray], document: dict[str, Any]) -> None:
    """Write tensors and, under the metadata key, the document and its format version; the digest of both."""
    try:
        text = json.dumps({"format_version": FORMAT_VERSION, **document}, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ModelFileError(f"cannot write {path}: what it should say is not JSON: {error}.") from None
    if not _is_modest(text, sum(tensor.nbytes for tensor in tensors.values())):
        raise ModelFileError(f"cannot write {path}: its {key} document is too large for its tensors; shorten it.")
    safetensors.write(path, tensors, with_digest(tensors, {key: text}))


def _is_modest(text: str, num_bytes: int) -> bool:
    """Tell whether a document takes little memory when parsed, beside tensors of so many bytes."""
    if not text.isascii():
        return len(text) <= safetensors.SMALL // 4
    return safetensors.is_modest(text.encode(), MAX_BRACKETS, MAX_COMMAS + num_bytes // BYTES_PER_COMMA)


def _load(
    path: Path, key: str, check: Callable[[dict[str, Any], Mapping[str, Entry]], Any]
) -> tuple[dict[str, np.ndarray], Any]:
    """Read the tensors, and what `check` makes of the document under the metadata key and of the header's entries."""
    found: list[Any] = []
    tensors, metadata = safetensors.read(
        path, lambda header: found.append(check(_document(header, key, path), header.tensors))
    )
    without_digest(tensors, metadata, path)
    return tensors, found[0]


def _document(header: Header, key: str, path: Path) -> dict[str, Any]:
    """Parse the document under the metadata key, its version checked."""
    metadata = header.metadata
    if key not in metadata:
        found = next((kind for kind in KINDS if kind in metadata), None)
        if found:
            raise ModelFileError(f"{path} is a {KINDS[found]}, not a {KINDS[key]}; {READERS[found]} reads it.")
        raise ModelFileError(f"{path} is a safetensors file, but not an nblstm {KINDS[key]}.")
    if not _is_modest(metadata[key], sum(entry.end - entry.begin for entry in header.tensors.values())):
        raise ModelFileError(f"{path}: its {key} metadata is far too large for its tensors.")
    try:
        document = json.loads(metadata[key])
    except (ValueError, RecursionError):
        raise ModelFileError(f"{path}: its {key} metadata is not JSON.") from None
    _check_version(_object(document, key, path).get("format_version"), path)
    return document


def _check_version(version: Any, path: Path) -> None:
    """Raise ModelFileError unless this nblstm reads the format version."""
    if type(version) is not int or version < 1:
        raise ModelFileError(f"{path}: format_version must be an integer >= 1, got {said(version)}.")
    if version > FORMAT_VERSION:
        raise ModelFileError(f"{path} was written by a newer nblstm (format {said(version)}); upgrade nblstm.")


def _object(value: Any, name: str, path: Path) -> dict[str, Any]:
    """The JSON value, if it is an object."""
    if not isinstance(value, dict):
        raise ModelFileError(f"{path}: its {name} must be a JSON object, got {said(value)}.")
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


def _check_parts(config: ModelConfig | WindowConfig, vocabulary: Vocabulary, path: Path) -> None:
    """Raise ModelFileError unless config and vocabulary fit together."""
    if len(vocabulary) != config.vocab_size:
        raise ModelFileError(f"{path}: vocab_size is {config.vocab_size}, but the vocabulary has {len(vocabulary)}.")
    try:
        check_masking(vocabulary.level, config.bidirectional)
    except ConfigError as error:
        raise ModelFileError(f"{path}: {error}") from None


def _check_dtypes(weights: Mapping[str, Any], dtype: str, path: Path) -> None:
    """Raise ModelFileError unless every weight, an array or an entry of a header, is of the config's dtype."""
    for name, weight in weights.items():
        if weight.dtype != dtype:
            raise ModelFileError(f"{path}: tensor {name!r:.80} must be {dtype} by the config, got {weight.dtype}.")


def _check_finite(weights: Mapping[str, np.ndarray], path: Path) -> None:
    """Raise ModelFileError unless every weight is a finite number."""
    for name, weight in weights.items():
        if not np.isfinite(weight).all():
            raise ModelFileError(f"{path}: tensor {name!r:.80} has values that are not finite; the model is useless.")


def _check_scales(config: SeriesConfig, scales: Mapping[str, Any], path: Path) -> None:
    """Raise ModelFileError unless the scales, arrays or entries of a header, are float64 and of their sizes."""
    sizes = {"inputs": config.embedding_size, "targets": config.vocab_size}
    check_tensors(scales, {name: (sizes[name.split(".")[0]],) for name in SCALES}, path)
    _check_dtypes(scales, "float64", path)


def _check_deviations(scales: Mapping[str, np.ndarray], path: Path) -> None:
    """Raise ModelFileError unless every deviation is above 0."""
    for name in SCALES:
        if name.endswith("deviation") and not (scales[name] > 0).all():
            raise ModelFileError(f"{path}: tensor {name!r} must be above 0, got {scales[name].min()}.")
