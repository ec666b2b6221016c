"""Sub-words: tokens between bytes and words, by byte-pair encoding (Sennrich et al. 2016) of bytes (Radford et al. 2019).

A text is cut into pieces (PIECE): a word of letters, digits, underscores and apostrophes between them, or a run of
other marks, either of up to 32 characters and with the one blank before it; any other white space by itself. No token
spans two pieces, so nothing that is known of one changes another, and all pieces together are the text.

The bytes of a piece's UTF-8 are its first tokens. As long as two neighbours together are a token as well, two are
joined: those whose joint token has the smallest id, of several the leftmost. Tokens are learned by the same rule: the
joint bytes that most pairs of neighbours in the text have, of several the first in the order of bytes, become the next
token. So the list of tokens says all, and there is nothing else to store.

Every text is encoded without loss, since every byte is a token. A token may be less than a character.
"""

from __future__ import annotations

import heapq
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, ClassVar

import numpy as np

from nblstm.config.text import DEFAULT_SUBWORDS
from nblstm.errors import ConfigError, ModelFileError
from nblstm.kernels.packed import indices
from nblstm.text.counting import WordCounter
from nblstm.text.decoders import TokenDecoder, Utf8Decoder
from nblstm.text.strings import checked, utf8
from nblstm.text.vocabulary import END, Bytes, Vocabulary

PIECE = re.compile(r" ?\w(?:\w|['’](?=\w)){0,31}| ?[^\w\s]{1,32}|\s")  # every character belongs to exactly one match
MOST_BYTES = 256  # of a token; a piece has at most 33 characters of 4 bytes
LEARNED_FROM = 200_000  # different pieces, the most frequent ones: more take minutes and change little
LEAST_PAIRS = 2  # pairs of neighbours that a token must join in the text
REMEMBERED = 1 << 18  # pieces whose tokens are kept

Ranks = Mapping[bytes, int]  # token -> id
NO_TOKEN = 1 << 62  # above every id


class Subwords(Vocabulary):
    """The 256 bytes, <end> if texts have ends, then joint tokens in the order in which they were learned.

    tokens: each byte of a token as the character of that number.
    """

    level = "subword"
    unk_id = None
    by_bytes = True
    END_PLACE = Bytes.END_PLACE
    _bytes: ClassVar[list[bytes]]  # of each vocabulary
    _ids_of: ClassVar[_PieceIds]

    def __post_init__(self) -> None:
        """Make `_bytes`, those of each id, <end> has none, and `_ids_of`, the ids of each piece."""
        super().__post_init__()
        own = [text.encode("latin-1") for text in self._texts]
        ranks = {token: id for id, token in enumerate(own) if token}
        vars(self).update(_bytes=own, _ids_of=_PieceIds(ranks))

    def split(self, text: str) -> Sequence[str]:
        return [self.tokens[id] for id in self._numbers(text)]

    def encode(self, text: str) -> np.ndarray:
        """Return the ids of the text's tokens, (tokens,) of `dtype`."""
        return np.fromiter(self._numbers(text), self.dtype)

    def _numbers(self, text: str) -> Any:
        return chain.from_iterable(map(self._ids_of.__getitem__, PIECE.findall(self.read(checked(text, str)))))

    def _bytes_of(self, id: int) -> bytes:
        return self._bytes[id] or super()._bytes_of(id)

    def decoder(self) -> TokenDecoder:
        return Utf8Decoder(self._bytes)

    @staticmethod
    def _check(tokens: list[str], ends: bool) -> None:
        first = [*Bytes.TOKENS, END] if ends else list(Bytes.TOKENS)
        if tokens[: len(first)] != first:
            raise ModelFileError("a subword vocabulary's first tokens must be the 256 bytes in order.")
        known = set(Bytes.TOKENS)
        for token in tokens[len(first) :]:
            if not 2 <= len(token) <= MOST_BYTES or max(token) > "\xff":
                raise ModelFileError(
                    f"a subword vocabulary's tokens must be of 2 to {MOST_BYTES} bytes, got {token[:40]!r}."
                )
            if not any(token[:k] in known and token[k:] in known for k in range(1, len(token))):
                raise ModelFileError(
                    f"a subword vocabulary's tokens must join two of those before them, which {token[:40]!r} does not."
                )
            known.add(token)


class _PieceIds(dict[str, tuple[int, ...]]):
    """The ids of each piece, found when they are first asked for. Threads may share it."""

    def __init__(self, ranks: Ranks) -> None:
        super().__init__()
        self.ranks = ranks

    def __missing__(self, piece: str) -> tuple[int, ...]:
        ids = tuple(self.ranks[part] for part in join(single_bytes(piece), self.ranks))
        if len(self) >= REMEMBERED:
            self.clear()
        self[piece] = ids
        return ids


def single_bytes(piece: str) -> list[bytes]:
    """Split a piece into its bytes."""
    return [bytes((byte,)) for byte in utf8(piece)]


def join(parts: list[bytes], ranks: Ranks) -> list[bytes]:
    """Join neighbours among the parts of a piece, in place, as long as two together are a token; return them."""
    while len(parts) > 1:
        rank, place = min((ranks.get(a + b, NO_TOKEN), k) for k, (a, b) in enumerate(zip(parts, parts[1:])))
        if rank == NO_TOKEN:
            break
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
    return parts


class SubwordLearner(WordCounter):
    """Counts the pieces of a text; `vocabulary()` learns tokens from them. Made by `Vocabulary.counter`."""

    one_to_one = False

    def __init__(self, tokenizer: str, min_count: int, max_vocab: int | None, ends: bool) -> None:
        """max_vocab: most tokens; None: DEFAULT_SUBWORDS. min_count: a token joins so many pairs at least, and LEAST_PAIRS."""
        super().__init__(tokenizer, min_count, max_vocab, ends, PIECE)
        self.least, self.first = max(LEAST_PAIRS, min_count), (*Bytes.TOKENS, END) if ends else Bytes.TOKENS
        most = DEFAULT_SUBWORDS if max_vocab is None else max_vocab
        self.room = most - len(self.first)
        if self.room < 0:
            raise ConfigError(f"max_vocab must be at least {len(self.first)} at level subword, got {most!r:.40}.")

    def vocabulary(self) -> Vocabulary:
        """Learn the tokens from what has been counted."""
        pieces = list(zip(self._words(), self._counts[len(self.specials) :].tolist()))
        if len(pieces) > LEARNED_FROM:
            pieces = sorted(pieces, key=lambda item: (-item[1], item[0]))[:LEARNED_FROM]
        joint = [token.decode("latin-1") for token in _Learning(pieces).run(self.room, self.least)]
        return Subwords((*self.first, *joint), self.tokenizer, self.ends)

    def final_ids(self, vocabulary: Vocabulary) -> Callable[[np.ndarray], np.ndarray]:
        """Return what puts a piece's tokens, ids of a vocabulary that has been chosen, in the place of its provisional id."""
        ids, lengths = vocabulary.encode_all(self._words())
        if vocabulary.end_id is not None:
            ids, lengths = np.insert(ids, 0, vocabulary.end_id), np.insert(lengths, 0, 1)
        lengths = np.insert(lengths, 0, 0)  # nothing is <unk>
        ends = np.cumsum(lengths)

        def in_tokens(pieces: np.ndarray) -> np.ndarray:
            counts = lengths[pieces]
            # token k of a piece is ids[end - count + k]
            places = np.arange(counts.sum()) + np.repeat(ends[pieces] - np.cumsum(counts), indices(counts))
            return ids[places]

        return in_tokens


class _Learning:
    """Pieces in their present tokens, and how many pairs of neighbours have the same bytes together.

    A token changes only the pieces that have it: they are joined further, and their pairs are counted again. The
    queue holds every number that some joint bytes have had; one that is out of date is put right when its turn comes.
    """

    def __init__(self, pieces: Sequence[tuple[str, int]]) -> None:
        self.parts = [single_bytes(piece) for piece, _ in pieces]
        self.weights = [count for _, count in pieces]
        self.pairs: Counter[bytes] = Counter()
        self.places: defaultdict[bytes, set[int]] = defaultdict(set)  # of pieces that have had such a pair
        for place in range(len(pieces)):
            self._count(place, 1)
        self.queue = [(-count, pair) for pair, count in self.pairs.items()]
        heapq.heapify(self.queue)
        self.ranks: dict[bytes, int] = {}

    def _count(self, place: int, sign: int) -> list[bytes]:
        """Add the pairs of a piece, or take them off; return them."""
        parts, weight = self.parts[place], sign * self.weights[place]
        found = [a + b for a, b in zip(parts, parts[1:])]
        for pair in found:
            self.pairs[pair] += weight
            self.places[pair].add(place)
        return found

    def run(self, room: int, least: int) -> list[bytes]:
        """Learn up to `room` tokens that join `least` pairs or more, in order."""
        while self.queue and len(self.ranks) < room:
            count, pair = heapq.heappop(self.queue)
            now = self.pairs[pair]
            if now < least:
                continue
            if now != -count:
                heapq.heappush(self.queue, (-now, pair))
                continue
            self.ranks[pair] = len(self.ranks)
            self._join(pair)
        return list(self.ranks)

    def _join(self, token: bytes) -> None:
        """Join the pairs that are a token now."""
        changed: set[bytes] = set()
        for place in self.places.pop(token):
            self._count(place, -1)
            join(self.parts[place], self.ranks)
            changed.update(self._count(place, 1))
        for pair in changed:
            heapq.heappush(self.queue, (-self.pairs[pair], pair))
