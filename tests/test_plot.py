"""nblstm plot: metrics read with suspicion, axes with round ticks, curves where they belong, files that stay."""

import math
import os
from xml.etree import ElementTree

import numpy as np
import pytest
from test_bad_input import FAILURE, USAGE, assert_refused, snapshot

from nblstm.errors import ReportError
from nblstm.reporting.charts import (
    Axis,
    Curve,
    duration_ticks,
    line_chart,
    linear_ticks,
    log_ticks,
    number_text,
    standalone,
)  # fmt: skip
from nblstm.reporting.curves import cut_above, distinct_names, limit, loss_chart
from nblstm.reporting.durations import duration_text
from nblstm.reporting.metrics import AXES, Metrics, read_metrics, run_name

HEADER = "step,epoch,tokens,seconds,lr,loss,smooth_loss,gradient_norm,tokens_per_second,valid_loss\r\n"
ROWS = ["1,0.1,100,2.5,0.01,4.1,4.0,0.3,1000,\r\n", "5,0.5,500,3.5,0.01,3.1,3.0,0.3,1000,3.5\r\n"]
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def metrics(tmp_path):
    """Writes a metrics file of these lines, and returns its path."""

    def write(*lines, name="run.metrics.csv"):
        (tmp_path / name).write_bytes("".join(lines).encode())
        return tmp_path / name

    return write


# ---------------------------------------------------------------- reading


def test_a_metrics_file_is_read(metrics):
    """Numbers by column; a loss that was not measured is not part of its curve."""
    run = read_metrics(metrics(HEADER, *ROWS))
    assert run.name == "run"
    assert [values.tolist() for values in run.curve("tokens", "smooth_loss")] == [[100, 500], [4, 3]]
    assert [values.tolist() for values in run.curve("seconds", "valid_loss")] == [[3.5], [3.5]]


def test_a_row_that_is_being_written_is_not_read(metrics):
    """A running training may have written half a row, which may even look whole."""
    for half in ("9", "9,0.9,900,4.5,0.01,2.1,2.", ROWS[1].rstrip()):
        assert read_metrics(metrics(HEADER, *ROWS, half)).columns["step"].tolist() == [1, 5]


def test_what_training_writes_can_be_read(trained):
    """The columns are those that a run writes."""
    run = read_metrics(trained / "model.metrics.csv")
    assert run.columns["step"][-1] == 30 and np.isfinite(run.curve("epoch", "valid_loss")[1]).all()


@pytest.mark.parametrize(
    "lines, words",
    [
        ([], ["no column 'step'"]),
        (["a,b\n", "1,2\n"], ["no column 'step'", ".metrics.csv"]),
        ([HEADER.replace("smooth_loss", "x")], ["no column 'smooth_loss'"]),
        ([HEADER.strip()], ["no column"]),
        ([HEADER], ["no rows yet"]),
        ([HEADER, "1,2\r\n"], ["line 2", "10 values", "got 2"]),
        ([HEADER, ROWS[0], "x" + ROWS[1]], ["line 3", "step must be a finite number", "'x5'"]),
        ([HEADER, ROWS[1].replace("0.5,", "nan,")], ["epoch must be a finite number"]),
        ([HEADER, ROWS[1].replace("3.0", "three")], ["smooth_loss must be a number or empty", "'three'"]),
        ([HEADER, '"' + "x" * 200_000 + '"\n'], ["not a metrics file"]),
        (["\0\n"], ["run.metrics.csv"]),
    ],
)
def test_other_files_are_refused(metrics, lines, words):
    """The error names the file, the line and the rule."""
    with pytest.raises(ReportError) as error:
        read_metrics(metrics(*lines))
    assert not [word for word in ["run.metrics.csv", *words] if word not in str(error.value)], error.value


def test_files_that_are_no_text(metrics, tmp_path):
    """Binary files, folders, pipes, missing ones: nothing waits and nothing is guessed."""
    metrics(name="binary.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    os.mkfifo(tmp_path / "pipe.csv")
    for name, words in [
        ("binary.csv", "not text"),
        ("pipe.csv", "regular"),
        (".", "directory"),
        ("no", "No such file"),
    ]:
        with pytest.raises(ReportError, match=words):
            read_metrics(tmp_path / name)
    with pytest.raises(ReportError, match="null"):
        read_metrics("a\0b")


def test_runs_are_named_after_their_files():
    """Without the ending; letters that cannot be printed do not reach the chart."""
    assert (
        run_name("runs/a.metrics.csv") == "a"
        and run_name("b.csv") == "b"
        and run_name(".metrics.csv") == ".metrics.csv"
    )
    assert run_name("a\x1b\udce9.csv") == "a\ufffd\ufffd"
    runs = [Metrics(name, {}) for name in ("a", "b", "a")]
    assert distinct_names(runs) == ["a (1)", "b", "a (3)"]


# ---------------------------------------------------------------- axes


@pytest.mark.parametrize(
    "low, high, most, ticks",
    [
        (0, 10, 5, [0, 2, 4, 6, 8, 10]),
        (1.49, 4.2, 6, [1.5, 2, 2.5, 3, 3.5, 4]),
        (0.013, 0.029, 4, [0.015, 0.02, 0.025]),
        (-1, 1, 2, [-1, 0, 1]),
        (0, 123_456, 7, [0, 20_000, 40_000, 60_000, 80_000, 100_000, 120_000]),
    ],
)
def test_ticks_are_round(low, high, most, ticks):
    """1, 2 or 5 times a power of ten apart."""
    assert linear_ticks(low, high, most) == pytest.approx(ticks)


def test_ticks_of_durations_and_of_logarithms():
    """Half minutes rather than 50 seconds; powers of ten and what lies between them."""
    assert duration_ticks(7, 100, 4) == [30, 60, 90]
    assert duration_ticks(0, 50 * 3600, 6) == [0, 43200, 86400, 129600, 172800]
    assert log_ticks(1, 1000, 7) == [1, 3, 10, 30, 100, 300, 1000]
    assert log_ticks(1, 1e6, 4) == [10.0**k for k in range(7)]
    assert log_ticks(1.5, 4, 6) == pytest.approx([1.5, 2, 2.5, 3, 3.5, 4])  # one power of ten or none: as if linear
    assert [number_text(value) for value in (0.5, 12, 3000, 1.5e6)] == ["0.5", "12", "3k", "1.5M"]
    assert [duration_text(value) for value in (-1, 5, 59.6, 150, 5400)] == ["0:00", "0:05", "1:00", "2:30", "1:30:00"]


def test_values_are_placed_on_the_axis():
    """The ends at the ends, the middle, or on a logarithmic axis the geometric mean, in the middle."""
    assert Axis(2, 4, 10, 110, False, []).place(np.array([2, 3, 4])).tolist() == [10, 60, 110]
    assert Axis(1, 100, 400, 0, True, []).place(np.array([1, 10, 100])).tolist() == pytest.approx([400, 200, 0])


# ---------------------------------------------------------------- charts


def drawn(svg):
    """The polylines of a chart, as lists of points."""
    lines = ElementTree.fromstring(svg).iter(f"{SVG}polyline")
    return [[tuple(map(float, point.split(","))) for point in line.get("points").split()] for line in lines]


def texts(svg):
    """Everything that is written in a chart."""
    return [element.text for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_a_curve_is_drawn_where_it_belongs():
    """Rising values rise, on the axes' pixels; what is not finite is left out."""
    x, y = np.array([0.0, 1, 2, 3, 4]), np.array([1.0, 2, math.nan, 4, 5])
    (points,) = drawn(line_chart([Curve(x, y, 0)], [], "x", "y", width=360, height=200))
    assert [a for a, _ in points] == pytest.approx([58, 58 + 286 / 4, 58 + 286 * 3 / 4, 344], abs=0.1)
    rises = [before - after for (_, before), (_, after) in zip(points, points[1:])]
    assert rises[1] == pytest.approx(2 * rises[0], abs=0.2) and rises[0] > 0 and points[0][1] < 200 - 44


def test_logarithmic_axes_leave_out_what_they_cannot_show():
    """Values of 0 have no logarithm; a constant curve, a single point and none at all are no error."""
    x, y = np.array([0.0, 1, 10, 100]), np.array([1.0, 1, 1, 1])
    (points,) = drawn(line_chart([Curve(x, y, 0)], [], "x", "y", log_x=True, log_y=True))
    assert len(points) == 3 and points[1][0] - points[0][0] == pytest.approx(points[2][0] - points[1][0], abs=0.2)
    for curve in (Curve(x[:1], y[:1], 0), Curve(x[:0], y[:0], 0), Curve(x[:1], y[:1], 0, bold=True)):
        for log in (False, True):
            ElementTree.fromstring(line_chart([curve], [], "x", "y", log_x=log))


def test_long_curves_are_thinned_out():
    """A week of training is drawn in at most as many points as there are pixels, its ends among them."""
    x = np.arange(1e5)
    (points,) = drawn(line_chart([Curve(x, x, 0)], [], "x", "y", width=760))
    assert len(points) == 800 and points[0][0] == 58 and points[-1][0] == 744


@pytest.mark.parametrize("x", ["step", "epoch", "tokens", "seconds"])
def test_loss_charts_of_one_and_of_several_runs(metrics, x):
    """Every run has two curves and a name in the legend; names are escaped, long and many ones stay inside."""
    names = ["<b>&.metrics.csv", "b" * 200 + ".csv", *(f"run{k}.csv" for k in range(20))]
    runs = [read_metrics(metrics(HEADER, *ROWS, name=name)) for name in names]
    one, many = loss_chart(runs[:1], x), standalone(loss_chart(runs, x, log_x=True, log_y=True, title="a < b"))
    assert len(drawn(one)) == 2 and {"training", "validation"} <= set(texts(one))
    assert len(drawn(many)) == 2 * len(runs) and {"<b>&", "a < b", "run19"} <= set(texts(many))
    assert max(float(line.get("x2")) for line in ElementTree.fromstring(many).iter(f"{SVG}line")) <= 760
    assert "http" not in many.replace("http://www.w3.org/2000/svg", "")


def test_losses_far_above_the_others_are_cut_off():
    """The scale is that of most losses; a curve enters where it crosses the limit, and a spike leaves the chart."""
    x = np.arange(101.0)
    y = np.where(x < 2, 100.0, 3 - x / 50)
    y[50] = 40.0
    high = limit([Curve(x, y, 0)])
    assert 2.9 < high < 5
    cut = cut_above(Curve(x, y, 0), high)
    assert (
        cut.y.max() == high and 1 < cut.x[0] < 2 and len(cut.x) == 98 + 3
    )  # the crossings of the start and of the spike
    run = Metrics("run", {**dict.fromkeys(AXES, x), "smooth_loss": y, "valid_loss": np.full(101, np.nan)})
    ticks = [float(text) for text in texts(loss_chart([run])) if text and text.replace(".", "").isdigit()]
    assert max(tick for tick in ticks if tick not in x) < 5
    assert "100" in texts(loss_chart([run], whole=True))


def test_a_lone_run_says_its_best_and_last_values():
    """The least validation loss is marked and named, the ends of both curves tell their values, every dot on hover."""
    x = np.arange(1.0, 6)
    columns = {
        **dict.fromkeys(AXES, x),
        "smooth_loss": x[::-1] / 2 + 1,
        "valid_loss": np.array([3, 2.5, 2.25, 2.4, 2.7]),
    }
    chart = loss_chart([Metrics("run", columns)], "epoch")
    assert {"best 2.25", "2.7", "1.5"} <= set(texts(chart)) and 'class="best"' in chart
    assert {"3: 2.25", "5: 1.5"} <= {title.text for title in ElementTree.fromstring(chart).iter(f"{SVG}title")}


def test_hours_are_read_as_hours():
    """h:mm from an hour on, m:ss below it; the label says which."""
    for end, tick, label in ((7200.0, "1:30", "h:mm"), (300.0, "2:00", "m:ss")):
        x = np.linspace(0, end, 20)
        columns = {**dict.fromkeys(AXES, x), "smooth_loss": 2 + 0 * x, "valid_loss": np.full(20, np.nan)}
        written = texts(loss_chart([Metrics("run", columns)], "seconds"))
        assert tick in written and f"time spent training ({label})" in written


# ---------------------------------------------------------------- the command


def test_plot_on_the_command_line(command, folder):
    """An SVG beside the metrics; it is replaced, and said so; - is standard output."""
    outcome = command("plot", "model.metrics.csv")
    assert (outcome.code, outcome.out) == (0, "") and outcome.err.startswith("wrote loss.svg")
    ElementTree.parse(folder / "loss.svg")
    assert command("plot", "model.metrics.csv", "model.metrics.csv", "--log-y", "--x", "tokens").err.startswith(
        "replaced"
    )
    outcome = command("plot", "model.metrics.csv", "-o", "-", "--title", "T")
    assert outcome.code == 0 and "T" in texts(outcome.out) and outcome.err == ""


@pytest.mark.parametrize(
    "code, words, args",
    [
        (USAGE, ["METRICS.CSV"], []),
        (USAGE, ["not an SVG", "-o"], ["model.metrics.csv", "-o", "model.safetensors"]),
        (USAGE, ["not an SVG", "-o"], ["model.metrics.csv", "-o", "model.metrics.csv"]),
        (USAGE, ["regular file"], ["model.metrics.csv", "-o", "/dev/null"]),
        (USAGE, ["regular file"], ["model.metrics.csv", "-o", "."]),
        (USAGE, ["'steps'"], ["model.metrics.csv", "--x", "steps"]),
        (USAGE, ["no folder no"], ["model.metrics.csv", "-o", "no/such/loss.svg"]),
        (FAILURE, ["missing.csv", "No such file"], ["missing.csv"]),
        (FAILURE, ["model.safetensors", "not text"], ["model.safetensors"]),
        (FAILURE, ["corpus.txt", "no column"], ["model.metrics.csv", "corpus.txt"]),
    ],
)
def test_plot_refuses(command, folder, code, words, args):
    """One line, and every file stays."""
    before = snapshot(folder)
    assert_refused(command("plot", *args), code, *words)
    assert snapshot(folder) == before


def test_plotting_loads_no_numba(python, folder):
    """Drawing needs NumPy alone."""
    run = "try: main(['plot', 'model.metrics.csv'])\nexcept SystemExit: pass\n"
    code = f"import sys; from nblstm.cli.main import main\n{run}"
    assert python("-c", code + "assert 'numba' not in sys.modules").code == 0
