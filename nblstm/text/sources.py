"""Sources: where text comes from. Files, folders, standard input and .gz, read as bytes or as decoded text.

A file is read in blocks; what is read again must be the same each time, so a file that something else writes to is
noticed. (Standard input, which can be read once, is copied to a temporary file.)
"""

from __future__ import annotations

import codecs
import errno
import gzip
import io
import os
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

from nblstm.errors import TextError
from nblstm.text.kinds import BEGIN, check_kind, encoding_advice, is_binary, marked_encoding

CHUNK = 1 << 20  # bytes read, and about the characters handed on, at a time
STDIN = "-"
ENDLESS = ("/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")  # standard input may be one of these devices
SKIPPED_NAMED = 5  # files


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


def texts_in(paths: Paths, include: str, level: str, on_message: Callable[[str], None]) -> list[AnyPath]:
    """List the paths, with its files in the place of each folder: those that include names and, but at byte level, are text.

    on_message is told how many are read, and which are not. TextError if none is.
    """
    found: list[AnyPath] = []
    for path in _listed(paths):
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
        on_message(read + (f", {len(skipped):,} skipped as no text: {names}." if skipped else "."))
        found += [source for source in sources if source not in skipped]
    return found


def _begin(source: Source) -> bytes:
    """The first BEGIN bytes of a file."""
    return next(blocks_of(source, BEGIN), b"")


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


# ---- small files that are no text to learn from


def regular(path: str, flags: int) -> int:
    """Open a file for `open(path, opener=regular)`. OSError for a pipe, which would wait for its writer, or a device."""
    mode = os.stat(path).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # of folders `open` tells itself
        raise OSError(errno.EINVAL, "it is not a regular file", path)
    return os.open(path, flags)


# ---- sources -> bytes and text


def blocks_of(source: Source, size: int | None = None) -> Iterator[bytes]:
    """Read the bytes of one file, up to `size` (CHUNK) at a time. TextError if they are others than the last time."""
    try:
        with source.open() as stream:
            for number, block in enumerate(iter(partial(stream.read, size or CHUNK), None)):
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


def pieces_of(source: Source, encoding: str) -> Iterator[str]:
    """Read the text of one file without its byte order mark, in pieces that never split a character."""
    decode = _TextDecoder(source.name, encoding)
    mark = "\ufeff"
    for block in chain(blocks_of(source), [b""]):
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


# ---- sources that are read again


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
    blocks = blocks_of(source) if encoding is None else _checked_text(source, encoding)
    with disk_room():
        file = open_files.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        file.writelines(blocks)

    def rewound() -> AbstractContextManager[BinaryIO]:
        file.seek(0)
        return nullcontext(file)

    return Source(source.name, rewound)


def _checked_text(source: Source, encoding: str) -> Iterator[bytes]:
    """Read the bytes of one file. TextError as soon as they are no text: a file may be endless."""
    decode = _TextDecoder(source.name, encoding)
    for block in blocks_of(source):
        decode(block)
        yield block


@contextmanager
def disk_room() -> Iterator[None]:
    """Raise TextError where a temporary file cannot be written."""
    try:
        yield
    except OSError as error:
        folder = tempfile.tempdir or "the temporary folder"
        raise TextError(
            f"the corpus cannot be written to {folder}: {error.strerror or error}; make room there or "
            "set TMPDIR to a folder that has some."
        ) from None
