"""Format onnx: the checker passes, and ONNX Runtime has the model's logits and states, for sequences and steps."""

import dataclasses
import json
import re

import numpy as np
import pytest
from support.exported import (
    CLASSIFIERS,
    NETWORKS,
    TAGGERS,
    classifier,
    language_model,
    tagger,
    tagger_sentences,
    vocabulary,
)

import nblstm
from nblstm.exporting.classification import classifier_logits
from nblstm.exporting.language import reference_logits
from nblstm.exporting.protobuf import message, varint
from nblstm.exporting.tagging import tag_scores
from nblstm.nn.parameters import initial
from nblstm.tasks.masked.config import MaskedConfig
from nblstm.tasks.masked.model import MaskedLanguageModel
from nblstm.tasks.tagging.spans import rewritten
from nblstm.text.batches import Chunk
from nblstm.text.vocabulary import Vocabulary

EXPORTED = {
    **{name: settings for name, settings in NETWORKS.items() if name not in ("two tokens", "a large vocabulary")},
    "peepholes, tied": {"peepholes": True, "tie": True},
    "mogrifier-lstm": {"cell": "mogrifier-lstm"},
    "projection, cell head": {"proj_size": 9, "head": "cell", "learned_state": True},
}


def test_varints_and_messages():
    """The worked examples of the encoding's documentation."""
    assert varint(1) == b"\x01" and varint(150) == b"\x96\x01"
    assert varint(-2) == b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01"
    assert message([(1, 150)]) == b"\x08\x96\x01"
    assert message([(2, "testing")]) == b"\x12\x07testing"
    assert message([(3, [(1, 150)])]) == b"\x1a\x03\x08\x96\x01"


@pytest.mark.parametrize("name", EXPORTED)
def test_onnx_runtime_has_the_models_logits(tmp_path, name):
    """Within 1e-5: a sequence at once, then steps that go on with its state; two texts side by side."""
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    model = language_model(**EXPORTED[name])
    path, c, V = tmp_path / "model.onnx", model.config, len(model.vocabulary)
    nblstm.export(model, path)
    onnx.checker.check_model(str(path), full_check=True)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    facts = session.get_modelmeta().custom_metadata_map
    assert Vocabulary.from_dict(json.loads(facts["vocabulary"])) == model.vocabulary
    tokens = np.random.default_rng(0).integers(0, V, (12, 2))
    expected = np.stack([reference_logits(model, tokens[:, k]) for k in range(2)], axis=1)
    state, sizes = {}, {given.name: given.shape[2] for given in session.get_inputs()[1:]}
    for state_name in (given.name for given in session.get_inputs()[1:]):
        first = np.array(
            json.loads(
                facts.get(f"initial_{state_name}", json.dumps(np.zeros((c.num_layers, sizes[state_name])).tolist()))
            )
        )
        state[state_name] = np.repeat(first[:, None], 2, axis=1).astype(np.float32)
    for start, stop in ((0, 9), (9, 10), (10, 11), (11, 12)):
        logits, *after = session.run(None, {"tokens": tokens[start:stop], **state})
        np.testing.assert_allclose(logits, expected[start:stop], rtol=0, atol=1e-5 * max(1, np.abs(expected).max()))
        state = dict(zip(state, after))


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_onnx_runtime_has_the_classifiers_logits(tmp_path, name):
    """Within 1e-5: texts of unlike lengths side by side, whatever stands behind their ends."""
    model = classifier(**CLASSIFIERS[name])
    session, facts = opened(tmp_path / "model.onnx", model)
    assert json.loads(facts["labels"]) == list(model.config.labels)
    tokens, lengths = texts_of(model)
    logits, probabilities = session.run(None, {"tokens": tokens, "lengths": lengths})
    expected = [classifier_logits(model, tokens[:length, k]) for k, length in enumerate(lengths)]
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5 * max(1, np.abs(expected).max()))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("settings", [
    {}, {"cell": "gru", "num_layers": 1, "learned_state": True}, {"head": "cell", "residual": True},
    {"cell": "update-lstm"}, {"proj_size": 5, "learned_state": True}, {"layer_norm": True, "cell": "rnn"},
    {"peepholes": True, "tie": True},
])  # fmt: skip
def test_onnx_runtime_has_the_logits_of_a_masked_model(tmp_path, settings):
    """Within 1e-5, at every step of texts of unlike lengths; both directions."""
    words = vocabulary(36)
    config = MaskedConfig(**{"vocab_size": len(words), "hidden_size": 12, "num_layers": 2, **settings})
    parameters = initial(config, 0) + np.random.default_rng(0).uniform(-0.2, 0.2, config.num_parameters)
    model = MaskedLanguageModel(config, words, parameters.astype(np.float32), {})
    session, facts = opened(tmp_path / "model.onnx", model)
    assert facts["mask_id"] == "0"
    tokens, lengths = texts_of(model)
    (logits,) = session.run(None, {"tokens": tokens, "lengths": lengths})
    network = model.network("numpy")
    for k, length in enumerate(lengths):
        chunk = Chunk.rectangle(tokens[:length, k : k + 1], tokens[:length, k : k + 1], fresh=True)
        expected = network.outputs(chunk, network.initial_state(1))[0]
        np.testing.assert_allclose(logits[:length, k], expected, rtol=0, atol=1e-5 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("name", TAGGERS)
def test_onnx_runtime_has_the_taggers_scores_and_tags(tmp_path, name):
    """Scores within 1e-5, and the tags that the model finds: sentences of unlike lengths side by side, and one word alone.

    What is read is made of the metadata alone, as it is written down for whoever has no nblstm.
    """
    model = tagger(seed=2, **TAGGERS[name])
    session, facts = opened(tmp_path / "model.onnx", model)
    tags, length = json.loads(facts["tags"]), json.loads(facts["max_length"])
    assert tags == list(model.config.tags) and facts["scheme"] == model.config.scheme
    asked = [sentence[:length] for sentence in tagger_sentences(12)]
    for sentences in (asked, [["york"]]):
        scores, numbers = session.run(None, tagger_inputs(sentences, facts, session))
        expected = model.predict(sentences, "numpy")
        for k, sentence in enumerate(sentences):
            exact = tag_scores(in_float64(model), sentence)
            np.testing.assert_allclose(
                scores[: len(sentence), k], exact, rtol=0, atol=1e-5 * max(1, np.abs(exact).max())
            )
            found = [tags[number] for number in numbers[: len(sentence), k]]
            assert rewritten(found, facts["scheme"]) == expected[k], sentence
    if model.config.head == "crf":
        assert np.allclose(json.loads(facts["end"]), model.parameters[-len(tags) :]) or facts["scheme"] != "none"


def in_float64(model):
    """A tagger that computes in float64: layers are normalised by what may be next to nothing."""
    config = dataclasses.replace(model.config, dtype="float64")
    return nblstm.Tagger.of_parameters(config, model.vocabulary, model.parameters.astype(np.float64), {})


def tagger_inputs(sentences, facts, session):
    """What a tagger's graph reads of sentences."""
    words = {word: number for number, word in enumerate(json.loads(facts["vocabulary"])["tokens"])}
    letters = {letter: number for number, letter in enumerate(facts["characters"], 1)}
    steps, batch = max(map(len, sentences)), len(sentences)
    given = {"tokens": np.zeros((steps, batch), np.int64), "lengths": np.array([*map(len, sentences)], np.int64)}
    given["characters"] = np.zeros((json.loads(facts["max_characters"]), steps, batch), np.int64)
    given["spelled"] = np.zeros((steps, batch), np.int64)
    for k, sentence in enumerate(sentences):
        for t, word in enumerate(sentence):
            looked = word.lower() if facts["lowercase"] == "1" else word
            looked = re.sub(r"\d", "0", looked) if facts["zero_digits"] == "1" else looked
            spelled = [letters.get(letter, 0) for letter in word[: len(given["characters"])]]
            given["tokens"][t, k] = words.get(looked, 0)
            given["characters"][: len(spelled), t, k], given["spelled"][t, k] = spelled, len(spelled)
    return {name.name: given[name.name] for name in session.get_inputs()}


def opened(path, model):
    """(a session with an exported model that the checker has passed, its metadata)."""
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    nblstm.export(model, path)
    onnx.checker.check_model(str(path), full_check=True)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session, session.get_modelmeta().custom_metadata_map


def texts_of(model):
    """Tokens (9, 4) of four texts, and how long each is."""
    tokens = np.random.default_rng(2).integers(0, len(model.vocabulary), (9, 4))
    return tokens, np.array([9, 1, 5, 8])


def test_what_onnx_cannot_hold_is_refused(tmp_path):
    """Rounded weights, a model that has learnt nothing, a series: ConfigError by name, and no file is made."""
    with pytest.raises(nblstm.ConfigError, match="float32"):
        nblstm.export(language_model(), tmp_path / "x.onnx", weights="int8")
    for model, word in ((nblstm.TextClassifier(), "learnt nothing"), (nblstm.SeriesModel(), "SeriesModel")):
        with pytest.raises(nblstm.ConfigError, match=word):
            nblstm.export(model, tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())
