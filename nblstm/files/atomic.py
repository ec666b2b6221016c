"""Files that are replaced in one step: whatever happens, a name holds either the old content or all of the new."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from typing import BinaryIO

from nblstm.errors import ModelFileError

Path = str | os.PathLike[str]
NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)  # what systems say that cannot flush a folder


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a new file that takes `path`'s place at the end of the block, unless the block raises.

    The new file is on the disk before it gets its name, and the name before the block is left. A symlink is followed,
    an existing file's permissions are kept. ModelFileError if the file cannot be written, or has its name but may lose
    it in a power cut, because its folder cannot be flushed.
    """
    try:
        target, mode = _target(path)
        folder = os.path.dirname(target)
        temporary = f"{_temporaries(target)}{os.urandom(8).hex()}.tmp"
        try:
            with open(temporary, "xb") as file:
                if mode is not None:
                    os.chmod(temporary, mode)
                yield file
                file.flush()
                os.fsync(file.fileno())
            with _opened(folder) as descriptor:  # before the name changes hands: it may fail
                os.replace(temporary, target)
                _sync(descriptor, path)
        except BaseException:  # KeyboardInterrupt too
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    except FileNotFoundError:
        raise ModelFileError(f"cannot write {path}: its folder does not exist; create it first.") from None
    except OSError as error:
        raise ModelFileError(f"cannot write {path}: {error.strerror or error}.") from None


def sweep(path: Path) -> None:
    """Delete the temporary files of killed writers of `path`. The caller knows that nobody writes it now."""
    folder, start = os.path.split(_temporaries(os.path.realpath(path)))
    for name in os.listdir(folder):
        if name.startswith(start) and name.endswith(".tmp"):
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(folder, name))


def _temporaries(target: str) -> str:
    """Return the start of the paths of a target's temporary files; a digest of its name, so that none is too long."""
    folder, name = os.path.split(target)
    digest = hashlib.blake2b(os.fsencode(name), digest_size=6).hexdigest()
    return os.path.join(folder, f".nblstm-{digest}-")


def _target(path: Path) -> tuple[str, int | None]:
    """Return the file to replace, symlinks resolved, and its permission bits (None if it does not exist yet)."""
    try:
        target = os.path.realpath(path)
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        if os.fspath(path).endswith(os.sep):
            raise ModelFileError(f"cannot write {path}: it names a folder; add a file name.") from None
        return target, None
    except ValueError as error:  # a NUL in the name
        raise ModelFileError(f"{path!r} cannot be a file's name: {error}.") from None
    if stat.S_ISDIR(mode):
        raise ModelFileError(f"cannot write {path}: it is a folder; add a file name.")
    if not stat.S_ISREG(mode):
        raise ModelFileError(f"cannot write {path}: it is a pipe or a device; name a regular file.")
    if not os.access(target, os.W_OK):
        raise ModelFileError(f"cannot write {path}: it is read-only; name another file or change its permissions.")
    return target, stat.S_IMODE(mode)


@contextlib.contextmanager
def _opened(folder: str) -> Iterator[int | None]:
    """Open a descriptor of the folder; None where that is not allowed: on Windows, or without permission to read it."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _sync(descriptor: int | None, path: Path) -> None:
    """Put the folder's new entry on the disk, where the system can. ModelFileError if it fails to."""
    try:
        if descriptor is not None:
            os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NO_SYNC:
            raise ModelFileError(
                f"{path} is written, but its folder cannot be flushed to the disk ({error.strerror or error}): a power "
                "cut may undo it; check the disk."
            ) from None
