"""Every kind of network in every command: trained, resumed, stored, scored, sampled, with NumPy alone."""

import json
from pathlib import Path

import numpy as np
import pytest
from support.cases import each

import nblstm
from nblstm.files.model_file import load_checkpoint

KINDS = {
    "lstm": ["--dropout", "0.3", "--output-dropout", "0.2"],
    "gru": ["--cell", "gru", "--residual"],
    "rnn": ["--cell", "rnn", "--nonlinearity", "relu", "--learned-state"],
    "update-lstm": ["--cell", "update-lstm", "--layer-norm"],
    "peepholes": ["--peepholes", "--proj-size", "5", "--embedding-size", "5", "--residual", "--tie"],
    "cell head": ["--head", "cell", "--variational-dropout", "0.2", "--optimizer", "adamw"],
    "noise": ["--weight-dropout", "0.3", "--embedding-dropout", "0.2", "--input-dropout", "0.1"],
    "mingru": ["--cell", "mingru", "--residual", "--input-dropout", "0.1"],
    "mogrifier": ["--cell", "mogrifier-lstm", "--mogrifier-rounds", "3", "--tie", "--embedding-size", "8"],
    "adaptive": ["--head", "adaptive", "--cutoffs", "5,12", "--level", "word", "--lazy-embedding"],
    "smoothing": ["--label-smoothing", "0.1"],
    "bidirectional": ["--bidirectional", "--cell", "gru", "--residual", "--embedding-size", "16"],
    "many hidden": ["--bidirectional", "--mask-fraction", "0.4", "--layer-norm", "--level", "word"],
    "documents": ["--documents", "line", "--cell", "gru", "--learned-state", "--optimizer", "asgd", "--lr", "1"],
    "bidirectional documents": ["--bidirectional", "--documents", "line", "--learned-state", "--head", "cell"],
}
SMALL = ["--hidden-size", "8", "--batch-size", "4", "--bptt", "8", "--schedule", "constant", "-q"]
WITHOUT_NUMBA = """
import contextlib, io, json, sys
sys.modules["numba"] = None
from nblstm.cli.main import main
for asked in json.loads(sys.argv[1]):
    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out):
            main(asked)
    except SystemExit as ended:
        print(json.dumps([ended.code, out.getvalue()]))
"""


@pytest.fixture(params=KINDS, scope="module")
def kind(request):
    """The name of a kind."""
    return request.param


@pytest.fixture
def trained_kind(kind, command, folder):
    """The kind after 12 steps, at once and with a stop in between, in the folder of corpus.txt."""
    asked = ["train", "corpus.txt", *SMALL, *KINDS[kind]]
    assert command(*asked, "--steps", 12, "-o", "whole.safetensors").code == 0
    assert command(*asked, "--steps", 7, "-o", "parts.safetensors").code == 0
    outcome = command("train", "--resume", "--steps", 12, "-q", "-o", "parts.safetensors")
    assert outcome.code == 0, outcome.err
    return kind


def test_every_kind_in_every_command(trained_kind, command, folder, python):
    """Resumed to the last bit; described; scored alike on both backends and with NumPy alone; sampled, or refused."""
    whole, parts = (load_checkpoint(folder / f"{name}.checkpoint.safetensors") for name in ("whole", "parts"))
    for name in whole[0].keys() - {"best.parameters"}:  # one run has validated in between
        assert np.array_equal(whole[0][name], parts[0][name]), name
    writes, ends = "--bidirectional" not in KINDS[trained_kind], "documents" in trained_kind
    model = ["-m", "whole.safetensors"]
    evaluation = ["eval", *model, *(["--protocol", "documents"] if ends else []), "--json", "corpus.txt"]
    sampling, scoring = ["sample", *model, "-n", 20, "--seed", 1], ["score", *model, "--json", "corpus.txt"]
    found = {backend: {} for backend in ("numpy", "cpu")}
    for backend, results in found.items():
        results["loss"] = json.loads(succeeded(command(*evaluation, "--backend", backend)))["files"][0][
            "nats_per_token"
        ]
        results["scores"] = nats(succeeded(command(*scoring, "--backend", backend)))
        drawn = command(*sampling, "--backend", backend)
        assert writes or ((drawn.code, drawn.out) == (2, "") and "cannot write from left to right" in drawn.err)
        results["text"] = succeeded(drawn) if writes else ""
        assert bool(results["text"].strip()) == writes
    assert found["numpy"]["loss"] == pytest.approx(found["cpu"]["loss"], rel=1e-5)
    assert found["numpy"]["scores"] == pytest.approx(found["cpu"]["scores"], rel=1e-5)
    info = command("info", *model)
    description = nblstm.load(folder / "whole.safetensors").config.description
    assert description in info.out and (writes or "bidirectional" in description)
    asked = [[str(word) for word in words] for words in (evaluation, scoring, ["info", *model], sampling)]
    alone = python("-c", WITHOUT_NUMBA, json.dumps(asked))
    assert alone.code == 0, alone.err
    (evaluated, scored, shown, drawn) = map(json.loads, alone.out.splitlines())
    assert json.loads(evaluated[1])["files"][0]["nats_per_token"] == pytest.approx(found["numpy"]["loss"], rel=1e-6)
    assert nats(scored[1]) == pytest.approx(found["numpy"]["scores"], rel=1e-6)
    assert shown[:2] == [0, info.out] and drawn[:2] == [0 if writes else 2, found["numpy"]["text"]]


def succeeded(outcome):
    """What a command has printed; it must have succeeded."""
    assert outcome.code == 0, outcome.err
    return outcome.out


def nats(lines):
    """The loss of each scored line, of the output of `score --json`."""
    return [json.loads(line)["nats_per_token"] for line in lines.splitlines()]


@each("options, message", [
    (["--cell", "gru", "--peepholes"], "--peepholes is for lstm"), (["--nesterov"], "--nesterov is for sgd"),
    (["--cell", "rnn", "--head", "cell"], "the cell head needs"), (["--mask-fraction", "0.2"], "--mask-fraction is for"),
    (["--cell", "mingru", "--weight-dropout", "0.1"], "--weight-dropout is for lstm or gru"),
    (["--mogrifier-rounds", "3"], "--mogrifier-rounds is for mogrifier-lstm, not for lstm"),
    (["--cell", "mogrifier-lstm", "--mogrifier-rounds", "101"], "--mogrifier-rounds must be at most 100"),
    (["--token-weights", "missing.json"], "missing.json cannot be read"),
    (["--nonlinearity", "relu"], "--nonlinearity is for rnn"), (["--cell", "rnn", "--proj-size", "3"], "--proj-size is for"),
    (["--proj-size", "256"], "--proj-size must be less than"), (["--dropout", "1"], "--dropout must be at least 0"),
    (["--tie", "--embedding-size", "7"], "--embedding-size == 256"), (["--buckets", "10"], "--buckets is for documents"),
    (["--bidirectional", "--mask-fraction", "0"], "at least 0.001, got 0.0"),
    (["--bidirectional", "--level", "byte"], "bidirectional hides tokens behind <unk>"),
    (["--bidirectional", "--tie", "--embedding-size", "256"], "--tie needs --embedding-size == 512"),
    (["--momentum", "0.5"], "--momentum is for sgd, not for adam"), (["--averaging-patience", "3"], "is for asgd"),
    (["--lr-decay", "0.5"], "--lr-decay is for exponential or step or plateau, not for cosine"),
    (["--schedule", "step", "--warmup", "5"], "--warmup is for cosine"), (["--decay-after", "3"], "--decay-after is for"),
    (["--device", "cuda", "--residual"], "residual True is not for device cuda"),
])  # fmt: skip
def test_combinations_are_refused_before_anything_is_read(command, folder, options, message):
    """One line, exit code 2; the corpus need not even exist, and another run may stand at the output."""
    Path("x.safetensors").touch()
    refused = command("train", "no-such-corpus.txt", *options, "-o", "x.safetensors")
    assert refused.code == 2 and message in refused.err and refused.err.count("\n") == 1
