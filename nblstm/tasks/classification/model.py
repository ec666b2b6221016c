"""TextClassifier: which label a text has."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from nblstm import checks
from nblstm.config import TextConfig
from nblstm.errors import ConfigError, TextError
from nblstm.files.model_file import ModelFile, save_model
from nblstm.nn.parameters import flatten, named_tensors
from nblstm.scoring import backend_for
from nblstm.tasks.article_model import probabilities
from nblstm.tasks.classification.batches import LabelledTexts, encoded
from nblstm.tasks.classification.config import ClassifierConfig, ClassifierTraining
from nblstm.tasks.classification.labels import numbered_labels, plain_labels
from nblstm.tasks.classification.measures import Evaluation
from nblstm.tasks.classification.network import ClassifierNetwork
from nblstm.tasks.classification.training import (
    LabelledCorpus,
    LabelledPart,
    classifier_facts,
    classifier_trainer,
    initial_parameters,
    split_part,
    vocabulary_of,
)
from nblstm.tasks.estimator import Estimator, check_pair, run_to_end
from nblstm.tasks.run import sized
from nblstm.text.strings import checked
from nblstm.text.vectors import read_vectors
from nblstm.text.vocabulary import Vocabulary, check_vocabulary
from nblstm.training.report import Report


class TextClassifier(Estimator):
    """A model that learns which label a text has, and says it of others.

        model = nblstm.TextClassifier(pooling="max", epochs=8).fit(texts, labels)
        model.predict(["a stirring, funny film"])

    Settings: fields of ClassifierConfig (hidden_size, num_layers, cell, pooling, bidirectional, max_length, ...), of
    TextConfig (level, tokenizer, min_count, max_vocab, valid_fraction) and of ClassifierTraining (epochs, lr,
    batch_size, patience, class_weights, label_smoothing, monitor, ...). A share `valid_fraction` of each label's texts
    is not learned from; the weights that do best on it by `monitor` are kept.

    Once it is fitted or loaded: classes_ (labels,) in the order of `predict_proba`; config (ClassifierConfig),
    vocabulary, parameters (config.num_parameters,) of config.dtype, training (facts about how it was made). Any number of
    threads may ask one model at once.
    """

    CONFIGS = (ClassifierConfig, TextConfig, ClassifierTraining)
    GIVEN = frozenset({"vocab_size", "labels", "label_type", "tie", "head", "encoding", "documents", "on_divergence"})
    DEFAULTS = {"level": "word"}
    KIND = "classifier"
    config: ClassifierConfig

    def check_settings(self) -> None:
        """Raise ConfigError for a wrong value, or values that exclude each other."""
        ClassifierConfig(2, labels=("0", "1"), **self.of(ClassifierConfig))
        TextConfig(**self.of(TextConfig))
        ClassifierTraining(**self.of(ClassifierTraining))

    # ------------------------------------------------------------ training

    def fit(
        self,
        texts: Iterable[str],
        labels: Iterable[Any],
        *,
        valid: tuple[Iterable[str], Iterable[Any]] | None = None,
        vectors: str | os.PathLike[str] | None = None,
        on_report: Callable[[Report], None] = lambda report: None,
        on_message: Callable[[str], None] = lambda message: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> TextClassifier:
        """Learn the label of each text from the start; return the model itself.

        labels: as many, all strings, all whole numbers or all booleans, two different ones at least. valid: (texts,
        labels) to validate with in place of a share of these. vectors: a file of word vectors, as word2vec and GloVe
        write them, that words begin with; embedding_size is theirs then. on_report is called after every update and every
        validation with a Report, whose losses are nats a text (of a validation its measures hold the accuracy, too);
        on_message with sentences for the user. Training ends early once stop() is true; where an interrupt or an error
        ends it after its first update, what was learned is kept. Needs numba to be quick.
        Raises ConfigError for a wrong setting or label, TextError for a text, TrainingError if training diverges.
        """
        learned = _checked_texts(texts)
        plain = plain_labels(labels, len(learned))
        check_pair(valid, "texts and their labels")
        given = None if valid is None else (_checked_texts(valid[0]), valid[1])
        classes = sorted(set(plain))
        if len(classes) < 2:
            raise ConfigError(f"labels must be of two kinds at least, got {len(classes)}; a classifier has to choose.")
        numbers = numbered_labels(plain, classes, len(learned))
        recipe, text = ClassifierTraining(**self.of(ClassifierTraining)), TextConfig(**self.of(TextConfig))
        train = LabelledPart(learned, numbers)
        if given is None:
            train, held_out = split_part(train, text.valid_fraction, recipe.seed)
        else:
            held_out = LabelledPart(given[0], numbered_labels(given[1], classes, len(given[0])))
        vocabulary = vocabulary_of(train.texts, text)
        found = None if vectors is None else read_vectors(vectors, vocabulary)
        corpus = LabelledCorpus(vocabulary, tuple(classes), train, held_out, found)
        names: dict[str, Any] = {"labels": tuple(map(str, classes)), "label_type": type(classes[0]).__name__}
        config = ClassifierConfig(len(vocabulary), **names, **sized(self.of(ClassifierConfig), found))
        parameters = initial_parameters(config, recipe, corpus)
        trainer = classifier_trainer(config, parameters, recipe, corpus, on_message)
        learn = lambda: self._take(config, corpus.vocabulary, trainer.keep(), classifier_facts(corpus, trainer))
        run_to_end(trainer, stop, on_report, learn)
        return self

    def _take(
        self, config: ClassifierConfig, vocabulary: Vocabulary, parameters: np.ndarray, training: dict[str, Any]
    ) -> TextClassifier:
        """Set config, vocabulary and parameters. ConfigError unless they fit together."""
        check_vocabulary(ClassifierConfig, config, vocabulary)
        if vocabulary.end_id is None:
            raise ConfigError("the vocabulary of a classifier must have an <end>, which stands for a text of nothing.")
        self.vocabulary = vocabulary
        self._hold(config, parameters, training)
        self.classes_ = np.array(config.classes)
        return self

    # ------------------------------------------------------------ asking

    def predict_proba(self, texts: Iterable[str], backend: str = "auto", threads: int = 0) -> np.ndarray:
        """Compute the probability of every label for each text, (texts, labels) of config.dtype; rows sum to 1.

        backend: "numpy", "cpu" (DeviceError without numba), or "auto" for the one that is expected to be done first.
        threads: 0 for every core. Of a text longer than config.max_length tokens the first ones are read.
        Raises ConfigError before there is a model, TextError for what is no text.
        """
        self._fitted()
        asked, config = _checked_texts(texts), self.config
        if checks.a(str, "backend", backend) == "auto":
            backend, _ = backend_for(config, asked, True)
        network, found = self._network(backend, threads), np.empty((len(asked), len(config.labels)), config.dtype)
        ids, offsets, _ = encoded(self.vocabulary, asked, config.max_length)
        if asked:
            source = LabelledTexts(ids, offsets, np.zeros(len(asked), np.int32), 1)
            for places, chunk in source.in_batches(config):
                logits, _ = network.outputs(chunk, network.initial_state(chunk.num_texts))
                found[places] = probabilities(logits)
        return found

    def predict(self, texts: Iterable[str], backend: str = "auto", threads: int = 0) -> np.ndarray:
        """Find the most probable label of each text, (texts,); see `predict_proba`."""
        found = self.predict_proba(texts, backend, threads)
        return self.classes_[found.argmax(axis=1)]

    def score(self, texts: Iterable[str], labels: Iterable[Any], backend: str = "auto", threads: int = 0) -> float:
        """Return the accuracy: the share of the texts, at least one, whose most probable label is theirs.

        ConfigError names a label that was not learned.
        """
        return self.evaluate(texts, labels, backend, threads).accuracy

    def evaluate(
        self, texts: Iterable[str], labels: Iterable[Any], backend: str = "auto", threads: int = 0
    ) -> Evaluation:
        """Measure accuracy, F1, confusion and calibration on texts, at least one, and their labels.

        ConfigError names a label that was not learned.
        """
        self._fitted()
        asked, classes = _checked_texts(texts), tuple(self.classes_.tolist())
        expected = numbered_labels(labels, classes, len(asked))
        if not asked:
            raise ConfigError("there is nothing to measure without texts; give one at least.")
        return Evaluation.of(classes, expected, self.predict_proba(asked, backend, threads))

    def contributions(
        self, texts: Iterable[str], backend: str = "auto", threads: int = 0
    ) -> list[list[tuple[str, float]]]:
        """Tell what moved the decision on each text: (token, contribution) of its tokens that are read, in their order.

        A contribution above 0 spoke for the label that is most probable, one below 0 against it: gradient times input
        of the margin between its logit and the mean of the others.
        """
        self._fitted()
        asked, config = _checked_texts(texts), self.config
        if checks.a(str, "backend", backend) == "auto":
            backend, _ = backend_for(config, asked, True)
        network: Any = self._network(backend, threads)
        ids, offsets, _ = encoded(self.vocabulary, asked, config.max_length)
        found: list[list[tuple[str, float]]] = [[] for _ in asked]
        if asked:
            source = LabelledTexts(ids, offsets, np.zeros(len(asked), np.int32), 1)
            for places, chunk in source.in_batches(config):
                _, scores = network.contributions(chunk)
                for n, place in enumerate(places.tolist()):
                    rows = chunk.offsets[: offsets[place + 1] - offsets[place]] + n
                    tokens = [self.vocabulary.tokens[id] for id in chunk.tokens[rows].tolist()]
                    found[place] = list(zip(tokens, scores[rows].tolist()))
        return found

    def _make_network(self, backend: str, threads: int) -> ClassifierNetwork:
        return ClassifierNetwork(self.config, self.parameters, backend, threads, constant=True)

    # ------------------------------------------------------------ files

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to one file, atomically. ModelFileError if it cannot be written."""
        self._fitted()
        weights = named_tensors(self.parameters, self.config)
        save_model(path, ModelFile(self.config, self.vocabulary, weights, {}, self.training))

    @classmethod
    def restore(cls, file: ModelFile) -> TextClassifier:
        """Make the model of a file's content. ConfigError where it does not fit together."""
        config, vocabulary = file.config, file.vocabulary
        assert isinstance(config, ClassifierConfig) and vocabulary is not None
        return cls.of_parameters(config, vocabulary, flatten(file.weights, config), file.training)

    @classmethod
    def of_parameters(
        cls, config: ClassifierConfig, vocabulary: Vocabulary, parameters: np.ndarray, training: dict[str, Any]
    ) -> TextClassifier:
        """Make a fitted model. ConfigError unless these fit together."""
        fields = cls._settings_of(config)
        model = cls(level=vocabulary.level, tokenizer=vocabulary.tokenizer, **fields)
        return model._take(config, vocabulary, parameters, training)


def _checked_texts(texts: Any) -> list[str]:
    """Return the texts. TextError unless they are strings."""
    if isinstance(texts, (str, bytes)):
        raise TextError("texts must be several, got a single one; put it in a list.")
    return [checked(text, str) for text in checks.items("texts", texts)]
