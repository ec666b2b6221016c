"""nblstm report: what is measured agrees with other ways to measure it, and the page is safe, legible and whole."""

import dataclasses
import functools
import http.server
import json
import math
import os
import re
import shlex
import shutil
import subprocess
import threading
from html import escape, unescape
from html.parser import HTMLParser

import numpy as np
import pytest
from support.cases import each
from support.commands import FAILURE, PATIENCE, USAGE, VERSE, assert_refused, snapshot
from support.networks import make_network

import nblstm
from nblstm.nn.parameters import initial
from nblstm.reporting import copying, surprisal, theme
from nblstm.reporting.activations import activations, saturation
from nblstm.reporting.cells import correlations, features, readable_cells
from nblstm.reporting.copying import longest_copy
from nblstm.reporting.history import read_history
from nblstm.reporting.page import render
from nblstm.reporting.recipe import command_line
from nblstm.reporting.report import make_report
from nblstm.reporting.surprisal import surprisals
from nblstm.reporting.tokens import label, pieces, printable
from nblstm.reporting.verdict import Losses, copy_verdict, fit_verdict
from nblstm.tasks.language.config import LanguageConfig
from nblstm.tasks.language.model import LanguageModel
from nblstm.text.vocabulary import Vocabulary

# ---------------------------------------------------------------- gates and cells


def test_another_corpus_is_not_taken_for_the_training_text(command, folder):
    """Fewer tokens than the model was trained on are refused, and so is any text that differs; a copy is not."""
    text = (folder / "corpus.txt").read_bytes()
    (folder / "short.txt").write_text("Shall I compare thee", encoding="utf-8")
    refused = command("report", "--corpus", "short.txt")
    assert refused.code == 1 and "not the text" in refused.err and "corpus.txt" in refused.err and not refused.out
    (folder / "other.txt").write_bytes(text)
    assert "WARNING" not in command("report", "--corpus", "other.txt", "-n", 9).err
    for changed in (b"X" + text[1:], b"X" + text, text.replace(b"thee", b"them") + text):
        (folder / "corpus.txt").write_bytes(changed)
        assert_refused_after(
            command("report", "--corpus", "corpus.txt", "-n", 9), "not the text", "corpus.txt", "changed"
        )
    (folder / "corpus.txt").write_bytes(text + b"and more")  # behind what was learned there may be anything
    assert command("report", "--corpus", "corpus.txt", "-n", 9).code == 0


def test_a_model_that_does_not_know_its_text(command, folder):
    """Files without its fingerprint, as they were before, still tell of another name."""
    model = nblstm.load("model.safetensors")
    training = {name: value for name, value in model.training.items() if name not in ("fingerprint", "text")}
    LanguageModel(model.config, model.vocabulary, model.parameters, training).save("old.safetensors")
    (folder / "other.txt").write_bytes((folder / "corpus.txt").read_bytes())
    told = command("report", "-m", "old.safetensors", "--corpus", "other.txt", "-n", 9)
    assert told.code == 0 and "WARNING: the model was trained on corpus.txt, not on other.txt" in told.err
    assert "WARNING" not in command("report", "-m", "old.safetensors", "--corpus", "corpus.txt", "-n", 9).err


def test_texts_are_read_as_in_training(command, folder):
    """Encoding, documents, files of a folder: what a report is not told it knows from the model's file."""
    (folder / "texts").mkdir()
    (folder / "texts" / "a.txt").write_bytes((VERSE * 5 + "é\n").encode("latin-1"))
    (folder / "texts" / "b.md").write_text("left out")
    (folder / "texts" / "c.txt").write_bytes(b"\x89PNG\r\n\x1a\n\0")
    asked = ["--include", "*.txt", "--encoding", "latin-1", "--documents", "blank-line", "--valid-fraction", 0]
    small = ["--hidden-size", 8, "--num-layers", 1, "--steps", 2, "-o", "docs.safetensors"]
    assert command("train", "texts", *asked, *small).code == 0
    shown = command("report", "-m", "docs.safetensors", "--corpus", "texts", "-n", 9)
    assert shown.code == 0 and "1 file of texts are read, 1 skipped as no text: c.txt." in shown.err
    refused = command("report", "-m", "docs.safetensors", "--corpus", "texts", "-n", 9, "--documents", "line")
    assert_refused_after(refused, "not the text", "documents")


def assert_refused_after(outcome, *words):
    """The last line of stderr is an error that says these words."""
    assert outcome.code == FAILURE and outcome.err.splitlines()[-1].startswith("Error: ")
    assert all(word in outcome.err.splitlines()[-1] for word in words), outcome.err


def test_a_report_of_the_demo_brings_its_text(command, tmp_path, monkeypatch):
    """--demo is the text of train --demo, with which --corpus makes no sense."""
    monkeypatch.chdir(tmp_path)
    command("train", "--demo", "--hidden-size", 8, "--num-layers", 1, "--steps", 1, "-q")
    monkeypatch.setattr("nblstm.reporting.report.mean_loss", lambda model, ids: 1.0)
    shown = command("report", "--demo", "-n", 5)
    assert shown.code == 0 and "reading the demo text" in shown.err
    assert_refused(command("report", "--demo", "--corpus", "a"), USAGE, "--demo", "--corpus")


def test_activations_equal_pytorchs():
    """Outputs of every layer from torch.nn.LSTM; gates and cells from its weights and LSTMCell, step by step."""
    torch = pytest.importorskip("torch")
    network = make_network("numpy", num_layers=2)
    weights = {name: torch.from_numpy(array) for name, array in network.weights.items()}
    tokens = np.random.default_rng(2).integers(0, network.config.vocab_size, 7)
    x = weights["embedding.weight"][torch.from_numpy(tokens)]
    found = activations(network, tokens)
    for k, gates in enumerate(found.gates):
        cell = torch.nn.LSTMCell(x.shape[1], network.config.hidden_size, dtype=torch.float64)
        cell.load_state_dict(
            {name: weights[f"rnn.{name}_l{k}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
        )
        h = c = torch.zeros(1, network.config.hidden_size, dtype=torch.float64)
        outputs = []
        for t in range(len(tokens)):
            z = torch.nn.functional.linear(x[t : t + 1], cell.weight_ih, cell.bias_ih)
            z = z + torch.nn.functional.linear(h, cell.weight_hh, cell.bias_hh)
            i, f, g, o = z.chunk(4, 1)
            h, c = cell(x[t : t + 1], (h, c))
            expected = {"i": i.sigmoid(), "f": f.sigmoid(), "g": g.tanh(), "o": o.sigmoid()}
            actual = {**dataclasses.asdict(gates), "h": found.h[k], "c": found.c[k]}
            for name, value in {**expected, "h": h, "c": c}.items():
                np.testing.assert_allclose(actual[name][t], value[0].detach().numpy(), atol=1e-12, err_msg=name)
            outputs.append(h)
        x = torch.cat(outputs).detach()
    logits = torch.nn.functional.linear(x, weights["head.weight"], weights["head.bias"])
    np.testing.assert_allclose(found.logits, logits.numpy(), atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_activations_keep_the_dtype(dtype):
    """float32 in, float32 out."""
    found = activations(make_network("numpy", dtype=dtype), np.arange(5))
    arrays = [*found.h, *found.c, found.logits, *(a for gates in found.gates for a in dataclasses.astuple(gates))]
    assert {array.dtype for array in arrays} == {np.dtype(dtype)}


def test_documents_start_afresh():
    """Reading two documents with the end before each is reading each of them alone."""
    network = make_network("numpy")
    both = activations(network, np.array([1, 5, 6, 1, 7, 8, 9]), end_id=1)
    one, two = activations(network, np.array([1, 5, 6])), activations(network, np.array([1, 7, 8, 9]))
    assert np.array_equal(both.logits, np.concatenate([one.logits, two.logits]))
    assert np.allclose(both.gates[1].f, np.concatenate([one.gates[1].f, two.gates[1].f]), atol=1e-12)


def test_gates_that_do_not_explain_the_cells_are_not_shown(monkeypatch):
    """Where c = f c + i g does not hold, the cells are of another kind."""
    network = make_network("numpy")
    network.weights["rnn.weight_hh_l1"] = network.weights["rnn.weight_hh_l1"] + 0.5  # not what the decoder is given
    original = make_network("numpy")
    monkeypatch.setattr(network, "decoder", original.decoder)
    assert activations(network, np.arange(5)).gates is None and activations(original, np.arange(5)).gates is not None


def test_saturation_is_the_share_of_time():
    """A unit that is open half of the time and closed a quarter of it; the limits themselves count for neither."""
    gate = np.array([[0.95, 0.1], [0.91, 0.9], [0.05, 0.5], [0.5, 0.5]])
    closed, opened = saturation(gate)
    assert closed.tolist() == [0.25, 0] and opened.tolist() == [0.5, 0]


def test_features_of_a_text():
    """Facts of each character; of a token of several characters, its last one's."""
    found = features(list('He said "No (1)".\nOk\n'))
    assert found["capital letters"].nonzero()[0].tolist() == [0, 9, 18]
    assert found["the inside of quotes"].nonzero()[0].tolist() == list(range(8, 15))
    assert found["the inside of brackets"].nonzero()[0].tolist() == [12, 13]
    assert found["digits"].nonzero()[0].tolist() == [13]
    assert found["a line end"].nonzero()[0].tolist() == [17, 20]
    assert found["the place in the line"][16:].tolist() == [17, 0, 1, 2, 0]
    assert found["the end of the line coming near"][16:].tolist() == [1, 0, 2, 1, 0]
    assert features(["He", " said", "\n"])["the place in the word"].tolist() == [2, 4, 0]
    assert features(["", "a"])["vowels"].tolist() == [1, 1] and features([]) == {}


def test_a_readable_cell_is_found():
    """A cell that holds the case of letters among cells of noise; r is that of the unseen half."""
    r = np.random.default_rng(4)
    text = "".join(r.choice(list("abcDEF .\n"), 800))
    upper = np.array([letter.isupper() for letter in text], float)
    cells = [r.uniform(-1, 1, (800, 20)), r.uniform(-1, 1, (800, 20))]
    cells[1][:, 7] = 0.2 - 0.8 * upper + r.normal(size=800) * 0.1
    (best, *others) = readable_cells(cells, list(text))
    assert (best.layer, best.unit, best.feature) == (1, 7, "capital letters")
    assert best.r == pytest.approx(np.corrcoef(cells[1][400:, 7], upper[400:])[0, 1], abs=1e-9) and best.r < -0.9
    assert np.allclose(best.activation, cells[1][:, 7]) and not others


def test_noise_is_not_read():
    """Among many cells of noise some follow a feature by chance in one half: none is claimed to."""
    r = np.random.default_rng(5)
    found = readable_cells([r.normal(size=(800, 300))], list("".join(r.choice(list("abcDEF .\n"), 800))))
    assert len(found) == 3 and {cell.feature for cell in found} == {""}


def test_correlations_of_what_does_not_vary():
    """They are 0, not a division by zero; other columns are NumPy's corrcoef."""
    values, fact = np.random.default_rng(6).normal(size=(9, 3)), np.arange(9.0)
    values[:, 1] = 5
    assert correlations(values, fact)[1] == 0 and not correlations(values, fact * 0).any()
    assert correlations(values, fact)[2] == pytest.approx(np.corrcoef(values[:, 2], fact)[0, 1])
    assert correlations(values[:1], fact[:1]).tolist() == [0, 0, 0]


# ---------------------------------------------------------------- surprise


def test_the_surprisals_add_up_to_the_score(model):
    """Bits of all tokens but the first, however many rows of logits are held at once."""
    ids = model.encode(VERSE)
    logits = activations(model.network(), ids).logits[:-1]
    found = surprisals(logits, ids[1:])
    assert found.bits.sum() * math.log(2) == pytest.approx(model.score(VERSE, "numpy").nats, rel=1e-5)
    assert found.best.shape == found.probabilities.shape == (len(VERSE) - 1, 5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(surprisal, "BLOCK_BYTES", 8 * 7 * len(model.vocabulary))
        cut = surprisals(logits, ids[1:])
    assert np.allclose(cut.bits, found.bits) and np.array_equal(cut.ranks, found.ranks)


def test_alternatives_and_ranks_of_known_logits():
    """Probabilities of 1/2, 1/4 and 1/8 are surprises of 1, 2 and 3 bits; logits may be shifted and huge."""
    logits = np.tile(np.log([0.125, 0.5, 0.125, 0.25]) + 1e4, (3, 1))
    found = surprisals(logits, np.array([1, 3, 0]))
    assert found.bits.tolist() == pytest.approx([1, 2, 3]) and found.ranks.tolist() == [1, 2, 3]
    assert found.best[0].tolist() == [1, 3, 0, 2]
    assert found.probabilities[0].tolist() == pytest.approx([0.5, 0.25, 0.125, 0.125])


# ---------------------------------------------------------------- copied spans


def longest_by_brute_force(texts, corpus):
    """The length of the longest common substring, by trying all of them."""
    spans = {tuple(text[a:b]) for text in texts for a in range(len(text)) for b in range(a + 1, len(text) + 1)}
    windows = {tuple(corpus[a : a + n]) for n in {len(span) for span in spans} for a in range(len(corpus) - n + 1)}
    return max(map(len, spans & windows), default=0)


@pytest.mark.parametrize("block", [8, 64, 1 << 20])
def test_the_longest_copy_is_that_of_brute_force(monkeypatch, block):
    """On random texts of few tokens, however the corpus is cut into blocks; the place is where the corpus has it."""
    monkeypatch.setattr(copying, "HASHED_AT_ONCE", block)
    r = np.random.default_rng(7)
    for _ in range(40):
        values = r.integers(1, 5)
        texts = [r.integers(0, values, r.integers(0, 12)) for _ in range(3)]
        corpus = r.integers(0, values, r.integers(0, 90)).astype(np.uint8)
        found = longest_copy(texts, corpus)
        assert len(found) == longest_by_brute_force([text.tolist() for text in texts], corpus.tolist())
        assert corpus[found.place : found.place + len(found)].tolist() == found.tokens.tolist()


def test_a_planted_copy_is_found_in_a_large_corpus():
    """Across the border of two blocks; a span never reaches from one text into the next."""
    r = np.random.default_rng(8)
    corpus = r.integers(0, 60, 3 << 20).astype(np.uint16)
    planted = corpus[(1 << 20) - 100 : (1 << 20) + 100]
    assert len(longest_copy([planted, r.integers(0, 60, 500)], corpus)) == 200
    assert len(longest_copy([planted[:100], planted[100:]], corpus)) == 100
    assert len(longest_copy([planted], corpus[:0])) == 0


# ---------------------------------------------------------------- verdicts


def test_a_curve_that_is_too_short_is_no_missing_one():
    """The page shows two validations; the verdict says that they are too few."""
    from nblstm.reporting.metrics import Metrics

    two = Metrics("run", {"step": np.arange(2), "valid_loss": np.array([2, 1.52])})
    assert "fewer than 3 validations" in fit_verdict(Losses(1.5, 1.52), two).why


@each(
    "train, held_out, curve, word",
    [
        (1.5, 1.52, [], "underfitting"),
        (1.5, 1.4, [], "underfitting"),
        (1.5, 1.52, [3, 2, 1.52], "underfitting"),  # a small gap, and still falling
        (1.5, 1.52, [1.6, 1.521, 1.52], "fine"),  # a small gap, but the loss has levelled off
        (1.4, 1.6, [2, 1.7, 1.6], "fine"),
        (0.5, 1.6, [], "overfitting"),
        (None, None, [2, 1.5, 1.6], "overfitting"),
        (None, None, [3, 2, 1.5], "underfitting"),
        (None, None, [2, 1.5, 1.499, 1.5], "fine"),
        (
            1.946,
            2.0,
            [],
            "underfitting",
        ),  # a gap of 2.7 %, and below one of 3.3 %, 19.5 % and 20.5 % of the held-out loss
        (1.934, 2.0, [], "fine"),
        (1.61, 2.0, [], "fine"),
        (1.59, 2.0, [], "overfitting"),
        (None, None, [4, 2.0, 2.038], "fine"),  # 1.9 % and 2.1 % above the best
        (None, None, [4, 2.0, 2.042], "overfitting"),
        (None, None, [4, 2.0, 1.982], "fine"),  # 0.9 % and 1.1 % below the best before
        (None, None, [4, 2.0, 1.978], "underfitting"),
        (None, None, [*[4] * 8, 2.0, 1.978], "underfitting"),  # a fifth of ten validations are the last two
        (None, None, [*[4] * 7, 2.0, 1.99, 1.985], "fine"),
        (None, None, [2, 1.5], "not known"),
        (None, 1.6, [], "not known"),
    ],
)
def test_the_verdict_on_the_fit(train, held_out, curve, word):
    """By the gap of the losses where both are known, else by the course of the validation loss."""
    from nblstm.reporting.metrics import Metrics

    values = np.array(curve, float)
    metrics = Metrics("run", {"step": np.arange(len(values)), "valid_loss": values}) if curve else None
    verdict = fit_verdict(Losses(train, held_out), metrics)
    assert verdict.word == word and verdict.why and verdict.advice
    assert {f"{loss:.4f}" for loss in (train, held_out) if loss is not None} <= {value for _, value in verdict.figures}


@each(
    "copied, by_chance, word",
    [(40, 20, "copying"), (39, 20, "not copying"), (40, None, "not known"), (None, None, "not known")],
)
def test_the_verdict_on_copying(copied, by_chance, word):
    """Twice as long as what unseen text shares with the training text."""
    assert copy_verdict(copied, by_chance, "word").word == word


def test_a_model_that_knows_its_text_by_heart_is_told_to_copy(tmp_path):
    """Trained for long on one verse of random letters, it writes them again; its twin that learned nothing does not."""
    letters = "".join(np.random.default_rng(9).choice(list("abcdefghijklmnop"), 1500))
    (tmp_path / "text.txt").write_text(letters)
    (tmp_path / "new.txt").write_text("".join(np.random.default_rng(10).choice(list("abcdefghijklmnop"), 1500)))
    shape = {"hidden_size": 96, "num_layers": 1, "dropout": 0.0, "valid_fraction": 0, "batch_size": 4, "bptt": 32}
    words = {}
    for steps in (1, 400):
        file = tmp_path / f"{steps}.safetensors"
        model = nblstm.train(tmp_path / "text.txt", file, steps=steps, lr=0.01, **shape)
        report = make_report(file, model, corpus=[str(tmp_path / "text.txt")], text=str(tmp_path / "new.txt"), n=200)
        words[steps] = [verdict.word for verdict in report.verdicts]
    assert words == {1: ["underfitting", "not copying"], 400: ["overfitting", "copying"]}


# ---------------------------------------------------------------- tokens and colours


def test_tokens_are_shown_as_a_reader_sees_them():
    """Blanks and line ends by marks, bytes that are not ASCII by number, the end between documents by name."""
    words = Vocabulary.build(["a b\n"], "word")
    assert [label(words, id) for id in words.encode("a b\n")] == ["a", "␣b", "↵"]
    assert "".join(pieces(words, words.encode("a b c\n"))) == "a b<unk>\n"
    octets = Vocabulary.build([], "byte")
    assert "".join(pieces(octets, octets.encode("aé\n"))) == "a\\xc3\\xa9\n" and label(octets, 0xC3) == "\\xc3"

    class Ending(type(words)):
        end_id = 1

    assert label(Ending(words.tokens), 1) == "⟨end⟩"


def test_what_a_page_must_not_hold_is_replaced():
    """Controls, halves of characters, and marks that turn the direction of writing."""
    assert printable("a\tb\n\x00\x1b\ud800\u202eé") == "a\tb\n\ufffd\ufffd\ufffd\ufffdé"
    assert printable("مرحبا") == "مرحبا"


def luminance(color):
    """WCAG 2.2's relative luminance of #rrggbb."""
    channels = [int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a, b):
    """WCAG 2.2's contrast ratio of two colours."""
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("palette", [theme.LIGHT, theme.DARK], ids=["light", "dark"])
def test_text_is_legible_on_every_background(palette):
    """4.5 to 1 for all text (level AA), 3 to 1 for curves, dots and what marks a verdict."""
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    for background in [
        palette.paper,
        palette.card,
        *theme.surprise_tints(palette),
        *theme.cell_tints(palette),
        *theme.kind_tints(palette),
    ]:
        assert contrast(palette.ink, background) >= 4.5, background
    for background in (palette.paper, palette.card):
        assert contrast(palette.soft, background) >= 4.5 and contrast(palette.accent, background) >= 4.5
        for color in (*palette.runs, palette.good, palette.fair, palette.poor):
            assert contrast(color, background) >= 3, color


# ---------------------------------------------------------------- the page


class Outline(HTMLParser):
    """What a page is made of: its tags with their attributes, and the text between them."""

    VOID = {"meta", "input", "br"}

    def __init__(self, page):
        super().__init__()
        self.tags, self.text, self.open = [], "", []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def whole_report(folder, **settings):
    """The report of the trained model with both texts."""
    model = nblstm.load(folder / "model.safetensors")
    (folder / "unseen.txt").write_text("Thou art more temperate: lovely and more to a day?\n" * 9)
    texts = {"corpus": [str(folder / "corpus.txt")], "text": str(folder / "unseen.txt")}
    return make_report(folder / "model.safetensors", model, n=40, **{**texts, **settings})


def test_the_page_is_well_formed_and_needs_nothing_else(folder):
    """Every tag is closed, ids are unique, and nothing refers to anything outside: no network, no file."""
    page = render(whole_report(folder))
    outline = Outline(page)
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    assert len(ids) == len(set(ids)) and len(page) < 1_000_000
    for tag, attributes in outline.tags:
        assert tag not in ("link", "img", "iframe", "object", "base")
        assert not {"src", "style"} & set(attributes)
        assert not [name for name in attributes if name.startswith("on")]
        assert attributes.get("href", "#verdict")[1:] in ids
    assert "url(" not in page and "@import" not in page and "default-src 'none'" in page
    assert render(whole_report(folder)) == page


HOSTILE = ["<script>alert(1)</script>", "</script>", "<!--", "&lt;", '"><img src=x onerror=alert(1)>', " 'b'", "\n"]


def hostile_model():
    """A model at word level whose vocabulary holds markup, untrained."""
    vocabulary = Vocabulary.from_dict({"level": "word", "tokenizer": "default", "tokens": ["<unk>", *HOSTILE]})
    config = LanguageConfig(len(vocabulary), hidden_size=8, num_layers=1)
    return LanguageModel(config, vocabulary, initial(config, 0), {"corpus": ["<b>.txt"], "valid_loss": 1.0})


def test_markup_in_a_vocabulary_stays_text(tmp_path):
    """Tokens, file names and facts that look like tags make no tag, in the page as in its data."""
    (tmp_path / "<i>text.txt").write_text("'b' \n 'b'\n" * 20)
    (tmp_path / "<u>.safetensors").touch()
    text = str(tmp_path / "<i>text.txt")
    page = render(make_report(tmp_path / "<u>.safetensors", hostile_model(), corpus=[text], text=text, n=50))
    tags = {tag for tag, _ in Outline(page).tags}
    assert not tags & {"img", "i", "u"} and page.count("<script") == 3 and page.count("</script>") == 3
    assert "alert(1)" in page and "&lt;script&gt;alert(1)&lt;/script&gt;" in page and "&lt;u&gt;.safetensors" in page
    data = re.findall(r'<script type="application/json" id="surprise-data">(.*?)</script>', page)
    assert "<!--" in json.loads(data[0])["labels"]


def test_the_data_says_what_the_text_shows(folder):
    """One row of alternatives for each token but the first, in its order, with its own bits."""
    report = whole_report(folder)
    page = render(report)
    data = json.loads(re.search(r'id="surprise-data">(.*?)</script>', page)[1])
    labels, rows = data["labels"], data["rows"]
    text = "".join(labels[row[0]] for row in rows).replace("␣", " ").replace("↵", "\n")
    assert text == (folder / "unseen.txt").read_text()[1:]
    assert [row[1] for row in rows] == pytest.approx(report.reading.surprisals.bits.tolist(), abs=0.006)
    assert all(row[4::2] == sorted(row[4::2], reverse=True) for row in rows)
    levels = json.loads(re.search(r'id="cell-data">(.*?)</script>', page)[1])
    assert {len(digits) for digits in levels} == {len(rows) + 1} and set("".join(levels)) <= set("0123456789a")


def test_what_was_not_given_is_said(folder):
    """Without a corpus, a text or metrics, the sections that need them name it."""
    model = nblstm.load("model.safetensors")
    page = render(make_report("model.safetensors", model, n=30))
    assert page.count("(corpus)") >= 3 and "name one (text)" in page
    assert "no .metrics.csv" in page and "its own samples" in page


@each("level, tokenizer", [("char", "default"), ("word", "default"), ("word", "whitespace"), ("byte", "default")])
def test_every_level(folder, level, tokenizer):
    """Characters, words and bytes, Unicode among them, however short the sample."""
    (folder / "text.txt").write_text("Die Glühbirne – 光 – leuchtet.\n" * 40, encoding="utf-8")
    settings = {"level": level, "tokenizer": tokenizer, "hidden_size": 8, "batch_size": 2, "bptt": 8, "steps": 3}
    path = f"{level} {tokenizer}.safetensors"
    model = nblstm.train("text.txt", path, **settings)
    for n in (1, 30):
        Outline(render(make_report(path, model, corpus=["text.txt"], n=n)))
        Outline(render(make_report(path, model, n=n)))


def test_the_rest_of_the_corpus_is_held_out(tmp_path):
    """What training kept for validation is found again behind what it was trained on."""
    (tmp_path / "text.txt").write_text(VERSE * 200)
    model = nblstm.train(tmp_path / "text.txt", tmp_path / "m.safetensors", hidden_size=8, steps=2, valid_fraction=0.25)
    report = make_report(tmp_path / "m.safetensors", model, corpus=[str(tmp_path / "text.txt")], n=30)
    assert "".join(report.reading.pieces) == (VERSE * 200)[int(len(VERSE) * 150) :][: len(report.reading.pieces)]
    assert report.by_chance is not None and report.reading.surprisals is not None


@pytest.mark.parametrize("documents", [None, "line"])
def test_the_loss_is_the_mean_surprise(tmp_path, documents):
    """Two ways to the same figure, of a stream and of documents, each read from its start to its end."""
    (tmp_path / "text.txt").write_text(VERSE * 20)
    (tmp_path / "unseen.txt").write_text("Thou art more temperate:\na summer's day?\nlovely\n" * 4)
    file = tmp_path / "m.safetensors"
    model = nblstm.train(tmp_path / "text.txt", file, hidden_size=8, steps=9, lr=0.02, documents=documents, bptt=16)
    report = make_report(file, model, corpus=[str(tmp_path / "text.txt")], text=str(tmp_path / "unseen.txt"), n=20)
    figures = dict(report.verdicts[0].figures)
    mean = report.reading.surprisals.bits.mean() * math.log(2)
    assert float(figures["loss on held-out text"]) == pytest.approx(mean, abs=1e-4)
    if documents:
        assert "".join(report.reading.pieces).startswith("⟨end⟩\nThou art more temperate:⟨end⟩\na summer's")
        assert "⟨end⟩" in render(report)


def test_documents_kept_for_validation_are_held_out(tmp_path, monkeypatch):
    """They begin with the end of the last one that was trained on; losses of long texts are those of whole documents."""
    monkeypatch.setattr("nblstm.reporting.texts.EXCERPT_TOKENS", 60)
    (tmp_path / "text.txt").write_text("".join(f"line {k} of many\n" for k in range(1000)))
    model = nblstm.train(tmp_path / "text.txt", tmp_path / "m.safetensors", hidden_size=8, steps=2, documents="line")
    report = make_report(tmp_path / "m.safetensors", model, corpus=[str(tmp_path / "text.txt")], n=20)
    assert "".join(report.reading.pieces).startswith("⟨end⟩\nline 900 of many⟨end⟩\nline 901")
    assert len(dict(report.verdicts[0].figures)) == 3


def page_of(model, folder, **settings):
    """The page of a model that is saved first."""
    model.save(folder / "m.safetensors")
    return render(make_report(folder / "m.safetensors", model, n=20, **settings))


def test_the_command_line_that_makes_a_model(tmp_path, monkeypatch):
    """Settings that are not the default, from the model's file: run again, it writes the same file."""
    from nblstm.cli.main import run

    monkeypatch.chdir(tmp_path)
    (tmp_path / "a text.txt").write_text(VERSE * 20)
    settings = {
        "hidden_size": 8, "num_layers": 1, "steps": 3, "optimizer": "sgd", "lr": 0.5, "momentum": 0.8, "level": "word",
        "min_count": 2, "residual": True, "schedule": "constant", "seed": 4, "batch_size": 2, "bptt": 8, "dropout": 0.25,
        "valid_fraction": 0.2,
    }  # fmt: skip
    model = nblstm.train("a text.txt", "m.safetensors", **settings)
    command = command_line(model)
    assert command.startswith("nblstm train 'a text.txt' --level word ") and "--momentum 0.8" in command
    assert "epochs" not in command and "embedding" not in command and "--threads" not in command
    assert run([*shlex.split(command)[1:], "-o", "again.safetensors", "-q"]) == 0
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "m.safetensors").read_bytes()
    assert escape(command) in page_of(model, tmp_path)
    for facts in ({}, {"corpus": ["a"]}, {"corpus": ["a"], "config": {"lr": "x"}}, {"corpus": [1], "config": {}}):
        other = LanguageModel(model.config, model.vocabulary, model.parameters, facts)
        assert command_line(other) is None and "comes from" not in page_of(other, tmp_path)


def test_the_page_says_what_it_is_of(model, tmp_path):
    """The version, and the day that the model's file was written."""
    model.save(tmp_path / "m.safetensors")
    os.utime(tmp_path / "m.safetensors", (0, 86400 * 365.5))
    page = render(make_report(tmp_path / "m.safetensors", model, n=5))
    assert f"nblstm report {nblstm.__version__} of a model file of 1971-01-01" in page


def test_samples_that_show_nothing_say_so(model, tmp_path):
    """No text at all, and one of white space only."""
    report = dataclasses.replace(make_report(path_of(model, tmp_path), model, n=5), history=[])
    for text, words in (("", "(nothing: it ended at once)"), (" \n ", "(only white space: 3 characters)")):
        samples = [dataclasses.replace(sample, texts=[text]) for sample in report.samples]
        assert render(dataclasses.replace(report, samples=samples)).count(words) == 5


def path_of(model, folder):
    model.save(folder / "m.safetensors")
    return folder / "m.safetensors"


def test_what_was_written_while_training(model, tmp_path):
    """A table of at most ten texts, the first and the last among them; markup stays text; other files are refused."""
    rows = [{"step": k, "epoch": k / 2, "loss": 3.0 - k / 50, "text": f"<b>text {k}"} for k in range(100)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"half')
    found = read_history(tmp_path / "a.jsonl")
    page = page_of(model, tmp_path, history=found)
    assert len(found) == 100 and page.count("&lt;b&gt;text") == 10
    assert "&lt;b&gt;text 0<" in page and "&lt;b&gt;text 99<" in page and "49.50" in page
    for line, words in (("x", "JSON"), ("{}", "step"), (json.dumps({**rows[0], "loss": "1"}), "loss")):
        (tmp_path / "b.jsonl").write_text(json.dumps(rows[0]) + f"\n{line}\n")
        with pytest.raises(nblstm.ReportError, match=f"line 2.*{words}"):
            read_history(tmp_path / "b.jsonl")


def test_a_page_shows_rate_gradient_and_speed(command, folder):
    """A small chart of each beside the losses; files without these columns have none."""
    assert command("report", "-n", 5).code == 0
    page = (folder / "report.html").read_text()
    assert all(f"{name} over update" in page or f">{name}<" in page for name in ("learning rate", "tokens a second"))
    assert page.count("<svg") == 2 + 3 + 3 + 1  # losses wide and narrow, panels, gates, the dot of a layer


# ---------------------------------------------------------------- the command


def test_report_on_the_command_line(command, folder):
    """A page, what is being done on stderr, the curves of the run beside the model; a second one replaces it."""
    outcome = command("report", "model.safetensors", "--corpus", "corpus.txt", "-n", 40)
    assert (outcome.code, outcome.out) == (0, "") and "wrote report.html" in outcome.err
    assert "<polyline" in (folder / "report.html").read_text()
    assert "replaced report.html" in command("report", "-n", 20).err
    assert command("report", "-n", 20, "-o", "-").out == (folder / "report.html").read_text()


def test_metrics_that_cannot_be_read_do_not_stop_a_report(command, folder):
    """It says so, and the page is without curves."""
    (folder / "model.metrics.csv").write_text("nonsense")
    outcome = command("report", "-n", 20)
    assert outcome.code == 0 and "no loss curves: model.metrics.csv is not a metrics file" in outcome.err


@each(
    "code, words, args",
    [
        (USAGE, ["not an HTML page", "-o"], ["-o", "model.safetensors"]),
        (USAGE, ["regular file"], ["-o", "."]),
        (USAGE, ["0"], ["-n", "0"]),
        (USAGE, ["seed"], ["--seed", "-1"]),
        (FAILURE, ["missing.safetensors does not exist"], ["missing.safetensors"]),
        (FAILURE, ["corpus.txt"], ["corpus.txt"]),
        (FAILURE, ["missing.txt", "No such file"], ["--corpus", "missing.txt"]),
        (FAILURE, ["model.safetensors", "a safetensors file"], ["--text", "model.safetensors"]),
        (FAILURE, ["short.txt", "2 tokens"], ["--text", "short.txt"]),
        (USAGE, ["no folder no"], ["-o", "no/such/report.html", "-n", "5"]),
    ],
)
def test_report_refuses(command, folder, code, words, args):
    """The last line says what is wrong, and every file stays."""
    (folder / "short.txt").write_text("a")
    before = snapshot(folder)
    outcome = command("report", *args)
    last = outcome.err.splitlines(keepends=True)[-1]
    assert_refused(type(outcome)(outcome.code, outcome.out, last), code, *words)
    assert snapshot(folder) == before


def test_a_report_without_texts_loads_no_numba(python, folder):
    """A few short samples need NumPy alone."""
    code = "import sys; from nblstm.cli.main import main\ntry: main(['report', '-n', '20'])\nexcept SystemExit: pass\n"
    outcome = python("-c", code + "assert 'numba' not in sys.modules")
    assert outcome.code == 0, outcome.err


# ---------------------------------------------------------------- in a browser

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--virtual-time-budget=3000", "--dump-dom",
]  # fmt: skip
PROBE = """<!doctype html><iframe src="report.html" width="%d" height="800"></iframe><pre></pre><script>
onload = () => {
  const frame = document.querySelector("iframe"), page = frame.contentDocument, view = frame.contentWindow, found = {};
  const style = (query, name) => view.getComputedStyle(page.querySelector(query))[name];
  const text = page.querySelector("[data-surprise]"), panel = page.querySelector(".panel");
  found.overflow = page.documentElement.scrollWidth - view.innerWidth;
  found.width = view.innerWidth;
  found.outside = [...page.querySelectorAll("main *")]
    .filter(element => !element.closest("svg") && !element.matches("script, input"))
    .filter(element => element.getBoundingClientRect().right > view.innerWidth + 0.5)
    .map(element => element.outerHTML.slice(0, 80));
  found.ink = style(":root", "color");
  found.tint = style(".u5, .u4, .u3", "backgroundColor");
  const tokens = text.querySelectorAll("b");
  tokens[3].dispatchEvent(new PointerEvent("pointerover", {bubbles: true}));
  found.hover = panel.innerText;
  tokens[3].focus();
  tokens[3].dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowRight", bubbles: true}));
  found.key = panel.innerText;
  found.focus = [...tokens].indexOf(page.activeElement);
  tokens[9].click();
  found.tap = panel.innerText;
  found.stops = text.querySelectorAll("[tabindex='0']").length;
  const cells = () => [...page.querySelectorAll(".cell b")].map(token => token.className).join(" ");
  found.before = cells();
  page.querySelector(".pill:nth-of-type(2) input").click();
  found.after = cells();
  document.querySelector("pre").textContent = JSON.stringify(found);
};
</script>"""


@pytest.fixture(scope="module")
def site(tmp_path_factory, trained):
    """A local server of a report and of pages that look at it: (folder, address)."""
    folder = tmp_path_factory.mktemp("site")
    for name in ("corpus.txt", "model.safetensors"):
        shutil.copy(trained / name, folder)
    (folder / "report.html").write_text(render(whole_report(folder)))
    handler = functools.partial(QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves files without a word."""

    def log_message(self, *args):
        pass


def seen(site, tmp_path, width, *flags):
    """What the probe finds in the page, in a frame so many CSS pixels wide."""
    folder, address = site
    (folder / f"probe{width}.html").write_text(PROBE % width)
    command = [BROWSER, *FLAGS, *flags, f"--user-data-dir={tmp_path}", f"{address}/probe{width}.html"]
    done = subprocess.run(command, capture_output=True, timeout=PATIENCE, env={**os.environ, "HOME": str(tmp_path)})
    return json.loads(unescape(re.search(r"<pre>(.*?)</pre>", done.stdout.decode(), re.S)[1]))


def rgb(color):
    """#rrggbb as a browser writes it."""
    return "rgb({}, {}, {})".format(*(int(color[k : k + 2], 16) for k in (1, 3, 5)))


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
@pytest.mark.parametrize(
    "width, palette", [(1280, theme.LIGHT), (400, theme.DARK)], ids=["wide, light", "narrow, dark"]
)
def test_the_page_in_a_browser(site, tmp_path, width, palette):
    """It fits, in the reader's colours; pointer, keyboard and tap explain a token; another cell tints the text anew."""
    found = seen(site, tmp_path, width, f"--blink-settings=preferredColorScheme={int(palette is theme.LIGHT)}")
    assert found["width"] == width and found["overflow"] <= 0 and found["outside"] == []
    assert found["ink"] == rgb(palette.ink) and found["tint"] in map(rgb, theme.surprise_tints(palette))
    texts = [found[name] for name in ("hover", "key", "tap")]
    assert len(set(texts)) == 3 and all("bits" in text and text.count("%") == 6 for text in texts)
    assert found["focus"] == 4 and found["stops"] == 1
    assert len(found["before"]) and found["before"] != found["after"]
