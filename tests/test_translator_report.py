"""The report on a translator: its page is a page, and shows the attention that came with the translations."""

import pytest
from support.commands import USAGE, assert_refused
from test_report import Outline

import nblstm
from nblstm.reporting.translator_page import translator_page
from nblstm.reporting.translator_report import make_translator_report

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def path(tmp_path, monkeypatch):
    """The file of a translator whose words hold markup, in the current folder, with pairs.tsv, a.en and a.de."""
    monkeypatch.chdir(tmp_path)
    pairs = [(f"word {HOSTILE} {k % 3}", f"{k % 3} {HOSTILE} wort") for k in range(12)]
    settings = {"hidden_size": 4, "num_layers": 1, "steps": 1, "threads": 1, "tokenizer": "whitespace"}
    nblstm.Translator(**settings).fit(*zip(*pairs)).save("model.safetensors")
    (tmp_path / "pairs.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in pairs))
    for name, side in (("a.en", 0), ("a.de", 1)):
        (tmp_path / name).write_text("".join(f"{pair[side]}\n" for pair in pairs))
    return "model.safetensors"


def test_the_page_shows_what_was_measured(path):
    """Every tag is closed, markup of words is text, nothing is loaded; a heat map has a row for each token."""
    model = nblstm.load(path)
    report = make_translator_report(path, model, text="pairs.tsv")
    page = translator_page(report)
    outline = Outline(page)
    assert not {tag for tag, _ in outline.tags} & {"img", "i", "link"} and "default-src 'none'" in page
    assert "&lt;img" in page and page == translator_page(report)
    expected = model.evaluate(*nblstm.read_pairs("pairs.tsv"))
    assert report.scores == expected and f"BLEU {expected.bleu:.1f}" in page
    assert len(report.examples) == 8 and page.count("</figure>") == 8
    for one in report.examples:
        assert one.translation.text == model.translate([one.source])[0]
    written = sum(len(one.translation.tokens) for one in report.examples)
    assert page.count("<tr><th scope=row>") == written + 3 * 8 + len(report.verdicts[0].figures)


def test_without_pairs_or_attention_it_says_so(path):
    """The model is described; what is measured needs pairs; without attention there is no heat map."""
    page = translator_page(make_translator_report(path, nblstm.load(path)))
    assert page.count("name a file of them (text)") == 2 and "no .metrics.csv" in page
    blind = nblstm.Translator(hidden_size=3, num_layers=1, steps=1, attention="none").fit(
        ["a", "b"] * 3, ["x", "y"] * 3
    )
    blind.save("blind.safetensors")
    page = translator_page(make_translator_report("blind.safetensors", blind, text="pairs.tsv"))
    assert page.count("Without attention") == 8 and "</figure>" not in page
    Outline(page)


def test_reports_of_translators_on_the_command_line(path, command):
    """A page is written, of pairs on lines or in two files; options of language models are refused."""
    first, second = (
        command("report", path, "-o", "page.html", *where).err
        for where in (["--text", "pairs.tsv"], ["--text", "a.en", "--target", "a.de"])
    )
    assert "translating 12 sources" in first and "translating 12 sources" in second
    assert_refused(command("report", path, "--seed", 3, "-o", "b.html"), USAGE, "--seed is not for models of this task")
    assert_refused(command("report", path, "--target", "a.de", "-o", "b.html"), USAGE, "target needs", "text")
