"""Corpus: files, folders, standard input and .gz to token ids on disk, split for training and validation.

A corpus may be larger than memory. It is read in chunks of about a million characters: once; where a part of it is kept
for validation also for its length; where sub-words are learned from it also for those. (Standard input, which can be
read once, is copied to a temporary file.) Its ids live in nameless temporary files that are mapped into memory and vanish
with the last reference to them, however the program ends. What is read again must be the same each time: a file that
something else writes to is noticed.

It is one stream of text, or many documents (`nblstm.text.documents`), whose ids then stand one after the other with
the vocabulary's <end> before, between and behind them.
"""

from __future__ import annotations

import codecs
import gzip
import hashlib
import io
import json
import mmap
import os
import re
import stat
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from nblstm.config import DEFAULT_MAX_VOCAB
from nblstm.errors import ConfigError, TextError
from nblstm.text.counting import TokenCounter
from nblstm.text.documents import split
from nblstm.text.kinds import BEGIN, check_kind, encoding_advice, is_binary, marked_encoding
from nblstm.text.lines import translated
from nblstm.text.subwords import PIECE, SubwordLearner
from nblstm.text.vocabulary import PATTERNS, Vocabulary

CHUNK = 1 << 20  # bytes read, and about the characters handed on, at a time
STDIN = "-"
ENDLESS = ("/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")  # standard input may be one of these devices
MOST_UNKNOWN = 0.99  # share of a training text's tokens that may be unknown: above it there is nothing to learn
SKIPPED_NAMED = 5  # files
UNKNOWN_TOLD = 0.05  # share that a person is told of who trains with a vocabulary that was given


@dataclass(frozen=True)
class Source:
    """A file to read: its name in messages, and how to open it for reading from the start.

    marks: of the blocks that have been read of it, where it must be the same each time; else None.
    """

    name: str
    open: Callable[[], AbstractContextManager[BinaryIO]]
    marks: list[tuple[int, int]] | None = field(default=None, compare=False, repr=False)


AnyPath = str | os.PathLike[str] | Source
Paths = AnyPath | Iterable[AnyPath]


# ---- paths -> sources


def find_sources(paths: Paths) -> list[Source]:
    """Find the files that the paths name: files, the visible files of folders in sorted order, "-" for standard input.

    A file whose name ends in .gz is unpacked as it is read. A Source stands for itself.
    Raises TextError if a path is missing, is neither a file nor a folder, or is a folder without visible files, and if
    standard input is named twice.
    """
    return [source for path in _with_one_stdin(_listed(paths)) for source in _sources_of(path)]


def _with_one_stdin(paths: list[AnyPath]) -> list[AnyPath]:
    """Return the paths. TextError if standard input is named twice: the second time nothing would be left of it."""
    if paths.count(STDIN) > 1:
        raise TextError("standard input can be read only once; name '-' once.")
    return paths


def _listed(paths: Paths) -> list[AnyPath]:
    return [paths] if isinstance(paths, (str, os.PathLike, Source)) else list(paths)


def _sources_of(path: AnyPath) -> list[Source]:
    if isinstance(path, Source):
        return [path]
    if path == STDIN:
        return [Source("standard input", _open_stdin)]
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            return _sources_in(Path(path))
    except OSError as error:
        raise _unreadable(error.filename or path, error) from None
    except ValueError as error:  # a NUL in the name
        raise TextError(f"{path!r} cannot be a file's name: {error}.") from None
    if not stat.S_ISREG(mode):
        raise TextError(
            f"{path} is neither a regular file nor a folder; to read a pipe or a device, redirect it to standard "
            "input and name it '-'."
        )
    return [_file_source(Path(path))]


def _sources_in(folder: Path, include: str = "*") -> list[Source]:
    """Find the folder's regular files at any depth, in sorted order. Skipped are hidden ones, and links to folders.

    include: a pattern of their names, such as *.txt. TextError if a folder or a file in it cannot be looked at.
    """

    def fail(error: OSError) -> None:
        raise _unreadable(error.filename or folder, error)

    files: list[Path] = []
    for place, folders, names in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        files += [Path(place, name) for name in names if not name.startswith(".")]
    sources = [_file_source(file) for file in sorted(files) if _is_regular(file)]
    if not sources:
        raise TextError(f"{folder} is a folder without files (hidden ones are skipped); name one with text in it.")
    sources = [source for source in sources if Path(source.name).match(include)]
    if not sources:
        raise TextError(f"no file in {folder} has a name such as include={include}; give another pattern.")
    return sources


def _is_regular(file: Path) -> bool:
    """Tell whether a file in a folder is a regular one. TextError if that cannot be told, as of a link to nothing."""
    try:
        return stat.S_ISREG(os.stat(file).st_mode)
    except OSError as error:
        raise _unreadable(file, error) from None


def texts_in(paths: Iterable[AnyPath], include: str, level: str, notify: Callable[[str], None]) -> list[AnyPath]:
    """List the paths, with its files in the place of each folder: those that include names and, but at byte level, are text.

    notify is told how many are read, and which are not. TextError if none is.
    """
    found: list[AnyPath] = []
    for path in paths:
        if isinstance(path, Source) or path == STDIN or not os.path.isdir(path):
            found.append(path)
            continue
        sources = _sources_in(Path(path), include)
        skipped = [] if level == "byte" else [source for source in sources if is_binary(_begin(source))]
        names = ", ".join(os.path.relpath(source.name, path) for source in skipped[:SKIPPED_NAMED])
        names += ", ..." if len(skipped) > SKIPPED_NAMED else ""
        if len(skipped) == len(sources):
            raise TextError(
                f"{path} is a folder without text: its files are binary ({names}); name one with text in it."
            )
        read = f"{len(sources) - len(skipped):,} file{'s' * (len(sources) - len(skipped) != 1)} of {path} are read"
        notify(read + (f", {len(skipped):,} skipped as no text: {names}." if skipped else "."))
        found += [source for source in sources if source not in skipped]
    return found


def _begin(source: Source) -> bytes:
    """The first BEGIN bytes of a file."""
    return next(_blocks(source), b"")[:BEGIN]


def _file_source(path: Path) -> Source:
    opened: Any = partial(gzip.open if path.suffix == ".gz" else open, path, "rb")
    return Source(str(path), opened)


def text_source(name: str, text: str, encoding: str = "utf-8") -> Source:
    """Make a source of a text in memory, under a name for messages. TextError for a character that the encoding lacks."""
    try:
        data = text.encode(encoding)
    except UnicodeError:
        raise TextError(f"{name} has characters that {encoding} lacks; use utf-8.") from None
    return Source(name, lambda: io.BytesIO(data))


def _open_stdin() -> AbstractContextManager[BinaryIO]:
    if sys.stdin is None:
        raise TextError("standard input is closed; name a file instead of '-'.")
    if _is_endless(sys.stdin.buffer):
        raise TextError("standard input is a device that never ends; name a file or pipe a text into it.")
    return nullcontext(sys.stdin.buffer)


def _is_endless(stream: BinaryIO) -> bool:
    """Tell whether a stream is one of the ENDLESS devices."""
    try:
        device = os.fstat(stream.fileno())
    except (AttributeError, OSError, ValueError):  # nothing of the system's
        return False
    others = [os.stat(path).st_rdev for path in ENDLESS if os.path.exists(path)]
    return stat.S_ISCHR(device.st_mode) and device.st_rdev in others


def _unreadable(name: Any, error: OSError) -> TextError:
    return TextError(f"{name} cannot be read: {error.strerror or error}.")


# ---- sources -> chunks


def read_chunks(paths: Paths, level: str, encoding: str = "utf-8") -> Iterator[str] | Iterator[bytes]:
    """Read the chunks that a vocabulary of this level encodes: `read_bytes` at byte level, `read_text` at the others."""
    return read_bytes(paths) if level == "byte" else read_text(paths, encoding)


def read_bytes(paths: Paths) -> Iterator[bytes]:
    """Read the files' bytes as they are, joined, in chunks of up to CHUNK. TextError if they cannot be read."""
    sources = find_sources(paths)
    return _nonempty(sources, chain.from_iterable(map(_blocks, sources)))


def read_each(paths: Paths, level: str, encoding: str = "utf-8") -> Iterator[tuple[str, Iterator]]:
    """Read the files one by one: (name, chunks as `read_chunks` gives them). Files without any text are left out."""
    for source in find_sources(paths):
        chunks = filter(None, _blocks(source) if level == "byte" else _cut_at_tokens(_decoded(source, encoding)))
        for first in chunks:
            yield source.name, chain([first], chunks)
            break


def read_text(paths: Paths, encoding: str = "utf-8") -> Iterator[str]:
    """Read the files' text, joined, in chunks of about CHUNK characters.

    A chunk ends where no token of any tokenizer spans: after a newline, else before other white space, else (in a
    million characters without any) anywhere. Line ends stay as they are; a byte order mark at the start of a file goes.
    Raises TextError if a file cannot be read, is damaged, binary or in another encoding, if no file has any text,
    and if there is no such encoding.
    """
    _check_encoding(encoding)
    sources = find_sources(paths)
    pieces = chain.from_iterable(_decoded(source, encoding) for source in sources)
    return _nonempty(sources, _cut_at_tokens(pieces))


def read_documents(
    paths: Paths, level: str, kind: str, encoding: str = "utf-8"
) -> Iterator[list[str]] | Iterator[list[bytes]]:
    """Read the files' documents of a kind (see `nblstm.text.documents`), in lists of about CHUNK characters.

    They are what a vocabulary of this level encodes: bytes at byte level, else str. Raises as `read_text` does.
    """
    _check_encoding(encoding)
    sources = find_sources(paths)
    documents: Iterator[Any]
    if level == "byte":
        documents = chain.from_iterable(split(_blocks(source), kind, source.name) for source in sources)
    else:
        documents = chain.from_iterable(split(_decoded(source, encoding), kind, source.name) for source in sources)
    return _nonempty(sources, _gathered(documents))


def _check_encoding(encoding: str) -> None:
    try:
        "a".encode(encoding)
    except (LookupError, ValueError):
        raise TextError(f"encoding must be one that Python knows, such as utf-8, got {encoding!r}.") from None


def _blocks(source: Source) -> Iterator[bytes]:
    """Read the bytes of one file, up to CHUNK at a time. TextError if they are others than the last time."""
    try:
        with source.open() as stream:
            for number, block in enumerate(iter(partial(stream.read, CHUNK), None)):
                _check_unchanged(source, number, block)
                if not block:
                    return
                yield block
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise TextError(f"{source.name} is not an intact gzip file ({error}); pack it again.") from None
    except OSError as error:
        raise _unreadable(source.name, error) from None


def _check_unchanged(source: Source, number: int, block: bytes) -> None:
    """Note a block that is read for the first time. TextError if it has been read before and was another."""
    if source.marks is None:
        return
    mark = len(block), zlib.crc32(block)
    if number == len(source.marks):
        source.marks.append(mark)
    elif source.marks[number] != mark:
        raise TextError(f"{source.name} has changed while it was read; use a copy that nothing writes to.")


def _decoded(source: Source, encoding: str) -> Iterator[str]:
    """Read the text of one file without its byte order mark, in pieces that never split a character."""
    decode = _TextDecoder(source.name, encoding)
    mark = "\ufeff"
    for block in chain(_blocks(source), [b""]):
        if text := decode(block):
            yield text.removeprefix(mark)
            mark = ""


class _TextDecoder:
    """Bytes of a file in, block by block and b"" at last, its text out. TextError where they are no text."""

    def __init__(self, name: str, encoding: str) -> None:
        self.name, self.encoding, self.consumed, self.begin = name, encoding, 0, b""
        self.decoder = codecs.getincrementaldecoder(encoding)()

    def __call__(self, block: bytes) -> str:
        if not self.consumed:
            self.begin = block[:BEGIN]
            check_kind(self.name, self.begin)
        pending = len(self.decoder.getstate()[0])
        try:
            text = self.decoder.decode(block, final=not block)
        except UnicodeError as error:
            offset = self.consumed - pending + getattr(error, "start", 0)
            raise TextError(
                f"{self.name} is not {self.encoding} text at byte {offset}; "
                f'{encoding_advice(self.begin, self.encoding)}, or read raw bytes with level="byte".'
            ) from None
        if "\0" in text:
            if (marked := marked_encoding(self.begin)) not in (None, self.encoding.lower()):
                raise TextError(f'{self.name} is {marked} text; name its encoding with encoding="{marked}".')
            raise TextError(
                f"{self.name} looks like a binary file (it holds NUL characters); name its encoding, "
                'such as encoding="utf-16", if it is text, or read raw bytes with level="byte" if that is meant.'
            )
        self.consumed += len(block)
        return text


def _cut_at_tokens(pieces: Iterable[str]) -> Iterator[str]:
    """Yield the same text in chunks of about CHUNK characters, each ending where no token spans."""
    held: list[str] = []
    size = 0
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size >= CHUNK:
            text = "".join(held)
            end = _token_border(text)
            yield text[:end]
            held, size = [text[end:]], len(text) - end
    yield "".join(held)


BEFORE_LAST_BLANK = re.compile(r".*(?=\s)", re.DOTALL)


def _token_border(text: str) -> int:
    """Find the last place, above 0, that no token spans: after a newline, else before white space, else the end."""
    return text.rfind("\n") + 1 or _before_last_blank(text) or len(text)


def _before_last_blank(text: str) -> int:
    """Find the place of the last white space of a text; 0 where there is none."""
    found = BEFORE_LAST_BLANK.match(text)
    return found.end() if found else 0


def _gathered(documents: Iterable) -> Iterator[list]:
    """Gather the documents in lists of about CHUNK characters (or bytes), or a single longer one."""
    held: list = []
    size = 0
    for document in documents:
        held.append(document)
        size += len(document)
        if size >= CHUNK:
            yield held
            held, size = [], 0
    yield held


def _nonempty(sources: list[Source], chunks: Iterable) -> Iterator:
    """Yield the chunks that hold something. TextError if none does."""
    empty = True
    for chunk in filter(None, chunks):
        empty = False
        yield chunk
    if empty:
        names = ", ".join(source.name for source in sources[:3]) or "no files"
        raise TextError(f"the text is empty: there is nothing to read in {names}.")


# ---- chunks -> token ids


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
        with _room(), tempfile.TemporaryFile() as file:
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
        starts = range(0, self.count, CHUNK)
        for start in reversed(starts) if new > old else starts:  # nothing is overwritten before it is read
            self.file.seek(start * old)
            block = self.file.read(min(CHUNK, self.count - start) * old)
            self.file.seek(start * new)
            self.file.write(change(np.frombuffer(block, self.dtype)).data)
        self.file.seek(self.count * new)
        self.file.truncate()
        self.dtype = dtype


@contextmanager
def _room() -> Iterator[None]:
    """Raise TextError where a temporary file cannot be written."""
    try:
        yield
    except OSError as error:
        folder = tempfile.tempdir or "the temporary folder"
        raise TextError(
            f"the corpus cannot be written to {folder}: {error.strerror or error}; make room there or "
            "set TMPDIR to a folder that has some."
        ) from None


# ---- the corpus


class Corpus:
    """A vocabulary and the token ids of a training and a validation text.

    train, valid: (tokens,) of vocabulary.dtype, read-only, mapped from disk; valid may be empty.
    train_offsets, valid_offsets: (documents + 1,) int64, see `TokenFile`; None where the text is one stream.
    train_tokens: how many tokens the training text has, without any <end>.
    train_characters, valid_characters: lengths of the texts before tokenisation (bytes at byte level).
    train_unknown, valid_unknown: how many of the ids are unk_id.
    fingerprint: hex digest of the vocabulary and all ids, which tells whether a corpus is still the same.
    train_fingerprint: `fingerprint_of` the ids of the training text.
    """

    def __init__(self, vocabulary: Vocabulary, train: TokenFile, valid: TokenFile) -> None:
        self.vocabulary = vocabulary
        self.train, self.train_characters, self.train_unknown = train.ids, train.characters, train.unknown
        self.valid, self.valid_characters, self.valid_unknown = valid.ids, valid.characters, valid.unknown
        self.train_offsets, self.valid_offsets = train.offsets, valid.offsets
        self.train_tokens = len(train.ids) - (0 if train.offsets is None else len(train.offsets))
        everything = json.dumps(vocabulary.to_dict()).encode() + train.digest + valid.digest
        self.fingerprint = hashlib.blake2b(everything, digest_size=16).hexdigest()
        self.train_fingerprint = fingerprint_of(train.digest)
        self._files = (train, valid)

    def release(self) -> None:
        """Give back the memory of the ids read so far; call it now and then when going through a large corpus."""
        for file in self._files:
            file.release()


def fingerprint_of(ids: np.ndarray | bytes) -> str:
    """Return the hex digest of ids (tokens,) of a vocabulary's dtype, or of the digest that a TokenFile has of its own."""
    digest = ids if isinstance(ids, bytes) else hashlib.blake2b(np.ascontiguousarray(ids).data).digest()
    return digest[:16].hex()


def load_corpus(
    paths: Paths,
    *,
    valid_paths: Paths = (),
    valid_fraction: float = 0.1,
    level: str = "char",
    tokenizer: str = "default",
    min_count: int = 1,
    max_vocab: int | None = None,
    encoding: str = "utf-8",
    documents: str | None = None,
    include: str = "*",
    newline: str | None = None,
    vocabulary: Vocabulary | None = None,
    split_at: str = "token",
    notify: Callable[[str], None] = lambda message: None,
) -> Corpus:
    """Read, split and encode the text of the paths; `find_sources` says what a path may be.

    documents: their kind (see `nblstm.text.documents`); None reads the text as one stream. include: a pattern of the
    names that files in folders have, such as *.txt; but at byte level, those that hold no text are left out.
    newline: "lf" reads CRLF and CR as LF, "keep" as they are; None means "lf", at byte level "keep".
    The validation text is that of valid_paths, or without any the last valid_fraction of the documents, or of the
    stream's characters (of the bytes at byte level; of words and sub-words the split moves back to the last border of two
    tokens, or where split_at is "line", as runs were split once, to the last newline). The vocabulary is built from the
    training text, see `Vocabulary.build`, with up to DEFAULT_MAX_VOCAB tokens where max_vocab does not say it, unless
    one is given: it is used as it is, and its level is the level. notify: told in a sentence what the user should know.
    Raises TextError if a text cannot be read or changes meanwhile, the training text has fewer than 2 tokens or nearly
    none that the vocabulary knows, or the disk is full, and ConfigError if a setting is out of its range, or the
    vocabulary is for documents and the text a stream.
    """
    if not 0 <= valid_fraction < 1:
        raise ConfigError(f"valid_fraction must be at least 0 and less than 1, got {valid_fraction}.")
    if vocabulary is None:
        most = DEFAULT_MAX_VOCAB if max_vocab is None and level != "subword" else max_vocab
        encoder = Vocabulary.counter(level, tokenizer, min_count, most, documents is not None)
    else:
        _check_ends(vocabulary, documents)
        encoder, level, tokenizer = vocabulary, vocabulary.level, vocabulary.tokenizer
        newline = vocabulary.newline
    reading = _Reading(level, encoding, documents, newline or ("keep" if level == "byte" else "lf"))
    paths, valid_paths = (texts_in(_listed(part), include, level, notify) for part in (paths, valid_paths))
    with ExitStack() as open_files:
        texts = _texts(_listed(paths), _listed(valid_paths), None if level == "byte" else encoding, open_files)
        parts: Callable[[], tuple[Iterable, Iterable]]
        if texts[1] or valid_fraction == 0:
            parts = lambda: (reading(texts[0]), reading(texts[1]) if texts[1] else ())
        else:
            border = _border(level, tokenizer, split_at) if documents is None else _anywhere
            position = int(sum(map(len, reading(texts[0]))) * (1 - valid_fraction))
            parts = lambda: _cut(reading(texts[0]), position, border)
        if isinstance(encoder, SubwordLearner):
            encoder = _learned(encoder, parts()[0])
        reading.changed = 0
        train, valid = parts()
        trained = TokenFile(encoder, train)
        chosen = trained.vocabulary
        if chosen.newline != reading.newline:
            chosen = replace(chosen, newline=reading.newline)
        corpus = Corpus(chosen, trained, TokenFile(chosen, valid))
    _check_length(corpus)
    if len(corpus.vocabulary) == (2 if corpus.vocabulary.ends else 1):
        raise TextError("no token of the training text occurs min_count times; lower min_count or add text.")
    _check_known(corpus, vocabulary is not None)
    if reading.changed:
        ends = f"{reading.changed:,} line end{'s' * (reading.changed != 1)}"
        notify(f'{ends} of Windows or old Macs (CRLF, CR) read as LF; newline="keep" keeps them.')
    num_tokens = len(corpus.vocabulary)
    if vocabulary is None and max_vocab is None and num_tokens == DEFAULT_MAX_VOCAB and corpus.train_unknown:
        notify(
            f"the vocabulary keeps the {DEFAULT_MAX_VOCAB:,} most frequent tokens, {corpus.train_unknown:,} others of "
            "the training text become <unk>; set max_vocab for more or fewer."
        )
    elif vocabulary is not None and corpus.train_unknown > UNKNOWN_TOLD * corpus.train_tokens:
        share = 100 * corpus.train_unknown / corpus.train_tokens
        notify(f"the vocabulary does not know {share:.1f} % of the training text's tokens; they are read as <unk>.")
    return corpus


def _check_length(corpus: Corpus) -> None:
    """Raise TextError if there is too little to learn from."""
    if len(corpus.train) >= 2:
        return
    if corpus.train_offsets is not None and corpus.valid_offsets is not None:
        rule, found = "must have at least 1 document with a token in it, got 0", len(corpus.valid_offsets) - 1
        kept = f"; of {found} in all, valid_fraction keeps {found} for validation" if found else ""
        raise TextError(f"the training text {rule}{kept}; add text or lower valid_fraction.")
    rule = f"must have at least 2 tokens, one to predict the other from, got {len(corpus.train)}"
    characters = corpus.train_characters + corpus.valid_characters
    if corpus.vocabulary.level == "word" and len(corpus.train) + len(corpus.valid) == 1 and characters > 1:
        raise TextError(
            f"the training text {rule}: all of the text is one word of {characters:,} characters, with no blank in it; "
            "choose level char or byte, or separate the words by blanks."
        )
    raise TextError(f"the training text {rule}; add text or lower valid_fraction.")


def _check_known(corpus: Corpus, given: bool) -> None:
    """Raise TextError if nearly all of the training text is unknown to the vocabulary, which may have been given."""
    unknown, tokens = corpus.train_unknown, corpus.train_tokens
    if unknown > MOST_UNKNOWN * tokens:
        found = f"{unknown:,} of the training text's {tokens:,} tokens are not in the vocabulary"
        raise TextError(
            f"{found} of the model that training starts from; start a new model for this text."
            if given
            else f"{found}; lower min_count, raise max_vocab, or choose another level."
        )


def _check_ends(vocabulary: Vocabulary, documents: str | None) -> None:
    """Raise ConfigError unless the vocabulary has a token <end> where there are documents, and only there."""
    if vocabulary.ends and documents is None:
        raise ConfigError("documents must say what a text of its own is: the vocabulary has a token <end> for them.")
    if documents is not None and not vocabulary.ends:
        raise ConfigError("documents needs a vocabulary with a token <end>, which this one lacks; leave documents out.")


def _texts(
    paths: list[AnyPath], valid_paths: list[AnyPath], encoding: str | None, open_files: ExitStack
) -> tuple[list[Source], list[Source]]:
    """Return the files of both texts, which may be read until open_files is closed; arguments as in `rereadable`."""
    _with_one_stdin([*paths, *valid_paths])
    train, valid = (rereadable(part, encoding, open_files) for part in (paths, valid_paths))
    return [*chain.from_iterable(train)], [*chain.from_iterable(valid)]


@dataclass
class _Reading:
    """How the files of a text are read; called with them: its chunks, or lists of its documents, for a vocabulary.

    changed: how many line ends were made LF so far.
    """

    level: str
    encoding: str
    documents: str | None
    newline: str
    changed: int = 0

    def __call__(self, sources: list[Source]) -> Iterator:
        if self.documents is None:
            chunks = read_chunks(sources, self.level, self.encoding)
            return translated(chunks, self._count) if self.newline == "lf" else chunks
        texts = read_documents(sources, self.level, self.documents, self.encoding)
        return map(self._translated, texts) if self.newline == "lf" else texts

    def _translated(self, texts: list) -> list:
        """Translate documents, each a text of its own."""
        return [text[:0].join(translated([text], self._count)) for text in texts]

    def _count(self, ends: int) -> None:
        self.changed += ends


def rereadable(paths: Iterable[Paths], encoding: str | None, open_files: ExitStack) -> list[list[Source]]:
    """Find the files of each path, or several, to be read again and again: TextError if they then are not what they were.

    Standard input is replaced by a copy, one of open_files. encoding: TextError unless it is text in that; None for
    bytes.
    """
    listed = [_listed(path) for path in paths]
    _with_one_stdin([*chain.from_iterable(listed)])
    files = [find_sources(path) for path in listed]
    return [
        [
            _copied(source, encoding, open_files) if source.open is _open_stdin else replace(source, marks=[])
            for source in sources
        ]
        for sources in files
    ]


def _copied(source: Source, encoding: str | None, open_files: ExitStack) -> Source:
    blocks = _blocks(source) if encoding is None else _checked_text(source, encoding)
    with _room():
        file = open_files.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        file.writelines(blocks)

    def rewound() -> AbstractContextManager[BinaryIO]:
        file.seek(0)
        return nullcontext(file)

    return Source(source.name, rewound)


def _checked_text(source: Source, encoding: str) -> Iterator[bytes]:
    """Read the bytes of one file. TextError as soon as they are no text: a file may be endless."""
    decode = _TextDecoder(source.name, encoding)
    for block in _blocks(source):
        decode(block)
        yield block


def _last_token_border(chunk: str, place: int, pattern: re.Pattern[str]) -> int:
    """Find the last place up to `place` that splits no token, and no line end, of a chunk that begins with a token."""
    if chunk[place - 1 : place + 1] == "\r\n":
        return place - 1
    for token in pattern.finditer(chunk, _before_last_blank(chunk[:place])):
        if token.end() >= place:
            return token.start() if token.start() < place < token.end() else place
    return place


def _border(level: str, tokenizer: str, split_at: str) -> Callable[[Any, int], int]:
    """Choose where a chunk of a stream may be cut: for words at a "token" or a "line"."""
    if level not in ("word", "subword"):
        return _anywhere
    if split_at == "line":
        return lambda chunk, place: _token_border(chunk[:place])
    return partial(_last_token_border, pattern=PIECE if level == "subword" else PATTERNS[tokenizer])


def _learned(learner: SubwordLearner, chunks: Iterable) -> Vocabulary:
    """Learn the sub-words of a text: its chunks, or lists of documents."""
    for chunk in chunks:
        for text in [chunk] if isinstance(chunk, str) else chunk:
            learner.count(text)
    return learner.vocabulary()


def _cut(chunks: Iterator, position: int, border: Callable[[Any, int], int]) -> tuple[Iterator, Iterator]:
    """Cut a text in two that is read once: the chunks of the first part, and those behind it, to be taken after them.

    position: in characters (or bytes, or documents). border: the last place up to `place` where a chunk may be cut.
    """
    tail: list = []  # of the chunk that is cut, once it has come

    def first() -> Iterator:
        left = position
        for chunk in chunks:
            if len(chunk) >= left:
                place = border(chunk, left)
                tail.append(chunk[place:])
                yield chunk[:place]
                return
            left -= len(chunk)
            yield chunk

    return first(), chain(tail, chunks)


def _anywhere(chunk: Any, place: int) -> int:
    """Return the place itself."""
    return place
