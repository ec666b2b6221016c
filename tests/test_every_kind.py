"""Every kind of network in every command: trained, resumed, stored, scored, sampled, with NumPy alone."""

import json

import numpy as np
import pytest

import nblstm

KINDS = {
    "gru": ["--cell", "gru", "--residual"],
    "rnn": ["--cell", "rnn", "--nonlinearity", "relu", "--learned-state"],
    "update-lstm": ["--cell", "update-lstm", "--layer-norm"],
    "peepholes": ["--peepholes", "--proj-size", "5", "--embedding-size", "5", "--residual", "--tie"],
    "cell head": ["--head", "cell", "--variational-dropout", "0.2", "--optimizer", "adamw"],
    "noise": ["--weight-dropout", "0.3", "--embedding-dropout", "0.2", "--input-dropout", "0.1", "--label-smoothing", "0.1"],
    "bidirectional": ["--bidirectional", "--cell", "gru", "--residual", "--embedding-size", "16"],
    "documents": ["--documents", "line", "--cell", "gru", "--learned-state", "--optimizer", "asgd", "--lr", "1"],
}  # fmt: skip
SMALL = ["--hidden-size", "8", "--batch-size", "4", "--bptt", "8", "--schedule", "constant", "-q"]
WITHOUT_NUMBA = "import sys; sys.modules['numba'] = None; from nblstm.cli.main import main; main(sys.argv[1:])"


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
    """Resumed to the last bit; described; scored alike on both backends; sampled, or refused in a sentence."""
    whole, parts = (nblstm.load(folder / f"{name}.safetensors") for name in ("whole", "parts"))
    if trained_kind != "documents":  # the best of other validations there
        assert np.array_equal(whole.parameters, parts.parameters)
    assert whole.config.description in command("info", "-m", "whole.safetensors").out
    protocol = ["--protocol", "documents"] if trained_kind == "documents" else []
    found = {}
    for backend in ("numpy", "cpu"):
        outcome = command("eval", "-m", "whole.safetensors", *protocol, "--backend", backend, "--json", "corpus.txt")
        assert outcome.code == 0, outcome.err
        found[backend] = json.loads(outcome.out)["files"][0]["nats_per_token"]
        sampled = command("sample", "-m", "whole.safetensors", "-n", 20, "--seed", 1, "--backend", backend)
        if trained_kind == "bidirectional":
            assert (sampled.code, sampled.out) == (2, "") and "cannot write from left to right" in sampled.err
        else:
            assert sampled.code == 0 and sampled.out.strip()
    assert found["numpy"] == pytest.approx(found["cpu"], rel=1e-5)
    alone = python("-c", WITHOUT_NUMBA, "eval", "-m", "whole.safetensors", *protocol, "--json", "corpus.txt")
    assert alone.code == 0, alone.err
    assert json.loads(alone.out)["files"][0]["nats_per_token"] == pytest.approx(found["numpy"], rel=1e-6)
    scored = command("score", "-m", "whole.safetensors", "corpus.txt")
    assert scored.code == 0 and ("filled in from both sides" in scored.err) == (trained_kind == "bidirectional")


def test_a_bidirectional_model_fills_in_what_is_hidden(folder):
    """In a text of pairs, where either letter tells the other, a token hidden between its neighbours is certain."""
    (folder / "pairs.txt").write_text("".join("ab" if n % 3 else "cd" for n in range(2000)))
    model = nblstm.train(
        folder / "pairs.txt", folder / "pairs.safetensors", bidirectional=True, hidden_size=16, num_layers=1, lr=0.02,
        steps=200, batch_size=8, bptt=16,
    )  # fmt: skip
    assert model.surprisals("ababcdabab").nats[2:-2].max() < 0.3


def test_bytes_cannot_be_hidden(command, folder):
    """Level byte has no <unk> to stand for a hidden token: refused by name."""
    refused = command("train", "corpus.txt", "--level", "byte", "--bidirectional", "-o", "b.safetensors", *SMALL)
    assert refused.code == 2 and "bidirectional hides tokens behind <unk>" in refused.err


@pytest.mark.parametrize("options, message", [
    (["--cell", "gru", "--peepholes"], "peepholes is for lstm"), (["--nesterov"], "nesterov is for sgd"),
    (["--cell", "rnn", "--head", "cell"], "the cell head needs"), (["--mask-fraction", "0.2"], "mask_fraction is for"),
    (["--token-weights", "missing.json"], "missing.json cannot be read"),
])  # fmt: skip
def test_combinations_are_refused_before_anything_is_read(command, folder, options, message):
    """One line, exit code 2, and the corpus need not even exist."""
    refused = command("train", "no-such-corpus.txt", *options, "-o", "x.safetensors")
    assert refused.code == 2 and message in refused.err and refused.err.count("\n") == 1
