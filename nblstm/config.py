"""What can be chosen, checked once: of the text, the networks, training, sampling, searching and writing together.

The only home of defaults.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, ClassVar

from nblstm.errors import ConfigError
from nblstm.kernels.cells import KINDS, NONLINEARITIES, Cell

CELLS = tuple(KINDS)  # those of the package; `kernels.cells.register` adds others
OPTIMIZERS = ("adam", "adamw", "sgd", "rmsprop", "asgd")
SCHEDULES = ("constant", "exponential", "step", "plateau", "cosine")
DTYPES = ("float32", "float64")
LEVELS = ("char", "word", "byte")
TOKENIZERS = ("default", "whitespace")
DOCUMENTS = ("line", "blank-line", "file")
BACKENDS = ("auto", "numpy", "cpu", "cuda")
DEVICES = ("cpu", "cuda")
PRECISIONS = ("single", "half")
UNTIL = ("word", "line")
PADDINGS = ("pre", "post")

HEADS = ("linear", "cell")
PREDICTS = ("next", "targets")
OF_OPTIMIZERS = {"momentum": ("sgd",), "nesterov": ("sgd",), "averaging_patience": ("asgd",)}
OF_SCHEDULES = {
    "lr_decay": ("exponential", "step", "plateau"), "decay_after": ("step", "plateau"), "warmup": ("cosine",),
}  # fmt: skip
CPU_ONLY = (  # settings of ModelConfig that device cuda leaves at their defaults
    "proj_size", "peepholes", "layer_norm", "residual", "bidirectional", "learned_state", "head", "embedding_dropout",
    "weight_dropout", "dtype",
)  # fmt: skip

MAX_SIZE = 1_000_000  # a size above this is a typing error, not a model
MAX_TOKENS = 10**9  # to generate: months of it
MAX_PARAMETERS = 2**31  # 8 GiB of float32
MAX_ROUNDS = 100  # of a mogrifier-lstm
MAX_BEAM = 10_000  # texts side by side in a search


_TYPES = {
    "int": int, "float": (int, float), "bool": bool, "str": str, "tuple[str, ...]": tuple, "dict": dict,
    "None": type(None),
}  # fmt: skip


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


def _only_with(config: Any, choice: str, owners: dict[str, tuple[str, ...]]) -> None:
    """Raise ConfigError for a setting that the config's choice, such as its cell, does not have; owners: those who do."""
    chosen = getattr(config, choice)
    for name, having in owners.items():
        if chosen not in having and getattr(config, name) != getattr(type(config), name):
            raise ConfigError(f"{name} is for {' or '.join(having)}, not for {chosen}; leave it out.")


def _options_of_cells() -> dict[str, tuple[str, ...]]:
    """Setting -> the cells that have it, of the settings that not all cells have."""
    owners: dict[str, tuple[str, ...]] = {"weight_dropout": tuple(name for name, kind in KINDS.items() if kind.hidden)}
    for name, kind in KINDS.items():
        for option in kind.options:
            owners[option] = (*owners.get(option, ()), name)
    return owners


def _not_too_large(config: Any, sizes: str) -> None:
    """Raise ConfigError for more parameters than fit; sizes: the fields that make them."""
    if config.num_parameters > MAX_PARAMETERS:
        raise ConfigError(
            f"the model would have {config.num_parameters:,} parameters, more than {MAX_PARAMETERS:,}; lower {sizes}."
        )


def _strings(config: Any, name: str) -> None:
    """Make the named field a tuple where it is a string or a list. ConfigError unless it holds non-empty strings."""
    value = getattr(config, name)
    values = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, (list, tuple)) else (value,)
    for string in values:
        if not isinstance(string, str) or not string:
            raise ConfigError(f"{name} must be strings that are not empty, got {string!r}.")
    object.__setattr__(config, name, values)


class _Config:
    """What the configs share: a plain dict out (for the model file) and back in."""

    LATER: ClassVar[tuple[str, ...]] = ()  # fields younger than the file format: files leave them out at their defaults

    def to_dict(self) -> dict[str, Any]:
        """The fields as a dict of JSON values."""
        fields = dataclasses.asdict(self)  # type: ignore[call-overload]
        usual = {name: getattr(type(self), name) for name in self.LATER}
        return {name: value for name, value in fields.items() if name not in usual or value != usual[name]}

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
    num_layers: int = 2  # L: recurrent layers
    cell: str = "lstm"  # lstm | gru | rnn | update-lstm | mingru | mogrifier-lstm
    nonlinearity: str = "tanh"  # of an rnn: tanh | relu
    proj_size: int = 0  # of an lstm: its output is projected to so many numbers; 0 leaves it as it is
    peepholes: bool = False  # of an lstm: its gates see the cell state
    mogrifier_rounds: int = 5  # of a mogrifier-lstm: how often x and h gate each other before a step
    layer_norm: bool = False  # normalise what goes into the gates
    residual: bool = False  # add a layer's input to its output, where their sizes match
    bidirectional: bool = False  # every layer reads the text in both directions, and hidden tokens are predicted
    mask_fraction: float = 0.15  # of a bidirectional model: share of the tokens that are hidden at a time
    learned_state: bool = False  # the state before a text is trained, not zero
    head: str = "linear"  # linear: W_hy h + b | cell: W_hy h + W_cy c + b, c the last layer's cell state
    tie: bool = False  # head.weight is embedding.weight (needs embedding_size == what the head sees)
    dropout: float = 0.4  # between layers: share of a layer's outputs that the next one does not see in training
    input_dropout: float = 0.0  # the same for the embedding's outputs
    output_dropout: float = 0.0  # the same for the last layer's outputs, before the head
    embedding_dropout: float = 0.0  # share of the tokens whose whole vector is zero in an update
    variational_dropout: float = 0.0  # behind the embedding and every layer: the same units at all steps of a text
    weight_dropout: float = 0.0  # share of the recurrent weights that are zero in an update
    dtype: str = "float32"  # of parameters and activations

    LATER: ClassVar[tuple[str, ...]] = ("mogrifier_rounds",)
    reads_tokens = True  # and so has an embedding; a SeriesConfig's network reads numbers

    def __post_init__(self) -> None:
        _check_types(self)
        if self.embedding_size == 0:
            object.__setattr__(self, "embedding_size", self.head_size if self.tie else self.hidden_size)
        _at_least(self, 1, "vocab_size", "hidden_size", "num_layers", "embedding_size")
        _at_least(self, 0, "proj_size", "mogrifier_rounds")
        _at_most(self, MAX_ROUNDS, "mogrifier_rounds")
        _at_most(self, MAX_SIZE, "hidden_size", "num_layers", "embedding_size")
        _fraction(self, "dropout", "input_dropout", "output_dropout")
        _fraction(self, "mask_fraction")
        _fraction(self, "embedding_dropout", "variational_dropout", "weight_dropout")
        _one_of(self, "cell", tuple(KINDS))
        _one_of(self, "nonlinearity", NONLINEARITIES)
        _one_of(self, "head", HEADS)
        _one_of(self, "dtype", DTYPES)
        self._check_combinations()
        _not_too_large(self, "hidden_size, embedding_size or num_layers")

    def _check_combinations(self) -> None:
        """Raise ConfigError for choices that exclude each other."""
        _only_with(self, "cell", _options_of_cells())
        if self.mask_fraction == 0 or (not self.bidirectional and self.mask_fraction != type(self).mask_fraction):
            raise ConfigError(f"mask_fraction is for a bidirectional model, and above 0; got {self.mask_fraction}.")
        with_memory = [name for name, kind in KINDS.items() if kind.has_memory]
        if self.head == "cell" and self.cell not in with_memory:
            raise ConfigError(f"the cell head needs a cell with a memory ({', '.join(with_memory)}), got {self.cell}.")
        if self.proj_size >= self.hidden_size:
            raise ConfigError(f"proj_size must be less than hidden_size, got {self.proj_size} and {self.hidden_size}.")
        if self.tie and self.embedding_size != self.head_size:
            raise ConfigError(
                f"tie needs embedding_size == {self.head_size}, the size of what the head sees, got "
                f"{self.embedding_size}."
            )

    @property
    def directions(self) -> int:
        """In how many directions a layer reads."""
        return 2 if self.bidirectional else 1

    @property
    def masked_passes(self) -> int:
        """In how many readings a bidirectional model has every token hidden once: each time about mask_fraction."""
        return max(2, round(1 / self.mask_fraction))

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
        sizes = [self.embedding_size] + [self.output_size] * (self.num_layers - 1)
        return [Cell(self.cell, size, *options) for size in sizes for _ in range(self.directions)]

    @property
    def description(self) -> str:
        """The network in a few words: "LSTM 2 x 256, residual"."""
        words = {"peepholes": "peepholes", "layer_norm": "layer norm", "residual": "residual", "tie": "tied",
                 "bidirectional": "bidirectional", "learned_state": "learned state"}  # fmt: skip
        parts = [f"{self.cell.upper()} {self.num_layers} x {self.hidden_size}"]
        options = KINDS[self.cell].options
        parts += [self.nonlinearity] * ("nonlinearity" in options) + [f"projected to {self.proj_size}"] * (self.proj_size > 0)
        parts += [f"{self.mogrifier_rounds} rounds"] * ("mogrifier_rounds" in options)
        parts += [word for name, word in words.items() if getattr(self, name)]
        return ", ".join(parts + ["cell head"] * (self.head == "cell"))

    @property
    def dropouts(self) -> list[float]:
        """The share that is zeroed behind each layer."""
        return [self.dropout] * (self.num_layers - 1) + [self.output_dropout]

    @property
    def num_parameters(self) -> int:
        """How many numbers are trained (a tied head's weight is counted once)."""
        V, cell = self.vocab_size, self.cells[0]
        embedding = V * self.embedding_size if self.reads_tokens else 0
        layers = sum(cell.num_parameters for cell in self.cells)
        state = len(self.cells) * (cell.output_size + cell.memory_size) if self.learned_state else 0
        return embedding + layers + state + (0 if self.tie else V * self.head_size) + V


@dataclass(frozen=True)
class SeriesConfig(ModelConfig):
    """The shape of a network that reads series of numbers and predicts numbers; stored in its model file.

    vocab_size is how many numbers it predicts at a step, embedding_size how many it reads: there is no embedding.
    """

    predicts: str = "next"  # next: the numbers of the next step | targets: those that were given beside the series

    reads_tokens = False

    def _check_combinations(self) -> None:
        """Raise ConfigError for choices that exclude each other."""
        _one_of(self, "predicts", PREDICTS)
        for name in ("tie", "embedding_dropout", "mask_fraction"):
            if getattr(self, name) != getattr(ModelConfig, name):
                raise ConfigError(f"{name} is for models of text; leave it out.")
        super()._check_combinations()
        if self.predicts == "next" and self.bidirectional:
            raise ConfigError("a bidirectional model would read what it is to predict; give it targets of its own.")
        if self.predicts == "next" and self.vocab_size != self.embedding_size:
            sizes = f"{self.vocab_size} and {self.embedding_size}"
            raise ConfigError(f"a model predicts the next of the numbers it reads, as many as it reads, got {sizes}.")


@dataclass(frozen=True)
class WindowConfig(_Config):
    """The shape of a network that sees the last few tokens and remembers nothing; stored in its model file."""

    vocab_size: int  # V: number of tokens
    window: int = 10  # n: tokens it sees
    padding: str = "pre"  # pre | post: where the window is filled up while a text is shorter
    embedding_size: int = 0  # E: size of a token's vector; 0 feeds tokens one-hot
    hidden_size: int = 128  # H: units of the dense layer
    dropout: float = 0.5  # share of the dense layer's outputs that the head does not see in training
    dtype: str = "float32"  # of parameters and activations

    tie: ClassVar[bool] = False  # what a ModelConfig can choose and this cannot
    bidirectional: ClassVar[bool] = False
    cells: ClassVar[tuple[Cell, ...]] = ()

    def __post_init__(self) -> None:
        _check_types(self)
        _at_least(self, 1, "vocab_size", "window", "hidden_size")
        _at_least(self, 0, "embedding_size")
        _at_most(self, MAX_SIZE, "window", "hidden_size", "embedding_size")
        _fraction(self, "dropout")
        _one_of(self, "padding", PADDINGS)
        _one_of(self, "dtype", DTYPES)
        _not_too_large(self, "window, hidden_size or embedding_size")

    @property
    def head_size(self) -> int:
        """How many numbers the head sees."""
        return self.hidden_size

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of the parameters. Row k V + v of window.weight is what token v at place k adds to a unit."""
        V, n, E, H = self.vocab_size, self.window, self.embedding_size, self.hidden_size
        inputs = {"embedding.weight": (V, E), "dense.weight": (H, n * E)} if E else {"window.weight": (n * V, H)}
        return {**inputs, "dense.bias": (H,), "head.weight": (V, H), "head.bias": (V,)}

    @property
    def num_parameters(self) -> int:
        """How many numbers are trained."""
        return sum(map(math.prod, self.shapes.values()))

    @property
    def description(self) -> str:
        """The network in a few words: "MLP 128, window 16, one-hot"."""
        inputs = f"embedding {self.embedding_size}" if self.embedding_size else "one-hot"
        return f"MLP {self.hidden_size}, window {self.window}, {inputs}"


@dataclass(frozen=True)
class TrainConfig(_Config):
    """How a network is trained; stored in the checkpoint."""

    batch_size: int = 32  # N: parallel streams, or documents
    bptt: int = 64  # T: tokens per stream between two updates (truncated back-propagation through time)
    buckets: str | None = None  # documents: longest lengths of the buckets, "10,20,40"; None or "auto": the best ones
    num_buckets: int | None = None  # documents: how many of the best; None means DEFAULT_BUCKETS
    tokens_per_batch: int | None = None  # documents: fill batches by tokens of a chunk instead of batch_size
    optimizer: str = "adam"  # adam | adamw | sgd | rmsprop | asgd
    lr: float | None = None  # learning rate; None means the optimizer's usual one (LEARNING_RATES)
    momentum: float = 0.9  # sgd
    nesterov: bool = False  # sgd: look ahead along the momentum
    averaging_patience: int = 5  # asgd: validations that are not counted when it is asked whether the loss rises
    weight_decay: float = 0.0  # L2 penalty added to the gradient, as in PyTorch; adamw: decoupled from it
    label_smoothing: float = 0.0  # share of a target's probability that is spread over all tokens
    token_weights: dict | None = None  # token -> how much it counts as a target, 0 leaves it out; others count 1
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
    device: str = "cpu"  # cpu | cuda
    precision: str = "single"  # single | half: on cuda, of weights and activations as they are stored; sums are single

    def __post_init__(self) -> None:
        _check_types(self)
        _one_of(self, "device", DEVICES)
        _one_of(self, "precision", PRECISIONS)
        if self.precision == "half" and self.device != "cuda":
            raise ConfigError("precision half is for device cuda; choose precision single.")
        _at_least(self, 1, "batch_size", "bptt", "epochs", "steps", "decay_after", "num_buckets", "tokens_per_batch")
        _at_most(self, MAX_SIZE, "batch_size", "bptt", "warmup", "num_buckets", "tokens_per_batch")
        _at_most(self, 4096, "threads")
        _above_zero(self, "lr", "minutes", "lr_decay")
        _at_most(self, 1, "lr_decay")
        _at_least(self, 0, "weight_decay", "warmup", "clip", "clip_value", "patience", "seed", "threads")
        _fraction(self, "momentum", "label_smoothing")
        _at_least(self, 0, "averaging_patience")
        for token, weight in (self.token_weights or {}).items():
            number = isinstance(weight, (int, float)) and not isinstance(weight, bool) and math.isfinite(weight)
            if not (number and weight >= 0 and isinstance(token, str)):
                raise ConfigError(f"token_weights must be numbers of at least 0, got {weight!r:.40} for {token!r:.40}.")
        _one_of(self, "optimizer", OPTIMIZERS)
        _one_of(self, "schedule", SCHEDULES)
        _only_with(self, "optimizer", OF_OPTIMIZERS)
        _only_with(self, "schedule", OF_SCHEDULES)
        if self.nesterov and self.momentum == 0:
            raise ConfigError("nesterov is for a momentum above 0; leave it out.")
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


LEARNING_RATES = {"adam": 5e-3, "adamw": 5e-3, "sgd": 1.0, "rmsprop": 2e-3, "asgd": 10.0}
DEFAULT_EPOCHS = 15
DEFAULT_BUCKETS = 8
SERIES_MODEL = {"hidden_size": 64, "num_layers": 1, "dropout": 0.0}  # what differs for a model of series
SERIES_STEPS = 1000  # updates of one, unless epochs, steps or minutes is set
FOR_DOCUMENTS = ("buckets", "num_buckets", "tokens_per_batch")  # what TrainConfig says about documents alone
FOR_STATES = ("bptt", *FOR_DOCUMENTS)  # what it says about networks that carry a state
FOR_CARDS = ("device", "precision")  # what it says about cards, which compute recurrent models of text


def check_card(config: ModelConfig) -> None:
    """ConfigError for a network that the GPU's kernels do not compute."""
    usual = ModelConfig(config.vocab_size)
    for name in CPU_ONLY:
        if getattr(config, name) != getattr(usual, name):
            value = getattr(config, name)
            raise ConfigError(f"{name} {value} is not for device cuda; choose cpu, or leave it out.")


def check_writes(config: ModelConfig) -> None:
    """ConfigError for a model that does not predict the next token."""
    if config.bidirectional:
        raise ConfigError("a bidirectional model reads whole texts; it cannot write from left to right.")


def check_masking(level: str, bidirectional: bool) -> None:
    """ConfigError for a model that reads in both directions and has no token to stand for a hidden one."""
    if bidirectional and level == "byte":
        raise ConfigError("bidirectional hides tokens behind <unk>, which level byte does not have; choose another.")


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
    top_p: float = 1.0  # draw from the most likely tokens that together have this probability
    min_p: float = 0.0  # draw from tokens at least this times as likely as the most likely
    typical_p: float = 1.0  # draw from the tokens of most typical surprise that together have this probability
    repetition_penalty: float = 1.0  # divides the positive logits of tokens that were there, multiplies the negative
    repetition_window: int = 64  # tokens that the penalty looks back; 0: all
    no_repeat_ngram: int = 0  # no sequence of so many tokens comes twice; 0 lets them
    seed: int | None = None  # None draws a fresh one
    num_samples: int = 1  # texts
    backend: str = "auto"  # numpy | cpu | cuda | auto: whichever is expected to finish first

    def __post_init__(self) -> None:
        _check_types(self)
        _at_least(self, 0, "n", "temperature", "top_k", "min_p", "repetition_window", "no_repeat_ngram", "seed")
        _at_least(self, 1, "num_samples")
        _above_zero(self, "top_p", "typical_p")
        _at_most(self, 1, "top_p", "min_p", "typical_p")
        _at_least(self, 0.01, "repetition_penalty")
        _at_most(self, 100, "repetition_penalty")
        _at_most(self, MAX_TOKENS, "top_k", "repetition_window", "no_repeat_ngram")
        _at_most(self, MAX_TOKENS, "n")
        _at_most(self, MAX_SIZE, "num_samples")
        _one_of(self, "backend", BACKENDS)


@dataclass(frozen=True)
class BeamConfig(_Config):
    """How the most likely texts are searched for."""

    n: int = 200  # most tokens of a text; the prompt is not counted
    beam: int = 8  # hypotheses kept at every step
    num_samples: int = 1  # texts to return, the best first
    length_penalty: float = 0.6  # alpha of Wu et al. 2016, eq. 14: 0 favours short texts, 1 is about the mean per token
    groups: int = 1  # the beam is split into so many groups that avoid each other's tokens
    diversity: float = 0.5  # nats that a token costs for each beam of an earlier group that takes it at the same step
    stochastic: bool = False  # draw texts without replacement instead of searching the most likely
    seed: int | None = None  # of a stochastic beam; None draws a fresh one
    stop: tuple[str, ...] = ()  # a text ends before any of these strings
    backend: str = "auto"  # numpy | cpu | cuda | auto: whichever is expected to finish first

    def __post_init__(self) -> None:
        _strings(self, "stop")
        _check_types(self)
        _at_least(self, 0, "n", "length_penalty", "diversity", "seed")
        _at_least(self, 1, "beam", "num_samples", "groups")
        _at_most(self, MAX_TOKENS, "n")
        _at_most(self, MAX_BEAM, "beam")
        _one_of(self, "backend", BACKENDS)
        if self.num_samples > self.beam:
            raise ConfigError(f"num_samples must be at most beam, {self.beam}, got {self.num_samples}; raise beam.")
        if self.beam % self.groups:
            raise ConfigError(f"beam must be a multiple of groups, got {self.beam} and {self.groups}.")
        if self.stochastic and self.groups > 1:
            raise ConfigError(f"a stochastic beam has no groups, got groups {self.groups}; its texts differ as it is.")


@dataclass(frozen=True)
class WriteConfig(_Config):
    """What a person who writes with a model is offered."""

    continuations: int = 3  # how many
    until: str = "word"  # word | line: where a continuation ends
    n: int = 40  # most tokens of a continuation
    backend: str = "auto"  # numpy | cpu | cuda | auto: numpy, which starts at once

    def __post_init__(self) -> None:
        _check_types(self)
        _at_least(self, 1, "continuations", "n")
        _at_most(self, 9, "continuations")
        _at_most(self, 1000, "n")
        _one_of(self, "until", UNTIL)
        _one_of(self, "backend", BACKENDS)
