"""Format py: one file, with NumPy and without, writes what the model writes."""

import subprocess
import sys

import numpy as np
import pytest
from support.exported import (
    CLASSIFIERS,
    NETWORKS,
    PROMPTS,
    TAGGERS,
    TEXTS,
    classifier,
    language_model,
    tagger,
    tagger_sentences,
)

import nblstm
from nblstm.exporting import plan as planning
from nblstm.exporting.language import reference_logits

WITHOUT = "import sys; sys.modules['numpy'] = None; del sys.argv[0]; "
RUN = WITHOUT + "exec(compile(open(sys.argv[0], encoding='utf-8').read(), sys.argv[0], 'exec'))"


def written(folder, *args, numpy=True, given=""):
    """What the file prints as a program, given a text on standard input."""
    start = [sys.executable, folder / "model.py"] if numpy else [sys.executable, "-c", RUN, folder / "model.py"]
    done = subprocess.run([*start, *map(str, args)], input=given.encode(), capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


@pytest.mark.parametrize("numpy", [True, False], ids=["NumPy", "pure"])
@pytest.mark.parametrize("name, weights", [
    ("lstm", "float32"), ("gru", "int8"), ("rnn, residual", "bfloat16"), ("relu", "int4"), ("projection", "float32"),
    ("peepholes, cell head, tied", "int8"), ("update-lstm", "int4"), ("documents of words", "float32"),
    ("spaced words", "int8"), ("bytes", "bfloat16"), ("one unit", "float32"), ("two tokens", "int8"),
    ("minGRU", "float32"), ("minGRU, one layer", "int8"), ("layer norm", "float32"), ("layer norm, gru", "int8"),
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


@pytest.mark.parametrize("numpy", [True, False], ids=["NumPy", "pure"])
@pytest.mark.parametrize("name, weights", [*zip(CLASSIFIERS, [*planning.WEIGHTS] * 2)])
def test_a_classifier_says_what_the_model_says(tmp_path, name, weights, numpy):
    """Every label's probability for every text, within 1e-4 as printed, for the rounded weights."""
    model = classifier(**CLASSIFIERS[name])
    nblstm.export(model, tmp_path / "model.py", weights=weights)
    exact = planning.rounded(planning.plan(model, weights, "py"))
    lines = written(tmp_path, "--all", *TEXTS, numpy=numpy).splitlines()
    for line, row in zip(lines, exact.predict_proba(TEXTS, backend="numpy"), strict=True):
        said = line.split("\t")
        found = dict(zip(said[::2], map(float, said[1::2])))
        assert list(found.values()) == sorted(found.values(), reverse=True)
        np.testing.assert_allclose([found[label] for label in exact.config.labels], row, atol=1.1e-4)


@pytest.mark.parametrize("name, weights, numpy", [*zip(TAGGERS, [*planning.WEIGHTS] * 3, [True, False, False] * 4)])
def test_a_tagger_finds_the_tags_of_the_model(tmp_path, name, weights, numpy):
    """Of every sentence, for the rounded weights; columns of standard input come back with a tag behind each line."""
    model = tagger(seed=2, **TAGGERS[name])
    nblstm.export(model, tmp_path / "model.py", weights=weights)
    exact, asked = planning.rounded(planning.plan(model, weights, "py")), tagger_sentences(12)
    lines = "\n".join("".join(f"{word}\tx\r\n" for word in words) for words in asked)
    tags = exact.predict(asked, "numpy")
    expected = ["".join(f"{word}\tx\t{tag}\n" for word, tag in zip(*pair)) for pair in zip(asked, tags)]
    assert written(tmp_path, numpy=numpy, given=lines) == "\n".join(expected)
    if name == "iob2":
        first = "".join(f"{word} {tag}\n" for word, tag in zip(asked[0], tags[0])) + "\n"
        assert written(tmp_path, " ".join(asked[0]), numpy=numpy) == first


@pytest.mark.parametrize("make", [language_model, classifier])
def test_line_ends_are_read_as_the_model_reads_them(tmp_path, make):
    """A vocabulary with newline "lf" makes every line end one; at byte level, and where it keeps them, they stay."""
    texts = "a\r\nb\rc\n\r", "\r", "é\r\n\n"
    for level, newline in (("char", "lf"), ("char", "keep"), ("byte", "lf"), ("word", "lf")):
        model = make(level=level, newline=newline)
        nblstm.export(model, tmp_path / "exported.py")
        found = {"__name__": "exported"}
        exec((tmp_path / "exported.py").read_text(encoding="utf-8"), found)
        for text in texts:
            assert found["encode"](text) == model.vocabulary.encode(text).tolist(), (level, newline, text)


def test_temperature_zero_takes_the_most_likely(tmp_path):
    """As the model does, from no prompt."""
    model = language_model()
    nblstm.export(model, tmp_path / "model.py")
    expected = "".join(model.generate(n=30, temperature=0.0, backend="numpy")) + "\n"
    assert written(tmp_path, "-n", 30, "--temperature", 0) == expected


@pytest.mark.parametrize("name", ["lstm", "minGRU", "layer norm", "layer norm, peepholes"])
@pytest.mark.parametrize("numpy", [True, False], ids=["NumPy", "pure"])
def test_the_file_is_a_module(tmp_path, name, numpy):
    """It imports without doing anything, and its model has the logits of ours within 1e-5 of the largest."""
    model = language_model(**NETWORKS[name])
    nblstm.export(model, tmp_path / "exported.py")
    found = {"__name__": "exported"}
    text = (tmp_path / "exported.py").read_text(encoding="utf-8")
    exec(text if numpy else text.replace("import numpy as np", "raise ImportError", 1), found)
    other, tokens = found["Model"](), np.arange(20)
    state = other.start()
    for token, expected in zip(tokens, reference_logits(model, tokens)):
        logits, state = other.feed(state, token)
        np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5 * max(1, np.abs(expected).max()))
