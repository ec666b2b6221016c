"""The commands as a user runs them: the happy path, the streams, signals, the environment, every kind of text."""

import gzip
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from types import SimpleNamespace

import numpy as np
import pytest
from click.shell_completion import BashComplete, FishComplete, ZshComplete
from nblstm.cli import names
from nblstm.cli.escapes import unescaped
from nblstm.cli.main import nblstm as nblstm_command
from nblstm.cli.sample import _stream as stream_text
from nblstm.cli.train_shown import _render
from support.cases import each
from support.commands import PATIENCE, SMALL, VERSE, assert_refused, environment
from support.numba import needs_numba

import nblstm
from nblstm.files import safetensors
from nblstm.version import __version__

FILES = ["corpus.txt", "model.checkpoint.safetensors", "model.metrics.csv", "model.safetensors"]


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """A current folder with nothing but corpus.txt in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corpus.txt").write_text(VERSE * 20, encoding="utf-8")
    return tmp_path


# ---------------------------------------------------------------- the happy path


def test_train_sample_eval_info_meet_in_the_current_folder(command, corpus):
    """None of the commands needs to be told where the model is; each ends with 0."""
    trained = command("train", "corpus.txt", *SMALL, "--steps", 20)
    assert trained.code == 0 and sorted(os.listdir()) == FILES
    assert trained.out == "" and "nblstm sample -n 100" in trained.err

    sampled = command("sample", "-n", 100)
    assert sampled.code == 0 and sampled.err == ""
    assert len(sampled.out) == 101 and sampled.out.endswith("\n") and set(sampled.out) <= set(VERSE)

    scored = command("eval", "corpus.txt")
    heads, values = scored.out.splitlines()
    assert scored.code == 0 and "protocol: " in scored.err
    assert heads.split()[:2] == ["nats/character", "perplexity"] and values.split()[-1] == "corpus.txt"

    described = command("info")
    assert described.code == 0 and described.err == ""
    for fact in ("LSTM 1 x 8", "level char", "corpus.txt", "20 steps"):
        assert fact in described.out


def test_the_figures_are_those_of_the_library(command, folder):
    """eval's table and its JSON say what score() says, and what the validation loss in info was."""
    score = nblstm.load("model.safetensors").score((folder / "corpus.txt").read_text())
    report = json.loads(command("eval", "corpus.txt", "corpus.txt", "--json").out)
    row = report["files"][1]
    assert row["model"] == "model.safetensors" and len(report["files"]) == 2 and "first token" in row["protocol"]
    assert row["nats_per_token"] == pytest.approx(score.loss, rel=1e-9)
    assert row["perplexity"] == pytest.approx(math.exp(score.loss), rel=1e-9)
    assert row["bits_per_character"] == pytest.approx(score.loss / math.log(2), rel=1e-9)
    assert (row["tokens"], row["unknown"], row["file"]) == (len(VERSE) * 20 - 1, 0, "corpus.txt")
    values = command("eval", "corpus.txt").out.splitlines()[1].split()
    assert float(values[0]) == pytest.approx(score.loss, abs=1e-4)
    assert values[4] == f"{score.tokens:,}"


def test_info_as_json(command, folder):
    """Config, vocabulary and training facts, for programs."""
    outcome = command("info", "--json", "--training")
    facts = json.loads(outcome.out)
    assert facts["config"]["hidden_size"] == 8 and facts["training"]["steps"] == 30 and outcome.err == ""
    assert facts["vocabulary"]["tokens"][1:] == sorted(set(VERSE))
    sizes = [math.prod(array.shape) for array in safetensors.read("model.safetensors")[0].values()]
    assert facts["parameters"] == sum(sizes)


def test_info_says_what_memory_training_takes(command, folder):
    """The bytes of every array, counted by hand for an LSTM of 8 units with adam on chunks of 4 x 8 tokens."""
    facts = json.loads(command("info", "--json", "--training").out)
    V, H, size, tokens = len(set(VERSE)) + 1, 8, 4, 32
    parameters = V * H + 4 * H * (H + H + 2) + V * (H + 1)
    token = 4 * H + H + H + 2 * H + H  # gates, cell and output, two gradients of an output, a copy of the inputs
    packed = 4 * H * (H + H) + V * H  # the layer's weights, the head's
    table = min(tokens, V) * (4 * H + H)  # of distinct tokens: the vector and its projection
    everything = size * (5 * parameters + tokens * token + tokens * V + packed + table)  # w, g, m, v and the best w
    assert facts["parameters"] == parameters
    assert facts["training_memory"] == {
        "bytes": everything, "per_parameter": 20, "per_token": size * token, "batch_size": 4, "bptt": 8,
    }  # fmt: skip
    shown = command("info", "--training").out
    assert f"{everything / 1e6:.0f} MB to train on chunks of 4 x 8 tokens:" in shown
    assert f"20 bytes per parameter, {size * token:,} per token of a chunk" in shown


def test_json_has_no_infinity(command, corpus, monkeypatch):
    """A perplexity beyond all floats is null: JSON knows no Infinity."""
    command("train", "corpus.txt", *SMALL, "--steps", 1)
    monkeypatch.setattr("nblstm.scoring.score", lambda *args: nblstm.Score(1e6, 10, 10, 10, 0))
    (row,) = json.loads(command("eval", "corpus.txt", "--json").out, parse_constant=pytest.fail)["files"]
    assert row["perplexity"] is None and row["nats_per_token"] == 1e5


def test_resume_on_the_command_line(command, corpus):
    """A finished run goes on with a new limit, and says where it starts."""
    command("train", "corpus.txt", *SMALL, "--steps", 5)
    again = command("train", "--resume", "--steps", 9)
    assert again.code == 0 and "at step 5" in again.err
    assert json.loads(command("info", "--json").out)["training"]["steps"] == 9
    assert "had reached its limit" in command("train", "--resume").err


def test_quiet(command, corpus):
    """-q trains without a word."""
    assert command("train", "corpus.txt", *SMALL, "--steps", 2, "-q") == type(command("-h"))(0, "", "")
    assert (corpus / "model.safetensors").exists()


def test_a_sample_after_each_epoch(command, corpus):
    """--sample shows text on stderr, the model's and not the corpus's."""
    plain = command("train", "corpus.txt", *SMALL, "--epochs", 2).err
    shown = command("train", "corpus.txt", *SMALL, "--epochs", 2, "--sample", 500, "--overwrite")
    assert shown.out == "" and len(shown.err) > len(plain) + 900


def test_patience_is_explained(command, corpus):
    """A run that ends early says why."""
    outcome = command("train", "corpus.txt", *SMALL, "--epochs", 9, "--patience", 1, "--lr", 1e-30)
    assert outcome.code == 0 and "no better validation loss for 1 epochs (--patience)" in outcome.err


# ---------------------------------------------------------------- sampling


def test_the_prompt_comes_first_and_is_not_counted(command, folder):
    """The prompt, then n tokens; from a file as from the option."""
    outcome = command("sample", "--prompt", "Shall I", "-n", 30, "--seed", 1)
    assert outcome.out.startswith("Shall I") and len(outcome.out) == 7 + 30 + 1
    (folder / "prompt").write_text("Shall I")
    assert command("sample", "--prompt-file", "prompt", "-n", 30, "--seed", 1).out == outcome.out
    assert command("sample", "--prompt", "", "-n", 0).out == "\n"


def test_unseen_characters_of_a_prompt(command, folder):
    """They are named on stderr, and the text goes on."""
    outcome = command("sample", "--prompt", "Zoë", "-n", 9)
    assert outcome.code == 0 and outcome.out.startswith("Zoë") and len(outcome.out) == 3 + 9 + 1
    assert "'Z', 'ë'" in outcome.err and "<unk>" in outcome.err and outcome.err.count("\n") == 1


def test_a_seed_and_several_texts(command, folder):
    """The same seed prints the same; num_samples texts come with lines between them."""
    args = ["sample", "-n", 20, "--seed", 7, "--num-samples", 3]
    outcome = command(*args)
    assert outcome.out.count("-" * 20 + "\n") == 3 and command(*args).out == outcome.out
    assert command("sample", "-n", 20, "--temperature", 0).out == command("sample", "-n", 20, "--top-k", 1).out


def test_text_streams(folder):
    """Characters leave one by one: the first are there long before a billion is done."""
    with subprocess.Popen(
        [sys.executable, "-m", "nblstm", "sample", "-n", "1000000000", "--backend", "numpy"],
        stdout=subprocess.PIPE,
        env=environment(),
    ) as process:
        try:
            assert len(process.stdout.read(50)) == 50
        finally:
            process.kill()


@pytest.mark.parametrize("line", ['"$0" -m nblstm sample -n 100000 | head -c 20', '"$0" -m nblstm info | true'])
def test_a_closed_pipe_ends_quietly(folder, line):
    """`nblstm sample | head` is not an error, also not for a shell that looks at every command."""
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line, sys.executable], env=environment(), capture_output=True, timeout=PATIENCE
    )
    assert (done.returncode, done.stderr) == (0, b"")


SNOW = "\N{SNOWMAN}"
SHOWING = [  # commands that print text, and how much of it
    (["sample", "-n", "3", "--prompt", SNOW], f"{SNOW * 4}\n"),
    (["sample", "-n", "3", "--num-samples", "2"], f"{SNOW * 3}\n{'-' * 20}\n" * 2),
    (["sample", "-n", "3", "--beam", "2"], f"{SNOW * 3}\n"),
    (["score", "line.txt"], f"{SNOW * 2}\n"),
    (["report", "-n", "5", "-o", "-"], SNOW),
]


@pytest.fixture
def snow(corpus, command):
    """The current folder holds a model that knows only snowmen, and a line of two."""
    (corpus / "snow.txt").write_text(SNOW * 2000, encoding="utf-8")
    (corpus / "line.txt").write_text(SNOW * 2 + "\n", encoding="utf-8")
    command("train", "snow.txt", *SMALL, "--steps", 2)
    return corpus


@each("encoding", ["ascii", "latin-1"])
@each("args, shown", SHOWING, ids=lambda args: args[0] if isinstance(args, list) else "")
def test_a_pipe_gets_utf8(python, snow, args, shown, encoding):
    """Whatever the locale says, every command writes UTF-8 where its output is no terminal, and loses nothing."""
    outcome = python("-m", "nblstm", *args, env={"PYTHONIOENCODING": f"{encoding}:replace"})
    assert outcome.code == 0 and shown in outcome.out and "note:" not in outcome.err, outcome
    assert args[0] == "report" or "?" not in outcome.out


@each("args, shown", SHOWING[:4], ids=lambda args: args[0] if isinstance(args, list) else "")
def test_a_terminal_without_the_characters(snow, args, shown):
    """What a terminal's encoding lacks becomes a question mark, not a crash, and a line on stderr says so once."""
    pty = pytest.importorskip("pty")
    for encoding, note in (("latin-1", True), ("ascii", True), ("utf-8", False)):
        master, slave = pty.openpty()
        done = subprocess.run(
            [sys.executable, "-m", "nblstm", *args],
            stdout=slave,
            stderr=subprocess.PIPE,
            timeout=60,
            env=environment(PYTHONIOENCODING=f"{encoding}:strict", PYTHONUTF8="0"),
        )
        os.close(slave)
        seen = os.read(master, 65536).decode().replace("\r\n", "\n")
        os.close(master)
        assert done.returncode == 0 and (shown.replace(SNOW, "?") if note else shown) in seen
        lost = [line for line in done.stderr.decode().splitlines() if line.startswith("note: standard output is")]
        assert len(lost) == note


def test_escape_sequences_of_a_text_are_not_dropped(python, corpus, command):
    """Several texts are written as one is: as the model made them."""
    (corpus / "red.txt").write_text("\x1b[31m" * 500)
    command("train", "red.txt", *SMALL, "--steps", 40, "--lr", "0.05")
    ask = ["-m", "nblstm", "sample", "-n", 6, "--temperature", 0, "--prompt", "\x1b[31m"]
    one, two = python(*ask), python(*ask, "--num-samples", 2)
    assert one.out.count("\x1b") > 1 and two.out == (one.out + "-" * 20 + "\n") * 2


# ---------------------------------------------------------------- sampling


def test_sample_stops_before_a_string(command, folder):
    """--stop, repeatable: the text ends before the first of them, the prompt is not searched."""
    whole = command("sample", "-n", 80, "--prompt", "Shall I", "--seed", 1).out[:-1]
    stop = whole[30:33]
    stopped = command("sample", "-n", 80, "--prompt", "Shall I", "--seed", 1, "--stop", stop, "--stop", "zzz")
    assert stopped.out[:-1] == "Shall I" + whole[7:].split(stop)[0]
    assert command("sample", "-n", 9, "--prompt", "Shall I", "--seed", 1, "--stop", "Shall").out[:-1] == whole[:16]


@each("more", [[], ["--num-samples", 2], ["--novel", "corpus.txt"], ["--beam", 2]])
def test_the_prompt_is_written_or_not(command, folder, more):
    """--no-echo leaves the prompt out and nothing else, and -n 0 does without being asked; --echo writes it."""
    (folder / "corpus.txt").write_text("other", encoding="utf-8")
    args = ["sample", "--prompt", "Thou ", "--seed", 1, *more]
    with_prompt, without = (command(*args, "-n", 9, flag) for flag in ("--echo", "--no-echo"))
    assert (with_prompt.code, without.code) == (0, 0)
    assert with_prompt.out.replace("Thou ", "") == without.out.replace("Thou ", "") and with_prompt.out.startswith(
        "Thou "
    )
    assert len(without.out) < len(with_prompt.out)
    if "--beam" not in more and "--novel" not in more:
        assert "Thou" not in command(*args, "-n", 0).out and "Thou " in command(*args, "-n", 0, "--echo").out


def test_a_long_prompt_is_read_in_silence(command, folder):
    """sample --prompt-file book -n 0 --save-state keeps the state, and writes nothing but a line end."""
    outcome = command("sample", "--prompt-file", "corpus.txt", "-n", 0, "--save-state", "s.state")
    assert (outcome.code, outcome.out, outcome.err) == (0, "\n", "") and (folder / "s.state").exists()


@each(
    "written, meant",
    [
        (r"day?\n", "day?\n"),
        (r"a\tb\r\n", "a\tb\r\n"),
        (r"a\\n", r"a\n"),
        (r"\x41\u0042\U00000043", "ABC"),
        (r"\u00e9\\\n", "\u00e9\\\n"),
        ("day?\n", "day?\n"),
    ],
)
def test_escapes(command, folder, written, meant):
    """In --prompt and --stop an escape is the character it stands for; with --no-escape it is taken letter by letter."""
    assert unescaped(written, "--prompt") == meant
    args = ["sample", "-n", 0, "--echo", "--prompt", written]
    assert command(*args).out == meant + "\n" and command(*args, "--no-escape").out == written + "\n"
    args = ["sample", "-n", 300, "--seed", 4]
    assert command(*args, "--stop", r"\n").out == command(*args, "--stop", "\n", "--no-escape").out


@each("text", ["a\\", r"\x4", r"\xg0", r"\u12", r"\q", r"\ud800", r"\U00110000", r"\N{DASH}"])
def test_an_escape_that_is_not_whole_is_refused(command, folder, text):
    """In one line that names the escape and --no-escape, with which the text is taken as it is."""
    for args in (["sample", "--prompt"], ["sample", "--stop"], ["sample", "--beam", 2, "--prompt"]):
        assert_refused(command(*args, text), 2, args[-1], text.lstrip("a")[:3], "--no-escape")
    assert command("sample", "-n", 1, "--prompt", text, "--no-escape").code == 0


def test_sample_saves_and_loads_states(command, folder):
    """--save-state and --state: two runs write what one would; -n 0 only reads the prompt."""
    whole = command("sample", "-n", 50, "--prompt", "Thou art", "--temperature", 0).out[:-1]
    head = command("sample", "-n", 20, "--prompt", "Thou art", "--temperature", 0, "--save-state", "after.state")
    assert head == type(head)(0, whole[:28] + "\n", "")
    assert command("sample", "-n", 30, "--state", "after.state", "--temperature", 0).out[:-1] == whole[28:]
    assert command("sample", "-n", 0, "--prompt", "Thou art", "--save-state", "prompt.state").out == "\n"
    assert command("sample", "-n", 50, "--state", "prompt.state", "--temperature", 0).out[:-1] == whole[8:]


def test_sample_filters(command, folder):
    """Every filter has an option, and one that leaves only the likeliest token writes what temperature 0 writes."""
    likeliest = command("sample", "-n", 40, "--temperature", 0).out
    for option in (["--top-k", 1], ["--top-p", 1e-6], ["--min-p", 1], ["--temperature", 1e-9]):
        assert command("sample", "-n", 40, *option).out == likeliest
    for option in (["--typical", 0.5], ["--repetition-penalty", 2, "--repetition-window", 0], ["--no-repeat-ngram", 3]):
        changed = command("sample", "-n", 40, "--temperature", 0.01, "--seed", 1, *option)
        assert changed.code == 0 and len(changed.out) == 41


def test_sample_novel_texts(command, folder):
    """--novel skips what stands in the corpus and says how often; too few is an error behind those that were found."""
    shown = command("sample", "-n", 3, "--prompt", "S", "--num-samples", 5, "--novel", "corpus.txt", "--seed", 1)
    texts = shown.out.replace("-" * 20 + "\n", "\0").split("\0")[:-1]
    assert shown.code == 0 and len(texts) == 5 and not [text for text in texts if text[:-1] in VERSE * 20]
    assert re.fullmatch(r"\d+ of \d+ texts stand in the corpus and were skipped.\n", shown.err)
    (folder / "pairs.txt").write_text("".join("S" + letter for letter in VERSE))
    none = command("sample", "-n", 1, "--prompt", "S", "--novel", "pairs.txt")
    assert (none.code, none.out) == (1, "") and "only 0 of 1 texts are novel" in none.err


# ---------------------------------------------------------------- help, version, environment


@each("name", ["train", "sample", "score", "eval", "info", "write", "warmup"])
@each("flag", ["-h", "--help"])
def test_help(command, name, flag):
    """Every command explains itself on stdout."""
    outcome = command(name, flag)
    assert (outcome.code, outcome.err) == (0, "") and outcome.out.startswith(f"Usage: nblstm {name}")
    assert name in command(flag).out


def test_warmup_is_of_one_cell(command):
    """It compiles what that cell needs, and says when it is done."""
    outcome = command("warmup", "--cell", "gru")
    assert (outcome.code, outcome.out) == (0, "") and "the kernels are ready" in outcome.err
    outcome = command("warmup", "--cell", "transformer")
    assert outcome.code == 2 and "'transformer' is not one of 'lstm'" in outcome.err


def test_nothing_is_help(command):
    """The bare command shows what there is."""
    assert command().out == command("-h").out and command().code == 0


def test_help_knows_the_flags_of_the_issue(command):
    """Fields and flags have one name, and defaults are shown."""
    text = command("train", "-h").out
    flags = (
        "level tokenizer hidden-size num-layers embedding-size tie dropout batch-size bptt optimizer lr schedule clip"
    )
    flags += " documents buckets num-buckets tokens-per-batch"
    flags += " epochs steps minutes patience valid-fraction seed threads resume init-from quiet"
    assert not [flag for flag in flags.split() if not re.search(rf"--{flag}\b", text)]
    assert "[default: 256]" in text


def test_version(command):
    """The package's."""
    outcome = command("--version")
    assert outcome.out.split()[-1] == __version__ == nblstm.__version__ and outcome.code == 0


def test_environment_variables(command, corpus, monkeypatch):
    """NBLSTM_<COMMAND>_<OPTION> stands for the option, by the name it has on the command line; the option wins."""
    for name, value in {"TRAIN_HIDDEN_SIZE": 6, "TRAIN_STEPS": 3, "TRAIN_OUTPUT": "m", "TRAIN_QUIET": 1}.items():
        monkeypatch.setenv(f"NBLSTM_{name}", str(value))
    assert command("train", "corpus.txt", "--num-layers", 1, "--steps", 2).err == ""
    monkeypatch.setenv("NBLSTM_INFO_MODEL", "m")
    monkeypatch.setenv("NBLSTM_INFO_JSON", "1")
    facts = json.loads(command("info").out)
    assert facts["config"]["hidden_size"] == 6 and facts["training"]["steps"] == 2
    monkeypatch.setenv("NBLSTM_TRAIN_HIDDEN_SIZE", "many")
    assert command("train", "corpus.txt").code == 2


def test_shell_completion(python, tmp_path):
    """bash is told the commands."""
    run = "import sys; sys.argv = ['nblstm']; from nblstm.cli.main import main; main()"
    words = {"_NBLSTM_COMPLETE": "bash_complete", "COMP_WORDS": "nblstm s", "COMP_CWORD": "1"}
    assert "sample" in python("-c", run, env=words).out


@each("shell", [BashComplete, ZshComplete, FishComplete])
@each(
    "words",
    [
        "train co", "train a.txt co", "train -o mo", "train --valid co", "train --init-from mo", "train --token-weights w",
        "sample -m mo", "sample mo", "sample --prompt-file co", "sample --state s", "sample --save-state s", "sample --novel c",
        "write -m mo", "write mo", "info mo", "info -m mo", "score co", "score -m mo", "eval co", "eval -m mo", "plot m",
        "plot -o l", "report mo", "report -m mo", "report --corpus co", "report --text co", "report -o r",
    ],
)  # fmt: skip
def test_names_of_files_are_completed(shell, words):
    """Wherever a command takes a file: bash, zsh and fish are told to complete the name as they do elsewhere."""
    *before, incomplete = words.split()
    completing = shell(nblstm_command, {}, "nblstm", "_NBLSTM_COMPLETE")
    (found,) = completing.get_completions(before, incomplete)
    assert (found.type, found.value) == ("file", incomplete)
    assert completing.format_completion(found).startswith("file")


def test_the_scripts_for_shells_complete_files(python):
    """What `_NBLSTM_COMPLETE=bash_source nblstm` prints (zsh, fish alike) handles the type file."""
    run = "import sys; sys.argv = ['nblstm']; from nblstm.cli.main import main; main()"
    for shell in ("zsh", "fish"):
        script = python("-c", run, env={"_NBLSTM_COMPLETE": f"{shell}_source"}).out
        assert "_NBLSTM_COMPLETE" in script and "file" in script


# ---------------------------------------------------------------- names


@each(
    "line, meant",
    [
        ("train --seq-length 50 corpus.txt", "--bptt"),
        ("train -seq_length 50 corpus.txt", "--bptt"),
        ("train -rnn_size 50 corpus.txt", "--hidden-size"),
        ("train --learning-rate=0.1 corpus.txt", "--lr"),
        ("train --max-epochs 3 corpus.txt", "--epochs"),
        ("train --grad-clip 3 corpus.txt", "--clip"),
        ("train --model-type gru corpus.txt", "--cell"),
        ("train --data_dir corpus.txt", "CORPUS"),
        ("sample --temp 0.5", "--temperature"),
        ("sample -temperature 0.5", "--temperature"),
        ("sample --length 5", "-n"),
        ("sample -length 5", "-n"),
        ("sample --max_new_tokens 5", "-n"),
        ("sample -p words", "--prompt"),
        ("sample --start words", "--prompt"),
        ("sample -primetext words", "--prompt"),
        ("sample --repeat-penalty 1.1", "--repetition-penalty"),
        ("generate", "sample"),
        ("trian corpus.txt", "train"),
        ("evaluate corpus.txt", "eval"),
    ],
)
def test_names_of_others_are_known(command, folder, line, meant):
    """What char-rnn, torch-rnn, textgenrnn, Keras, nanoGPT and llama.cpp call something is answered by its name here."""
    outcome = command(*line.split())
    assert_refused(outcome, 2, "there is no ")
    assert re.search(rf"(has|did you mean) {meant}[.?]$", outcome.err.strip()), outcome.err


def test_what_stands_behind_an_option_is_no_name(command, folder):
    """A prompt may look like an option of another program, and an unknown name stays unknown."""
    assert command("sample", "-n", 1, "--prompt", "-start").code == 0
    assert_refused(command("sample", "--nonsense"), 2, "--nonsense")
    assert_refused(command("xyzzy"), 2, "xyzzy", "nblstm -h")


def test_every_meant_name_exists():
    """All that the tables answer is an option of a command, or a command."""
    commands = {name: nblstm_command.get_command(None, name) for name in names.COMMANDS.values()}
    every = [nblstm_command.get_command(None, name) for name in nblstm_command.list_commands(None)]
    flags = {flag for one in every for option in one.params for flag in option.opts} | {"CORPUS"}
    assert None not in commands.values()
    assert {flag for meant in names.OPTIONS.values() for flag in meant} <= flags


def test_misspelt_environment_variables_are_named(command, folder, monkeypatch):
    """One line on stderr for each, with the one that was meant; variables of other commands and switches are none."""
    monkeypatch.setenv("NBLSTM_INFO_JSN", "1")
    monkeypatch.setenv("NBLSTM_TRAIN_HIDEN_SIZE", "1")
    monkeypatch.setenv("NBLSTM_TILES", "on")
    outcome = command("info")
    assert outcome.code == 0 and outcome.err.count("note: ") == 1
    assert "NBLSTM_INFO_JSN" in outcome.err and "did you mean NBLSTM_INFO_JSON?" in outcome.err


def test_a_variable_without_its_command_is_named(command, folder, monkeypatch):
    """With the command's in its place where it has such an option; elsewhere no name that happens to begin alike."""
    monkeypatch.setenv("NBLSTM_HIDDEN_SIZE", "1")
    assert "did you mean NBLSTM_TRAIN_HIDDEN_SIZE?" in command("train", "missing").err
    assert "and no option has such a name." in command("info").err


def test_what_ends_a_text_has_a_line_of_its_own(capsys):
    """An interrupted text ends its line, so that no error hangs on its last word."""

    def pieces():
        yield "To be"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stream_text("> ", pieces())
    assert capsys.readouterr().out == "> To be\n"


@each("name", ["info", "sample", "report", "score", "eval"])
def test_a_model_is_named_either_way(command, folder, name):
    """As an argument, with -m, or as model.safetensors: the same is printed; two different ones are refused."""
    if (folder / "model.safetensors").exists():
        (folder / "model.safetensors").rename("other.safetensors")
    rest = {
        "score": ["corpus.txt"],
        "eval": ["corpus.txt"],
        "sample": ["--seed", 1],
        "report": ["-o", "-", "-n", 9],
    }.get(name, [])
    plain, flagged = command(name, "other.safetensors", *rest), command(name, *rest, "-m", "other.safetensors")
    assert plain.code == flagged.code == 0 and plain.out == flagged.out != ""
    assert command(name, *rest).code == 1
    if rest[:1] != ["corpus.txt"]:
        assert_refused(command(name, "other.safetensors", "-m", "x", *rest), 2, "one model", "other.safetensors")


def test_words_where_a_file_belongs(command, folder):
    """score and sample say where they go; score --text takes them, as a line of a file would be scored."""
    assert_refused(command("score", "a sentence"), 1, "a sentence", "--text")
    assert_refused(command("sample", "a sentence"), 1, "a sentence", "--prompt")
    assert_refused(command("score"), 2, "FILE", "--text")
    assert_refused(command("score", "model.safetensors"), 2, "is a model")
    (folder / "line.txt").write_text("Thou art", encoding="utf-8")
    assert command("score", "--text", "Thou art").out == command("score", "line.txt").out


# ---------------------------------------------------------------- signals


@contextmanager
def start(*args, **keywords):
    """`nblstm train ARGS` as a process, which does not outlive the block."""
    with subprocess.Popen(
        [sys.executable, "-m", "nblstm", "train", *args], stderr=subprocess.PIPE, stdout=subprocess.PIPE,
        env=environment(), text=True, **keywords,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def after_the_first_step(process):
    """Waits until the run has shown an epoch's progress."""
    for line in process.stderr:
        if line.startswith("epoch"):
            return
    pytest.fail("the run ended before its first step")


@needs_numba
@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_saves_and_says_how_to_go_on(command, corpus, number, code):
    """With the shell's exit code, long before its limit; --resume then ends in the bits of an uninterrupted run."""
    recipe = ["corpus.txt", *SMALL, "--steps", "1000000", "--schedule", "constant", "--seed", "1", "--dropout", "0.2"]
    with start(*recipe, "--epochs", "1000000") as process:
        after_the_first_step(process)
        process.send_signal(number)
        rest = process.stderr.read()
        assert process.wait(PATIENCE) == code
        assert process.stdout.read() == ""
    assert "go on with: nblstm train --resume\n" in rest and "Traceback" not in rest
    stopped = int(re.search(r"stopped at step ([\d,]+)", rest)[1].replace(",", ""))
    assert 1 <= stopped < 1_000_000
    steps = str(stopped + 50)
    assert command("train", "--resume", "--steps", steps, "-q").code == 0
    assert command("train", *recipe[:-8], "--steps", steps, *recipe[-6:], "-o", "whole.safetensors", "-q").code == 0
    resumed, whole = (safetensors.read(f"{stem}.checkpoint.safetensors")[0] for stem in ("model", "whole"))
    for name in ("parameters", "optimizer.m", "optimizer.v", "state.h", "state.c"):
        np.testing.assert_array_equal(resumed[name], whole[name], err_msg=name)


@needs_numba
@pytest.mark.parametrize("number, codes", [(signal.SIGINT, {130}), (signal.SIGTERM, {143, -signal.SIGTERM})])
def test_a_signal_before_the_first_step(corpus, number, codes):
    """While the corpus is read there is nothing to save: it ends at once, with a line at most, and leaves nothing."""
    with start("-", *SMALL, stdin=subprocess.PIPE) as process:
        process.stdin.write("text " * 100_000)  # more than a pipe holds: it returns once the command is reading
        process.stdin.flush()
        time.sleep(0.3)  # now it has read everything and waits for more
        process.send_signal(number)
        errors = process.stderr.read()
        assert process.wait(PATIENCE) in codes and errors.split() in ([], ["Error:", "interrupted."])
        with suppress(BrokenPipeError):
            process.stdin.close()
    assert os.listdir() == ["corpus.txt"]


@needs_numba
def test_the_way_to_go_on_names_the_output(corpus):
    """Also where the model has another name, quoted for the shell."""
    with start("corpus.txt", *SMALL, "--epochs", "1000000", "-o", "my model") as process:
        after_the_first_step(process)
        process.send_signal(signal.SIGINT)
        assert "nblstm train --resume -o 'my model'\n" in process.stderr.read()


# ---------------------------------------------------------------- every kind of text


def trained_on(command, *args):
    """The model that a short run on these arguments makes."""
    outcome = command("train", *args, *SMALL, "--steps", 3, "-q")
    assert outcome == type(outcome)(0, "", "")
    return nblstm.load("model.safetensors")


def test_standard_input(python, corpus):
    """`cat corpus.txt | nblstm train -`, and so for eval and a prompt."""
    text = (VERSE * 20).encode()
    assert python("-m", "nblstm", "train", "-", *SMALL, "--steps", 3, "-q", input=text).code == 0
    assert nblstm.load("model.safetensors").vocabulary.tokens[1:] == tuple(sorted(set(VERSE)))
    report = json.loads(python("-m", "nblstm", "eval", "-", "--json", input=text).out)
    assert report["files"][0]["tokens"] == len(text) - 1
    assert python("-m", "nblstm", "sample", "--prompt-file", "-", "-n", 4, input=b"Thou").out.startswith("Thou")


def test_several_files_folders_and_gz(command, corpus):
    """They are joined; files of a folder in sorted order, .gz unpacked."""
    (corpus / "folder" / "inner").mkdir(parents=True)
    (corpus / "folder" / "a.txt").write_text("xxx\n" * 100)
    (corpus / "folder" / "inner" / "b.txt.gz").write_bytes(gzip.compress(b"yyy\n" * 100))
    model = trained_on(command, "corpus.txt", "folder")
    assert set(model.vocabulary.tokens[1:]) == set(VERSE) | set("xy")
    assert model.training["corpus"] == ["corpus.txt", "folder"]
    assert model.training["tokens"] == int(0.9 * (len(VERSE) * 20 + 800))


def test_line_ends_are_kept(command, corpus):
    """CRLF is a line end like others, or two characters that the model learns and writes."""
    (corpus / "crlf.txt").write_bytes(b"\r\n" * 1000)
    assert trained_on(command, "crlf.txt").vocabulary.tokens == ("<unk>", "\n")
    kept = trained_on(command, "crlf.txt", "--newline", "keep", "--overwrite")
    assert kept.vocabulary.tokens == ("<unk>", "\n", "\r")


def test_encodings(command, corpus):
    """--encoding reads what is not UTF-8, and a byte order mark is no character."""
    (corpus / "latin.txt").write_bytes("café ".encode("latin-1") * 300)
    assert "é" in trained_on(command, "latin.txt", "--encoding", "latin-1").vocabulary.tokens
    (corpus / "mark.txt").write_bytes(b"\xef\xbb\xbf" + b"abc" * 300)
    assert trained_on(command, "mark.txt", "--overwrite").vocabulary.tokens == ("<unk>", "a", "b", "c")


@pytest.mark.parametrize(
    "args, loss_of, prompt",
    [
        (["--level", "word"], "word", "Shall I"),
        (["--level", "word", "--tokenizer", "whitespace"], "word", "Shall I"),
        (["--level", "word", "--min-count", "21"], "word", "Shall I"),
        (["--level", "word", "--max-vocab", "5"], "word", "Shall I"),
        (["--level", "byte"], "byte", "é"),
        (["--level", "char", "--tie"], "character", "S"),
        (["--level", "char", "--optimizer", "sgd", "--lr", "0.1", "--schedule", "plateau"], "character", "S"),
    ],
)
def test_every_level_end_to_end(command, corpus, args, loss_of, prompt):
    """Train, sample and score; the text goes on from the prompt, never with <unk>."""
    model = trained_on(command, "corpus.txt", *args)
    sampled = command("sample", "-n", 25, "--prompt", prompt, "--seed", 1)
    assert sampled.code == 0 and sampled.out.startswith(prompt) and "<unk>" not in sampled.out
    scored = command("eval", "corpus.txt")
    assert scored.code == 0 and scored.out.split()[0] == f"nats/{loss_of}"
    if "--max-vocab" in args:
        assert len(model.vocabulary) == 5 and int(scored.out.split()[-3].replace(",", "")) > 0
    if "whitespace" in args:
        assert "day?" in model.vocabulary.tokens


def test_init_from_on_the_command_line(command, folder):
    """A model goes on from another's weights."""
    outcome = command("train", "corpus.txt", "--init-from", "model.safetensors", "-o", "next.safetensors", "--steps", 1)
    assert outcome.code == 0 and "-m next.safetensors" in outcome.err
    assert nblstm.load("next.safetensors").config == nblstm.load("model.safetensors").config


@each("steps", [1, 99_999])
@each("lr", [0.005, 0.00024])
def test_an_epoch_line_fits_80_columns(steps, lr):
    """With five digits of steps, losses of two digits and a long rate."""
    shown = []
    progress = SimpleNamespace(line=shown.append)
    found = SimpleNamespace(found=lambda measures: "")
    session = SimpleNamespace(trainer=SimpleNamespace(config=SimpleNamespace(epochs=99)), task=found)
    report = SimpleNamespace(
        epoch=12.86, step=steps, smooth_loss=1.0352, valid_loss=1.1655, improved=True, lr=lr, seconds=3599,
        tokens_per_second=109_600, validated=True, measures={}, sample=None,
    )  # fmt: skip
    _render(session, report, progress)
    assert len(shown[0]) <= 80 and shown[0].startswith("epoch 12.86 step ") and shown[0].endswith(" 59:59 best")


def test_few_updates_are_told(command, corpus):
    """Below 50 updates one line says how few they were; from 50 on there is none."""
    few = command("train", "corpus.txt", *SMALL, "--steps", 1).err
    assert few.count("warning only 1 update, so it is hardly trained; raise --epochs, --steps or --minutes\n") == 1
    assert "only" not in command("train", "corpus.txt", *SMALL, "--steps", 50, "--overwrite").err


def test_worse_than_a_uniform_guess(command, corpus):
    """train, info and eval name a model that a guess among all tokens (log V nats) would beat, and no other."""
    args = ["train", "corpus.txt", *SMALL, "--steps", 60, "--overwrite"]
    guess = f"worse than a uniform guess among its {len(set(VERSE)) + 1} tokens, {math.log(len(set(VERSE)) + 1):.4f}"
    assert "uniform" not in command(*args).err + command("info").out + command("eval", "corpus.txt").err
    trained = command(*args, "--optimizer", "adam", "--lr", 100, "--clip", 0)
    assert trained.code == 0 and trained.err.count(guess + "; lower --lr, or train longer\n") == 1
    assert guess in command("info").out and guess in command("eval", "corpus.txt").err


def test_demo(command, corpus):
    """--demo brings its own text, and a limit replaces its minute."""
    outcome = command("train", "--demo", "--steps", 1, "--hidden-size", 8, "--batch-size", 4, "--valid", "corpus.txt")
    assert outcome.code == 0
    training = nblstm.load("model.safetensors").training
    assert training["corpus"] == ["the demo text"] and training["tokens"] > 300_000


def test_fine_tuning_tells_what_the_model_does_not_know(command, folder):
    """The text line counts unknown training tokens, a sentence says a large share, and a text that is all unknown is refused."""
    (folder / "cyrillic.txt").write_text("привет " * 3000, encoding="utf-8")
    shown = command("train", "cyrillic.txt", "--init-from", "model.safetensors", "-o", "new.safetensors", "--steps", 2)
    assert shown.code == 0
    assert "text    18,900 chars to train on, 16,200 of them unknown, 2,100 to validate, 1,800 of them unknown" in (
        shown.err.replace(" chars to validate", " to validate")
    )
    assert "the vocabulary does not know 85.7 % of the training text's tokens" in shown.err
    (folder / "cyrillic.txt").write_text("привет" * 3000, encoding="utf-8")
    refused = command(
        "train", "cyrillic.txt", "--init-from", "model.safetensors", "-o", "none.safetensors", "--steps", 2
    )
    assert refused.code == 1 and "16,200 of the training text's 16,200 tokens are not in the vocabulary" in refused.err
    assert not (folder / "none.safetensors").exists()
