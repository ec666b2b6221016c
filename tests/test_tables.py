"""Documents that are rows of tables: every form is read, contexts condition what is written, bad rows are named by line."""

import numpy as np
import pytest
from support.cases import each
from support.commands import FAILURE, SMALL, USAGE, assert_refused

import nblstm
from nblstm.config.text import CorpusConfig
from nblstm.errors import ConfigError, TextError
from nblstm.tasks.classification.reading import read_labelled
from nblstm.text.corpus import load_corpus

TABLES = {
    "csv": 'style,id,text\nlow,1,"a, b"\n\nhigh tone,2,"c\nd"\n',
    "tsv": 'text\tstyle\na, b\tlow\n"c\nd"\thigh tone\n',
    "semicolons": 'style;text\nlow;a, b\nhigh  tone;"c\nd"\n',
    "jsonl": '{"text": "a, b", "style": "low"}\n\n{"style": "high\\ttone", "text": "c\\nd", "id": 2}',
    "byte order mark": '\ufeffstyle,text\r\nlow,"a, b"\r\nhigh tone,"c\nd"\r\n',
    "no text": '\nstyle,text\nlow,"a, b"\nlow,\nhigh tone,"c\nd"\n',
}
COLUMNS = {"documents": "row", "text_column": "text", "context_column": "style", "valid_fraction": 0}


def documents(path, **how):
    """The documents of a table, decoded, and their contexts."""
    corpus = load_corpus(path, **{**COLUMNS, **how})
    ids, ends = corpus.train, corpus.train_offsets
    return [corpus.vocabulary.decode(ids[first + 1 : last]) for first, last in zip(ends, ends[1:])], corpus.contexts


@each("form", TABLES)
@each("level", ["char", "byte", "word"])
def test_a_row_is_a_document(form, level, tmp_path):
    """The text below its context, which is one line; at every level; rows without a text are left out."""
    (tmp_path / "table").write_text(TABLES[form], encoding="utf-8", newline="")
    path = tmp_path / "table"
    assert documents(path, level=level) == (["low\na, b", "high tone\nc\nd"], ("high tone", "low"))
    assert documents(path, level=level, context_column=None) == (["a, b", "c\nd"], ())


@each("text, message", [
    ("style,words\nlow,a\n", "table: its first row must name the column 'text' once, got 'style, words'"),
    ("style,text\nlow,a\nlow\n", "table, line 3: there must be 2 columns, as in the first, got 1"),
    ('style,text\nlow,"a\nb"\n\n ,c\n', "table, line 5: there is no style; add it"),
    ('style,text\nlow,"a\n', "table, line 2: this is no row of a table"),
    ('{"text": "a"}\n', "table, line 1: there is no 'style', only 'text'"),
    ('{"style": 1, "text": "a"}\n\nb\n', "table, line 3: this is no row of a table, a JSON object"),
    ('{"style": [1], "text": "a"}\n', "table, line 1: 'style' must be a string or a number"),
    ('{"style": null, "text": "a"}\n', "table, line 1: there is no style"),
    ("style,text\n", "the text is empty"),
])  # fmt: skip
def test_bad_tables_are_named(text, message, tmp_path):
    """By file and line."""
    (tmp_path / "table").write_text(text)
    with pytest.raises(TextError, match=message):
        documents(tmp_path / "table")


def test_numbers_are_contexts_as_json_writes_them(tmp_path):
    """A label may be a number or a truth value; a classifier reads the same tables."""
    (tmp_path / "table").write_text('{"style": 1, "text": "a"}\n{"style": true, "text": "b"}\n')
    assert documents(tmp_path / "table") == (["1\na", "true\nb"], ("1", "true"))
    assert read_labelled(tmp_path / "table", "text", "style") == (["a", "b"], ["1", "true"])


@each("settings, message", [
    ({"documents": "row"}, "documents=row needs text_column"), ({"context_column": "a"}, "needs text_column"),
    ({"text_column": "a", "documents": "line"}, "got documents=line"),
    ({"text_column": "a", "context_column": "a"}, "another column than the text's, got 'a'"),
])  # fmt: skip
def test_columns_belong_together(settings, message):
    """text_column alone makes documents of rows."""
    with pytest.raises(ConfigError, match=message):
        CorpusConfig(**settings)
    assert CorpusConfig(text_column="a").documents == "row"
    with pytest.raises(ConfigError, match="belong together"):
        load_corpus("none", documents="row")


@pytest.fixture(scope="module")
def styles(tmp_path_factory):
    """The file of a model of texts in two styles, which share no letter."""
    folder = tmp_path_factory.mktemp("styles")
    random = np.random.default_rng(0)
    rows = [
        (style, "".join(random.choice(list(letters), 4)))
        for _ in range(60)
        for style, letters in (("low", "ab"), ("up", "XY"))
    ]
    (folder / "table.csv").write_text("style,text\n" + "".join(f"{style},{text}\n" for style, text in rows))
    nblstm.train(
        folder / "table.csv", folder / "model", text_column="text", context_column="style", hidden_size=16, num_layers=1,
        dropout=0.0, batch_size=8, steps=120, lr=0.02, threads=1,
    )  # fmt: skip
    return folder


def test_a_context_conditions_the_text(styles):
    """Texts have the letters of the style that is asked for, also behind a prompt; the run goes on from its checkpoint."""
    model = nblstm.load(styles / "model")
    assert model.training["contexts"] == ["low", "up"] and model.training["documents"] == 108
    for context, letters in (("low", "ab"), (" up ", "XY")):
        texts = model.generate_many(model.in_context(context), n=20, num_samples=20, temperature=0.5, seed=1)
        assert {letter for text in texts for letter in text} == set(letters)
    assert "".join(model.generate(model.in_context("up", "X"), temperature=0.5, n=9, seed=1)).isupper()
    again = nblstm.train((), styles / "model", resume=True, steps=121)
    assert again.training["steps"] == 121


def test_sample_writes_to_a_context(styles, command):
    """The prompt is shown, the context is not; an unknown one is refused with those that are known."""
    ask = ["sample", "-m", styles / "model", "--seed", 1, "--temperature", 0.5]
    outcome = command(*ask, "--context", "up", "--prompt", "XX", "--num-samples", 2)
    assert outcome.code == 0 and not outcome.err
    assert len(lines := outcome.out.splitlines()) == 2 and all(
        line.startswith("XX") and line.isupper() for line in lines
    )
    assert_refused(command(*ask, "--context", "upp"), USAGE, "--context", "(low, up)", "'upp'")
    assert_refused(command(*ask, "--context", "up", "--novel", styles / "table.csv"), USAGE, "--novel")


def test_a_report_reads_the_table(styles, command, tmp_path):
    """With the columns of training, and shows the command that made the model."""
    page = tmp_path / "page.html"
    outcome = command("report", "-m", styles / "model", "--corpus", styles / "table.csv", "-o", page, "-n", 5)
    assert outcome.code == 0, outcome.err
    assert "--documents row --text-column text --context-column style" in page.read_text(encoding="utf-8")


def test_train_names_a_missing_column(folder, command):
    """In one line; and a model without contexts writes to none."""
    (folder / "table.csv").write_text("a,b\n1,2\n")
    train = command("train", "table.csv", "--text-column", "words", *SMALL, "-o", "other")
    assert_refused(train, FAILURE, "table.csv", "'words'", "'a, b'")
    assert_refused(command("sample", "--context", "a"), USAGE, "no contexts", "context_column")
