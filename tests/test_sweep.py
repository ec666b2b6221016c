"""Sweeps: every combination of settings is a run of its own, compared by validation loss, resumed and never repeated."""

import json
import os
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.shell_completion import BashComplete
from nblstm.cli.main import nblstm as nblstm_command
from support.cases import each
from support.commands import FAILURE, SMALL, USAGE, VERSE, assert_refused, snapshot
from support.numba import needs_numba

import nblstm
from nblstm.errors import ConfigError, ModelFileError
from nblstm.tasks import session
from nblstm.tasks.sweep import Sweep, combinations, swept_name

TINY = {"num_layers": 1, "batch_size": 4, "bptt": 8, "threads": 1, "embedding_size": 4}
REST = ["--num-layers", 1, "--batch-size", 4, "--bptt", 8, "--steps", 3, "--threads", 1]
VARIED = ["--hidden-size", "8,4", "--lr", "0.1,0.001"]


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """A current folder with nothing but corpus.txt in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corpus.txt").write_text(VERSE * 20, encoding="utf-8")
    return tmp_path


def rows(outcome):
    """The table as lists of words."""
    return [line.split() for line in outcome.out.splitlines()]


# ---------------------------------------------------------------- what is run


def test_every_combination_is_one_run():
    """The last setting varies fastest."""
    found = combinations({"hidden_size": (8, 4), "tie": (False, True)}, {})
    assert found == [
        {"hidden_size": 8, "tie": False},
        {"hidden_size": 8, "tie": True},
        {"hidden_size": 4, "tie": False},
        {"hidden_size": 4, "tie": True},
    ]


def test_names_say_what_varies():
    """As options are typed; what a file's name should not hold, or a long name, has a digest, so that names differ."""
    assert swept_name({"hidden_size": 128, "dropout": 0.0, "tie": True}) == "hidden-size-128_dropout-0_tie-yes"
    one, other = swept_name({"valid_every": "5/m"}), swept_name({"valid_every": "5:m"})
    assert one != other and one.startswith("valid-every-5-m-") and "/" not in one
    long = [swept_name({f"setting_{k}": k for k in range(20)} | {"last": k}) for k in (1, 2)]
    assert long[0] != long[1] and max(map(len, long)) < 140


@each(
    "vary, words",
    [
        ({}, "needs a setting that varies"),
        ({"lr": (0.1,)}, "needs a setting that varies"),
        ({"lr": (0.1, 0.1)}, "different values, got 0.1 twice"),
        ({"seed": (1, 2), "lr": ([1], 2)}, "lr can vary over words and numbers"),
        ({"seed": tuple(range(1001))}, "at most 1,000 runs, got 1,001"),
        ({"steps": (1, 2)}, "steps is fixed and varies"),
    ],
)
def test_what_cannot_vary(vary, words):
    """One sentence each."""
    with pytest.raises(ConfigError, match=words):
        combinations(vary, {"steps": 3})


@each(
    "args, words",
    [
        (["--hidden-size", "8,0"], ["--hidden-size must be at least 1, got 0"]),
        (["--hidden-size", "8,x"], ["'x' is not a valid integer"]),
        (["--tie", "yes,"], ["'yes,' lacks a value beside a comma"]),
        (["--cell", "lstm,transformer"], ["'transformer' is not one of"]),
        (["--cell", "lstm,gru", "--peepholes", "yes"], ["peepholes is for lstm, not for gru"]),
        (["--hidden-size", "8"], ["needs a setting that varies"]),
        (["--level", "char,word"], ["level changes what is predicted"]),
        (["--bidirectional", "yes,no"], ["bidirectional changes what is predicted"]),
        (["--lr", "1,2", "--valid-fraction", "0"], ["--valid-fraction must be more than 0"]),
        (["--lr", "1,2", "--attention", "dot"], ["attention is for task translate"]),
        (["--lr", "1,2", "-o", "corpus.txt"], ["corpus.txt is a file"]),
        (["--lr", "1,2", "-o", "no/such"], ["there is no folder no"]),
        (["--lr", "1,2", "-"], ["standard input can be read once"]),
        (["--learning-rate", "1,2"], ["has --lr"]),
    ],
)
def test_wrong_settings_are_found_before_the_first_run(command, corpus, args, words):
    """One line, and nothing is written."""
    before = snapshot(corpus)
    assert_refused(command("sweep", "corpus.txt", *args), USAGE, *words)
    assert snapshot(corpus) == before and os.listdir() == ["corpus.txt"]


def test_a_text_is_needed(command, corpus):
    """One line says so."""
    assert_refused(command("sweep", "--lr", "1,2"), USAGE, "name the text")


def test_values_are_completed_behind_their_commas(corpus):
    """A choice behind those that are typed; files for the corpus."""
    complete = BashComplete(nblstm_command, {}, "nblstm", "_NBLSTM_COMPLETE").get_completions
    assert [item.value for item in complete(["sweep", "--cell"], "lstm,g")] == ["lstm,gru"]
    assert [item.type for item in complete(["sweep"], "co")] == ["file"]


# ---------------------------------------------------------------- the command


@needs_numba
def test_a_table_sorted_by_validation_loss_and_the_curves(command, corpus):
    """A model for each run, that `nblstm.train` would make; again, nothing is trained and the same is printed."""
    first = command("sweep", "corpus.txt", *VARIED, *REST, "-o", "f")
    head, *table = rows(first)
    assert first.code == 0 and head == "hidden-size lr valid loss epochs seconds file".split()
    losses = [float(row[2]) for row in table]
    assert losses == sorted(losses) and len(losses) == 4
    for size, lr, loss, _, _, file in table:
        assert file == f"f/hidden-size-{size}_lr-{lr}.safetensors"
        model = nblstm.load(file)
        assert model.config.hidden_size == int(size) and model.training["valid_loss"] == pytest.approx(
            float(loss), abs=1e-4
        )
    alone = nblstm.train("corpus.txt", hidden_size=4, lr=0.1, steps=3, num_layers=1, batch_size=4, bptt=8, threads=1)
    assert (alone.parameters == nblstm.load("f/hidden-size-4_lr-0.1.safetensors").parameters).all()
    assert "run 2 of 4: hidden-size 8, lr 0.001\n" in first.err and "wrote f/loss.svg" in first.err
    drawn = {text.text for text in ElementTree.parse("f/loss.svg").iter() if text.text}
    assert {Path(row[5]).name.removesuffix(".safetensors") for row in table} <= drawn

    models = {path: path.stat().st_mtime_ns for path in Path("f").glob("*.safetensors")}
    again = command("sweep", "corpus.txt", *VARIED, *REST, "-o", "f", "--json", "-q")
    found = json.loads(again.out)
    assert [run["file"] for run in found["runs"]] == [row[5] for row in table] and again.err == ""
    assert found["runs"][0]["settings"] == {"hidden_size": int(table[0][0]), "lr": float(table[0][1])}
    assert models == {path: path.stat().st_mtime_ns for path in Path("f").glob("*.safetensors")}


@needs_numba
def test_an_interrupted_sweep_goes_on(command, corpus, monkeypatch):
    """It exits with 130 and says how; the finished run stays, the interrupted one becomes what it would have been."""
    updates = []

    def interrupted(self):
        updates.append(self.step)
        if len(updates) == 5:  # the second of the second run
            raise KeyboardInterrupt
        return real(self)

    real = session.Trainer._update
    monkeypatch.setattr(session.Trainer, "_update", interrupted)
    stopped = command("sweep", "corpus.txt", "--lr", "0.1,0.01,0.001", *SMALL, "--steps", 3)
    assert stopped.code == 130 and len(rows(stopped)) == 2
    words = "nblstm sweep corpus.txt --lr 0.1,0.01,0.001 --hidden-size 8"
    assert "stopped with 1 of 3 runs done; go on with:" in stopped.err and words in stopped.err
    done = command("sweep", *stopped.err.splitlines()[-1].split()[2:])
    assert done.code == 0 and len(rows(done)) == 4 and "resume  at step 1" in done.err
    assert updates == [0, 1, 2, 0, 1, 1, 2, 0, 1, 2]
    whole = nblstm.train("corpus.txt", lr=0.01, steps=3, hidden_size=8, num_layers=1, batch_size=4, bptt=8)
    assert (whole.parameters == nblstm.load("sweep/lr-0.01.safetensors").parameters).all()


@needs_numba
def test_a_run_that_diverges_does_not_end_the_others(command, corpus):
    """It is warned of, stands last where it has no loss, and is not repeated."""
    args = ["sweep", "corpus.txt", "--lr", "1e30,0.01", *REST]
    outcome = command(*args)
    assert outcome.code == 0 and [row[:2] for row in rows(outcome)[1:]][1] == ["1e+30", "diverged"]
    assert "warning: " in outcome.err and "training has diverged" in outcome.err
    assert "run " not in command(*args).err.replace("runs", "")


@needs_numba
def test_another_sweep_in_the_same_folder(command, corpus):
    """More values are added to the runs that are there; other settings, another text and foreign files are refused."""
    assert command("sweep", "corpus.txt", "--lr", "0.1,0.01", *REST).code == 0
    more = command("sweep", "corpus.txt", "--lr", "0.1,0.01,0.001", *REST)
    assert "2 of 3 runs are done\nrun 3 of 3: lr 0.001" in more.err and len(rows(more)) == 4
    other = command("sweep", "corpus.txt", "--lr", "0.1,0.01", *REST, "--steps", 4)
    assert_refused(other, USAGE, "sweep holds a sweep with steps 3, not 4")
    Path("corpus.txt").write_text(VERSE * 21, encoding="utf-8")
    changed = command("sweep", "corpus.txt", "--lr", "0.1,0.02", *REST)
    assert changed.code == FAILURE and "Error: the text is not the one that sweep/lr-0.1.safetensors" in changed.err
    Path("sweep/seed-1.safetensors").write_text("mine")
    assert_refused(
        command("sweep", "corpus.txt", "--seed", "1,2", *REST), USAGE, "seed-1.safetensors exists and is no run"
    )
    os.remove("sweep/lr-0.1.safetensors")  # a model that is gone is made again
    Path("corpus.txt").write_text(VERSE * 20, encoding="utf-8")
    assert (
        command("sweep", "corpus.txt", "--lr", "0.1,0.01", *REST).code == 0
        and Path("sweep/lr-0.1.safetensors").exists()
    )


@each("record", ["", "[]", "[" * 100_000, '{"a": 1}', '{"a": {"asked": {}, "state": "lost"}}', b"\xff"])
def test_a_damaged_record_is_refused(corpus, record):
    """One sentence; nothing is trained over what is not known."""
    Path("f").mkdir(exist_ok=True)
    Path("f/sweep.json").write_bytes(record if isinstance(record, bytes) else record.encode())
    with pytest.raises(ModelFileError, match="is not the record of a sweep"):
        Sweep("corpus.txt", "f", {"lr": (0.1, 0.01)}, **TINY)


@needs_numba
def test_from_python_it_ends_early_once_stop_says_so(corpus):
    """The run is not done then, and goes on later. Words of other tasks may vary where losses are of texts."""
    sweep = Sweep("corpus.txt", "f", {"hidden_size": (4, 6)}, steps=3, **TINY)
    reports = []
    sweep.run(on_report=reports.append, stop=lambda: len(reports) == 2)
    assert not sweep.done() and [report.step for report in reports] == [1, 2]
    sweep.run()
    assert {one.name for one in sweep.done()} == {"hidden-size-4", "hidden-size-6"}
    Path("labels.txt").write_text("good day\ta\nbad night\tb\n" * 20)
    texts = Sweep("labels.txt", "g", {"level": ("char", "word")}, task="classify", steps=1, hidden_size=4, threads=1)
    texts.run()
    assert len(texts.done()) == 2 and all("accuracy" in record["measures"] for record in texts.records.values())
