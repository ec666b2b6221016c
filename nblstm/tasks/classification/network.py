"""The network of a classifier: token embedding -> recurrent stack, pooled -> softmax over labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nblstm import checks
from nblstm.kernels.reference.head import log_softmax
from nblstm.nn.heads import SoftmaxHead
from nblstm.nn.inputs import TokenEmbedding
from nblstm.nn.network import Network
from nblstm.nn.parameters import initial, views
from nblstm.nn.pooling import PooledStack
from nblstm.nn.tape import Inputs, Tape
from nblstm.tasks.classification.config import ClassifierConfig
from nblstm.text.batches import Chunk
from nblstm.text.vectors import WordVectors, place_vectors
from nblstm.text.vocabulary import Vocabulary
from nblstm.training.report import Validation

EMBEDDING_SCALE = 0.1  # standard deviation of the numbers of a new embedding


class ClassifierNetwork(Network):
    """Tokens in, a distribution over labels out, for every text; a chunk's targets are the labels (N,) of its texts."""

    def __init__(self, config: ClassifierConfig, parameters: np.ndarray, *args: Any, **keywords: Any) -> None:
        keywords["parts"] = TokenEmbedding, PooledStack, SoftmaxHead
        super().__init__(config, parameters, *args, **keywords)

    def num_targets(self, offsets: np.ndarray) -> int:
        """Count the targets of a packed batch: one a text."""
        return int(offsets[1])

    def contributions(self, chunk: Chunk) -> tuple[np.ndarray, np.ndarray]:
        """Return the logits (N, labels) of a chunk's texts, and how much each row moved the decision, (M,).

        Gradient times input: with the margin s = y_k - mean of the other logits of a text, k its largest, a row of vector
        x has x . ds/dx. Above 0 it spoke for k. The chunk's targets are not looked at.
        """
        chunk, state = self._checked(chunk, self.initial_state(chunk.num_texts))
        with checks.quiet(), self.scratch() as scratch:
            tape = Tape(chunk.offsets, scratch, None)
            x = self.weights["embedding.weight"][chunk.tokens]  # a row for each, though some tokens come twice,
            rows = np.arange(len(x), dtype=np.int32)  # through an index, as the body is read with
            self.body.forward(tape, Inputs(x, rows, len(x)), state)
            logits = self.head.outputs(scratch, tape.features)
            # ds/dy = 1 for k, -1 / (labels - 1) for the others;  ds/dp = ds/dy W
            labels = logits.shape[1]
            d = np.full_like(logits, -1 / (labels - 1))
            d[np.arange(len(d)), logits.argmax(axis=1)] = 1
            grads = views(np.zeros_like(self.parameters), self.config)
            dx, _ = self.body.backward(tape, grads, d @ self.weights["head.weight"], chunk.fresh)
            return logits, (x * dx).sum(axis=1)


def initial_classifier(
    config: ClassifierConfig, vocabulary: Vocabulary, seed: int, vectors: WordVectors | None = None
) -> np.ndarray:
    """Draw new parameters (num_parameters,) as `nblstm.nn.parameters.initial` does, but smaller vectors of tokens.

    Few texts move the vector of a rare word: from EMBEDDING_SCALE it gets away from what was drawn, from 1 it does not
    (SST-2, 6,920 sentences: validation loss 0.47 in place of 0.56). Unknown tokens and <end> say nothing: they begin at 0.
    vectors: what some words begin with.
    """
    flat = initial(config, seed)
    embedding = views(flat, config)["embedding.weight"]
    embedding *= EMBEDDING_SCALE
    if vectors is not None:
        place_vectors(embedding, vectors)
    embedding[[id for id in (vocabulary.unk_id, vocabulary.end_id) if id is not None]] = 0
    return flat


def validated(
    network: Network, chunks: Sequence[Chunk], stop: Callable[[], bool] = lambda: False, monitor: str = "loss"
) -> Validation | None:
    """Measure the loss (nats a text) and the accuracy on chunks, at least one; None if stopped. monitor: what is valued."""
    nats, right, texts = 0.0, 0, 0
    for chunk in chunks:
        if stop():
            return None
        logits, _ = network.outputs(chunk, network.initial_state(chunk.num_texts))
        losses = -log_softmax(logits)[np.arange(chunk.num_texts), chunk.targets]
        nats, texts = nats + float(losses.sum(dtype=np.float64)), texts + chunk.num_texts
        right += int((logits.argmax(axis=1) == chunk.targets).sum())
    measures = {"loss": nats / texts, "accuracy": right / texts}
    return Validation({"loss": measures["loss"], "accuracy": 1 - measures["accuracy"]}[monitor], measures)
