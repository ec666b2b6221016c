"""Classification from files: a run leaves its files, goes on exactly, is measured, and names what is wrong."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from support.cases import each
from support.commands import FAILURE, USAGE, assert_refused

import nblstm
from nblstm.errors import ConfigError, TextError, TrainingError
from nblstm.files import safetensors
from nblstm.files.model_file import load_checkpoint
from nblstm.tasks.classification.reading import read_labelled

GOOD, BAD, FRAMES = ("fine", "bright", "warm"), ("dull", "grey", "cold"), ("a {} film", "so {} !", "it was {}", "{}")
TINY = {"hidden_size": 4, "batch_size": 4, "threads": 1}
FLAGS = ["--hidden-size", 4, "--batch-size", 4, "--threads", 1]


def written(path, rows):
    """A file of text TAB label."""
    Path(path).write_text("".join(f"{text}\t{label}\n" for text, label in rows))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A current folder with data.tsv, 48 texts of two labels, and valid.tsv."""
    monkeypatch.chdir(tmp_path)
    rows = [(f.format(w), label) for f in FRAMES for words, label in ((GOOD, "pos"), (BAD, "neg")) for w in words]
    written("data.tsv", rows * 2)
    written("valid.tsv", rows[::3])
    return tmp_path


def train(corpus="data.tsv", output="model.safetensors", task="classify", **settings):
    return nblstm.train(corpus, output, task=task, **{**TINY, **settings})


def after(steps):
    """A `stop` that says yes after so many updates."""
    reports = []
    return {"stop": lambda: len([r for r in reports if not r.validated]) >= steps, "on_report": reports.append}


def test_a_run_from_its_command_to_its_answers(here, command):
    """Epoch lines and metrics have the accuracy; the model is measured, described and asked by its commands."""
    outcome = command(
        "train", "--task", "classify", "data.tsv", "--valid", "valid.tsv", *FLAGS, "--epochs", 4, "--lr", 0.02
    )
    assert outcome.code == 0, outcome.err
    assert "48 texts to train on, 8 to validate" in outcome.err and "labels  neg 24, pos 24" in outcome.err
    epochs = [line for line in outcome.err.splitlines() if line.startswith("epoch  ")]
    assert len(epochs) == 4 and all(" accuracy " in line and len(line) <= 80 for line in epochs)
    assert "nats per text, accuracy" in outcome.err and "next    nblstm classify FILE" in outcome.err
    with open("model.metrics.csv", newline="") as rows:
        validated = [row for row in csv.DictReader(rows) if row["valid_loss"]]
    model = nblstm.load("model.safetensors")
    expected = model.evaluate(*read_labelled("valid.tsv"))
    assert len(validated) == 4 and max(float(row["accuracy"]) for row in validated) >= expected.accuracy
    assert model.training["valid_accuracy"] == pytest.approx(expected.accuracy) and model.training["texts"] == 48
    found = json.loads(command("eval", "valid.tsv", "--json", "--backend", "numpy").out)["files"][0]
    assert found["accuracy"] == expected.accuracy and found["macro_f1"] == pytest.approx(expected.macro_f1)
    assert found["confusion"] == expected.confusion.tolist() and found["labels"] == ["neg", "pos"]
    shown = command("eval", "valid.tsv", "data.tsv").out
    assert "calibration error" in shown and "model.safetensors on data.tsv" in shown
    facts = command("info").out
    assert "data.tsv: 48 texts" in facts and "2: neg, pos" in facts and "nats per text, accuracy" in facts
    assert json.loads(command("info", "--json").out)["config"]["labels"] == ["neg", "pos"]
    Path("lines").write_text("a fine film\n")
    assert command("classify", "lines").out.split("\t")[0] == model.predict(["a fine film"])[0]


def test_tables_words_and_levels(here):
    """A CSV file by its columns, at character level, in one direction, with weights of labels; defaults are the task's."""
    Path("data.csv").write_text('id,kind,text\n1,a,"x, y"\n2,b,z\n3,a,xx\n4,b,zz\n')
    columns = {"text_column": "text", "label_column": "kind"}
    options = {"level": "char", "bidirectional": False, "pooling": "max", "class_weights": {"a": 2.0}}
    model = train("data.csv", valid_fraction=0.5, steps=2, **columns, **options)
    assert model.config.labels == ("a", "b") and model.config.directions == 1 and model.vocabulary.level == "char"
    assert "x" in model.vocabulary.tokens and model.config.dropout == 0.3 and model.config.output_dropout == 0.5
    assert model.training["config"]["class_weights"] == {"a": 2.0} and model.training["config"]["lr"] == 0.002
    other = nblstm.train("data.csv", "b", task="classification", steps=1, class_weights="balanced", **columns, **TINY)
    assert other.vocabulary.level == "word" and other.config.directions == 2


@each("monitor", ["loss", "accuracy"])
def test_a_resumed_run_ends_in_the_same_files(here, monitor):
    """Stopped behind a validation and within an epoch, it goes on to the bit; the best measures are remembered."""
    settings = {"epochs": 3, "lr": 0.02, "monitor": monitor, "valid_fraction": 0.25}
    train(output="whole.safetensors", overwrite=True, **settings)
    for stop_at in (10, 14):
        train(overwrite=True, **settings, **after(stop_at))
        assert load_checkpoint("model.checkpoint.safetensors")[1]["trainer"]["step"] == stop_at
        nblstm.train(resume=True)
        for name in ("safetensors", "checkpoint.safetensors"):
            (whole, facts), (resumed, others) = (safetensors.read(f"{stem}.{name}") for stem in ("whole", "model"))
            for key in whole:
                np.testing.assert_array_equal(whole[key], resumed[key], err_msg=key)
            if name == "safetensors":
                assert facts == others


def test_training_stops_early_by_its_measure(here, command):
    """Patience waits for the monitored measure, and the message names it."""
    rows = [(text, ("x", "y")[k * 7 % 3 == 0]) for k, (text, _) in enumerate(zip(*read_labelled("data.tsv")))]
    written("noise.tsv", rows)
    flags = ["--epochs", 60, "--monitor", "accuracy", "--patience", 2, "--class-weights", "balanced"]
    outcome = command("train", "--task", "classify", "noise.tsv", *FLAGS, *flags)
    assert outcome.code == 0 and "no better accuracy in validation for 2 epochs (--patience)" in outcome.err


def test_what_is_wrong_in_a_file_is_named(here):
    """By file and line: a line without a tab, a label that only validation has, too few labels, no texts at all."""
    Path("lines.tsv").write_text("a\tx\nno tab\n")
    written("other.tsv", [("a", "pos"), ("b", "new")])
    written("one.tsv", [("a", "x")] * 3)
    Path("empty.tsv").write_text("\n\n")
    for error, paths, message in (
        (TextError, {"corpus": "lines.tsv"}, "lines.tsv, line 2: there must be a tab"),
        (
            TextError,
            {"valid": "other.tsv"},
            "other.tsv, line 2: the label 'new' is none that is learned; these are neg, pos",
        ),
        (TextError, {"corpus": "one.tsv"}, "labels must be of two kinds at least, got 1"),
        (TextError, {"corpus": "empty.tsv"}, "no labelled text in .*empty.tsv"),
        (TextError, {"valid": "empty.tsv"}, "no labelled text in .*empty.tsv"),
        (TextError, {"corpus": "none.tsv"}, "none.tsv cannot be read"),
        (ConfigError, {"class_weights": {"x": 1.0}}, "class_weights names 'x'"),
        (ConfigError, {"text_column": "a"}, "text_column and label_column belong together"),
    ):
        with pytest.raises(error, match=message):
            train(**paths)
        assert not list(here.glob("model*"))
    train(steps=1)
    with pytest.raises(TextError, match="other.tsv, line 2: the label 'new'"):
        nblstm.train("other.tsv", "from.safetensors", task="classify", init_from="model.safetensors")


def test_a_model_is_trained_on(here):
    """From its weights, its words and its labels in their order, also where the new texts have one of them alone."""
    base = nblstm.TextClassifier(hidden_size=4, steps=2, threads=1).fit(["a film", "cold"] * 4, [7, 1] * 4)
    base.save("base.safetensors")
    written("more.tsv", [("a film", 7), ("new", 7)])
    options = {"task": "classify", "init_from": "base.safetensors", "valid_fraction": 0.0, "threads": 1}
    model = nblstm.train("more.tsv", "m.safetensors", lr=1e-9, steps=1, **options)
    assert model.config == base.config and model.classes_.tolist() == [1, 7] and model.vocabulary == base.vocabulary
    np.testing.assert_allclose(model.parameters, base.parameters, atol=1e-6)
    with pytest.raises(ConfigError, match="hidden_size comes from the model that training starts from"):
        nblstm.train("more.tsv", "n.safetensors", hidden_size=8, **options)
    with pytest.raises(ConfigError, match="level comes from the model"):
        nblstm.train("more.tsv", "n.safetensors", level="char", **options)


@each("settings, message", [
    ({"bptt": 3}, "bptt is for task language, not for classify"), ({"tie": True}, "tie is for task language"),
    ({"documents": "line"}, "documents is for task language"), ({"device": "cuda"}, "device is for task language"),
    ({"mask_fraction": 0.2}, "mask_fraction is for task language"), ({"labels": ("a",)}, "no setting 'labels'"),
    ({"task": "sort"}, "task must be one of language, classify, "), ({"pooling": "sum"}, "pooling must be one of"),
    ({"task": None, "pooling": "max"}, "pooling is for task classify, not for language"), ({"level": 3}, "level must be"),
    ({"task": 3}, "task must be one of"), ({"dropout": 2.0}, "dropout must be"),
])  # fmt: skip
def test_settings_of_other_tasks_are_refused_by_name(here, settings, message):
    """Before anything is read or written."""
    with pytest.raises(ConfigError, match=message):
        train("none.tsv", **settings)
    assert not list(here.glob("model*"))


def test_commands_refuse_in_a_line(here, command):
    """Options that a task, or a model of it, does not have."""
    train(steps=1)
    Path("twice.json").write_text('{"pos": 1, "pos": 2}')
    for code, args, words in (
        (USAGE, ["train", "--task", "classify", "data.tsv", "--bptt", 4, "-o", "n"], ["--bptt is for task language"]),
        (USAGE, ["train", "--task", "classify", "--demo"], ["--demo trains a language model"]),
        (USAGE, ["train", "--resume", "--task", "language"], ["task of the run is classify"]),
        (USAGE, ["train", "--task", "classify", "data.tsv", "-o", "n", "--class-weights", "none.json"], ["none.json"]),
        (
            USAGE,
            ["train", "--task", "classify", "data.tsv", "-o", "n", "--class-weights", "twice.json"],
            ["names 'pos' twice"],
        ),
        (USAGE, ["eval", "data.tsv", "--streams", 2], ["--streams is not for"]),
        (USAGE, ["eval", "data.tsv", "--documents", "line"], ["--documents is not for"]),
        (FAILURE, ["eval", "model.metrics.csv"], ["model.metrics.csv, line 1"]),
        (FAILURE, ["sample"], ["classifier"]),
    ):
        assert_refused(command(*args, "-q") if args[0] == "train" else command(*args), code, *words)


def test_a_run_goes_on_with_its_texts_alone(here):
    """Other texts and another recipe are refused; a limit may be raised, and the files may have moved."""
    train(epochs=1)
    with pytest.raises(ConfigError, match="pooling is part of the run and stays mean"):
        nblstm.train(resume=True, pooling="max")
    with pytest.raises(ConfigError, match="task of the run is classify, got language"):
        nblstm.train(resume=True, task="language")
    Path("data.tsv").rename("moved.tsv")
    assert nblstm.train("moved.tsv", resume=True, epochs=2, pooling="mean").training["epochs"] == 2
    with open("moved.tsv", "a") as file:
        file.write("more\tpos\n")
    with pytest.raises(TrainingError, match="the text is not the one"):
        nblstm.train("moved.tsv", resume=True, epochs=3)


def test_help_parts_options_by_task(command):
    """Defaults of a task that differ are shown as its own."""
    text = command("train", "-h").out
    common, *parts = text.split("Options of --task ")
    of = {part.partition(":")[0]: part for part in parts}
    words = " ".join(common.split())
    assert "Units per layer. [default: 256] [classify: 128]" in words
    assert "--bptt" in of["language"] and "--pooling" in of["classify"] and "--pooling" not in common
