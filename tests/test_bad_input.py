"""Whatever is wrong with what a user gives: one clear line on stderr, the right exit code, and nothing lost."""

import bz2
import gzip
import io
import json
import lzma
import os
import subprocess
import sys
import tarfile
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from support.cases import each
from support.commands import FAILURE, PATIENCE, SMALL, USAGE, assert_refused, environment, snapshot

import nblstm
from nblstm.files import safetensors

QUICK = [*SMALL, "--steps", "2", "-q"]


@pytest.fixture
def refused(command, folder):
    """Runs a command that must be refused with this code and these words, all files staying as they are."""

    def check(code, words, *args):
        before = snapshot(folder)
        assert_refused(command(*args), code, *words)
        assert snapshot(folder) == before

    return check


# ---------------------------------------------------------------- texts


def a_folder_without_files(path):
    path.mkdir()
    (path / ".hidden").write_text("text")


def half_a_gzip_file(path):
    path.write_bytes(gzip.compress(b"To be, or not to be. " * 500)[:-20])


TEXTS = {
    "missing": (lambda path: None, ["bad.gz", "No such file"]),
    "empty": (lambda path: path.write_bytes(gzip.compress(b"")), ["empty", "bad.gz"]),
    "one character": (lambda path: path.write_bytes(gzip.compress(b"a")), ["2 tokens"]),
    "binary": (lambda path: path.write_bytes(gzip.compress(bytes(range(256)) * 9)), ["bad.gz", "--encoding"]),
    "NUL bytes": (lambda path: path.write_bytes(gzip.compress(b"some text\0more text")), ["NUL", "--encoding"]),
    "invalid UTF-8": (lambda path: path.write_bytes(gzip.compress(b"caf\xe9 " * 9)), ["byte 3", "--encoding"]),
    "half a gzip file": (half_a_gzip_file, ["bad.gz", "intact"]),
    "no gzip file": (lambda path: path.write_bytes(b"plain text"), ["bad.gz", "intact"]),
    "folder without files": (a_folder_without_files, ["bad.gz", "without files"]),
    "FIFO": (os.mkfifo, ["bad.gz", "neither a regular file nor a folder"]),
    "device": (lambda path: path.symlink_to("/dev/null"), ["bad.gz", "neither a regular file nor a folder"]),
    "circle of links": (lambda path: path.symlink_to(path), ["bad.gz"]),
}
texts = each("kind", TEXTS)


def bad_text(folder, kind):
    """A text of this kind, and the words its error must have. All are named .gz: what is inside counts."""
    make, words = TEXTS[kind]
    path = folder / kind / "bad.gz"
    path.parent.mkdir()
    make(path)
    return path, words


READS = [  # commands, {} being a file that they read
    "train {} -o x", "train corpus.txt --valid {} -o x", "train corpus.txt --init-from {} -o x",
    "train corpus.txt --token-weights {} -o x", "train --task classify {} -o x",
    "train --task classify corpus.txt --class-weights {} -o x", "train --task classify labelled.tsv --vectors {} -o x",
    "train --task translate --source {} --target corpus.txt -o x", "train --task tag {} -o x", "sample -m {}",
    "sample --prompt-file {}", "sample --novel {}", "score {}", "eval {}", "eval corpus.txt -m {}", "info {}",
    "report --text {}", "plot {}", "plot {} -o x.svg", "quantize {} -o x", "quantize model.safetensors -o x --check {}",
    "adapt-prepare {} -o x", "adapt-prepare corpus.txt --valid {} -o x", "export {} -o x.h", "export -o x.h --check {}",
    "import {} --vocabulary corpus.txt -o x", "import model.safetensors --vocabulary {} -o x", "serve {}", "forecast {}",
    "forecast numbers.csv -m {}",
]  # fmt: skip


@each("line", READS)
def test_nothing_waits_for_a_pipe_or_reads_a_device(command, folder, line):
    """Whatever names it: it is refused in a sentence, nothing is written, and no writer is waited for."""
    Path("labelled.tsv").write_text("the cat\tone\nthe dog\ttwo\n" * 20)
    Path("numbers.csv").write_text("1\n2\n" * 20)
    if not os.path.exists("pipe"):
        os.mkfifo("pipe")
    files = sorted(folder.iterdir())
    for name in ("pipe", "/dev/zero"):
        outcome = command(*line.format(name).split())
        error = outcome.err.splitlines()[-1]
        assert outcome.code in (USAGE, FAILURE) and error.startswith("Error: ") and name in error, outcome
        assert "regular file" in error or "pipe" in error, error
    assert sorted(folder.iterdir()) == files


@texts
def test_bad_corpus(refused, folder, kind):
    """nblstm train names the file and the way out, before it writes anything."""
    path, words = bad_text(folder, kind)
    refused(FAILURE, words, "train", path, "-o", "new.safetensors", *QUICK)


@texts
def test_bad_validation_text(refused, folder, kind):
    """So for --valid; a text of one character has nothing to validate with and is no error."""
    if kind != "one character":
        path, words = bad_text(folder, kind)
        refused(FAILURE, words, "train", "corpus.txt", "--valid", path, "-o", "new.safetensors", *QUICK)


@texts
def test_bad_text_to_score(refused, folder, kind):
    """And for nblstm eval."""
    path, words = bad_text(folder, kind)
    refused(FAILURE, words, "eval", path)


@texts
def test_bad_prompt_file(refused, folder, kind):
    """And for --prompt-file, where one character is enough."""
    if kind != "one character":
        path, words = bad_text(folder, kind)
        refused(FAILURE, [words[0]], "sample", "--prompt-file", path)


def test_dev_null_as_corpus(refused):
    """The device itself, by its own name."""
    refused(FAILURE, ["/dev/null", "neither"], "train", "/dev/null", "-o", "new.safetensors")


def test_no_corpus(refused):
    """The way out is named."""
    refused(USAGE, ["--demo"], "train")
    refused(USAGE, ["FILE"], "eval")


def test_two_texts_for_one(refused):
    """--demo brings its own."""
    refused(USAGE, ["--demo"], "train", "corpus.txt", "--demo")
    refused(USAGE, ["--prompt", "not both"], "sample", "--prompt", "a", "--prompt-file", "corpus.txt")


# ---------------------------------------------------------------- files that are no plain text


def zipped(*names):
    """A ZIP archive with these entries."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, "some words")
    return file.getvalue()


def a_tar_archive():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.txt"))
    return file.getvalue()


OTHER_KINDS = {  # the file's name -> (what is in it, what the error says)
    "thesis.docx": (lambda: zipped("[Content_Types].xml", "word/document.xml"), ["a Word document", "plain text"]),
    "table.xlsx": (lambda: zipped("[Content_Types].xml", "xl/workbook.xml"), ["an Excel table"]),
    "books.zip": (lambda: zipped("a.txt"), ["a ZIP archive", "unpack"]),
    "book.pdf": (lambda: b"%PDF-1.7\nplain letters all along\n", ["a PDF", "pdftotext"]),
    "book.rtf": (lambda: b"{\\rtf1 plain letters}", ["an RTF document"]),
    "text.xz": (lambda: lzma.compress(b"some words"), ["packed by xz", "unpack", ".gz"]),
    "text.bz2": (lambda: bz2.compress(b"some words"), ["packed by bzip2", "unpack"]),
    "text.txt": (lambda: gzip.compress(b"some words"), ["packed by gzip", "end in .gz"]),
    "text.tar": (a_tar_archive, ["a tar archive"]),
    "cat.jpeg": (lambda: b"\xff\xd8\xff\xe0\0\x10JFIF", ["a JPEG picture", "leave it out"]),
    "utf-16.txt": (lambda: "some words".encode("utf-16"), ["utf-16", "--encoding utf-16"]),
    "utf-16-be.txt": (lambda: b"\xfe\xff" + "some words".encode("utf-16-be"), ["utf-16", "--encoding utf-16"]),
    "utf-32.txt": (lambda: "some words".encode("utf-32"), ["utf-32", "--encoding utf-32"]),
    "windows.txt": (lambda: "\u201cwords\u201d".encode("cp1252"), ["not utf-8", "--encoding", "cp1252"]),
}


@each("name", OTHER_KINDS)
def test_a_file_of_another_kind_is_named(refused, folder, name):
    """By what it begins with, not by its name; the way out is one that helps."""
    make, words = OTHER_KINDS[name]
    (folder / name).write_bytes(make())
    refused(FAILURE, [name, *words], "train", name, "-o", "new.safetensors", *QUICK)
    refused(FAILURE, [name, *words], "eval", name)


def test_a_model_is_no_text(refused):
    """model.safetensors as a corpus is told to be what it is."""
    refused(FAILURE, ["model.safetensors", "a safetensors file"], "train", "model.safetensors", "-o", "new.safetensors")
    refused(
        FAILURE, ["model.safetensors", "a safetensors file"], "eval", "-m", "model.safetensors", "model.safetensors"
    )


def test_a_marked_encoding_is_read_where_it_is_named(command, folder):
    """The advice holds: --encoding utf-16 reads the text."""
    (folder / "wide.txt").write_text("some words " * 99, encoding="utf-16")
    assert command("train", "wide.txt", "--encoding", "utf-16", "-o", "new.safetensors", *QUICK).code == 0


@each(
    "args",
    [["sample", ""], ["sample", "-m", ""], ["info", ""], ["report", "-m", ""], ["classify", "corpus.txt", "-m", ""]],
)
def test_a_name_of_nothing_is_no_model(refused, args):
    """A variable that is not set does not stand for the default: the name is refused."""
    refused(USAGE, ["must be the path of a file, got ''"], *args)


def test_a_picture_in_a_folder_is_skipped(command, folder):
    """So is a PDF: they are counted and named, and the texts are read; at byte level all is read."""
    (folder / "texts" / "more").mkdir(parents=True)
    for name, content in (
        ("a.txt", b"some words " * 99), ("more/b.md", b"other words " * 99), ("cat.png", b"\x89PNG\r\n\x1a\n\0"),
        ("more/c.pdf", b"%PDF-1.7 letters"),
    ):  # fmt: skip
        (folder / "texts" / name).write_bytes(content)
    args = ["train", "texts", "--overwrite", "-o", "new.safetensors", *SMALL, "--steps", 1, "--valid-fraction", 0]
    told = command(*args)
    assert (
        told.code == 0
        and f"2 files of {folder / 'texts'} are read, 2 skipped as no text: cat.png, more/c.pdf." in told.err
    )
    assert nblstm.load("new.safetensors").training["tokens"] == 99 * (11 + 12)
    told = command(*args, "--include", "*.md")
    assert told.code == 0 and "1 file of " in told.err and "skipped" not in told.err
    assert nblstm.load("new.safetensors").training["tokens"] == 99 * 12
    resumed = command("train", "--resume", "-o", "new.safetensors", "--steps", 2)
    assert resumed.code == 0 and nblstm.load("new.safetensors").training["tokens"] == 99 * 12
    assert "4 files of" in command(*args, "--level", "byte").err


def test_a_folder_without_texts_to_read(refused, folder):
    """Nothing but pictures, or no file with such a name: refused, as what asks for it is named."""
    (folder / "texts").mkdir()
    (folder / "texts" / "cat.png").write_bytes(b"\x89PNG\r\n\x1a\n\0")
    refused(FAILURE, ["without text", "cat.png"], "train", "texts", "-o", "new.safetensors")
    refused(FAILURE, ["--include *.md"], "train", "texts", "--include", "*.md", "-o", "new.safetensors")
    refused(USAGE, ["--include"], "train", "texts", "--include", "", "-o", "new.safetensors")


# ---------------------------------------------------------------- model files


def rewrite(path, change):
    """The model file again, its document changed."""
    tensors, metadata = safetensors.read(path)
    document = json.loads(metadata["nblstm"])
    change(document)
    safetensors.write(path, tensors, {"nblstm": json.dumps(document)})


@contextmanager
def damaged(folder, name, damage):
    """Within the block the file of the folder is a damaged one; behind it the one from before."""
    path, whole = folder / name, (folder / name).read_bytes()
    damage(path)
    try:
        yield
    finally:
        if path.is_dir():
            path.rmdir()
        path.unlink(missing_ok=True)
        path.write_bytes(whole)


def foreign(path):
    tensors, _ = safetensors.read(path)
    safetensors.write(path, tensors, {"format": "pt"})


def a_folder(path):
    path.unlink()
    path.mkdir()


def a_fifo(path):
    path.unlink()
    os.mkfifo(path)


MODELS = {
    "missing": (Path.unlink, ["does not exist"]),
    "empty": (lambda path: path.write_bytes(b""), ["empty"]),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-100]), ["damaged", "cut short"]),
    "truncated in the header": (lambda path: path.write_bytes(path.read_bytes()[:100]), ["damaged"]),
    "text": (lambda path: path.write_text("To be, or not to be: that is the question."), ["not a model file"]),
    "foreign": (foreign, ["not an nblstm model"]),
    "newer": (lambda path: rewrite(path, lambda document: document.update(format_version=99)), ["newer", "upgrade"]),
    "a checkpoint": (
        lambda path: path.write_bytes(Path("model.checkpoint.safetensors").read_bytes()), ["training checkpoint"]
    ),
    "another shape": (
        lambda path: rewrite(path, lambda document: document["config"].update(hidden_size=9)), ["shape"]
    ),
    "a folder": (a_folder, ["is a folder"]),
    "FIFO": (a_fifo, ["a pipe"]),
}  # fmt: skip


@each("kind", MODELS)
@each(
    "args", [["sample"], ["eval", "corpus.txt"], ["info"], ["train", "corpus.txt", "-o", "n", "--init-from"]],
    ids=lambda args: args[0],
)  # fmt: skip
def test_bad_model(refused, folder, kind, args):
    """Every command that reads a model says what is wrong with it."""
    make, words = MODELS[kind]
    args = [*args, "model.safetensors"] if args[0] == "train" else [*args, "-m", "model.safetensors"]
    with damaged(folder, "model.safetensors", make):
        refused(FAILURE, ["model.safetensors", *words], *args)


# ---------------------------------------------------------------- states


def restate(path, change):
    """The state file again, its tensors changed."""
    tensors, metadata = safetensors.read(path)
    safetensors.write(path, change(tensors), {"nblstm_state": metadata["nblstm_state"]})


STATES = {
    "missing": (Path.unlink, ["does not exist"]),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-10]), ["damaged", "cut short"]),
    "text": (lambda path: path.write_text("To be, or not to be: that is the question."), ["not a model file"]),
    "foreign": (foreign, ["not an nblstm state"]),
    "a model": (lambda path: path.write_bytes(Path("model.safetensors").read_bytes()), ["is a model, not a state"]),
    "another shape": (lambda path: restate(path, lambda t: {**t, "h": t["h"][..., :3]}), ["'h'", "shape (1, 1, 8)"]),
    "two texts": (lambda path: restate(path, lambda t: {k: np.repeat(a, 2, 1) for k, a in t.items()}), ["(1, 1, 8)"]),
    "another type": (lambda path: restate(path, lambda t: {k: a.astype("f8") for k, a in t.items()}), ["float32"]),
    "not finite": (lambda path: restate(path, lambda t: {**t, "c": t["c"] * np.nan}), ["'c'", "finite"]),
    "incomplete": (lambda path: restate(path, lambda t: {"h": t["h"]}), ["lacks", "'c'"]),
    "too much": (lambda path: restate(path, lambda t: {**t, "x": t["c"]}), ["'x'"]),
    "FIFO": (a_fifo, ["a pipe"]),
}


@each("kind", STATES)
def test_bad_state(command, refused, folder, kind):
    """`sample --state` trusts a state file as little as a model file."""
    command("sample", "-n", 3, "--save-state", "text.state")
    make, words = STATES[kind]
    with damaged(folder, "text.state", make):
        refused(FAILURE, ["text.state", *words], "sample", "--state", "text.state")


def test_the_state_of_another_model(command, refused):
    """Also of the same model before it was trained further."""
    command("sample", "-n", 3, "--save-state", "text.state")
    command("train", "corpus.txt", "--init-from", "model.safetensors", "--steps", 1, "-q", "-o", "next.safetensors")
    refused(FAILURE, ["text.state", "another model"], "sample", "-m", "next.safetensors", "--state", "text.state")


def test_a_state_of_several_texts(refused):
    """There is one state, so there must be one text."""
    refused(USAGE, ["--save-state", "--num-samples"], "sample", "--num-samples", 2, "--save-state", "text.state")
    refused(USAGE, ["--save-state", "--novel"], "sample", "--novel", "corpus.txt", "--save-state", "text.state")


def test_wrong_ends(refused):
    """No stop string is empty, and running text has no end to wait for."""
    refused(USAGE, ["stop string"], "sample", "--stop", "")
    refused(USAGE, ["end of a text", "--until-end"], "sample", "--until-end")
    refused(FAILURE, ["no such corpus"], "sample", "--novel", "no such corpus")


# ---------------------------------------------------------------- values

SIZES = ["--hidden-size", "--num-layers", "--batch-size", "--bptt", "--epochs", "--steps", "--decay-after"]
HUGE = ["--hidden-size", "--num-layers", "--embedding-size", "--batch-size", "--bptt", "--warmup", "--threads"]
VALUES = [
    *[(flag, value) for flag in SIZES for value in ("0", "-1")],
    *[(flag, "1000000000000") for flag in HUGE],
    *[(flag, "1e12") for flag in ("--hidden-size", "--batch-size", "--steps")],
    *[("--" + name, value) for name in ("embedding-size", "patience", "seed", "threads") for value in ("-1", "x", "")],
    *[("--" + name, value) for name in ("lr", "lr-decay", "minutes") for value in ("0", "-1", "nan", "inf", "x")],
    *[
        ("--" + name, value)
        for name in ("dropout", "input-dropout", "valid-fraction")
        for value in ("-0.1", "1", "nan")
    ],
    *[("--" + name, value) for name in ("clip", "clip-value", "weight-decay") for value in ("-1", "nan", "inf")],
    *[("--" + name, "nonsense") for name in ("level", "tokenizer", "optimizer", "schedule", "encoding")],
    ("--encoding", "hex"),
    ("--seed", "99999999999999999999"),
    ("--hidden-size", "900000"),
    ("--max-vocab", "1"),
    ("--min-count", "0"),
    ("--momentum", "1"),
    ("--no-such-option", "1"),
]


@each("flag, value", VALUES)
def test_bad_value_for_training(refused, flag, value):
    """Sizes of 0, -1 and 1e12 and other nonsense: all refused before the corpus is opened."""
    refused(USAGE, [], "train", "no corpus", "-o", "n", flag, value)


def test_infinity_is_no_number_that_is_too_small(refused):
    """The rule that it breaks is named; so is it for what is no number, and for whole numbers beyond any."""
    for flag, value in (("--clip", "inf"), ("--clip", "nan"), ("--lr", "inf"), ("--weight-decay", "inf")):
        refused(USAGE, [f"{flag} must be a finite number, got {value}."], "train", "x", flag, value)
    refused(USAGE, ["must be at least 0, got -1.0."], "train", "x", "--clip", "-1")
    refused(USAGE, ["--seed must be"], "train", "x", "--seed", "9" * 330)


def test_the_error_names_the_setting_and_its_value(refused):
    """Also where two settings are at odds."""
    refused(
        USAGE, ["--hidden-size", "at most 1000000", "1000000000000"], "train", "x", "-o", "n", "--hidden-size", 10**12
    )
    refused(USAGE, ["--hidden-size must be at least 1, got 0."], "train", "x", "-o", "n", "--hidden-size", 0)
    refused(USAGE, ["tie", "32", "8"], "train", "x", "-o", "n", "--tie", "--embedding-size", 32, "--hidden-size", 8)


@each(
    "flag, value",
    [
        *[("-n", value) for value in ("-1", "1e12", "1000000000000", "x")],
        *[("--num-samples", value) for value in ("0", "-1", "1000000000000", "1e12")],
        *[("--temperature", value) for value in ("-1", "nan", "inf", "x")],
        *[("--top-k", value) for value in ("-1", "x")],
        *[(flag, value) for flag in ("--top-p", "--typical") for value in ("0", "-0.1", "1.1", "nan", "x")],
        *[("--min-p", value) for value in ("-0.1", "1.1", "nan", "x")],
        *[("--repetition-penalty", value) for value in ("0", "-1", "101", "nan", "inf", "x")],
        *[
            (flag, value)
            for flag in ("--repetition-window", "--no-repeat-ngram")
            for value in ("-1", "x", "1000000000000")
        ],
        ("--seed", "-1"),
        ("--backend", "abacus"),
        ("--no-such-option", "1"),
    ],
)
def test_bad_value_for_sampling(refused, flag, value):
    """Before the model is opened."""
    refused(USAGE, [], "sample", "-m", "no model", flag, value)


def test_a_prompt_that_is_not_text(refused):
    """Bytes that are no text in the terminal's encoding reach Python as lone surrogates."""
    refused(USAGE, ["--prompt"], "sample", "--prompt", "caf\udce9")


@pytest.mark.parametrize("args", [["no-such-command"], ["--no-such-option"], ["info", "too", "many"]])
def test_wrong_usage(refused, args):
    """One line, no page of help."""
    refused(USAGE, [], *args)


def test_a_huge_vocabulary_is_no_error(command, folder):
    """More tokens than there are: all are kept."""
    assert command("train", "corpus.txt", "-o", "n", "--max-vocab", 10**30, *QUICK).code == 0


# ---------------------------------------------------------------- outputs


@each(
    "output, words",
    [
        ("no/such/folder/model", ["no/such/folder"]),
        (".", ["is a folder"]),
        ("/dev/null", ["--overwrite"]),
        ("/proc/model", ["/proc"]),
        ("x" * 300, ["too long"]),
        ("x" * 245, [".checkpoint cannot be written (File name too long)"]),
    ],
)
def test_bad_output(refused, output, words):
    """An output that is taken or impossible is refused before the corpus is read."""
    args = [] if output != "/dev/null" else ["--overwrite"]
    refused(USAGE, words if not args else ["a device"], "train", "no corpus", "-o", output, *args)


def test_a_folder_that_cannot_be_written_to(refused, folder, monkeypatch):
    """As for a user without the right, whom the tests cannot always be."""

    def forbidden(dir):
        raise PermissionError(13, "Permission denied", str(dir))

    monkeypatch.setattr("nblstm.tasks.outputs.tempfile.TemporaryFile", forbidden)
    refused(USAGE, ["Permission denied", "another output"], "train", "corpus.txt", "-o", "new.safetensors")


def test_resume_without_a_checkpoint(refused):
    """It says which file is missing."""
    refused(FAILURE, ["new.checkpoint.safetensors does not exist"], "train", "--resume", "-o", "new.safetensors")


@each("kind", ["truncated", "text", "empty"])
def test_resume_from_a_bad_checkpoint(refused, folder, kind):
    """A damaged checkpoint is named and left alone."""
    with damaged(folder, "model.checkpoint.safetensors", MODELS[kind][0]):
        refused(FAILURE, ["model.checkpoint.safetensors"], "train", "--resume")


def test_resume_from_a_model(refused, folder):
    """A model in the checkpoint's place is not a checkpoint."""
    (folder / "model.checkpoint.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    refused(FAILURE, ["is a model, not a training checkpoint"], "train", "--resume")


def test_resume_and_start(refused):
    """At once is not possible."""
    refused(USAGE, ["--resume", "--overwrite"], "train", "--resume", "--overwrite")


def test_resume_with_another_text(refused, folder):
    """The checkpoint and the model stay."""
    (folder / "corpus.txt").write_text("Another text. " * 99)
    refused(FAILURE, ["the text is not the one"], "train", "corpus.txt", "--resume", "--epochs", 9)


def test_a_full_disk_while_saving(command, folder, monkeypatch):
    """The error comes last, after the warnings; the files of before are whole."""
    before = snapshot(folder)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors.os, "fsync", full)
    outcome = command("train", "corpus.txt", "-o", "new.safetensors", *QUICK)
    assert_refused(outcome, FAILURE, "new.", "No space left on device")
    (folder / "new.metrics.csv").unlink()
    assert snapshot(folder) == before


# ---------------------------------------------------------------- streams


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
@each("args", [["sample", "-n", "20"], ["info"], ["info", "--json"], ["eval", "corpus.txt"], ["-h"]])
def test_a_full_disk_behind_stdout(python, folder, args):
    """`nblstm sample > file` on a full disk fails."""
    with open("/dev/full", "wb") as full:
        outcome = python("-m", "nblstm", *args, stdout=full)
    errors = [line for line in outcome.err.splitlines() if not line.startswith("protocol: ")]
    assert_refused(type(outcome)(outcome.code, "", "\n".join(errors) + "\n"), FAILURE, "No space left on device")


@pytest.mark.parametrize("args", [["sample"], ["info"], ["train", "corpus.txt", "-o", "new.safetensors"]])
def test_a_closed_stdout(folder, args):
    """`nblstm sample >&-` says so, rather than writing to nowhere."""
    line = '"$0" -m nblstm "$@" >&-'
    done = subprocess.run(
        ["sh", "-c", line, sys.executable, *args], env=environment(), stderr=subprocess.PIPE, timeout=PATIENCE
    )
    assert (done.returncode, done.stderr.decode().count("\n")) == (FAILURE, 1)
    assert done.stderr.startswith(b"Error: standard output is closed")
    assert not (folder / "new.safetensors").exists()


def test_a_closed_stderr_and_stdin(folder):
    """Neither is needed to sample; a corpus from a closed standard input is an error."""
    line = '"$0" -m nblstm "$@" 2>&- <&-'
    done = subprocess.run(
        ["sh", "-c", line, sys.executable, "sample", "-n", "5"], env=environment(), stdout=-1, timeout=PATIENCE
    )
    assert done.returncode == 0 and len(done.stdout) == 6
    line = '"$0" -m nblstm "$@" <&-'
    done = subprocess.run(
        ["sh", "-c", line, sys.executable, "eval", "-"], env=environment(), stderr=-1, timeout=PATIENCE
    )
    assert (done.returncode, done.stderr.count(b"\n")) == (FAILURE, 1)
    assert done.stderr.startswith(b"Error: standard input is closed")


def test_no_numba(python, folder):
    """Where numba is missing, training says so in a line, and sampling works."""
    run = "import sys; sys.modules['numba'] = None; from nblstm.cli.main import main; main(sys.argv[1:])"
    outcome = python("-c", run, "train", "corpus.txt", "-o", "new.safetensors", *QUICK)
    assert_refused(outcome, FAILURE, "numba", "import of numba halted")
    both = run.replace("import sys;", "import sys; sys.modules['llvmlite'] = None;")
    outcome = python("-c", both, "train", "corpus.txt", "-o", "new.safetensors", *QUICK)
    assert_refused(outcome, FAILURE, "import of numba halted")
    assert "llvmlite" not in outcome.err
    assert python("-c", run, "sample", "-n", "5").code == 0
    assert python("-c", run, "eval", "corpus.txt", "--backend", "numpy").code == 0
