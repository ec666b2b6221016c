"""`nblstm import` of .keras files: models that Keras has written have its logits, and hostile files do nothing."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from support.exported import language_model

import nblstm
from nblstm.convert import keras_file
from nblstm.convert.weights import import_weights
from nblstm.errors import ConfigError, ModelFileError
from nblstm.exporting.language import reference_logits

h5py = pytest.importorskip("h5py")
DATA = Path(__file__).parent / "data" / "keras"
LETTERS = [chr(97 + k) for k in range(11)]
OUTPUTS = json.loads((DATA / "outputs.json").read_text())


@pytest.fixture
def words(tmp_path):
    (tmp_path / "words.json").write_text(json.dumps(LETTERS))
    return tmp_path / "words.json"


def layer(kind, **settings):
    """A layer as config.json has it."""
    return {"class_name": kind, "config": {"name": kind.lower(), **settings}}


def recurrent(kind="LSTM", units=3, activation="tanh", recurrent_activation="sigmoid", **settings):
    """A recurrent layer as config.json has it."""
    fields = {"units": units, "activation": activation, "recurrent_activation": recurrent_activation}
    return layer(kind, **fields, **({"reset_after": True} if kind == "GRU" else {}), **settings)


DENSE = layer("Dense", activation="softmax")


def archive(folder, layers, arrays, change=lambda file: None, **options):
    """A .keras file of these layers and arrays, laid out as Keras does."""
    data = io.BytesIO()
    with h5py.File(data, "w") as file:
        for place, array in arrays.items():
            file[f"layers/{place}"] = np.asarray(array, np.float32)
        change(file)
    with zipfile.ZipFile(folder / "x.keras", "w", **options) as made:
        made.writestr("metadata.json", '{"keras_version": "3.0.0"}')
        made.writestr("config.json", json.dumps({"class_name": "Sequential", "config": {"layers": layers}}))
        made.writestr("model.weights.h5", data.getvalue())
    return folder / "x.keras"


def arrays_of(kind="lstm", gates=4, H=3, V=11, E=5):
    """Random arrays of an embedding, a recurrent layer and a head, by their places."""
    shapes = {
        "embedding/vars/0": (V, E),
        f"{kind}/cell/vars/0": (E, gates * H),
        f"{kind}/cell/vars/1": (H, gates * H),
        f"{kind}/cell/vars/2": (2, gates * H) if kind == "gru" else (gates * H,),
        "dense/vars/0": (H, V),
        "dense/vars/1": (V,),
    }
    r = np.random.default_rng(0)
    return {place: r.normal(0, 0.4, shape).astype(np.float32) for place, shape in shapes.items()}


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_the_logits_are_those_of_keras(words, name):
    """Within 1e-6 of what Keras itself computes from files that it has written, a new <unk> in front apart."""
    model = import_weights(DATA / f"{name}.keras", words)
    logits = reference_logits(model, np.array(OUTPUTS["tokens"]) + 1)[:, 1:].astype(np.float64)
    if name == "lstm":
        logits = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(logits, OUTPUTS[name], atol=1e-6)
    assert model.vocabulary.tokens == ("<unk>", *LETTERS) and model.config.cell == name


def test_a_simple_rnn_and_a_layer_without_biases(tmp_path, words):
    """The equations themselves: h = max(0, W x + U h), its nonlinearity told by the file."""
    arrays = arrays_of("simple_rnn", 1)
    del arrays["simple_rnn/cell/vars/2"], arrays["dense/vars/1"]
    layers = [layer("Embedding"), recurrent("SimpleRNN", activation="relu"), DENSE]
    model = import_weights(archive(tmp_path, layers, arrays), words)
    E, W, U, D = arrays.values()
    h, expected, tokens = np.zeros(3), [], [3, 1, 4, 10]
    for token in tokens:
        h = np.maximum(0, E[token] @ W + h @ U)
        expected.append(h @ D)
    np.testing.assert_allclose(reference_logits(model, np.array(tokens) + 1)[:, 1:], expected, atol=1e-6)


@pytest.mark.parametrize("layers, word", [
    ([layer("Embedding"), recurrent(activation="relu"), DENSE], "activation of LSTM must be tanh, got 'relu'"),
    ([layer("Embedding"), recurrent(recurrent_activation="hard_sigmoid"), DENSE], "hard_sigmoid"),
    ([layer("Embedding"), recurrent(go_backwards=True), DENSE], "go_backwards"),
    ([layer("Embedding"), recurrent(), layer("Dense", activation="relu")], "Dense layer must be linear or softmax"),
    ([layer("Embedding"), layer("Bidirectional"), DENSE], "got Embedding, Bidirectional, Dense"),
    ([layer("Embedding"), recurrent(), recurrent("GRU"), DENSE], "of one kind"),
    ([layer("Embedding"), recurrent(), recurrent(units=2), DENSE], "as many units as each other, got 3, 2"),
    ([layer("Embedding"), recurrent(), DENSE, layer("Softmax", axis=1)], "got Embedding, LSTM, Dense, Softmax"),
    ([layer("Embedding"), DENSE], "of one kind"), ([], "of one kind"),
    ([layer("Embedding"), recurrent(), recurrent(), DENSE], "'lstm_1' are not there"),
    ([layer("Embedding"), recurrent(units=4), DENSE], "not of 4 units"),
    ("layers", "damaged"), ([{"class_name": "LSTM"}], "damaged"),
])  # fmt: skip
def test_networks_that_are_none_of_ours_are_told(tmp_path, words, layers, word):
    """One sentence that names what the file has."""
    with pytest.raises(ModelFileError, match=word):
        import_weights(archive(tmp_path, layers, arrays_of()), words)


@pytest.mark.parametrize("last", [layer("Softmax", axis=-1), layer("Activation", activation="softmax")])
def test_a_softmax_of_its_own_is_the_heads(tmp_path, words, last):
    """A layer that makes probabilities of the logits of the Dense layer changes none of them."""
    layers = [layer("Embedding"), recurrent(), layer("Dense", activation="linear")]
    of = lambda layers: import_weights(archive(tmp_path, layers, arrays_of()), words).parameters
    np.testing.assert_array_equal(of([*layers, last]), of(layers))


def test_a_gru_that_resets_before_is_told(tmp_path, words):
    """Its equations are others: reset_after=False has no counterpart."""
    layers = [layer("Embedding"), recurrent("GRU"), DENSE]
    assert import_weights(archive(tmp_path, layers, arrays_of("gru", 3)), words).config.cell == "gru"
    layers[1]["config"]["reset_after"] = False
    with pytest.raises(ModelFileError, match="reset_after"):
        import_weights(archive(tmp_path, layers, arrays_of("gru", 3)), words)


def test_a_model_that_is_no_chain_is_told(tmp_path, words):
    """A functional model whose layer reads another than the one before it."""
    node = lambda name: [{"args": [{"config": {"keras_history": [name, 0, 0]}}], "kwargs": {}}]
    layers = [layer("Embedding"), {**recurrent(), "inbound_nodes": node("embedding")}, DENSE]
    assert import_weights(archive(tmp_path, layers, arrays_of()), words)
    layers[2] = {**DENSE, "inbound_nodes": node("embedding")}
    with pytest.raises(ModelFileError, match="does not read the one before"):
        import_weights(archive(tmp_path, layers, arrays_of()), words)


def _filter(file):
    file.create_dataset("layers/more", data=np.zeros((500, 500)), compression="gzip")


def _unwritten(file):
    file.create_dataset("layers/more", shape=(1 << 20, 1 << 20), dtype="f4")


def _virtual(file):
    layout = h5py.VirtualLayout((3,), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (3,))
    file.create_virtual_dataset("layers/more", layout)


def _external(file):
    file.create_dataset("layers/more", shape=(8,), dtype="u1", external=[("/etc/passwd", 0, 8)])


@pytest.mark.parametrize("change, word", [
    (lambda file: file.__setitem__("layers/more", h5py.ExternalLink("/etc/passwd", "/x")), "link"),
    (lambda file: file.__setitem__("layers/more", h5py.SoftLink("/layers/lstm")), "link"),
    (lambda file: file.__setitem__("layers/more", file["layers"]), "nested"),
    (lambda file: file.__setitem__("layers/more", "text"), "plainly|no matrix"),
    (lambda file: [file.create_group(f"layers/g{k}") for k in range(40)], "more than 20"),
    (_filter, "plainly"), (_unwritten, "plainly"), (_virtual, "plainly"), (_external, "plainly"),
])  # fmt: skip
def test_hostile_weights_are_refused(tmp_path, words, monkeypatch, change, word):
    """Links, arrays stored elsewhere or not at all, compressed ones, a group in itself: nothing is followed or made."""
    monkeypatch.setattr(keras_file, "MAX_OBJECTS", 20 if word == "more than 20" else 10_000)
    layers = [layer("Embedding"), recurrent(), DENSE]
    with pytest.raises(ModelFileError, match=word):
        import_weights(archive(tmp_path, layers, arrays_of(), change), words)


def test_hostile_archives_are_refused(tmp_path, words, monkeypatch):
    """Compressed, so that it may be a bomb; a description too long or too deep; cut, and with bytes changed."""
    layers = [layer("Embedding"), recurrent(), DENSE]
    with pytest.raises(ModelFileError, match="compressed"):
        import_weights(archive(tmp_path, layers, arrays_of(), compression=zipfile.ZIP_DEFLATED), words)
    deep = json.loads("[" * 200 + "]" * 200)
    with pytest.raises(ModelFileError, match="nested"):
        import_weights(archive(tmp_path, [{**layers[0], "inbound_nodes": [deep]}], {}), words)
    path = archive(tmp_path, layers, arrays_of())
    whole, r = path.read_bytes(), np.random.default_rng(0)
    for _ in range(60):
        data = bytearray(whole)
        for place in r.integers(0, len(whole), 8):
            data[place] = r.integers(256)
        path.write_bytes(data[: r.integers(len(data))] if r.random() < 0.3 else data)
        try:
            import_weights(path, words)
        except (ModelFileError, ConfigError):
            pass
    path.write_bytes(whole)
    monkeypatch.setattr(keras_file, "MAX_CONFIG", 100)
    with pytest.raises(ModelFileError, match="larger"):
        import_weights(path, words)


def test_without_h5py_the_way_out_is_told(words, monkeypatch):
    """The extra that brings it."""
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(ConfigError, match=r"nblstm\[keras\]"):
        import_weights(DATA / "lstm.keras", words)


def test_the_command_makes_a_model_that_writes(tmp_path, words, command):
    """`nblstm import` takes the file by its content."""
    done = command("import", str(DATA / "gru.keras"), "--vocabulary", str(words), "-o", str(tmp_path / "m.safetensors"))
    assert done.code == 0 and "GRU 1 x 6" in done.out
    assert "".join(nblstm.load(tmp_path / "m.safetensors").generate("ab", n=5, seed=1, backend="numpy")).isalpha()


@pytest.mark.filterwarnings("ignore")
def test_the_lines_of_the_guide_load_a_model_into_keras(tmp_path, monkeypatch):
    """The block of docs/embedding.md makes a Keras model with the logits of ours, within 1e-5."""
    pytest.importorskip("torch"), pytest.importorskip("safetensors")
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    pytest.importorskip("keras")
    guide = (Path(__file__).parents[1] / "docs" / "embedding.md").read_text(encoding="utf-8")
    block = next(part for part in guide.split("```python\n")[1:] if part.startswith("import keras")).split("```")[0]
    model, found = language_model(20, hidden_size=6, embedding_size=5), {}
    model.save(tmp_path / "model.safetensors")
    monkeypatch.chdir(tmp_path)
    exec(block, found)
    tokens = np.array([[3, 1, 4, 1, 5]])
    logits = found["network"](tokens).detach().numpy()[0]
    np.testing.assert_allclose(logits, reference_logits(model, tokens[0]), atol=1e-5)
