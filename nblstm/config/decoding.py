"""How text is drawn from a network, and searched for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nblstm.config.checks import (
    MAX_SIZE,
    MAX_TOKENS,
    Config,
    above_zero,
    at_least,
    at_most,
    check_types,
    is_number,
    one_of,
    said,
    strings,
)
from nblstm.errors import ConfigError

if TYPE_CHECKING:
    from nblstm.kernels import Filters

BACKENDS = ("auto", "numpy", "cpu", "cuda")
MAX_BEAM = 10_000  # hypotheses of a search
MAX_BIAS = 100  # of a logit


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)  # of other configs: it has no instances
class FilterConfig(Config):
    """Which tokens may be drawn, and how likely. Equations and order: `nblstm.kernels.reference.draw`."""

    top_k: int = 0  # draw from the k most likely tokens; 0 draws from all
    top_p: float = 1.0  # draw from the most likely tokens that together have this probability
    min_p: float = 0.0  # draw from tokens at least this times as likely as the most likely
    typical_p: float = 1.0  # draw from the tokens of most typical surprise that together have this probability
    repetition_penalty: float = 1.0  # divides the positive logits of tokens that were there, multiplies the negative
    repetition_window: int = 64  # tokens that the penalties look back; 0: all
    presence_penalty: float = 0.0  # what the logit of a token that was there loses
    frequency_penalty: float = 0.0  # what it loses for each time that the token was there
    no_repeat_ngram: int = 0  # no sequence of so many tokens comes twice; 0 lets them

    def __post_init__(self) -> None:
        check_types(self)
        at_least(self, 0, "top_k", "min_p", "repetition_window", "no_repeat_ngram")
        above_zero(self, "top_p", "typical_p")
        at_most(self, 1, "top_p", "min_p", "typical_p")
        at_least(self, 0.01, "repetition_penalty")
        at_most(self, 100, "repetition_penalty")
        at_least(self, -MAX_BIAS, "presence_penalty", "frequency_penalty")
        at_most(self, MAX_BIAS, "presence_penalty", "frequency_penalty")
        at_most(self, MAX_TOKENS, "top_k", "repetition_window", "no_repeat_ngram")

    def filters(self, temperature: float | None) -> Filters:
        """Return what the kernels draw by, at a temperature; None: 1."""
        from nblstm.kernels import Filters  # with NumPy, which a command that only looks at its settings need not load

        chosen = {name: getattr(self, name) for name in Filters._fields if name != "temperature"}
        return Filters(1.0 if temperature is None else temperature, **chosen)


@dataclass(frozen=True)
class SampleConfig(FilterConfig):
    """How text is drawn from a network."""

    n: int = 200  # tokens to generate; the prompt is not counted
    temperature: float = 1.0  # logits are divided by it; 0 takes the most likely token
    logit_bias: dict | None = None  # token -> what is added to its logit; -MAX_BIAS: it never comes
    seed: int | None = None  # None draws a fresh one
    num_samples: int = 1  # texts
    backend: str = "auto"  # numpy | cpu | cuda | auto: whichever is expected to finish first

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 0, "n", "temperature", "seed")
        at_least(self, 1, "num_samples")
        for token, bias in (self.logit_bias or {}).items():
            if not (is_number(bias) and -MAX_BIAS <= bias <= MAX_BIAS and isinstance(token, str)):
                rule = f"must be numbers from -{MAX_BIAS} to {MAX_BIAS}"
                raise ConfigError(f"logit_bias {rule}, got {said(bias)} for {said(token)}.")
        at_most(self, MAX_TOKENS, "n")
        at_most(self, MAX_SIZE, "num_samples")
        one_of(self, "backend", BACKENDS)


@dataclass(frozen=True)
class BeamConfig(Config):
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
        strings(self, "stop")
        check_types(self)
        at_least(self, 0, "n", "length_penalty", "diversity", "seed")
        at_least(self, 1, "beam", "num_samples", "groups")
        at_most(self, MAX_TOKENS, "n")
        at_most(self, 30, "length_penalty")
        at_most(self, MAX_BEAM, "beam")
        one_of(self, "backend", BACKENDS)
        if self.num_samples > self.beam:
            raise ConfigError(f"num_samples must be at most beam, {self.beam}, got {self.num_samples}; raise beam.")
        if self.beam % self.groups:
            raise ConfigError(f"beam must be a multiple of groups, got {self.beam} and {self.groups}.")
        if self.stochastic and self.groups > 1:
            raise ConfigError(f"a stochastic beam has no groups, got groups {self.groups}; its texts differ as it is.")
