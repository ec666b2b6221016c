"""What a classifier learns from, and the trainer of it: for texts in memory and in files alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from nblstm.config import TextConfig
from nblstm.errors import TextError
from nblstm.files.digest import digest_of_values
from nblstm.kernels import fastest
from nblstm.kernels.packed import indices
from nblstm.nn.heads import SoftmaxHead
from nblstm.nn.parameters import views
from nblstm.remembered import remembered
from nblstm.tasks.classification.batches import LabelledTexts, as_read, encoded
from nblstm.tasks.classification.config import ClassifierConfig, ClassifierTraining
from nblstm.tasks.classification.labels import weights_of_classes
from nblstm.tasks.classification.network import ClassifierNetwork, initial_classifier, validated
from nblstm.text.corpus import MOST_UNKNOWN
from nblstm.text.vectors import WordVectors
from nblstm.text.vocabulary import Vocabulary
from nblstm.training.trainer import Trainer

VALIDATED_AT_ONCE = 256  # texts
BAYES_SHARE, BAYES_SCALE = 8, 0.5  # one in so many numbers of a vector begins with a log ratio, times this
BEGINNING = 6  # characters: words that begin with the same ones have one more log ratio in common


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

    @remembered
    def fingerprint(self) -> str:
        """Hex digest of the vocabulary, the classes, the texts and their labels."""
        parts = [[part.texts, part.labels.tolist()] for part in (self.train, self.valid)]
        return digest_of_values([*parts, [self.vocabulary.to_dict(), list(map(str, self.classes))]])


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


def initial_parameters(config: ClassifierConfig, recipe: ClassifierTraining, corpus: LabelledCorpus) -> np.ndarray:
    """Draw the parameters (num_parameters,) of a new classifier, which may know single words already.

    With bayes_init the first numbers of each word's vector are its log ratios (Wang & Manning 2012): a network of few
    texts then has to learn only what words say together (SST-2: 81.5 of 100 in place of 80.4). Given vectors stay as they are.
    """
    flat = initial_classifier(config, corpus.vocabulary, recipe.seed, corpus.vectors)
    if recipe.bayes_init and corpus.vectors is None:
        numbers = min(config.embedding_size // 2, max(len(config.labels), config.embedding_size // BAYES_SHARE))
        ratios = BAYES_SCALE * ratios_of_words(config, corpus, numbers)
        embedding = views(flat, config)["embedding.weight"]
        specials = [id for id in (corpus.vocabulary.unk_id, corpus.vocabulary.end_id) if id is not None]
        ratios[specials] = 0
        for number in range(numbers if ratios.shape[1] else 0):
            embedding[:, number] = ratios[:, number % ratios.shape[1]]
    return flat


def ratios_of_words(config: ClassifierConfig, corpus: LabelledCorpus, most: int) -> np.ndarray:
    """Return the log ratios of each token, then those of all tokens together that begin as it does, (num_tokens, columns).

    A rare word's own ratio is chance; with others of its kind ("wonderful", "wonderfully") it says more (naive Bayes of SST-2:
    81.7 of 100 with both, 80.6 without). most: see `log_ratios`.
    """
    ids, offsets, _ = encoded(corpus.vocabulary, corpus.train.texts, config.max_length)
    beginnings: dict[str, int] = {}
    alike = np.array(
        [beginnings.setdefault(token.strip()[:BEGINNING], len(beginnings)) for token in corpus.vocabulary.tokens]
    )
    own = log_ratios(ids, offsets, corpus.train.labels, len(alike), most)
    common = log_ratios(alike[ids], offsets, corpus.train.labels, len(beginnings), most)
    return np.concatenate([own, common[alike]], axis=1)


def log_ratios(ids: np.ndarray, offsets: np.ndarray, labels: np.ndarray, num_tokens: int, most: int) -> np.ndarray:
    """Return how much more the texts of each label have each token than the others have it, (num_tokens, labels).

    r = log((n + 1) / sum of (n + 1)) - log((m + 1) / sum of (m + 1)), n texts of the label and m others that have the token.
    ids, offsets, labels: of the texts, see `encoded`. Of more than `most` labels the most frequent ones.
    """
    V, texts = num_tokens, np.repeat(np.arange(len(labels)), indices(np.diff(offsets)))
    pairs = np.unique(texts * V + ids)  # a token counts once in a text
    texts, tokens = np.divmod(pairs, V)
    all_texts = np.bincount(indices(tokens), minlength=V)
    counts = np.bincount(indices(labels))
    found = []
    for label in np.argsort(-counts, kind="stable")[: min(most, int((counts > 0).sum()))]:
        having = np.bincount(indices(tokens[labels[texts] == label]), minlength=V)
        own, others = having + 1.0, all_texts - having + 1.0
        found.append(np.log(own / own.sum()) - np.log(others / others.sum()))
    return np.stack(found, axis=1) if found else np.zeros((V, 0))


def classifier_trainer(
    config: ClassifierConfig,
    parameters: np.ndarray,
    recipe: ClassifierTraining,
    corpus: LabelledCorpus,
    on_message: Callable[[str], None],
) -> Trainer:
    """Make the trainer of a classifier with these parameters. on_message is told of texts that are not read whole."""
    texts, labels = corpus.train.texts, corpus.train.labels
    network = ClassifierNetwork(config, parameters, fastest(), recipe.threads)
    head = network.head
    assert isinstance(head, SoftmaxHead)
    head.smoothing = recipe.label_smoothing
    head.classes = weights_of_classes(recipe.class_weights, config.classes, labels, config.dtype)
    ids, offsets, longer = encoded(corpus.vocabulary, texts, config.max_length)
    _check_known(ids, corpus.vocabulary)
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


def _check_known(ids: np.ndarray, vocabulary: Vocabulary) -> None:
    """Raise TextError if nearly all tokens of the training texts are unknown, or there are none: nothing is learned then."""
    specials = [special for special in (vocabulary.unk_id, vocabulary.end_id) if special is not None]
    known = len(ids) - np.count_nonzero(np.isin(ids, specials))
    if known < (1 - MOST_UNKNOWN) * len(ids):
        raise TextError(
            f"{known:,} of the training texts' {len(ids):,} tokens are in the vocabulary; lower min_count, raise max_vocab, "
            "or give other texts."
        )


def classifier_facts(corpus: LabelledCorpus, trainer: Trainer) -> dict[str, Any]:
    """Return the facts of training, as a model's file holds them."""
    found = {f"valid_{name}": value for name, value in trainer.best_measures.items()}
    facts = {"texts": len(corpus.train.texts), "steps": trainer.step, "epochs": round(trainer.epoch, 3)}
    return {**facts, **found, "config": trainer.config.recipe()}
