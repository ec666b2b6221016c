"""Writing on a disk that fails: the old file or all of the new one, the path named, nothing left behind."""

import errno
import os
import shutil

import numpy as np
import pytest
from support.commands import SMALL
from support.faults import Faults

import nblstm
from nblstm.errors import ModelFileError
from nblstm.files import atomic

CODES = [errno.ENOSPC, errno.EIO, errno.EACCES]


def snapshot(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def a_series_model():
    """A small model of series, trained on NumPy's kernels or compiled ones."""
    return nblstm.SeriesModel(hidden_size=2, steps=1, bptt=8).fit(np.sin(np.arange(50.0)))


def kinds_of_writes(folder):
    """Name -> (the file, what writes it)."""
    model, checkpoint = folder / "model.safetensors", folder / "model.checkpoint.safetensors"
    loaded, series = nblstm.load(model), a_series_model()
    session = nblstm.tasks.session.Session.resume(model)
    return {
        "model": (model, session._save_model),
        "checkpoint": (checkpoint, session.save),
        "state": (folder / "s.state", lambda: loaded.save_state(folder / "s.state", loaded.state("Shall"))),
        "series": (folder / "series", lambda: series.save(folder / "series")),
    }


@pytest.mark.parametrize("code", CODES, ids=errno.errorcode.get)
def test_every_write_fsync_and_rename_that_fails(folder, code):
    """Each in turn ends in ModelFileError with the path; the file is the old one, or the new one if its folder fails."""
    for path, write in kinds_of_writes(folder).values():
        write()
        with Faults() as whole:
            write()
        assert whole.calls[-3:] == ["fsync", "rename", "fsync"] and "write" in whole.calls
        for at in range(1, len(whole.calls) + 1):
            path.write_bytes(old := path.read_bytes()[:9])  # begins as a file that may be replaced
            before = snapshot(folder)
            with Faults(at, code), pytest.raises(ModelFileError, match=path.name) as caught:
                write()
            assert os.strerror(code) in str(caught.value)
            assert set(snapshot(folder)) == set(before), "a temporary file is left"
            if at < len(whole.calls):
                assert path.read_bytes() == old
            else:
                assert path.read_bytes() != old and "power cut" in str(caught.value)


def test_a_folder_that_cannot_be_flushed_at_all_is_no_error(folder, monkeypatch):
    """Some file systems cannot flush a folder, and say EINVAL; some folders may be written to, but not opened."""
    (path, write), *_ = kinds_of_writes(folder).values()
    calls = Faults()
    with calls:
        write()
    with Faults(len(calls.calls), errno.EINVAL):
        write()

    def unreadable(*args):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(atomic.os, "open", unreadable)
    write()


@pytest.mark.parametrize("code", CODES, ids=errno.errorcode.get)
def test_training_on_a_disk_that_fails_once(command, folder, code):
    """Whichever call fails, a run that ends with 0 has saved all of its files, and one that has not says so."""
    args = ["train", "corpus.txt", "--overwrite", *SMALL, "--steps", 2, "-q", "--threads", 1]
    shutil.copy("model.safetensors", "old.safetensors")
    with Faults() as whole:
        assert command(*args).code == 0
    new = (folder / "model.safetensors").read_bytes()
    for at in range(1, len(whole.calls) + 1):
        shutil.copy("old.safetensors", "model.safetensors")
        with Faults(at, code):
            outcome = command(*args)
        if outcome.code == 0:
            assert (folder / "model.safetensors").read_bytes() == new
        else:
            assert outcome.code == 1 and outcome.err.startswith("Error: ") and ".safetensors" in outcome.err
        assert not list(folder.glob(".*.tmp"))
