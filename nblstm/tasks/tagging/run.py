"""TaggerRun: a tagger trained on files of tagged words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from nblstm.errors import ConfigError, TextError
from nblstm.tasks.run import OnMessage, Places, TaskEvaluation, TaskRun, Yardstick, percent, sized, vectors_of
from nblstm.tasks.tagging.config import TaggerConfig
from nblstm.tasks.tagging.model import Tagger
from nblstm.tasks.tagging.network import initial_tagger
from nblstm.tasks.tagging.reading import TaggedLines, read_tagged, tagged_in
from nblstm.tasks.tagging.settings import TAGGER_SETTINGS, TaggedTextConfig
from nblstm.tasks.tagging.spans import OUTSIDE
from nblstm.tasks.tagging.training import TaggedCorpus, TaggedPart, corpus_of, tagger_facts, tagger_trainer
from nblstm.text.vocabulary import Vocabulary
from nblstm.training.trainer import Trainer

GIVEN_BY_MODEL = {"min_count": 1, "max_vocab": None}  # settings of reading that a model has no say in any more


class KnownTags(NamedTuple):
    """What a tagger brings that is trained on: its vocabulary, and its config with tags and characters."""

    vocabulary: Vocabulary
    config: TaggerConfig


class TaggerRun(TaskRun):
    """A run of a network that gives each word a tag; its material is a TaggedCorpus."""

    TASK = "tagging"
    SETTINGS = TAGGER_SETTINGS
    DRAFT = {"vocab_size": 2, "tags": (OUTSIDE, "X")}
    MEASURES = {"f1": "{:.4f}".format, "accuracy": percent}
    UNIT = "word"

    # ------------------------------------------------------------ material

    def fields(self, material: TaggedCorpus, network: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of the network's config: the settings, and what the words and tags give."""
        return {**sized(network, material.vectors), **material.fields}

    def read(
        self, places: Places, reading: TaggedTextConfig, recipe: Any, known: KnownTags | None, on_message: OnMessage
    ) -> TaggedCorpus:
        """Read tagged words. TextError names file and line of a tag that only words of validation have."""
        found, held_out = (tagged_in(places[name], reading) for name in ("corpus", "valid"))
        train, valid = checked_part(found, places["corpus"]), TaggedPart(held_out.sentences, held_out.tags)
        if places["valid"]:
            valid = checked_part(held_out, places["valid"])
        else:
            train, valid = train.split(reading.valid_fraction, recipe.seed)
        if known is None:
            corpus = corpus_of(train, valid, reading)
        else:
            c = known.config
            corpus = TaggedCorpus(
                known.vocabulary, c.tags, c.scheme, c.characters, c.lowercase, c.zero_digits, train, valid
            )
        if len(corpus.tags) < 2:
            raise TextError(
                f"tags must be of two kinds at least, got {len(corpus.tags)} in {', '.join(places['corpus'])}; "
                "a tagger has to choose."
            )
        vectors = vectors_of(places.get("vectors", ()), corpus.vocabulary, known is not None, on_message)
        config = TaggerConfig(**corpus.fields)
        for lines in (found, held_out):
            check_tags_of_lines(lines, config)
        return replace(corpus, vectors=vectors)

    def read_again(
        self, places: Places, reading: TaggedTextConfig, recipe: Any, known: KnownTags, fingerprint: str
    ) -> TaggedCorpus:
        """Read the tagged words of a run that goes on, which have their vectors already."""
        return super().read_again({**places, "vectors": ()}, reading, recipe, known, fingerprint)

    def known(self, facts: Mapping[str, Any]) -> KnownTags:
        """Return the vocabulary and the tags that a checkpoint has kept."""
        return KnownTags(super().known(facts), TaggerConfig.from_dict(facts["model"]))

    def known_of_model(self, model: Tagger) -> KnownTags:
        """Return the vocabulary and the tags of a model that training starts from."""
        return KnownTags(model.vocabulary, model.config)

    def reading_of(self, known: KnownTags, reading: TaggedTextConfig) -> TaggedTextConfig:
        """Return how files are read for words that are given. ConfigError if the settings ask for others."""
        looked_up = {name: getattr(known.config, name) for name in ("lowercase", "zero_digits")}
        for name, value in {**GIVEN_BY_MODEL, **looked_up}.items():
            if getattr(reading, name) not in (value, getattr(TaggedTextConfig, name)):
                raise ConfigError(f"{name} comes from the model that training starts from; leave it out.")
        return replace(reading, **{**GIVEN_BY_MODEL, **looked_up})

    def check_known(self, known: KnownTags, shape: Any, reading: Any, recipe: Any) -> None:
        """Raise ConfigError unless network and vocabulary fit each other."""
        if len(known.vocabulary) != shape.vocab_size or known.vocabulary.level != "word":
            raise ConfigError(
                f"vocab_size is {shape.vocab_size}, but the vocabulary has {len(known.vocabulary)} words."
            )

    # ------------------------------------------------------------ training

    def initial(self, shape: TaggerConfig, recipe: Any, material: TaggedCorpus) -> np.ndarray:
        """Draw new parameters."""
        return initial_tagger(shape, recipe.seed, material.vectors)

    def trainer(
        self, shape: TaggerConfig, parameters: np.ndarray, recipe: Any, material: TaggedCorpus, on_message: OnMessage
    ) -> Trainer:
        """Make the trainer of a tagger."""
        return tagger_trainer(shape, parameters, recipe, material, on_message)

    def training(self, names: Mapping[str, Sequence[str]], material: TaggedCorpus, trainer: Trainer) -> dict[str, Any]:
        """Return the facts of training that the model's file holds."""
        return {"corpus": list(names["corpus"]), **tagger_facts(material, trainer)}

    def model(
        self, shape: TaggerConfig, material: TaggedCorpus, parameters: np.ndarray, training: dict[str, Any]
    ) -> Tagger:
        """Make the tagger of these parameters."""
        return Tagger.of_parameters(shape, material.vocabulary, parameters, training)

    # ------------------------------------------------------------ what is shown

    def introduce(self, material: TaggedCorpus, trainer: Trainer) -> Iterator[tuple[str, str]]:
        """Yield lines of what is trained on: how many sentences and words, and their tags."""
        sizes = [
            f"{len(part.sentences):,} sentences of {sum(map(len, part.sentences)):,} words"
            for part in (material.train, material.valid)
        ]
        words = f"vocabulary {len(material.vocabulary):,}"
        yield "text", f"{sizes[0]} to train on, {sizes[1]} to validate, {words}"
        yield "tags", tags_shown(trainer.network.config)

    def watched(self, recipe: Any) -> str:
        """Name what decides which weights are kept."""
        return {"loss": "validation loss", "accuracy": "accuracy in validation", "f1": "F1 in validation"}[
            recipe.monitor
        ]

    # ------------------------------------------------------------ a model that is there

    def evaluate(
        self, model: Tagger, places: Places, reading: TaggedTextConfig, backend: str = "auto", threads: int = 0,
        **asked: Any,
    ) -> TaskEvaluation:  # fmt: skip
        """Measure spans and accuracy. TextError names file and line of a tag that is not known."""
        lines = tagged_in(places["corpus"], reading)
        part = checked_part(lines, places["corpus"])
        check_tags_of_lines(lines, model.config)
        found = model.evaluate(part.sentences, part.tags, backend, threads)
        return TaskEvaluation(found.facts(), found.lines())

    def yardstick(self, model: Tagger, path: str, encoding: str) -> Yardstick:
        """Read tagged words, of which F1 counts, or without spans the share that is right."""
        sentences, tags = read_tagged(path, encoding=encoding)
        name = "accuracy" if model.config.scheme == "none" else "F1"
        return Yardstick(name, "", lambda each: each.score(sentences, tags))

    def describe(self, model: Tagger) -> list[tuple[str, str]]:
        """Return the vocabulary and the tags."""
        return [*super().describe(model), ("tags", tags_shown(model.config))]

    def next(self, shape: Any) -> str:
        """Return the name of the command that uses the model."""
        return "tag"


def checked_part(lines: TaggedLines, paths: Sequence[str]) -> TaggedPart:
    """Return the sentences of files. TextError if there are none."""
    if not lines.sentences:
        raise TextError(f"there is no tagged word in {', '.join(paths)}; name a file with some.")
    return TaggedPart(lines.sentences, lines.tags)


def check_tags_of_lines(lines: TaggedLines, config: TaggerConfig) -> None:
    """Raise TextError, which names file and line, for a tag that was not learned."""
    for tags, places in zip(lines.tags, lines.places):
        for tag, (name, line) in zip(tags, places):
            if not config.knows(tag):
                known = ", ".join(config.types or config.tags)
                raise TextError(
                    f"{name}, line {line}: the tag {tag!r:.40} is none that is learned; these are {known:.200}."
                )


def tags_shown(config: TaggerConfig) -> str:
    """Name what a tagger finds: "spans of LOC, MISC, ORG, PER (iob1)", or its tags."""
    if config.scheme != "none":
        return f"spans of {', '.join(config.types):.300} ({config.scheme})"
    return f"{len(config.tags):,}: {', '.join(config.tags):.300}"
