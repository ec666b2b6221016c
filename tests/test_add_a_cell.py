"""docs/add-a-cell.md, followed: its code adds a cell, which trains, samples, saves and loads on every backend."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
from support.exported import language_model
from test_export_c import CC, compiled, run

import nblstm
from nblstm import kernels
from nblstm.errors import ConfigError
from nblstm.exporting.cells import EXPORTED_CELLS, ExportedCell
from nblstm.exporting.language import reference_logits
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
    for table in (KINDS, EXPORTED_CELLS):
        table.pop("decaying", None)


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


def test_it_is_exported(tmp_path):
    """Its few lines compute it: in the Python file, in the header, whose test of itself passes, and in the graph."""
    model, tokens = language_model(12, cell="decaying", hidden_size=6), np.arange(12)
    expected = reference_logits(model, tokens)
    nblstm.export(model, tmp_path / "exported.py")
    found: dict = {"__name__": "exported"}
    exec((tmp_path / "exported.py").read_text(encoding="utf-8"), found)
    other = found["Model"]()
    state = other.start()
    for token, row in zip(tokens, expected):
        logits, state = other.feed(state, token)
        np.testing.assert_allclose(logits, row, rtol=0, atol=1e-5)
    if CC:
        assert run(compiled(tmp_path, model, "float32"), "--test")[0] == 0
    if importlib.util.find_spec("onnxruntime"):
        import onnxruntime

        nblstm.export(model, tmp_path / "model.onnx")
        session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
        given = {"tokens": tokens[:, None], "h": np.zeros((2, 1, 6), np.float32)}
        np.testing.assert_allclose(session.run(None, given)[0][:, 0], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("format", ["c", "py", "html", "onnx"])
def test_an_export_that_lacks_it_names_it(tmp_path, format):
    """And names a format only where that one has it."""
    model = language_model(12, cell="decaying", hidden_size=6)
    del EXPORTED_CELLS["decaying"]
    with pytest.raises(ConfigError, match=f"format {format} has the cells lstm, .*, got decaying; train one of them"):
        nblstm.export(model, tmp_path / "x", format=format)
    EXPORTED_CELLS["decaying"] = ExportedCell(**{{"c": "py"}.get(format, "c"): "x"})
    with pytest.raises(ConfigError, match=f"; choose format {'py' if format == 'c' else 'c'}, or train one of them"):
        nblstm.export(model, tmp_path / "x", format=format)
