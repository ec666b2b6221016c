"""LearningModel: a model of text that learns from, or remembers, what it reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from nblstm import checks
from nblstm.config import is_number
from nblstm.errors import ConfigError
from nblstm.kernels import fastest
from nblstm.nn.network import Network
from nblstm.tasks.text_model import TextModel
from nblstm.text.strings import checked

if TYPE_CHECKING:
    from typing_extensions import Self

    from nblstm.adapting import AdaptingNetwork
    from nblstm.scoring import Score


class LearningModel(TextModel):
    """Base of models that read from left to right, and can be changed by what they read."""

    statistics: np.ndarray | None = None  # gradient statistics (num_parameters,), see `prepared`
    int8: bool = False  # its matrices are rounded to small integers, see `LanguageModel.quantize`

    def prepared(
        self,
        text: str,
        backend: str = "auto",
        threads: int = 0,
        on_progress: Callable[[int], None] = lambda tokens: None,
    ) -> Self:
        """Return the same model with gradient statistics, by which it learns better while it reads.

        text: that of its training, or some of it. ConfigError if it is too short; see `nblstm.adapting`. on_progress:
        called with the number of tokens read since the last call.
        """
        from nblstm.adapting import gradient_statistics

        network = self.network(fastest() if checks.a(str, "backend", backend) == "auto" else backend, threads)
        return self.with_statistics(gradient_statistics(network, self.encode(text), on_progress))

    def _like(self, training: dict[str, Any]) -> Self:
        """Return a model with the same weights and other facts."""
        model = type(self)(self.config, self.vocabulary, self._given, training)
        model.int8 = self.int8
        return model

    def with_statistics(self, statistics: np.ndarray | None) -> Self:
        """Return the same model with these gradient statistics (num_parameters,), or with none. ConfigError for others."""
        from nblstm.adapting import check_statistics

        model = self._like(self.training)
        model.statistics = None if statistics is None else check_statistics(self.config, statistics)
        return model

    def with_best_rate(
        self,
        text: str,
        backend: str = "auto",
        threads: int = 0,
        on_progress: Callable[[int], None] = lambda tokens: None,
    ) -> tuple[Self, list[float]]:
        """Return the same model with the rate of learning that does best on a text, and the loss with each of the RATES.

        text: one that was not trained on, and on which the model is not judged. `adapting` takes the rate, from then on.
        """
        from nblstm.adapting import RATES

        losses = []
        for rate in RATES:
            losses.append(self.dynamic_score(text, backend, threads, rule="rms", rate=rate).loss)
            on_progress(len(text))
        kept = {"rate": RATES[int(np.argmin(losses))]}
        return self._like({**self.training, "adapt": kept}).with_statistics(self.statistics), losses

    def adapting(self, backend: str = "auto", threads: int = 0, **settings: Any) -> AdaptingNetwork:
        """Return a network that learns from what it reads, for `nblstm.scoring`; the model stays as it is.

        backend: "numpy", "cpu", or "auto" for the fastest that there is. settings: fields of AdaptConfig (rule, rate,
        decay, segment); ConfigError names a wrong one.
        """
        from nblstm.adapting import AdaptingNetwork
        from nblstm.config.adapting import AdaptConfig

        how = AdaptConfig.from_dict(settings)
        if how.rate is None and how.rule != "sgd" and self.statistics is not None:
            how = replace(how, rate=self._kept_rate())
        chosen = fastest() if checks.a(str, "backend", backend) == "auto" else backend
        return AdaptingNetwork(self.config, self.parameters, self.statistics, how, chosen, threads)

    def _kept_rate(self) -> float | None:
        """Return the rate that `with_best_rate` has kept, or None; a file may hold anything there."""
        kept = self.training.get("adapt")
        rate = kept.get("rate") if isinstance(kept, dict) else None
        return float(rate) if isinstance(rate, (int, float)) and is_number(rate) and rate > 0 else None

    def adapt(self, text: str, backend: str = "auto", threads: int = 0, **settings: Any) -> Self:
        """Return a model that has read a text, and learned from it; arguments as in `adapting`. This one stays as it is."""
        from nblstm.scoring import score

        network = self.adapting(backend, threads, **settings)
        score(network, self.vocabulary, [checked(text)])
        return self.taught(network)

    def taught(self, network: AdaptingNetwork) -> Self:
        """Return a model with what a network of `adapting` has learned so far. ConfigError for another model's."""
        from nblstm.adapting import AdaptingNetwork

        if checks.a(AdaptingNetwork, "network", network).config != self.config:
            raise ConfigError("the network is of another model; take one of this model's adapting().")
        model = type(self)(self.config, self.vocabulary, network.parameters.copy(), self.training)
        model.statistics = self.statistics
        return model

    def dynamic_score(self, text: str, backend: str = "auto", threads: int = 0, **settings: Any) -> Score:
        """Score a text as `score` does, while learning from it; arguments as in `adapting`. Never mix the two."""
        from nblstm.scoring import score

        return score(self.adapting(backend, threads, **settings), self.vocabulary, [checked(text)])

    def caching(
        self, backend: str = "auto", threads: int = 0, adapt: Mapping[str, Any] | None = None, **settings: Any
    ) -> Network:
        """Return a network with a neural cache, which remembers what it reads, for `nblstm.scoring`; see `nn.caching`.

        adapt: learn from it, too, by these fields of AdaptConfig. settings: fields of CacheConfig (size, theta, share).
        ConfigError names a wrong one, and for a model of characters or bytes, which come again everywhere.
        """
        from nblstm.config.caching import CacheConfig
        from nblstm.nn.caching import CacheHead

        how = CacheConfig.from_dict(settings)
        if self.vocabulary.level not in ("word", "subword"):
            raise ConfigError(f"a cache is for models of words or sub-words, got level {self.vocabulary.level!r}.")
        chosen = fastest() if checks.a(str, "backend", backend) == "auto" else backend
        network = (
            self._new_network(chosen, threads)
            if adapt is None
            else self.adapting(chosen, threads, **checks.a(dict, "adapt", adapt))
        )
        network.head = CacheHead(network.head, how)
        return network
