"""Named tensors of an embedding, an LSTM, GRU or RNN and a linear layer: which is which, and the network they are.

The recurrent layers are known by PyTorch's names, weight_ih_l0 and so on, whatever stands before them. The embedding
(V, E) and the linear layer (V, F) are known by their shapes, and by usual names where those are alike.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from nblstm.errors import ConfigError, ModelFileError
from nblstm.tasks.language.config import LanguageConfig

RECURRENT_NAME = re.compile(r"(?:(.*)\.)?((?:weight|bias)_(?:ih|hh|hr)_l\d+)(_reverse)?", re.ASCII)
EMBEDDINGS = ("embedding", "encoder", "embed", "emb", "embeddings", "word_embeddings", "wte", "input")
HEAD_NAMES = (
    "head",
    "decoder",
    "fc",
    "linear",
    "out",
    "output",
    "lm_head",
    "proj",
    "dense",
    "classifier",
    "hidden2tag",
)
CELLS_OF_GATES = {4: "lstm", 3: "gru", 1: "rnn"}

Tensors = dict[str, np.ndarray]


def network(
    tensors: Mapping[str, np.ndarray], names: Mapping[str, str], nonlinearity: str
) -> tuple[dict[str, Any], Tensors]:
    """Find (fields of a LanguageConfig, its arrays by our names) of another program's tensors, in their order of tokens.

    names: their name -> ours, "" for a tensor to leave out. nonlinearity: of an rnn, which its tensors do not tell.
    ModelFileError for a tensor that has no place, and for a network that is none of ours.
    """
    found = _recurrent(_renamed(tensors, names))
    rest, rnn = found[""], found["rnn"]
    cell = _cell(rnn)
    P, D = cell["proj_size"] or cell["hidden_size"], rnn["weight_ih_l0"].shape[1]
    named = {f"rnn.{name}": array for name, array in rnn.items()}
    _place(rest, named, P, D)
    V = len(named["head.weight"] if "head.weight" in named else named["embedding.weight"])
    if "embedding.weight" not in named and D == V:
        named["embedding.weight"] = np.eye(V, dtype=np.float32)  # one-hot vectors were read
    for name in ("embedding.weight", "head.weight"):
        if name not in named and not (name == "head.weight" and D == P):
            raise ModelFileError(f"there is no tensor for {name} of shape ({V}, {D if 'emb' in name else P}); name it.")
    tie = "head.weight" not in named or (D == P and np.array_equal(named["head.weight"], named["embedding.weight"]))
    named.setdefault("head.bias", np.zeros(V, np.float32))
    if tie:
        named.pop("head.weight", None)
    fields = {**cell, "vocab_size": V, "embedding_size": D, "tie": tie}
    if cell["cell"] == "rnn":
        fields["nonlinearity"] = nonlinearity
    _fill_biases(named, fields)
    return fields, named


def _renamed(tensors: Mapping[str, np.ndarray], names: Mapping[str, str]) -> Tensors:
    """The tensors under the names that were given for them. ConfigError for a name that is no tensor's."""
    for name in names:
        if name not in tensors:
            raise ConfigError(
                f"map names a tensor {name!r:.80}, and there is none; there are {', '.join(tensors)[:400]}."
            )
    placed = {names.get(name, name): array for name, array in tensors.items() if names.get(name, name)}
    if len(placed) < len(tensors) - sum(not ours for ours in names.values()):
        raise ConfigError("map gives two tensors one name; give each its own.")
    return placed


def _recurrent(tensors: Tensors) -> dict[str, Tensors]:
    """{"rnn": the recurrent layers by the ends of their names, "": all other tensors}."""
    found: dict[str, Tensors] = {"rnn": {}, "": {}}
    prefixes = set()
    for name, array in tensors.items():
        match = RECURRENT_NAME.fullmatch(name)
        if match is None:
            found[""][name] = array
            continue
        if match[3]:
            raise ModelFileError(
                f"tensor {name!r:.80} reads backwards; only models that read from left to right come in."
            )
        prefixes.add(match[1])
        if array.ndim != (1 if match[2].startswith("bias") else 2):
            kind = "vector" if match[2].startswith("bias") else "matrix"
            raise ModelFileError(f"tensor {name!r:.80} must be a {kind}, got shape {array.shape}.")
        found["rnn"][match[2]] = array
    if len(prefixes) > 1:
        raise ModelFileError(
            f"there are several recurrent modules, {', '.join(map(str, prefixes))[:200]}; map them to one."
        )
    if "weight_ih_l0" not in found["rnn"] or "weight_hh_l0" not in found["rnn"]:
        raise ModelFileError("there is no weight_ih_l0 with a weight_hh_l0, as an LSTM, GRU or RNN has; map them.")
    return found


def _cell(rnn: Tensors) -> dict[str, Any]:
    """The fields of a config that the recurrent layers tell."""
    recurrent, projection = rnn["weight_hh_l0"], rnn.get("weight_hr_l0")
    H = (recurrent if projection is None else projection).shape[1]
    gates, rest = divmod(len(recurrent), max(1, H))
    if gates not in CELLS_OF_GATES or rest:
        raise ModelFileError(f"weight_hh_l0 must have 4 H, 3 H or H rows for H = {H}, got shape {recurrent.shape}.")
    layers = sum(name.startswith("weight_hh_l") for name in rnn)
    proj = 0 if projection is None else len(projection)
    return {"cell": CELLS_OF_GATES[gates], "hidden_size": H, "num_layers": layers, "proj_size": proj}


def _place(rest: Tensors, named: Tensors, P: int, D: int) -> None:
    """Put embedding and head among the named; ModelFileError for a tensor that has no place."""
    roles = {"embedding.weight": (EMBEDDINGS, D), "head.weight": (HEAD_NAMES, P)}
    for by_name in (True, False):  # then by shape alone
        for ours, (usual, columns) in roles.items():
            fitting = [name for name, array in rest.items() if array.ndim == 2 and array.shape[1] == columns]
            if by_name:
                fitting = [name for name in fitting if name == ours or set(name.split(".")[:-1]) & set(usual)]
            if ours not in named and len(fitting) == 1:
                named[ours] = rest.pop(fitting[0])
    if not {"embedding.weight", "head.weight"} & set(named):
        raise ModelFileError(
            "which tensor is the embedding and which the head is not clear from "
            f"{', '.join(rest)[:200] or 'none'}; map them."
        )
    V = len(named["head.weight"] if "head.weight" in named else named["embedding.weight"])
    biases = [name for name, array in rest.items() if array.shape == (V,)]
    if len(biases) == 1:
        named["head.bias"] = rest.pop(biases[0])
    if rest:
        name, array = next(iter(rest.items()))
        raise ModelFileError(
            f"tensor {name!r:.80} of shape {array.shape} has no place; map it to one of ours, or to none."
        )


def _fill_biases(named: Tensors, fields: dict[str, Any]) -> None:
    """Put zeros where a network has no biases."""
    for k in range(fields["num_layers"]):
        for side in ("ih", "hh"):
            weight = named.get(f"rnn.weight_{side}_l{k}")
            if weight is not None:
                named.setdefault(f"rnn.bias_{side}_l{k}", np.zeros(len(weight), np.float32))


def check_arrays(fields: dict[str, Any], named: Tensors) -> LanguageConfig:
    """Return the config. ModelFileError unless every array has the shape that it calls for, and finite numbers."""
    try:
        config = LanguageConfig(**fields)
    except ConfigError as error:
        raise ModelFileError(f"the tensors are not a network of ours: {error}") from None
    for name, shape in config.shapes.items():
        found = named[name].shape if name in named else "none"
        if found != shape:
            raise ModelFileError(f"tensor {name} must have shape {shape}, got {found}.")
        if named[name].dtype.kind != "f" or not np.isfinite(named[name]).all():
            raise ModelFileError(f"tensor {name} must hold finite numbers, got {named[name].dtype}.")
    strange = next((name for name in named if name not in config.shapes), None)
    if strange is not None:
        raise ModelFileError(
            f"tensor {strange} is of no layer of {config.description}; leave it out by mapping it to none."
        )
    return config
