"""The network of a classifier: token embedding -> recurrent stack, pooled -> softmax over labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nblstm.nn.heads import SoftmaxHead
from nblstm.nn.inputs import TokenEmbedding
from nblstm.nn.network import Network
from nblstm.nn.parameters import initial, views
from nblstm.nn.pooling import PooledStack
from nblstm.tasks.classification.config import ClassifierConfig
from nblstm.text.batches import Chunk
from nblstm.text.vocabulary import Vocabulary


class ClassifierNetwork(Network):
    """Tokens in, a distribution over labels out, for every text; a chunk's targets are the labels (N,) of its texts."""

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, parts=(TokenEmbedding, PooledStack, SoftmaxHead), **keywords)

    def num_targets(self, offsets: np.ndarray) -> int:
        """Count the targets of a packed batch: one a text."""
        return int(offsets[1])


def initial_classifier(config: ClassifierConfig, vocabulary: Vocabulary, seed: int) -> np.ndarray:
    """Draw new parameters (num_parameters,); the vectors of unknown tokens and of <end>, which say nothing yet, are 0."""
    flat = initial(config, seed)
    specials = [id for id in (vocabulary.unk_id, vocabulary.end_id) if id is not None]
    views(flat, config)["embedding.weight"][specials] = 0
    return flat


def error_rate(network: Network, chunks: Sequence[Chunk], stop: Callable[[], bool] = lambda: False) -> float | None:
    """Return the share of the chunks' texts whose most probable label is not theirs; None if stopped."""
    wrong, texts = 0, 0
    for chunk in chunks:
        if stop():
            return None
        logits, _ = network.outputs(chunk, network.initial_state(chunk.num_texts))
        wrong, texts = wrong + int((logits.argmax(axis=1) != chunk.targets).sum()), texts + chunk.num_texts
    return wrong / texts
