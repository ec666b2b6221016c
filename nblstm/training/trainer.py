"""Trainer: truncated back-propagation through time, one update after the other, resumable at every step."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from nblstm.config import Recipe
from nblstm.errors import DivergenceError, TrainingError
from nblstm.interrupts import held
from nblstm.nn.network import Network
from nblstm.nn.state import State
from nblstm.text.batches import Chunk, Epochs
from nblstm.training.companion import Companions
from nblstm.training.extent import Extent
from nblstm.training.optimizers import averaged, make_optimizer
from nblstm.training.pace import Pace, clock
from nblstm.training.place import TRAINING_PLACE, check_facts, check_restorable, check_states
from nblstm.training.ranks import ALONE, ProcessGroup
from nblstm.training.rehearsal import helped
from nblstm.training.report import Measure, Report, Validation, by_loss
from nblstm.training.schedules import make_schedule
from nblstm.training.sharing import Sharing, sharing_of

RELEASE_STEPS = 100  # between two calls that give back the memory of ids already read
LOST = 1000.0  # nats per token; no training comes back from a loss above this


class Trainer:
    """One run: a network, a text, and everything that `tensors` and `facts` need to store to go on exactly.

    source: the chunks of every epoch. valid: the chunks to validate with; without any nothing is
    validated. release: called now and then to give back the memory of ids already read. measure: validates, and returns
    None if stopped; by default `by_loss`.
    """

    def __init__(
        self,
        network: Network,
        config: Recipe,
        source: Epochs,
        valid: Sequence[Chunk] = (),
        release: Callable[[], None] = lambda: None,
        measure: Measure | None = None,
    ) -> None:
        self.network, self.source, self.valid, self.release = network, source, valid, release
        self.measure = measure or by_loss
        self.ranks: ProcessGroup = ALONE
        self.sharing = Sharing()
        self.companions = Companions()
        self.config: Any = config  # a task may have settings of its own
        kernels = network.kernels
        self.optimizer = make_optimizer(config, network.parameters, kernels.zeros_like)
        self.schedule = make_schedule(config)
        self.gradient = kernels.zeros_like(network.parameters)
        self.extent = Extent.lazy(network.config) if config.lazy_embedding else Extent()  # of the update under way
        self._changed = self.extent  # since the last update that was made
        self.state = network.initial_state()
        self.best = kernels.zeros_like(network.parameters)  # best validated; before that, of the last loss
        kernels.assign(self.best, network.parameters)
        self.step = 0
        self.epoch_number = self.chunk_number = 0  # of the next update
        self.chunks = source.epoch(0)
        self.tokens = 0  # read so far
        self.validated_step = 0  # the step of the last validation
        self.waited = 0  # epochs since the best validation
        self.last_value: float | None = None  # of the last validation
        self.best_loss: float | None = None  # the value of the best validation
        self.best_measures: dict[str, float] = {}  # of the same one
        self.seconds = 0.0
        self.validating: float | None = None  # the share of a validation that is done, while there is one
        self.whole = True  # the parameters are those of `step`: no error has ended an update in its middle
        self._how = {"cleared": True} if config.lazy_embedding else {}  # the gradient is
        self.pace = Pace()
        self._validated_at = 0.0  # the value of `seconds` after the last validation of this session, or at its begin
        self._report: Report | None = None

    def join(self, ranks: ProcessGroup) -> None:
        """Train together with others, who have the same network, config and chunks. ConfigError for too small a batch."""
        self.sharing = sharing_of(ranks, self.config)
        self.ranks, self.state = ranks, ranks.own_state(self.state)
        if self.measure is by_loss:
            self.measure = partial(by_loss, ranks=ranks)
        self.companions.join(ranks)
        self.sharing.agree(self)

    # ------------------------------------------------------------ the loop

    def run(self, stop: Callable[[], bool] = lambda: False) -> Iterator[Report]:
        """Train until the first of the limits, a report after every update and every epoch.

        `stop` is asked before every piece of work; once it says yes, the run ends where it is. An interrupt may come at
        any time: an update or a validation is then made, or it is not; only an exception of another kind, in the middle
        of an update, leaves what is not `whole`.
        Raises DivergenceError if a loss, a gradient or a weight is not finite, or absurd: the parameters are then `best`.
        """
        stop = self.ranks.agreed(stop)
        while True:
            if self.step and self.chunk_number == 0 and self.validated_step != self.step:
                yield from self._validate(stop)
                if stop():
                    return
            if self.patience_is_over:
                return
            if self.progress >= 1:
                break
            if self._is_due:
                yield from self._validate(stop, epoch_ended=False)
            if stop():
                return
            with helped(self):
                report = self._update()
            yield report
        if self.validated_step != self.step:  # a limit in the middle of an epoch
            yield from self._validate(stop, epoch_ended=False)

    @property
    def epoch(self) -> float:
        """Passes over the training text so far, with a fraction."""
        return self.epoch_number + self.chunk_number / len(self.chunks)

    @property
    def progress(self) -> float:
        """The share of the training that is done: of the limit that comes first."""
        c = self.config
        shares = [
            self.epoch / c.epochs if c.epochs else 0.0,
            self.step / c.steps if c.steps else 0.0,
            self.seconds / (60 * c.minutes) if c.minutes else 0.0,
        ]
        return min(1.0, max(shares))

    @property
    def patience_is_over(self) -> bool:
        """Whether too many epochs have brought no better validation loss."""
        return 0 < self.config.patience <= self.waited

    @property
    def _is_due(self) -> bool:
        """Whether a validation inside an epoch is to come before the next update."""
        updates, seconds = getattr(self.config, "valid_interval", (None, None))
        if not len(self.valid) or self.validated_step == self.step:
            return False
        if updates is not None:
            return self.step % updates == 0
        return seconds is not None and self.seconds - self._validated_at >= seconds

    def _update(self) -> Report:
        """Read one chunk, move the parameters once."""
        started = clock()
        chunk = self.chunks[self.chunk_number]
        changed = self._extend(chunk)
        loss, state = self._learn(chunk)
        gradient, norm = self._clip(loss)
        lr = self.schedule.lr(self.step, self.epoch, self.progress)
        with held():
            if self.best_loss is None:  # wherever this update leads, these were good
                changed.assign(self.network.kernels, self.best, self.network.parameters)
            self.whole = False
            self._move(lr, gradient, norm)
            self.state, self._changed = state, self.extent
            self.step += 1
            self.tokens += len(chunk.tokens)
            self._next_chunk()
            self.companions.moved(self)
            if self.sharing.part(self):
                self._changed = self._changed.everything()
            report = self._reported(loss, norm, lr, len(chunk.tokens), self.ranks.agree(clock() - started))
            self.whole = True
        return report

    def _extend(self, chunk: Chunk) -> Extent:
        """Take up the extent of an update by a chunk, and return that of the last one, whose gradient is cleared.

        Until the update is made, everything may have changed.
        """
        changed, self._changed = self._changed, self._changed.everything()
        if self.config.lazy_embedding:
            changed.clear(self.network.kernels, self.gradient, self.network.threads)
        self.extent = changed.reading(chunk.tokens)
        return changed

    def _learn(self, chunk: Chunk) -> tuple[float, State]:
        """Make the gradient that of a chunk's mean loss; return the loss, and the state of this rank's texts."""
        network, ranks = self.network, self.ranks
        part = self.companions.prepare(ranks.part(network, chunk))
        if part is None:  # more ranks than texts
            loss, state = 0.0, network.initial_state(0)
            if not self._how:
                network.kernels.clear(self.gradient, network.threads)
        else:
            before, seed = network.before(part, self.state), ranks.seed(self.config.seed)
            loss, state = network.loss_and_gradient(self.gradient, part, before, seed, self.step, **self._how)
        self.sharing.combine(self.gradient, self.extent)
        return ranks.totals(loss)[0], state

    def _move(self, lr: float, gradient: list[np.ndarray], norm: float) -> None:
        """Let the optimizer update the parameters. gradient: as `_clip` gave it. DivergenceError unless they are sane then."""
        scale = min(1.0, self.config.clip / (norm + 1e-6)) if self.config.clip else 1.0
        with np.errstate(over="ignore", invalid="ignore"):  # of an absurd rate
            length = self._norm(self._optimize(lr, gradient, scale))
        if not math.isfinite(length):
            raise self._diverged(f"the norm of the weights is {length}", self.step + 1)

    def _optimize(self, lr: float, gradient: list[np.ndarray], scale: float) -> list[np.ndarray]:
        """Update the parameters and the moments inside the extent; return the parts of the parameters."""
        network, optimizer, parts = self.network, self.optimizer, self.extent.parts
        changed = [network.parameters, *optimizer.moments.values()]
        inside = [parts(array) for array in changed]
        for g, w, *moments in zip(gradient, *inside):
            optimizer.update(
                network.kernels, w, g, lr, self.step + 1, scale, network.threads, dict(zip(optimizer.moments, moments))
            )
        for array, found in zip(changed, inside):
            self.extent.put(array, found)
        return inside[0]

    def _next_chunk(self) -> None:
        """Move on by a chunk, behind the last to the next epoch."""
        self.chunk_number += 1
        if self.chunk_number == len(self.chunks):
            self.epoch_number, self.chunk_number = self.epoch_number + 1, 0
            self.chunks = self.source.epoch(self.epoch_number)

    def _clip(self, loss: float) -> tuple[list[np.ndarray], float]:
        """Clip single values if asked; the parts of the gradient and its norm. DivergenceError unless these are sane."""
        kernels, threads, parts = self.network.kernels, self.network.threads, self.extent.parts(self.gradient)
        if self.config.clip_value and math.isfinite(loss):
            for part in parts:
                kernels.clip_values(part, self.config.clip_value, threads)
            self.extent.put(self.gradient, parts)
        norm = self._norm(parts)
        if not (loss < LOST and math.isfinite(norm)):
            thing = f"the loss is {loss:g}" if not loss < LOST else f"the norm of the gradient is {norm}"
            raise self._diverged(thing, self.step + 1)
        return parts, norm

    def _norm(self, parts: list[np.ndarray]) -> float:
        """Return the norm of what is inside the extent, in parts; not finite if a number in it is not."""
        squared_norm, threads = self.network.kernels.squared_norm, self.network.threads
        return math.sqrt(self.sharing.squares(sum(squared_norm(part, threads) for part in parts)))

    def _diverged(self, thing: str, step: int) -> DivergenceError:
        """Put the last good parameters back, and return the error to raise."""
        self.whole = False
        self.network.kernels.assign(self.network.parameters, self.best)
        lr, clip = self.config.lr, self.config.clip
        clipping = f"less than clip={clip:g}" if clip else "clip=1, which limits the gradient's norm"
        return DivergenceError(
            f"{thing} at step {step}: training has diverged; try less than lr={lr:g}, or {clipping}."
        )

    def _reported(self, loss: float, norm: float, lr: float, tokens: int, seconds: float) -> Report:
        self.seconds += self.pace.updated(loss, tokens, seconds)
        self._report = Report(
            step=self.step, epoch=self.epoch, progress=self.progress, tokens=self.tokens, seconds=self.seconds,
            seconds_left=self.pace.seconds_left(self), tokens_per_second=self.pace.tokens_per_second, lr=lr, loss=loss,
            smooth_loss=self.pace.loss, gradient_norm=norm,
        )  # fmt: skip
        if self.step % RELEASE_STEPS == 0:
            self.release()
        return self._report

    def _validate(self, stop: Callable[[], bool], epoch_ended: bool = True) -> Iterator[Report]:
        """Score the validation text; yield one report, none if stopped on the way."""
        started = clock()
        self.sharing.meet(self)
        with held() as deliver:
            with averaged(self.network, self.optimizer):
                stopped = self._counted(lambda: deliver() or stop())
                found = self.measure(self.network, self.valid, stopped) if len(self.valid) else None
            self.validating = None
            if len(self.valid) and found is None:
                return
            self.release()
            self.pace.validations.append(self.ranks.agree(clock() - started))
            self.seconds += self.pace.validations[-1]
            improved = self._judge(found)
            if epoch_ended and found is not None:
                self.waited = 0 if improved else self.waited + 1
                self.schedule.validated(found.value)
                self.optimizer.validated(found.value)
            self.last_value = None if found is None else found.value
            self.validated_step, self._validated_at = self.step, self.seconds
            self.sharing.agree(self)
        last = self._report or Report(
            self.step, self.epoch, self.progress, self.tokens, self.seconds, None, math.nan, self.config.learning_rate,
            math.nan, math.nan, math.nan,
        )  # fmt: skip
        yield last.validated_by(found, self.seconds, improved)

    def _counted(self, stop: Callable[[], bool]) -> Callable[[], bool]:
        """Return a `stop` for a validation, which asks it before each chunk: `validating` is the share done by then."""
        chunks, size = itertools.count(), max(1, len(self.valid))

        def stopped() -> bool:
            self.validating = min(1.0, next(chunks) / size)
            return stop()

        return stopped

    def _judge(self, found: Validation | None) -> bool:
        """Keep the validated parameters if they are the best so far, and tell whether they are. DivergenceError."""
        for loss in () if found is None else (found.measures.get("loss", 0.0), found.value):
            if not loss < LOST:
                raise self._diverged(f"the validation loss is {loss:g}", self.step)
        better = found is None or self.best_loss is None or found.value < self.best_loss
        improved = better or self.companions.outranks(self)
        if improved:
            self.best_loss, self.best_measures = (None, {}) if found is None else (found.value, dict(found.measures))
            self.network.kernels.assign(self.best, self.optimizer.averaged(self.network.parameters))
        return improved

    # ------------------------------------------------------------ storing and going on

    def present(self) -> np.ndarray:
        """Return the parameters that a validation would judge now."""
        return self.network.kernels.host(self.optimizer.averaged(self.network.parameters))

    def keep(self) -> np.ndarray:
        """Return the best validated parameters, or before any validation the present ones, if whole."""
        if self.sharing.met is not None and self.best_loss is None:
            return self.sharing.met[0]["parameters"]
        present = self.best_loss is None and self.whole
        return self.network.kernels.host(self.network.parameters if present else self.best)

    def tensors(self) -> dict[str, np.ndarray]:
        """Return every array that `restore` needs, as a NumPy array: the same for any number of ranks, which all call this."""
        return self.live_tensors() if self.sharing.met is None else self.sharing.met[0]

    def live_tensors(self) -> dict[str, np.ndarray]:
        """Return these arrays as they are, also while ranks have parameters of their own."""
        state = self.ranks.whole_state(self.state)
        others = {"state.h": state.h, "state.c": state.c, **self.companions.tensors(self.ranks)}
        return {name: self.network.kernels.host(array) for name, array in (self._of_one_shape() | others).items()}

    def _of_one_shape(self) -> dict[str, np.ndarray]:
        """Return the tensors whose shape is constant; the state has as many texts as the last chunk."""
        moments = {f"optimizer.{name}": array for name, array in self.optimizer.moments.items()}
        return {"parameters": self.network.parameters, **moments, "best.parameters": self.best}

    @property
    def kept_step(self) -> int:
        """The step that `tensors` and `facts` are of: that of the last update, or of the last one after which all ranks met."""
        return self.step if self.sharing.met is None else self.sharing.met[1]["step"]

    def facts(self) -> dict[str, Any]:
        """Return everything else that `restore` needs, as JSON values. Randomness is a function of (seed, step)."""
        return self.live_facts() if self.sharing.met is None else self.sharing.met[1]

    def live_facts(self) -> dict[str, Any]:
        """Return these facts as they are, also while ranks have parameters of their own."""
        remembered = {"schedule": self.schedule.state_dict(), "optimizer": self.optimizer.state_dict()}
        measures = {} if self.best_measures.keys() <= {"loss"} else {"best_measures": self.best_measures}
        return {**{name: getattr(self, name) for name in TRAINING_PLACE}, **measures, **remembered}

    def restore(self, tensors: dict[str, np.ndarray], facts: dict[str, Any]) -> None:
        """Go on where `tensors` and `facts` were taken. TrainingError if they do not fit this run."""
        check_facts(facts, self.config)
        check_restorable(tensors, {**self._of_one_shape(), "state.h": None, "state.c": None})
        for name, array in self._of_one_shape().items():
            self.network.kernels.assign(array, tensors[name])
        self._changed = self._changed.everything()
        for name in TRAINING_PLACE:
            setattr(self, name, facts[name])
        self._validated_at = self.seconds
        alone = {} if self.best_loss is None else {"loss": self.best_loss}
        self.best_measures = dict(facts.get("best_measures", alone))
        self.schedule.load_state_dict(facts["schedule"])
        self.optimizer.load_state_dict(facts["optimizer"])
        self._restore_state(tensors)
        self.sharing.agree(self)

    def go_back(self, config: Recipe, tensors: dict[str, np.ndarray], facts: dict[str, Any]) -> None:
        """Go on with another config where `tensors` and `facts` were taken, as `restore` does."""
        with held():
            self.config = self.optimizer.config = config
            self.schedule = make_schedule(config)
            self.restore(tensors, facts)
            self.whole, self.pace.updates, self._report = True, 0, None

    def _restore_state(self, tensors: dict[str, np.ndarray]) -> None:
        """Take up the states, and the chunks of the epoch, where the next update goes on."""
        self.chunks = self.source.epoch(self.epoch_number)
        if not self.chunk_number < len(self.chunks):
            raise TrainingError("the checkpoint's epoch_number and chunk_number are no place in this text.")
        chunk = self.chunks[self.chunk_number]
        texts = 1 if chunk.fresh else chunk.num_texts  # at least
        h, c = tensors["state.h"], tensors["state.c"]
        check_states({"state.h": (h, self.state.h), "state.c": (c, self.state.c)}, texts)
        state = State(h, c, np.zeros((h.shape[1], self.network.config.head_size), h.dtype))
        self.state = self.ranks.own_state(state)
        self.companions.restore(tensors, self.ranks, texts)
