"""Token files: the ids of a text in a nameless temporary file, mapped into memory.

It vanishes with the last reference to it, however the program ends.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
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

    def __init__(
        self,
        encoder: Vocabulary | TokenCounter,
        chunks: Iterable,
        choose: Callable[[Vocabulary], Vocabulary] = lambda found: found,
    ) -> None:
        """Encode the chunks (lists of documents if there is an <end>), each read once. TextError if there is no room.

        encoder: a vocabulary, or what counts the tokens for a new one. choose: makes another of that which was found.
        """
        self.characters = self.unknown = self._count = 0
        self._hash, self._ends = hashlib.blake2b(), [np.empty(0, np.int64)]
        encoded = self._stream(encoder, chunks) if encoder.end_id is None else self._documents(encoder, chunks)
        with sources.disk_room(), tempfile.TemporaryFile() as file:
            if isinstance(encoder, TokenCounter):
                self._count_and_write(encoder, encoded, choose, file)
            else:
                self.vocabulary = choose(encoder)
                file.writelines(self._recorded(ids).data for ids in encoded)
            file.flush()
            self._map_file(file.fileno())
        self.offsets = None if self.vocabulary.end_id is None else np.concatenate(self._ends)
        self.digest = self._hash.digest()

    def _stream(self, encoder: Vocabulary | TokenCounter, chunks: Iterable) -> Iterator[np.ndarray]:
        for chunk in chunks:
            self.characters += len(chunk)
            yield encoder.encode(chunk)

    def _documents(self, encoder: Vocabulary | TokenCounter, chunks: Iterable[list]) -> Iterator[np.ndarray]:
        """Give an <end>, then each document's ids and an <end>; nothing for empty ones."""
        yield np.array([encoder.end_id], encoder.dtype)
        for texts in chunks:
            self.characters += sum(map(len, texts))
            ids, lengths = encoder.encode_all(texts)
            end: Any = encoder.end_id
            yield np.insert(ids, np.cumsum(lengths[lengths > 0]), end)

    def _count_and_write(
        self,
        counter: TokenCounter,
        encoded: Iterable[np.ndarray],
        choose: Callable[[Vocabulary], Vocabulary],
        file: BinaryIO,
    ) -> None:
        """Write provisional ids down, choose the vocabulary, and write its ids to the file, in their place if they fit."""
        with nullcontext(file) if counter.one_to_one else tempfile.TemporaryFile() as place:
            provisional = _IdFile(place)
            for ids in encoded:
                provisional.append(ids)
            self.vocabulary = choose(counter.vocabulary())
            final_ids = counter.final_ids(self.vocabulary)
            if counter.one_to_one:
                provisional.widen(self.vocabulary.dtype)
                provisional.rewrite(self.vocabulary.dtype, lambda ids: self._recorded(final_ids(ids)))
            else:
                file.writelines(self._recorded(final_ids(ids)).data for ids in provisional.blocks())

    def _recorded(self, ids: np.ndarray) -> np.ndarray:
        """Hash ids as they are written, count the unknown ones, and note where each <end> stands."""
        if self.vocabulary.unk_id is not None:
            self.unknown += int(np.count_nonzero(ids == self.vocabulary.unk_id))
        if self.vocabulary.end_id is not None:
            self._ends.append(self._count + np.flatnonzero(ids == self.vocabulary.end_id))
        self._count += len(ids)
        self._hash.update(ids.data)
        return ids

    def _map_file(self, descriptor: int) -> None:
        """Map an open file of ids, and keep it open."""
        size = os.fstat(descriptor).st_size
        self._map = mmap.mmap(descriptor, size, access=mmap.ACCESS_READ) if size else None
        self._descriptor = os.dup(descriptor)
        weakref.finalize(self, os.close, self._descriptor)
        self.ids = np.frombuffer(self._map or b"", self.vocabulary.dtype)

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process of this machine needs to map the same file, while this one keeps it open."""
        kept = {name: vars(self)[name] for name in ("vocabulary", "offsets", "characters", "unknown", "digest")}
        return {**kept, "path": f"/proc/{os.getpid()}/fd/{self._descriptor}", "file": _identity(self._descriptor)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Map the file of another process. OSError where this one cannot."""
        path, file = state.pop("path"), state.pop("file")
        vars(self).update(state)
        with open(path, "rb", buffering=0) as found:
            if _identity(found.fileno()) != file:  # processes have other numbers in a container
                raise FileNotFoundError(f"{path} is another file")
            self._map_file(found.fileno())

    def release(self) -> None:
        """Give back the memory of the pages read so far; they are read again from disk when they are needed."""
        if self._map is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)


def _identity(descriptor: int) -> tuple[int, int, int]:
    """Return what tells an open file from all others of this machine."""
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino, status.st_size


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
        self.widen(ids.dtype)
        self.file.write(ids.astype(self.dtype, copy=False).data)
        self.count += len(ids)

    def widen(self, dtype: np.dtype) -> None:
        """Make all ids as wide as a type, unless they are."""
        if dtype.itemsize > self.dtype.itemsize:
            self.rewrite(dtype, lambda block: block.astype(dtype))

    def blocks(self) -> Iterator[np.ndarray]:
        """Read all ids, CHUNK at a time."""
        self.file.seek(0)
        for start in range(0, self.count, sources.CHUNK):
            yield self._block(start)

    def _block(self, start: int) -> np.ndarray:
        """Read up to CHUNK ids from here on, which are number `start` and those behind it."""
        size = min(sources.CHUNK, self.count - start)
        return np.frombuffer(self.file.read(size * self.dtype.itemsize), self.dtype)

    def rewrite(self, dtype: np.dtype, change: Callable[[np.ndarray], np.ndarray]) -> None:
        """Put change(ids), of dtype, in the place of all ids, CHUNK at a time; in order, unless they become wider."""
        old, new = self.dtype.itemsize, dtype.itemsize
        starts = range(0, self.count, sources.CHUNK)
        for start in reversed(starts) if new > old else starts:  # nothing is overwritten before it is read
            self.file.seek(start * old)
            block = self._block(start)
            self.file.seek(start * new)
            self.file.write(change(block).data)
        self.file.seek(self.count * new)
        self.file.truncate()
        self.dtype = dtype


def count_ids(ids: np.ndarray, vocab_size: int) -> np.ndarray:
    """Count how often each id is there, (vocab_size,) int64; ids, which may be a file, are read CHUNK at a time."""
    counts = np.zeros(vocab_size, np.int64)
    for start in range(0, len(ids), sources.CHUNK):
        counts += np.bincount(indices(ids[start : start + sources.CHUNK]), minlength=vocab_size)
    return counts
