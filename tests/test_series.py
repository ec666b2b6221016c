"""Series of numbers: the squared error, its gradient through every cell, stretches, and models that forecast."""

import dataclasses
import json
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from support.cases import each
from support.compare import close
from support.gradients import check_gradient
from support.kernels import offsets_of
from support.numba import cpu

import nblstm
from nblstm.arrays import real_numbers
from nblstm.errors import ConfigError, ModelFileError
from nblstm.files import safetensors
from nblstm.kernels import reference
from nblstm.nn.parameters import initial, views
from nblstm.tasks.series.batches import CONTEXT_STEPS, Table, Training, validation
from nblstm.tasks.series.config import SeriesConfig
from nblstm.tasks.series.model import _pairs
from nblstm.tasks.series.network import series_network as make_series_network
from nblstm.text.batches import Chunk

LENGTHS = [4, 3, 3, 1]
TOLERANCE = {np.float32: 2e-5, np.float64: 1e-12}
SMALL = {"hidden_size": 8, "steps": 40, "batch_size": 4, "bptt": 16, "threads": 1}
KINDS = [
    {"cell": "lstm"}, {"cell": "gru", "residual": True, "num_layers": 3}, {"cell": "rnn", "learned_state": True},
    {"cell": "rnn", "nonlinearity": "relu", "output_dropout": 0.3}, {"cell": "update-lstm", "head": "cell"},
    {"peepholes": True, "proj_size": 3}, {"layer_norm": True, "variational_dropout": 0.2, "input_dropout": 0.2},
    {"bidirectional": True, "predicts": "targets", "weight_dropout": 0.3}, {"num_inputs": 5, "residual": True},
]  # fmt: skip


def waves(steps, seed=0, noise=0.0):
    """Two channels (steps, 2): a sine, and its product with a slower one, on different levels."""
    t = np.arange(steps)
    clean = np.stack([50 + 9 * np.sin(t / 4), 0.1 * np.sin(t / 4) * np.sin(t / 6.4)], axis=1)
    return clean + noise * np.random.default_rng(seed).normal(0, 1, clean.shape) * [9, 0.1]


@pytest.fixture(scope="module")
def model():
    """A small model of the waves."""
    return nblstm.SeriesModel(**SMALL).fit(waves(400))


# ---------------------------------------------------------------- the loss


@each("dtype", [np.float32, np.float64])
@each("shape", [(1, 1), (5, 3), (70, 2)])
def test_squared_error_equals_the_specification(shape, dtype):
    """Losses and gradient, in the arrays' type, also where the gradient takes the predictions' place."""
    r, results = np.random.default_rng(1), []
    y, targets, scales = (r.normal(0, 1, size).astype(dtype) for size in (shape, shape, shape[:1]))
    for kernels in (reference, cpu):
        losses, dy = np.full(shape[0], np.nan, dtype), y.copy()
        kernels.squared_error(losses, dy, dy, targets, scales, 2)
        results.append((losses, dy))
    for expected, actual in zip(*results):
        assert actual.dtype == expected.dtype == dtype
        close(actual, expected, TOLERANCE[dtype])


@pytest.mark.parametrize("kernels", [reference, cpu])
def test_squared_error_is_pytorchs(kernels):
    """torch.nn.MSELoss of every row, and the gradient of their weighted sum."""
    torch = pytest.importorskip("torch")
    r = np.random.default_rng(2)
    y, targets, scales = r.normal(0, 1, (6, 3)), r.normal(0, 1, (6, 3)), r.random(6)
    losses, dy, predicted = np.empty(6), np.empty((6, 3)), torch.from_numpy(y.copy()).requires_grad_()
    kernels.squared_error(losses, dy, y, targets, scales, 2)
    expected = torch.nn.functional.mse_loss(predicted, torch.from_numpy(targets), reduction="none").mean(axis=1)
    (expected * torch.from_numpy(scales)).sum().backward()
    close(losses, expected.detach().numpy(), 1e-14)
    close(dy, predicted.grad.numpy(), 1e-14)


def series_network(backend, **options):
    """A float64 network of the options, twice as far from 0 as it starts."""
    settings = {"num_outputs": 3, "num_inputs": 3, "hidden_size": 5, "num_layers": 2, "dtype": "float64", **options}
    if settings["num_inputs"] != 3:
        settings["predicts"] = "targets"
    config = SeriesConfig(**settings)
    return make_series_network(config, 2 * initial(config, 3), backend, 1)


def series_chunk(config, fresh=True):
    """Texts of several lengths with weights, some of them 0."""
    r, M = np.random.default_rng(4), sum(LENGTHS)
    x, y = r.normal(0, 1, (M, config.num_inputs)), r.normal(0, 1, (M, config.num_outputs))
    return Chunk(x, y, offsets_of(LENGTHS), fresh, r.random(M) * (r.random(M) > 0.2))


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
@each("options", KINDS)
def test_gradient_of_every_kind_of_network(backend, options):
    """Every parameter against finite differences in float64, for every cell and the stack's options."""
    network = series_network(backend, **options)
    chunk, (gradient, scratch) = series_chunk(network.config), np.empty((2, network.config.num_parameters))

    def loss(into=scratch):
        return network.loss_and_gradient(into, chunk, network.initial_state(len(LENGTHS)), seed=1, step=2)[0]

    loss(gradient)
    grads = views(gradient, network.config)
    assert "embedding.weight" not in grads
    for name in network.config.shapes:
        if grads[name].size:
            check_gradient(name, loss, network.weights[name], grads[name], entries=0)


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
def test_predictions_are_pytorchs(cell):
    """torch.nn.LSTM, GRU and RNN under a torch.nn.Linear, on a rectangle of numbers; both backends."""
    torch = pytest.importorskip("torch")
    network = series_network("numpy", cell=cell.lower())
    x = np.random.default_rng(5).normal(0, 1, (6, 2, 3))
    rnn, head = getattr(torch.nn, cell)(3, 5, 2, dtype=torch.float64), torch.nn.Linear(5, 3, dtype=torch.float64)
    load = lambda prefix: {
        name.removeprefix(prefix): torch.from_numpy(w) for name, w in network.weights.items() if name.startswith(prefix)
    }
    rnn.load_state_dict(load("rnn."))
    head.load_state_dict(load("head."))
    expected = head(rnn(torch.from_numpy(x))[0]).detach().numpy()
    chunk = Chunk(x.reshape(-1, 3), x.reshape(-1, 3), np.arange(7) * 2, True)
    for backend in ("numpy", "cpu"):
        other = make_series_network(network.config, network.parameters, backend, 2)
        found, _ = other.outputs(chunk, other.initial_state(2))
        close(found.reshape(expected.shape), expected, 1e-13)


# ---------------------------------------------------------------- stretches


def a_table():
    """Three series whose every row is its own number."""
    parts = [np.arange(first, last, dtype=np.float32)[:, None] for first, last in ((0, 100), (100, 103), (103, 400))]
    return Table.of(parts, [part + 0.5 for part in parts])


def test_every_pass_reads_every_step_once():
    """Whatever the cuts, a step comes as often as any other, with its own target, and never after a series' end."""
    table, ends = a_table(), np.array([90, 3, 200])
    source, seen = Training(table, ends, batch_size=4, bptt=8, seed=1), []
    for chunk in source.epoch(0):
        np.testing.assert_array_equal(chunk.targets, chunk.tokens + 0.5)
        seen += chunk.tokens.ravel().tolist()
        rows = [chunk.tokens[a:b, 0] for a, b in zip(chunk.offsets, chunk.offsets[1:])]
        for before, after in zip(rows, rows[1:]):
            np.testing.assert_array_equal(after, before[: len(after)] + 1)
    numbers, counts = np.unique(seen, return_counts=True)
    np.testing.assert_array_equal(numbers, [*range(90), *range(100, 103), *range(103, 303)])
    assert len(set(counts)) == 1 and len(source.epoch(0)) >= 50


def test_a_pass_over_a_long_series_is_one_batch():
    """Wherever it is cut, batch_size stretches or one less lie side by side, and none is left for another batch."""
    rows = np.zeros((5000, 1), np.float32)
    source = Training(Table.of([rows], [rows]), np.array([5000]), batch_size=8, bptt=16, seed=1)
    for number in range(20):
        texts = [chunk.num_texts for chunk in source.epoch(number) if chunk.fresh]
        assert set(texts) <= {7, 8}


def test_epochs_are_a_function_of_seed_and_number():
    """The same cuts again, other cuts in the next epoch and with another seed."""
    read = lambda seed, number: np.concatenate(
        [chunk.tokens for chunk in Training(a_table(), np.array([90, 3, 200]), 4, 8, seed).epoch(number)]
    ).tolist()
    assert read(1, 0) == read(1, 0) and read(1, 0) != read(1, 1) and read(1, 0) != read(2, 0)


def test_validation_counts_the_held_out_steps_once():
    """Those from `ends` on, each read behind up to CONTEXT_STEPS steps; a series without any is left out."""
    ends, counted, read = np.array([90, 3, 290]), [], []
    for chunk in validation(a_table(), ends):
        counted += chunk.tokens[chunk.weights > 0].ravel().tolist()
        read += chunk.tokens.ravel().tolist()
    assert sorted(counted) == [*range(90, 100), *range(393, 400)]
    assert sorted(read) == [*range(100), *range(393 - CONTEXT_STEPS, 400)]
    assert validation(a_table(), np.array([100, 3, 297])) == ()


# ---------------------------------------------------------------- models


def test_it_forecasts_better_than_the_last_value():
    """A noisy wave, 40 steps ahead: less than half the error of repeating the last value, in both channels."""
    series = waves(900, noise=0.05)
    model = nblstm.SeriesModel(hidden_size=24, steps=250, lr=0.01, batch_size=8, bptt=32).fit(series[:860])
    error = lambda found: np.sqrt(((found - series[860:]) ** 2).mean(axis=0))
    assert (error(model.forecast(series[:860], 40)) < 0.5 * error(series[859])).all()


def test_a_forecast_feeds_on_itself(model):
    """Forecasting n values is n times reading everything so far and predicting one more."""
    series = waves(60)
    found = model.forecast(series, 4)
    for row in found:
        np.testing.assert_allclose(row, model.predict(series)[-1], rtol=1e-4, atol=1e-4)
        series = np.concatenate([series, row[None]])
    assert found.shape == (4, 2) and found.dtype == np.float64


def test_backends_and_lists_predict_the_same(model):
    """NumPy and the compiled kernels; a list of series, longer than a chunk and of one step, as each alone."""
    several = [waves(600), waves(1), waves(40, seed=2, noise=0.1)]
    for found, series in zip(model.predict(several), several):
        np.testing.assert_array_equal(found, model.predict(series))
        np.testing.assert_allclose(model.predict(series, backend="cpu"), found, rtol=1e-4, atol=1e-3)


def test_targets_beside_the_series():
    """A sum of the last two values, learned by a bidirectional GRU in two layers from two series, as (T,) arrays."""
    r = np.random.default_rng(6)
    series = [r.normal(3, 1, 300), r.normal(3, 1, 200)]
    targets = [x + np.concatenate([[0], x[:-1]]) for x in series]
    model = nblstm.SeriesModel(
        cell="gru", bidirectional=True, num_layers=2, hidden_size=12, steps=120, lr=0.02, bptt=16
    ).fit(series, targets)
    found = model.predict(series[0])
    assert found.shape == (300, 1) and model.training["valid_loss"] < 0.1
    assert np.sqrt(((found[:, 0] - targets[0]) ** 2).mean()) < 0.3 * targets[0].std()
    with pytest.raises(ConfigError, match="cannot forecast"):
        model.forecast(series[0], 3)


def test_the_same_call_gives_the_same_model(model):
    """To the last bit; and another seed another one."""
    again = nblstm.SeriesModel(**SMALL).fit(waves(400))
    np.testing.assert_array_equal(again.parameters, model.parameters)
    assert np.any(nblstm.SeriesModel(**SMALL, seed=1).fit(waves(400)).parameters != model.parameters)


def test_numbers_of_any_level_are_standardised():
    """Around a billion, or constant: losses and predictions are finite and on the series' level."""
    series = np.stack([1e9 + waves(200)[:, 0], np.full(200, 7.0), np.zeros(200)], axis=1)
    found = nblstm.SeriesModel(**SMALL).fit(series).predict(series)
    assert np.abs(found[:, 0] - 1e9).max() < 100 and np.abs(found[:, 1:] - [7, 0]).max() < 3


def test_training_reports_and_stops():
    """A report after every update; stop() ends it early, and what is there is returned."""
    reports = []
    model = nblstm.SeriesModel(**SMALL).fit(waves(100), on_report=reports.append, stop=lambda: len(reports) >= 5)
    assert len(reports) == 5 and model.training["steps"] == 5 and np.isfinite(model.parameters).all()


@each(
    "call, message",
    [
        (lambda: nblstm.SeriesModel().fit([[1.0], [np.nan]]), "finite numbers"),
        (lambda: nblstm.SeriesModel().fit([]), "shape"),
        (lambda: nblstm.SeriesModel().fit("text"), "must be real numbers"),
        (lambda: nblstm.SeriesModel().fit(np.ones(9) * 1j), "must be real numbers"),
        (lambda: nblstm.SeriesModel().fit([np.ones(5), np.ones(1)]), "at least 2 steps"),
        (lambda: nblstm.SeriesModel().fit([np.ones((5, 2)), np.ones((5, 3))]), "same number of values"),
        (lambda: nblstm.SeriesModel().fit(np.ones((5, 2)), np.ones(4)), "as many steps"),
        (lambda: nblstm.SeriesModel().fit(np.ones((2, 2, 2))), "shape"),
        (lambda: nblstm.SeriesModel().fit(np.array([1e200, -1e200, 1e200])), "squares are finite"),
        (lambda: nblstm.SeriesModel(hiden_size=3).fit(np.ones(9)), "no setting 'hiden_size'"),
        (lambda: nblstm.SeriesModel(tie=True).fit(np.ones(9)), "no setting 'tie'"),
        (lambda: nblstm.SeriesModel(embedding_dropout=0.1).fit(np.ones(9)), "no setting 'embedding_dropout'"),
        (lambda: nblstm.SeriesModel(bidirectional=True).fit(np.ones(9)), "would read what it is to predict"),
        (lambda: nblstm.SeriesModel(valid_fraction=1).fit(np.ones(9)), "less than 1"),
        (lambda: SeriesConfig(3, 2), "as many as it reads"),
        (lambda: SeriesConfig(3, 2, predicts="it all"), "one of next, targets"),
    ],
)
def test_wrong_series_and_settings_are_named(call, message):
    """One sentence says what is wrong."""
    with pytest.raises(ConfigError, match=message):
        call()


def test_a_model_says_what_it_cannot_read(model):
    """Another number of channels, too few steps ahead, an unknown backend, numbers out of all proportion."""
    for call, message in (
        (lambda: model.predict(np.ones((5, 3))), "2 numbers at a step"),
        (lambda: model.forecast(waves(9), 0), "n must be an integer of at least 1, got 0"),
        (lambda: model.forecast(waves(9), 1.5), "n must be an integer of at least 1, got 1.5"),
        (lambda: model.predict(waves(9), backend="gpu"), "backend must be one of numpy, cpu, cuda, got 'gpu'"),
        (lambda: model.predict(np.full((5, 2), 1e300)), "like those it was trained on"),
    ):
        with pytest.raises(ConfigError, match=message):
            call()


# ---------------------------------------------------------------- arrays of other libraries


class Column:
    """What a column of another library is to NumPy: an object with `__array__`, and a list's length and items."""

    def __init__(self, values):
        self.values = np.asarray(values)

    def __array__(self, dtype=None, copy=None):
        return self.values if dtype is None else self.values.astype(dtype)

    def __len__(self):
        return len(self.values)

    def __getitem__(self, index):
        return self.values[index]


def tensors(array):
    return pytest.importorskip("torch").from_numpy(array.copy())


def columns(array):
    pandas = pytest.importorskip("pandas")
    return pandas.Series(array) if array.ndim == 1 else pandas.DataFrame(array)


KINDS_OF_ARRAY = [np.asarray, Column, lambda array: memoryview(np.ascontiguousarray(array)), tensors, columns]
kinds_of_array = each("kind", KINDS_OF_ARRAY, ids=["numpy", "column", "buffer", "torch", "pandas"])


@kinds_of_array
def test_a_list_of_columns_is_several_series(kind):
    """Columns of equal length, in a list or a tuple, (T,) or (T, D), are the series that NumPy's arrays are."""
    for shape in ((200,), (200, 2)):
        arrays = [np.random.default_rng(seed).normal(3, 1, shape) for seed in range(2)]
        read, wanted = _pairs(tuple(map(kind, arrays)), None)
        for found, array in zip(read, arrays):
            np.testing.assert_array_equal(found, array.reshape(200, -1)[:-1])
        read, wanted = _pairs([kind(array) for array in arrays], [kind(array) for array in arrays])
        for found, array in zip(wanted, arrays):
            np.testing.assert_array_equal(found, array.reshape(200, -1))


@kinds_of_array
def test_models_read_columns_as_arrays(kind):
    """fit, predict and forecast of columns give what they give of arrays; lists give lists."""
    arrays = [waves(60)[:, 0], waves(60, seed=3, noise=0.1)[:, 0]]
    settings = {**SMALL, "steps": 3}
    model, same = (nblstm.SeriesModel(**settings).fit(given) for given in (list(map(kind, arrays)), arrays))
    assert model.config.num_inputs == 1
    np.testing.assert_array_equal(model.parameters, same.parameters)
    for verb in (model.predict, lambda series: model.forecast(series, 4)):
        found = verb(list(map(kind, arrays)))
        assert len(found) == 2
        for given, array, rows in zip(map(kind, arrays), arrays, found):
            np.testing.assert_array_equal(rows, verb(array))
            np.testing.assert_array_equal(verb(given), rows)


@each("number", [float, np.float64, np.array, tensors], ids=["float", "numpy", "0-d", "torch"])
def test_nested_lists_of_numbers_are_one_series(number):
    """A list of numbers is (T,), a list of lists (T, D), whatever kind of number; booleans are 0 and 1."""
    number = (lambda value: tensors(np.array(value))) if number is tensors else number
    (read,), _ = _pairs([number(1.5), number(2.0), number(3.0)], None)
    np.testing.assert_array_equal(read, [[1.5], [2]])
    (read,), _ = _pairs([[number(1.0), number(2.0)], (number(3.0), number(4.0))], [True, False])
    np.testing.assert_array_equal(read, [[1, 2], [3, 4]])
    (read,), _ = _pairs(np.array([True, False, True]), None)
    np.testing.assert_array_equal(read, [[1], [0]])


MASKED = np.ma.masked_array(np.arange(9.0), np.arange(9) == 4)


@each("series", [MASKED, [MASKED, np.ones(9)], [[1.0, np.ma.masked], [2.0, 3.0]], MASKED[:, None]])
def test_a_mask_is_refused(model, series):
    """In series and targets, read and forecast, as NaN is; a mask that hides nothing is none."""
    fit = nblstm.SeriesModel(steps=1).fit
    calls = [lambda: fit(series), lambda: fit(np.ones(9), series), lambda: model.predict(series)]
    for call in [*calls, lambda: model.forecast(series, 3)]:
        with pytest.raises(ConfigError, match="must hold nothing masked"):
            call()
    assert _pairs(np.ma.masked_array(np.arange(9.0), mask=False), None)[0][0].shape == (8, 1)


class Broken(Column):
    """A column that cannot be read, as tensors that need a gradient or lie on a card are."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("Call .detach() first.\nMore lines.")


@each(
    "series, reason",
    [
        (np.arange("2020-01-01", "2020-01-09", dtype="M8[D]"), "datetime64"),
        (np.arange(9).astype("m8[s]"), "timedelta64"),
        (np.zeros(9, [("price", "f8")]), "price"),
        (np.zeros(9, [("price", "f8"), ("size", "f8")]), "size"),
        (np.ones(9) * 1j, "complex128"),
        ([1j, 2.0], "complex128"),
        (["1", "2"], "<U1"),
        (np.array([1.0, "2"], object), "it holds '2'"),
        (np.array([1.0, np.datetime64(1, "s")], object), "it holds"),
        (np.array([np.ones(3), np.ones(2)], object), "sequence"),
        ([10**400, 1], "too large"),
        ([[1.0, 2.0], [3.0]], "inhomogeneous"),
        ({"a": np.ones(9)}, "'dict'"),
        (Broken(np.ones(9)), "Call .detach\\(\\) first.$"),
        ([Broken(np.ones(9)), np.ones(9)], "Call .detach\\(\\) first.$"),
    ],
    ids=str,
)
def test_what_is_no_series_is_named(series, reason):
    """One sentence with the reason, whatever another library's array raises."""
    with pytest.raises(ConfigError, match=f"series must be real numbers: an array .*{reason}"):
        nblstm.SeriesModel().fit(series)
    with pytest.raises(ConfigError, match=f"targets must be real numbers: an array .*{reason}"):
        nblstm.SeriesModel().fit(np.ones(9), series)


def test_missing_values_of_objects_are_refused():
    """None among objects is not a number, as NaN is not."""
    with pytest.raises(ConfigError, match="finite numbers; fill in"):
        nblstm.SeriesModel().fit(np.array([1.0, None, 3.0], object))


def test_numbers_of_other_libraries_among_objects():
    """Decimals, fractions and Python's integers are real numbers."""
    found = real_numbers([Decimal("0.5"), Fraction(1, 4), 2**70], "series", "be numbers")
    np.testing.assert_array_equal(found, [0.5, 0.25, 2.0**70])


@pytest.mark.parametrize("n", [2**31, 5_000_001, np.int64(2**62)])
def test_a_forecast_is_bounded(model, n):
    """Before anything is read or allocated; the message says how many are possible with two channels."""
    with pytest.raises(ConfigError, match="n must be at most 5,000,000 .* forecast in parts"):
        model.forecast(waves(9), n)
    with pytest.raises(ConfigError, match="n must be at most 2,500,000"):
        model.forecast([waves(9), waves(9)], n)


# ---------------------------------------------------------------- files


def test_what_is_saved_is_loaded(model, tmp_path):
    """Config, scales, weights and facts come back, and the same forecast to the last bit."""
    model.save(tmp_path / "waves.safetensors")
    loaded = nblstm.SeriesModel.load(tmp_path / "waves.safetensors")
    assert loaded.config == model.config and loaded.training == model.training
    np.testing.assert_array_equal(loaded.forecast(waves(50), 9), model.forecast(waves(50), 9))


def test_loading_and_forecasting_need_numpy_alone(model, tmp_path, python):
    """A saved model forecasts in a process that never loads numba."""
    model.save(tmp_path / "waves.safetensors")
    code = f"import sys, nblstm; model = nblstm.SeriesModel.load({str(tmp_path / 'waves.safetensors')!r})"
    outcome = python("-c", code + "; model.forecast([[50.0, 0.1]] * 9, 5); assert 'numba' not in sys.modules")
    assert outcome.code == 0, outcome.err


def damaged(model, path, change):
    """The model's file, changed: change(tensors, document)."""
    model.save(path)
    tensors, metadata = safetensors.read(path)
    document = json.loads(metadata["nblstm_series"])
    change(tensors, document)
    safetensors.write(path, tensors, {"nblstm_series": json.dumps(document)})


@each(
    "change, message",
    [
        (lambda tensors, document: tensors.pop("inputs.mean"), "lacks the tensor 'inputs.mean'"),
        (lambda tensors, document: tensors.pop("head.bias"), "lacks the tensor 'head.bias'"),
        (lambda tensors, document: tensors["inputs.deviation"].fill(0), "must be above 0"),
        (lambda tensors, document: tensors["targets.mean"].fill(np.inf), "not finite"),
        (lambda tensors, document: tensors["head.bias"].fill(np.nan), "not finite"),
        (lambda tensors, document: tensors.update({"inputs.mean": np.zeros(3)}), "must have shape"),
        (lambda tensors, document: tensors.update({"inputs.mean": np.zeros(2, "f4")}), "must be float64"),
        (lambda tensors, document: tensors.update({"more": np.zeros(2, "f4")}), "'more' that its config"),
        (lambda tensors, document: document["config"].update(hidden_size=9), "must have shape"),
        (lambda tensors, document: document["config"].update(predicts="all"), "its config is not valid"),
        (lambda tensors, document: document.update(format_version=99), "newer nblstm"),
        (lambda tensors, document: document.update(training=[]), "its training must be a JSON object"),
    ],
)
def test_a_damaged_file_is_refused(model, tmp_path, change, message):
    """ModelFileError names what is wrong; nothing is believed."""
    damaged(model, tmp_path / "waves.safetensors", change)
    with pytest.raises(ModelFileError, match=message):
        nblstm.SeriesModel.load(tmp_path / "waves.safetensors")


def test_models_of_series_and_of_text_are_told_apart(model, tmp_path):
    """Each loader says what kind of file it was given."""
    model.save(tmp_path / "waves.safetensors")
    assert type(nblstm.load(tmp_path / "waves.safetensors")) is nblstm.SeriesModel
    with pytest.raises(ModelFileError, match="is a model of series, not a model"):
        nblstm.LanguageModel.load(tmp_path / "waves.safetensors")
    with pytest.raises(ModelFileError, match="cannot write"):
        model.save(tmp_path / "missing" / "waves.safetensors")


def test_a_config_survives_its_dictionary(model):
    """to_dict and from_dict are inverse, and a config of text does not know `predicts`."""
    assert SeriesConfig.from_dict(model.config.to_dict()) == dataclasses.replace(model.config)
    with pytest.raises(ConfigError, match="no field 'predicts'"):
        nblstm.LanguageConfig.from_dict(model.config.to_dict())


def test_what_an_interrupted_fit_has_learned_is_kept():
    """The interrupt comes through, and the model answers."""
    model, seen = nblstm.SeriesModel(hidden_size=3, steps=20, threads=1), []

    def interrupt(report):
        seen.append(report)
        if len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.fit(np.arange(60.0) % 5, on_report=interrupt)
    assert model.predict(np.arange(10.0) % 5, "numpy").shape[0] == 10
