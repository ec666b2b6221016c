"""How a network is trained."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar

from nblstm.config.checks import (
    MAX_COUNT,
    MAX_SIZE,
    MAX_TOKENS,
    Config,
    above_zero,
    at_least,
    at_most,
    check_types,
    fraction,
    is_number,
    one_of,
    only_with,
    said,
)
from nblstm.config.network import PRECISIONS
from nblstm.errors import ConfigError

OPTIMIZERS = {  # optimizer -> the settings that it has beside those of all
    "adam": (), "adamw": (), "sgd": ("momentum", "nesterov"), "rmsprop": (), "asgd": ("averaging_patience",),
}  # fmt: skip
LAZY_OPTIMIZERS = ("adam", "adamw")  # that may leave the vectors of tokens that do not occur
SCHEDULES = {  # schedule -> the settings that it has
    "constant": (), "exponential": ("lr_decay",), "step": ("lr_decay", "decay_after"),
    "plateau": ("lr_decay", "decay_after"), "cosine": ("warmup",),
}  # fmt: skip
LEARNING_RATES = {"adam": 5e-3, "adamw": 5e-3, "sgd": 1.0, "rmsprop": 2e-3, "asgd": 10.0}
WEIGHT_DECAYS = {"adamw": 0.1}  # of the others none
DEVICES = ("cpu", "cuda")
WIRES = ("float32", "bfloat16")
ON_DIVERGENCE = ("stop", "rollback")
DEFAULT_EPOCHS = 15
DEFAULT_BUCKETS = 8
DISTIL_TEMPERATURE, DISTIL_WEIGHT = 2.0, 0.5  # of a run with a teacher
MAX_ROLLBACKS = 3  # of a run that diverges again and again


@dataclass(frozen=True, kw_only=True)
class Recipe(Config):
    """What every training can choose: batch, optimizer, schedule, limits."""

    batch_size: int = 32  # N: what is read side by side
    optimizer: str = "adam"  # adam | adamw | sgd | rmsprop | asgd
    lr: float | None = None  # learning rate; None means the optimizer's usual one (LEARNING_RATES)
    momentum: float = 0.9  # sgd
    nesterov: bool = False  # sgd: look ahead along the momentum
    averaging_patience: int = 5  # asgd: validations that are not counted when it is asked whether the loss rises
    weight_decay: float | None = None  # L2 penalty; adamw: decoupled from the gradient; None: the usual (WEIGHT_DECAYS)
    schedule: str = "cosine"  # constant | exponential | step | plateau | cosine
    lr_decay: float = 0.95  # exponential, step, plateau: factor per epoch (or per plateau)
    decay_after: int = 10  # step: epochs at the full rate; plateau: epochs without improvement to wait
    warmup: int = 100  # cosine: steps of linear warm-up
    clip: float = 5.0  # largest global gradient norm; 0 turns it off
    clip_value: float = 0.0  # largest absolute value of one gradient; 0 turns it off
    epochs: int | None = None  # passes over the training text; None: DEFAULT_EPOCHS unless steps or minutes is set
    steps: int | None = None  # updates
    minutes: float | None = None  # from the first update on, which may compile kernels
    patience: int = 0  # epochs without a better validation loss before stopping; 0 turns it off
    seed: int = 0  # of the initial weights and of dropout
    threads: int = 0  # 0 means every core

    device: ClassVar[str] = "cpu"  # what computes, where a task has no choice
    precision: ClassVar[str] = "single"
    on_divergence: ClassVar[str] = "stop"
    lazy_embedding: ClassVar[bool] = False
    wire: ClassVar[str] = "float32"
    average_every: ClassVar[int | None] = None

    def __post_init__(self) -> None:
        check_types(self)
        at_least(self, 1, "batch_size", "epochs", "steps", "decay_after")
        at_most(self, MAX_SIZE, "batch_size", "warmup")
        at_most(self, MAX_COUNT, "epochs", "steps", "minutes", "patience", "decay_after", "averaging_patience")
        at_most(self, 4096, "threads")
        above_zero(self, "lr", "minutes", "lr_decay")
        at_most(self, 1, "lr_decay")
        at_least(self, 0, "weight_decay", "warmup", "clip", "clip_value", "patience", "seed", "threads")
        fraction(self, "momentum")
        at_least(self, 0, "averaging_patience")
        one_of(self, "optimizer", tuple(OPTIMIZERS))
        one_of(self, "schedule", tuple(SCHEDULES))
        only_with(self, "optimizer", OPTIMIZERS)
        only_with(self, "schedule", SCHEDULES)
        if self.nesterov and self.momentum == 0:
            raise ConfigError("nesterov is for a momentum above 0; leave it out.")
        if self.seed >= 2**63:
            raise ConfigError(f"seed must be less than 2**63, got {said(self.seed)}.")
        if self.lr is None:
            object.__setattr__(self, "lr", LEARNING_RATES[self.optimizer])
        if self.weight_decay is None:
            object.__setattr__(self, "weight_decay", WEIGHT_DECAYS.get(self.optimizer, 0.0))
        if self.epochs is None and self.steps is None and self.minutes is None:
            object.__setattr__(self, "epochs", DEFAULT_EPOCHS)

    @property
    def learning_rate(self) -> float:
        """The rate at which training starts: lr, which is set by now."""
        assert self.lr is not None
        return self.lr

    def recipe(self) -> dict[str, Any]:
        """Return the fields that weights are a function of, as JSON values: any number of threads gives the same."""
        fields = self.to_dict()
        del fields["threads"]
        return fields


@dataclass(frozen=True, kw_only=True)
class TargetWeights(Recipe):
    """Training whose targets are tokens, which may count more or less."""

    label_smoothing: float = 0.0  # share of a target's probability that is spread over all tokens
    token_weights: dict | None = None  # token -> how much it counts as a target, 0 leaves it out; others count 1

    def __post_init__(self) -> None:
        super().__post_init__()
        fraction(self, "label_smoothing")
        for token, weight in (self.token_weights or {}).items():
            if not (is_number(weight) and weight >= 0 and isinstance(token, str)):
                raise ConfigError(f"token_weights must be numbers of at least 0, got {said(weight)} for {said(token)}.")


@dataclass(frozen=True, kw_only=True)
class TrainConfig(TargetWeights):
    """How a network that reads text is trained; stored in the checkpoint."""

    optimizer: str = "adamw"  # adam | adamw | sgd | rmsprop | asgd
    valid_every: str | int | None = None  # updates, or time as in 90s, 5m, 1h, between validations inside an epoch
    bptt: int = 64  # T: tokens per stream between two updates (truncated back-propagation through time)
    buckets: str | None = None  # documents: longest lengths of the buckets, "10,20,40"; None or "auto": the best ones
    num_buckets: int | None = None  # documents: how many of the best; None means DEFAULT_BUCKETS
    tokens_per_batch: int | None = None  # documents: fill batches by tokens of a chunk instead of batch_size
    even_chunks: bool = False  # documents: longer than bptt in chunks of like lengths, as in every new run; no setting
    lazy_embedding: bool = False  # type: ignore[misc] # of tokens that a chunk lacks, vectors and moments stay as they are
    distil_temperature: float | None = None  # with a teacher: of both distributions; None means DISTIL_TEMPERATURE
    distil_weight: float | None = None  # with a teacher: its share in the loss; None means DISTIL_WEIGHT
    sparsity: float = 0.0  # share of the recurrent layers' weights to become zero: `nblstm.training.pruning`
    on_divergence: str = (  # type: ignore[misc]
        "stop"  # stop | rollback: go back to the last checkpoint, with half the rate, MAX_ROLLBACKS times
    )
    keep_statistics: bool = False  # the model's file has gradient statistics, to learn while it reads
    average_every: int | None = None  # type: ignore[misc] # updates of each of several processes until they average
    wire: str = "float32"  # type: ignore[misc] # float32 | bfloat16: how several processes send gradients to each other
    device: str = "cpu"  # type: ignore[misc] # cpu | cuda
    precision: str = "single"  # type: ignore[misc] # single | half, on cuda: what is stored | bfloat16, on cpu: factors of products

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 1, "bptt", "num_buckets", "tokens_per_batch", "average_every")
        at_most(self, MAX_SIZE, "bptt", "num_buckets", "tokens_per_batch", "average_every")
        _ = self.valid_interval  # ConfigError for what is none
        above_zero(self, "distil_temperature")
        at_least(self, 0, "distil_weight")
        at_most(self, 1, "distil_weight")
        at_most(self, 1000, "distil_temperature")
        fraction(self, "sparsity")
        one_of(self, "device", DEVICES)
        one_of(self, "precision", PRECISIONS)
        one_of(self, "wire", WIRES)
        one_of(self, "on_divergence", ON_DIVERGENCE)
        if self.lazy_embedding and self.optimizer not in LAZY_OPTIMIZERS:
            raise ConfigError(
                f"lazy_embedding is for {' or '.join(LAZY_OPTIMIZERS)}, not for {self.optimizer}; leave it out."
            )
        if self.average_every is not None and self.wire != "float32":
            raise ConfigError(
                f"wire {self.wire} is for gradients, and average_every sends weights; leave one of them out."
            )
        if self.lazy_embedding and self.device == "cuda":
            raise ConfigError("lazy_embedding is not for device cuda; choose cpu, or leave it out.")
        if self.precision == "half" and self.device != "cuda":
            raise ConfigError("precision half is for device cuda; choose precision single or bfloat16.")
        if self.precision == "bfloat16" and self.device != "cpu":
            raise ConfigError("precision bfloat16 is for device cpu; choose precision single or half.")
        if self.sparsity and self.optimizer == "asgd":
            raise ConfigError("sparsity is not for asgd, whose averages fill zeros again; choose another optimizer.")
        if self.sparsity and self.device == "cuda":
            raise ConfigError("sparsity is not for device cuda; choose cpu, or leave it out.")
        if self.sparsity and self.average_every is not None:
            raise ConfigError("sparsity needs the same zeros in all processes; leave average_every out.")
        if self.boundaries is not None and self.num_buckets is not None:
            raise ConfigError(f"num_buckets is for automatic buckets; leave it out, or buckets {self.buckets!r}.")

    @property
    def valid_interval(self) -> tuple[int | None, float | None]:
        """(updates, seconds) between validations inside an epoch; None for the one that does not count."""
        if self.valid_every is None:
            return None, None
        found = re.fullmatch(r"(\d+)|(\d+(?:\.\d+)?)([smh])", str(self.valid_every))
        updates, amount, unit = found.groups() if found else (None, None, None)
        count = float(updates or amount or 0)
        if not 0 < count <= MAX_COUNT:
            rule = "must be a number of updates from 1 on, or a time such as 90s, 5m or 1h"
            raise ConfigError(f"valid_every {rule}, got {said(self.valid_every)}.")
        return (int(count), None) if unit is None else (None, count * {"s": 1, "m": 60, "h": 3600}[unit])

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

    def check_documents(self, documents: str | None) -> None:
        """Raise ConfigError if this asks for what only documents have, and the text is one stream."""
        for name in ("buckets", "num_buckets", "tokens_per_batch"):
            if documents is None and getattr(self, name) is not None:
                raise ConfigError(
                    f"{name} is for documents, and the text is one stream; choose documents or leave it out."
                )
