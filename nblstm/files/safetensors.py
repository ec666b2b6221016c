"""The safetensors container, read and written with json and NumPy alone.

    8 bytes      n, the header's length: unsigned, little-endian
    n bytes      the header: JSON, padded with spaces
    the rest     the tensors' bytes: little-endian, C order, in one piece without gaps

The header maps each tensor's name to {"dtype", "shape", "data_offsets": [begin, end]}, where offsets count from
the end of the header, and "__metadata__" to an object of strings. There is no pickle, so reading a file runs
nothing; still, no field of a file is believed before it is checked.

Source: https://huggingface.co/docs/safetensors, section "Format".
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from nblstm import checks
from nblstm.errors import ModelFileError
from nblstm.files.atomic import replacing

Path = str | os.PathLike[str]

DTYPES = {
    "BOOL": "|b1",
    "U8": "|u1",
    "I8": "|i1",
    "U16": "<u2",
    "I16": "<i2",
    "F16": "<f2",
    "U32": "<u4",
    "I32": "<i4",
    "F32": "<f4",
    "U64": "<u8",
    "I64": "<i8",
    "F64": "<f8",
}
DTYPE_NAMES = {np.dtype(code): name for name, code in DTYPES.items()}

METADATA = "__metadata__"
MAX_HEADER = 100_000_000  # bytes; the limit of the format's reference implementation
MAX_DIMENSIONS = 32  # of the oldest NumPy supported


@dataclass(frozen=True)
class Entry:
    """Where one tensor lies: bytes [begin, end) of the data, which starts after the header."""

    dtype: np.dtype
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class Header:
    """What a file says about itself. `tensors` is in the order of the data."""

    tensors: dict[str, Entry]
    metadata: dict[str, str]


# ---------------------------------------------------------------------------------------------------- reading


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """All tensors (writable, C order, each owning its memory) and the metadata of a file.

    ModelFileError says which rule the file breaks.
    """
    with _open(path) as file:
        header = _read_header(file, path)
        tensors = {name: _read_tensor(file, name, entry, path) for name, entry in header.tensors.items()}
    return tensors, header.metadata


def read_header(path: Path) -> Header:
    """The names, dtypes, shapes and metadata of a file, checked as `read` does, without reading the tensors."""
    with _open(path) as file:
        return _read_header(file, path)


@contextlib.contextmanager
def _open(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file; any OSError, here or while it is read, becomes a ModelFileError."""
    checks.path("path", path)
    try:
        mode = os.stat(path).st_mode  # looked at first, because opening a FIFO would wait for its writer
        if stat.S_ISDIR(mode):
            raise ModelFileError(f"{path} is a folder, not a model file; name a file in it.")
        if not stat.S_ISREG(mode):
            raise ModelFileError(f"{path} is a pipe or a device; a model can only be read from a regular file.")
        with open(path, "rb") as file:
            yield file
    except FileNotFoundError:
        raise ModelFileError(f"{path} does not exist.") from None
    except OSError as error:
        raise ModelFileError(f"cannot read {path}: {error.strerror or error}.") from None


def _invalid(path: Path, rule: str) -> ModelFileError:
    """The error for a file that breaks a rule of the format."""
    return ModelFileError(f"{path} is damaged or not a model file: {rule}.")


def _read_header(file: BinaryIO, path: Path) -> Header:
    """Read and check everything before the data; the file then stands at the data's first byte."""
    size = os.fstat(file.fileno()).st_size
    if size == 0:
        raise ModelFileError(f"{path} is empty, not a model file.")
    if size < 8:
        raise _invalid(path, f"it has {size} bytes, fewer than the 8 of the header's length")
    length = int.from_bytes(file.read(8), "little")
    if length > MAX_HEADER:
        raise _invalid(path, f"its header would have {length:,} bytes, more than {MAX_HEADER:,}")
    if length > size - 8:
        raise _invalid(path, f"its header would have {length:,} bytes, but only {size - 8:,} follow")
    fields = _parse(file.read(length), path)
    metadata = _check_metadata(fields.pop(METADATA, {}), path)
    entries = {name: _check_entry(name, entry, path) for name, entry in fields.items()}
    tensors = dict(sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)))
    _check_layout(tensors, size - 8 - length, path)
    return Header(tensors, metadata)


def _parse(text: bytes, path: Path) -> dict[str, Any]:
    """The header's JSON object. A name given twice is an error, also in the objects inside."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        for name, value in pairs:
            if name in fields:
                raise _invalid(path, f"its header has the name {name!r} twice")
            fields[name] = value
        return fields

    if not text.startswith(b"{"):
        raise _invalid(path, "its header does not start with '{'")
    try:
        return json.loads(text.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError):  # bad UTF-8, bad JSON, a number too long, brackets too deep
        raise _invalid(path, "its header is not JSON in UTF-8") from None


def _check_metadata(metadata: Any, path: Path) -> dict[str, str]:
    """The metadata, if it is an object of strings."""
    if not isinstance(metadata, dict):
        raise _invalid(path, f"{METADATA} must be an object, got {_kind(metadata)}")
    for name, value in metadata.items():
        if not isinstance(value, str):
            raise _invalid(path, f"{METADATA} must hold strings, got {_kind(value)} for {name!r}")
    return metadata


def _check_entry(name: str, entry: Any, path: Path) -> Entry:
    """One tensor's description, if its fields are of the right types and agree with each other."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise _invalid(path, f"tensor {name!r} must have dtype, shape and data_offsets")
    code, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(code, str) or code not in DTYPES:
        raise _invalid(path, f"tensor {name!r} must have one of the dtypes {', '.join(DTYPES)}, got {code!r:.40}")
    if not _are_sizes(shape) or len(shape) > MAX_DIMENSIONS:
        raise _invalid(path, f"the shape of tensor {name!r} must be a list of at most {MAX_DIMENSIONS} sizes >= 0")
    if not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _invalid(path, f"the data_offsets of tensor {name!r} must be [begin, end] with 0 <= begin <= end")
    dtype = np.dtype(DTYPES[code])
    if math.prod(size for size in shape if size) * dtype.itemsize >= 2**63:  # also of a tensor without elements
        raise _invalid(path, f"the shape of tensor {name!r} is too large for any memory")
    needed, (begin, end) = math.prod(shape) * dtype.itemsize, offsets
    if end - begin != needed:
        raise _invalid(path, f"tensor {name!r} needs {needed:,} bytes for its shape, its offsets span {end - begin:,}")
    return Entry(dtype, tuple(shape), begin, end)


def _are_sizes(values: Any) -> bool:
    """Whether the JSON value is a list of integers >= 0 (true and 1.0 are no integers here)."""
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)


def _check_layout(tensors: Mapping[str, Entry], size: int, path: Path) -> None:
    """Check that tensors, in the order of their offsets, fill the `size` bytes of data exactly."""
    reached = 0
    for name, entry in tensors.items():
        if entry.begin < reached:
            raise _invalid(path, f"tensor {name!r} overlaps the one before it")
        if entry.begin > reached:
            raise _invalid(path, f"{entry.begin - reached:,} bytes before tensor {name!r} belong to no tensor")
        reached = entry.end
    if reached > size:
        raise _invalid(path, f"it is cut short, its tensors need {reached:,} bytes and {size:,} are there")
    if reached < size:
        raise _invalid(path, f"{size - reached:,} bytes at its end belong to no tensor")


def _read_tensor(file: BinaryIO, name: str, entry: Entry, path: Path) -> np.ndarray:
    """Read the next tensor straight into its own memory."""
    data = np.empty(entry.end - entry.begin, np.uint8)
    if file.readinto(data) != data.size:  # type: ignore[attr-defined]
        raise _invalid(path, f"it ended while tensor {name!r} was read")
    if entry.dtype == np.bool_ and np.any(data > 1):
        raise _invalid(path, f"tensor {name!r} is BOOL, but has bytes other than 0 and 1")
    return data.view(entry.dtype).reshape(entry.shape)


def _kind(value: Any) -> str:
    """A JSON value's type, for a message."""
    return "null" if value is None else type(value).__name__


# ---------------------------------------------------------------------------------------------------- writing


def write(path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Write a file in one step: whatever happens, `path` holds either the old content or all of the new.

    tensors: of any shape, with a dtype of DTYPES. Larger items come first, then names in order, so that every
    tensor is aligned and equal content gives equal bytes.
    A symlink is followed, an existing file's permissions are kept.
    ModelFileError if a tensor or the metadata does not fit the format, the file cannot be written, or another kind of
    file is there.
    """
    path = checks.path("path", path)
    check_replaceable(path)
    arrays = {name: _little_endian(name, tensors[name]) for name in tensors}
    arrays = dict(sorted(arrays.items(), key=lambda item: (-item[1].dtype.itemsize, item[0])))
    header = _header_bytes(arrays, metadata)
    with replacing(path) as file:
        file.write(header)
        for array in arrays.values():
            file.write(array.reshape(-1).view(np.uint8))


def check_replaceable(path: Path) -> None:
    """ModelFileError if a file is there that does not begin as safetensors files do, which may be a user's text."""
    if not os.path.isfile(path):
        return  # whoever writes will tell of folders and pipes
    begin = b""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        begin = file.read(9)
    if begin and (begin[8:] != b"{" or int.from_bytes(begin[:8], "little") > MAX_HEADER):
        raise ModelFileError(f"{path} exists and is no model file; it is not replaced, choose another name.")


def _little_endian(name: str, tensor: np.ndarray) -> np.ndarray:
    """The tensor in the container's byte order and C order; a copy only if it is not so already."""
    array = np.asarray(tensor, order="C")
    little = array.dtype.newbyteorder("<")
    if name == METADATA or little not in DTYPE_NAMES:
        raise ModelFileError(f"a tensor {name!r} of dtype {array.dtype} cannot be stored in a safetensors file.")
    return array.astype(little, copy=False)


def _header_bytes(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    """The header's length and the header, padded so that the data starts at a multiple of 8."""
    if not all(isinstance(text, str) for text in (*metadata, *metadata.values())):
        raise ModelFileError("the metadata of a safetensors file must map strings to strings.")
    fields: dict[str, Any] = {METADATA: dict(metadata)} if metadata else {}
    begin = 0
    for name, array in arrays.items():
        end = begin + array.nbytes
        fields[name] = {"dtype": DTYPE_NAMES[array.dtype], "shape": list(array.shape), "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(fields, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER:
        raise ModelFileError(f"the header would have {len(text):,} bytes, more than {MAX_HEADER:,}.")
    return len(text).to_bytes(8, "little") + text
