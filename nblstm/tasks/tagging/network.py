"""The network of a tagger: words and their spelling -> recurrent stack -> a chain of tags, or a softmax over them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nblstm import checks
from nblstm.nn.crf import CrfHead
from nblstm.nn.heads import SoftmaxHead
from nblstm.nn.network import Network
from nblstm.nn.parameters import initial, views
from nblstm.nn.spelling import SpelledWords, below
from nblstm.nn.stack import RecurrentStack
from nblstm.nn.state import State
from nblstm.nn.tape import Tape
from nblstm.tasks.tagging.config import TaggerConfig
from nblstm.tasks.tagging.measures import TagCounts
from nblstm.tasks.tagging.spans import allowed_chain
from nblstm.text.batches import Chunk
from nblstm.text.vectors import WordVectors, place_vectors
from nblstm.training.report import Validation

WORD_SCALE = 0.1  # standard deviation of the numbers of a new word's vector


class TaggerNetwork(Network):
    """Words in, a tag for each out. A chunk's tokens are `SpelledTokens`, its texts whole."""

    def __init__(self, config: TaggerConfig, parameters: np.ndarray, *args: Any, **keywords: Any) -> None:
        head = CrfHead if config.head == "crf" else SoftmaxHead
        keywords["parts"] = SpelledWords, RecurrentStack, head
        super().__init__(config, parameters, *args, **keywords)
        if isinstance(self.head, CrfHead) and config.scheme != "none":
            self.head.allowed = allowed_chain(config.tags, config.dtype)

    def best_tags(self, chunk: Any, state: State) -> np.ndarray:
        """Return the most probable tag of every row of a chunk, (M,) int32. NonFiniteError if the weights are damaged."""
        return self.judged(chunk, state)[0]

    def judged(self, chunk: Any, state: State) -> tuple[np.ndarray, np.ndarray]:
        """Return (the most probable tags (M,) int32, the loss of the chunk's targets (M,)), from one reading."""
        chunk, state = self._checked(chunk, state)
        with checks.quiet(), self.scratch() as scratch:
            tape = Tape(chunk.offsets, scratch, None)
            self._forward(tape, chunk.tokens, state)
            losses = checks.losses(self.head.losses(tape, chunk.targets))
            if isinstance(self.head, CrfHead):
                return self.head.decode(tape), losses
            return self.head.outputs(scratch, tape.features).argmax(axis=1).astype(np.int32), losses


def initial_tagger(config: TaggerConfig, seed: int, vectors: WordVectors | None = None) -> np.ndarray:
    """Draw new parameters (num_parameters,) as `nblstm.nn.parameters.initial` does, but smaller vectors of words.

    A rare word's few updates then move its vector away from what was drawn. The chain begins at 0: no tag likes another.
    vectors: what some words begin with.
    """
    flat = initial(config, seed)
    named = views(flat, config)
    named["embedding.weight"][...] *= WORD_SCALE
    if vectors is not None:
        place_vectors(named["embedding.weight"], vectors)
    if config.spelling is not None:
        drawn = views(initial(config.spelling, seed), config.spelling)
        for name, array in below(named).items():
            array[...] = drawn[name]
    for name, array in named.items():
        if name.startswith("crf."):
            array[...] = 0
    return flat


def validated_tags(
    network: Any, chunks: Sequence[Chunk], stop: Callable[[], bool] = lambda: False, monitor: str = "f1"
) -> Validation | None:
    """Measure loss (nats a word), accuracy and, of spans, F1 on chunks, at least one; None if stopped.

    monitor: what is valued; accuracy in place of an f1 that is not there.
    """
    config, nats, counts = network.config, 0.0, TagCounts()
    for chunk in chunks:
        if stop():
            return None
        tags, losses = network.judged(chunk, network.initial_state(chunk.num_texts))
        nats += float(losses.sum(dtype=np.float64))
        for expected, found in zip(in_sentences(chunk.targets, chunk, config), in_sentences(tags, chunk, config)):
            counts.add(expected, found)
    measured = counts.evaluation(config.types)
    measures = {"loss": nats / measured.words, "accuracy": measured.accuracy}
    if config.scheme != "none":
        measures["f1"] = measured.f1
    valued = monitor if monitor in measures else "accuracy"
    return Validation(measures["loss"] if valued == "loss" else 1 - measures[valued], measures)


def in_sentences(tags: np.ndarray, chunk: Chunk, config: TaggerConfig) -> list[list[str]]:
    """Return the tags (M,) of a packed chunk as names, sentence by sentence."""
    sentences: list[list[str]] = [[] for _ in range(chunk.num_texts)]
    for first, last in zip(chunk.offsets, chunk.offsets[1:]):
        for sentence, tag in zip(sentences, tags[first:last].tolist()):
            sentence.append(config.tags[tag])
    return sentences
