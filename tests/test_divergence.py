"""Numbers that are not finite: caught in their step, never saved as good, answered by going back if that is asked."""

import math

import numpy as np
import pytest
from support.commands import SMALL, VERSE

import nblstm
from nblstm.config import OPTIMIZERS
from nblstm.errors import ConfigError, DivergenceError
from nblstm.files import safetensors
from nblstm.files.model_file import load_checkpoint
from nblstm.tasks import session as session_module
from nblstm.training.trainer import Trainer

TINY = {"hidden_size": 8, "num_layers": 1, "batch_size": 4, "bptt": 8, "threads": 1, "valid_fraction": 0.0}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A current folder with nothing but corpus.txt in it; every update is saved."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(session_module, "SAVE_SECONDS", -1.0)
    (tmp_path / "corpus.txt").write_text(VERSE * 20, encoding="utf-8")
    return tmp_path


def spoil(monkeypatch, thing, bad, steps):
    """Let a loss, a gradient or a weight be `bad` when one of these steps is made, counted over all attempts."""
    made = []

    def reached():
        made.append(None)
        return len(made) in steps

    clip, move = Trainer._clip, Trainer._move

    def clipping(self, loss):
        if thing != "weight" and reached():
            loss = bad if thing == "loss" else loss
            self.gradient[-1] = bad if thing == "gradient" else self.gradient[-1]
        return clip(self, loss)

    def moving(self, lr, gradient, norm):
        update = self.optimizer.update

        def updating(kernels, w, *args):
            update(kernels, w, *args)
            w[3] = bad

        if thing == "weight" and reached():
            self.optimizer.update = updating
        try:
            return move(self, lr, gradient, norm)
        finally:
            self.optimizer.__dict__.pop("update", None)

    monkeypatch.setattr(Trainer, "_clip", clipping)
    monkeypatch.setattr(Trainer, "_move", moving)


def finite(path):
    return all(np.isfinite(tensor).all() for tensor in safetensors.read(path)[0].values())


things = pytest.mark.parametrize("thing", ["loss", "gradient", "weight"])


@things
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_it_is_caught_in_its_step_and_never_saved(here, monkeypatch, thing, bad):
    """The error names the step; model and checkpoint hold finite numbers of before, and the run can go on from there."""
    if thing == "loss" and bad < 0:
        pytest.skip("a loss is not negative")
    spoil(monkeypatch, thing, bad, {6})
    with pytest.raises(DivergenceError, match=r"at step 6: training has diverged"):
        nblstm.train("corpus.txt", **TINY, steps=9)
    assert load_checkpoint("model.checkpoint.safetensors")[1]["trainer"]["step"] == 5
    assert finite("model.safetensors") and finite("model.checkpoint.safetensors")
    assert nblstm.train(resume=True, steps=9).training["steps"] == 9


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_no_weight_is_ever_saved_that_is_not_finite(here, optimizer):
    """Also where no loss is computed between the update and the save: an absurd rate, a checkpoint at every step."""
    with pytest.raises(DivergenceError):
        nblstm.train("corpus.txt", **TINY, steps=9, optimizer=optimizer, lr=1e38, schedule="constant", clip=0.0)
    assert finite("model.safetensors")
    assert not (here / "model.checkpoint.safetensors").exists() or finite("model.checkpoint.safetensors")


@things
def test_rollback_goes_back_with_half_the_rate(here, monkeypatch, thing):
    """To the last checkpoint, by a message; the run then ends as one that was given the rate there."""
    spoil(monkeypatch, thing, math.nan, {6})
    messages = []
    settings = {**TINY, "schedule": "constant", "lr": 0.02, "on_divergence": "rollback"}
    model = nblstm.train("corpus.txt", **settings, steps=9, on_message=messages.append)
    assert len(messages) == 1 and messages[0].endswith(
        "back to step 5 with half the learning rate, 0.01 (1 of 3 times)."
    )
    assert model.training["steps"] == 9 and model.training["config"]["lr"] == 0.01
    monkeypatch.undo()
    monkeypatch.chdir(here)
    nblstm.train("corpus.txt", "plain.safetensors", **{**settings, "on_divergence": "stop"}, steps=5)
    session = session_module.Session.resume("plain.safetensors", changes={"steps": 9})
    tensors, facts = load_checkpoint("plain.checkpoint.safetensors")
    halved = nblstm.TrainConfig.from_dict({**session.trainer.config.to_dict(), "lr": 0.01})
    session.trainer.go_back(halved, tensors, facts["trainer"])
    list(session.run())
    np.testing.assert_array_equal(session.model().parameters, model.parameters)


def test_rollback_gives_up_after_three(here, monkeypatch):
    """The fourth divergence ends the run, whose model is a good one; the metrics have every step once."""
    spoil(monkeypatch, "loss", math.nan, {6, 8, 10, 12})
    messages = []
    with pytest.raises(DivergenceError, match=r"less than lr=0.0025"):
        nblstm.train("corpus.txt", **TINY, lr=0.02, on_divergence="rollback", steps=30, on_message=messages.append)
    assert [message.partition("(")[2] for message in messages] == [f"{n} of 3 times)." for n in (1, 2, 3)]
    assert finite("model.safetensors") and finite("model.checkpoint.safetensors")
    steps = [line.split(",")[0] for line in (here / "model.metrics.csv").read_text().splitlines()[1:]]
    assert len(steps) == len(set(steps))


def test_rollbacks_are_counted_over_all_of_a_run(here, monkeypatch):
    """Also over those it was resumed in; the rate that the run was started with may be given again."""
    spoil(monkeypatch, "loss", math.nan, {3, 6, 12, 14})
    nblstm.train("corpus.txt", **TINY, lr=0.02, on_divergence="rollback", steps=6)
    assert load_checkpoint("model.checkpoint.safetensors")[1]["config"]["lr"] == 0.005
    with pytest.raises(DivergenceError):
        nblstm.train(resume=True, lr=0.02, steps=20)
    facts = load_checkpoint("model.checkpoint.safetensors")[1]
    assert facts["rollbacks"] == 3 and facts["config"]["lr"] == 0.0025


def test_the_first_update_can_be_gone_back_from(here, monkeypatch):
    """There is a checkpoint from the start."""
    spoil(monkeypatch, "gradient", math.inf, {1})
    model = nblstm.train("corpus.txt", **TINY, lr=0.02, on_divergence="rollback", steps=4)
    assert model.training["steps"] == 4 and model.training["config"]["lr"] == 0.01


def test_on_the_command_line(command, here, monkeypatch):
    """--on-divergence rollback says so in a line and goes on; stop is the default, one line and code 1."""
    spoil(monkeypatch, "loss", math.nan, {3, 9})
    outcome = command("train", "corpus.txt", *SMALL, "--steps", 5, "--valid-fraction", 0, "--on-divergence", "rollback")
    assert outcome.code == 0 and "the loss is nan at step 3: back to step 2 with half" in outcome.err
    outcome = command("train", "corpus.txt", *SMALL, "--steps", 5, "--overwrite", "-q")
    assert (
        outcome.code == 1
        and outcome.err.startswith("Error: the loss is nan at step 3")
        and outcome.err.count("\n") == 1
    )


def test_only_runs_with_a_checkpoint_can_go_back():
    """Elsewhere the setting is refused; a value that does not exist is refused everywhere."""
    for kind in (nblstm.TextGenerator, nblstm.MLPLanguageModel, nblstm.SeriesModel):
        with pytest.raises(ConfigError, match="there is no setting 'on_divergence'"):
            kind(on_divergence="rollback")
    with pytest.raises(ConfigError, match="on_divergence must be one of stop, rollback, got 'never'"):
        nblstm.TrainConfig(on_divergence="never")


@pytest.mark.parametrize(
    "settings",
    [
        {"dropout": 0.3, "num_layers": 2},
        {"documents": "line", "optimizer": "rmsprop"},
        {"cell": "gru", "bidirectional": True},
    ],
)
def test_any_number_of_threads_makes_the_same_weights(here, settings):
    """Same seed, same build: the same bits for 1 to 5 threads."""
    made = [
        nblstm.train(
            "corpus.txt",
            f"{threads}.safetensors",
            **{**TINY, "hidden_size": 40, **settings, "threads": threads},
            steps=6,
        )
        for threads in (1, 2, 3, 5)
    ]
    for model in made[1:]:
        np.testing.assert_array_equal(model.parameters, made[0].parameters)
