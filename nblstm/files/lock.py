"""A lock on an output that vanishes with its process: the system holds it on a small file that says who has it."""

from __future__ import annotations

import contextlib
import datetime
import errno
import os
import re
import weakref
from typing import BinaryIO

from nblstm.errors import ModelFileError, TrainingError
from nblstm.files.atomic import Path

try:
    import fcntl
except ImportError:  # Windows; where there is neither, nothing is locked
    fcntl = None  # type: ignore[assignment]
try:
    import msvcrt
except ImportError:
    msvcrt = None  # type: ignore[assignment]


BUSY = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)  # another has the lock; any other error: the system cannot lock
FAR = 1 << 30  # the byte that Windows locks, far behind the text: a locked byte cannot be read
HOLDER = re.compile(rb"(\d{1,20}) (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)\n")  # what a lock's file says
_locks: weakref.WeakSet[Lock] = weakref.WeakSet()


class Lock:
    """Held from its making until `release`, or until its process ends, however it ends.

    effective: False where the system has no locks (some network drives): then others are not kept out.
    """

    def __init__(self, output: Path) -> None:
        """Take the lock for writing `output`. TrainingError if another has it, ModelFileError if it cannot be made."""
        folder, name = os.path.split(os.path.realpath(output))
        self.path = os.path.join(folder, f".{os.path.splitext(name)[0]}.lock")
        self.effective = True
        try:
            self._file = self._taken(output)
        except FileNotFoundError:
            raise ModelFileError(f"cannot write {output}: its folder does not exist; create it first.") from None
        except OSError as error:
            raise ModelFileError(f"cannot write {output}: {self.path}: {error.strerror or error}.") from None
        self._end = weakref.finalize(self, _release, self._file, self.path, os.getpid())
        _locks.add(self)

    def release(self) -> None:
        """Let others write; the lock's file goes. A second time does nothing."""
        self._end()

    def _taken(self, output: Path) -> BinaryIO:
        """Open and lock the lock file, and write its holder into it."""
        while True:
            file = open(self.path, "a+b", buffering=0, opener=_open)  # noqa: SIM115  open as long as the lock is held
            try:
                self.effective = _lock(file.fileno())
                if os.path.samestat(os.fstat(file.fileno()), os.stat(self.path)):
                    break
            except BlockingIOError:
                with file:
                    raise TrainingError(_occupied(output, file)) from None
            except FileNotFoundError:
                pass
            file.close()  # who held it has just released and deleted it: make it again
        if not _is_ours(file):
            with file:
                raise ModelFileError(
                    f"{self.path} exists and is no lock of a run; remove it, or choose another output."
                )
        try:
            file.truncate(0)
            file.write(f"{os.getpid()} {datetime.datetime.now():%Y-%m-%d %H:%M:%S}\n".encode())
        except BaseException:
            _release(file, self.path, os.getpid())
            raise
        return file


def _lock(descriptor: int) -> bool:
    """Lock an open file without waiting; return whether the system could. BlockingIOError if another has it."""
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        elif msvcrt is not None:
            os.lseek(descriptor, FAR, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            return False
    except OSError as error:
        if error.errno in BUSY:
            raise BlockingIOError from None
        return False
    return True


def _occupied(output: Path, file: BinaryIO) -> str:
    """Return the error that tells who holds the lock, as its file says."""
    file.seek(0)
    found = HOLDER.fullmatch(file.read(100))
    who = "process {}, since {}".format(*(part.decode() for part in found.groups())) if found else "another process"
    return f"{output} is being written by a training run ({who}); let it end, stop it, or choose another output."


def _open(path: str, flags: int) -> int:
    """Open a lock's file, but none behind a link: in a folder of many, another's link may lead to any file."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def _is_ours(file: BinaryIO) -> bool:
    """Tell whether a lock's file is new, or what a run has left; a file of the user's is not to be emptied."""
    file.seek(0)
    content = file.read(100)
    return not content or HOLDER.fullmatch(content) is not None


def _release(file: BinaryIO, path: str, owner: int) -> None:
    """Delete the lock's file while it is still locked, where the system lets us, then close it."""
    if os.getpid() != owner:  # a forked child: the lock is its parent's
        return
    with contextlib.suppress(OSError):
        os.unlink(path)
    with contextlib.suppress(OSError):
        file.close()
    if fcntl is None:  # Windows does not delete open files
        with contextlib.suppress(OSError):
            os.unlink(path)


def _forget() -> None:
    """Close, in a forked child, the parent's locks, so that they vanish with the parent alone."""
    for lock in _locks:
        with contextlib.suppress(OSError):
            lock._file.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
