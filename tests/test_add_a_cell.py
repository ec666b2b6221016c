"""docs/add-a-cell.md, followed: its code adds a cell, which trains, samples, saves and loads on every backend."""

import re
from pathlib import Path

import numpy as np
import pytest

import nblstm
from nblstm import kernels
from nblstm.errors import ConfigError
from nblstm.kernels import Outputs, Packed, reference
from nblstm.kernels.cells import KINDS, Cell

RECIPE = Path(__file__).parent.parent / "docs" / "add-a-cell.md"
TEXT = "Shall I compare thee to a summer's day?\nThou art more lovely and more temperate:\n" * 10
SHAPE = {"cell": "decaying", "hidden_size": 6, "num_layers": 2, "batch_size": 2, "bptt": 5, "schedule": "constant"}


@pytest.fixture(autouse=True)
def decaying():
    """The cell of the recipe, made by its own code; forgotten afterwards."""
    if not RECIPE.exists():
        pytest.skip("not run from a checkout")
    code = re.findall(r"^ *```python\n(.*?)^ *```", RECIPE.read_text(encoding="utf-8"), flags=re.M | re.S)
    exec("\n".join(re.sub(r"^   ", "", part, flags=re.M) for part in code), {})
    yield KINDS["decaying"]
    del KINDS["decaying"]


@pytest.fixture
def corpus(tmp_path):
    """A file of text."""
    (tmp_path / "corpus.txt").write_text(TEXT, encoding="utf-8")
    return tmp_path / "corpus.txt"


def test_it_is_refused_where_it_is_not_registered(decaying):
    """By its name, with those that there are."""
    del KINDS["decaying"]
    with pytest.raises(ConfigError, match="cell must be one of lstm, .*, got 'decaying'"):
        nblstm.LanguageConfig(5, cell="decaying")
    KINDS["decaying"] = decaying


def test_a_step():
    """A worked example: h = tanh(W x + b) + decay h."""
    cell = Cell("decaying", input_size=1, hidden_size=1)
    assert cell.shapes == {"weight_ih": (1, 1), "bias_ih": (1,), "decay": (1,)} and not cell.compiled
    weights = {"weight_ih": np.array([[2.0]]), "bias_ih": np.array([1.0]), "decay": np.array([0.5])}
    y, hn, c = np.empty((2, 1)), np.empty((1, 1)), np.empty((1, 0))
    packed = Packed(np.array([[0.0], [1.0]]), None, np.array([[4.0]]), c, np.array([0, 1, 2]))
    reference.recurrent_forward(Outputs(y, None, hn, c), {}, packed, weights, cell, 1)
    np.testing.assert_allclose(y[:, 0], [np.tanh(1) + 2, np.tanh(3) + (np.tanh(1) + 2) / 2])


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
def test_it_trains_samples_saves_and_loads(corpus, backend):
    """The loss falls; a file brings back the same parameters and text; the run says once who computes it."""
    said = []
    model = nblstm.train(corpus, corpus.with_name("m.safetensors"), steps=40, lr=0.02, on_message=said.append, **SHAPE)
    assert said == ["no cpu kernel computes the cell decaying; NumPy does, several times slower."]
    assert model.training["valid_loss"] < 3 < np.log(len(model.vocabulary)) + 0.2
    loaded = nblstm.load(corpus.with_name("m.safetensors"))
    texts = ["".join(each.generate("Sh", n=30, seed=1, backend=backend)) for each in (model, loaded)]
    assert texts[0] == texts[1] and len(texts[0]) == 30
    assert "rnn.decay_l1" in nblstm.nn.parameters.views(loaded.parameters, loaded.config)
    assert loaded.score(TEXT, backend).nats == pytest.approx(model.score(TEXT, "numpy").nats, rel=1e-6)


def test_a_run_goes_on_to_the_last_bit(corpus):
    """Seven updates and five more are twelve."""
    whole = nblstm.train(corpus, corpus.with_name("whole.safetensors"), steps=12, **SHAPE)
    nblstm.train(corpus, corpus.with_name("parts.safetensors"), steps=7, **SHAPE)
    parts = nblstm.train(output=corpus.with_name("parts.safetensors"), resume=True, steps=12)
    assert whole.training["steps"] == parts.training["steps"] == 12
    assert np.array_equal(whole.parameters, parts.parameters)


def test_the_parts_that_have_kernels_are_silent():
    """Only what NumPy computes is told of."""
    assert kernels.fallback(Cell("lstm", 2, 2), "cpu") is None
    assert kernels.fallback(Cell("decaying", 2, 2), "numpy") is None
    assert "with these options" in kernels.fallback(Cell("mogrifier-lstm", 2, 2, layer_norm=True), "cpu")
