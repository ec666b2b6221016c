"""Keras' .keras files: a chain of layers and their weights, by PyTorch's names. Needs h5py, not Keras.

Such a file is a zip archive: `config.json` describes the layers, `model.weights.h5` holds their arrays, those of the second
LSTM under layers/lstm_1/cell/vars. Nothing of it is run or followed: a link in the HDF5 file, a compressed part, an array that
is stored elsewhere or smaller than it says are refused.
"""

from __future__ import annotations

import io
import json
import os
import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from nblstm import checks
from nblstm.errors import ConfigError, ModelFileError
from nblstm.files.safetensors import Path

MEMBERS = ("config.json", "model.weights.h5")
MAX_CONFIG = 1 << 24  # bytes
MAX_DEPTH, MAX_OBJECTS = 12, 10_000  # groups within groups; groups and arrays of a file
CELLS_OF_KERAS = {"LSTM": (0, 1, 2, 3), "GRU": (1, 0, 2), "SimpleRNN": (0,)}  # our blocks of gates among theirs
SILENT = (
    "InputLayer",
    "Dropout",
    "SpatialDropout1D",
    "GaussianNoise",
    "GaussianDropout",
    "Masking",
)  # in training alone

Arrays = dict[str, np.ndarray]


def is_keras(path: Path) -> bool:
    """Tell whether a zip archive is one of Keras; a damaged one is none."""
    try:
        with zipfile.ZipFile(path) as archive:
            return set(MEMBERS) <= set(archive.namelist())
    except Exception:  # a damaged archive can go wrong in many ways; whoever reads it says that it is
        return False


def read_keras(path: Path) -> tuple[Arrays, str | None]:
    """Return (the tensors of a .keras file by PyTorch's names, the nonlinearity of a SimpleRNN or None).

    The model must be an Embedding, unless it reads one-hot vectors, LSTM, GRU or SimpleRNN layers and a Dense one, in a
    chain. ModelFileError says what is wrong with the file or what it has beside these, ConfigError that h5py is missing.
    """
    try:
        import h5py
    except ImportError:
        raise ConfigError(
            'reading a .keras file needs h5py, which is not installed: pip install "nblstm[keras]".'
        ) from None
    try:
        with zipfile.ZipFile(checks.path("path", path)) as archive:
            config, data = (_member(archive, name, os.path.getsize(path)) for name in MEMBERS)
        with h5py.File(io.BytesIO(data), "r") as file:
            arrays = dict(_arrays(h5py, file, "", 0, [MAX_OBJECTS]))
        return _network(_layers(json.loads(config)), arrays)
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from None
    except OSError as error:
        raise ModelFileError(f"cannot read {path}: {error.strerror or 'it is no HDF5 file inside'}.") from None
    except MemoryError:
        raise ModelFileError(f"{path} needs more memory than is free; close other programs.") from None
    except Exception as error:  # a damaged HDF5 file can go wrong in every way that h5py knows
        raise ModelFileError(f"{path} is damaged or not a .keras file: {type(error).__name__}.") from None


def _member(archive: zipfile.ZipFile, name: str, size: int) -> bytes:
    """A file of the archive, which is of so many bytes."""
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED or info.file_size > size:
        raise ModelFileError(f"{name} is compressed, as Keras does not write it; save the model again.")
    if name == MEMBERS[0] and info.file_size > MAX_CONFIG:
        raise ModelFileError(f"{name} is larger than {MAX_CONFIG:,} bytes; it is no model of layers.")
    return archive.read(info)


def _arrays(h5py: Any, group: Any, place: str, depth: int, left: list[int]) -> Iterator[tuple[str, np.ndarray]]:
    """Every array of a group and those in it, by its path."""
    if depth > MAX_DEPTH:
        raise ModelFileError(f"its groups are nested deeper than {MAX_DEPTH}; Keras writes no such file.")
    for name in group:
        left[0] -= 1
        if left[0] < 0:
            raise ModelFileError(f"it has more than {MAX_OBJECTS:,} groups and arrays; it is too large to come in.")
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ModelFileError(f"{f'{place}/{name}'[:80]!r} is a link to elsewhere, which is not followed.")
        found = group[name]
        if isinstance(found, h5py.Group):
            yield from _arrays(h5py, found, f"{place}/{name}", depth + 1, left)
        elif isinstance(found, h5py.Dataset):
            yield f"{place}/{name}", _array(found, f"{place}/{name}")


def _array(dataset: Any, name: str) -> np.ndarray:
    """The numbers of a dataset, all of which are in the file itself."""
    plain = dataset.id.get_create_plist().get_nfilters() == 0 and not dataset.is_virtual and not dataset.external
    if not plain or dataset.id.get_storage_size() < dataset.nbytes:
        raise ModelFileError(f"array {name[:80]!r} is not stored plainly, as Keras does; save the model again.")
    if dataset.dtype.kind not in "fiu" or dataset.ndim > 2:
        raise ModelFileError(f"array {name[:80]!r} holds no matrix or vector of numbers.")
    return np.asarray(dataset[()])


# ---------------------------------------------------------------- layers


def _layers(config: Any) -> list[tuple[str, dict[str, Any]]]:
    """(class, settings) of the layers of a chain, in its order, the silent ones and their like left out."""
    found, before = [], None
    for layer in config["config"]["layers"]:
        kind, name = str(layer["class_name"]), layer["config"]["name"]
        nodes = layer.get("inbound_nodes")
        if nodes and (len(nodes) != 1 or set(_sources(nodes[0], 0)) != {before}):
            raise ModelFileError(f"layer {name!r:.80} does not read the one before it alone; only chains come in.")
        before = name
        if kind not in SILENT and not _is_softmax(kind, layer["config"]):
            found.append((kind, layer["config"]))
    return found


def _is_softmax(kind: str, settings: Mapping[str, Any]) -> bool:
    """Tell whether a layer makes probabilities of logits, or nothing: our heads do that themselves."""
    return (kind == "Activation" and settings["activation"] in ("linear", "softmax")) or (
        kind == "Softmax" and settings.get("axis", -1) == -1
    )


def _sources(node: Any, depth: int) -> Iterator[Any]:
    """The names of the layers that a node of a functional model reads."""
    if depth > MAX_DEPTH:
        raise ModelFileError("the description of its layers is nested too deeply; Keras writes no such file.")
    if isinstance(node, Mapping):
        if "keras_history" in node:
            yield node["keras_history"][0]
        for value in node.values():
            yield from _sources(value, depth + 1)
    elif isinstance(node, list):
        for value in node:
            yield from _sources(value, depth + 1)


def _network(layers: list[tuple[str, dict[str, Any]]], arrays: Arrays) -> tuple[Arrays, str | None]:
    """The tensors of the layers by PyTorch's names, and the nonlinearity."""
    kinds = [kind for kind, _ in layers]
    recurrent = [kind for kind in kinds if kind in CELLS_OF_KERAS]
    chain = ["Embedding"] * (kinds[:1] == ["Embedding"]) + recurrent
    heads = ([*chain, "Dense"], [*chain, "TimeDistributed"])
    if not recurrent or len(set(recurrent)) > 1 or kinds not in heads:
        raise ModelFileError(
            f"it must be an Embedding, LSTM, GRU or SimpleRNN layers of one kind and a Dense layer, got {', '.join(kinds)[:200]}."
        )
    sizes = [settings["units"] for kind, settings in layers if kind in CELLS_OF_KERAS]
    if len(set(map(str, sizes))) > 1:
        raise ModelFileError(
            f"its {recurrent[0]} layers must have as many units as each other, got {str(sizes)[1:-1]:.80}."
        )
    named: Arrays = {}
    counts: Counter[str] = Counter()
    for kind, settings in layers:
        base = re.sub(r"([a-z])([A-Z])", r"\1_\2", re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", kind)).lower()
        place = f"{base}_{counts[kind]}" if counts[kind] else base
        parts = _parts(arrays, place)
        if kind in CELLS_OF_KERAS:
            cell = _cell_tensors(kind, settings, parts)
            named |= {f"rnn.{name}_l{counts[kind]}": array for name, array in cell.items()}
        elif kind == "Embedding":
            named["embedding.weight"] = parts[0]
        else:
            dense: Any = settings["layer"] if kind == "TimeDistributed" else {"class_name": "Dense", "config": settings}
            _require(dense["class_name"], "Dense", "the layer of a TimeDistributed")
            _require(dense["config"]["activation"], ("linear", "softmax"), "the activation of the Dense layer")
            named["head.weight"] = parts[0].T
            named["head.bias"] = parts[1] if len(parts) > 1 else np.zeros(parts[0].shape[1], np.float32)
        counts[kind] += 1
    named = {name: np.ascontiguousarray(array, np.float32) for name, array in named.items()}
    return named, layers[-2][1]["activation"] if "SimpleRNN" in recurrent else None


def _parts(arrays: Arrays, place: str) -> list[np.ndarray]:
    """The arrays of a layer in their order: those whose path has the layer's name."""
    found = {}
    for path, array in arrays.items():
        match = re.fullmatch(rf".*/{place}(?:/cell|/layer)?/vars/(\d+)", path)
        if match:
            found[int(match[1])] = array
    if not found or sorted(found) != list(range(len(found))):
        raise ModelFileError(f"the weights of the layer {place!r:.80} are not there, as Keras 3 stores them.")
    return [found[k] for k in range(len(found))]


def _require(found: Any, allowed: Any, what: str) -> None:
    """Raise ModelFileError unless a setting is one that nblstm's cells have."""
    choices = allowed if isinstance(allowed, tuple) else (allowed,)
    if found not in choices:
        raise ModelFileError(f"{what} must be {' or '.join(map(str, choices))}, got {found!r:.80}.")


def _cell_tensors(kind: str, settings: Mapping[str, Any], parts: list[np.ndarray]) -> Arrays:
    """The tensors of a recurrent layer, its gates in PyTorch's order; Keras' matrices are transposed."""
    _require(settings["activation"], ("tanh", "relu") if kind == "SimpleRNN" else "tanh", f"the activation of {kind}")
    _require(settings.get("go_backwards", False), False, f"go_backwards of {kind}")
    if kind != "SimpleRNN":
        _require(settings["recurrent_activation"], "sigmoid", f"the recurrent_activation of {kind}")
    if kind == "GRU":
        _require(settings["reset_after"], True, "reset_after of GRU")
    order, H = CELLS_OF_KERAS[kind], int(settings["units"])
    blocks = lambda array: array.reshape(-1, H, *array.shape[1:])[list(order)].reshape(array.shape)
    G = len(order) * H
    if len(parts) not in (2, 3) or any(part.ndim != 2 or part.shape[1] != G for part in parts[:2]):
        raise ModelFileError(f"the weights of {kind} are not of {H} units; the file is damaged.")
    biases = np.zeros((2, G), np.float32)
    if len(parts) == 3:
        biases[: len(np.atleast_2d(parts[2]))] = parts[2]  # one, or of a GRU both
    tensors = {"weight_ih": parts[0].T, "weight_hh": parts[1].T, "bias_ih": biases[0], "bias_hh": biases[1]}
    return {name: blocks(np.ascontiguousarray(array)) for name, array in tensors.items()}
