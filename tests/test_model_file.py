"""Model files and checkpoints: what goes in comes out, and what does not belong is named."""

import json
import os
import re

import numpy as np
import pytest
from support.cases import each
from support.files import store

from nblstm.errors import ModelFileError
from nblstm.files import safetensors
from nblstm.files.model_file import check_tensors, load_checkpoint, load_model, save_checkpoint
from nblstm.tasks.language.config import LanguageConfig
from nblstm.text.vocabulary import Vocabulary

TRAINING = {"validation_loss": 1.5, "steps": 100, "corpus": "é.txt", "created": "2025-01-01T00:00:00+00:00"}


def a_vocabulary(level="char"):
    return Vocabulary.build(["abé\n\ud800"], level)


def a_model(dtype="float32", level="char"):
    """config, vocabulary, weights of a small model."""
    vocabulary = a_vocabulary(level)
    config = LanguageConfig(vocab_size=len(vocabulary), hidden_size=2, num_layers=1, dtype=dtype)
    rng = np.random.default_rng(0)
    weights = {name: rng.standard_normal(shape).astype(dtype) for name, shape in config.shapes.items()}
    return config, vocabulary, weights


def shapes_of(tensors):
    return {name: tensor.shape for name, tensor in tensors.items()}


def load(path):
    """The model file at `path`, whose weights are those of `a_model`."""
    return load_model(path, [LanguageConfig])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.nbl"


@pytest.fixture
def document(path):
    """The JSON object of a good model file at `path`, to be damaged and put back with `rewrite`."""
    store(path, *a_model(), TRAINING)
    return json.loads(safetensors.read(path)[1]["nblstm"])


def rewrite(path, document, key="nblstm"):
    """The file at `path` again, with another document."""
    tensors, _ = safetensors.read(path)
    safetensors.write(path, tensors, {key: document if isinstance(document, str) else json.dumps(document)})


@each("dtype", ["float32", "float64"])
@each("level", ["char", "byte", "word"])
def test_what_is_saved_is_loaded(path, dtype, level):
    """Config, vocabulary, weights and training facts survive, bit by bit, at every level and dtype."""
    config, vocabulary, weights = a_model(dtype, level)
    store(path, config, vocabulary, weights, TRAINING)
    loaded = load(path)
    assert loaded.config == config and loaded.vocabulary == vocabulary and loaded.training == TRAINING
    assert list(loaded.weights) == sorted(weights)
    for name, weight in weights.items():
        assert loaded.weights[name].dtype == dtype
        np.testing.assert_array_equal(loaded.weights[name], weight)
    np.testing.assert_array_equal(loaded.parameters, np.concatenate([weights[name].ravel() for name in config.shapes]))


def test_training_facts_are_optional(path):
    """A model need not say how it was made."""
    store(path, *a_model())
    assert load(path).training == {}


def test_what_the_file_says(path, document):
    """The document has the four parts that the module's head describes."""
    assert list(document) == ["format_version", "config", "vocabulary", "training"]
    assert document["format_version"] == 1
    assert document["vocabulary"]["level"] == "char"


def test_a_newer_format(path, document):
    """A file of a later version asks for an upgrade."""
    rewrite(path, {**document, "format_version": 3})
    with pytest.raises(ModelFileError, match=r"was written by a newer nblstm \(format 3\); upgrade nblstm"):
        load(path)


DAMAGE = {
    "version 0": ({"format_version": 0}, "format_version must be an integer >= 1, got 0"),
    "version text": ({"format_version": "1"}, "format_version must be an integer >= 1, got '1'"),
    "no version": ({"format_version": None}, "format_version must be an integer >= 1, got None"),
    "config is null": ({"config": None}, "its config must be a JSON object, got None"),
    "config is empty": ({"config": {}}, "its config is not valid: .*vocab_size"),
    "config of another": (
        {"config": {"vocab_size": 6, "cell": "transformer"}},
        "its config is not valid: cell must be",
    ),
    "config of text": ({"config": {"vocab_size": "6"}}, "its config is not valid"),
    "config of zeros": ({"config": {"vocab_size": 0}}, "its config is not valid: vocab_size must be at least 1"),
    "config too large": ({"config": {"vocab_size": 6, "hidden_size": 10**400}}, "its config is not valid"),
    "other vocab_size": ({"config": {"vocab_size": 7}}, "vocab_size is 7, but the vocabulary has 6"),
    "other dtype": (
        {"config": {"vocab_size": 6, "hidden_size": 2, "num_layers": 1, "dtype": "float64"}},
        "must be float64 by the config, got float32",
    ),
    "no vocabulary": ({"vocabulary": None}, "its vocabulary must be a JSON object, got None"),
    "empty vocabulary": ({"vocabulary": {}}, "the vocabulary must hold level"),
    "training is a list": ({"training": []}, r"its training must be a JSON object, got \[\]"),
}


@each("change, message", DAMAGE.values(), ids=DAMAGE)
def test_a_part_that_is_not_valid(path, document, change, message):
    """Each part of the document is checked and named, in one line with the file's name."""
    rewrite(path, {**document, **change})
    with pytest.raises(ModelFileError, match=message) as caught:
        load(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


@pytest.mark.parametrize("text, message", [("{", "is not JSON"), ("[1]", "JSON object"), ("[" * 10**5, "is not JSON")])
def test_a_document_that_is_not_an_object(path, document, text, message):
    """What stands under our key must be a JSON object."""
    rewrite(path, text)
    with pytest.raises(ModelFileError, match=message):
        load(path)


def test_a_foreign_file(path):
    """A safetensors file of another program is recognised as such."""
    safetensors.write(path, {"w": np.zeros(2, "f4")}, {"format": "pt"})
    with pytest.raises(ModelFileError, match="is a safetensors file, but not an nblstm model"):
        load(path)
    with pytest.raises(ModelFileError, match="is a safetensors file, but not an nblstm training checkpoint"):
        load_checkpoint(path)


def test_a_checkpoint_is_not_a_model(path):
    """Each loader recognises the other's file."""
    save_checkpoint(path, {}, {})
    with pytest.raises(ModelFileError, match=re.escape(f"{path} is a training checkpoint, not a model")):
        load(path)
    os.remove(path)  # which a model does not replace
    store(path, *a_model())
    with pytest.raises(ModelFileError, match=re.escape(f"{path} is a model, not a training checkpoint")):
        load_checkpoint(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite(path, value):
    """A model that has blown up is neither saved nor loaded."""
    config, vocabulary, weights = a_model()
    store(path, config, vocabulary, weights)
    before = path.read_bytes()
    weights["rnn.weight_ih_l0"][3, 1] = value
    with pytest.raises(ModelFileError, match="'rnn.weight_ih_l0' has values that are not finite"):
        store(path, config, vocabulary, weights)
    assert path.read_bytes() == before
    safetensors.write(path, weights, {"nblstm": safetensors.read(path)[1]["nblstm"]})
    with pytest.raises(ModelFileError, match="'rnn.weight_ih_l0' has values that are not finite"):
        load(path)


def test_a_model_that_could_not_be_loaded_is_not_saved(path):
    """A vocabulary of another size, a weight of another dtype and facts that are not JSON are refused at once."""
    config, vocabulary, weights = a_model()
    with pytest.raises(ModelFileError, match="but the vocabulary has 256"):
        store(path, config, a_vocabulary("byte"), weights)
    with pytest.raises(ModelFileError, match="must be float32 by the config, got float64"):
        store(path, config, vocabulary, {name: weight.astype("float64") for name, weight in weights.items()})
    for fact in (np.float32(1), float("nan"), {1}):
        with pytest.raises(ModelFileError, match="is not JSON"):
            store(path, config, vocabulary, weights, {"fact": fact})
    assert not path.exists()


def test_check_tensors():
    """Exactly the expected names and shapes pass."""
    _, _, weights = a_model()
    shapes = shapes_of(weights)
    check_tensors(weights, shapes, "m.nbl")
    with pytest.raises(ModelFileError, match="m.nbl lacks the tensor 'head.more' that its config calls for."):
        check_tensors(weights, {**shapes, "head.more": (6,)}, "m.nbl")
    with pytest.raises(ModelFileError, match=r"'rnn.weight_ih_l0' must have shape \(8, 3\) .*, got \(8, 2\)"):
        check_tensors(weights, {**shapes, "rnn.weight_ih_l0": (8, 3)}, "m.nbl")
    with pytest.raises(ModelFileError, match="m.nbl has a tensor 'extra' that its config does not call for."):
        check_tensors({**weights, "extra": np.zeros(1)}, shapes, "m.nbl")


def test_checkpoints_keep_everything(path):
    """Tensors of any dtype, NaN included, and nested facts survive."""
    tensors = {"optimizer.m": np.array([1.0, np.nan]), "state.h": np.zeros((1, 2, 3), "f4"), "rng": np.arange(3)}
    facts = {"train": {"lr": 0.1}, "schedule": {"best": None}, "step": 7, "tokens": ["a", "\ud800"]}
    save_checkpoint(path, tensors, facts)
    read, read_facts = load_checkpoint(path)
    assert read_facts == facts and shapes_of(read) == shapes_of(tensors)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(read[name], tensor)


def test_a_damaged_checkpoint(path):
    """Version and facts of a checkpoint are checked as a model's are."""
    safetensors.write(path, {}, {"nblstm_checkpoint": json.dumps({"format_version": 9, "facts": {}})})
    with pytest.raises(ModelFileError, match="newer nblstm"):
        load_checkpoint(path)
    safetensors.write(path, {}, {"nblstm_checkpoint": json.dumps({"format_version": 1})})
    with pytest.raises(ModelFileError, match="its facts must be a JSON object, got None"):
        load_checkpoint(path)


def test_settings_younger_than_the_format_are_stored_where_they_say_something():
    """At its default mogrifier_rounds is left out: files, and the fingerprints of older models, stay what they were."""
    assert "mogrifier_rounds" not in LanguageConfig(5).to_dict()
    config = LanguageConfig(5, cell="mogrifier-lstm", mogrifier_rounds=2)
    assert config.to_dict()["mogrifier_rounds"] == 2
    assert LanguageConfig.from_dict(config.to_dict()) == config
