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
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from nblstm import checks
from nblstm.errors import ModelFileError
from nblstm.files.atomic import Path, replacing

DTYPE_CODES = {
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
DTYPE_NAMES = {np.dtype(code): name for name, code in DTYPE_CODES.items()}

METADATA = "__metadata__"
MAX_HEADER = 100_000_000  # bytes; the limit of the format's reference implementation
MAX_DIMENSIONS = 32  # of the oldest NumPy supported
MAX_TENSORS = 20_000  # more than the largest network has
SMALL = 1 << 20  # bytes of JSON that take no noteworthy memory, whatever is in them
BLOCK = 1 << 18  # bytes of JSON that are looked at together
SURROGATE = "[\ud800-\udfff]"


class Entry(NamedTuple):
    """Where one tensor lies: bytes [begin, end) of the data, which starts after the header."""

    dtype: np.dtype
    shape: tuple[int, ...]
    begin: int
    end: int


class Header(NamedTuple):
    """The header of a file. `tensors` is in the order of the data."""

    tensors: dict[str, Entry]
    metadata: dict[str, str]


# ---------------------------------------------------------------------------------------------------- reading


def read(
    path: Path, check: Callable[[Header], Any] = lambda header: None
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read all tensors (writable, C order, each owning its memory) and the metadata of a file.

    check: asked before a tensor is read; what it raises is raised. ModelFileError says which rule the file breaks.
    """
    with _open(path) as file:
        header = _read_header(file, path)
        check(header)
        _check_memory(sum(entry.end - entry.begin for entry in header.tensors.values()), path)
        try:
            tensors = {name: _read_tensor(file, name, entry, path) for name, entry in header.tensors.items()}
        except MemoryError:
            raise ModelFileError(f"{path} needs more memory than is free; close other programs.") from None
    return tensors, header.metadata


def read_header(path: Path) -> Header:
    """Read the names, dtypes, shapes and metadata of a file, checked as `read` does, without reading the tensors."""
    with _open(path) as file:
        return _read_header(file, path)


def _check_memory(needed: int, path: Path) -> None:
    """Raise ModelFileError for more bytes than the machine has, where it says how many: a file may be sparse."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # not POSIX
        return
    if needed > memory > 0:
        raise ModelFileError(
            f"{path} holds {needed / 1e9:,.1f} GB, more than the {memory / 1e9:,.1f} GB of memory that there are; "
            "use a larger machine."
        )


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
    except ValueError as error:  # a NUL in the name
        raise ModelFileError(f"{path!r} cannot be a file's name: {error}.") from None


def _invalid(path: Path, rule: str) -> ModelFileError:
    """Return the error for a file that breaks a rule of the format."""
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
    fields = _parse(file, length, path)
    metadata = _check_metadata(fields.pop(METADATA, {}), path)
    entries = {name: _check_entry(name, entry, path) for name, entry in fields.items()}
    tensors = dict(sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)))
    _check_layout(tensors, size - 8 - length, path)
    return Header(tensors, metadata)


def _parse(file: BinaryIO, length: int, path: Path) -> dict[str, Any]:
    """Read the header's JSON object. A name given twice is an error, also in the objects inside."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        for name, value in pairs:
            if name in fields:
                raise _invalid(path, f"its header has the name {name!r:.80} twice")
            if not (_is_text(name) and (not isinstance(value, str) or _is_text(value))):
                raise _invalid(path, f"its header has half a character in {name!r:.80}")
            fields[name] = value
        return fields

    text: Any = file.read(length)
    if not text.startswith(b"{"):
        raise _invalid(path, "its header does not start with '{'")
    # a tensor takes 3 brackets, the header and its metadata 2; entries, fields and sizes are separated by commas
    if not is_modest(text, 3 * MAX_TENSORS + 2, 6 * MAX_TENSORS):
        raise _invalid(path, f"its header has more than {MAX_TENSORS:,} tensors, or large parts that are none")
    try:
        text = str(text, "utf-8")  # and the bytes' memory is free again
        return json.loads(text, object_pairs_hook=unique, parse_int=_whole)
    except (ValueError, RecursionError):  # bad UTF-8, bad JSON, a number too long, brackets too deep
        raise _invalid(path, "its header is not JSON in UTF-8") from None


def _is_text(text: str) -> bool:
    """Tell whether a string has no lone surrogate, half of a character."""
    return text.isascii() or re.search(SURROGATE, text) is None


def _whole(digits: str) -> int:
    """Read a JSON integer; -0, which is no size, as -1."""
    return -1 if digits == "-0" else int(digits)


def is_modest(text: bytes, brackets: int, commas: int) -> bool:
    """Tell whether JSON takes little memory when parsed: up to SMALL bytes of it, or few values beside long strings.

    text: UTF-8. brackets, commas: the most [ and {, and the most commas, outside of strings; of more bytes than SMALL
    only ASCII is modest. Parsed, a bracket takes about 30 times the memory that it takes as text.
    """
    if len(text) <= SMALL:
        return True
    if not text.isascii():  # one wide character quadruples a string's memory
        return False
    inside = escaped = False  # whether the block's first character is in a string, behind a backslash
    for start in range(0, len(text), BLOCK):
        block = np.frombuffer(text, np.uint8, min(BLOCK, len(text) - start), start)
        behind = _behind_backslash(block, escaped)
        strings = np.logical_xor.accumulate((block == ord('"')) & ~behind) ^ inside
        brackets -= int(np.count_nonzero(((block == ord("[")) | (block == ord("{"))) & ~strings))
        commas -= int(np.count_nonzero((block == ord(",")) & ~strings))
        if brackets < 0 or commas < 0:
            return False
        inside, escaped = bool(strings[-1]), bool(block[-1] == ord("\\") and not behind[-1])
    return True


def _behind_backslash(block: np.ndarray, first: bool) -> np.ndarray:
    """Tell which characters (n,) uint8 a backslash escapes: an odd number of them stands before. first: of block[0]."""
    places = np.arange(len(block), dtype=np.int32)
    other = np.maximum.accumulate(np.where(block == ord("\\"), np.int32(-1), places))
    other = np.concatenate([np.full(1, -1, np.int32), other[:-1]])  # the last place before that is no backslash, or -1
    return (places - 1 - other + (other == -1) * first) % 2 == 1


def _check_metadata(metadata: Any, path: Path) -> dict[str, str]:
    """Return the metadata, if it is an object of strings."""
    if not isinstance(metadata, dict):
        raise _invalid(path, f"{METADATA} must be an object, got {_kind(metadata)}")
    for name, value in metadata.items():
        if not isinstance(value, str):
            raise _invalid(path, f"{METADATA} must hold strings, got {_kind(value)} for {name!r:.80}")
    return metadata


def _check_entry(name: str, entry: Any, path: Path) -> Entry:
    """Return one tensor's entry, if its fields are of the right types and agree with each other."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise _invalid(path, f"tensor {name!r:.80} must have dtype, shape and data_offsets")
    code, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(code, str) or code not in DTYPE_CODES:
        raise _invalid(
            path, f"tensor {name!r:.80} must have one of the dtypes {', '.join(DTYPE_CODES)}, got {code!r:.40}"
        )
    if not _are_sizes(shape) or len(shape) > MAX_DIMENSIONS:
        raise _invalid(path, f"the shape of tensor {name!r:.80} must be a list of at most {MAX_DIMENSIONS} sizes >= 0")
    if not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _invalid(path, f"the data_offsets of tensor {name!r:.80} must be [begin, end] with 0 <= begin <= end")
    dtype = np.dtype(DTYPE_CODES[code])
    if math.prod(size for size in shape if size) * dtype.itemsize >= 2**63:  # also of a tensor without elements
        raise _invalid(path, f"the shape of tensor {name!r:.80} is too large for any memory")
    needed, (begin, end) = math.prod(shape) * dtype.itemsize, offsets
    if end - begin != needed:
        raise _invalid(
            path, f"tensor {name!r:.80} needs {needed:,} bytes for its shape, its offsets span {end - begin:,}"
        )
    return Entry(dtype, tuple(shape), begin, end)


def _are_sizes(values: Any) -> bool:
    """Tell whether the JSON value is a list of integers >= 0 (true and 1.0 are no integers here)."""
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)


def _check_layout(tensors: Mapping[str, Entry], size: int, path: Path) -> None:
    """Check that tensors, in the order of their offsets, fill the `size` bytes of data exactly."""
    reached = 0
    for name, entry in tensors.items():
        if entry.begin < reached:
            raise _invalid(path, f"tensor {name!r:.80} overlaps the one before it")
        if entry.begin > reached:
            raise _invalid(path, f"{entry.begin - reached:,} bytes before tensor {name!r:.80} belong to no tensor")
        reached = entry.end
    if reached > size:
        raise _invalid(path, f"it is cut short, its tensors need {reached:,} bytes and {size:,} are there")
    if reached < size:
        raise _invalid(path, f"{size - reached:,} bytes at its end belong to no tensor")


def _read_tensor(file: BinaryIO, name: str, entry: Entry, path: Path) -> np.ndarray:
    """Read the next tensor straight into its own memory."""
    data = np.empty(entry.end - entry.begin, np.uint8)
    if file.readinto(data) != data.size:  # type: ignore[attr-defined]
        raise _invalid(path, f"it ended while tensor {name!r:.80} was read")
    if entry.dtype == np.bool_ and np.any(data > 1):
        raise _invalid(path, f"tensor {name!r:.80} is BOOL, but has bytes other than 0 and 1")
    return data.view(entry.dtype).reshape(entry.shape)


def _kind(value: Any) -> str:
    """Name a JSON value's type, for a message."""
    return "null" if value is None else type(value).__name__


# ---------------------------------------------------------------------------------------------------- writing


def write(path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Write a file in one step: whatever happens, `path` holds either the old content or all of the new.

    tensors: of any shape, with a dtype of DTYPE_CODES. Larger items come first, then names in order, so that every
    tensor is aligned and equal content gives equal bytes.
    A symlink is followed, an existing file's permissions are kept.
    ModelFileError if a tensor or the metadata does not fit the format, the file cannot be written, or another kind of
    file is there.
    """
    path = checks.path("path", path)
    check_replaceable(path)
    arrays = {name: little_endian(name, tensors[name]) for name in tensors}
    arrays = dict(sorted(arrays.items(), key=lambda item: (-item[1].dtype.itemsize, item[0])))
    header = _header_bytes(arrays, metadata)
    with replacing(path) as file:
        file.write(header)
        for array in arrays.values():
            file.write(array.reshape(-1).view(np.uint8).data)


def check_replaceable(path: Path) -> None:
    """Raise ModelFileError if there is a file that does not begin as safetensors files do: it may be a user's text."""
    if not os.path.isfile(path):
        return  # whoever writes will tell of folders and pipes
    begin = b""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        begin = file.read(9)
    if begin and (begin[8:] != b"{" or int.from_bytes(begin[:8], "little") > MAX_HEADER):
        raise ModelFileError(f"{path} exists and is no model file; it is not replaced, choose another name.")


def little_endian(name: str, tensor: np.ndarray) -> np.ndarray:
    """Return the tensor in the container's byte order and C order; a copy only if it is not so already."""
    array = np.asarray(tensor, order="C")
    little = array.dtype.newbyteorder("<")
    if name == METADATA or little not in DTYPE_NAMES:
        raise ModelFileError(f"a tensor {name!r:.80} of dtype {array.dtype} cannot be stored in a safetensors file.")
    return array.astype(little, copy=False)


def _header_bytes(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    """Return the header's length and the header, padded so that the data starts at a multiple of 8."""
    if not all(isinstance(text, str) for text in (*metadata, *metadata.values())):
        raise ModelFileError("the metadata of a safetensors file must map strings to strings.")
    if len(arrays) > MAX_TENSORS:
        raise ModelFileError(f"a file holds at most {MAX_TENSORS:,} tensors, got {len(arrays):,}.")
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
