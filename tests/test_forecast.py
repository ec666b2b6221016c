"""Series from the command line: columns of CSV files, what is wrong with a cell, forecasts, a chart of them."""

import csv
import io
from types import SimpleNamespace

import numpy as np
import pytest
from support.cases import each
from support.commands import assert_refused
from support.numba import needs_numba

import nblstm
from nblstm.errors import ConfigError, TextError
from nblstm.tasks.series.table import read_columns

DATA = "day,price,sold\n1,1.5,10\n2,2.5,20\n\n3,3.5,30\n"


@each(
    "text, columns, names, numbers",
    [
        (DATA, [], ["day", "price", "sold"], [[1, 1.5, 10], [2, 2.5, 20], [3, 3.5, 30]]),
        (DATA, ["price"], ["price"], [[1.5], [2.5], [3.5]]), (DATA, ["3", "day"], ["sold", "day"], [[10, 1], [20, 2], [30, 3]]),
        ("1;2\r\n3;4\r\n", [], ["1", "2"], [[1, 2], [3, 4]]), ("1\t-2e3\n", ["2"], ["2"], [[-2000]]), ("5\n6", [], ["1"], [[5], [6]]),
        ('"a,b",c\n1,x\n2,y\n', ["a,b"], ["a,b"], [[1], [2]]), ("\ufeffa\n1\n", ["a"], ["a"], [[1]]),
    ],
    ids=lambda case: repr(case[0])[:40],
)  # fmt: skip
def test_columns_are_read(tmp_path, text, columns, names, numbers):
    """By name or number, with a header or not, whatever parts them; other columns may hold anything."""
    (tmp_path / "a.csv").write_text(text, encoding="utf-8", newline="")
    found = read_columns(tmp_path / "a.csv", columns)
    assert found[0] == names and found[1].tolist() == numbers and found[1].dtype == np.float64


@each(
    "text, columns, error, words",
    [
        ("a,b\n1,2\n3,n/a\n", [], TextError, "line 3, column b: 'n/a' is no finite number"),
        ("a,b\n1,2\n3,\n", ["b"], TextError, "line 3, column b: there is no number"), ("1\ninf\n", [], TextError, "line 2, column 1"),
        ("a,b\n1,2\n3\n", [], TextError, "line 3, column b"), ("", [], TextError, "no rows"), ("a,b\n", [], TextError, "no numbers"),
        (DATA, ["prize"], ConfigError, "column 'prize' is not in .*which has day, price, sold"), (DATA, ["4"], ConfigError, "column '4'"),
        (b"\xff\xfe1\n", [], TextError, "no CSV"), ("nan\nx\n", [], TextError, "line 2, column nan"),
    ],
    ids=lambda case: repr(case[0])[:40],
)  # fmt: skip
def test_a_bad_cell_is_named(tmp_path, text, columns, error, words):
    """By its line and column."""
    (tmp_path / "a.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(error, match=words):
        read_columns(tmp_path / "a.csv", columns)
    with pytest.raises(TextError, match="cannot be read"):
        read_columns(tmp_path / "none.csv")


@needs_numba
def test_forecast(command, tmp_path, monkeypatch):
    """Train, keep the model, draw; the same rows again from the model; rows are those of the library."""
    monkeypatch.chdir(tmp_path)
    values = np.stack([np.sin(np.arange(80) / 4), np.cos(np.arange(80) / 4)], axis=1)
    lines = "".join(f"{k},{a},{b}\n" for k, (a, b) in enumerate(values.tolist()))
    (tmp_path / "data.csv").write_text("k,a,b\n" + lines, encoding="utf-8")
    asked = ["forecast", "data.csv", "--column", "a", "--column", "b", "--steps", 5]
    done = command(*asked, "--hidden-size", 8, "--epochs", 1, "--seed", 1, "-o", "m.safetensors", "--plot", "a.svg")
    assert done.code == 0 and "learned 80 rows" in done.err
    head, *rows = csv.reader(io.StringIO(done.out))
    expected = nblstm.SeriesModel.load("m.safetensors").forecast(values, 5)
    assert head == ["a", "b"] and np.array(rows, float) == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert (tmp_path / "a.svg").read_text(encoding="utf-8").startswith("<svg")
    assert command(*asked, "-m", "m.safetensors").out == done.out
    assert command(*asked, "-m", "m.safetensors", "--plot").code == 0  # under a name of its own
    assert (tmp_path / "forecast.svg").read_bytes() == (tmp_path / "a.svg").read_bytes()
    for settings, rule in (
        (["-o", "data.csv"], "no model file"),
        (["-o", "no/m"], "folder no"),
        (["--plot", "no/a.svg"], "folder no"),
    ):
        refused = command(*asked, *settings)
        assert refused.code and rule in refused.err and "learned" not in refused.err  # before any work
    (tmp_path / "red.csv").write_text("x\x1b[31m,y\n" + "1,2\n" * 9, encoding="utf-8")
    red = ["forecast", "red.csv", "-m", "m.safetensors", "--steps", 1]
    assert command(*red).out.startswith("x\x1b[31m,y\n")  # a program reads the names as they are
    monkeypatch.setattr("nblstm.cli.shown.sys", SimpleNamespace(stdout=SimpleNamespace(isatty=lambda: True)))
    assert command(*red).out.startswith("x\\x1b[31m,y\n")  # a terminal would obey them
    assert_refused(command("forecast", "data.csv", "-m", "m.safetensors"), 2, "series must have 2 numbers")
    assert_refused(command(*asked, "-m", "m.safetensors", "--epochs", 3), 2, "leave out -o")
