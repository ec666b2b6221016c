"""nblstm score and eval as a user runs them: every figure is the library's, on every kind of text."""

import io
import json
import math
import os
import re
import signal
import subprocess
import sys

import pytest
from nblstm.cli import figures
from support.cases import each
from support.commands import PATIENCE, SMALL, VERSE, environment
from support.numba import needs_numba

import nblstm
from nblstm.text import documents

USAGE, FAILURE = 2, 1
LINES = ["Shall I compare thee", "", "to a summer's day?", "Zoë"]


@pytest.fixture
def lines(folder):
    """lines.txt in the current folder, with a file and a model of words beside it."""
    (folder / "lines.txt").write_text("\n".join(LINES) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """A model of words, trained on the verse."""
    folder = tmp_path_factory.mktemp("words")
    (folder / "corpus.txt").write_text(VERSE * 20, encoding="utf-8")
    path = folder / "words.safetensors"
    nblstm.train(
        folder / "corpus.txt", path, level="word", hidden_size=8, num_layers=1, batch_size=4, bptt=8, steps=3, threads=1
    )
    return path


def objects(outcome):
    """The JSON objects on the lines of a command's output."""
    assert outcome.code == 0, outcome
    return [json.loads(line, parse_constant=pytest.fail) for line in outcome.out.splitlines()]


def expected_lines(texts=LINES):
    """(line number, text, score) of each line that is not empty."""
    scores = nblstm.load("model.safetensors").score_lines(texts, "numpy")
    return [(number, text, score) for number, (text, score) in enumerate(zip(texts, scores), 1) if text]


# ---------------------------------------------------------------- score


def test_each_line_as_json(command, lines):
    """File, line, text, every figure and the protocol; empty lines are left out and counted."""
    found = objects(command("score", "lines.txt", "--json"))
    for facts, (number, text, score) in zip(found, expected_lines(), strict=True):
        assert (facts["file"], facts["line"], facts["text"]) == ("lines.txt", number, text)
        assert facts["log_probability"] == pytest.approx(-score.nats, rel=1e-6)
        for name in ("perplexity", "bits_per_character", "bits_per_byte", "tokens", "unknown", "characters", "bytes"):
            assert facts[name] == pytest.approx(getattr(score, name), rel=1e-6), name
        assert facts["protocol"] == "line after a line end"
    assert found[2]["unknown"] == 2 and found[2]["bytes"] == 4


def test_each_line_in_a_table(command, lines):
    """The same figures below their heads; the protocol and the sum of all lines on stderr."""
    outcome = command("score", "lines.txt")
    heads, *rows = outcome.out.splitlines()
    assert heads.split() == (
        "log-probability nats/character perplexity bits/character bits/byte characters unknown line text".split()
    )
    for row, (number, text, score) in zip(rows, expected_lines(), strict=True):
        values = row.split(maxsplit=8)
        assert float(values[0]) == pytest.approx(-score.nats, abs=1e-4)
        assert [float(value) for value in values[3:5]] == pytest.approx(
            [score.bits_per_character, score.bits_per_byte], abs=1e-4
        )
        assert values[5:] == [str(score.tokens), str(score.unknown), str(number), text]
    protocol, total = outcome.err.splitlines()
    assert protocol.startswith("protocol: each line on its own, read after a line end; its first token is scored")
    whole = sum((score for _, _, score in expected_lines()), nblstm.Score(0, 0, 0, 0, 0))
    assert total.startswith(f"3 lines: {whole.tokens} characters, 2 unknown; perplexity {whole.perplexity:.4f}, ")


def test_what_each_token_costs(command, lines):
    """Bits and nats of every token, the unknown ones marked, in the table and as JSON."""
    model = nblstm.load("model.safetensors")
    expected = [
        (number, token, nats)
        for number, text in enumerate(LINES, 1)
        for token, nats in zip(text, model.surprisals(text, "numpy").nats.tolist())
    ]
    found = objects(command("score", "lines.txt", "--per-token", "--json"))
    assert [(facts["line"], facts["token"]) for facts in found] == [place[:2] for place in expected]
    assert [facts["nats"] for facts in found] == pytest.approx([nats for *_, nats in expected], rel=1e-5)
    assert [facts["bits"] * math.log(2) for facts in found] == pytest.approx([facts["nats"] for facts in found])
    assert [facts["token"] for facts in found if facts["unknown"]] == ["Z", "ë"]
    rows = command("score", "lines.txt", "--per-token").out.splitlines()
    assert rows[0].split() == ["bits", "nats", "line", "token"] and len(rows) == len(expected) + 1
    assert re.fullmatch(r" +\d+\.\d{4} +\d+\.\d{4} +4  'Z'  unknown", rows[-3])


@pytest.mark.parametrize("by, key", [(None, "nats_per_token"), ("bits-per-byte", "bits_per_byte")])
def test_the_most_plausible_first(command, lines, by, key):
    """--rank sorts by nats per token or by what --rank-by says; nothing else changes."""
    plain = objects(command("score", "lines.txt", "--json"))
    ranked = objects(command("score", "lines.txt", "--json", *(["--rank"] if by is None else ["--rank-by", by])))
    assert ranked == sorted(plain, key=lambda facts: facts[key])
    totals = [
        facts["log_probability"] for facts in objects(command("score", "lines.txt", "--json", "--rank-by", "nats"))
    ]
    assert totals == sorted(totals, reverse=True)


def test_documents_and_files(command, lines):
    """Lines up to an empty one, or the whole file, each from its own start; the line ends inside are scored."""
    model = nblstm.load("model.safetensors")
    found = objects(command("score", "lines.txt", "--by", "blank-line", "--json"))
    assert [(facts["line"], facts["text"]) for facts in found] == [(1, LINES[0]), (3, "\n".join(LINES[2:]))]
    expected = model.surprisals("\n".join(LINES[2:])).score
    assert found[1]["log_probability"] == pytest.approx(-expected.nats, rel=1e-5)
    (found,) = objects(command("score", "lines.txt", "--by", "file", "--json"))
    expected = model.surprisals("\n".join(LINES) + "\n").score
    assert "line" not in found and "text" not in found and found["tokens"] == expected.tokens
    assert found["log_probability"] == pytest.approx(-expected.nats, rel=1e-5)
    assert command("score", "lines.txt", "--by", "file", "--per-token").out.count("\n") == expected.tokens + 1


def test_several_files_folders_and_standard_input(command, lines, python):
    """A text is named by its file and line; files of a folder keep their own numbers."""
    (lines / "more").mkdir()
    for name in ("a", "b"):
        (lines / "more" / name).write_text("to\n\ntemperate\n")
    rows = command("score", "more", "lines.txt").out.splitlines()[1:]
    assert [row.split()[7] for row in rows[:4]] == [
        f"{os.path.join('more', name)}:{n}" for name in "ab" for n in (1, 3)
    ]
    outcome = python("-m", "nblstm", "score", "-", "--json", input=b"to\n")
    assert objects(outcome)[0]["file"] == "standard input"


def test_words_and_bytes(command, lines, words):
    """Other tokens than characters: spelled as they stand in the text, and bits per byte for all."""
    found = objects(command("score", "lines.txt", "-m", words, "--per-token", "--json"))
    assert [facts["token"] for facts in found][:4] == ["Shall", " I", " compare", " thee"]
    assert found[-1]["token"] == "Zoë" and found[-1]["unknown"]
    command("train", "corpus.txt", *SMALL, "--level", "byte", "--steps", 2, "-q", "-o", "bytes.safetensors")
    found = objects(command("score", "lines.txt", "-m", "bytes.safetensors", "--json"))
    assert [(facts["text"], facts["tokens"], facts["unknown"]) for facts in found][-1] == ("Zoë", 4, 0)


def test_a_text_is_shown_on_one_line_of_the_table(command, lines):
    """Long ones are cut, and nothing in them moves a terminal's cursor."""
    (lines / "odd.txt").write_text("\x1b[2J" + "to " * 100 + "\nto\r\n")
    rows = command("score", "odd.txt").out.splitlines()
    assert len(rows) == 3 and "\x1b" not in rows[1] and rows[1].endswith("...") and len(rows[1]) < 200
    assert objects(command("score", "odd.txt", "--json"))[1]["text"] == "to"


@each(
    "code, words, args",
    [
        (USAGE, ["--rank", "--per-token"], ["lines.txt", "--rank", "--per-token"]),
        (USAGE, ["FILE"], []),
        (FAILURE, ["missing.txt", "No such file"], ["missing.txt"]),
        (FAILURE, ["nothing to score", "blank.txt"], ["blank.txt"]),
        (FAILURE, ["long.txt", "line 2", "10 characters"], ["long.txt"]),
    ],
)
def test_what_score_refuses(command, lines, code, words, args, monkeypatch):
    """One line that names the thing and the rule."""
    monkeypatch.setattr(documents, "LONGEST", 10)
    (lines / "blank.txt").write_text("\n \n")
    (lines / "long.txt").write_text("a\n" + "b" * 20)
    outcome = command("score", *args)
    (error,) = [line for line in outcome.err.splitlines() if not line.startswith("protocol: ")]
    assert outcome.code == code and error.startswith("Error: ") and not [word for word in words if word not in error]


def test_an_interrupt_ends_it(lines):
    """Ctrl-C while it scores: what is done stands on stdout, one line on stderr, 130."""
    (lines / "many.txt").write_text("Shall I compare thee to a summer's day?\n" * 20_000)
    with subprocess.Popen(
        [sys.executable, "-m", "nblstm", "score", "many.txt", "--backend", "numpy", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
        text=True,
    ) as process:
        assert json.loads(process.stdout.readline())["line"] == 1  # and now it waits for more to be read
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.stderr.read().splitlines()[-1] == "Error: interrupted." and process.wait(PATIENCE) == 130


# ---------------------------------------------------------------- eval


def test_models_side_by_side(command, lines, words):
    """A row for each file and model, each with its own figures; bits per byte compare the tokenizations."""
    args = ["eval", "-m", "model.safetensors", "-m", words, "corpus.txt", "lines.txt"]
    rows = json.loads(command(*args, "--json").out)["files"]
    pairs = [(file, model) for file in ("corpus.txt", "lines.txt") for model in ("model.safetensors", str(words))]
    assert [(row["file"], row["model"]) for row in rows] == pairs
    for row in rows:
        score = nblstm.load(row["model"]).score((lines / row["file"]).read_text(encoding="utf-8"))
        assert row["nats_per_token"] == pytest.approx(score.loss, rel=1e-6)
        assert row["bits_per_byte"] == pytest.approx(score.bits_per_byte, rel=1e-6)
        assert row["unknown"] == score.unknown
        assert row["perplexity_per_word"] == pytest.approx(score.perplexity_per_word, rel=1e-6)
    outcome = command(*args)
    heads, *table = outcome.out.splitlines()
    assert (
        heads.split()
        == "nats/token perplexity bits/character bits/byte tokens unknown perplexity/word model file".split()
    )
    assert [tuple(row.split()[-2:]) for row in table] == [pair[::-1] for pair in pairs]
    assert "an unknown token hides its spelling" in outcome.err and outcome.err.count("protocol: ") == 1


@pytest.mark.parametrize(
    "kind, texts", [("line", [LINES[0], *LINES[2:]]), ("blank-line", [LINES[0], "\n".join(LINES[2:])])]
)
def test_documents_on_their_own(command, lines, kind, texts):
    """--protocol documents is the sum over documents, and is named."""
    model = nblstm.load("model.safetensors")
    expected = sum((model.surprisals(text).score for text in texts), nblstm.Score(0, 0, 0, 0, 0))
    report = json.loads(command("eval", "lines.txt", "--documents", kind, "--json").out)
    (row,) = report["files"]
    assert report["protocol"] == "documents" and "on its own" in row["protocol"]
    assert row["perplexity"] == pytest.approx(expected.perplexity, rel=1e-5) and row["tokens"] == expected.tokens
    assert row["bits_per_byte"] == pytest.approx(expected.bits_per_byte, rel=1e-5)


def test_parallel_streams_are_named(command, folder):
    """--streams says into how many the file was cut, and counts the same tokens."""
    (folder / "long.txt").write_text(VERSE * 60)
    rows = [json.loads(command("eval", "long.txt", "--json", *args).out)["files"][0] for args in ([], ["--streams", 9])]
    used = len(VERSE) * 60 // 2000
    assert f"cut into {used} parallel streams" in rows[1]["protocol"] and "one stream" in rows[0]["protocol"]
    assert rows[1]["tokens"] == rows[0]["tokens"]
    assert rows[1]["nats_per_token"] == pytest.approx(rows[0]["nats_per_token"], rel=0.01)


def test_standard_input_for_several_models(python, lines, words):
    """It is kept for the second model."""
    args = ["-m", "nblstm", "eval", "-", "-m", "model.safetensors", "-m", words, "--json"]
    rows = json.loads(python(*args, input=VERSE.encode()).out)["files"]
    assert [row["tokens"] for row in rows] == [len(VERSE) - 1, len(nblstm.load(words).encode(VERSE)) - 1]


@pytest.mark.parametrize(
    "words, args",
    [
        (["--streams", "--protocol stream"], ["--streams", "2", "--documents", "line"]),
        (["--documents", "--protocol documents"], ["--documents", "line", "--protocol", "stream"]),
        (["--windows", "--protocol documents"], ["--documents", "line", "--windows", "8"]),
        (["--adapt", "--streams"], ["--streams", "2", "--adapt"]),
        (["--adapt", "--windows"], ["--windows", "2", "--adapt"]),
        (["--adapt-rate needs --adapt"], ["--adapt-rate", "1"]),
        (["rms", "statistics"], ["--adapt", "rms"]),
    ],
)
def test_what_eval_refuses(command, folder, words, args):
    """Options that contradict each other, in one line."""
    outcome = command("eval", "corpus.txt", *args)
    assert (
        outcome.code == USAGE
        and outcome.err.count("\n") == 1
        and not [word for word in words if word not in outcome.err]
    )


@pytest.mark.parametrize("dynamic", [[], ["--adapt", "sgd"]])
def test_eval_of_documents_without_text(command, lines, dynamic):
    """It says what is empty, and nothing of a first token: all tokens of a document are scored."""
    (lines / "blank.txt").write_text("\n" * 9)
    outcome = command("eval", "blank.txt", "--documents", "line", *dynamic)
    assert (outcome.code, outcome.err) == (
        FAILURE,
        "Error: there is nothing to score in blank.txt: all lines are empty.\n",
    )


def test_eval_and_score_while_learning(command, lines):
    """A prepared model reads on from what it has learned; the protocol says so, and the figures are the library's."""
    assert command("adapt-prepare", "corpus.txt", "-o", "prepared.safetensors", "--valid", "lines.txt").code == 0
    assert "another text" not in command("info", "prepared.safetensors").out
    model, text = nblstm.load("prepared.safetensors"), (lines / "corpus.txt").read_text(encoding="utf-8")
    (row,) = json.loads(command("eval", "corpus.txt", "-m", "prepared.safetensors", "--adapt", "--json").out)["files"]
    assert row["nats_per_token"] == pytest.approx(model.dynamic_score(text).loss, rel=1e-5)
    assert row["protocol"].startswith("dynamic evaluation, every 20 tokens") and "(rms, " in row["protocol"]
    (row,) = json.loads(command("eval", "corpus.txt", "--windows", "8", "--json").out)["files"]
    assert row["protocol"].startswith("windows of 8 tokens") and row["tokens"] == len(text) - 1
    found = objects(command("score", "lines.txt", "lines.txt", "--adapt", "sgd", "--adapt-rate", "1", "--json"))
    assert all(facts["protocol"].startswith("dynamic evaluation") for facts in found)
    half = len(found) // 2  # each line comes again, and has been learned from
    assert sum(f["log_probability"] for f in found[half:]) > sum(f["log_probability"] for f in found[:half])


# ---------------------------------------------------------------- progress


def test_progress_of_a_long_job(folder, monkeypatch, capsys):
    """After two seconds: tokens, the share of the files' bytes, and the speed; without a size no share."""
    now = [0.0]
    monkeypatch.setattr(figures.time, "monotonic", lambda: now[0])
    size = os.path.getsize("corpus.txt")
    for names, line in ([["corpus.txt"], "2,000 tokens  50 %  200 tok/s\n"], [["-"], "2,000 tokens  200 tok/s\n"]):
        now[0] = 0.0
        with figures.Reading(names, times=2) as reading:
            reading.update(1000, size / 2)
            assert capsys.readouterr().err == ""
            now[0] = 10.0
            reading.update(1000, size / 2)
            assert capsys.readouterr().err == line
    assert capsys.readouterr().err == ""


@needs_numba
def test_compiling_is_told_on_a_terminal(folder, monkeypatch):
    """While it lasts and where somebody watches; afterwards nobody is called any more."""
    from nblstm.kernels.cpu.jit import KernelCache

    monkeypatch.setenv("TERM", "xterm")
    for terminal in (True, False):
        stream = io.StringIO()
        stream.isatty = lambda: terminal
        monkeypatch.setattr(figures.sys, "stderr", stream)
        with figures.Reading(["corpus.txt"]) as reading:
            reading.listen()
            if KernelCache.on_compile is not None:
                KernelCache.on_compile()
                reading.progress.close()
        assert ("compiling the kernels" in stream.getvalue()) == terminal and KernelCache.on_compile is None


# ---------------------------------------------------------------- empty files, bytes, texts that change


@pytest.mark.parametrize("by", ["line", "blank-line", "file"])
def test_an_empty_file_in_a_folder_is_left_out(command, folder, by):
    """Files of 0 bytes, packed ones too, are passed over as empty lines are; nothing but them is told."""
    (folder / "texts").mkdir()
    for name in ("a", "c.gz"):
        (folder / "texts" / name).write_bytes(b"")
    (folder / "texts" / "b").write_text("Shall I")
    found = objects(command("score", "texts", "--by", by, "--json"))
    assert [facts["file"] for facts in found] == [os.path.join("texts", "b")]
    assert command("score", "texts/a", "texts/b", "--by", by).code == 0
    assert command("eval", "texts", "--protocol", "documents").code == 0 and command("eval", "texts").code == 0
    nothing = command("score", "texts/a", "--by", by)
    assert (nothing.code, nothing.err.splitlines()[-1]) == (
        FAILURE,
        f"Error: there is nothing to score in texts/a: all {'files' if by == 'file' else 'lines'} are empty.",
    )


def test_perplexity_per_word_counts_words_and_line_ends(command, folder):
    """Whatever the tokens are, however the file is cut; the first token is given, and with it a word of one token."""
    (folder / "text.txt").write_text("A cat sat.\n  no  dog\tsat\n" * 30, encoding="utf-8")  # 6 words and 2 line ends
    shape = {"hidden_size": 4, "num_layers": 1, "batch_size": 2, "bptt": 4, "steps": 2}
    for level, words in (("char", 239), ("byte", 239), ("word", 239)):
        nblstm.train("text.txt", f"{level}.safetensors", level=level, **shape)
        for how in ([], ["--streams", "3"], ["--windows", "16"]):
            (row,) = json.loads(command("eval", "text.txt", "-m", f"{level}.safetensors", "--json", *how).out)["files"]
            nats = row["nats_per_token"] * row["tokens"]
            assert row["perplexity_per_word"] == pytest.approx(math.exp(nats / words), rel=1e-5), (level, how)
    nblstm.train("text.txt", "lines.safetensors", documents="line", **shape)
    model = nblstm.load("lines.safetensors")
    assert [model.surprisals(text).score.words for text in ("A cat sat.", "", " a")] == [4, 1, 2]  # and the end token
    nblstm.train("text.txt", "both.safetensors", bidirectional=True, **shape)
    (row,) = json.loads(command("eval", "text.txt", "-m", "both.safetensors", "--json").out)["files"]
    assert row["perplexity_per_word"] is None
    assert command("eval", "text.txt", "-m", "both.safetensors").out.splitlines()[1].split()[-2] == "-"


def test_bits_per_character_of_a_byte_model(command, folder):
    """They count characters: of UTF-8 text code points, in score, eval, their JSON and the library; bytes are apart."""
    text = "naïve café \N{SNOWMAN}\n" * 40
    (folder / "text.txt").write_text(text, encoding="utf-8")
    nblstm.train(
        "text.txt", "bytes.safetensors", level="byte", hidden_size=8, num_layers=1, batch_size=4, bptt=8, steps=3
    )
    model, ask = nblstm.load("bytes.safetensors"), ["-m", "bytes.safetensors", "--json"]
    line = text.splitlines()[0]
    for facts in objects(command("score", "text.txt", *ask)):
        assert (facts["characters"], facts["bytes"], facts["tokens"]) == (12, 16, 16)
        assert facts["bits_per_character"] == pytest.approx(facts["bits_per_byte"] * 16 / 12)
    assert model.surprisals(line).score.bits_per_character == pytest.approx(facts["bits_per_character"], rel=1e-4)
    for streams in ("1", "3"):
        (facts,) = json.loads(command("eval", "text.txt", *ask, "--streams", streams).out)["files"]
        length = len(text), len(text.encode())
        assert facts["bits_per_character"] == pytest.approx(facts["bits_per_byte"] * (length[1] - 1) / (length[0] - 1))
    halves = text.encode()[:18], text.encode()[18:]  # between the bytes of a character
    assert model.score(halves, "numpy").characters == model.score(text, "numpy").characters == len(text) - 1


def test_eval_notices_a_text_that_changes_between_two_models(command, folder, monkeypatch):
    """Figures of several models are of one text, or none."""
    from nblstm import scoring

    (folder / "text.txt").write_text(VERSE)
    score = scoring.score

    def changing(*arguments):
        found = score(*arguments)
        (folder / "text.txt").write_text(VERSE[::-1])
        return found

    monkeypatch.setattr(scoring, "score", changing)
    outcome = command("eval", "text.txt", "-m", "model.safetensors", "-m", "model.safetensors")
    assert (outcome.code, outcome.out) == (FAILURE, "")
    assert outcome.err == "Error: text.txt has changed while it was read; use a copy that nothing writes to.\n"
