"""TaskRun: what a task says of a run with files, so that `nblstm.tasks.session` can make one of it.

A task that trains from files has a subclass in its folder (`run.py`), its RunSettings beside its configs, and a line
for both in `registry.RUNS`. The session asks in this order:

    start    draft, check, [known_of_model, reading_of], read, fields, fitted, initial, trainer
    resume   known, check_known, read_again, trainer
    save     stored (checkpoint), training and model (model file), at the end finished
    shown    introduce, batches, found, watched, doubts, next
    later    evaluate (a model on files, where the task has MEASURES), yardstick, describe
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np

from nblstm.config.runs import RunSettings
from nblstm.errors import ConfigError
from nblstm.files.fields import OBJECT, Rule
from nblstm.nn.parameters import initial
from nblstm.text.vectors import WordVectors, read_vectors
from nblstm.text.vocabulary import Vocabulary
from nblstm.training.trainer import Trainer

Places = Mapping[str, Sequence[str]]  # name of RunSettings.places -> paths, absolute
TOKENS_SHOWN = 40  # of a vocabulary
OnMessage = Callable[[str], None]


class Material(Protocol):
    """What a task has read, in whatever form it trains on. fingerprint: hex digest of all of it, for resuming."""

    fingerprint: str
    vocabulary: Vocabulary


class TaskEvaluation(NamedTuple):
    """What was measured on files: as JSON values by name, and as lines to be read."""

    facts: dict[str, Any]
    lines: list[str]


class Yardstick(NamedTuple):
    """What says how good a model is: its name, what stands behind its figure, and what computes it."""

    name: str
    unit: str
    measure: Callable[[Any], float]

    def compare(self, before: Any, after: Any) -> str:
        """Say how good a model is before and after it was changed."""
        return f"{self.name:<12}{self.measure(before):.4f}{self.unit} before, {self.measure(after):.4f} after"


class TaskRun(ABC):
    """Base of runs with files: a task's answers to what a session asks. It holds nothing.

    material: what `read` has returned. known: what a run that goes on, or starts from a model, brings: the vocabulary,
    or whatever `known` and `known_of_model` return; None in a new run. shape: a SETTINGS.network. recipe: a
    SETTINGS.recipe. reading: a SETTINGS.reading.
    """

    TASK: ClassVar[str]  # its name in the registry
    SETTINGS: ClassVar[RunSettings]
    DRAFT: ClassVar[Mapping[str, Any]] = {"vocab_size": 2}  # stands for the fields that the data will give
    FITTED: ClassVar[tuple[str, ...]] = ("batch_size",)  # fields of the recipe that `fitted` may change
    STORED: ClassVar[Mapping[str, Rule]] = {"vocabulary": OBJECT}  # what `stored` puts in a checkpoint
    MEASURES: ClassVar[Mapping[str, Callable[[float], str]]] = {}  # of a validation beside the loss -> as it is shown
    ASKED: ClassVar[tuple[str, ...]] = ()  # further settings of `evaluate`
    UNIT: ClassVar[str] = "token"  # what a loss is the mean over
    DIVIDES: ClassVar[bool] = False  # whether the texts of its batches can be divided among several ranks
    MARK: ClassVar[bool] = True  # whether checkpoints name the task; those of format version 1 do not

    # ------------------------------------------------------------ settings

    def draft(self, network: Mapping[str, Any]) -> Any:
        """Make the network's config of settings before anything is read. ConfigError for a wrong one."""
        return self.SETTINGS.network.from_dict({**self.DRAFT, **network})

    def check(self, reading: Any, shape: Any, recipe: Any) -> None:  # noqa: B027 # most tasks have nothing to add
        """Raise ConfigError for settings that exclude each other, before anything is read. shape: a draft."""

    def fields(self, material: Any, network: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of the network's config: the settings, and those that the material gives."""
        return {"vocab_size": len(material.vocabulary), **network}

    def fitted(self, recipe: Any, material: Any, on_message: OnMessage) -> Any:
        """Return the recipe with a batch that the material can fill."""
        return recipe

    # ------------------------------------------------------------ material

    @abstractmethod
    def read(self, places: Places, reading: Any, recipe: Any, known: Any, on_message: OnMessage) -> Any:
        """Read the material: training and validation part, encoded by `known` or by what is built of it now.

        TextError names file and line of what is wrong. on_message is called with sentences for the user.
        """

    def read_again(self, places: Places, reading: Any, recipe: Any, known: Any, fingerprint: str) -> Any:
        """Read the material of a run that goes on; the session compares its fingerprint with this one."""
        return self.read(places, reading, recipe, known, lambda message: None)

    def stored(self, material: Any) -> dict[str, Any]:
        """Return what a checkpoint keeps of the material, as JSON values under the names of STORED."""
        return {"vocabulary": material.vocabulary.to_dict()}

    def known(self, facts: Mapping[str, Any]) -> Any:
        """Return what a checkpoint has kept. ModelFileError or ConfigError if it is damaged."""
        return Vocabulary.from_dict(facts["vocabulary"])

    def known_of_model(self, model: Any) -> Any:
        """Return what a model, that training starts from, knows."""
        return model.vocabulary

    def reading_of(self, known: Any, reading: Any) -> Any:
        """Return the reading's settings with those that `known` gives. ConfigError if they ask for others."""
        return reading

    def read_growing(
        self, places: Places, reading: Any, recipe: Any, known: Any, on_message: OnMessage
    ) -> tuple[Any, Any]:
        """Read the material by what a model knows and what the places hold beside it; return it, and `reading_of` that."""
        raise ConfigError(f"extend_vocabulary is for language models, not for task {self.TASK}; leave it out.")

    def check_known(self, known: Any, shape: Any, reading: Any, recipe: Any) -> None:  # noqa: B027
        """Raise ConfigError unless what a checkpoint holds fits together."""

    # ------------------------------------------------------------ training

    def initial(self, shape: Any, recipe: Any, material: Any) -> np.ndarray:
        """Draw new parameters (num_parameters,)."""
        return initial(shape, recipe.seed)

    @abstractmethod
    def trainer(self, shape: Any, parameters: np.ndarray, recipe: Any, material: Any, on_message: OnMessage) -> Trainer:
        """Make the trainer that moves these parameters. Its `measure` finds MEASURES, its `valid` the chunks for it."""

    def state_shapes(self, shape: Any, texts: int) -> dict[str, tuple[int, ...]]:
        """Name -> shape of the carried state in a checkpoint, of so many texts."""
        cell, layers = shape.cells[0], len(shape.cells)
        return {"state.h": (layers, texts, cell.output_size), "state.c": (layers, texts, cell.memory_size)}

    @abstractmethod
    def training(self, names: Mapping[str, Sequence[str]], material: Any, trainer: Trainer) -> dict[str, Any]:
        """Return the facts of training that a model's file holds. names: of the files, by place."""

    @abstractmethod
    def model(self, shape: Any, material: Any, parameters: np.ndarray, training: dict[str, Any]) -> Any:
        """Make the model of these parameters."""

    def finished(self, model: Any, material: Any, recipe: Any, on_progress: Callable[[int], None]) -> Any:
        """Return a run's best model with what its file has only once the run is over.

        on_progress: called with a number of tokens now and then; what it raises ends the work.
        """
        return model

    # ------------------------------------------------------------ what is shown

    @abstractmethod
    def introduce(self, material: Any, trainer: Trainer) -> Iterator[tuple[str, str]]:
        """Yield (head, line) of what is trained on: ("text", "6,920 texts to train on, ...")."""

    def batches(self, recipe: Any) -> str:
        """Say how large a batch is: "batch 32"."""
        return f"batch {recipe.batch_size}"

    def found(self, measures: Mapping[str, float]) -> str:
        """Say what a validation has found, beside the loss: "accuracy 81.2 %"; nothing without MEASURES."""
        return " ".join(
            f"{name.replace('_', ' ')} {said(measures[name])}"
            for name, said in self.MEASURES.items()
            if name in measures
        )

    def best(self, measures: Mapping[str, float]) -> str:
        """Say how good weights are: "0.4321 nats per text, accuracy 81.2 %"."""
        found = self.found(measures)
        return f"{measures['loss']:.4f} nats per {self.UNIT}{', ' if found else ''}{found}"

    def watched(self, recipe: Any) -> str:
        """Name what decides which weights are kept: "validation loss"."""
        return "validation loss"

    def doubt(self, known: Any, measures: Mapping[str, float]) -> str | None:
        """Say what speaks against a model of such measures, without a full stop; None for nothing.

        known: the model, or the material that it was trained on: what has the vocabulary.
        """
        return None

    def doubts(self, material: Any, trainer: Trainer) -> Iterator[str]:
        """Yield what speaks against the model that was trained, without a full stop."""
        if (found := self.doubt(material, trainer.best_measures)) is not None:
            yield found

    @abstractmethod
    def next(self, shape: Any) -> str:
        """Return the name of the command that uses the model: "sample"."""

    # ------------------------------------------------------------ a model that is there

    def evaluate(
        self, model: Any, places: Places, reading: Any, backend: str = "auto", threads: int = 0, **asked: Any
    ) -> TaskEvaluation:
        """Measure a model on files, by MEASURES and what else says how good it is. TextError names file and line.

        asked: settings of ASKED.
        """
        raise ConfigError(f"nothing measures a model of {self.TASK} on files.")

    def yardstick(self, model: Any, path: str, encoding: str) -> Yardstick:
        """Read a file, on which models with other weights are compared with this one. TextError for what is no such text."""
        raise ConfigError(f"models of {self.TASK} are not compared on a file.")

    def describe(self, model: Any) -> list[tuple[str, str]]:
        """Return (name, value) of what a model knows, to be read: its vocabulary."""
        v = model.vocabulary
        tokens = " ".join(repr(token)[1:-1] for token in v.tokens[:TOKENS_SHOWN])
        more = " ..." if len(v) > TOKENS_SHOWN else ""
        return [("vocabulary", f"{len(v):,} tokens, level {v.level}"), ("tokens", tokens + more)]

    def check_writes(self, shape: Any) -> None:
        """Raise ConfigError unless the model can write text while it is trained."""
        raise ConfigError(f"a model of {self.TASK} writes no text; leave sample out.")


def text_of(vocabulary: Vocabulary, text: Any) -> Any:
    """Return a text's settings for a vocabulary that is given. ConfigError if the settings ask for another one."""
    given: dict[str, Any] = {
        "level": vocabulary.level,
        "tokenizer": vocabulary.tokenizer,
        "min_count": 1,
        "max_vocab": None,
        "newline": vocabulary.newline,
    }
    for name, value in given.items():
        if getattr(text, name) not in (value, getattr(type(text), name)):
            raise ConfigError(f"{name} comes from the model that training starts from; leave it out.")
    return dataclasses.replace(text, **given)


def check_vocabulary_of_run(vocabulary: Vocabulary, shape: Any, text: Any) -> None:
    """Raise ConfigError unless a stored run's vocabulary is that of its network and its text's settings."""
    if len(vocabulary) != shape.vocab_size:
        raise ConfigError(f"vocab_size is {shape.vocab_size}, but the vocabulary has {len(vocabulary)}.")
    if vocabulary.level != text.level:
        raise ConfigError(f"level is {text.level}, but that of the vocabulary is {vocabulary.level}.")


def vectors_of(paths: Sequence[str], vocabulary: Vocabulary, known: bool, on_message: OnMessage) -> WordVectors | None:
    """Read the vectors that words begin with; None without a file of them. on_message is told how many there are.

    ConfigError for several files, or a vocabulary that is known, from a model that has its vectors.
    """
    if not paths:
        return None
    if known:
        raise ConfigError("vectors are for a new model, and this one starts from a model that has some; leave it out.")
    if len(paths) > 1:
        raise ConfigError(f"vectors must be one file, got {len(paths)}.")
    found = read_vectors(paths[0], vocabulary)
    on_message(f"{len(found.ids):,} of {len(vocabulary):,} tokens begin with a vector of {paths[0]}.")
    return found


def sized(network: Mapping[str, Any], vectors: WordVectors | None, name: str = "embedding_size") -> dict[str, Any]:
    """Return a network's settings with the size of the vectors, if there are any. ConfigError if they ask for another."""
    if vectors is None:
        return dict(network)
    if network.get(name, vectors.size) not in (0, vectors.size):
        raise ConfigError(
            f"{name} must be {vectors.size}, as the vectors have numbers, got {network[name]}; leave it out."
        )
    return {**network, name: vectors.size}


def percent(share: float) -> str:
    """Show a share in [0, 1]: "81.2 %"."""
    return f"{100 * share:.1f} %"
