"""TextConfig, ModelConfig, TrainConfig, SampleConfig: what can be chosen, checked once, and the only home of defaults."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from nblstm.errors import ConfigError

OPTIMIZERS = ("adam", "sgd", "rmsprop")
SCHEDULES = ("constant", "exponential", "step", "plateau", "cosine")
DTYPES = ("float32", "float64")
LEVELS = ("char", "word", "byte")
TOKENIZERS = ("default", "whitespace")
DOCUMENTS = ("line", "blank-line", "file")
BACKENDS = ("auto", "numpy", "cpu")

MAX_SIZE = 1_000_000  # a size above this is a typing error, not a model
MAX_TOKENS = 10**9  # to generate: months of it
MAX_PARAMETERS = 2**31  # 8 GiB of float32


_TYPES = {"int": int, "float": (int, float), "bool": bool, "str": str, "None": type(None)}


def _check_types(config: Any) -> None:
    """Raise ConfigError unless every field has the type it is declared with: settings also come from files."""
    for field in dataclasses.fields(config):
        value, names = getattr(config, field.name), field.type.split(" | ")
        fits = any(isinstance(value, _TYPES[name]) for name in names)
        if not fits or (isinstance(value, bool) and "bool" not in names):
            raise ConfigError(f"{field.name} must be {' or '.join(names)}, got {value!r}.")


def _at_least(config: Any, minimum: float, *names: str) -> None:
    """Raise ConfigError unless every named field that is set is a finite number >= minimum."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not (math.isfinite(value) and value >= minimum):
            raise ConfigError(f"{name} must be at least {minimum}, got {value}.")


def _above_zero(config: Any, *names: str) -> None:
    """Raise ConfigError unless every named field that is set is a finite number > 0."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not (math.isfinite(value) and value > 0):
            raise ConfigError(f"{name} must be greater than 0, got {value}.")


def _at_most(config: Any, maximum: float, *names: str) -> None:
    """Raise ConfigError unless every named field that is set is <= maximum."""
    for name in names:
        value = getattr(config, name)
        if value is not None and value > maximum:
            raise ConfigError(f"{name} must be at most {maximum}, got {value}.")


def _fraction(config: Any, *names: str) -> None:
    """Raise ConfigError unless every named field lies in [0, 1)."""
    for name in names:
        value = getattr(config, name)
        if not 0 <= value < 1:
            raise ConfigError(f"{name} must be at least 0 and less than 1, got {value}.")


def _one_of(config: Any, name: str, choices: tuple[str, ...]) -> None:
    """Raise ConfigError unless the named field is one of the choices."""
    value = getattr(config, name)
    if value not in choices:
        raise ConfigError(f"{name} must be one of {', '.join(choices)}, got {value!r}.")


class _Config:
    """What the configs share: a plain dict out (for the model file) and back in."""

    def to_dict(self) -> dict[str, Any]:
        """The fields as a dict of JSON values."""
        return dataclasses.asdict(self)  # type: ignore[call-overload]

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Any:
        """The config a `to_dict` came from. ConfigError names a field this version does not know."""
        unknown = set(fields) - {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        if unknown:
            raise ConfigError(f"{cls.__name__} has no field {sorted(unknown)[0]!r}.")
        try:
            return cls(**fields)
        except TypeError as error:
            raise ConfigError(f"{cls.__name__}: {error}.") from None


@dataclass(frozen=True)
class TextConfig(_Config):
    """How text becomes tokens and is split; stored in the checkpoint."""

    level: str = "char"  # char | word | byte
    tokenizer: str = "default"  # default | whitespace, at word level
    min_count: int = 1  # tokens that are rarer become <unk>
    max_vocab: int | None = None  # most tokens, <unk> (and <end>) included; None means all
    encoding: str = "utf-8"  # of the files; byte level reads them as they are
    valid_fraction: float = 0.1  # share of the text (or of the documents), at its end, kept for validation
    documents: str | None = None  # line | blank-line | file: each a text of its own; None: one stream of text

    def __post_init__(self) -> None:
        _check_types(self)
        _one_of(self, "level", LEVELS)
        _one_of(self, "tokenizer", TOKENIZERS)
        if self.documents is not None:
            _one_of(self, "documents", DOCUMENTS)
        _at_least(self, 1, "min_count")
        _at_least(self, 2 if self.documents is None else 3, "max_vocab")
        _fraction(self, "valid_fraction")


@dataclass(frozen=True)
class ModelConfig(_Config):
    """The shape of a network; stored in the model file."""

    vocab_size: int  # V: number of tokens, <unk> included
    embedding_size: int = 0  # E: size of a token's vector; 0 means hidden_size
    hidden_size: int = 256  # H: units per layer
    num_layers: int = 2  # L: LSTM layers
    dropout: float = 0.4  # between layers: share of a layer's outputs that the next one does not see in training
    input_dropout: float = 0.0  # the same for the embedding's outputs
    output_dropout: float = 0.0  # the same for the last layer's outputs, before the head
    tie: bool = False  # head.weight is embedding.weight (needs embedding_size == hidden_size)
    dtype: str = "float32"  # of parameters and activations

    def __post_init__(self) -> None:
        _check_types(self)
        if self.embedding_size == 0:
            object.__setattr__(self, "embedding_size", self.hidden_size)
        _at_least(self, 1, "vocab_size", "hidden_size", "num_layers", "embedding_size")
        _at_most(self, MAX_SIZE, "hidden_size", "num_layers", "embedding_size")
        _fraction(self, "dropout", "input_dropout", "output_dropout")
        _one_of(self, "dtype", DTYPES)
        if self.tie and self.embedding_size != self.hidden_size:
            raise ConfigError(
                f"tie needs embedding_size == hidden_size, got {self.embedding_size} and {self.hidden_size}."
            )
        if self.num_parameters > MAX_PARAMETERS:
            raise ConfigError(
                f"the model would have {self.num_parameters:,} parameters, more than {MAX_PARAMETERS:,}; "
                "lower hidden_size, embedding_size or num_layers."
            )

    @property
    def dropouts(self) -> list[float]:
        """The share that is zeroed behind each layer."""
        return [self.dropout] * (self.num_layers - 1) + [self.output_dropout]

    @property
    def num_parameters(self) -> int:
        """How many numbers are trained (a tied head's weight is counted once)."""
        V, E, H, L = self.vocab_size, self.embedding_size, self.hidden_size, self.num_layers
        lstm = sum(4 * H * ((E if layer == 0 else H) + H + 2) for layer in range(L))
        return V * E + lstm + (0 if self.tie else V * H) + V


@dataclass(frozen=True)
class TrainConfig(_Config):
    """How a network is trained; stored in the checkpoint."""

    batch_size: int = 32  # N: parallel streams, or documents
    bptt: int = 64  # T: tokens per stream between two updates (truncated back-propagation through time)
    buckets: str | None = None  # documents: longest lengths of the buckets, "10,20,40"; None or "auto": the best ones
    num_buckets: int | None = None  # documents: how many of the best; None means DEFAULT_BUCKETS
    tokens_per_batch: int | None = None  # documents: fill batches by tokens of a chunk instead of batch_size
    optimizer: str = "adam"  # adam | sgd | rmsprop
    lr: float | None = None  # learning rate; None means the optimizer's usual one (LEARNING_RATES)
    momentum: float = 0.9  # sgd only
    weight_decay: float = 0.0  # L2 penalty added to the gradient, as in PyTorch's Adam, SGD and RMSprop
    schedule: str = "cosine"  # constant | exponential | step | plateau | cosine
    lr_decay: float = 0.95  # exponential, step, plateau: factor per epoch (or per plateau)
    decay_after: int = 10  # step: epochs at the full rate; plateau: epochs without improvement to wait
    warmup: int = 100  # cosine: steps of linear warm-up
    clip: float = 5.0  # largest global gradient norm; 0 turns it off
    clip_value: float = 0.0  # largest absolute value of one gradient; 0 turns it off
    epochs: int | None = None  # passes over the training text; None: DEFAULT_EPOCHS unless steps or minutes is set
    steps: int | None = None  # updates
    minutes: float | None = None  # wall-clock time
    patience: int = 0  # epochs without a better validation loss before stopping; 0 turns it off
    seed: int = 0  # of the initial weights and of dropout
    threads: int = 0  # 0 means every core

    def __post_init__(self) -> None:
        _check_types(self)
        _at_least(self, 1, "batch_size", "bptt", "epochs", "steps", "decay_after", "num_buckets", "tokens_per_batch")
        _at_most(self, MAX_SIZE, "batch_size", "bptt", "warmup", "num_buckets", "tokens_per_batch")
        _at_most(self, 4096, "threads")
        _above_zero(self, "lr", "minutes", "lr_decay")
        _at_most(self, 1, "lr_decay")
        _at_least(self, 0, "weight_decay", "warmup", "clip", "clip_value", "patience", "seed", "threads")
        _fraction(self, "momentum")
        _one_of(self, "optimizer", OPTIMIZERS)
        _one_of(self, "schedule", SCHEDULES)
        if self.boundaries is not None and self.num_buckets is not None:
            raise ConfigError(f"num_buckets is for automatic buckets; leave it out, or buckets {self.buckets!r}.")
        if self.seed >= 2**63:
            raise ConfigError(f"seed must be less than 2**63, got {self.seed}.")
        if self.lr is None:
            object.__setattr__(self, "lr", LEARNING_RATES[self.optimizer])
        if self.epochs is None and self.steps is None and self.minutes is None:
            object.__setattr__(self, "epochs", DEFAULT_EPOCHS)

    @property
    def boundaries(self) -> tuple[int, ...] | None:
        """The longest lengths of the buckets; None: the best ones. ConfigError if they are not rising numbers >= 1."""
        if self.buckets is None or self.buckets == "auto":
            return None
        try:
            boundaries = tuple(map(int, self.buckets.split(",")))
        except ValueError:
            boundaries = ()
        if not all(0 <= low < high <= MAX_TOKENS for low, high in zip((0, *boundaries), boundaries)) or not boundaries:
            rule = 'must be "auto" or rising whole numbers from 1 on, such as "10,20,40"'
            raise ConfigError(f"buckets {rule}, got {self.buckets[:80]!r}.")
        return boundaries


LEARNING_RATES = {"adam": 3e-3, "sgd": 1.0, "rmsprop": 2e-3}
DEFAULT_EPOCHS = 15
DEFAULT_BUCKETS = 8
FOR_DOCUMENTS = ("buckets", "num_buckets", "tokens_per_batch")  # what TrainConfig says about documents alone


def check_documents(text: TextConfig, train: TrainConfig) -> None:
    """ConfigError if the training asks for what only documents have, and the text is one stream."""
    for name in FOR_DOCUMENTS:
        if text.documents is None and getattr(train, name) is not None:
            raise ConfigError(f"{name} is for documents, and the text is one stream; choose documents or leave it out.")


@dataclass(frozen=True)
class SampleConfig(_Config):
    """How text is drawn from a network."""

    n: int = 200  # tokens to generate; the prompt is not counted
    temperature: float = 1.0  # logits are divided by it; 0 takes the most likely token
    top_k: int = 0  # draw from the k most likely tokens; 0 draws from all
    seed: int | None = None  # None draws a fresh one
    num_samples: int = 1  # texts
    backend: str = "auto"  # numpy | cpu | auto: whichever is expected to finish first

    def __post_init__(self) -> None:
        _check_types(self)
        _at_least(self, 0, "n", "temperature", "top_k", "seed")
        _at_least(self, 1, "num_samples")
        _at_most(self, MAX_TOKENS, "n")
        _at_most(self, MAX_SIZE, "num_samples")
        _one_of(self, "backend", BACKENDS)
