"""ClassifierRun: a classifier trained on files of labelled texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from nblstm.errors import ConfigError, TextError
from nblstm.kernels.packed import indices
from nblstm.tasks.classification.config import ClassifierConfig
from nblstm.tasks.classification.model import TextClassifier
from nblstm.tasks.classification.reading import LabelledLines, labelled_in, read_labelled
from nblstm.tasks.classification.settings import CLASSIFIER_SETTINGS, LabelledTextConfig
from nblstm.tasks.classification.training import (
    LabelledCorpus,
    LabelledPart,
    classifier_facts,
    classifier_trainer,
    initial_parameters,
    split_part,
    vocabulary_of,
)
from nblstm.tasks.run import (
    OnMessage,
    Places,
    TaskEvaluation,
    TaskRun,
    Yardstick,
    check_vocabulary_of_run,
    percent,
    sized,
    text_of,
    vectors_of,
)
from nblstm.text.vocabulary import Vocabulary
from nblstm.training.trainer import Trainer

LABELS_SHOWN = 8  # the most frequent


class KnownClasses(NamedTuple):
    """What a classifier brings that is trained on: its vocabulary, and its labels in the order of the outputs."""

    vocabulary: Vocabulary
    classes: Sequence[Any]


class ClassifierRun(TaskRun):
    """A run of a network that says which label a text has; its material is a LabelledCorpus."""

    TASK = "classification"
    SETTINGS = CLASSIFIER_SETTINGS
    DRAFT = {"vocab_size": 2, "labels": ("0", "1")}
    MEASURES = {"accuracy": percent}
    UNIT = "text"

    # ------------------------------------------------------------ material

    def fields(self, material: LabelledCorpus, network: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of the network's config: the settings, the vocabulary's size, the labels, that of vectors."""
        fields = sized(network, material.vectors)
        return {**super().fields(material, fields), "labels": tuple(map(str, material.classes))}

    def read(
        self,
        places: Places,
        reading: LabelledTextConfig,
        recipe: Any,
        known: KnownClasses | None,
        on_message: OnMessage,
    ) -> LabelledCorpus:
        """Read labelled texts. TextError names file and line of a label that only texts of validation have."""
        corpus, valid = (
            labelled_in(places[name], reading.text_column, reading.label_column, reading.encoding)
            for name in ("corpus", "valid")
        )
        if not corpus.texts:
            where = f" in {', '.join(places['corpus'])}" if places["corpus"] else ""
            raise TextError(f"there is no labelled text{where}; name a file with some.")
        classes = tuple(sorted(set(corpus.labels)) if known is None else known.classes)
        train, held_out = (
            LabelledPart(read.texts, labels_of(read, classes, places[name]))
            for name, read in (("corpus", corpus), ("valid", valid))
        )
        if len(classes) < 2:
            raise TextError(
                f"labels must be of two kinds at least, got {len(classes)} in {', '.join(places['corpus'])}; "
                "a classifier has to choose."
            )
        if not places["valid"]:
            train, held_out = split_part(train, reading.valid_fraction, recipe.seed)
        vocabulary = vocabulary_of(train.texts, reading) if known is None else known.vocabulary
        vectors = vectors_of(places.get("vectors", ()), vocabulary, known is not None, on_message)
        return LabelledCorpus(vocabulary, classes, train, held_out, vectors)

    def read_again(
        self, places: Places, reading: LabelledTextConfig, recipe: Any, known: KnownClasses, fingerprint: str
    ) -> LabelledCorpus:
        """Read the labelled texts of a run that goes on, whose words have their vectors already."""
        return super().read_again({**places, "vectors": ()}, reading, recipe, known, fingerprint)

    def known(self, facts: Mapping[str, Any]) -> KnownClasses:
        """Return the vocabulary and the labels that a checkpoint has kept."""
        classes = self.SETTINGS.network.from_dict(facts["model"]).classes  # type: ignore[attr-defined]
        return KnownClasses(super().known(facts), classes)

    def known_of_model(self, model: TextClassifier) -> KnownClasses:
        """Return the vocabulary and the labels of a model that training starts from."""
        return KnownClasses(model.vocabulary, model.config.classes)

    def reading_of(self, known: KnownClasses, reading: LabelledTextConfig) -> LabelledTextConfig:
        """Return the texts' settings for a vocabulary that is given. ConfigError if they ask for another one."""
        return text_of(known.vocabulary, reading)

    def check_known(self, known: KnownClasses, shape: Any, reading: LabelledTextConfig, recipe: Any) -> None:
        """Raise ConfigError unless network and text fit the vocabulary."""
        check_vocabulary_of_run(known.vocabulary, shape, reading)
        if known.vocabulary.end_id is None:
            raise ConfigError("the vocabulary of a classifier must have an <end>, which stands for a text of nothing.")

    # ------------------------------------------------------------ training

    def initial(self, shape: ClassifierConfig, recipe: Any, material: LabelledCorpus) -> np.ndarray:
        """Draw new parameters."""
        return initial_parameters(shape, recipe, material)

    def trainer(
        self,
        shape: ClassifierConfig,
        parameters: np.ndarray,
        recipe: Any,
        material: LabelledCorpus,
        on_message: OnMessage,
    ) -> Trainer:
        """Make the trainer of a classifier."""
        return classifier_trainer(shape, parameters, recipe, material, on_message)

    def training(
        self, names: Mapping[str, Sequence[str]], material: LabelledCorpus, trainer: Trainer
    ) -> dict[str, Any]:
        """Return the facts of training that the model's file holds."""
        return {"corpus": list(names["corpus"]), **classifier_facts(material, trainer)}

    def model(
        self, shape: ClassifierConfig, material: LabelledCorpus, parameters: np.ndarray, training: dict[str, Any]
    ) -> TextClassifier:
        """Make the classifier of these parameters."""
        return TextClassifier.of_parameters(shape, material.vocabulary, parameters, training)

    # ------------------------------------------------------------ what is shown

    def introduce(self, material: LabelledCorpus, trainer: Trainer) -> Iterator[tuple[str, str]]:
        """Yield lines of what is trained on: how many texts, and of each label."""
        texts, labels = len(material.train.texts), _counts(material)
        yield (
            "text",
            f"{texts:,} texts to train on, {len(material.valid.texts):,} to validate, vocabulary {len(material.vocabulary):,}",
        )
        shown = [f"{label} {count:,}" for label, count in labels[:LABELS_SHOWN]]
        yield (
            "labels",
            ", ".join(shown) + (f" and {len(labels) - LABELS_SHOWN:,} others" if len(labels) > LABELS_SHOWN else ""),
        )

    def watched(self, recipe: Any) -> str:
        """Name what decides which weights are kept."""
        return {"loss": "validation loss", "accuracy": "accuracy in validation"}[recipe.monitor]

    def doubts(self, material: LabelledCorpus, trainer: Trainer) -> Iterator[str]:
        """Yield that the most frequent label is the right one as often as the model's, where it is."""
        valid, accuracy = material.valid.labels, trainer.best_measures.get("accuracy")
        if accuracy is None:
            return
        count = np.bincount(indices(valid))
        if accuracy <= count.max() / len(valid):
            label = material.classes[int(count.argmax())]
            yield f"the model is right in {percent(accuracy)}, and so is who always says {label!s:.40}"

    # ------------------------------------------------------------ a model that is there

    def evaluate(
        self,
        model: TextClassifier,
        places: Places,
        reading: LabelledTextConfig,
        backend: str = "auto",
        threads: int = 0,
        **asked: Any,
    ) -> TaskEvaluation:
        """Measure accuracy, F1, confusion and calibration. TextError names file and line of a label that is not known."""
        read = labelled_in(places["corpus"], reading.text_column, reading.label_column, reading.encoding)
        expected = labels_of(read, model.config.classes, places["corpus"])
        found = model.evaluate(read.texts, model.classes_[indices(expected)], backend, threads)
        return TaskEvaluation(found.facts(), found.lines())

    def yardstick(self, model: TextClassifier, path: str, encoding: str) -> Yardstick:
        """Read labelled lines, of which the share that is right counts."""
        texts, names = read_labelled(path, encoding=encoding)
        known = dict(zip(model.config.labels, model.config.classes))
        labels = [known.get(name, name) for name in names]
        return Yardstick("accuracy", "", lambda each: each.score(texts, labels))

    def describe(self, model: TextClassifier) -> list[tuple[str, str]]:
        """Return the vocabulary and the labels."""
        labels = f"{len(model.config.labels):,}: {', '.join(model.config.labels):.300}"
        return [*super().describe(model), ("labels", labels)]

    def next(self, shape: Any) -> str:
        """Return the name of the command that uses the model."""
        return "classify"


def labels_of(read: LabelledLines, classes: Sequence[Any], paths: Sequence[str]) -> np.ndarray:
    """Find the place of each label among the classes, (texts,) int32.

    TextError names file and line of a label that is none of them, and the paths if there is no text in them.
    """
    if paths and not read.texts:
        raise TextError(f"there is no labelled text in {', '.join(paths)}; name a file with some.")
    numbers = {str(label): number for number, label in enumerate(classes)}
    for label, (name, line) in zip(read.labels, read.places):
        if label not in numbers:
            known = ", ".join(numbers)
            raise TextError(
                f"{name}, line {line}: the label {label!r:.40} is none that is learned; these are {known:.200}."
            )
    return np.array([numbers[label] for label in read.labels], np.int32)


def _counts(corpus: LabelledCorpus) -> list[tuple[str, int]]:
    """Return (label, how many texts to train on have it), the most frequent first."""
    counts = np.bincount(indices(corpus.train.labels), minlength=len(corpus.classes)).tolist()
    return sorted(zip(map(str, corpus.classes), counts), key=lambda pair: -pair[1])
