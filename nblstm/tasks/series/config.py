"""The shape of a network that reads series of numbers and predicts numbers, and how it is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

from nblstm.config.checks import MAX_SIZE, at_least, at_most, check_types, one_of
from nblstm.config.network import StackConfig, restored, stored
from nblstm.config.training import Recipe
from nblstm.errors import ConfigError

PREDICTS = ("next", "targets")
SERIES_STEPS = 1000  # updates, unless epochs, steps or minutes is set
RENAMED = {"embedding_size": "num_inputs", "vocab_size": "num_outputs"}  # in files -> here


@dataclass(frozen=True)
class SeriesConfig(StackConfig):
    """A stack that reads numbers as they are and predicts others; stored in its file."""

    num_outputs: int  # K: numbers it predicts at a step
    num_inputs: int  # D: numbers it reads at a step
    predicts: str = "next"  # next: the numbers of the next step | targets: those that were given beside the series
    bidirectional: bool = False  # every layer reads a series in both directions
    _: KW_ONLY
    hidden_size: int = 64
    num_layers: int = 1
    dropout: float = 0.0

    KEY: ClassVar[str] = "nblstm_series"
    has_vocabulary: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_types(self)
        at_least(self, 1, "num_outputs", "num_inputs")
        at_most(self, MAX_SIZE, "num_outputs", "num_inputs")
        one_of(self, "predicts", PREDICTS)
        self.check_stack()
        if self.predicts == "next" and self.bidirectional:
            raise ConfigError("a bidirectional model would read what it is to predict; give it targets of its own.")
        if self.predicts == "next" and self.num_outputs != self.num_inputs:
            sizes = f"{self.num_outputs} and {self.num_inputs}"
            raise ConfigError(f"a model predicts the next of the numbers it reads, as many as it reads, got {sizes}.")
        self.check_size("hidden_size or num_layers")

    @property
    def directions(self) -> int:  # type: ignore[override]
        """In how many directions a layer reads."""
        return 2 if self.bidirectional else 1

    @property
    def input_size(self) -> int:
        """How many numbers the first layer reads at a step."""
        return self.num_inputs

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape, in the order of the flat buffer."""
        return {**self.stack_shapes, **self.head_shapes}

    @property
    def extra_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of the scales by which series are standardised."""
        sizes = {"inputs": self.num_inputs, "targets": self.num_outputs}
        return {f"{name}.{part}": (size,) for name, size in sizes.items() for part in ("mean", "deviation")}

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as files hold them."""
        fields = stored(self, **{old: getattr(self, new) for old, new in RENAMED.items()})
        return {
            **{name: value for name, value in fields.items() if name not in RENAMED.values()},
            "predicts": self.predicts,
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> SeriesConfig:
        """Make the config that `to_dict` came from. ConfigError names a field this version does not know."""
        return super().from_dict({RENAMED.get(name, name): value for name, value in restored(cls, fields).items()})


@dataclass(frozen=True, kw_only=True)
class SeriesTraining(Recipe):
    """How a network of series is trained."""

    bptt: int = 64  # T: steps between two updates (truncated back-propagation through time)

    def __post_init__(self) -> None:
        if self.epochs is None and self.steps is None and self.minutes is None:
            object.__setattr__(self, "steps", SERIES_STEPS)
        super().__post_init__()
        at_least(self, 1, "bptt")
        at_most(self, MAX_SIZE, "bptt")
