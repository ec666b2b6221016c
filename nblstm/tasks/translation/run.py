"""TranslatorRun: a translator trained on files of pairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from nblstm.errors import ConfigError, TextError
from nblstm.files.fields import OBJECT, optional
from nblstm.tasks.run import (
    OnMessage,
    Places,
    TaskEvaluation,
    TaskRun,
    check_vocabulary_of_run,
    sized,
    text_of,
    vectors_of,
)
from nblstm.tasks.translation.config import TranslatorConfig
from nblstm.tasks.translation.model import Translator
from nblstm.tasks.translation.network import initial_translator
from nblstm.tasks.translation.pairs import PairsOfTexts, Vocabularies, sizes_of, split_pairs, vocabularies_of
from nblstm.tasks.translation.reading import read_pairs, read_parallel
from nblstm.tasks.translation.settings import TRANSLATOR_SETTINGS, PairedTextConfig
from nblstm.tasks.translation.training import PairedCorpus, translator_facts, translator_trainer
from nblstm.text.vocabulary import Vocabulary
from nblstm.training.trainer import Trainer


class TranslatorRun(TaskRun):
    """A run of a network that writes the target of a source; its material is a PairedCorpus."""

    TASK = "translation"
    SETTINGS = TRANSLATOR_SETTINGS
    DRAFT = {"vocab_size": 3, "source_vocab_size": 3}
    STORED = {"vocabulary": OBJECT, "source_vocabulary": optional(OBJECT)}
    MEASURES = {"bleu": "{:.1f}".format}
    ASKED = ("beam", "length_penalty")

    # ------------------------------------------------------------ material

    def fields(self, material: PairedCorpus, network: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of the network's config: the settings, and the vocabularies' sizes."""
        return {**sized(network, material.vectors), **sizes_of(material.vocabularies, material.train[0])}

    def read(
        self, places: Places, reading: PairedTextConfig, recipe: Any, known: Vocabularies | None, on_message: OnMessage
    ) -> PairedCorpus:
        """Read pairs. TextError names file and line of what is none."""
        train, valid = _pairs(places, "", reading.encoding), _pairs(places, "valid_", reading.encoding)
        if not train[1]:
            raise TextError("there is no pair to train on; name a file with some, or source and target.")
        if not any(places[name] for name in ("valid", "valid_source", "valid_target")):
            train, valid = split_pairs(train, reading.valid_fraction, recipe.seed)
        vocabularies = vocabularies_of(train, reading) if known is None else known
        assert vocabularies[0] is not None  # sources in files are texts
        vectors = vectors_of(places.get("vectors", ()), vocabularies[0], known is not None, on_message)
        return PairedCorpus(vocabularies, train, valid, vectors)

    def read_again(
        self, places: Places, reading: PairedTextConfig, recipe: Any, known: Vocabularies, fingerprint: str
    ) -> PairedCorpus:
        """Read the pairs of a run that goes on, whose words have their vectors already."""
        return super().read_again({**places, "vectors": ()}, reading, recipe, known, fingerprint)

    def stored(self, material: PairedCorpus) -> dict[str, Any]:
        """Return the vocabularies; the sources' is null where both sides share one."""
        source, target = material.vocabularies
        own = None if source is target or source is None else source.to_dict()
        return {"vocabulary": target.to_dict(), "source_vocabulary": own}

    def known(self, facts: Mapping[str, Any]) -> Vocabularies:
        """Return the vocabularies that a checkpoint has kept."""
        target, own = Vocabulary.from_dict(facts["vocabulary"]), facts["source_vocabulary"]
        return target if own is None else Vocabulary.from_dict(own), target

    def known_of_model(self, model: Translator) -> Vocabularies:
        """Return the vocabularies of a model that training starts from."""
        if model.source_vocabulary is None:
            raise ConfigError("the sources of that model are vectors, which no file holds; choose another model.")
        return model.source_vocabulary, model.vocabulary

    def reading_of(self, known: Vocabularies, reading: PairedTextConfig) -> PairedTextConfig:
        """Return the texts' settings for vocabularies that are given. ConfigError if they ask for others."""
        source, target = known
        given: dict[str, Any] = {
            "source_level": None if source is None or source.level == target.level else source.level,
            "shared_vocabulary": source is target,
        }
        for name, value in given.items():
            if getattr(reading, name) not in (value, getattr(PairedTextConfig, name)):
                raise ConfigError(f"{name} comes from the model that training starts from; leave it out.")
        return replace(text_of(target, reading), **given)

    def check_known(self, known: Vocabularies, shape: Any, reading: PairedTextConfig, recipe: Any) -> None:
        """Raise ConfigError unless network and text fit the vocabularies."""
        source, target = known
        check_vocabulary_of_run(target, shape, reading)
        if source is None or len(source) != shape.source_vocab_size or (source is target) != shape.shared:
            raise ConfigError(f"source_vocab_size is {shape.source_vocab_size}, and the vocabularies differ.")
        if source.level != (reading.source_level or reading.level):
            raise ConfigError(f"source_level is {reading.source_level}, but that of the vocabulary is {source.level}.")
        if source.end_id is None or target.end_id is None:
            raise ConfigError("the vocabularies of a translator must have an <end>, by which it knows that it is done.")

    # ------------------------------------------------------------ training

    def initial(self, shape: TranslatorConfig, recipe: Any, material: PairedCorpus) -> np.ndarray:
        """Draw new parameters."""
        return initial_translator(shape, recipe.seed, material.vectors)

    def trainer(
        self,
        shape: TranslatorConfig,
        parameters: np.ndarray,
        recipe: Any,
        material: PairedCorpus,
        on_message: OnMessage,
    ) -> Trainer:
        """Make the trainer of a translator."""
        return translator_trainer(shape, parameters, recipe, material, on_message)

    def state_shapes(self, shape: TranslatorConfig, texts: int) -> dict[str, tuple[int, ...]]:
        """Name -> shape of the carried state: there is none."""
        return {"state.h": (0, texts, 0), "state.c": (0, texts, 0)}

    def training(self, names: Mapping[str, Sequence[str]], material: PairedCorpus, trainer: Trainer) -> dict[str, Any]:
        """Return the facts of training that the model's file holds."""
        files = [name for place in ("corpus", "source", "target") for name in names.get(place, ())]
        return {"corpus": files, **translator_facts(material, trainer)}

    def model(
        self, shape: TranslatorConfig, material: PairedCorpus, parameters: np.ndarray, training: dict[str, Any]
    ) -> Translator:
        """Make the translator of these parameters."""
        return Translator.of_parameters(shape, material.vocabularies, parameters, training)

    # ------------------------------------------------------------ what is shown

    def introduce(self, material: PairedCorpus, trainer: Trainer) -> Iterator[tuple[str, str]]:
        """Yield lines of what is trained on: how many pairs, and tokens of each side."""
        yield "text", f"{len(material.train[1]):,} pairs to train on, {len(material.valid[1]):,} to validate"
        source, target = material.vocabularies
        if source is target:
            yield "words", f"{len(target):,} tokens of both sides, level {target.level}"
        elif source is not None:
            sizes = [f"{len(each):,} tokens of level {each.level}" for each in (source, target)]
            yield "words", f"sources {sizes[0]}, targets {sizes[1]}"

    def batches(self, recipe: Any) -> str:
        """Say how large a batch is."""
        return (
            f"batch {recipe.batch_size}"
            if recipe.tokens_per_batch is None
            else f"{recipe.tokens_per_batch:,} tokens a batch"
        )

    def found(self, measures: Mapping[str, float]) -> str:
        """Say what a validation has found, beside the loss: "BLEU 31.2"."""
        return f"BLEU {measures['bleu']:.1f}" if "bleu" in measures else ""

    def watched(self, recipe: Any) -> str:
        """Name what decides which weights are kept."""
        return {"loss": "validation loss", "bleu": "BLEU in validation"}[recipe.monitor]

    # ------------------------------------------------------------ a model that is there

    def evaluate(
        self, model: Translator, places: Places, reading: PairedTextConfig, backend: str = "auto", threads: int = 0,
        **asked: Any,
    ) -> TaskEvaluation:  # fmt: skip
        """Measure perplexity, exact match and BLEU. asked: fields of TranslateConfig. TextError names file and line."""
        sources, targets = _pairs(places, "", reading.encoding)
        if not targets:
            raise TextError("there is no pair to measure with; name a file with some.")
        found = model.evaluate(sources, targets, threads=threads, backend=backend, **asked)
        return TaskEvaluation(found.facts(), found.lines())

    def describe(self, model: Translator) -> list[tuple[str, str]]:
        """Return the vocabularies of both sides."""
        source, described = model.source_vocabulary, super().describe(model)
        if source is None:
            return [("source", f"vectors of {model.config.source_size} numbers"), *described]
        if source is model.vocabulary:
            return described
        return [("source", f"{len(source):,} tokens, level {source.level}"), *described]

    def next(self, shape: Any) -> str:
        """Return the name of the command that uses the model."""
        return "translate"


def _pairs(places: Places, side: str, encoding: str) -> PairsOfTexts:
    """Read the pairs of training (side "") or of validation ("valid_"). ConfigError for one side without the other."""
    names = side.rstrip("_") or "corpus", f"{side}source", f"{side}target"
    whole, sources, targets = (places.get(name, ()) for name in names)
    if bool(sources) != bool(targets):
        raise ConfigError(f"{names[1]} and {names[2]} belong together; give both, or none.")
    if whole and sources:
        raise ConfigError(f"pairs come from {names[0]}, or from {names[1]} and {names[2]}; leave one out.")
    if sources:
        return read_parallel(sources, targets, encoding)
    return read_pairs(whole, encoding) if whole else ([], [])
