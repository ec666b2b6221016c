"""TensorBoard: event files that its own reader reads back, and a line where the library is missing."""

import sys

import pytest
from support.commands import assert_refused

from nblstm.errors import ConfigError
from nblstm.reporting.tensorboard import EventFiles
from nblstm.training.report import Report

VALUES = {
    "epoch": 1.0,
    "progress": 0.5,
    "tokens": 9,
    "seconds": 1.0,
    "seconds_left": None,
    "tokens_per_second": 7.0,
    "lr": 0.5,
}


def a_report(step, loss, **changes):
    return Report(step, loss=loss, smooth_loss=loss, gradient_norm=2.0, **VALUES, **changes)


def test_events_are_read_back(tmp_path):
    """Every tenth update, each validation; what is not finite is left out."""
    pytest.importorskip("tensorboardX")
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    files = EventFiles(tmp_path / "runs")
    for step in range(1, 31):
        files.write(a_report(step, step / 4))
    files.write(
        a_report(30, float("nan"), validated=True, valid_loss=2.5, measures={"accuracy": 0.75, "other": float("inf")})
    )
    files.close()
    found = reader.EventAccumulator(str(tmp_path / "runs"))
    found.Reload()
    scalars = {name: [(event.step, event.value) for event in found.Scalars(name)] for name in found.Tags()["scalars"]}
    assert scalars["loss/train"] == [(1, 0.25), (10, 2.5), (20, 5.0), (30, 7.5)] and scalars["loss/valid"] == [
        (30, 2.5)
    ]
    assert scalars["measures/accuracy"] == [(30, 0.75)] and "measures/other" not in scalars
    assert [scalars[f"training/{name}"][0][1] for name in ("lr", "gradient_norm", "tokens_per_second")] == [
        0.5,
        2.0,
        7.0,
    ]


def test_a_missing_library_is_named(monkeypatch, command, tmp_path):
    """Before anything is read, with what to install."""
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ConfigError, match=r"pip install 'nblstm\[tensorboard\]'"):
        EventFiles(tmp_path)
    assert_refused(command("train", "none.txt", "--tensorboard", tmp_path), 2, "--tensorboard needs tensorboardX")
