"""The shape of a network, and of the recurrent stack that most of them have."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from dataclasses import fields as dataclass_fields
from functools import lru_cache
from typing import Any, ClassVar

from nblstm.config.checks import MAX_SIZE, C, Config, at_least, at_most, check_types, fraction, one_of, only_with
from nblstm.errors import ConfigError
from nblstm.kernels.cells import KINDS, NONLINEARITIES, Cell

DTYPES = ("float32", "float64")
PRECISIONS = ("single", "half", "bfloat16")  # of what a network computes with
HEADS = ("linear", "cell")
CELLS = tuple(KINDS)  # those of the package; `kernels.cells.register` adds others
MAX_ROUNDS = 100  # of a mogrifier-lstm
MAX_PARAMETERS = 2**31  # 8 GiB of float32
MAX_LAYERS = 1000


def _settings_of_cells() -> dict[str, tuple[str, ...]]:
    """Cell -> the settings that it has, of those that not all cells have."""
    return {name: (*kind.options, *(("weight_dropout",) if kind.hidden else ())) for name, kind in KINDS.items()}


class NetworkConfig(Config):
    """What every network's config says of its parameters, and of the file that it is stored in."""

    KEY: ClassVar[str]  # of a model file's metadata under which it stands
    has_vocabulary: ClassVar[bool] = True  # stands beside it in the file
    may_adapt: ClassVar[bool] = False  # the file may hold gradient statistics, to learn while reading
    may_be_int8: ClassVar[bool] = False  # the file may hold matrices as small integers
    dtype: str  # of parameters and activations
    num_outputs: int  # V: how many numbers the head makes
    tied: ClassVar[dict[str, str]] = {}  # name of a parameter that is another one -> that one

    @property
    @abstractmethod
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape, in the order of the flat buffer."""

    @property
    @abstractmethod
    def head_size(self) -> int:
        """How many numbers the head sees."""

    @classmethod
    def owns(cls, fields: Mapping[str, Any]) -> bool:
        """Tell whether stored fields are those of this config, among others under the same KEY."""
        return True

    @classmethod
    def fewest_tokens(cls, fields: Mapping[str, Any]) -> int:
        """Return the least vocab_size with which fields may be a config, before the data give it: a draft."""
        return 2

    @property
    def extra_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of float64 arrays that stand in the file beside the parameters."""
        return {}

    @property
    def more_vocabularies(self) -> dict[str, int]:
        """Name -> size of vocabularies that stand in the file beside the one called "vocabulary"."""
        return {}

    def check_level(self, level: str) -> None:
        """Raise ConfigError for a level of tokens that such a network cannot read."""

    @property
    def num_parameters(self) -> int:
        """How many numbers are trained."""
        return sum(map(math.prod, self.shapes.values()))

    @property
    def head_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of a linear head's parameters."""
        return {"head.weight": (self.num_outputs, self.head_size), "head.bias": (self.num_outputs,)}

    def check_size(self, sizes: str) -> None:
        """Raise ConfigError for more parameters than fit; sizes: the fields that make them."""
        if self.num_parameters > MAX_PARAMETERS:
            raise ConfigError(
                f"the model would have {self.num_parameters:,} parameters, more than {MAX_PARAMETERS:,}; lower {sizes}."
            )


@lru_cache(maxsize=1024)  # a network asks for them at every step
def _cells(kind: str, input_size: int, directions: int, options: tuple[Any, ...]) -> tuple[Cell, ...]:
    """The cells of a layer."""
    return (Cell(kind, input_size, *options),) * directions


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)  # for the configs of tasks: it has no instances
class StackConfig(NetworkConfig):
    """Layers of cells, one above the other. What stands below and above them is for the task to say."""

    hidden_size: int = 256  # H: units per layer
    num_layers: int = 2  # L: recurrent layers
    cell: str = "lstm"  # lstm | gru | rnn | update-lstm | mingru | mogrifier-lstm
    nonlinearity: str = "tanh"  # of an rnn: tanh | relu
    proj_size: int = 0  # of an lstm: its output is projected to so many numbers; 0 leaves it as it is
    peepholes: bool = False  # of an lstm: its gates see the cell state
    mogrifier_rounds: int = 5  # of a mogrifier-lstm: how often x and h gate each other before a step
    layer_norm: bool = False  # normalise what goes into the gates
    residual: bool = False  # add a layer's input to its output, where their sizes match
    learned_state: bool = False  # the state before a text is trained, not zero
    head: str = "linear"  # linear: W_hy h + b | cell: W_hy h + W_cy c + b, c the last layer's cell state
    dropout: float = 0.4  # between layers: share of a layer's outputs that the next one does not see in training
    input_dropout: float = 0.0  # the same for the inputs
    output_dropout: float = 0.0  # the same for the last layer's outputs, before the head
    variational_dropout: float = 0.0  # behind inputs and every layer: the same units at all steps of a text
    weight_dropout: float = 0.0  # share of the recurrent weights that are zero in an update
    dtype: str = "float32"  # of parameters and activations

    directions: ClassVar[int] = 1  # in which every layer reads
    heads: ClassVar[tuple[str, ...]] = HEADS  # what `head` may be

    @property
    @abstractmethod
    def input_size(self) -> int:
        """How many numbers the first layer reads at a step."""

    def check_stack(self) -> None:
        """Raise ConfigError for a wrong field, or choices that exclude each other."""
        check_types(self)
        at_least(self, 1, "hidden_size", "num_layers")
        at_least(self, 0, "proj_size", "mogrifier_rounds")
        at_most(self, MAX_ROUNDS, "mogrifier_rounds")
        at_most(self, MAX_SIZE, "hidden_size")
        at_most(self, MAX_LAYERS, "num_layers")
        fraction(self, "dropout", "input_dropout", "output_dropout", "variational_dropout", "weight_dropout")
        one_of(self, "cell", tuple(KINDS))
        one_of(self, "nonlinearity", NONLINEARITIES)
        one_of(self, "head", self.heads)
        one_of(self, "dtype", DTYPES)
        only_with(self, "cell", _settings_of_cells())
        with_memory = [name for name, kind in KINDS.items() if kind.has_memory]
        if self.head == "cell" and self.cell not in with_memory:
            raise ConfigError(f"the cell head needs a cell with a memory ({', '.join(with_memory)}), got {self.cell}.")
        if self.proj_size >= self.hidden_size:
            raise ConfigError(f"proj_size must be less than hidden_size, got {self.proj_size} and {self.hidden_size}.")

    @property
    def causal(self) -> bool:
        """Whether what is computed at a step depends on it and those before it alone."""
        return self.directions == 1

    @property
    def output_size(self) -> int:
        """How many numbers a layer hands on, of all its directions."""
        return self.directions * (self.proj_size or self.hidden_size)

    @property
    def head_size(self) -> int:
        """How many numbers the head sees."""
        return self.output_size + (self.directions * self.hidden_size if self.head == "cell" else 0)

    @property
    def cells(self) -> list[Cell]:
        """The cell of every layer and direction, in the order of the state: layer by layer."""
        options = (
            self.hidden_size, self.nonlinearity, self.layer_norm, self.peepholes, self.proj_size, self.mogrifier_rounds
        )  # fmt: skip
        first, other = (
            _cells(self.cell, size, self.directions, options) for size in (self.input_size, self.output_size)
        )
        return [*first, *(self.num_layers - 1) * other]

    def suffix(self, number: int) -> str:
        """Tell how PyTorch ends the names of a cell's parameters; number: its place in `cells`."""
        layer, direction = divmod(number, self.directions)
        return f"_l{layer}" + ("_reverse" if direction else "")

    @property
    def stack_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of the stack's parameters: the names and layouts of torch.nn.LSTM, GRU or RNN."""
        shapes: dict[str, tuple[int, ...]] = {}
        cells = self.cells
        for number, cell in enumerate(cells):
            shapes |= {f"rnn.{name}{self.suffix(number)}": shape for name, shape in cell.shapes.items()}
        if self.learned_state:
            shapes["initial_state.h"] = (len(cells), cells[0].output_size)
            if cells[0].has_memory:
                shapes["initial_state.c"] = (len(cells), cells[0].memory_size)
        return shapes

    @property
    def dropouts(self) -> list[float]:
        """The share that is zeroed behind each layer."""
        return [self.dropout] * (self.num_layers - 1) + [self.output_dropout]

    @property
    def description(self) -> str:
        """The network in a few words: "LSTM 2 x 256, residual"."""
        words = {
            "peepholes": "peepholes",
            "layer_norm": "layer norm",
            "residual": "residual",
            "tie": "tied",
            "bidirectional": "bidirectional",
            "learned_state": "learned state",
        }
        parts = [f"{self.cell.upper()} {self.num_layers} x {self.hidden_size}"]
        options = KINDS[self.cell].options
        parts += [self.nonlinearity] * ("nonlinearity" in options)
        parts += [f"projected to {self.proj_size}"] * (self.proj_size > 0)
        parts += [f"{self.mogrifier_rounds} rounds"] * ("mogrifier_rounds" in options)
        parts += [word for name, word in words.items() if getattr(self, name, False)]
        return ", ".join(parts + ["cell head"] * (self.head == "cell"))


# The fields of a stored config of format version 1, in its order: a fingerprint is a digest of them. What came later is
# stored only where it is not the default.
STORED = (
    "vocab_size", "embedding_size", "hidden_size", "num_layers", "cell", "nonlinearity", "proj_size", "peepholes",
    "layer_norm", "residual", "bidirectional", "mask_fraction", "learned_state", "head", "tie", "dropout",
    "input_dropout", "output_dropout", "embedding_dropout", "variational_dropout", "weight_dropout", "dtype",
)  # fmt: skip
ABSENT = {"bidirectional": False, "mask_fraction": 0.15, "tie": False, "embedding_dropout": 0.0}  # of those without it


def stored(config: Any, **renamed: Any) -> dict[str, Any]:
    """Return a stack's config as files hold it. renamed: stored name -> value, where a field has another name."""
    fields = {**ABSENT, **asdict(config), **renamed}
    new = {f.name: getattr(config, f.name) for f in dataclass_fields(config) if f.name not in STORED}
    default = {f.name: f.default for f in dataclass_fields(config)}
    return {**{name: fields[name] for name in STORED}, **{k: v for k, v in new.items() if v != default[k]}}


def restored(cls: Any, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return stored fields without those that the config `cls` does not have. ConfigError where they say something."""
    own = dict(fields)
    for name, value in ABSENT.items():
        if name not in cls.names() and own.pop(name, value) != value:
            raise ConfigError(f"{cls.__name__} has no {name}; leave it out.")
    return own


@dataclass(frozen=True, init=False, repr=False, eq=False)  # for the configs of tasks, too
class TokenStackConfig(StackConfig):
    """A stack between the embedding of tokens and a softmax over the same tokens."""

    vocab_size: int  # V: number of tokens, <unk> included
    embedding_size: int = 0  # E: size of a token's vector; 0 means hidden_size
    tie: bool = False  # head.weight is embedding.weight (needs embedding_size == what the head sees)
    embedding_dropout: float = 0.0  # share of the tokens whose whole vector is zero in an update

    readings: ClassVar[int] = 1  # of a text, to score it

    def __post_init__(self) -> None:
        check_types(self)
        if self.embedding_size == 0:
            object.__setattr__(self, "embedding_size", self.head_size if self.tie else self.hidden_size)
        at_least(self, 1, "vocab_size", "hidden_size", "embedding_size")
        at_most(self, MAX_SIZE, "hidden_size", "embedding_size")
        at_most(self, MAX_PARAMETERS, "vocab_size")
        fraction(self, "embedding_dropout")
        self.check_stack()
        if self.tie and self.embedding_size != self.head_size:
            raise ConfigError(
                f"tie needs embedding_size == {self.head_size}, the size of what the head sees, got "
                f"{self.embedding_size}."
            )
        self.check_size("hidden_size, embedding_size or num_layers")

    @property
    def input_size(self) -> int:
        """How many numbers the first layer reads at a step."""
        return self.embedding_size

    @property
    def num_outputs(self) -> int:  # type: ignore[override]
        """V: how many logits the head makes."""
        return self.vocab_size

    @property
    def tied(self) -> dict[str, str]:  # type: ignore[override]
        """Name of a parameter that is another one -> that one."""
        return {"head.weight": "embedding.weight"} if self.tie else {}

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape, in the order of the flat buffer: those of torch.nn.Embedding, LSTM (GRU, RNN) and Linear."""
        shapes = {"embedding.weight": (self.vocab_size, self.embedding_size), **self.stack_shapes, **self.head_shapes}
        return {name: shape for name, shape in shapes.items() if name not in self.tied}

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as files hold them."""
        return stored(self)

    @classmethod
    def from_dict(cls: type[C], fields: Mapping[str, Any]) -> C:
        """Make the config that `to_dict` came from. ConfigError names a field this version does not know."""
        return super().from_dict(restored(cls, fields))
