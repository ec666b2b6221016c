"""The shape of a network that predicts the next token."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from nblstm.config.adaptive import FEWEST_TOKENS, cluster_size, parse_cutoffs, zipf_cutoffs
from nblstm.config.checks import only_with
from nblstm.config.network import HEADS, TokenStackConfig
from nblstm.errors import ConfigError

LANGUAGE_HEADS = (*HEADS, "adaptive")


@dataclass(frozen=True)
class LanguageConfig(TokenStackConfig):
    """A language model that reads from left to right; stored in its file."""

    cutoffs: str | None = None  # of an adaptive head: the tokens that begin its clusters, "2000,10000"; None: chosen

    KEY: ClassVar[str] = "nblstm"
    may_adapt: ClassVar[bool] = True
    may_be_int8: ClassVar[bool] = True
    heads: ClassVar[tuple[str, ...]] = LANGUAGE_HEADS

    def check_stack(self) -> None:
        """Raise ConfigError for a wrong field, or choices that exclude each other; choose what is left open."""
        super().check_stack()
        only_with(self, "head", {"adaptive": ("cutoffs",), **dict.fromkeys(HEADS, ())})
        if self.is_adaptive:
            if self.tie:
                raise ConfigError("tie needs one vector of a size for every token, unlike head adaptive; leave it out.")
            if self.cutoffs is None:
                object.__setattr__(self, "cutoffs", zipf_cutoffs(self.vocab_size))
            _ = self.edges  # ConfigError for cutoffs that are none

    @classmethod
    def owns(cls, fields: Mapping[str, Any]) -> bool:
        """Tell whether stored fields are those of this config, not of a masked model."""
        return fields.get("bidirectional") is not True

    @classmethod
    def fewest_tokens(cls, fields: Mapping[str, Any]) -> int:
        """Return the least vocab_size with which fields may be a config: with an adaptive head, one that can be cut."""
        if fields.get("head") != "adaptive":
            return super().fewest_tokens(fields)
        return 1 + max([FEWEST_TOKENS, *map(int, re.findall(r"\d{1,9}", str(fields.get("cutoffs"))))])

    @property
    def is_adaptive(self) -> bool:
        """Whether the head is an adaptive softmax, see `nblstm.nn.adaptive`."""
        return self.head == "adaptive"

    @property
    def edges(self) -> tuple[int, ...]:
        """Where the shortlist and the clusters of an adaptive head begin and end: (0, K, ..., V)."""
        assert self.cutoffs is not None
        return 0, *parse_cutoffs(self.cutoffs, self.vocab_size), self.vocab_size

    @property
    def head_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of the head's parameters, of an adaptive one those of torch.nn.AdaptiveLogSoftmaxWithLoss."""
        if not self.is_adaptive:
            return super().head_shapes
        _, shortlist, *ends = self.edges
        outputs, F = shortlist + len(ends), self.head_size
        shapes: dict[str, tuple[int, ...]] = {"head.head.weight": (outputs, F), "head.head.bias": (outputs,)}
        for i, (start, end) in enumerate(zip((shortlist, *ends), ends)):
            size = cluster_size(F, i + 1)
            shapes |= {f"head.tail.{i}.0.weight": (size, F), f"head.tail.{i}.1.weight": (end - start, size)}
        return shapes

    @property
    def description(self) -> str:
        """The network in a few words: "LSTM 2 x 256, adaptive head"."""
        return super().description + ", adaptive head" * self.is_adaptive

    def check_level(self, level: str) -> None:
        """Raise ConfigError for tokens that are not ordered by falling counts, where the head cuts them in clusters."""
        if self.is_adaptive and level != "word":
            raise ConfigError(
                f"head adaptive is for words, which a vocabulary has by falling counts, not for level {level}; choose "
                "level word, or head linear."
            )
