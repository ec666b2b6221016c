"""Translator: what a source is in the words of another side."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from nblstm.checks import no_setting
from nblstm.errors import ConfigError
from nblstm.files.model_file import ModelFile, save_model
from nblstm.kernels import fastest
from nblstm.nn.parameters import flatten, named_tensors
from nblstm.scoring import validation_loss
from nblstm.tasks.estimator import Estimator, check_pair, run_to_end
from nblstm.tasks.run import sized
from nblstm.tasks.translation.batches import PairedTexts
from nblstm.tasks.translation.config import TranslateConfig, TranslatorConfig, TranslatorTraining
from nblstm.tasks.translation.measures import TranslationScores, corpus_bleu
from nblstm.tasks.translation.network import TranslationNetwork, initial_translator
from nblstm.tasks.translation.pairs import (
    Vocabularies,
    checked_pairs,
    checked_sources,
    encoded_pairs,
    sizes_of,
    split_pairs,
    vocabularies_of,
)
from nblstm.tasks.translation.settings import TRANSLATOR_SETTINGS, PairedTextConfig
from nblstm.tasks.translation.training import PAIRS_AT_ONCE, PairedCorpus, translator_facts, translator_trainer
from nblstm.tasks.translation.writing import Translation, source_tokens, write_translations
from nblstm.text.strings import checked
from nblstm.text.vectors import WordVectors, read_vectors
from nblstm.text.vocabulary import Vocabulary, check_vocabulary
from nblstm.training.report import Report

FEW = 20  # sources that NumPy translates before numba is there


class Translator(Estimator):
    """A model that learns to write the target of a source: a translation, a shorter sentence, an answer, a caption.

        model = nblstm.Translator(hidden_size=128, epochs=10).fit(sources, targets)
        model.translate(["ein Hund rennt"])

    Settings: fields of TranslatorConfig (hidden_size, num_layers, cell, attention, bidirectional, max_length, ...),
    of PairedTextConfig (level, source_level, shared_vocabulary, tokenizer, min_count, ...) and of TranslatorTraining
    (epochs, lr, batch_size, patience, label_smoothing, monitor, ...). A share `valid_fraction` of the pairs is not learned
    from; the weights that do best on it by `monitor` are kept.

    Once it is fitted or loaded: config (TranslatorConfig), vocabulary of the targets, source_vocabulary (None where sources
    are vectors), parameters (config.num_parameters,) of config.dtype, training (facts about how it was made). Any number of
    threads may ask one model at once.
    """

    CONFIGS = (TranslatorConfig, PairedTextConfig, TranslatorTraining)
    GIVEN = TRANSLATOR_SETTINGS.given | {"encoding", "on_divergence"}
    KIND = "transformer"
    config: TranslatorConfig

    def check_settings(self) -> None:
        """Raise ConfigError for a wrong value, or values that exclude each other."""
        text = PairedTextConfig(**self.of(PairedTextConfig))
        TranslatorConfig(3, 3, shared=text.shared_vocabulary, **self.of(TranslatorConfig))
        TranslatorTraining(**self.of(TranslatorTraining))

    # ------------------------------------------------------------ training

    def fit(
        self,
        sources: Iterable[str] | np.ndarray,
        targets: Iterable[str],
        *,
        valid: tuple[Any, Iterable[str]] | None = None,
        vectors: str | os.PathLike[str] | None = None,
        on_report: Callable[[Report], None] = lambda report: None,
        on_message: Callable[[str], None] = lambda message: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> Translator:
        """Learn the targets of sources from the start; return the model itself.

        sources: texts, or numbers (texts, D), such as the features of images, with attention="none". targets: a text each.
        valid: (sources, targets) to validate with in place of a share of these. vectors: a file of word vectors, as
        word2vec and GloVe write them, that words of the sources begin with; embedding_size is theirs then. on_report is
        called after every update and every validation with a Report, whose losses are nats a token (of a validation its
        measures hold BLEU, too); on_message with sentences for the user. Training ends early once stop() is true; where
        an interrupt or an error ends it after its first update, what was learned is kept. Needs numba to be quick.
        Raises ConfigError for a wrong setting, TextError for what is no text, TrainingError if training diverges.
        """
        learned = checked_pairs(sources, targets, "targets")
        check_pair(valid, "sources and their targets")
        given = None if valid is None else checked_pairs(valid[0], valid[1], "targets to validate with")
        recipe, text = TranslatorTraining(**self.of(TranslatorTraining)), PairedTextConfig(**self.of(PairedTextConfig))
        if given is None:
            learned, given = split_pairs(learned, text.valid_fraction, recipe.seed)
        vocabularies = vocabularies_of(learned, text)
        found = None if vectors is None else _vectors(vectors, vocabularies[0])
        corpus = PairedCorpus(vocabularies, learned, given, found)
        shape = sized(self.of(TranslatorConfig), found)
        config = TranslatorConfig(**sizes_of(vocabularies, learned[0]), **shape)
        parameters = initial_translator(config, recipe.seed, found)
        trainer = translator_trainer(config, parameters, recipe, corpus, on_message)
        learn = lambda: self._take(config, corpus.vocabularies, trainer.keep(), translator_facts(corpus, trainer))
        run_to_end(trainer, stop, on_report, learn)
        return self

    def _take(
        self, config: TranslatorConfig, vocabularies: Vocabularies, parameters: np.ndarray, training: dict[str, Any]
    ) -> Translator:
        """Set config, vocabularies and parameters. ConfigError unless they fit together."""
        source, target = vocabularies
        check_vocabulary(TranslatorConfig, config, target)
        if (0 if source is None else len(source)) != config.source_vocab_size:
            raise ConfigError(f"source_vocab_size is {config.source_vocab_size}, and the sources' vocabulary differs.")
        for vocabulary in (source, target):
            if vocabulary is not None and vocabulary.end_id is None:
                raise ConfigError(
                    "the vocabularies of a translator must have an <end>, by which it knows that it is done."
                )
        self.vocabulary, self.source_vocabulary = target, source
        self._hold(config, parameters, training)
        return self

    # ------------------------------------------------------------ asking

    def translate(self, sources: Iterable[str] | np.ndarray, *, threads: int = 0, **how: Any) -> list[str]:
        """Translate each source: the texts of the best of `translations`, whose arguments these are."""
        return [found[0].text for found in self.translations(sources, threads=threads, **how)]

    def translations(
        self, sources: Iterable[str] | np.ndarray, *, threads: int = 0, **how: Any
    ) -> list[list[Translation]]:
        """Find the best translations of each source, or draw some; of each the best first.

        how: fields of TranslateConfig, such as beam=5, or temperature=0.8, top_p=0.9, num_samples=3 to draw. threads: 0
        for every core. Of a source longer than config.max_length tokens the first ones are read.
        Raises ConfigError before there is a model and for a wrong setting, TextError for what is no text.
        """
        self._fitted()
        asked, config = self._checked_sources(sources), _how(how)
        network = self._network(self._backend(config.backend, len(asked)), threads)
        return write_translations(network, self._vocabularies, asked, config)

    @property
    def _vocabularies(self) -> Vocabularies:
        return self.source_vocabulary, self.vocabulary

    def source_tokens(self, source: str) -> tuple[str, ...]:
        """Split a source into the tokens that are read of it, <end> behind them. TextError if it is no text."""
        self._fitted()
        if self.source_vocabulary is None:
            raise ConfigError("the sources of this model are vectors, which have no tokens.")
        return source_tokens(self.source_vocabulary, checked(source, str), self.config.max_length)

    def score(self, sources: Any, targets: Iterable[str], *, threads: int = 0, **how: Any) -> float:
        """Return BLEU, 0 to 100, of the translations of sources, at least one, by their targets; see `evaluate`."""
        return self.evaluate(sources, targets, threads=threads, **how).bleu

    def evaluate(self, sources: Any, targets: Iterable[str], *, threads: int = 0, **how: Any) -> TranslationScores:
        """Measure perplexity, exact match and BLEU on sources, at least one, and their targets.

        how: as `translations` takes it. BLEU is of words between blanks, see `nblstm.tasks.translation.measures`.
        """
        self._fitted()
        asked, wanted = checked_pairs(sources, targets, "targets")
        if not wanted:
            raise ConfigError("there is nothing to measure without pairs; give one at least.")
        translated = self.translate(asked, threads=threads, **how)
        config = _how(how)
        network = self._network(self._backend(config.backend, len(wanted)), threads)
        pairs = encoded_pairs((asked, wanted), self._vocabularies, self.config)
        loss = validation_loss(network, PairedTexts(*pairs, PAIRS_AT_ONCE, seed=None).epoch(0))
        assert loss is not None  # nobody stops it
        exact = sum(a == b.strip() for a, b in zip(translated, wanted)) / len(wanted)
        return TranslationScores(float(np.exp(loss)), exact, corpus_bleu(translated, wanted), len(wanted))

    # ------------------------------------------------------------ helpers

    def _checked_sources(self, sources: Any) -> list[str] | np.ndarray:
        """Return sources of this model. ConfigError or TextError for others."""
        found = checked_sources(sources)
        size = self.config.source_size
        if size != (found.shape[1] if isinstance(found, np.ndarray) else 0):
            raise ConfigError(f"sources of this model are {f'vectors of {size} numbers' if size else 'texts'}.")
        return found

    def _backend(self, backend: str, sources: int) -> str:
        """Return the backend: of "auto" NumPy for a few sources, which it has done before numba is there."""
        if backend != "auto":
            return backend
        return "numpy" if sources < FEW and not self._networks else fastest()

    def _make_network(self, backend: str, threads: int) -> TranslationNetwork:
        return TranslationNetwork(self.config, self.parameters, backend, threads, constant=True)

    # ------------------------------------------------------------ files

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to one file, atomically. ModelFileError if it cannot be written."""
        self._fitted()
        weights, source = named_tensors(self.parameters, self.config), self.source_vocabulary
        more = {name: source for name in self.config.more_vocabularies if source is not None}
        save_model(path, ModelFile(self.config, self.vocabulary, weights, {}, self.training, more))

    @classmethod
    def restore(cls, file: ModelFile) -> Translator:
        """Make the model of a file's content. ConfigError where it does not fit together."""
        config, target = file.config, file.vocabulary
        assert isinstance(config, TranslatorConfig) and target is not None
        source = None if config.source_size else file.more.get("source_vocabulary", target)
        return cls.of_parameters(config, (source, target), flatten(file.weights, config), file.training)

    @classmethod
    def of_parameters(
        cls, config: TranslatorConfig, vocabularies: Vocabularies, parameters: np.ndarray, training: dict[str, Any]
    ) -> Translator:
        """Make a fitted model. vocabularies: of sources (None for vectors) and targets. ConfigError unless these fit together."""
        source, target = vocabularies
        fields = cls._settings_of(config)
        source_level = None if source is None or source.level == target.level else source.level
        text = {"source_level": source_level, "shared_vocabulary": config.shared}
        model = cls(level=target.level, tokenizer=target.tokenizer, **text, **fields)
        return model._take(config, vocabularies, parameters, training)


def _vectors(path: Any, vocabulary: Vocabulary | None) -> WordVectors:
    """Read the vectors of the sources' words. ConfigError for sources that have none."""
    if vocabulary is None:
        raise ConfigError("sources that are numbers have no words; leave vectors out.")
    return read_vectors(path, vocabulary)


def _how(settings: dict[str, Any]) -> TranslateConfig:
    """Make the config of keywords. ConfigError for a name that it does not have."""
    for name in settings:
        if name not in TranslateConfig.names():
            raise no_setting(name, TranslateConfig.names(), " of a translation")
    return TranslateConfig(**settings)
