"""Token files: the ids of a text in a nameless temporary file, mapped into memory.

It vanishes with the last reference to it, however the program ends.
"""

from __future__ import annotations

import hashlib
import mmap
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

import numpy as np

from nblstm.kernels.packed import indices
from nblstm.text import sources
from nblstm.text.counting import TokenCounter
from nblstm.text.vocabulary import Vocabulary


class TokenFile:
    """Token ids in a nameless temporary file, mapped into memory.

    vocabulary: the one that the ids belong to.
    ids: (tokens,) of the vocabulary's dtype, read-only.
    offsets: (documents + 1,) int64, where each document's <end> stands: it is read before ids[offsets[k] + 1], the
        document's first, and predicted as ids[offsets[k + 1]]. None where the text is one stream.
    characters: length of the text they came from (bytes at byte level).
    unknown: how many of them are unk_id.
    digest: hash of the ids, bytes. As <end> stands nowhere else, it tells the offsets apart too.
    """

    def __init__(self, encoder: Vocabulary | TokenCounter, chunks: Iterable) -> None:
        """Encode the chunks (lists of documents if there is an <end>), each read once. TextError if there is no room.

        encoder: a vocabulary, or what counts the tokens for a new one, which is then chosen.
        """
        self.characters = self.unknown = 0
        self._hash, self._unk_id = hashlib.blake2b(), encoder.unk_id
        steps = [np.zeros(1, np.int64)]  # before the first document none
        encoded = self._stream(encoder, chunks) if encoder.end_id is None else self._documents(encoder, chunks, steps)
        with sources.disk_room(), tempfile.TemporaryFile() as file:
            if isinstance(encoder, TokenCounter):
                self.vocabulary = self._counted(encoder, encoded, file)
            else:
                self.vocabulary = encoder
                file.writelines(self._recorded(ids).data for ids in encoded)
            file.flush()
            size = file.tell()
            self._map = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) if size else None
        self.ids = np.frombuffer(self._map or b"", self.vocabulary.dtype)
        self.offsets = None if encoder.end_id is None else np.cumsum(np.concatenate(steps))
        self.digest = self._hash.digest()

    def _stream(self, encoder: Vocabulary | TokenCounter, chunks: Iterable) -> Iterator[np.ndarray]:
        for chunk in chunks:
            self.characters += len(chunk)
            yield encoder.encode(chunk)

    def _documents(
        self, encoder: Vocabulary | TokenCounter, chunks: Iterable[list], steps: list[np.ndarray]
    ) -> Iterator[np.ndarray]:
        """Give an <end>, then each document's ids and an <end>, their number added to steps; not of empty ones."""
        yield np.array([encoder.end_id], encoder.dtype)
        for texts in chunks:
            self.characters += sum(map(len, texts))
            ids, lengths = encoder.encode_all(texts)
            lengths = lengths[lengths > 0]
            steps.append(lengths + 1)
            end: Any = encoder.end_id
            yield np.insert(ids, np.cumsum(lengths), end)

    def _counted(self, counter: TokenCounter, encoded: Iterable[np.ndarray], file: BinaryIO) -> Vocabulary:
        """Write provisional ids to the file, choose the vocabulary, and put its ids in their place."""
        provisional = _IdFile(file)
        for ids in encoded:
            provisional.append(ids)
        vocabulary = counter.vocabulary()
        final_ids = counter.final_ids(vocabulary)
        provisional.rewrite(final_ids.dtype, lambda ids: self._recorded(final_ids[ids]))
        return vocabulary

    def _recorded(self, ids: np.ndarray) -> np.ndarray:
        """Count the unknown ones of ids as they are written, and hash them."""
        if self._unk_id is not None:
            self.unknown += int(np.count_nonzero(ids == self._unk_id))
        self._hash.update(ids.data)
        return ids

    def release(self) -> None:
        """Give back the memory of the pages read so far; they are read again from disk when they are needed."""
        if self._map is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)


def fingerprint_of(ids: np.ndarray | bytes) -> str:
    """Return the hex digest of ids (tokens,) of a vocabulary's dtype, or of the digest that a TokenFile has of its own."""
    digest = ids if isinstance(ids, bytes) else hashlib.blake2b(np.ascontiguousarray(ids).data).digest()
    return digest[:16].hex()


class _IdFile:
    """Ids in an open file, of one unsigned integer type, which grows with the ids.

    dtype: the type so far. count: how many there are.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.dtype, self.count = file, np.dtype(np.uint8), 0

    def append(self, ids: np.ndarray) -> None:
        """Write ids behind the others, which become as wide as these are."""
        if ids.dtype.itemsize > self.dtype.itemsize:
            self.rewrite(ids.dtype, lambda block: block.astype(ids.dtype))
        self.file.write(ids.astype(self.dtype, copy=False).data)
        self.count += len(ids)

    def rewrite(self, dtype: np.dtype, change: Callable[[np.ndarray], np.ndarray]) -> None:
        """Put change(ids), of dtype, in the place of all ids, CHUNK at a time; in order, unless they become wider."""
        old, new = self.dtype.itemsize, dtype.itemsize
        starts = range(0, self.count, sources.CHUNK)
        for start in reversed(starts) if new > old else starts:  # nothing is overwritten before it is read
            self.file.seek(start * old)
            block = self.file.read(min(sources.CHUNK, self.count - start) * old)
            self.file.seek(start * new)
            self.file.write(change(np.frombuffer(block, self.dtype)).data)
        self.file.seek(self.count * new)
        self.file.truncate()
        self.dtype = dtype


def count_ids(ids: np.ndarray, vocab_size: int) -> np.ndarray:
    """Count how often each id is there, (vocab_size,) int64; ids, which may be a file, are read CHUNK at a time."""
    counts = np.zeros(vocab_size, np.int64)
    for start in range(0, len(ids), sources.CHUNK):
        counts += np.bincount(indices(ids[start : start + sources.CHUNK]), minlength=vocab_size)
    return counts
