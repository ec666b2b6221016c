"""Format onnx: the checker passes, and ONNX Runtime has the model's logits and states, for sequences and steps."""

import json

import numpy as np
import pytest
from support.exported import NETWORKS, language_model

import nblstm
from nblstm.exporting.c import reference_logits
from nblstm.exporting.protobuf import message, varint
from nblstm.text.vocabulary import Vocabulary

NAMES = ["lstm", "gru", "rnn, residual", "relu", "projection", "documents of words", "bytes", "one unit"]
EXPORTED = {**{name: NETWORKS[name] for name in NAMES}, "peepholes, tied": {"peepholes": True, "tie": True}}


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
    state = {}
    for state_name in (given.name for given in session.get_inputs()[1:]):
        first = np.array(
            json.loads(facts.get(f"initial_{state_name}", json.dumps(np.zeros((c.num_layers, c.hidden_size)).tolist())))
        )
        state[state_name] = np.repeat(first[:, None], 2, axis=1).astype(np.float32)
    for start, stop in ((0, 9), (9, 10), (10, 11), (11, 12)):
        logits, *after = session.run(None, {"tokens": tokens[start:stop], **state})
        np.testing.assert_allclose(logits, expected[start:stop], atol=1e-5)
        state = dict(zip(state, after))


def test_what_onnx_has_no_operator_for_is_refused(tmp_path):
    """The update gate, the cell head, and rounded weights: ConfigError by name."""
    for settings, word in (({"cell": "update-lstm"}, "update-lstm"), ({"head": "cell"}, "cell head")):
        with pytest.raises(nblstm.ConfigError, match=word):
            nblstm.export(language_model(**settings), tmp_path / "x.onnx")
    with pytest.raises(nblstm.ConfigError, match="float32"):
        nblstm.export(language_model(), tmp_path / "x.onnx", weights="int8")
