"""PyTorch's .pt files, read without PyTorch, and without doing what a pickle asks for.

Such a file is a zip archive: `NAME/data.pkl`, a pickle of nested dicts, and `NAME/data/KEY`, the bytes of each storage.
A tensor in the pickle is a call of torch._utils._rebuild_tensor_v2 with its storage, offset, sizes and strides. The
unpickler here knows three kinds of names, that one, collections.OrderedDict and the types of storages, and makes plain
values of them; any other name is refused, and so are instructions that no state dict needs. Sizes and strides are believed
only where they stay within the storage; what is walked and copied has a bound, for a small pickle may name much.
"""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np

from nblstm import checks
from nblstm.errors import ModelFileError
from nblstm.files.safetensors import Path

MAX_PICKLE = 1 << 22  # bytes; a tensor takes some hundred, and Python walks a million instructions in two seconds
MAX_NESTING = 8  # dicts within dicts
MAX_ITEMS = 1 << 21  # of all dicts, each as often as it is reached
COPIES = 8  # bytes of all tensors, for each of the file: bfloat16 doubles, and tensors may share a storage
STORAGE_DTYPES = {
    "FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2", "BFloat16Storage": "<u2", "LongStorage": "<i8",
    "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "<i1", "ByteStorage": "<u1", "BoolStorage": "|b1",
}  # fmt: skip


INSTRUCTIONS = [
    "PROTO", "FRAME", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1",
    "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINSTRING", "SHORT_BINSTRING", "BINBYTES",
    "SHORT_BINBYTES", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "APPEND", "APPENDS",
    "EMPTY_DICT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "BINGET", "LONG_BINGET", "GLOBAL", "STACK_GLOBAL", "BINPERSID",
    "REDUCE",
]  # fmt: skip  # of a pickle, as they are; BUILD, SETITEM and SETITEMS are read in a way of our own


class _Storage(NamedTuple):
    """A storage that the pickle names: its type, the name of its bytes, how many numbers."""

    kind: str
    key: str
    length: int


class _View(NamedTuple):
    """A tensor: where it lies in a storage."""

    storage: _Storage
    offset: int
    sizes: tuple[int, ...]
    strides: tuple[int, ...]


def _ordered_dict() -> dict[Any, Any]:
    """Stand in for collections.OrderedDict, which a pickle makes empty."""
    return {}


def _rebuild(storage: Any, offset: Any, sizes: Any, strides: Any, *rest: Any) -> _View:
    """Stand in for torch._utils._rebuild_tensor_v2: say what it would make."""
    whole = lambda numbers: isinstance(numbers, tuple) and all(checks.is_whole(n, 0, 1 << 48) for n in numbers)
    if not isinstance(storage, _Storage) or not whole((offset,)) or not whole(sizes) or not whole(strides):
        raise ModelFileError("a tensor of it is none")
    return _View(storage, offset, sizes, strides)


class _Instructions(dict[int, Any]):
    """What each known instruction of a pickle does."""

    def __missing__(self, code: int) -> Any:
        raise ModelFileError(f"it has an instruction {code:#x}, which no state dict needs")


class _Unpickler(pickle._Unpickler):  # in Python: the one in C trusts the places in its memo
    """Reads nested dicts of tensors; ModelFileError for any name but the three kinds."""

    stack: list[Any]
    pop_mark: Callable[[], list[Any]]
    dispatch: ClassVar[Any] = _Instructions(
        (code, pickle._Unpickler.dispatch[code]) for code in (getattr(pickle, name)[0] for name in INSTRUCTIONS)
    )

    def _put(self, items: list[Any]) -> None:
        """Put keys and values, by turns, into the dict on the stack: the hash of a deeply nested key takes the process down."""
        found = self.stack[-1]
        if not isinstance(found, dict) or not all(isinstance(key, (str, int)) for key in items[::2]):
            raise ModelFileError("a dict of it has keys other than names and numbers")
        found.update(zip(items[::2], items[1::2]))

    def load_setitem(self) -> None:
        """Put one key and its value."""
        value, key = self.stack.pop(), self.stack.pop()
        self._put([key, value])

    def load_setitems(self) -> None:
        """Put all keys and values behind the mark."""
        items = self.pop_mark()
        self._put(items)

    def load_build(self) -> None:
        """Leave out the attributes of an object, such as a state dict's versions."""
        self.stack.pop()

    dispatch |= {pickle.SETITEM[0]: load_setitem, pickle.SETITEMS[0]: load_setitems, pickle.BUILD[0]: load_build}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild
        if (module, name) == ("collections", "OrderedDict"):
            return _ordered_dict
        if module == "torch" and name in STORAGE_DTYPES:
            return name
        raise ModelFileError(f"it asks for {f'{module}.{name}'[:80]!r}, which is not part of a state dict")

    def persistent_load(self, found: Any) -> _Storage:
        if isinstance(found, tuple) and len(found) == 5 and found[0] == "storage":
            _, kind, key, _, length = found
            if (
                isinstance(kind, str)
                and kind in STORAGE_DTYPES
                and isinstance(key, str)
                and checks.is_whole(length, 0, 1 << 48)
            ):
                return _Storage(kind, key, length)
        raise ModelFileError("a storage of it is none")


def read_torch(path: Path) -> dict[str, np.ndarray]:
    """Name -> array of every tensor; names of nested dicts are joined with dots. bfloat16 becomes float32.

    ModelFileError says what is wrong with the file, which runs nothing whatever is in it.
    """
    checks.path("path", path)
    try:
        with zipfile.ZipFile(path) as archive:
            return _read(archive, os.path.getsize(path))
    except FileNotFoundError:
        raise ModelFileError(f"{path} does not exist.") from None
    except OSError as error:
        raise ModelFileError(f"cannot read {path}: {error.strerror or error}.") from None
    except ModelFileError as error:
        raise ModelFileError(f"{path} is damaged or not a PyTorch state dict: {error}.") from None
    except zipfile.BadZipFile:
        raise ModelFileError(
            f"{path} is no zip archive, as PyTorch 1.6 and later write; save it again with one."
        ) from None
    except MemoryError:
        raise ModelFileError(f"{path} needs more memory than is free; close other programs.") from None
    except Exception as error:  # a pickle can go wrong in every way that Python can
        raise ModelFileError(f"{path} is damaged or not a PyTorch state dict: {type(error).__name__}.") from None


def _read(archive: zipfile.ZipFile, size: int) -> dict[str, np.ndarray]:
    """The tensors of an open archive of so many bytes."""
    infos = {info.filename: info for info in archive.infolist()}
    if sum(info.file_size for info in archive.infolist()) > size:
        raise ModelFileError("its parts are larger than itself: compressed, or in one place")
    pickled = next((name for name in infos if name.endswith("/data.pkl")), None)
    if pickled is None:
        raise ModelFileError("it has no data.pkl")
    folder = pickled[: -len("data.pkl")]

    def content(name: str) -> bytes:
        info = infos.get(folder + name)
        if info is None:
            raise ModelFileError(f"it lacks {name[:80]!r}")
        if info.compress_type != zipfile.ZIP_STORED or info.file_size > size:
            raise ModelFileError(f"{name[:80]!r} is compressed")
        return archive.read(info)

    if infos[pickled].file_size > MAX_PICKLE:
        raise ModelFileError(f"its data.pkl is larger than {MAX_PICKLE:,} bytes")
    order = content("byteorder") if folder + "byteorder" in infos else b"little"
    if order != b"little":
        raise ModelFileError("its numbers are big-endian")
    found = _Unpickler(io.BytesIO(content("data.pkl"))).load()
    storages: dict[_Storage, np.ndarray] = {}
    tensors, left = {}, COPIES * size
    for name, view in _tensors(found, "", 0, [MAX_ITEMS]):
        if view.storage not in storages:
            storages[view.storage] = _storage(view.storage, content(f"data/{view.storage.key}"))
        tensors[name] = _array(view, storages[view.storage], name)
        left -= tensors[name].nbytes
        if left < 0:
            raise ModelFileError(f"its tensors take more than {COPIES} times its bytes")
    return tensors


def _tensors(found: Any, name: str, depth: int, left: list[int]) -> Iterator[tuple[str, _View]]:
    """Every tensor of nested dicts, and its name; other values are passed over. left: how many more values may come."""
    left[0] -= 1
    if left[0] < 0:
        raise ModelFileError(f"its dicts hold more than {MAX_ITEMS:,} values")
    if isinstance(found, _View):
        yield name, found
    elif isinstance(found, Mapping):
        if depth == MAX_NESTING:
            raise ModelFileError(f"it has dicts nested deeper than {MAX_NESTING}")
        for key, value in found.items():
            if isinstance(key, str):
                yield from _tensors(value, f"{name}.{key}" if name else key, depth + 1, left)


def _storage(storage: _Storage, data: bytes) -> np.ndarray:
    """The numbers of a storage (length,)."""
    dtype = np.dtype(STORAGE_DTYPES[storage.kind])
    if len(data) < storage.length * dtype.itemsize:
        raise ModelFileError(f"storage {storage.key[:80]!r} has fewer bytes than it says")
    numbers = np.frombuffer(data, dtype, storage.length)
    if storage.kind == "BFloat16Storage":
        return (numbers.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return numbers


def _array(view: _View, numbers: np.ndarray, name: str) -> np.ndarray:
    """A tensor as an array of its own. ModelFileError if it leaves its storage."""
    _, offset, sizes, strides = view
    count = 1
    for size in sizes:
        count *= size
    last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides))
    if len(sizes) != len(strides) or len(sizes) > 32 or (count and last >= len(numbers)) or count > len(numbers):
        raise ModelFileError(f"tensor {name[:80]!r} leaves its storage")
    if not count:
        return np.empty(sizes, numbers.dtype)
    steps = [stride * numbers.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(numbers[offset:], sizes, steps).copy()
