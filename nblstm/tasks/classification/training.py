"""What a classifier learns from, and the trainer of it: for texts in memory and in files alike."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from nblstm.config import TextConfig
from nblstm.kernels import fastest
from nblstm.nn.heads import SoftmaxHead
from nblstm.tasks.classification.batches import LabelledTexts, as_read, encoded
from nblstm.tasks.classification.config import ClassifierConfig, ClassifierTraining
from nblstm.tasks.classification.labels import weights_of_classes
from nblstm.tasks.classification.network import ClassifierNetwork, validated
from nblstm.text.vectors import WordVectors
from nblstm.text.vocabulary import Vocabulary
from nblstm.training.trainer import Trainer

VALIDATED_AT_ONCE = 256  # texts


@dataclass(frozen=True)
class LabelledPart:
    """Texts and the places of their labels among the classes, (texts,) int32."""

    texts: list[str]
    labels: np.ndarray


@dataclass(frozen=True)
class LabelledCorpus:
    """Labelled texts to learn from and to validate with (these may be none), their classes and the vocabulary."""

    vocabulary: Vocabulary
    classes: tuple[Any, ...]
    train: LabelledPart
    valid: LabelledPart
    vectors: WordVectors | None = None  # that some words begin with

    @cached_property
    def fingerprint(self) -> str:
        """Hex digest of the vocabulary, the classes, the texts and their labels."""
        digest = hashlib.blake2b(digest_size=16)
        for part in (self.train, self.valid):
            digest.update(json.dumps([part.texts, part.labels.tolist()]).encode())
        digest.update(json.dumps([self.vocabulary.to_dict(), list(map(str, self.classes))]).encode())
        return digest.hexdigest()


def vocabulary_of(texts: Sequence[str], config: TextConfig) -> Vocabulary:
    """Build the vocabulary of texts, with an <end>, which stands for a text of nothing."""
    read = (as_read(text, config.level) for text in texts)
    return Vocabulary.build(read, config.level, config.tokenizer, config.min_count, config.max_vocab, ends=True)


def parted(labels: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (the texts to learn, those to validate with): of each label a share, drawn at random, but never all."""
    order = np.random.default_rng([seed, 1]).permutation(len(labels))
    held_out = np.zeros(len(labels), bool)
    for label in range(int(labels.max()) + 1):
        texts = order[labels[order] == label]
        held_out[texts[: int(len(texts) * fraction)]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def split_part(part: LabelledPart, fraction: float, seed: int) -> tuple[LabelledPart, LabelledPart]:
    """Split labelled texts into those to learn and a share of each label to validate with."""
    train, valid = (
        LabelledPart([part.texts[k] for k in places], part.labels[places])
        for places in parted(part.labels, fraction, seed)
    )
    return train, valid


def classifier_trainer(
    config: ClassifierConfig, parameters: np.ndarray, recipe: ClassifierTraining, corpus: LabelledCorpus,
    on_message: Callable[[str], None],
) -> Trainer:  # fmt: skip
    """Make the trainer of a classifier with these parameters. on_message is told of texts that are not read whole."""
    texts, labels = corpus.train.texts, corpus.train.labels
    network = ClassifierNetwork(config, parameters, fastest(), recipe.threads)
    head = network.head
    assert isinstance(head, SoftmaxHead)
    head.smoothing = recipe.label_smoothing
    head.classes = weights_of_classes(recipe.class_weights, config.classes, labels, config.dtype)
    ids, offsets, longer = encoded(corpus.vocabulary, texts, config.max_length)
    if longer:
        on_message(
            f"{longer:,} of {len(texts):,} texts are longer than max_length={config.max_length:,}: the rest is not read."
        )
    source = LabelledTexts(ids, offsets, labels, recipe.batch_size, recipe.seed)
    chunks: Any = ()
    if corpus.valid.texts:
        ids, offsets, _ = encoded(corpus.vocabulary, corpus.valid.texts, config.max_length)
        chunks = LabelledTexts(ids, offsets, corpus.valid.labels, VALIDATED_AT_ONCE).epoch(0)
    return Trainer(network, recipe, source, chunks, measure=partial(validated, monitor=recipe.monitor))


def classifier_facts(corpus: LabelledCorpus, trainer: Trainer) -> dict[str, Any]:
    """Return the facts of training, as a model's file holds them."""
    found = {f"valid_{name}": value for name, value in trainer.best_measures.items()}
    facts = {"texts": len(corpus.train.texts), "steps": trainer.step, "epochs": round(trainer.epoch, 3)}
    return {**facts, **found, "config": trainer.config.recipe()}
