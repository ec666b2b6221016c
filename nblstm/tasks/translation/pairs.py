"""Pairs from outside: sources, which are texts or vectors, and a target each; and what encodes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from nblstm import checks
from nblstm.errors import ConfigError, TextError
from nblstm.tasks.classification.batches import as_read
from nblstm.tasks.translation.batches import Encoded, Sources, Vectors, encoded_sources, encoded_targets
from nblstm.tasks.translation.config import TranslatorConfig
from nblstm.tasks.translation.settings import PairedTextConfig
from nblstm.text.strings import checked
from nblstm.text.vocabulary import Vocabulary

PairsOfTexts = tuple[list[str] | np.ndarray, list[str]]
Vocabularies = tuple[Vocabulary | None, Vocabulary]  # of sources, None for vectors, and of targets


def checked_sources(sources: Any) -> list[str] | np.ndarray:
    """Return sources: texts, or an array of numbers (texts, D). TextError or ConfigError for others."""
    if isinstance(sources, np.ndarray) and sources.dtype.kind in "fiub":
        if sources.ndim != 2 or not sources.shape[1]:
            raise ConfigError(f"sources that are numbers must be an array (texts, numbers), got {sources.shape}.")
        return checks.finite(
            "sources", checks.in_form("sources", sources, sources.shape, sources.dtype.newbyteorder("="))
        )
    return checked_texts("sources", sources)


def checked_texts(name: str, texts: Any) -> list[str]:
    """Return the texts. TextError unless they are strings, several of them."""
    if isinstance(texts, (str, bytes)):
        raise TextError(f"{name} must be several, got a single one; put it in a list.")
    return [checked(text, str) for text in checks.items(name, texts)]


def checked_pairs(sources: Any, targets: Any, name: str) -> PairsOfTexts:
    """Return sources and targets. ConfigError unless they are as many."""
    read, written = checked_sources(sources), checked_texts(name, targets)
    if len(read) != len(written):
        raise ConfigError(f"{name} must be as many as the sources, got {len(written):,} and {len(read):,}.")
    return read, written


def some_of(pairs: PairsOfTexts, places: Sequence[int] | np.ndarray) -> PairsOfTexts:
    """Return some of the pairs."""
    sources, targets = pairs
    chosen = sources[np.asarray(places, np.intp)] if isinstance(sources, np.ndarray) else [sources[k] for k in places]
    return chosen, [targets[k] for k in places]


def split_pairs(pairs: PairsOfTexts, fraction: float, seed: int) -> tuple[PairsOfTexts, PairsOfTexts]:
    """Split pairs into (those to learn, a share drawn at random to validate with)."""
    order = np.random.default_rng([seed, 1]).permutation(len(pairs[1]))
    count = int(len(order) * fraction)
    return some_of(pairs, np.sort(order[count:])), some_of(pairs, np.sort(order[:count]))


def vocabularies_of(pairs: PairsOfTexts, text: PairedTextConfig) -> Vocabularies:
    """Build the vocabularies of both sides, or one of both."""
    sources, targets = pairs
    if not targets:
        raise ConfigError("there is nothing to learn without pairs; give one at least.")

    def build(texts: Iterable[str], level: str) -> Vocabulary:
        read = (as_read(part, level) for part in texts)
        return Vocabulary.build(read, level, text.tokenizer, text.min_count, text.max_vocab, ends=True)

    if isinstance(sources, np.ndarray):
        return None, build(targets, text.level)
    if text.shared_vocabulary:
        one = build([*sources, *targets], text.level)
        return one, one
    return build(sources, text.source_level or text.level), build(targets, text.level)


def sizes_of(vocabularies: Vocabularies, sources: list[str] | np.ndarray) -> dict[str, Any]:
    """Return the fields of a TranslatorConfig that the data give."""
    source, target = vocabularies
    if isinstance(sources, np.ndarray):
        return {"vocab_size": len(target), "source_size": sources.shape[1]}
    return {"vocab_size": len(target), "source_vocab_size": len(source or ()), "shared": source is target}


def network_sources(
    sources: list[str] | np.ndarray, vocabulary: Vocabulary | None, config: TranslatorConfig
) -> Sources:
    """Return sources as the network reads them."""
    if isinstance(sources, np.ndarray):
        return Vectors(sources.astype(config.dtype))
    assert vocabulary is not None
    return encoded_sources(vocabulary, sources, config.max_length)


def encoded_pairs(pairs: PairsOfTexts, vocabularies: Vocabularies, config: TranslatorConfig) -> tuple[Sources, Encoded]:
    """Encode both sides."""
    return network_sources(pairs[0], vocabularies[0], config), encoded_targets(vocabularies[1], pairs[1])
