"""The container: exact bytes, every rule with its own error, and a write that happens wholly or not at all."""

import json
import os
import re
import stat

import numpy as np
import pytest
from support.cases import each

from nblstm.errors import ModelFileError
from nblstm.files import safetensors

DTYPES = ["bool", "u1", "i1", "u2", "i2", "f2", "u4", "i4", "f4", "u8", "i8", "f8"]


def container(header, data=b"", length=None):
    """A file's bytes from a header (a dict, or the JSON text itself) and the data, with no checks."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def tensors_of_every_dtype():
    rng = np.random.default_rng(0)
    return {dtype: (rng.random((2, 3)) * 5).astype(dtype) for dtype in DTYPES}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.nbl"


# ------------------------------------------------------------------------------------------------ the format


def test_the_bytes_of_a_small_file(path):
    """A file is the header's length, the header padded to 8 bytes, and the little-endian data."""
    safetensors.write(path, {"w": np.array([[1, 2]], "f4"), "b": np.array([-1], "i8")}, {"k": "v"})
    header = (
        b'{"__metadata__":{"k":"v"},"b":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},'
        b'"w":{"dtype":"F32","shape":[1,2],"data_offsets":[8,16]}}'
    )
    header += b" " * (-len(header) % 8)
    data = b"\xff" * 8 + b"\x00\x00\x80\x3f" + b"\x00\x00\x00\x40"
    assert path.read_bytes() == len(header).to_bytes(8, "little") + header + data


def test_what_is_written_is_read(path):
    """Names, dtypes, shapes, values and metadata survive a round trip, in writable arrays that own their memory."""
    tensors = tensors_of_every_dtype()
    metadata = {"text": 'a "quoted"\nline', "é": "名"}
    safetensors.write(path, tensors, metadata)
    read, read_metadata = safetensors.read(path)
    assert read_metadata == metadata
    assert set(read) == set(tensors)
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype and read[name].flags.writeable and read[name].flags.c_contiguous
        np.testing.assert_array_equal(read[name], tensor)


@each("shape", [(), (0,), (3, 0, 2), (1, 1, 1, 1)])
def test_scalars_and_empty_tensors(path, shape):
    """A tensor may have no dimension, or a dimension of size 0."""
    safetensors.write(path, {"a": np.ones(shape), "b": np.zeros(2, "f4")}, {})
    read, _ = safetensors.read(path)
    assert read["a"].shape == shape and (read["a"] == 1).all()


def test_any_memory_layout_is_stored_in_c_order(path):
    """A transposed, a strided and a big-endian array come back with the same values."""
    base = np.arange(12, dtype="f4").reshape(3, 4)
    tensors = {"transposed": base.T, "strided": base[::2, ::-1], "big": base.astype(">f4")}
    safetensors.write(path, tensors, {})
    read, _ = safetensors.read(path)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(read[name], tensor)


def test_no_tensors_at_all(path):
    """An empty container is a valid one."""
    safetensors.write(path, {}, {})
    assert safetensors.read(path) == ({}, {})


def test_equal_content_gives_equal_bytes(path, tmp_path):
    """The order in which tensors are given does not show in the file."""
    tensors = tensors_of_every_dtype()
    safetensors.write(path, tensors, {})
    safetensors.write(tmp_path / "other", dict(reversed(tensors.items())), {})
    assert path.read_bytes() == (tmp_path / "other").read_bytes()


def test_the_header_alone(path):
    """read_header tells names, dtypes, shapes and metadata."""
    safetensors.write(path, {"w": np.zeros((2, 3), "f4")}, {"k": "v"})
    header = safetensors.read_header(path)
    assert header.metadata == {"k": "v"}
    assert header.tensors["w"].shape == (2, 3) and header.tensors["w"].dtype == np.float32


def test_the_reference_implementation_agrees(path, tmp_path):
    """The safetensors package reads our file, we read its, and both write the same bytes."""
    reference = pytest.importorskip("safetensors.numpy")
    tensors = tensors_of_every_dtype()
    safetensors.write(path, tensors, {"k": "v"})
    for name, tensor in reference.load_file(path).items():
        np.testing.assert_array_equal(tensor, tensors[name])
    reference.save_file(tensors, tmp_path / "theirs", {"k": "v"})
    read, metadata = safetensors.read(tmp_path / "theirs")
    assert metadata == {"k": "v"}
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(read[name], tensor)
    small = {"b": np.ones(3, "f4"), "a": np.ones((2, 2), "f4")}
    safetensors.write(path, small, {"k": "v"})
    assert path.read_bytes() == reference.save(small, {"k": "v"})


# --------------------------------------------------------------------------------------- what a file may not say

TWO = {"a": entry(), "b": entry(offsets=(4, 8))}
BROKEN = {
    "empty": (b"", "is empty"),
    "too short": (b"\x01\x00\x00", "it has 3 bytes, fewer than the 8"),
    "header past the end": (container({}, length=3), "its header would have 3 bytes, but only 2 follow"),
    "huge header": (container({}, length=2**63), "more than 100,000,000"),
    "pickle": (b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00}", "damaged or not a model file"),
    "not an object": (container(b"[]"), "does not start with '{'"),
    "leading space": (container(b" {}"), "does not start with '{'"),
    "bad json": (container(b'{"a": '), "its header is not JSON in UTF-8"),
    "two values": (container(b"{}{}"), "its header is not JSON in UTF-8"),
    "bad utf-8": (container(b'{"\xff": 1}'), "its header is not JSON in UTF-8"),
    "deep brackets": (container(b'{"a":' + b"[" * 100_000), "its header is not JSON in UTF-8"),
    "long number": (container(b'{"a":' + b"9" * 10_000 + b"}"), "its header is not JSON in UTF-8"),
    "twice": (container(b'{"a": 1, "a": 2}'), "has the name 'a' twice"),
    "twice inside": (container(b'{"__metadata__": {"k": "1", "k": "2"}}'), "has the name 'k' twice"),
    "entry is a list": (container({"a": [1]}), "tensor 'a' must have dtype, shape and data_offsets"),
    "no dtype": (container({"a": {"shape": [], "data_offsets": [0, 0]}}), "must have dtype, shape and data_offsets"),
    "unknown dtype": (container({"a": entry("Q4")}, bytes(4)), "one of the dtypes BOOL, .*F64, got 'Q4'"),
    "dtype is a list": (container({"a": entry(["F32"])}, bytes(4)), "one of the dtypes"),
    "negative size": (container({"a": entry(shape=(-1, -1))}, bytes(4)), "the shape of tensor 'a' must be a list"),
    "fraction": (container({"a": entry(shape=(1.0,))}, bytes(4)), "the shape of tensor 'a' must be a list"),
    "true": (container({"a": entry(shape=(True,))}, bytes(4)), "the shape of tensor 'a' must be a list"),
    "33 dimensions": (container({"a": entry(shape=(1,) * 33)}, bytes(4)), "at most 32 sizes"),
    "huge and empty": (container({"a": entry(shape=(0, 2**62), offsets=(0, 0))}), "too large for any memory"),
    "three offsets": (container({"a": entry(offsets=(0, 4, 4))}, bytes(4)), r"must be \[begin, end\]"),
    "backwards": (container({"a": entry(offsets=(4, 0))}, bytes(4)), r"must be \[begin, end\]"),
    "negative offset": (container({"a": entry(offsets=(-4, 0))}, bytes(4)), r"must be \[begin, end\]"),
    "unfit shape": (container({"a": entry(shape=(2,))}, bytes(4)), "needs 8 bytes for its shape, its offsets span 4"),
    "huge": (container({"a": entry(shape=(2**50,))}, bytes(4)), "bytes for its shape, its offsets span 4"),
    "overlap": (container({**TWO, "c": entry(offsets=(6, 10))}, bytes(10)), "tensor 'c' overlaps"),
    "same place": (container({"a": entry(), "b": entry()}, bytes(4)), "tensor 'b' overlaps"),
    "hole": (container({**TWO, "c": entry(offsets=(9, 13))}, bytes(13)), "1 bytes before tensor 'c' belong to no"),
    "late start": (container({"a": entry(offsets=(4, 8))}, bytes(8)), "4 bytes before tensor 'a' belong to no"),
    "cut short": (container(TWO, bytes(7)), "cut short, its tensors need 8 bytes and 7 are there"),
    "trailing": (container(TWO, bytes(9)), "1 bytes at its end belong to no tensor"),
    "no such bool": (container({"a": entry("BOOL", (4,))}, b"\0\1\2\0"), "bytes other than 0 and 1"),
    "metadata is a list": (container({"__metadata__": []}), "__metadata__ must be an object, got list"),
    "metadata of numbers": (container({"__metadata__": {"k": 1}}), "__metadata__ must hold strings, got int for 'k'"),
    "metadata of null": (container({"__metadata__": {"k": None}}), "__metadata__ must hold strings, got null"),
}


@each("content, message", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_refused_with_the_rule_it_breaks(path, content, message):
    """Each rule of the format has its own one-line error that names the file."""
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=message) as caught:
        safetensors.read(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_every_cut_and_every_flipped_byte_is_refused_or_harmless(path):
    """No cut is accepted, and no damage to the header raises anything but ModelFileError."""
    safetensors.write(path, {"w": np.ones(2, "f4")}, {"k": "v"})
    content = path.read_bytes()
    for size in range(len(content)):
        path.write_bytes(content[:size])
        with pytest.raises(ModelFileError):
            safetensors.read(path)
    for position in range(len(content)):
        path.write_bytes(content[:position] + bytes([content[position] ^ 0x15]) + content[position + 1 :])
        try:
            safetensors.read(path)
        except ModelFileError:
            pass


def test_a_missing_file(path):
    """The error says that the file is not there."""
    with pytest.raises(ModelFileError, match=re.escape(f"{path} does not exist.")):
        safetensors.read(path)


def test_a_folder(tmp_path):
    """A folder is no model file, in either direction."""
    with pytest.raises(ModelFileError, match="is a folder"):
        safetensors.read(tmp_path)
    with pytest.raises(ModelFileError, match="is a folder"):
        safetensors.write(tmp_path, {}, {})


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_a_pipe_is_neither_waited_for_nor_replaced(path):
    """Reading a FIFO does not block; writing to one does not put a file in its place."""
    os.mkfifo(path)
    with pytest.raises(ModelFileError, match="is a pipe or a device"):
        safetensors.read(path)
    with pytest.raises(ModelFileError, match="is a pipe or a device"):
        safetensors.write(path, {}, {})
    assert stat.S_ISFIFO(os.stat(path).st_mode)


# ---------------------------------------------------------------------------------------------------- writing


@pytest.mark.parametrize("name, tensor", [("__metadata__", np.ones(1)), ("z", np.ones(1, "c8")), ("o", np.array([{}]))])
def test_a_tensor_that_the_format_cannot_hold(path, name, tensor):
    """The error names the tensor, and no file appears."""
    with pytest.raises(ModelFileError, match=f"'{name}' of dtype"):
        safetensors.write(path, {name: tensor}, {})
    assert not path.exists()


def test_metadata_must_be_strings(path):
    """A number in the metadata is refused before anything is written."""
    with pytest.raises(ModelFileError, match="must map strings to strings"):
        safetensors.write(path, {}, {"k": 1})
    assert not path.exists()


@each("function", ["fsync", "replace"])
@each("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_write_harms_nothing(path, monkeypatch, function, error):
    """When the disk is full or the user interrupts, the old file stays and no temporary file is left."""
    safetensors.write(path, {"w": np.zeros(3)}, {})
    before = path.read_bytes()

    def fail(*_):
        raise error

    monkeypatch.setattr(os, function, fail)
    expected = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else ModelFileError
    with pytest.raises(expected) as caught:
        safetensors.write(path, {"w": np.ones(3)}, {})
    if expected is ModelFileError:
        assert str(caught.value) == f"cannot write {path}: No space left on device."
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_the_data_is_on_the_disk_before_it_gets_its_name(path, monkeypatch):
    """fsync of the file, then the rename, then fsync of the folder: a power cut leaves a whole file."""
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(
        os, "fsync", lambda fd: (calls.append("folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file"), fsync(fd))
    )
    monkeypatch.setattr(os, "replace", lambda old, new: (calls.append("replace"), replace(old, new)))
    safetensors.write(path, {}, {})
    assert calls == ["file", "replace", "folder"] or os.name == "nt"


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_permissions(path):
    """A new file obeys the umask, an existing one keeps its bits."""
    old = os.umask(0o027)
    try:
        safetensors.write(path, {}, {})
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        path.chmod(0o604)
        safetensors.write(path, {}, {"k": "v"})
        assert stat.S_IMODE(path.stat().st_mode) == 0o604
    finally:
        os.umask(old)


@pytest.mark.skipif(os.name == "nt", reason="symlinks")
@pytest.mark.parametrize("exists", [True, False])
def test_a_symlink_is_written_through(path, tmp_path, exists):
    """The link stays a link; its target, in another folder, has the content."""
    (tmp_path / "elsewhere").mkdir()
    target = tmp_path / "elsewhere" / "target"
    if exists:
        target.touch()
    path.symlink_to(target)
    safetensors.write(path, {}, {"k": "v"})
    assert path.is_symlink() and not target.is_symlink()
    assert safetensors.read(target)[1] == {"k": "v"}


def test_no_such_folder(tmp_path):
    """The error says what to do; a trailing slash is a folder too."""
    with pytest.raises(ModelFileError, match="its folder does not exist; create it first"):
        safetensors.write(tmp_path / "no" / "model.nbl", {}, {})
    with pytest.raises(ModelFileError, match="it names a folder"):
        safetensors.write(f"{tmp_path}/no/", {}, {})


def test_a_file_for_a_folder(tmp_path):
    """Other errors of the system are passed on in one sentence."""
    (tmp_path / "file").touch()
    with pytest.raises(ModelFileError, match="cannot write .*: Not a directory."):
        safetensors.write(tmp_path / "file" / "model.nbl", {}, {})


def test_a_read_only_file_is_left_alone(path, monkeypatch):
    """Replacing needs only the folder's permission; the file's own is respected all the same."""
    path.touch()
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everything
    with pytest.raises(ModelFileError, match="it is read-only"):
        safetensors.write(path, {}, {})
    assert path.read_bytes() == b""
