"""The shape of a network that reads a text and says which label it has, and how it is trained."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

from nblstm.config.checks import MAX_SIZE, at_least, at_most, fraction, is_number, one_of, said, strings
from nblstm.config.network import TokenStackConfig
from nblstm.config.training import ON_DIVERGENCE, Recipe
from nblstm.errors import ConfigError
from nblstm.nn.pooling import POOLINGS, pooling_shapes

LABEL_TYPES = {"str": str, "int": int, "bool": "True".__eq__}  # name of a type -> makes a label of its name
MONITORS = ("loss", "accuracy")
BALANCED = "balanced"
CLASSIFIER_EPOCHS = 10  # unless epochs, steps or minutes is set


@dataclass(frozen=True)
class ClassifierConfig(TokenStackConfig):
    """A stack between the embedding of tokens and a softmax over labels; stored in its file."""

    _: KW_ONLY
    labels: tuple[str, ...]  # their names, in the order of the outputs
    label_type: str = "str"  # str | int | bool: what the labels are
    pooling: str = "mean"  # last | mean | max | attention: how the outputs of all steps become one vector
    bidirectional: bool = True  # every layer reads a text in both directions
    max_length: int = 2000  # tokens of a text that are read, from its start
    hidden_size: int = 128
    num_layers: int = 1
    dropout: float = 0.3
    input_dropout: float = 0.3
    output_dropout: float = 0.5  # of the pooled vector

    KEY: ClassVar[str] = "nblstm_classifier"

    def __post_init__(self) -> None:
        strings(self, "labels")
        super().__post_init__()
        one_of(self, "pooling", tuple(POOLINGS))
        one_of(self, "label_type", tuple(LABEL_TYPES))
        at_least(self, 1, "max_length")
        at_most(self, MAX_SIZE, "max_length")
        if self.tie or self.head != "linear":
            raise ConfigError("the head of a classifier sees what is pooled and is its own; leave tie and head out.")
        if len(self.labels) < 2 or len(set(self.labels)) < len(self.labels):
            raise ConfigError(f"labels must be at least two, all different, got {said(self.labels)}.")
        self._check_names()

    def _check_names(self) -> None:
        """Raise ConfigError unless every label's name is that of a label of the type, which NumPy keeps as it is."""
        for name in self.labels:
            if name.endswith("\0"):
                raise ConfigError(f"labels must not end with a NUL character, got {said(name)}.")
        for name in self.labels if self.label_type != "str" else ():
            try:
                found = str(LABEL_TYPES[self.label_type](name))  # type: ignore[operator]
            except ValueError:
                found = ""
            if found != name:
                raise ConfigError(f"labels must be names of {self.label_type} values, got {said(name)}.")

    @property
    def classes(self) -> list[Any]:
        """The labels, in the order of the outputs."""
        return [LABEL_TYPES[self.label_type](name) for name in self.labels]  # type: ignore[operator]

    @property
    def directions(self) -> int:  # type: ignore[override]
        """In how many directions a layer reads."""
        return 2 if self.bidirectional else 1

    @property
    def num_outputs(self) -> int:  # type: ignore[override]
        """How many logits the head makes: one a label."""
        return len(self.labels)

    @property
    def dropouts(self) -> list[float]:
        """The share that is zeroed behind each layer; what is pooled of the last one has its own."""
        return [self.dropout] * (self.num_layers - 1) + [0.0]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape, in the order of the flat buffer."""
        embedding = {"embedding.weight": (self.vocab_size, self.embedding_size)}
        return {**embedding, **self.stack_shapes, **pooling_shapes(self.pooling, self.head_size), **self.head_shapes}

    @property
    def description(self) -> str:
        """The network in a few words: "LSTM 1 x 128, bidirectional, mean pooling, 2 labels"."""
        return f"{super().description}, {self.pooling} pooling, {len(self.labels)} labels"


@dataclass(frozen=True, kw_only=True)
class ClassifierTraining(Recipe):
    """How a classifier is trained."""

    label_smoothing: float = 0.0  # share of a label's probability that is spread over all labels
    class_weights: dict | str | None = None  # label -> how much its texts count; others count 1 | balanced
    monitor: str = "loss"  # loss | accuracy: by which of these in validation the best weights are kept
    bayes_init: bool = True  # vectors of words begin with how much more the texts of each label have them
    lr: float | None = 2e-3
    warmup: int = 0
    on_divergence: str = "stop"  # type: ignore[misc] # stop | rollback, of a run with files

    def __post_init__(self) -> None:
        if self.epochs is None and self.steps is None and self.minutes is None:
            object.__setattr__(self, "epochs", CLASSIFIER_EPOCHS)
        super().__post_init__()
        fraction(self, "label_smoothing")
        one_of(self, "monitor", MONITORS)
        one_of(self, "on_divergence", ON_DIVERGENCE)
        if isinstance(self.class_weights, dict):
            for label, weight in self.class_weights.items():
                if not (is_number(weight) and weight >= 0):
                    raise ConfigError(
                        f"class_weights must be numbers of at least 0, got {said(weight)} for {said(label)}."
                    )
        elif self.class_weights not in (None, BALANCED):
            raise ConfigError(
                f"class_weights must be label -> weight, or {BALANCED!r}, got {said(self.class_weights)}."
            )

    def recipe(self) -> dict[str, Any]:
        """Return the fields that weights are a function of, as JSON values."""
        fields = super().recipe()
        if isinstance(self.class_weights, dict):
            fields["class_weights"] = {str(label): float(weight) for label, weight in self.class_weights.items()}
        return fields
