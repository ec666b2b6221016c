"""Kinds of files that are no plain text, known by how they begin, and what to do about each."""

from __future__ import annotations

import re

from nblstm.errors import TextError

UNPACK = "unpack it, and name what comes out (a text in .gz is read as it is)"
SAVE = "open it in a word processor and save it as plain text"
LEAVE = "it has no text to read; leave it out"
SAFETENSORS = rb'.{6}\0\0\{"'
NO_MODEL = "name a text; nor is it a model that nblstm reads"
KINDS = tuple((re.compile(begin, re.DOTALL), kind, way) for begin, kind, way in (  # how it begins, what it is, the way out
    (rb"%PDF-", "a PDF", "make a text of it, as pdftotext does"),
    (rb"\{\\rtf", "an RTF document", SAVE),
    (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document (.doc, .xls, .ppt)", SAVE),
    (rb"PK\x03\x04.{0,65000}word/", "a Word document (.docx)", SAVE),
    (rb"PK\x03\x04.{0,65000}xl/", "an Excel table (.xlsx)", "save it as plain text"),
    (rb"PK\x03\x04.{0,65000}ppt/", "a PowerPoint file (.pptx)", SAVE),
    (rb"PK\x03\x04.{0,99}application/epub\+zip", "an EPUB book", "convert it to plain text"),
    (rb"PK\x03\x04.{0,99}application/vnd\.oasis", "an OpenDocument file (.odt)", SAVE),
    (rb"PK\x03\x04.{0,99}data\.pkl", "a PyTorch file", NO_MODEL),
    (rb"PK\x03\x04", "a ZIP archive", UNPACK),
    (rb"\xfd7zXZ\0", "packed by xz", UNPACK),
    (rb"BZh[1-9]1AY&SY", "packed by bzip2", UNPACK),
    (rb"\x28\xb5\x2f\xfd", "packed by zstd", UNPACK),
    (rb"\x04\x22\x4d\x18", "packed by lz4", UNPACK),
    (rb"\x1f\x8b", "packed by gzip", "let its name end in .gz, or unpack it"),
    (rb"7z\xbc\xaf\x27\x1c", "a 7z archive", UNPACK),
    (rb"Rar!\x1a\x07", "a RAR archive", UNPACK),
    (rb".{257}ustar[ \0]", "a tar archive", UNPACK),
    (rb"\x89PNG\r\n", "a PNG picture", LEAVE),
    (rb"\xff\xd8\xff", "a JPEG picture", LEAVE),
    (rb"GIF8[79]a", "a GIF picture", LEAVE),
    (rb"RIFF.{4}WEBP", "a WebP picture", LEAVE),
    (rb"II\*\0|MM\0\*", "a TIFF picture", LEAVE),
    (rb"ID3[\x02-\x04]|OggS\0|fLaC\0|RIFF.{4}WAVE", "a sound", LEAVE),
    (rb"\0\0\0.ftyp", "a film or a sound", LEAVE),
    (rb"\x7fELF|MZ.{60,2000}PE\0\0", "a program", LEAVE),
    (rb"SQLite format 3\0", "an SQLite database", "export the text that it holds"),
    (rb"PAR1\x15", "a Parquet table", "export its column of texts"),
    (rb"\x89HDF\r\n", "an HDF5 file, such as Keras writes", NO_MODEL),
    (rb"\x93NUMPY", "a NumPy array", "name a text"),
    (rb"GGUF[\x01-\x0f]\0", "a GGUF model", NO_MODEL),
    (SAFETENSORS, "a safetensors file, as models are", "name a text, and a model where a model belongs"),
))  # fmt: skip
ENCODING_MARKS = (  # of encodings, at the beginning of a text
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
BEGIN = 1 << 16  # bytes of a file that tell its kind


def kind_of(begin: bytes) -> tuple[str, str] | None:
    """Tell (the kind, the way out) of a file that is no plain text by its first BEGIN bytes; None for any other."""
    return next(((kind, way) for pattern, kind, way in KINDS if pattern.match(begin)), None)


def is_safetensors(begin: bytes) -> bool:
    """Tell whether a file, by its first 10 bytes, is a safetensors file."""
    return re.match(SAFETENSORS, begin, re.DOTALL) is not None


def marked_encoding(begin: bytes) -> str | None:
    """Tell the encoding whose mark a text begins with, other than UTF-8; None without one."""
    return next((encoding for mark, encoding in ENCODING_MARKS if begin.startswith(mark)), None)


def is_binary(begin: bytes) -> bool:
    """Tell whether a file is of a kind that is no text, or holds NUL characters and no mark of an encoding."""
    return kind_of(begin) is not None or (b"\0" in begin and marked_encoding(begin) is None)


def check_kind(name: str, begin: bytes) -> None:
    """Raise TextError, which says what it is instead, for a file that begins as no plain text does."""
    if (found := kind_of(begin)) is not None:
        kind, way = found
        raise TextError(f"{name} is {kind}, not plain text; {way}.")


def encoding_advice(begin: bytes, encoding: str) -> str:
    """Tell what to do about a text that is not of an encoding: the one that is marked, or the likely one."""
    marked = marked_encoding(begin)
    if marked is not None:
        return f'its first bytes are the mark of {marked}: name that with encoding="{marked}"'
    if encoding.lower().replace("_", "-") in ("utf-8", "utf8", "utf-8-sig", "ascii", "us-ascii"):
        return 'name its encoding, likely encoding="cp1252" (Western Windows)'
    return "name its encoding"
