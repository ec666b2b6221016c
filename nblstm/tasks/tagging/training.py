"""What a tagger learns from, and the trainer of it: for sentences in memory and in files alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from nblstm.config.text import DEFAULT_MAX_VOCAB
from nblstm.files.digest import digest_of_values
from nblstm.kernels import fastest
from nblstm.nn.spelling import SpelledWords
from nblstm.remembered import remembered
from nblstm.tasks.tagging.batches import TaggedSentences, looked_up, occurrences
from nblstm.tasks.tagging.config import TaggerConfig
from nblstm.tasks.tagging.network import TaggerNetwork, validated_tags
from nblstm.tasks.tagging.settings import TaggedTextConfig, TaggerTraining
from nblstm.tasks.tagging.spans import outputs_of, rewritten, scheme_of, types_of
from nblstm.text.vectors import WordVectors
from nblstm.text.vocabulary import UNK, Vocabulary
from nblstm.training.trainer import Trainer

SENTENCES_AT_ONCE = 128  # in validation

Sentences = Sequence[Sequence[str]]


@dataclass(frozen=True)
class TaggedPart:
    """Sentences, lists of words, and the tags of each in whatever scheme they came."""

    sentences: Sentences
    tags: Sentences

    def take(self, places: np.ndarray) -> TaggedPart:
        """Return the sentences at these places."""
        return TaggedPart([self.sentences[k] for k in places], [self.tags[k] for k in places])

    def split(self, fraction: float, seed: int) -> tuple[TaggedPart, TaggedPart]:
        """Split sentences into those to learn and a share, drawn at random, to validate with."""
        order = np.random.default_rng([seed, 1]).permutation(len(self.sentences))
        held_out = int(len(order) * fraction)
        return self.take(np.sort(order[held_out:])), self.take(np.sort(order[:held_out]))


@dataclass(frozen=True)
class TaggedCorpus:
    """Tagged sentences to learn from and to validate with (these may be none), the vocabulary of words and the outputs."""

    vocabulary: Vocabulary
    tags: tuple[str, ...]
    scheme: str
    characters: str
    lowercase: bool  # how words are looked up
    zero_digits: bool
    train: TaggedPart
    valid: TaggedPart
    vectors: WordVectors | None = None  # that some words begin with

    @remembered
    def fingerprint(self) -> str:
        """Hex digest of everything."""
        parts = [[part.sentences, part.tags] for part in (self.train, self.valid)]
        return digest_of_values([*parts, [self.vocabulary.to_dict(), self.tags, self.scheme, self.characters]])

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of a TaggerConfig that the data give."""
        return {
            "vocab_size": len(self.vocabulary),
            "tags": self.tags,
            "scheme": self.scheme,
            "characters": self.characters,
            "lowercase": self.lowercase,
            "zero_digits": self.zero_digits,
        }


def corpus_of(train: TaggedPart, valid: TaggedPart, reading: TaggedTextConfig) -> TaggedCorpus:
    """Find what a tagger of these sentences knows: words, characters, tags."""
    names = sorted({tag for tags in train.tags for tag in tags})
    scheme = scheme_of(train.tags)
    tags = tuple(names) if scheme == "none" else outputs_of(types_of(names))
    characters = "".join(sorted({letter for sentence in train.sentences for word in sentence for letter in word}))
    vocabulary = vocabulary_of_words(train.sentences, reading)
    return TaggedCorpus(vocabulary, tags, scheme, characters, reading.lowercase, reading.zero_digits, train, valid)


def vocabulary_of_words(sentences: Sentences, reading: TaggedTextConfig) -> Vocabulary:
    """Build the vocabulary of words, as they are looked up: the most frequent first, of equal ones in their order."""
    counts = Counter(word for sentence in sentences for word in sentence)
    found: Counter[str] = Counter()
    for word, count in counts.items():
        found[looked_up(word, reading)] += count
    words = sorted(
        (word for word, count in found.items() if count >= reading.min_count and word != UNK),
        key=lambda w: (-found[w], w),
    )
    kept = words[: (reading.max_vocab or DEFAULT_MAX_VOCAB) - 1]
    return Vocabulary.from_dict({"level": "word", "tokenizer": "whitespace", "tokens": [UNK, *kept]})


def numbered_tags(tags: Iterable[Sequence[str]], config: TaggerConfig) -> np.ndarray:
    """Return the outputs of the tags of all sentences, (words,) int32; tags in whatever scheme, that `config.knows`."""
    places = {tag: place for place, tag in enumerate(config.tags)}
    scheme = "none" if config.scheme == "none" else "iobes"
    return np.array([places[tag] for sentence in tags for tag in rewritten(sentence, scheme)], np.int32)


def tagger_trainer(
    config: TaggerConfig,
    parameters: np.ndarray,
    recipe: TaggerTraining,
    corpus: TaggedCorpus,
    on_message: Callable[[str], None],
) -> Trainer:
    """Make the trainer of a tagger with these parameters. on_message is told of sentences that are read in parts."""
    network = TaggerNetwork(config, parameters, fastest(), recipe.threads)
    source = _source(corpus.train, corpus, config, recipe.batch_size, recipe.seed)
    longer = sum(len(sentence) > config.max_length for sentence in corpus.train.sentences)
    if longer:
        on_message(f"{longer:,} sentences are longer than max_length={config.max_length:,}: they are read in parts.")
    words = network.input
    assert isinstance(words, SpelledWords)
    words.rare = occurrences(source.forms.words[source.ids], config.vocab_size) == 1
    words.unknown_fraction = recipe.unknown_fraction
    chunks: Any = ()
    if corpus.valid.sentences:
        chunks = _source(corpus.valid, corpus, config, SENTENCES_AT_ONCE, None).epoch(0)
    return Trainer(network, recipe, source, chunks, measure=partial(validated_tags, monitor=recipe.monitor))


def _source(
    part: TaggedPart, corpus: TaggedCorpus, config: TaggerConfig, size: int, seed: int | None
) -> TaggedSentences:
    """Put tagged sentences in batches."""
    return TaggedSentences(part.sentences, numbered_tags(part.tags, config), corpus.vocabulary, config, size, seed)


def tagger_facts(corpus: TaggedCorpus, trainer: Trainer) -> dict[str, Any]:
    """Return the facts of training, as a model's file holds them."""
    found = {f"valid_{name}": value for name, value in trainer.best_measures.items()}
    facts = {"sentences": len(corpus.train.sentences), "steps": trainer.step, "epochs": round(trainer.epoch, 3)}
    return {**facts, **found, "config": trainer.config.recipe()}
