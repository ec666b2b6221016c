"""Reading: the text of files in chunks, or in documents, as a vocabulary encodes it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from nblstm.errors import TextError
from nblstm.text.cutting import cut_at_tokens, gathered
from nblstm.text.documents import split
from nblstm.text.sources import Paths, Source, blocks_of, find_sources, pieces_of
from nblstm.text.tables import Columns, row_documents
from nblstm.text.vocabulary import utf8


def read_chunks(paths: Paths, level: str, encoding: str = "utf-8") -> Iterator[str] | Iterator[bytes]:
    """Read the chunks that a vocabulary of this level encodes: `read_bytes` at byte level, `read_text` at the others."""
    return read_bytes(paths) if level == "byte" else read_text(paths, encoding)


def read_bytes(paths: Paths) -> Iterator[bytes]:
    """Read the files' bytes as they are, joined, in chunks of up to CHUNK. TextError if they cannot be read."""
    sources = find_sources(paths)
    return _nonempty(sources, chain.from_iterable(map(blocks_of, sources)))


def read_each(paths: Paths, level: str, encoding: str = "utf-8") -> Iterator[tuple[str, Iterator]]:
    """Read the files one by one: (name, chunks as `read_chunks` gives them). Files without any text are left out.

    TextError as of `read_text`, but not if no file has any text.
    """
    _check_encoding(encoding)
    for source in find_sources(paths):
        chunks = filter(None, blocks_of(source) if level == "byte" else cut_at_tokens(pieces_of(source, encoding)))
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
    pieces = chain.from_iterable(pieces_of(source, encoding) for source in sources)
    return _nonempty(sources, cut_at_tokens(pieces))


def read_documents(
    paths: Paths, level: str, kind: str, encoding: str = "utf-8", columns: Columns | None = None
) -> Iterator[list[str]] | Iterator[list[bytes]]:
    """Read the files' documents of a kind (see `nblstm.text.documents`), in lists of about CHUNK characters.

    They are what a vocabulary of this level encodes: bytes at byte level, else str. columns: what makes a document of a
    row. Raises as `read_text` does.
    """
    _check_encoding(encoding)
    sources = find_sources(paths)
    documents: Iterator[Any]
    if columns is not None:
        tables = (row_documents(source.name, pieces_of(source, encoding), columns) for source in sources)
        documents = chain.from_iterable(tables)
        documents = map(utf8, documents) if level == "byte" else documents
    elif level == "byte":
        documents = chain.from_iterable(split(blocks_of(source), kind, source.name) for source in sources)
    else:
        documents = chain.from_iterable(split(pieces_of(source, encoding), kind, source.name) for source in sources)
    return _nonempty(sources, gathered(documents))


def _check_encoding(encoding: str) -> None:
    try:
        "a".encode(encoding)
    except (LookupError, ValueError, TypeError):
        raise TextError(f"encoding must be one that Python knows, such as utf-8, got {encoding!r:.40}.") from None


def _nonempty(sources: list[Source], chunks: Iterable) -> Iterator:
    """Yield the chunks that hold something. TextError if none does."""
    empty = True
    for chunk in filter(None, chunks):
        empty = False
        yield chunk
    if empty:
        names = ", ".join(source.name for source in sources[:3]) or "no files"
        raise TextError(f"the text is empty: there is nothing to read in {names}.")
