"""What a translator learns from, and the trainer of it: for pairs in memory and in files alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nblstm.errors import ConfigError
from nblstm.files.digest import digest_of_values
from nblstm.kernels import fastest
from nblstm.nn.heads import SoftmaxHead
from nblstm.nn.network import Network
from nblstm.remembered import remembered
from nblstm.scoring import validation_loss
from nblstm.tasks.translation.batches import Encoded, PairedTexts, Sources, Vectors
from nblstm.tasks.translation.config import TranslateConfig, TranslatorConfig, TranslatorTraining
from nblstm.tasks.translation.measures import corpus_bleu
from nblstm.tasks.translation.network import TranslationNetwork
from nblstm.tasks.translation.pairs import PairsOfTexts, Vocabularies, encoded_pairs, some_of
from nblstm.tasks.translation.writing import write_translations
from nblstm.text.batches import Chunk
from nblstm.text.vectors import WordVectors
from nblstm.text.vocabulary import Vocabulary
from nblstm.training.report import Measure, Validation
from nblstm.training.trainer import Trainer

PAIRS_AT_ONCE = 64  # pairs
MEASURED = 1000  # pairs of a validation that are translated
GREEDY = TranslateConfig(beam=1)


@dataclass(frozen=True)
class PairedCorpus:
    """Pairs to learn from and to validate with (these may be none), and the vocabularies of both sides."""

    vocabularies: Vocabularies
    train: PairsOfTexts
    valid: PairsOfTexts
    vectors: WordVectors | None = None  # that some words of the sources begin with

    @property
    def vocabulary(self) -> Vocabulary:
        """That of the targets."""
        return self.vocabularies[1]

    @remembered
    def fingerprint(self) -> str:
        """Hex digest of the vocabularies and the pairs."""
        listed = lambda texts: texts.tolist() if isinstance(texts, np.ndarray) else texts
        parts = [[listed(sources), targets] for sources, targets in (self.train, self.valid)]
        return digest_of_values([*parts, [each and each.to_dict() for each in self.vocabularies]])


def translator_trainer(
    config: TranslatorConfig,
    parameters: np.ndarray,
    recipe: TranslatorTraining,
    corpus: PairedCorpus,
    on_message: Callable[[str], None],
) -> Trainer:
    """Make the trainer of a translator with these parameters. on_message is told of pairs that are left out."""
    network = TranslationNetwork(config, parameters, fastest(), recipe.threads)
    assert isinstance(network.head, SoftmaxHead)
    network.head.smoothing = recipe.label_smoothing
    pairs = _short(encoded_pairs(corpus.train, corpus.vocabularies, config), config.max_length, on_message)
    texts = PairedTexts(*pairs, recipe.batch_size, recipe.tokens_per_batch, recipe.seed)
    valid: Sequence[Chunk] = ()
    if corpus.valid[1]:
        encoded = encoded_pairs(corpus.valid, corpus.vocabularies, config)
        valid = PairedTexts(*encoded, PAIRS_AT_ONCE, seed=None).epoch(0)
    return Trainer(network, recipe, texts, valid, measure=_measure(corpus, recipe.monitor))


def _short(pairs: tuple[Sources, Encoded], longest: int, on_message: Callable[[str], None]) -> tuple[Sources, Encoded]:
    """Leave out pairs whose target is longer than what is written; say how many. ConfigError if none is left."""
    sources, targets = pairs
    kept = np.flatnonzero(targets.lengths <= longest)
    if len(kept) == len(targets):
        return pairs
    if not len(kept):
        raise ConfigError(f"every target is longer than max_length={longest:,} tokens; raise it.")
    on_message(
        f"{len(targets) - len(kept):,} of {len(targets):,} targets are longer than max_length={longest:,}: left out."
    )
    some = Vectors(sources.vectors[kept]) if isinstance(sources, Vectors) else _of_texts(sources, kept)
    return some, _of_texts(targets, kept)


def _of_texts(encoded: Encoded, kept: np.ndarray) -> Encoded:
    """Return some of the texts, over the same ids."""
    return Encoded(encoded.ids, encoded.starts[kept], encoded.lengths[kept])


def _measure(corpus: PairedCorpus, monitor: str) -> Measure:
    """Make the measure of a validation: the loss, and BLEU of greedy translations of the first MEASURED sources."""
    sources, targets = some_of(corpus.valid, range(min(MEASURED, len(corpus.valid[1]))))

    def measure(network: Network, chunks: Sequence[Chunk], stop: Callable[[], bool]) -> Validation | None:
        loss = validation_loss(network, chunks, stop)
        if loss is None:
            return None
        found = write_translations(network, corpus.vocabularies, sources, GREEDY)
        bleu = corpus_bleu([best[0].text for best in found], targets)
        return Validation(loss if monitor == "loss" else 100 - bleu, {"loss": loss, "bleu": bleu})

    return measure


def translator_facts(corpus: PairedCorpus, trainer: Trainer) -> dict[str, Any]:
    """Return the facts of training, as a model's file holds them."""
    found = {f"valid_{name}": value for name, value in trainer.best_measures.items()}
    facts = {"pairs": len(corpus.train[1]), "steps": trainer.step, "epochs": round(trainer.epoch, 3)}
    return {**facts, **found, "config": trainer.config.recipe()}
