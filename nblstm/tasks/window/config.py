"""The shape of a network that sees the last few tokens and remembers nothing, and how it is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nblstm.config.checks import MAX_SIZE, at_least, at_most, check_types, fraction, one_of
from nblstm.config.network import DTYPES, MAX_PARAMETERS, NetworkConfig
from nblstm.config.text import PADDINGS
from nblstm.config.training import TargetWeights


@dataclass(frozen=True)
class WindowConfig(NetworkConfig):
    """The last few tokens, a dense layer, a softmax; stored in its file."""

    vocab_size: int  # V: number of tokens
    window: int = 10  # n: tokens it sees
    padding: str = "pre"  # pre | post: where the window is filled up while a text is shorter
    embedding_size: int = 0  # E: size of a token's vector; 0 feeds tokens one-hot
    hidden_size: int = 128  # H: units of the dense layer
    dropout: float = 0.5  # share of the dense layer's outputs that the head does not see in training
    dtype: str = "float32"  # of parameters and activations

    KEY: ClassVar[str] = "nblstm_window"

    def __post_init__(self) -> None:
        check_types(self)
        at_least(self, 1, "vocab_size", "window", "hidden_size")
        at_least(self, 0, "embedding_size")
        at_most(self, MAX_SIZE, "window", "hidden_size", "embedding_size")
        at_most(self, MAX_PARAMETERS, "vocab_size")
        fraction(self, "dropout")
        one_of(self, "padding", PADDINGS)
        one_of(self, "dtype", DTYPES)
        self.check_size("window, hidden_size or embedding_size")

    @property
    def head_size(self) -> int:
        """How many numbers the head sees."""
        return self.hidden_size

    @property
    def num_outputs(self) -> int:  # type: ignore[override]
        """V: how many logits the head makes."""
        return self.vocab_size

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of the parameters. Row k V + v of window.weight is what token v at place k adds to a unit."""
        V, n, E, H = self.vocab_size, self.window, self.embedding_size, self.hidden_size
        inputs = {"embedding.weight": (V, E), "dense.weight": (H, n * E)} if E else {"window.weight": (n * V, H)}
        return {**inputs, "dense.bias": (H,), **self.head_shapes}

    @property
    def description(self) -> str:
        """The network in a few words: "MLP 128, window 16, one-hot"."""
        inputs = f"embedding {self.embedding_size}" if self.embedding_size else "one-hot"
        return f"MLP {self.hidden_size}, window {self.window}, {inputs}"


@dataclass(frozen=True, kw_only=True)
class WindowTraining(TargetWeights):
    """How such a network is trained."""

    batch_size: int = 256  # windows of an update
