"""Documents: where they begin, what is left out, and the one that is too long."""

import pytest
from support.cases import each

from nblstm.errors import TextError
from nblstm.text import documents
from nblstm.text.documents import numbered, split

TEXT = "\n\none\n two \r\n\n \t\n\nthree\n"
BY = {
    "line": [(3, "one"), (4, " two "), (8, "three")],
    "blank-line": [(3, "one\n two "), (8, "three")],
}


@each("size", [1, 2, 5, 100])
@each("kind", BY)
def test_documents_are_numbered_by_their_first_line(kind, size):
    """However the pieces are cut, text or bytes; empty lines are counted and left out, line ends are not part of it."""
    pieces = [TEXT[at : at + size] for at in range(0, len(TEXT), size)]
    assert list(numbered(pieces, kind, "file")) == BY[kind]
    encoded = list(numbered([piece.encode() for piece in pieces], kind, "file"))
    assert encoded == [(line, text.encode()) for line, text in BY[kind]]
    assert [text for _, text in BY[kind]] == list(split(pieces, kind))


@each("text", ["", "\n", " \n\n"])
@each("kind", BY)
def test_nothing_is_no_document(text, kind):
    """Neither no text nor empty lines."""
    assert list(numbered([text], kind, "file")) == []


@pytest.mark.parametrize(
    "kind, text, line",
    [("line", "a\nbb\n" + "x" * 30, 3), ("line", "x" * 30 + "\na", 1), ("blank-line", "a\n\nbb\ncccc\ndddd\neeee", 3)],
)
def test_a_document_too_long_for_memory(kind, text, line, monkeypatch):
    """It is refused, by file and line, before it is read as a whole."""
    monkeypatch.setattr(documents, "LONGEST", 10)
    text, read = text + "\nx" * 400, []
    pieces = (read.append(at) or text[at : at + 4] for at in range(0, len(text), 4))
    with pytest.raises(TextError, match=f"file has a document at line {line} that is longer than 10 characters"):
        list(numbered(pieces, kind, "file"))
    assert len(read) < 20
