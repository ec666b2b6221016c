"""Format html: the page's engine, run in node, writes what the model writes; the page asks for nothing."""

import base64
import hashlib
import json
import re
import shutil
import subprocess

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
from nblstm.tasks.tagging.spans import spans_of

NODE = shutil.which("node")
DRIVER = r"""
const page = require("fs").readFileSync(process.argv[2], "utf8"), asked = JSON.parse(process.argv[3]);
const data = JSON.parse(page.match(/<script type="application\/json" id="model">([^]*?)<\/script>/)[1]);
const { Model, Random } = new Function(page.match(/<script>([^]*?)<\/script>/)[1] + "; return { Model, Random };")();
const model = new Model(data), state = model.start(), random = new Random(asked.seed), ids = model.encode(asked.prompt);
const read = ids.length && model.config.end === null ? ids : [model.config.start, ...ids];
const prompt = ids.slice();
for (const id of read) model.feed(state, id);
for (let k = 0; k < asked.n; k++) {
  const id = model.draw(model.logits(state), asked.temperature, random);
  if (id === model.config.end) break;
  ids.push(id);
  model.feed(state, id);
}
process.stdout.write(JSON.stringify({ prompt, ids, text: model.texts(ids).join("") }));
"""


def exported(folder, model, **settings):
    """The page."""
    nblstm.export(model, folder / "model.html", **settings)
    return (folder / "model.html").read_text(encoding="utf-8")


@pytest.mark.skipif(NODE is None, reason="there is no node")
@pytest.mark.parametrize("name, weights", [
    ("lstm", "float32"), ("gru", "int8"), ("rnn, residual", "bfloat16"), ("relu", "int4"), ("projection", "float32"),
    ("peepholes, cell head, tied", "int8"), ("update-lstm", "int4"), ("documents of words", "int8"),
    ("spaced words", "float32"), ("bytes", "int8"), ("one unit", "float32"), ("two tokens", "int4"),
    ("minGRU", "float32"), ("minGRU, one layer", "int8"), ("layer norm", "bfloat16"), ("layer norm, gru", "float32"),
])  # fmt: skip
def test_the_engine_writes_what_the_model_writes(tmp_path, name, weights):
    """For the same seed and rounded weights, drawn and at temperature 0; text is cut as the vocabulary cuts it."""
    model = language_model(**NETWORKS[name])
    exported(tmp_path, model, weights=weights)
    (tmp_path / "driver.js").write_text(DRIVER)
    exact, prompt = planning.rounded(planning.plan(model, weights, "html")), PROMPTS[model.vocabulary.level]
    for temperature in (0.0, 0.9):
        asked = {"prompt": prompt, "seed": str(2**140 + 5), "temperature": temperature, "n": 30}
        done = subprocess.run(
            [NODE, tmp_path / "driver.js", tmp_path / "model.html", json.dumps(asked)], capture_output=True, timeout=60
        )
        assert done.returncode == 0, done.stderr.decode()
        found, ids = json.loads(done.stdout), model.encode(prompt).tolist()
        settings = {"n": 30, "temperature": temperature, "seed": 2**140 + 5, "backend": "numpy"}
        text = "".join(exact.generate(prompt, **settings))
        assert found["prompt"] == ids
        assert found["text"] == model.vocabulary.decode(ids) + text


SORTER = r"""
const page = require("fs").readFileSync(process.argv[2], "utf8"), texts = JSON.parse(process.argv[3]);
const data = JSON.parse(page.match(/<script type="application\/json" id="model">([^]*?)<\/script>/)[1]);
const Classifier = new Function(page.match(/<script>([^]*?)<\/script>/)[1] + "; return Classifier;")();
const model = new Classifier(data);
process.stdout.write(JSON.stringify(texts.map((text) => Array.from(model.classify(text)))));
"""


@pytest.mark.skipif(NODE is None, reason="there is no node")
@pytest.mark.parametrize("name, weights", [*zip(CLASSIFIERS, [*planning.WEIGHTS] * 2)])
def test_a_classifier_says_what_the_model_says(tmp_path, name, weights):
    """Every label's probability for every text, within 1e-5, for the rounded weights."""
    model = classifier(**CLASSIFIERS[name])
    exported(tmp_path, model, weights=weights)
    (tmp_path / "sorter.js").write_text(SORTER)
    exact = planning.rounded(planning.plan(model, weights, "html"))
    command = [NODE, tmp_path / "sorter.js", tmp_path / "model.html", json.dumps(TEXTS)]
    found = json.loads(subprocess.run(command, capture_output=True, timeout=60, check=True).stdout)
    np.testing.assert_allclose(found, exact.predict_proba(TEXTS, backend="numpy"), atol=1e-5)


TAGGING = r"""
const page = require("fs").readFileSync(process.argv[2], "utf8"), sentences = JSON.parse(process.argv[3]);
const data = JSON.parse(page.match(/<script type="application\/json" id="model">([^]*?)<\/script>/)[1]);
const { Tagger, spansOf, cut } = new Function(page.match(/<script>([^]*?)<\/script>/)[1] + "; return { Tagger, spansOf, cut };")();
const model = new Tagger(data), tags = sentences.map((words) => model.tag(words));
const spans = tags.map((found) => spansOf(found, data.config.scheme));
process.stdout.write(JSON.stringify({ tags, spans, cut: cut(model, process.argv[4]) }));
"""


def tagged(folder, model, sentences, line="", **settings):
    """What a page's engine says of sentences, and how it cuts a line."""
    exported(folder, model, **settings)
    (folder / "tagging.js").write_text(TAGGING)
    command = [NODE, folder / "tagging.js", folder / "model.html", json.dumps(sentences), line]
    return json.loads(subprocess.run(command, capture_output=True, timeout=60, check=True).stdout)


@pytest.mark.skipif(NODE is None, reason="there is no node")
@pytest.mark.parametrize("name, weights", [*zip(TAGGERS, [*planning.WEIGHTS] * 3)])
def test_a_tagger_finds_the_tags_of_the_model(tmp_path, name, weights):
    """Of every sentence, for the rounded weights, and the spans that they mark."""
    model, asked = tagger(seed=2, **TAGGERS[name]), tagger_sentences(12)
    found = tagged(tmp_path, model, asked, weights=weights)
    tags = planning.rounded(planning.plan(model, weights, "html")).predict(asked, "numpy")
    assert found["tags"] == tags
    expected = spans_of if model.config.scheme != "none" else lambda own: [(tag, t, t + 1) for t, tag in enumerate(own)]
    assert found["spans"] == [[list(span) for span in expected(own)] for own in tags]


@pytest.mark.skipif(NODE is None, reason="there is no node")
def test_the_marks_at_a_words_ends_stand_apart(tmp_path):
    """Unless it is known with them: a person types no blank before a full stop."""
    line = '(New "York", 1,25% don\'t O0. a"B\\) ...'
    found = tagged(tmp_path, tagger(), [], line)["cut"]
    assert [word for word, _ in found] == [
        "(", "New", '"', "York", '"', ",", "1,25", "%", "don't", "O0", ".", "a\"B", "\\", ")", ".", ".", ".",
    ]  # fmt: skip
    assert "".join(" " * apart + word for word, apart in found) == " " + line
    assert [word for word, _ in tagged(tmp_path, tagger(), [], "??? </P>")["cut"]] == ["???", "</P>"]


@pytest.mark.skipif(NODE is None, reason="there is no node")
@pytest.mark.parametrize("newline", ["lf", "keep"])
def test_line_ends_are_read_as_the_model_reads_them(tmp_path, newline):
    """Where newline is "lf" a carriage return is one, alone and before another."""
    model, prompt = language_model(newline=newline), "a\r\nb\rc\n\r"
    exported(tmp_path, model)
    (tmp_path / "driver.js").write_text(DRIVER)
    asked = json.dumps({"prompt": prompt, "seed": "1", "temperature": 1, "n": 0})
    done = subprocess.run(
        [NODE, tmp_path / "driver.js", tmp_path / "model.html", asked], capture_output=True, timeout=60
    )
    assert json.loads(done.stdout)["prompt"] == model.encode(prompt).tolist()


@pytest.mark.parametrize("make", [language_model, classifier, tagger])
def test_the_page_asks_for_nothing(tmp_path, make):
    """No address, no attribute that runs or styles; the policy allows its own script and style by their hashes."""
    page = exported(tmp_path, make())
    assert not re.search(r"https?:|<link|<img|\bsrc=|\bstyle=|\bon\w+=", page)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)[1]
    style, script = (
        re.search(r"<style>(.*?)</style>", page, re.S)[1],
        re.search(r"<script>(.*?)</script>", page, re.S)[1],
    )
    digest = lambda text: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest(style)}'; script-src 'sha256-{digest(script)}'"


def test_a_vocabulary_cannot_end_its_script(tmp_path):
    """No tag begins in what comes from the model, its name included."""
    model = language_model(300, "word")
    assert any("<" in token for token in model.vocabulary.tokens)
    nblstm.export(model, tmp_path / "<b>&.html")
    page = (tmp_path / "<b>&.html").read_text(encoding="utf-8")
    data = re.search(r'id="model">(.*?)</script>', page, re.S)[1]
    assert "<" not in data and json.loads(data)["tokens"] == list(model.vocabulary.tokens)
    assert "<title>&lt;b&gt;&amp;</title>" in page


def test_both_colour_schemes(tmp_path):
    """The page has rules for readers who prefer dark."""
    assert "prefers-color-scheme: dark" in exported(tmp_path, language_model())
