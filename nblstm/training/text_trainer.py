"""The trainer of a network that reads a corpus of text: streams, or documents in buckets."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from nblstm import kernels
from nblstm.config import DEFAULT_BUCKETS, TokenStackConfig, TrainConfig
from nblstm.config.training import TargetWeights
from nblstm.errors import ConfigError, DeviceError
from nblstm.nn.heads import SoftmaxHead
from nblstm.nn.network import Network
from nblstm.scoring import validation_documents, validation_streams
from nblstm.text.batches import Epochs, Streams, fit
from nblstm.text.buckets import Buckets, best_boundaries
from nblstm.text.corpus import Corpus
from nblstm.text.vocabulary import Vocabulary
from nblstm.training.memory import card_bytes
from nblstm.training.pruning import Pruner
from nblstm.training.trainer import Trainer


def fitted(config: TrainConfig, corpus: Corpus, on_message: Callable[[str], None]) -> TrainConfig:
    """Return the config with a batch that the text can fill; of documents a batch may simply hold fewer.

    Chunks of documents are of like lengths in every new run; those of older ones go on as they began.
    """
    if corpus.train_offsets is not None:
        return dataclasses.replace(config, even_chunks=True)
    batch_size, bptt, message = fit(len(corpus.train), config.batch_size, config.bptt)
    if message:
        on_message(message)
    return dataclasses.replace(config, batch_size=batch_size, bptt=bptt)


def check_recipe(shape: TokenStackConfig, recipe: TrainConfig) -> None:
    """Raise ConfigError for a recipe that the network's head or embedding cannot have."""
    if shape.head == "adaptive" and recipe.label_smoothing > 0:
        raise ConfigError(
            "label_smoothing spreads over all tokens, which an adaptive head never computes; leave it out."
        )
    if recipe.keep_statistics and not shape.may_adapt:
        raise ConfigError(
            "keep_statistics is for models that learn while they read, which a bidirectional one cannot; leave it out."
        )
    if recipe.lazy_embedding and (shape.tie or not shape.causal):
        reason = (
            "tie, whose vectors are the head's" if shape.tie else "bidirectional, which reads one for hidden tokens"
        )
        raise ConfigError(f"lazy_embedding is not for {reason}; leave it out.")


def make_trainer(
    kind: type[Network], shape: TokenStackConfig, parameters: np.ndarray, config: TrainConfig, corpus: Corpus
) -> Trainer:
    """Make the trainer of a network on a corpus.

    kind, shape: the network's class and config. parameters (num_parameters,) are the ones it moves. Raises DeviceError
    if a card has no room, ConfigError if these do not go together.
    """
    shape.check_level(corpus.vocabulary.level)
    check_recipe(shape, config)
    if config.device == "cuda":
        _check_room(shape, config)
    network = kind(shape, parameters, config.device, config.threads, config.precision)
    weigh_targets(network, config, corpus.vocabulary)
    source: Epochs
    if corpus.train_offsets is None or corpus.valid_offsets is None:
        source, valid = Streams(corpus.train, config.batch_size, config.bptt), validation_streams(corpus.valid)
    else:
        source = _buckets(corpus.train, corpus.train_offsets, config)
        valid = validation_documents(corpus.valid, corpus.valid_offsets)
    trainer = Trainer(network, config, source, valid, corpus.release)
    if config.sparsity:
        trainer.companions.each.append(Pruner(network, config.sparsity))
    return trainer


def _check_room(shape: TokenStackConfig, config: TrainConfig) -> None:
    """Raise DeviceError if the card's free memory cannot hold the training."""
    name, free = kernels.load("cuda").describe()
    needed = card_bytes(shape, config)
    if free is not None and needed > free:
        raise DeviceError(
            f"training takes up to {needed / 1e6:,.1f} MB, and {name} has {free / 1e6:,.1f} MB free; "
            "lower batch_size or bptt."
        )


def weigh_targets(network: Network, config: TargetWeights, vocabulary: Vocabulary) -> None:
    """Set the class weights and the smoothing of a network's softmax. ConfigError for tokens that do not exist."""
    head = network.head
    assert isinstance(head, SoftmaxHead)
    head.classes, head.smoothing = _class_weights(config, vocabulary, network.config.dtype), config.label_smoothing


def _class_weights(config: TargetWeights, vocabulary: Vocabulary, dtype: str) -> np.ndarray | None:
    """Find how much each token counts as a target, (V,). ConfigError for one that the vocabulary does not have."""
    if not config.token_weights:
        return None
    places = {token: id for id, token in enumerate(vocabulary.tokens)}
    classes = np.ones(len(vocabulary), dtype)
    for token, weight in config.token_weights.items():
        if token not in places:
            raise ConfigError(f"token_weights names {token!r:.40}, which the vocabulary does not have; leave it out.")
        with np.errstate(over="ignore"):
            classes[places[token]] = weight
    if not np.isfinite(classes).all():
        raise ConfigError(f"token_weights must be numbers that {dtype} holds; lower them.")
    return classes


def _buckets(ids: np.ndarray, offsets: np.ndarray, config: TrainConfig) -> Buckets:
    """Put the training documents in the buckets that the config asks for."""
    boundaries: Sequence[int] | None = config.boundaries
    if boundaries is None:
        boundaries = best_boundaries(np.diff(offsets), config.num_buckets or DEFAULT_BUCKETS)
    return Buckets(
        ids, offsets, boundaries, config.bptt, config.batch_size, config.tokens_per_batch,
        config.seed, config.even_chunks,
    )  # fmt: skip
