"""SeriesModel: a network that reads series of real numbers and predicts the next ones, or others beside them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from nblstm import checks
from nblstm.arrays import is_listed, real_numbers
from nblstm.errors import ConfigError
from nblstm.files.model_file import ModelFile, save_model
from nblstm.kernels import fastest
from nblstm.nn.network import Network
from nblstm.nn.parameters import initial
from nblstm.nn.state import State
from nblstm.tasks.estimator import Estimator, method_of_instances, run_to_end
from nblstm.tasks.series.batches import READ_STEPS, SeriesSegments, Table, Training, in_order, validation
from nblstm.tasks.series.config import SeriesConfig, SeriesTraining
from nblstm.tasks.series.network import series_network
from nblstm.text.batches import Chunk
from nblstm.training.report import Report
from nblstm.training.trainer import Trainer

FORECAST_NUMBERS = 10_000_000  # that one call of `forecast` returns at most


@dataclass(frozen=True)
class Scale:
    """The mean and the standard deviation of each channel of a series, (D,) float64; a constant's deviation is 1."""

    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def of(cls, name: str, values: np.ndarray) -> Scale:
        """Measure the scale of values (S, D). ConfigError, which gives their name, where that is not finite."""
        with np.errstate(over="ignore", invalid="ignore"):
            mean, deviation = values.mean(axis=0), values.std(axis=0)
        if not np.isfinite(deviation).all():
            raise ConfigError(f"{name} must hold numbers whose squares are finite; divide them by something large.")
        return cls(mean, np.where(deviation > 1e-12 * np.abs(mean), deviation, 1.0))

    def of_size(self, D: int) -> Scale:
        """Return the scale. ConfigError unless it is one of D channels."""
        mean, deviation = (
            checks.in_form(f"scale.{name}", array, (D,), np.float64) for name, array in vars(self).items()
        )
        checks.finite("scale.mean", mean)
        if not (checks.finite("scale.deviation", deviation) > 0).all():
            raise ConfigError(f"scale.deviation must be above 0, got {deviation.min()}.")
        return Scale(mean, deviation)

    def standard(self, values: np.ndarray, dtype: str) -> np.ndarray:
        """Scale values (T, D) to mean 0 and deviation 1, of dtype. ConfigError if they are too far off for it."""
        with np.errstate(over="ignore"):
            standard = ((values - self.mean) / self.deviation).astype(dtype)
        if not np.isfinite(standard).all():
            raise ConfigError(f"series must hold numbers like those it was trained on, got {np.abs(values).max():g}.")
        return standard

    def real(self, standard: np.ndarray) -> np.ndarray:
        """Scale standardised values (..., D) back, to float64."""
        return standard * self.deviation + self.mean


class SeriesModel(Estimator):
    """A model of series of numbers: it predicts the next ones, or others beside them.

        model = nblstm.SeriesModel(hidden_size=32, steps=500).fit(series)
        model.forecast(series, 24)

    Settings: fields of SeriesConfig (hidden_size, num_layers, cell, ...) and SeriesTraining (steps, lr, bptt, ...); and
    valid_fraction, the last share of every series that is not learned from: the weights that predict it best are kept.
    An epoch is as many passes over the series as take EPOCH_UPDATES updates (`nblstm.tasks.series.batches`).

    Once it is fitted or loaded: config (SeriesConfig), parameters (config.num_parameters,) of config.dtype, inputs and
    targets (Scale of what is read and of what is predicted), training (facts about how it was made).
    """

    CONFIGS = (SeriesConfig, SeriesTraining)
    GIVEN = frozenset({"num_inputs", "num_outputs", "predicts"})
    DEFAULTS = {"valid_fraction": 0.1}
    config: SeriesConfig

    def check_settings(self) -> None:
        """Raise ConfigError for a wrong value, or values that exclude each other."""
        SeriesConfig(1, 1, predicts="targets", **self.of(SeriesConfig))
        SeriesTraining(**self.of(SeriesTraining))
        fraction = self._settings["valid_fraction"]
        if not (isinstance(fraction, (int, float)) and 0 <= fraction < 1):
            raise ConfigError(f"valid_fraction must be at least 0 and less than 1, got {fraction!r:.40}.")

    # ------------------------------------------------------------ training

    @method_of_instances
    def fit(
        self, series: Any, targets: Any = None, *, on_report: Callable[[Report], None] = lambda report: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> SeriesModel:  # fmt: skip
        """Learn a series (T, D), or (T,) for one number a step, or a list of such arrays; return the model itself.

        An array is whatever NumPy can read as one: a column or a table of pandas, a tensor. A list of arrays is several
        series, nested lists of numbers are one. Booleans count as 0 and 1; masked, missing and infinite numbers, text,
        dates and complex numbers are refused.
        targets: what to predict at every step, (T, K) or (T,), a list as series is; None: the series' next values.
        on_report is called after every update with a Report, whose losses are mean squared errors of numbers scaled to
        deviation 1; training ends early once stop() is true; where an interrupt or an error ends it after its first
        update, what was learned is kept. Needs numba to be quick.
        Raises ConfigError for a wrong setting or series, TrainingError if training diverges.
        """
        read, wanted = _pairs(series, targets)
        recipe, fraction = SeriesTraining(**self.of(SeriesTraining)), self._settings["valid_fraction"]
        sizes = wanted[0].shape[1], read[0].shape[1]
        config = SeriesConfig(*sizes, predicts="next" if targets is None else "targets", **self.of(SeriesConfig))
        ends = np.array([max(1, len(x) - int(len(x) * fraction)) for x in read])
        learned = lambda parts: np.concatenate([part[:end] for part, end in zip(parts, ends)])
        inputs, outputs = Scale.of("series", learned(read)), Scale.of("targets", learned(wanted))
        outputs = inputs if targets is None else outputs
        table = Table.of(
            [inputs.standard(x, config.dtype) for x in read], [outputs.standard(y, config.dtype) for y in wanted]
        )
        network = series_network(config, initial(config, recipe.seed), fastest(), recipe.threads)
        source = Training(table, ends, recipe.batch_size, recipe.bptt, recipe.seed)
        trainer = Trainer(network, recipe, source, validation(table, ends))

        def learn() -> None:
            facts = {"steps": trainer.step, "valid_loss": trainer.best_loss, "train": recipe.recipe()}
            self._take(config, trainer.keep(), inputs, outputs, facts)

        run_to_end(trainer, stop, on_report, learn)
        return self

    def _take(
        self, config: SeriesConfig, parameters: np.ndarray, inputs: Scale, targets: Scale, training: dict[str, Any]
    ) -> SeriesModel:
        """Set parameters and scales. ConfigError unless they fit together."""
        self._hold(checks.a(SeriesConfig, "config", config), parameters, training)
        self.inputs = checks.a(Scale, "inputs", inputs).of_size(config.num_inputs)
        self.targets = checks.a(Scale, "targets", targets).of_size(config.num_outputs)
        return self

    def _network(self, backend: str = "numpy", threads: int = 0) -> Network:
        """Make the network. ConfigError before there is one."""
        self._fitted()
        return series_network(self.config, self.parameters, backend, threads)

    # ------------------------------------------------------------ predicting

    def predict(self, series: Any, backend: str = "numpy", threads: int = 0) -> Any:
        """Predict the values at every step of a series (T, D), having read it up to there: (T, K) float64.

        A model of next values thus predicts value t + 1 in row t. A list of series gives a list. backend: "numpy" or
        "cpu" (DeviceError without numba). ConfigError if the series is not of the kind that was learned.
        """
        network, listed = self._network(backend, threads), is_listed(series)
        read = [self._checked(x) for x in (series if listed else [series])]
        found = [np.concatenate([self.targets.real(rows) for rows, _ in _read(network, x)]) for x in read]
        return found if listed else found[0]

    def forecast(self, series: Any, n: int) -> Any:
        """Predict the n values that follow a series (T, D): (n, D) float64, every one from those before it.

        A list of series gives a list. ConfigError if the model does not predict next values, or if all forecasts
        together hold more than FORECAST_NUMBERS numbers.
        """
        network, listed = self._network(), is_listed(series)
        if self.config.predicts != "next":
            raise ConfigError("this model predicts targets of its own, not the next values; it cannot forecast.")
        read = [self._checked(x) for x in (series if listed else [series])]
        self._check_length(n, len(read))
        found = [self.targets.real(_continue(network, x, int(n))) for x in read]
        return found if listed else found[0]

    def _check_length(self, n: Any, count: int) -> None:
        """Raise ConfigError unless n values may follow each of `count` series."""
        if not isinstance(n, (int, np.integer)) or n < 1:
            raise ConfigError(f"n must be an integer of at least 1, got {n!r:.40}.")
        most = max(1, FORECAST_NUMBERS // (self.config.num_inputs * count))
        if n > most:
            raise ConfigError(f"n must be at most {most:,} with so many numbers a step, got {n:,}; forecast in parts.")

    def _checked(self, series: Any) -> np.ndarray:
        """Return the series (T, D) as the network reads it."""
        values, D = _values(series, "series"), self.config.num_inputs
        if values.shape[1] != D:
            raise ConfigError(f"series must have {D} numbers at a step, as in training, got {values.shape[1]}.")
        return self.inputs.standard(values, self.config.dtype)

    def score(self, series: Any, targets: Any = None) -> float:
        """Return the coefficient of determination R^2 of the predictions: 1 is perfect, 0 no better than the mean.

        targets: as in `fit`; None: the next values.
        """
        read, wanted = _pairs(series, targets)
        found = np.concatenate(self.predict(read))
        truth = np.concatenate(wanted)
        missed, spread = ((truth - found) ** 2).sum(), ((truth - truth.mean(axis=0)) ** 2).sum()
        return float(1 - missed / spread) if spread > 0 else float(missed == 0)

    # ------------------------------------------------------------ files

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to one file, atomically. ModelFileError if it cannot be written."""
        self._fitted()
        scales = {
            name: getattr(getattr(self, whose), part)
            for name in self.config.extra_shapes
            for whose, part in [name.split(".")]
        }
        save_model(path, ModelFile.of(self.config, None, self.parameters, scales, self.training))

    @classmethod
    def restore(cls, file: ModelFile) -> SeriesModel:
        """Make the model of a file's content. ConfigError for scales that are none."""
        config, scales = file.config, file.extras
        assert isinstance(config, SeriesConfig)
        inputs, targets = (Scale(scales[f"{name}.mean"], scales[f"{name}.deviation"]) for name in ("inputs", "targets"))
        return cls(**cls._settings_of(config))._take(config, file.parameters, inputs, targets, file.training)


def _continue(network: Network, x: np.ndarray, n: int) -> np.ndarray:
    """Predict the n rows (n, D) that follow a series x (T, D), both standardised."""
    for rows, after in _read(network, x):
        row, state = rows[-1:], after
    found = np.empty((n, x.shape[1]), x.dtype)
    found[0] = row[0]
    for step in range(1, n):
        row, state = network.outputs(Chunk(row, row, np.arange(2), False), state)
        found[step] = row[0]
        if not np.isfinite(row).all():
            raise checks.non_finite(f"step {step + 1} of the forecast is")
    return found


def _read(network: Network, x: np.ndarray) -> Iterator[tuple[np.ndarray, State]]:
    """Read a series (T, D) from its start, some steps at a time: (the predictions (steps, K), the state after)."""
    steps, state = READ_STEPS if network.config.causal else len(x), network.initial_state()
    nothing = np.zeros((len(x), network.config.num_outputs), x.dtype)  # targets that nobody asks for
    for chunk in in_order(SeriesSegments(Table.of([x], [nothing]), [0], [len(x)], steps)):
        rows, state = network.outputs(chunk, network.before(chunk, state))
        if not np.isfinite(rows).all():
            raise checks.non_finite("what is predicted is")
        yield rows, state


# ---------------------------------------------------------------- what is given


def _pairs(series: Any, targets: Any) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return inputs (T, D) and targets (T, K) of every series. ConfigError if they do not fit."""
    listed = series if is_listed(series) else [series]
    read = [_values(x, "series") for x in listed]
    if targets is None:
        if any(len(x) < 2 for x in read):
            raise ConfigError("series must have at least 2 steps, one to predict the other from; leave out others.")
        read, wanted = [x[:-1] for x in read], [x[1:] for x in read]
    else:
        wanted = [_values(y, "targets") for y in (targets if is_listed(series) else [targets])]
    if [len(x) for x in read] != [len(y) for y in wanted]:
        raise ConfigError("targets must have as many steps as their series.")
    for name, parts in (("series", read), ("targets", wanted)):
        if len({part.shape[1] for part in parts}) > 1:
            raise ConfigError(f"{name} must all have the same number of values at a step.")
    return read, wanted


def _values(series: Any, name: str) -> np.ndarray:
    """Return a series as (T, D) float64. ConfigError unless it is one, with at least a step, of finite real numbers."""
    values = real_numbers(series, name, "be real numbers: an array (T, D) or (T,), or a list of such arrays")
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or 0 in values.shape:
        raise ConfigError(f"{name} must have the shape (T, D) or (T,), nothing empty, got {values.shape}.")
    if not np.isfinite(values).all():
        raise ConfigError(f"{name} must hold finite numbers; fill in or leave out what is missing.")
    return values
