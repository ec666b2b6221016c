"""One text cut into parts that are read at once: parallel streams, or windows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from nblstm import checks
from nblstm.nn.network import Network
from nblstm.scoring import amounts
from nblstm.scoring.results import NOTHING, OnProgress, Score, Text, no_progress
from nblstm.scoring.streams import read_on, text_and_ids, without_first
from nblstm.scoring.validation import SHORTEST_SCORED
from nblstm.text.batches import Chunk, Streams
from nblstm.text.strings import ends_inside, num_characters, num_words, utf8
from nblstm.text.vocabulary import Vocabulary


class _TokenText:
    """A text as ids in a temporary file, and what a score counts of it. TextError if there is no room for the file."""

    def __init__(self, vocabulary: Vocabulary, chunks: Iterable[Text]) -> None:
        from nblstm.text.token_file import TokenFile  # which a score of a text in memory does not need

        self.vocabulary, self.size, self.characters, self.words = vocabulary, 0, 0, 0
        self.first: Text | None = None
        self._inside = False
        self.file = TokenFile(vocabulary, self._counted(vocabulary.read_pieces(chunks)))
        self.ids = self.file.ids

    def _counted(self, chunks: Iterable[Text]) -> Iterator[Text]:
        for text in chunks:
            self.size, self.characters = self.size + len(utf8(text)), self.characters + num_characters(text)
            self.words += num_words(text, self._inside)
            self._inside = ends_inside(text, self._inside)
            self.first = text if self.first is None else self.first
            yield text

    def score(self, nats: float) -> Score:
        """Return the score of all tokens but the first, which is given."""
        text, _ = text_and_ids(self.vocabulary, self.first or "")
        scored = without_first(self.vocabulary, text, int(self.ids[0]))
        characters = self.characters - (num_characters(text) - num_characters(scored))
        size = self.size - (len(utf8(text)) - len(utf8(scored)))
        words = self.words - (num_words(text) - num_words(scored))
        unknown = self.file.unknown - int(self.ids[0] == self.vocabulary.unk_id)
        return Score(nats, len(self.ids) - 1, characters, size, unknown, words)


def score_in_streams(
    network: Network, vocabulary: Vocabulary, chunks: Iterable[Text], most: int, on_progress: OnProgress = no_progress
) -> tuple[Score, int]:
    """Score a text cut into up to `most` parallel streams of at least SHORTEST_SCORED tokens: (score, streams).

    Faster than one stream and a little pessimistic: each stream starts cold, from the zero state. The first token is
    given. The ids go to a temporary file; TextError if there is no room for it.
    """
    text = _TokenText(vocabulary, chunks)
    ids = text.ids
    if len(ids) < 2:
        return NOTHING, 1
    N = max(1, min(most, len(ids) // SHORTEST_SCORED))
    streams, state, nats = (
        Streams(ids, N, max(1, amounts.rows_at_once(network.config) // N)),
        network.initial_state(N),
        0.0,
    )
    for chunk in streams:
        losses, state = network.losses(chunk, network.before(chunk, state))
        nats += float(checks.losses(losses).sum(dtype=np.float64))
        on_progress(losses.size, text.size * losses.size / len(ids))
        text.file.release()
    rest = ids[N * streams.length :].astype(np.int32)  # fewer than N tokens that follow the last stream
    losses, _ = read_on(network, rest[:1], rest[1:], state.take([N - 1]), 0, on_progress)
    return text.score(nats + float(losses.sum(dtype=np.float64))), N


def score_in_windows(
    network: Network,
    vocabulary: Vocabulary,
    chunks: Iterable[Text],
    window: int,
    on_progress: OnProgress = no_progress,
) -> Score:
    """Score a text cut into windows of so many tokens, each read from nothing, as models with a fixed context are.

    Every token but the first is scored once, by those before it in its window and the last one of the window before.
    The ids go to a temporary file; TextError if there is no room for it.
    """
    text, nats = _TokenText(vocabulary, chunks), 0.0
    at_once = window * max(1, amounts.rows_at_once(network.config) // window)
    for start in range(0, max(0, len(text.ids) - 1), at_once):
        piece = text.ids[start : start + at_once + 1]
        for length in (window, (len(piece) - 1) % window):  # whole windows, and the shorter one at the end
            N = (len(piece) - 1) // length if length else 0
            if N:
                inputs, targets = (piece[k : k + N * length].reshape(N, length).T for k in (0, 1))
                chunk = Chunk.rectangle(inputs, targets, fresh=True)
                losses, _ = network.losses(chunk, network.initial_state(N))
                nats += float(checks.losses(losses).sum(dtype=np.float64))
                on_progress(losses.size, text.size * losses.size / len(text.ids))
            piece = piece[N * length :]
        text.file.release()
    return text.score(nats) if len(text.ids) > 1 else NOTHING
