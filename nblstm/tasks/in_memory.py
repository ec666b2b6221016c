"""Texts in memory as files for a run, which reads files: they are there until it has read them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from nblstm import checks
from nblstm.errors import ConfigError, TextError
from nblstm.text.lines import LINE_END
from nblstm.text.strings import checked


@contextmanager
def files_of(text: str | None, texts: Iterable[str] | None) -> Iterator[tuple[str, dict[str, str]]]:
    """Write a text, or several documents, for a block: (the path to read, the settings to read it with).

    Documents without a line end stand in one file, a line each; others each in a file. ConfigError for both at once,
    TextError for what is no text.
    """
    if text is not None and texts is not None:
        raise ConfigError("text is one stream and texts are documents; give one of them.")
    with tempfile.TemporaryDirectory() as folder:
        if texts is None:
            path = Path(folder, "text")
            _write(path, checked(text, str))
            yield str(path), {"encoding": "utf-8"}
            return
        path, documents = Path(folder, "texts"), [checked(each, str) for each in _several(texts)]
        if any(LINE_END.search(each) for each in documents):
            path.mkdir()
            for number, each in enumerate(documents):
                _write(path / f"{number:09}", each)
            yield str(path), {"encoding": "utf-8", "documents": "file"}
        else:
            _write(path, "".join(f"{each}\n" for each in documents))
            yield str(path), {"encoding": "utf-8", "documents": "line"}


def _several(texts: Iterable[str]) -> list[str]:
    if isinstance(texts, str):
        raise TextError("texts must be several texts, got a single one; give it as text.")
    return list(checks.items("texts", texts))


def _write(path: Path, text: str) -> None:
    try:
        path.write_bytes(text.encode())
    except UnicodeError:
        raise TextError("a text holds half of a character pair, which no file can; take it out.") from None
    except OSError as error:
        raise TextError(f"the text cannot be written to {os.path.dirname(path)}: {error.strerror or error}.") from None
