"""Tagger: a tag for each word of a sentence."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from nblstm import checks
from nblstm.config.checks import said
from nblstm.errors import ConfigError, TextError
from nblstm.files.model_file import ModelFile, save_model
from nblstm.nn.parameters import flatten, named_tensors
from nblstm.scoring import backend_for
from nblstm.tasks.estimator import Estimator, check_pair, run_to_end
from nblstm.tasks.run import sized
from nblstm.tasks.tagging.batches import TaggedSentences
from nblstm.tasks.tagging.config import TaggerConfig
from nblstm.tasks.tagging.measures import TagEvaluation
from nblstm.tasks.tagging.network import TaggerNetwork, initial_tagger
from nblstm.tasks.tagging.settings import GIVEN_BY_DATA, TaggedTextConfig, TaggerTraining
from nblstm.tasks.tagging.spans import rewritten, scheme_of
from nblstm.tasks.tagging.training import TaggedPart, corpus_of, tagger_facts, tagger_trainer
from nblstm.text.strings import checked
from nblstm.text.vectors import read_vectors
from nblstm.text.vocabulary import Vocabulary, check_vocabulary
from nblstm.training.report import Report


class Tagger(Estimator):
    """A model that learns which tag each word of a sentence has, and says it of others.

        model = nblstm.Tagger(epochs=20).fit(sentences, tags)
        model.predict([["Peter", "lives", "in", "Bonn"]])

    Sentences are lists of words, tags lists of as many strings: names of parts of speech, or marks of spans in iob1, iob2
    or iobes (`nblstm.tasks.tagging.spans`), which come back in the scheme in which they were learned.

    Settings: fields of TaggerConfig (hidden_size, char_hidden_size, head, lowercase, ...), of TaggedTextConfig (min_count,
    max_vocab, valid_fraction) and of TaggerTraining (epochs, lr, batch_size, patience, monitor, ...). A share
    `valid_fraction` of the sentences is not learned from; the weights that do best on it by `monitor` are kept.

    Once it is fitted or loaded: config (TaggerConfig), vocabulary (of words), parameters (config.num_parameters,) of
    config.dtype, training (facts about how it was made). Any number of threads may ask one model at once.
    """

    CONFIGS = (TaggerConfig, TaggedTextConfig, TaggerTraining)
    GIVEN = GIVEN_BY_DATA | {"token_column", "tag_column", "encoding"}
    KIND = "tagger"
    config: TaggerConfig

    def check_settings(self) -> None:
        """Raise ConfigError for a wrong value, or values that exclude each other."""
        TaggerConfig(2, tags=("O", "X"), **self.of(TaggerConfig))
        TaggedTextConfig(**self.of(TaggedTextConfig))
        TaggerTraining(**self.of(TaggerTraining))

    # ------------------------------------------------------------ training

    def fit(
        self,
        sentences: Iterable[Sequence[str]],
        tags: Iterable[Sequence[str]],
        *,
        valid: tuple[Iterable[Sequence[str]], Iterable[Sequence[str]]] | None = None,
        vectors: str | os.PathLike[str] | None = None,
        on_report: Callable[[Report], None] = lambda report: None,
        on_message: Callable[[str], None] = lambda message: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> Tagger:
        """Learn the tags of sentences from the start; return the model itself.

        valid: (sentences, tags) to validate with in place of a share of these. vectors: a file of word vectors, as word2vec
        and GloVe write them, that words begin with; embedding_size is theirs then. on_report is called after every update and
        every validation with a Report, whose losses are nats a word; of a validation its measures hold accuracy and, of
        spans, f1. on_message is called with sentences for the user. Training ends early once stop() is true; where an
        interrupt or an error ends it after its first update, what was learned is kept. Needs numba to be quick.
        Raises ConfigError for a wrong setting or tag, TextError for a word, TrainingError if training diverges.
        """
        learned = tagged_part(sentences, tags)
        check_pair(valid, "sentences and their tags")
        given = None if valid is None else tagged_part(*valid)
        recipe, reading = TaggerTraining(**self.of(TaggerTraining)), TaggedTextConfig(**self.of(TaggedTextConfig))
        train, held_out = learned.split(reading.valid_fraction, recipe.seed) if given is None else (learned, given)
        corpus = corpus_of(train, held_out, reading)
        found = None if vectors is None else read_vectors(vectors, corpus.vocabulary)
        config = TaggerConfig(**{**sized(self.of(TaggerConfig), found), **corpus.fields})
        check_tags(held_out.tags, config)
        trainer = tagger_trainer(config, initial_tagger(config, recipe.seed, found), recipe, corpus, on_message)
        learn = lambda: self._take(config, corpus.vocabulary, trainer.keep(), tagger_facts(corpus, trainer))
        run_to_end(trainer, stop, on_report, learn)
        return self

    def _take(
        self, config: TaggerConfig, vocabulary: Vocabulary, parameters: np.ndarray, training: dict[str, Any]
    ) -> Tagger:
        """Set config, vocabulary and parameters. ConfigError unless they fit together."""
        check_vocabulary(TaggerConfig, config, vocabulary)
        if vocabulary.level != "word":
            raise ConfigError(f"the vocabulary of a tagger must be one of words, got level {vocabulary.level}.")
        self.vocabulary = vocabulary
        self._hold(config, parameters, training)
        return self

    # ------------------------------------------------------------ asking

    def predict(self, sentences: Iterable[Sequence[str]], backend: str = "auto", threads: int = 0) -> list[list[str]]:
        """Find the most probable tags of each sentence: a list of as many tags as it has words.

        backend: "numpy", "cpu" (DeviceError without numba), or "auto" for the one that is expected to be done first.
        threads: 0 for every core. Raises ConfigError before there is a model, TextError for what is no word.
        """
        self._fitted()
        asked = checked_sentences(sentences)
        found = self._outputs(asked, backend, threads)
        ends = np.cumsum([len(sentence) for sentence in asked]).tolist()
        named = [self.config.tags[tag] for tag in found.tolist()]
        return [
            rewritten(named[stop - len(sentence) : stop], self.config.scheme) for sentence, stop in zip(asked, ends)
        ]

    def _outputs(self, asked: list[Sequence[str]], backend: str, threads: int) -> np.ndarray:
        """Return the output that is chosen for each word of sentences, (words,) int32."""
        read = [sentence for sentence in asked if len(sentence)]
        if checks.a(str, "backend", backend) == "auto":
            backend, _ = backend_for(self.config, read, True)  # type: ignore[arg-type] # it counts the words
        network, found = self._network(backend, threads), np.zeros(sum(map(len, read)), np.int32)
        if read:
            source = TaggedSentences(read, found.copy(), self.vocabulary, self.config, 1)
            for places, chunk in source.in_batches():
                found[places] = network.best_tags(chunk, network.initial_state(chunk.num_texts))
        return found

    def score(
        self, sentences: Iterable[Sequence[str]], tags: Iterable[Sequence[str]], backend: str = "auto", threads: int = 0
    ) -> float:
        """Return the F1 of spans; where the tags mark no spans, the accuracy: the share of words whose tag was found."""
        found = self.evaluate(sentences, tags, backend, threads)
        return found.accuracy if self.config.scheme == "none" else found.f1

    def evaluate(
        self, sentences: Iterable[Sequence[str]], tags: Iterable[Sequence[str]], backend: str = "auto", threads: int = 0
    ) -> TagEvaluation:
        """Measure accuracy, and precision, recall and F1 of spans as conlleval does, on sentences with at least one word.

        Accuracy compares tags in the scheme of those that are given. ConfigError names a tag that was not learned.
        """
        self._fitted()
        part = tagged_part(sentences, tags)
        check_tags(part.tags, self.config)
        if not any(map(len, part.sentences)):
            raise ConfigError("there is nothing to measure without words; give one at least.")
        scheme, found = scheme_of(part.tags), self.predict(part.sentences, backend, threads)
        return TagEvaluation.of(part.tags, (rewritten(tags, scheme) for tags in found), self.config.types)

    def _make_network(self, backend: str, threads: int) -> TaggerNetwork:
        return TaggerNetwork(self.config, self.parameters, backend, threads, constant=True)

    # ------------------------------------------------------------ files

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to one file, atomically. ModelFileError if it cannot be written."""
        self._fitted()
        weights = named_tensors(self.parameters, self.config)
        save_model(path, ModelFile(self.config, self.vocabulary, weights, {}, self.training))

    @classmethod
    def of_parameters(
        cls, config: TaggerConfig, vocabulary: Vocabulary, parameters: np.ndarray, training: dict[str, Any]
    ) -> Tagger:
        """Make a model of its parts. ConfigError unless they fit together."""
        fields = cls._settings_of(config)
        return cls(**fields)._take(config, vocabulary, parameters, training)

    @classmethod
    def restore(cls, file: ModelFile) -> Tagger:
        """Make the model of a file's content. ConfigError where it does not fit together."""
        assert isinstance(file.config, TaggerConfig) and file.vocabulary is not None
        return cls.of_parameters(file.config, file.vocabulary, flatten(file.weights, file.config), file.training)


def checked_sentences(sentences: Any) -> list[Sequence[str]]:
    """Return sentences. TextError unless they are lists of words, which are strings that are not empty."""
    if isinstance(sentences, (str, bytes)):
        raise TextError("sentences must be lists of words, got a single text; split it, and put it in a list.")
    found = list(checks.items("sentences", sentences))
    for number, sentence in enumerate(found):
        if isinstance(sentence, (str, bytes)) or not hasattr(sentence, "__len__") or not hasattr(sentence, "__iter__"):
            raise TextError(f"sentences[{number}] must be a list of words, got {said(sentence)}.")
        found[number] = [checked(word, str) for word in checks.items("a sentence", sentence)]
        if "" in found[number]:
            raise TextError(f"sentences[{number}] has an empty word; leave it out.")
    return found


def tagged_part(sentences: Any, tags: Any) -> TaggedPart:
    """Return sentences that have words, with their tags. ConfigError unless there are as many tags as words."""
    read = checked_sentences(sentences)
    if isinstance(tags, (str, bytes)):
        raise ConfigError(f"tags must be lists of strings, one for each sentence, got {said(tags)}.")
    marked = list(checks.items("tags", tags))
    if len(marked) != len(read):
        raise ConfigError(f"tags must be as many lists as the sentences, got {len(marked):,} and {len(read):,}.")
    for number, (words, own) in enumerate(zip(read, marked)):
        several = not isinstance(own, (str, bytes)) and hasattr(own, "__len__")
        found = list(checks.items(f"tags[{number}]", own)) if several else []
        if not several or not all(isinstance(tag, str) and tag for tag in found):
            raise ConfigError(f"tags[{number}] must hold strings that are not empty, got {said(own)}.")
        if len(found) != len(words):
            raise ConfigError(
                f"sentences[{number}] has {len(words):,} words and {len(found):,} tags; give one for each word."
            )
        marked[number] = list(map(str, found))
    kept = [k for k, words in enumerate(read) if words]
    return TaggedPart([list(read[k]) for k in kept], [marked[k] for k in kept])


def check_tags(tags: Iterable[Sequence[str]], config: TaggerConfig) -> None:
    """Raise ConfigError for a tag that was not learned."""
    for number, own in enumerate(tags):
        for tag in own:
            if not config.knows(tag):
                known = ", ".join(config.types or config.tags)
                raise ConfigError(f"{said(tag)} in tags[{number}] is none that was learned; these are {known:.200}.")
