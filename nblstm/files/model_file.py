"""The files of nblstm: a model (config, vocabulary, weights), a training checkpoint, a state.

Each is one safetensors file. A model's tensors have the names and shapes that its config calls for, those of PyTorch's
modules, so that other programs read them:

    embedding.weight (V, E)    rnn.weight_ih_l{k} (4H, E or H)    rnn.bias_ih_l{k} (4H)    head.weight (V, H)
                               rnn.weight_hh_l{k} (4H, H)         rnn.bias_hh_l{k} (4H)    head.bias (V)

(no head.weight if the config says tie), and beside them what `NetworkConfig.extra_shapes` names, in float64. A model
that has been prepared to learn while it reads (`nblstm.adapting`) has its gradient statistics, too: for every weight a
tensor of the same shape, whose name has STATISTICS before it. All else is one JSON text in the container's metadata,
under the key that the config's KEY is, "nblstm" for language models:

    {"format_version": 1, "config": its fields, "vocabulary": Vocabulary, "training": facts about how it was made}

and further vocabularies under the names that `NetworkConfig.more_vocabularies` has. A language model may have small
integers for its matrices: then its document says "weights": "int8" and format_version 2, every weight is an int8 tensor,
and beside it stand the scales of its rows, embedding.weight_scale (V,) float32 (`nblstm.nn.int8`). Or, in a checkpoint, under
"nblstm_checkpoint": {"format_version": 1, "facts": what the trainer needs}. Which tensors
and facts a checkpoint has is the trainer's business. A state has the tensors h and c (L, 1, H), top (1, F), and
under "nblstm_state": {"format_version": 1, "fingerprint": that of the model it belongs to}. Beside the document stands
the digest of it and of all tensors (`nblstm.files.digest`).

No field is believed before it is checked: the document is checked first, then the names, dtypes and shapes of the
tensors against it, and only then a tensor is read.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import tee
from typing import Any

import numpy as np

from nblstm.config import NetworkConfig, said
from nblstm.errors import ConfigError, ModelFileError
from nblstm.files import safetensors
from nblstm.files.digest import with_digest, without_digest
from nblstm.files.safetensors import Entry, Header, Path
from nblstm.nn.int8 import pack_tensors, packed_shapes, unpack_tensors
from nblstm.nn.parameters import flatten, named_tensors
from nblstm.text.vocabulary import Vocabulary, check_vocabulary

FORMAT_VERSION = 2  # the newest that is read
FLOATS, SMALL_INTEGERS = 1, 2  # the oldest that holds a file: so older readers refuse only what they cannot read
MAX_BRACKETS, MAX_COMMAS = 1000, 100_000  # of a document, outside of strings; a vocabulary has a comma for each token
BYTES_PER_COMMA = 8  # of tensors, at least, where there are more: every token has a row of the head
STATISTICS = "statistics."
CHECKPOINT, STATE = "nblstm_checkpoint", "nblstm_state"
FILE_KINDS = {  # metadata key -> what such a file is, and what reads it
    "nblstm": ("model", "nblstm.load"),
    "nblstm_window": ("windowed model", "nblstm.load"),
    "nblstm_series": ("model of series", "nblstm.load"),
    "nblstm_classifier": ("classifier of text", "nblstm.load"),
    "nblstm_translator": ("translator", "nblstm.load"),
    "nblstm_tagger": ("tagger of words", "nblstm.load"),
    CHECKPOINT: ("training checkpoint", "nblstm.train(resume=True)"),
    STATE: ("state", "load_state of its model"),
}


@dataclass(frozen=True, eq=False, repr=False)
class ModelFile:
    """The content of a model file."""

    config: NetworkConfig
    vocabulary: Vocabulary | None  # of a model of text
    weights: dict[str, np.ndarray]  # by PyTorch's names, of config.dtype and the shapes that it calls for, all finite
    extras: dict[str, np.ndarray]  # what config.extra_shapes calls for, float64, all finite
    training: dict[str, Any]  # how it was made: validation loss, steps, corpus, ...; may be empty
    more: dict[str, Vocabulary] = field(default_factory=dict)  # what config.more_vocabularies names
    statistics: dict[str, np.ndarray] = field(default_factory=dict)  # like the weights, not negative; empty: none
    int8: bool = False  # the matrices are rounded, see `nblstm.nn.int8`, and stored as small integers

    @classmethod
    def of(
        cls, config: NetworkConfig, vocabulary: Vocabulary | None, parameters: np.ndarray,
        extras: dict[str, np.ndarray], training: dict[str, Any],
    ) -> ModelFile:  # fmt: skip
        """Make what is stored of a network with these flat parameters, which are shared."""
        return cls(config, vocabulary, named_tensors(parameters, config), extras, training)

    @property
    def parameters(self) -> np.ndarray:
        """The weights in a flat buffer (config.num_parameters,) of config.dtype, as a network takes them; a new one."""
        return flatten(self.weights, self.config)


def save_model(path: Path, file: ModelFile) -> None:
    """Write a model file, atomically. ModelFileError if `load_model` would refuse it, or it cannot be written."""
    config, vocabulary = file.config, file.vocabulary
    _check_parts(config, vocabulary, file.more, path)
    statistics = {STATISTICS + name: array for name, array in file.statistics.items()}
    weights = pack_tensors(config, file.weights) if file.int8 else file.weights
    _check_arrays(config, weights, file.extras, statistics, path, file.int8)
    tensors = {**weights, **file.extras, **statistics}
    _check_finite(tensors, path)
    words = {name: each.to_dict() for name, each in {"vocabulary": vocabulary, **file.more}.items() if each is not None}
    document = {"config": config.to_dict(), **words, "training": dict(file.training)}
    if file.int8:
        return _save(path, config.KEY, tensors, {"weights": "int8", **document}, SMALL_INTEGERS)
    _save(path, config.KEY, tensors, document)


def load_model(path: Path, kinds: Iterable[type[NetworkConfig]]) -> ModelFile:
    """Read a model file whose config is one of these kinds, asked for up to its own. ModelFileError says what is wrong."""
    kinds, keyed = tee(kinds)

    def check(key: str, document: dict[str, Any], entries: Mapping[str, Entry]) -> ModelFile:
        fields = _object(document.get("config"), "config", path)
        kind = next((kind for kind in kinds if key == kind.KEY and kind.owns(fields)), None)
        if kind is None:
            raise ModelFileError(f"{path} holds a model of another task; nblstm.load reads it.")
        config = _config(kind, fields, path)
        vocabulary = _vocabulary(document, "vocabulary", path) if kind.has_vocabulary else None
        more = {name: _vocabulary(document, name, path) for name in config.more_vocabularies}
        training = _object(document.get("training", {}), "training", path)
        _check_parts(config, vocabulary, more, path)
        int8 = _is_int8(document, config, path)
        _check_arrays(config, *_sorted(config, entries), path, int8)
        return ModelFile(config, vocabulary, {}, {}, training, more, int8=int8)

    tensors, file = _load(path, (kind.KEY for kind in keyed), check)
    _check_finite(tensors, path)
    weights, extras, statistics = _sorted(file.config, tensors)
    if file.int8:
        weights = _unpacked(file.config, weights, path)
    statistics = {name.removeprefix(STATISTICS): array for name, array in statistics.items()}
    return dataclasses.replace(file, weights=weights, extras=extras, statistics=statistics)


def _is_int8(document: Mapping[str, Any], config: NetworkConfig, path: Path) -> bool:
    """Tell whether a document says that matrices are small integers. ModelFileError for anything else that it says."""
    if "weights" not in document:
        return False
    if document["weights"] != "int8":
        raise ModelFileError(f"{path}: its weights must be int8 where they are named, got {said(document['weights'])}.")
    if not config.may_be_int8 or config.dtype != "float32":
        raise ModelFileError(f"{path}: only language models in float32 have int8 weights, and this is another.")
    return True


def _unpacked(config: NetworkConfig, tensors: Mapping[str, np.ndarray], path: Path) -> dict[str, np.ndarray]:
    """Return the weights that small integers and scales make. ModelFileError unless they are as `pack_tensors` makes them."""
    try:
        with np.errstate(over="ignore"):
            weights = unpack_tensors(config, tensors)
    except MemoryError:
        raise ModelFileError(f"{path} needs more memory than is free; close other programs.") from None
    _check_finite(weights, path)
    for name, tensor in pack_tensors(config, weights).items():
        if tensor.tobytes() != tensors[name].tobytes():
            raise ModelFileError(
                f"{path}: tensor {name!r} is not rounded as int8 weights are, so it stands for nothing exactly; quantize "
                "the model again."
            )
    return weights


def _sorted(config: NetworkConfig, tensors: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Sort tensors, or entries of a header, into weights, extras and statistics, by their names."""
    extras = {name: tensor for name, tensor in tensors.items() if name in config.extra_shapes}
    statistics = {name: tensor for name, tensor in tensors.items() if config.may_adapt and name.startswith(STATISTICS)}
    weights = {name: tensor for name, tensor in tensors.items() if name not in extras and name not in statistics}
    return weights, extras, statistics


def _check_arrays(
    config: NetworkConfig, weights: Mapping[str, Any], extras: Mapping[str, Any], statistics: Mapping[str, Any],
    path: Path, int8: bool = False,
) -> None:  # fmt: skip
    """Raise ModelFileError unless arrays or entries of a header have the names, shapes and dtypes of the config.

    statistics: as they are named in a file; may be empty. int8: whether matrices are small integers.
    """
    packed = packed_shapes(config) if int8 else {name: (shape, config.dtype) for name, shape in config.shapes.items()}
    check_tensors(weights, {name: shape for name, (shape, _) in packed.items()}, path)
    check_tensors(extras, config.extra_shapes, path)
    if statistics:
        check_tensors(statistics, {STATISTICS + name: shape for name, shape in config.shapes.items()}, path)
    dtypes = {name: dtype for name, (_, dtype) in packed.items()}
    dtypes |= dict.fromkeys(statistics, config.dtype) | dict.fromkeys(extras, "float64")
    for arrays in (weights, statistics, extras):
        for name, array in arrays.items():
            if array.dtype != (dtype := dtypes[name]):
                raise ModelFileError(f"{path}: tensor {name!r:.80} must be {dtype} by the config, got {array.dtype}.")


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

    def checked(key: str, document: dict[str, Any], entries: Mapping[str, Entry]) -> dict[str, Any]:
        facts = _object(document.get("facts"), "facts", path)
        check(facts, entries)
        return facts

    return _load(path, {CHECKPOINT}, checked)


def save_state(path: Path, tensors: Mapping[str, np.ndarray], fingerprint: str) -> None:
    """Write the state of the model with this fingerprint, atomically. ModelFileError if it cannot be written."""
    _save(path, STATE, tensors, {"fingerprint": fingerprint})


def load_state(
    path: Path, fingerprint: str, shapes: Mapping[str, tuple[int, ...]], dtype: str
) -> dict[str, np.ndarray]:
    """Read the tensors of a state, finite numbers of these shapes and this dtype. ModelFileError if it is another's.

    fingerprint: the model's.
    """

    def check(key: str, document: dict[str, Any], entries: Mapping[str, Entry]) -> None:
        if document.get("fingerprint") != fingerprint:
            raise ModelFileError(f"{path} is the state of another model, or of this one before it was trained further.")
        check_tensors(entries, shapes, path)
        for name, entry in entries.items():
            if entry.dtype != dtype:
                raise _useless_state(name, dtype, path)

    tensors, _ = _load(path, {STATE}, check)
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise _useless_state(name, dtype, path)
    return tensors


def _useless_state(name: str, dtype: str, path: Path) -> ModelFileError:
    return ModelFileError(f"{path}: tensor {name!r} must hold finite {dtype} numbers; save the state again.")


# ------------------------------------------------------------------------------------------- tensors + a document


def check_same_kind(path: Path, key: str) -> None:
    """Raise ModelFileError if a file of ours is there that `key` does not replace: a model, say, where a state goes."""
    try:
        found = FILE_KINDS.keys() & safetensors.read_header(path).metadata.keys()
    except ModelFileError:  # none is there, or it is damaged, or no file of ours: `safetensors.write` looks at that
        return
    others = [name for name in found if name != key and {name, key} & {CHECKPOINT, STATE}]
    if others:
        old, new = FILE_KINDS[others[0]][0], FILE_KINDS[key][0]
        raise ModelFileError(f"{path} is a {old}; a {new} does not replace it, choose another name.")


def _save(
    path: Path, key: str, tensors: Mapping[str, np.ndarray], document: dict[str, Any], version: int = FLOATS
) -> None:
    """Write tensors and, under the metadata key, the document and its format version; the digest of both."""
    check_same_kind(path, key)
    try:
        text = json.dumps({"format_version": version, **document}, separators=(",", ":"), allow_nan=False)
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
    path: Path, keys: Iterable[str], check: Callable[[str, dict[str, Any], Mapping[str, Entry]], Any]
) -> tuple[dict[str, np.ndarray], Any]:
    """Read the tensors, and what `check` makes of the metadata's key, its document and the header's entries."""
    found: list[Any] = []

    def checked(header: Header) -> None:
        key = _key(header, keys, path)
        found.append(check(key, _document(header, key, path), header.tensors))

    tensors, metadata = safetensors.read(path, checked)
    without_digest(tensors, metadata, path)
    return tensors, found[0]


def _key(header: Header, keys: Iterable[str], path: Path) -> str:
    """Find the metadata key that says what a file is, the first of `keys`."""
    others = []
    for key in keys:
        if key in header.metadata:
            return key
        others.append(key)
    wanted = FILE_KINDS.get(others[0], ("model",))[0]
    for key, (what, reader) in FILE_KINDS.items():
        if key in header.metadata:
            raise ModelFileError(f"{path} is a {what}, not a {wanted}; {reader} reads it.")
    raise ModelFileError(f"{path} is a safetensors file, but not an nblstm {wanted}.")


def _document(header: Header, key: str, path: Path) -> dict[str, Any]:
    """Parse the document under the metadata key, its version checked."""
    metadata = header.metadata
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
    """Return the JSON value, if it is an object."""
    if not isinstance(value, dict):
        raise ModelFileError(f"{path}: its {name} must be a JSON object, got {said(value)}.")
    return value


# --------------------------------------------------------------------------------------------- the parts of a model


def _config(kind: type[NetworkConfig], fields: dict[str, Any], path: Path) -> NetworkConfig:
    """Make the config of stored fields."""
    try:
        return kind.from_dict(fields)
    except (ConfigError, ArithmeticError) as error:  # math.isfinite(10**400) overflows
        raise ModelFileError(f"{path}: its config is not valid: {error}") from None


def _vocabulary(document: dict[str, Any], name: str, path: Path) -> Vocabulary:
    """Return a vocabulary of the document."""
    fields = _object(document.get(name), name, path)
    try:
        return Vocabulary.from_dict(fields)
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from None


def _check_parts(
    config: NetworkConfig, vocabulary: Vocabulary | None, more: Mapping[str, Vocabulary], path: Path
) -> None:
    """Raise ModelFileError unless config and vocabularies fit together."""
    if {name: len(each) for name, each in more.items()} != config.more_vocabularies:
        sizes = ", ".join(f"{name} of {size:,} tokens" for name, size in config.more_vocabularies.items())
        raise ModelFileError(f"{path}: its config calls for {sizes or 'one vocabulary'}, and others are there.")
    if vocabulary is None:
        return
    try:
        check_vocabulary(type(config), config, vocabulary)
    except ConfigError as error:
        raise ModelFileError(f"{path}: {error}") from None


def _check_finite(weights: Mapping[str, np.ndarray], path: Path) -> None:
    """Raise ModelFileError unless every weight is a finite number."""
    for name, weight in weights.items():
        if not np.isfinite(weight).all():
            raise ModelFileError(f"{path}: tensor {name!r:.80} has values that are not finite; the model is useless.")
