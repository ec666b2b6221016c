"""nblstm report of a model that reads both ways: what it would have to write is left out, the rest is measured."""

import numpy as np
import pytest
from support.commands import FAILURE, USAGE, VERSE, assert_refused

import nblstm
from nblstm.reporting.masked_report import make_masked_report
from nblstm.reporting.page import render

UNSEEN = "Thou art more temperate:\na summer's day?\nlovely\n"


@pytest.fixture(scope="module", params=[None, "line"], ids=["stream", "documents"])
def filling(request, tmp_path_factory):
    """A folder with corpus.txt, unseen.txt and a model that reads both ways."""
    folder = tmp_path_factory.mktemp("filling")
    (folder / "corpus.txt").write_text(VERSE * 40)
    (folder / "unseen.txt").write_text(UNSEEN * 8)
    nblstm.train(
        folder / "corpus.txt", folder / "model.safetensors", hidden_size=8, num_layers=1, batch_size=4, bptt=16, steps=9,
        lr=0.02, threads=1, bidirectional=True, documents=request.param,
    )  # fmt: skip
    return folder


def test_each_token_is_hidden_once(filling):
    """Its surprise is what the model's own score of the text finds; of documents each is read on its own."""
    model = nblstm.load(filling / "model.safetensors")
    report = make_masked_report(filling / "model.safetensors", model, text=str(filling / "unseen.txt"))
    lines = UNSEEN.splitlines() * 8
    if model.vocabulary.end_id is None:
        expected = model.surprisals(UNSEEN * 8, "numpy").nats[1:]
    else:
        expected = np.concatenate([model.surprisals(line, "numpy").nats for line in lines])
    np.testing.assert_allclose(report.reading.surprisals.bits * np.log(2), expected, atol=1e-4)
    assert dict(report.verdicts[0].figures)["loss on held-out text"]


def test_the_page_has_what_it_can_have(filling, command):
    """Facts, curves, fit and surprise; no samples, copies and cells. What is drawn for samples is refused."""
    page, corpus = filling / "page.html", filling / "corpus.txt"
    done = command(
        "report", "-m", filling / "model.safetensors", "--corpus", corpus, "--text", filling / "unseen.txt", "-o", page
    )
    assert done.code == 0, done.err
    text = page.read_text(encoding="utf-8")
    assert '<section id="surprise">' in text and "where it was hidden, between those around it" in text
    assert "loss on training text" in text and "--bidirectional" in text
    assert not [name for name in ("samples", "copying", "cells", "gates") if f'id="{name}"' in text]
    assert_refused(command("report", "-m", filling / "model.safetensors", "-n", 5), USAGE, "-n is not for")


def test_without_texts_it_says_what_it_needs(filling, command):
    """And another text is not taken for that of its training."""
    model = nblstm.load(filling / "model.safetensors")
    page = render(make_masked_report(filling / "model.safetensors", model))
    assert "This needs a text the model has not seen" in page
    refused = command("report", "-m", filling / "model.safetensors", "--corpus", filling / "unseen.txt")
    assert refused.code == FAILURE and "not the text" in refused.err
