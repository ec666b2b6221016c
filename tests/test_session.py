"""A run and its files: what is written when, what is refused, and how a run goes on."""

import csv
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from support.cases import each

import nblstm
from nblstm.config import TextConfig
from nblstm.errors import ConfigError, ModelFileError, NblstmError, TextError, TrainingError
from nblstm.files import safetensors
from nblstm.files.model_file import load_checkpoint
from nblstm.tasks import metrics_file
from nblstm.tasks import session as session_module
from nblstm.tasks.metrics_file import COLUMNS

TINY = {"hidden_size": 8, "num_layers": 1, "batch_size": 4, "bptt": 8, "threads": 1}
FILES = ["model.checkpoint.safetensors", "model.metrics.csv", "model.safetensors"]


@pytest.fixture
def here(trained, tmp_path, monkeypatch):
    """An empty current folder but for corpus.txt: 8 streams' worth of chunks, about 45 an epoch."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corpus.txt").write_bytes((trained / "corpus.txt").read_bytes())
    return tmp_path


def train(corpus="corpus.txt", output="model.safetensors", **settings):
    return nblstm.train(corpus, output, **{**TINY, **settings})


def go_on(output="model.safetensors", **settings):
    return nblstm.train(output=output, resume=True, **settings)


def after(steps):
    """A `stop` that says yes after so many updates, counted by `on_report`."""
    reports = []
    return {"stop": lambda: len([r for r in reports if not r.validated]) >= steps, "on_report": reports.append}


def rows(path="model.metrics.csv"):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def content(*names):
    return {name: Path(name).read_bytes() for name in names or FILES}


# ---------------------------------------------------------------- files


def test_three_files_stand_side_by_side(here):
    """A run leaves the model, the checkpoint and the metrics, and no temporary file."""
    model = train(steps=5)
    assert sorted(os.listdir()) == ["corpus.txt", *FILES]
    np.testing.assert_array_equal(nblstm.load("model.safetensors").parameters, model.parameters)
    assert model.training["steps"] == 5 and model.training["corpus"] == ["corpus.txt"]


def test_the_model_file_holds_the_best_weights(here, monkeypatch):
    """Those of the validation with the lowest loss, while the checkpoint goes on with the last."""
    losses = iter([2.0, 1.0, 3.0])
    monkeypatch.setattr("nblstm.training.report.validation_loss", lambda *args: next(losses))
    weights = []
    keep = lambda report: report.validated and weights.append(nblstm.load("model.safetensors").parameters)
    model = train(epochs=3, on_report=keep)
    np.testing.assert_array_equal(model.parameters, weights[1])
    np.testing.assert_array_equal(nblstm.load("model.safetensors").parameters, weights[1])
    assert np.any(load_checkpoint("model.checkpoint.safetensors")[0]["parameters"] != weights[1])


def test_metrics_are_flushed_as_they_come_and_monotone(here, monkeypatch):
    """While the run goes on, every row is already in the file; steps, tokens and seconds never fall."""
    monkeypatch.setattr(session_module, "METRICS_SECONDS", 0.0)
    monkeypatch.setattr(session_module.time, "monotonic", iter(range(10**6)).__next__)
    seen = []
    train(steps=12, on_report=lambda report: seen.append((report.step, rows()[-1]["step"])))
    assert [int(last) for _, last in seen] == [step for step, _ in seen]
    table = rows()
    assert tuple(table[0]) == COLUMNS and len(table) == len(seen)
    for name in ("step", "epoch", "tokens", "seconds"):
        values = [float(row[name]) for row in table]
        assert values == sorted(values)
    assert [bool(row["valid_loss"]) for row in table] == [False] * 12 + [True]


def test_resume_drops_rows_behind_the_checkpoint(here):
    """Rows of steps that will be made again go, and half a row that a crash left; those before stay."""
    train(steps=20, **after(10))
    with open("model.metrics.csv", "w", newline="") as file:
        file.write(",".join(COLUMNS) + "\r\n")
        for step in (5, 10, 11, 15):
            file.write(f"{step},0,0,0,0,0,0,0,0,\r\n")
        file.write("17,0.3")
    go_on()
    assert [int(row["step"]) for row in rows()] == [5, 10, 20]


def test_metrics_that_are_no_longer_there_start_anew(here):
    """Deleted or overwritten with something else, the file gets its header again."""
    train(steps=4, **after(2))
    Path("model.metrics.csv").write_bytes(b"\xff\0\n1,2\n")
    go_on()
    assert [row["step"] for row in rows()] == ["4"]
    os.unlink("model.metrics.csv")
    go_on(steps=6)
    assert [row["step"] for row in rows()] == ["6"]


# ---------------------------------------------------------------- files that are not this run's


def test_a_table_that_is_no_metrics_is_not_replaced(here):
    """The metrics of data.safetensors are data.metrics.csv, which may be a user's: with overwrite, too."""
    Path("model.metrics.csv").write_text("day,rain\n1,0.5\n")
    for overwrite in (False, True):
        with pytest.raises(ModelFileError, match="model.metrics.csv exists and holds no metrics of a run"):
            train(steps=2, overwrite=overwrite)
    assert Path("model.metrics.csv").read_text() == "day,rain\n1,0.5\n" and not os.path.exists("model.safetensors")


def test_a_checkpoint_is_no_output(here):
    """What would write to the checkpoint of another run is refused, also before that has one."""
    with pytest.raises(ConfigError, match="is what the checkpoint of another run is called"):
        train(output="model.checkpoint.safetensors", steps=2)
    assert sorted(os.listdir()) == ["corpus.txt"]


def test_a_file_of_another_kind_is_not_replaced(here):
    """A state is not written over a model, nor a model over a checkpoint or a state; a model replaces any model."""
    train(steps=2)
    model, before = nblstm.load("model.safetensors"), Path("model.safetensors").read_bytes()
    series = nblstm.SeriesModel(steps=1, hidden_size=2).fit(np.arange(40.0))
    model.save_state("kept.state", model.state("a"))
    refused = {
        "model.safetensors is a model; a state": lambda: model.save_state("model.safetensors", model.state("a")),
        "is a training checkpoint; a model": lambda: model.save("model.checkpoint.safetensors"),
        "kept.state is a state; a model": lambda: model.save("kept.state"),
        "is a training checkpoint; a model of series": lambda: series.save("model.checkpoint.safetensors"),
    }  # fmt: skip
    for said, call in refused.items():
        with pytest.raises(ModelFileError, match=said):
            call()
    assert Path("model.safetensors").read_bytes() == before
    model.save_state("kept.state", model.state("b"))
    series.save("model.safetensors")
    shutil.copy("kept.state", "other.safetensors")
    with pytest.raises(ModelFileError, match="is a state; a model does not replace it"):
        train(output="other.safetensors", steps=2, overwrite=True)


# ---------------------------------------------------------------- saving


def broken_disk(monkeypatch, names, calls=None):
    """Writing files with these names fails as on a full disk: at the given calls, or always."""
    write, count = safetensors.write, {"n": 0}

    def failing(path, tensors, metadata):
        if any(os.path.basename(path).endswith(name) for name in names):
            count["n"] += 1
            if calls is None or count["n"] in calls:
                raise ModelFileError(f"cannot write {path}: No space left on device.")
        write(path, tensors, metadata)

    monkeypatch.setattr(safetensors, "write", failing)


def test_a_full_disk_in_the_middle_warns_and_goes_on(here, monkeypatch):
    """A save that fails inside the run is a message; the run ends as it would, with its files written later."""
    train(output="expected.safetensors", epochs=3)
    broken_disk(monkeypatch, [""], calls={1, 2})
    messages = []
    model = train(epochs=3, on_message=messages.append)
    assert len(messages) == 2 and all("No space left" in message for message in messages)
    np.testing.assert_array_equal(model.parameters, nblstm.load("expected.safetensors").parameters)
    np.testing.assert_array_equal(nblstm.load("model.safetensors").parameters, model.parameters)


def test_a_disk_that_stays_full_is_an_error_at_the_end(here, monkeypatch):
    """The user learns that nothing was saved."""
    broken_disk(monkeypatch, [""])
    with pytest.raises(ModelFileError, match="No space left"):
        train(steps=3)


def test_a_failed_save_leaves_the_old_files(here, monkeypatch):
    """A disk that runs full while a file is being written: the one before is still whole, no remains lie about."""
    train(epochs=1)
    before = content("model.safetensors", "model.checkpoint.safetensors")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors.os, "fsync", full)
    messages = []
    with pytest.raises(ModelFileError, match="No space left"):
        go_on(epochs=2, on_message=messages.append)
    assert messages and content("model.safetensors", "model.checkpoint.safetensors") == before
    assert sorted(os.listdir()) == ["corpus.txt", *FILES]


def test_metrics_on_a_full_disk_warn_once(here, monkeypatch):
    """Rows that cannot be written do not stop the run, and not every one is worth a message."""
    monkeypatch.setattr(session_module, "METRICS_SECONDS", -1.0)

    class Full:
        def writerow(self, row):
            if row is not COLUMNS:
                raise OSError(28, "No space left on device")

    monkeypatch.setattr(metrics_file.csv, "writer", lambda file: Full())
    messages = []
    train(steps=4, on_message=messages.append)
    assert len(messages) == 1 and "model.metrics.csv" in messages[0]


def test_a_run_that_is_closed_is_saved(here):
    """Leaving the loop over the reports early saves all of it."""
    text = TextConfig(valid_fraction=0.0)
    session = session_module.Session.start(["corpus.txt"], text=text, model={"hidden_size": 8, "num_layers": 1})
    reports = session.run()
    while next(reports).step < 3:
        pass
    reports.close()
    assert load_checkpoint("model.checkpoint.safetensors")[1]["trainer"]["step"] == 3
    assert nblstm.load("model.safetensors").training["steps"] == 3


def test_divergence_leaves_a_good_model(here):
    """The model file holds finite weights, and the checkpoint of before is still there."""
    train(epochs=1)
    before = content("model.checkpoint.safetensors")
    with pytest.raises(TrainingError, match="diverged"):
        train(output="other.safetensors", steps=50, lr=1e30)
    assert np.isfinite(nblstm.load("other.safetensors").parameters).all()
    assert content("model.checkpoint.safetensors") == before


# ---------------------------------------------------------------- going on


@pytest.mark.parametrize("stop_at", [7, 40])
def test_a_resumed_session_writes_the_same_model(here, stop_at):
    """A run that was stopped and resumed in a new session ends in the very weights of an uninterrupted one."""
    train(output="whole.safetensors", epochs=2, dropout=0.3)
    train(epochs=2, dropout=0.3, **after(stop_at))
    assert load_checkpoint("model.checkpoint.safetensors")[1]["trainer"]["step"] == stop_at
    go_on()
    for name in ("safetensors", "checkpoint.safetensors"):
        whole, resumed = (safetensors.read(f"{stem}.{name}")[0] for stem in ("whole", "model"))
        for key in whole:
            np.testing.assert_array_equal(whole[key], resumed[key], err_msg=key)


def test_a_changed_corpus_is_refused(here):
    """A run goes on only with the very text it was started on; nothing is written."""
    train(epochs=1)
    before = content()
    with open("corpus.txt", "a") as file:
        file.write("More.")
    with pytest.raises(TrainingError, match="the text is not the one"):
        go_on(epochs=2)
    assert content() == before


def test_a_moved_corpus_is_found_by_its_new_name(here):
    """What counts is the text, not where it lies."""
    train(epochs=1)
    os.rename("corpus.txt", "moved.txt")
    with pytest.raises(
        TextError, match="corpus.txt cannot be read: .*; if the run's text has moved, name where it is now"
    ):
        go_on(epochs=2)
    with pytest.raises(TextError, match=r"gone.txt cannot be read: [^;]*\.$"):
        nblstm.train("gone.txt", resume=True, epochs=2)
    assert nblstm.train("moved.txt", resume=True, epochs=2).training["epochs"] == 2


@pytest.fixture
def ended(here):
    """A run of an epoch that has ended."""
    return train(epochs=1)


@each(
    "name, value",
    [("hidden_size", 16), ("lr", 0.5), ("level", "word"), ("seed", 3), ("batch_size", 5), ("dtype", "float64")],
)
def test_changed_settings_are_refused_by_name(ended, name, value):
    """What makes the run what it is cannot change under way."""
    with pytest.raises(ConfigError, match=f"^{name} is part of the run"):
        go_on(**{name: value})


def test_the_same_settings_may_be_given_again(here):
    """The command that started a run, with --resume, goes on with it: also where batch and bptt were lowered."""
    asked = {"batch_size": 64, "bptt": 64, "epochs": 2, "hidden_size": 8}
    nblstm.train("corpus.txt", **asked)
    assert nblstm.train("corpus.txt", resume=True, **{**asked, "epochs": 3}).training["epochs"] == 3


@pytest.mark.parametrize("more, epochs", [({"epochs": 3}, 3), ({"steps": 60}, None), ({"epochs": 2, "patience": 5}, 2)])
def test_a_finished_run_can_be_extended(here, more, epochs):
    """A new limit replaces the old one."""
    first = train(epochs=1)
    model = go_on(**more)
    assert model.training["steps"] > first.training["steps"]
    assert model.training["epochs"] == epochs or model.training["steps"] == more["steps"]


def test_a_finished_run_stays_as_it_is(here):
    """Resumed without a new limit there is nothing to do."""
    first = train(epochs=1)
    reports = []
    np.testing.assert_array_equal(go_on(on_report=reports.append).parameters, first.parameters)
    assert reports == []


def test_nothing_to_resume(here):
    """Without a checkpoint there is no run to go on with."""
    with pytest.raises(ModelFileError, match="model.checkpoint.safetensors does not exist"):
        go_on()
    assert os.listdir() == ["corpus.txt"]


# ---------------------------------------------------------------- starting from a model


def test_init_from_starts_from_the_weights_and_the_vocabulary(here, trained):
    """At a rate of almost nothing the new model is the old one, shape and vocabulary included."""
    base = nblstm.load(trained / "model.safetensors")
    (here / "other.txt").write_text("Shall we? " * 30 + "\N{SNOWMAN}" * 9)
    model = nblstm.train(
        "other.txt", init_from=trained / "model.safetensors", batch_size=4, bptt=8, steps=2, lr=1e-12, threads=1
    )
    assert model.config == base.config and model.vocabulary == base.vocabulary
    np.testing.assert_allclose(model.parameters, base.parameters, atol=1e-10)


def test_init_from_can_be_resumed(here, trained):
    """The vocabulary of the model it started from stays."""
    nblstm.train("corpus.txt", init_from=trained / "model.safetensors", batch_size=4, bptt=8, steps=2)
    assert go_on(steps=4).vocabulary == nblstm.load(trained / "model.safetensors").vocabulary


@pytest.mark.parametrize("setting", [{"hidden_size": 16}, {"level": "word"}, {"max_vocab": 9}])
def test_init_from_brings_its_own_shape(here, trained, setting):
    """What comes from the model cannot be asked for."""
    with pytest.raises(ConfigError, match=f"^{next(iter(setting))} comes from the model"):
        nblstm.train("corpus.txt", init_from=trained / "model.safetensors", **setting)


@pytest.mark.parametrize("also", [{"overwrite": True}, {"init_from": "model.safetensors"}])
def test_resume_starts_nothing(here, also):
    """Going on and starting are two things."""
    train(steps=1)
    with pytest.raises(ConfigError, match="cannot be combined"):
        go_on(**also)


# ---------------------------------------------------------------- the output


def test_an_existing_run_is_kept_under_another_name(here):
    """With all its files, so that it can be used and resumed; what it becomes is told. A third run finds the next name."""
    heard = []
    for steps in (1, 2, 3):
        train(steps=steps, sample=3, on_message=heard.append)
    kept = [line for line in heard if line.startswith("what was")]
    told = "what was model.safetensors is now model.{}.safetensors; overwrite=True replaces it instead."
    assert kept == [told.format(1), told.format(2)]
    for name, steps in (("model.1", 1), ("model.2", 2), ("model", 3)):
        assert nblstm.load(f"{name}.safetensors").training["steps"] == steps
        assert Path(f"{name}.samples.jsonl").exists() and len(rows(f"{name}.metrics.csv")) == 1
    assert go_on("model.1.safetensors", steps=4).training["steps"] == 4


@pytest.mark.parametrize("existing", ["model.safetensors", "model.checkpoint.safetensors"])
def test_an_existing_run_is_replaced_where_that_is_asked_for(here, existing):
    """Whether it has a model, or has only come as far as a checkpoint; otherwise either is kept."""
    safetensors.write(here / existing, {}, {"precious": "weights"})
    train(steps=1)
    kept = existing.replace("model", "model.1", 1)
    assert safetensors.read(here / kept) == ({}, {"precious": "weights"})
    train(steps=2, overwrite=True)
    assert nblstm.load("model.safetensors").training["steps"] == 2
    assert not [name for name in os.listdir() if name.startswith("model.2")]


def test_a_run_that_cannot_start_moves_nothing(here):
    """A missing text or a wrong setting is noticed before; a model that training starts from may be the output itself."""
    train(steps=1)
    for wrong in ({"bptt": -1}, {"corpus": "missing.txt"}, {"valid": "missing.txt"}):
        with pytest.raises(NblstmError):
            train(steps=1, **wrong)
        assert not os.path.exists("model.1.safetensors")
    again = nblstm.train("corpus.txt", init_from="model.safetensors", steps=1)
    assert os.path.exists("model.1.safetensors") and again.training["steps"] == 1


def test_no_other_file_is_ever_overwritten(here):
    """A text that is named as the output stays, even with --overwrite; so does one where a model is saved."""
    text = (here / "corpus.txt").read_bytes()
    with pytest.raises(NblstmError, match="corpus.txt exists and is no model file"):
        train(output="corpus.txt", steps=1, overwrite=True)
    with pytest.raises(NblstmError, match="corpus.txt exists and is no model file"):
        nblstm.MLPLanguageModel(hidden_size=2, steps=1).fit("a text").save("corpus.txt")
    assert (here / "corpus.txt").read_bytes() == text


@each(
    "output, rule",
    [
        ("none/model", "there is no folder none"),
        (".", "is a folder"),
        ("/dev/null", "a device"),
        ("/proc/model", "nothing can be written to /proc"),
        ("x" * 300, "cannot be written"),
    ],
)
def test_an_impossible_output_is_refused_before_any_work(here, output, rule):
    """Before the corpus is read, with or without --overwrite."""
    with pytest.raises(NblstmError, match=rule):
        train(corpus="no such corpus", output=output, overwrite=True)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs os.mkfifo")
@each("ending", [".checkpoint.safetensors", ".metrics.csv", ".samples.jsonl"])
@each("kind", ["a folder", "a pipe"])
def test_what_stands_where_a_file_of_the_run_belongs(here, ending, kind):
    """Is named before any work, whether a run begins or goes on; a pipe's reader is not waited for."""
    path = here / f"in-the-way{ending}"
    path.mkdir() if kind == "a folder" else os.mkfifo(path)
    try:
        for settings in ({"overwrite": True}, {"resume": True}):
            with pytest.raises(NblstmError, match=f"{ending} is {kind}"):
                train(corpus="no such corpus", output="in-the-way.safetensors", **settings)
    finally:
        path.rmdir() if kind == "a folder" else path.unlink()


# ---------------------------------------------------------------- the arguments


def test_paths_may_be_one_or_several(here):
    """corpus and valid take a str, a Path, or a list of them."""
    for corpus, valid in ((here / "corpus.txt", "corpus.txt"), (["corpus.txt"] * 2, [here / "corpus.txt"])):
        model = train(corpus, valid=valid, steps=1, overwrite=True)
        assert model.training["valid_loss"] is not None


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"hiden_size": 3}, "there is no setting 'hiden_size'; did you mean hidden_size\\?"),
        ({"learning_rate": 3}, "there is no setting 'learning_rate'\\.$"),
        ({"vocab_size": 3}, "'vocab_size'"),
        ({"epochs": "3"}, "epochs must be int"),
    ],
)
def test_a_wrong_setting_is_named(here, settings, message):
    """ConfigError, before anything is written."""
    with pytest.raises(ConfigError, match=message):
        nblstm.train("corpus.txt", **settings)
    assert os.listdir() == ["corpus.txt"]


def test_the_seed_makes_the_run(here):
    """Two runs with one seed are equal to the last bit, another seed gives another model."""
    one, same, other = (
        train(output=f"{name}.safetensors", steps=3, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    np.testing.assert_array_equal(one.parameters, same.parameters)
    assert np.any(one.parameters != other.parameters)


def test_a_token_of_weight_zero_is_never_learnt(here):
    """The model finds it no more likely than before, while another becomes likely; a stranger is refused by name."""
    (here / "ab.txt").write_text("ab" * 400)
    settings = {"hidden_size": 8, "num_layers": 1, "batch_size": 4, "bptt": 8, "steps": 60, "lr": 0.05}
    model = nblstm.train(here / "ab.txt", here / "ab.safetensors", token_weights={"b": 0}, **settings)
    found = model.surprisals("abab")
    assert found.nats[0] < 0.2 and found.nats[1] > 1
    with pytest.raises(ConfigError, match="token_weights names 'z'"):
        nblstm.train(here / "ab.txt", here / "z.safetensors", token_weights={"z": 0}, **settings)


def test_a_resumed_session_needs_no_weights(here):
    """Weights of tokens and label smoothing are stored with the run, which goes on to the last bit without them."""
    settings = {"token_weights": {"a": 0.5, "e": 0, " ": 3}, "label_smoothing": 0.1, "optimizer": "asgd", "lr": 1.0}
    train(output="whole.safetensors", epochs=2, **settings)
    train(epochs=2, **settings, **after(7))
    go_on()
    whole, resumed = (load_checkpoint(f"{stem}.checkpoint.safetensors")[0] for stem in ("whole", "model"))
    for name in whole:
        np.testing.assert_array_equal(whole[name], resumed[name], err_msg=name)
