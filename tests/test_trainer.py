"""The training loop: going on exactly, the state, the limits, the best weights, the clip, and divergence."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from support.cases import cycled, each
from support.training import CHUNKS, assert_same_run, history, make_trainer, through_a_file

import nblstm
from nblstm.config import OPTIMIZERS, SCHEDULES
from nblstm.errors import TextError, TrainingError
from nblstm.tasks.language.config import LanguageConfig
from nblstm.training import pace as pace_module
from nblstm.training import report as report_module
from nblstm.training.rehearsal import rehearse

# ---------------------------------------------------------------- going on


@each("optimizer, schedule", cycled(OPTIMIZERS, SCHEDULES))
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path, optimizer, schedule):
    """7 + 9 updates through a checkpoint file are 16 updates to the last bit: weights, moments, losses, rates.

    Each optimizer with another schedule, of which it sees the rate alone.
    """
    sizes = {"step": {"decay_after": 1}, "plateau": {"decay_after": 1}, "cosine": {"warmup": 5}}.get(schedule, {})
    settings = dict(optimizer=optimizer, schedule=schedule, steps=16, weight_decay=1e-3, **sizes)
    whole = make_trainer(**settings)
    expected = history(whole.run())
    first = make_trainer(**settings)
    before = history(first.run(lambda: first.step >= 7))
    second = through_a_file(first, tmp_path / "checkpoint", **settings)
    assert before + history(second.run()) == expected
    assert_same_run(second, whole)


@each("valid", [True, False])
def test_a_rehearsal_changes_nothing(valid):
    """A run behind one is the run without it, to the last bit, also where it goes on in the middle of an epoch."""
    whole, rehearsed = (make_trainer(valid, backend="numpy", steps=7) for _ in range(2))
    expected = history(whole.run())
    rehearse(rehearsed)
    before = history(rehearsed.run(lambda: rehearsed.step >= 3))
    rehearse(rehearsed)
    assert before + history(rehearsed.run()) == expected
    assert_same_run(rehearsed, whole)


@each("stop_at", [1, CHUNKS - 1, CHUNKS, CHUNKS + 1, 2 * CHUNKS])
@each("validate", [True, False])
def test_a_run_can_be_resumed_at_any_step(tmp_path, stop_at, validate):
    """Also in the middle and at the end of an epoch, before its validation or where there is none."""
    whole, first = make_trainer(validate, epochs=3), make_trainer(validate, epochs=3)
    expected = history(whole.run())
    before = history(first.run(lambda: first.step >= stop_at))
    assert first.step == stop_at
    second = through_a_file(first, tmp_path / "checkpoint", valid=validate, epochs=3)
    assert before + history(second.run()) == expected
    assert_same_run(second, whole)


def test_a_run_can_be_resumed_after_a_validation(tmp_path):
    """A run left right behind an epoch's validation does not validate that epoch again."""
    whole, first = make_trainer(epochs=3), make_trainer(epochs=3)
    expected = history(whole.run())
    before = []
    for report in first.run():
        before.append(report)
        if report.validated:
            break
    second = through_a_file(first, tmp_path / "checkpoint", epochs=3)
    assert history(before) + history(second.run()) == expected
    assert_same_run(second, whole)


def test_dropout_matters_here():
    """The runs above have dropout on: without it the same updates give other losses."""
    dry = LanguageConfig(7, hidden_size=8, num_layers=2, dropout=0.0)
    assert next(make_trainer(steps=1).run()).loss != next(make_trainer(steps=1, shape=dry).run()).loss


@each("name", ["parameters", "state.h", "optimizer.m", "best.parameters"])
def test_a_checkpoint_of_another_shape_is_refused(name):
    """A tensor of the wrong shape is named, and so is one that is missing."""
    trainer = make_trainer(steps=1)
    tensors = {key: array.copy() for key, array in trainer.tensors().items()}
    with pytest.raises(TrainingError, match=name):
        trainer.restore({**tensors, name: tensors[name][:-1]}, trainer.facts())
    del tensors[name]
    with pytest.raises(TrainingError, match=name):
        trainer.restore(tensors, trainer.facts())


@each(
    "change",
    [
        {"chunk_number": CHUNKS},
        {"chunk_number": -1},
        {"epoch_number": -1},
        {"epoch_number": 0.5},
        {"chunk_number": None},
    ],
)
def test_a_checkpoint_of_another_place_is_refused(change):
    """A place that is not in the text is named, whatever a file says."""
    trainer = make_trainer(steps=1)
    with pytest.raises(
        TrainingError, match="the checkpoint.*(chunk|epoch)_number .*(no place in this text|whole number)"
    ):
        trainer.restore(trainer.tensors(), {**trainer.facts(), **change})


def test_a_state_of_too_few_texts_is_refused():
    """In the middle of an epoch the next chunk needs the state of all of its texts."""
    trainer = make_trainer(steps=1)
    list(trainer.run())
    tensors = {name: array.copy() for name, array in trainer.tensors().items()}
    assert tensors["state.c"].shape == (2, 4, 8)
    with pytest.raises(TrainingError, match="state.c"):
        trainer.restore({**tensors, "state.c": tensors["state.c"][:, :3]}, trainer.facts())


# ---------------------------------------------------------------- the state


def test_state_is_carried_between_chunks_and_zero_at_an_epochs_start():
    """Chunk k + 1 starts from the very state chunk k ended in; the first chunk of an epoch from zeros."""
    trainer = make_trainer(epochs=2)
    compute, calls = trainer.network.loss_and_gradient, []

    def recorded(gradient, chunk, state, seed, step):
        before = state.copy()
        loss, after = compute(gradient, chunk, state, seed, step)
        calls.append((before, after.copy()))
        return loss, after

    trainer.network.loss_and_gradient = recorded
    list(trainer.run())
    assert len(calls) == 2 * CHUNKS
    for k, (before, _) in enumerate(calls):
        if k % CHUNKS == 0:
            assert not before.h.any() and not before.c.any()
        else:
            np.testing.assert_array_equal(before.h, calls[k - 1][1].h)
            np.testing.assert_array_equal(before.c, calls[k - 1][1].c)
            assert before.h.any() and before.c.any()


# ---------------------------------------------------------------- limits


@each(
    "limits, steps",
    [
        ({"steps": 7}, 7),
        ({"epochs": 2}, 2 * CHUNKS),
        ({"steps": 3, "epochs": 9}, 3),
        ({"steps": 99, "epochs": 1}, CHUNKS),
        ({"minutes": 0.1}, 1 + 6),  # the first may compile, and is not counted
        ({"minutes": 0.1, "steps": 4}, 4),
    ],
)
def test_training_ends_at_the_first_limit(monkeypatch, limits, steps):
    """Exactly so many updates; the clock of this test takes a second for each."""
    clock = iter(range(10**6))
    monkeypatch.setattr(pace_module, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    monkeypatch.setattr("nblstm.training.report.validation_loss", lambda *args: 1.0)
    trainer = make_trainer(valid="minutes" not in limits, **limits)  # validating would take a second as well
    trainer._validate = trainer._validate if len(trainer.valid) else lambda stop, epoch_ended=True: iter(())
    updates = [report for report in trainer.run() if not report.validated]
    assert [report.step for report in updates] == list(range(1, steps + 1))
    assert trainer.progress == 1


def test_the_time_left_counts_validations(monkeypatch):
    """At one second an update and one a validation: each epoch that is to come has its updates and its validation."""
    clock = iter(range(10**6))
    monkeypatch.setattr(pace_module, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    monkeypatch.setattr("nblstm.training.report.validation_loss", lambda *args: 1.0)
    reports = [report for report in make_trainer(epochs=4).run() if not report.validated]
    last_of_third = reports[3 * CHUNKS - 1]
    assert last_of_third.seconds_left == pytest.approx((3 * CHUNKS - 1) / 3 + 2)  # the first update is not counted


def test_the_shown_loss_is_smoothed():
    """The mean of the losses so far at first, later the last one counts a fiftieth: s' = 0.98 s + 0.02 loss."""
    reports = [report for report in make_trainer(valid=False, backend="numpy", steps=70).run() if not report.validated]
    losses, shown = ([getattr(report, name) for report in reports] for name in ("loss", "smooth_loss"))
    np.testing.assert_allclose(shown[:49], np.cumsum(losses[:49]) / np.arange(1, 50), rtol=1e-12)
    for k in range(49, 70):
        assert shown[k] == pytest.approx(0.98 * shown[k - 1] + 0.02 * losses[k], rel=1e-12)


def test_the_end_is_validated_also_inside_an_epoch():
    """A limit in the middle of an epoch still ends with a validation, and only one at an epoch's end."""
    inside = [r.step for r in make_trainer(steps=7).run() if r.validated]
    assert inside == [CHUNKS, 7]
    assert [r.step for r in make_trainer(steps=2 * CHUNKS).run() if r.validated] == [CHUNKS, 2 * CHUNKS]


def test_tokens_are_counted():
    """An epoch reads each of 4 x 33 transitions once, though its last chunk is shorter."""
    updates = [r.tokens for r in make_trainer(epochs=2).run() if not r.validated]
    assert updates == [32, 64, 96, 128, 132, 164, 196, 228, 260, 264]


# ---------------------------------------------------------------- the best weights


def scripted(monkeypatch, *losses):
    """Validation finds these losses, one after the other."""
    rest = iter(losses)
    monkeypatch.setattr("nblstm.training.report.validation_loss", lambda *args: next(rest))


def test_patience_stops_and_the_best_weights_are_kept(monkeypatch):
    """Two epochs without a better loss end the run; the weights to keep are those of the best epoch, not the last."""
    scripted(monkeypatch, 3.0, 2.0, 2.5, 2.0)
    trainer = make_trainer(epochs=9, patience=2)
    weights = {r.step: trainer.network.parameters.copy() for r in trainer.run() if r.validated}
    assert list(weights) == [CHUNKS, 2 * CHUNKS, 3 * CHUNKS, 4 * CHUNKS]
    assert trainer.best_loss == 2.0
    np.testing.assert_array_equal(trainer.keep(), weights[2 * CHUNKS])
    assert np.any(trainer.keep() != weights[4 * CHUNKS])


def test_patience_starts_again_after_a_better_epoch(monkeypatch):
    """It counts epochs in a row."""
    scripted(monkeypatch, 3.0, 3.1, 2.0, 2.1, 2.2)
    assert [r.step for r in make_trainer(epochs=9, patience=2).run() if r.validated][-1] == 5 * CHUNKS


def test_patience_that_is_over_stays_over(monkeypatch, tmp_path):
    """A run that stopped early does not train another epoch when it is resumed with the same patience."""
    scripted(monkeypatch, 1.0, 2.0)
    trainer = make_trainer(epochs=9, patience=1)
    list(trainer.run())
    resumed = through_a_file(trainer, tmp_path / "checkpoint", epochs=9, patience=1)
    assert list(resumed.run()) == []


def test_without_a_validation_text_the_last_weights_are_kept():
    """There is nothing to choose by."""
    trainer = make_trainer(valid=False, epochs=1)
    (end,) = [report for report in trainer.run() if report.validated]
    assert end.valid_loss is None and end.improved
    assert trainer.keep() is trainer.network.parameters


# ---------------------------------------------------------------- the clip


def first_update(**settings):
    """The change that the first update makes with plain gradient descent at rate 1, and its report."""
    trainer = make_trainer(steps=1, optimizer="sgd", momentum=0.0, lr=1.0, schedule="constant", **settings)
    before = trainer.network.parameters.astype(np.float64)
    report = next(trainer.run())
    return trainer.network.parameters - before, report


def test_the_norm_is_clipped():
    """A gradient longer than --clip is scaled down to it, one that is shorter stays as it is; the report has the norm."""
    whole, report = first_update(clip=0.0)
    assert np.linalg.norm(whole) == pytest.approx(report.gradient_norm, rel=1e-4)
    clipped, _ = first_update(clip=0.01)
    assert report.gradient_norm > 0.1
    assert np.linalg.norm(clipped) == pytest.approx(0.01, rel=1e-3)
    np.testing.assert_allclose(clipped, whole * 0.01 / report.gradient_norm, atol=1e-6)
    np.testing.assert_array_equal(first_update(clip=100.0)[0], whole)


def test_single_values_are_clipped():
    """No element of the gradient is larger than --clip-value, smaller ones stay."""
    whole, _ = first_update(clip=0.0)
    clipped, _ = first_update(clip=0.0, clip_value=0.001)
    assert np.abs(whole).max() > 0.002
    np.testing.assert_allclose(clipped, np.clip(whole, -0.001, 0.001), atol=1e-6)


# ---------------------------------------------------------------- divergence


@each("lr", [1e30, 1e38])
@each("optimizer", OPTIMIZERS)
@each("clip", [5.0, 0.0])
def test_divergence_is_reported_with_advice(lr, optimizer, clip):
    """An absurd rate ends in TrainingError that says what to try; the weights are finite ones from before."""
    trainer = make_trainer(valid=False, steps=50, optimizer=optimizer, lr=lr, clip=clip, schedule="constant")
    with pytest.raises(TrainingError, match="diverged.*less than lr=.*clip=") as caught:
        list(trainer.run())
    assert "clip=0" not in str(caught.value)
    assert np.isfinite(trainer.keep()).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_the_last_good_weights_are_those_before_the_bad_update(bad):
    """Where the loss is not finite after 3 updates, the weights go back to those that still had a finite one."""
    trainer = make_trainer(steps=9)
    compute, weights = trainer.network.loss_and_gradient, []

    def failing(*args):
        weights.append(trainer.network.parameters.copy())
        loss, state = compute(*args)
        return (loss if len(weights) < 4 else bad), state

    trainer.network.loss_and_gradient = failing
    with pytest.raises(TrainingError, match="at step 4"):
        list(trainer.run())
    np.testing.assert_array_equal(trainer.keep(), weights[2])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_divergence_seen_in_validation(monkeypatch, bad):
    """A validation loss that is not finite ends the run too, with the best weights of before."""
    scripted(monkeypatch, 2.0, bad)
    trainer, weights = make_trainer(epochs=9), []
    with pytest.raises(TrainingError, match="the validation loss is"):
        for report in trainer.run():
            if report.validated:
                weights.append(trainer.network.parameters.copy())
    assert trainer.best_loss == 2.0
    np.testing.assert_array_equal(trainer.keep(), weights[0])


# ---------------------------------------------------------------- small texts


@each("length", [2, 3, 10, 100, 1000])
def test_a_small_text_lowers_batch_and_bptt(tmp_path, length):
    """A text too small for 64 x 64 is trained on all the same, and the user is told."""
    (tmp_path / "text").write_text("ab" * (length // 2) + "a" * (length % 2))
    messages = []
    nblstm.train(
        tmp_path / "text", tmp_path / "m", valid_fraction=0.0, hidden_size=4, steps=2, on_message=messages.append
    )
    assert len(messages) == 1 and "lowered" in messages[0] and str(length) in messages[0]


def test_one_token_is_too_few(tmp_path):
    """There is nothing to predict, and nothing is written."""
    (tmp_path / "text").write_text("a")
    with pytest.raises(TextError, match="at least 2 tokens"):
        nblstm.train(tmp_path / "text", tmp_path / "m", valid_fraction=0.0)
    assert [path.name for path in tmp_path.iterdir()] == ["text"]


def test_a_repeated_text_is_learnt_by_heart(tmp_path):
    """The loss falls below 0.1 nats where every character follows from the ones before."""
    (tmp_path / "text").write_text("the cat sat. " * 40)
    reports = []
    model = nblstm.train(
        tmp_path / "text", tmp_path / "m", hidden_size=16, num_layers=1, dropout=0.0, batch_size=4, bptt=26, lr=0.03,
        steps=120, on_report=reports.append,
    )  # fmt: skip
    assert reports[-1].loss < 0.1 and reports[-1].valid_loss < 0.1
    assert "".join(model.generate("the c", n=21, temperature=0)) == "at sat. the cat sat. "


# ---------------------------------------------------------------- averaging, smoothing, weights of tokens


def test_averaging_starts_when_the_loss_stops_falling():
    """NT-ASGD with n = 2: a loss above the best of those more than two validations old starts the mean, and no other."""
    optimizer = make_trainer(optimizer="asgd", averaging_patience=2).optimizer
    for loss, started in ((3.0, False), (2.0, False), (2.5, False), (2.6, False), (2.1, True), (1.0, True)):
        optimizer.validated(loss)
        assert (optimizer.count is not None) == started, loss


def test_the_mean_is_validated_and_kept_and_training_goes_on_without_it(tmp_path):
    """Once averaging, the best parameters are the mean of all that followed; the run resumes to the last bit."""
    settings = {"optimizer": "asgd", "lr": 0.5, "schedule": "constant", "steps": 2 * CHUNKS}
    trainer = make_trainer(**settings)
    trainer.optimizer.count = 0
    seen = []
    for report in trainer.run():
        if not report.validated:
            seen.append(trainer.network.parameters.copy())
        else:
            assert np.array_equal(trainer.network.parameters, seen[-1])
    if report.improved:
        np.testing.assert_allclose(trainer.best, np.mean(seen, axis=0), rtol=0, atol=1e-5)
    np.testing.assert_allclose(trainer.optimizer.averaged(None), np.mean(seen, axis=0), rtol=0, atol=1e-5)
    resumed = through_a_file(trainer, tmp_path / "c.safetensors", **{**settings, "steps": 3 * CHUNKS})
    assert resumed.optimizer.state_dict() == trainer.optimizer.state_dict()
    assert resumed.optimizer.losses == trainer.optimizer.losses and len(trainer.optimizer.losses) == 2


@pytest.mark.parametrize("settings", [{"label_smoothing": 0.2}, {"classes": True}])
def test_smoothing_and_weights_are_for_training_alone(settings):
    """They change the gradient, and the validation loss of the same parameters is the plain one."""
    plain, other = make_trainer(steps=1), make_trainer(steps=1)
    other.network.head.smoothing = settings.get("label_smoothing", 0.0)
    other.network.head.classes = np.array([0, 1, 1, 1, 1, 1, 1], np.float32) if "classes" in settings else None
    assert report_module.validation_loss(plain.network, plain.valid) == report_module.validation_loss(
        other.network, other.valid
    )
    next(plain.run())
    next(other.run())
    assert not np.array_equal(plain.gradient, other.gradient)


def test_a_chunk_in_which_no_target_counts_teaches_nothing():
    """Its loss and its gradient are zero, also with label smoothing, and training goes on behind it."""
    trainer = make_trainer(steps=2, weight_decay=0.0)
    trainer.network.head.classes, trainer.network.head.smoothing = np.zeros(7, np.float32), 0.1
    assert [(report.loss, report.gradient_norm) for report in trainer.run() if not report.validated] == [(0.0, 0.0)] * 2


def test_compiling_takes_none_of_the_time(monkeypatch):
    """Kernels that an update or the first validation compiles do not count, neither in `seconds` nor in the pace."""
    clock, compiled = [0.0], [0.0]
    monkeypatch.setattr(pace_module, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    monkeypatch.setattr(pace_module, "compiled_seconds", lambda: compiled[0])

    def work(seconds, compiling=0.0):
        clock[0] += seconds + compiling
        compiled[0] += compiling

    trainer = make_trainer(backend="numpy", epochs=2)
    losses = trainer.network.loss_and_gradient
    trainer.network.loss_and_gradient = lambda *args: (work(1.0, 20.0 if trainer.step == 1 else 0.0), losses(*args))[1]
    validate = trainer.measure
    trainer.measure = lambda *args: (work(3.0, 30.0 if not trainer.validated_step else 0.0), validate(*args))[1]
    reports = list(trainer.run())
    assert reports[-1].seconds == 2 * CHUNKS - 1 + 2 * 3  # the first update is not counted
    assert reports[1].tokens_per_second == pytest.approx(32)


def test_nested_compiling_counts_once(monkeypatch):
    """A kernel that is compiled for another one takes the time that both take together."""
    from nblstm.kernels import compiling

    clock = iter(range(99))
    monkeypatch.setattr(compiling, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    before = compiling.compiled_seconds()
    with compiling.counted(), compiling.counted():
        next(clock)
    assert compiling.compiled_seconds() - before == 2


def test_a_validation_tells_how_far_it_is():
    """`validating` rises from 0 while its chunks are read, and is None outside."""
    trainer, shares = make_trainer(backend="numpy", steps=1), []
    assert not any(report.validated and trainer.validating is not None for report in trainer.run(
        lambda: bool(trainer.validating is not None and shares.append(trainer.validating))
    ))  # fmt: skip
    assert shares[0] == 0 and shares == sorted(shares) and trainer.validating is None
