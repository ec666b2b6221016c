"""A disk that fails: the n-th write, fsync or rename of `nblstm.files.atomic` raises an error of the system."""

import io
import os
from unittest import mock

from nblstm.files import atomic


class Faults:
    """Within the block the call number `at` (from 1; 0: none) raises OSError(code). calls: the names of those made."""

    def __init__(self, at=0, code=0):
        self.at, self.code, self.calls = at, code, []
        self._patches = [
            mock.patch.object(atomic, "open", self._open, create=True),
            mock.patch.object(os, "fsync", self._failing("fsync", os.fsync)),
            mock.patch.object(os, "replace", self._failing("rename", os.replace)),
        ]

    def __enter__(self):
        for patch in self._patches:
            patch.start()
        return self

    def __exit__(self, *error):
        for patch in self._patches:
            patch.stop()

    def _failing(self, name, call):
        def maybe(*args):
            self.calls.append(name)
            if len(self.calls) == self.at:
                raise OSError(self.code, os.strerror(self.code))
            return call(*args)

        return maybe

    def _open(self, path, mode):
        faults = self

        class File(io.FileIO):
            def write(self, data):
                return faults._failing("write", super().write)(data)

        return io.BufferedWriter(File(path, mode.replace("b", "")), 256)
