"""Format py: one file, with NumPy and without, writes what the model writes."""

import subprocess
import sys

import pytest
from support.exported import NETWORKS, PROMPTS, language_model

import nblstm
from nblstm.exporting import plan as planning

WITHOUT = "import sys; sys.modules['numpy'] = None; del sys.argv[0]; "
RUN = WITHOUT + "exec(compile(open(sys.argv[0], encoding='utf-8').read(), sys.argv[0], 'exec'))"


def written(folder, *args, numpy=True):
    """What the file prints as a program."""
    start = [sys.executable, folder / "model.py"] if numpy else [sys.executable, "-c", RUN, folder / "model.py"]
    done = subprocess.run([*start, *map(str, args)], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


@pytest.mark.parametrize("numpy", [True, False], ids=["NumPy", "pure"])
@pytest.mark.parametrize("name, weights", [
    ("lstm", "float32"), ("gru", "int8"), ("rnn, residual", "bfloat16"), ("relu", "int4"), ("projection", "float32"),
    ("peepholes, cell head, tied", "int8"), ("update-lstm", "int4"), ("documents of words", "float32"),
    ("spaced words", "int8"), ("bytes", "bfloat16"), ("one unit", "float32"), ("two tokens", "int8"),
])  # fmt: skip
def test_the_file_writes_what_the_model_writes(tmp_path, name, weights, numpy):
    """For the same seed, options and rounded weights."""
    model = language_model(**NETWORKS[name])
    nblstm.export(model, tmp_path / "model.py", weights=weights)
    exact, prompt = planning.rounded(planning.plan(model, weights, "py")), PROMPTS[model.vocabulary.level]
    settings = {"seed": 2**140 + 5, "temperature": 0.7, "top_k": 5, "top_p": 0.9}
    options = [part for key, value in settings.items() for part in (f"--{key.replace('_', '-')}", value)]
    expected = prompt + "".join(exact.generate(prompt, n=30, backend="numpy", **settings)) + "\n"
    assert written(tmp_path, "-n", 30, "--prompt", prompt, *options, numpy=numpy) == expected


def test_temperature_zero_takes_the_most_likely(tmp_path):
    """As the model does, from no prompt."""
    model = language_model()
    nblstm.export(model, tmp_path / "model.py")
    expected = "".join(model.generate(n=30, temperature=0.0, backend="numpy")) + "\n"
    assert written(tmp_path, "-n", 30, "--temperature", 0) == expected


def test_the_file_is_a_module(tmp_path, monkeypatch):
    """It imports without doing anything, and its model has the logits of ours within 1e-5."""
    import numpy as np

    from nblstm.exporting.c import reference_logits

    model = language_model(hidden_size=37)
    nblstm.export(model, tmp_path / "exported_model.py")
    monkeypatch.syspath_prepend(tmp_path)
    import exported_model

    other, tokens = exported_model.Model(), np.arange(20)
    state = other.start()
    for token, expected in zip(tokens, reference_logits(model, tokens)):
        logits, state = other.feed(state, token)
        np.testing.assert_allclose(logits, expected, atol=1e-5)
