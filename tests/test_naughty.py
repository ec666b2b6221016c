"""Texts that programs stumble over, as corpus, prompt, file name and line: read as what they are, or refused in a line."""

import os

import pytest
from support.commands import SMALL
from support.naughty import STRINGS, encoded, first_bad_byte, sequences

import nblstm
from nblstm.errors import TextError
from nblstm.text import sources
from nblstm.text.corpus import load_corpus
from nblstm.text.reading import read_chunks, read_text
from nblstm.text.strings import num_characters
from nblstm.text.vocabulary import Vocabulary

LEVELS = pytest.mark.parametrize(
    "level, tokenizer", [("char", "default"), ("byte", "default"), ("word", "default"), ("word", "whitespace")]
)


@pytest.mark.parametrize("size", [1, 2, 3, 1 << 20])
def test_utf8_is_read_or_refused_at_its_first_bad_byte(tmp_path, monkeypatch, size):
    """By the table of the Unicode standard: well-formed text comes as it is, else the byte is named, however blocks end."""
    monkeypatch.setattr(sources, "CHUNK", size)
    for name, data in sequences().items():
        for before, behind in ((b"", b""), ("aé€".encode(), b"b\n")):
            content = before + data + behind
            (tmp_path / "a").write_bytes(content)
            place = first_bad_byte(content)
            if place is None and b"\0" not in content:
                assert "".join(read_text(tmp_path / "a")).encode() == content, name
            else:
                with pytest.raises(TextError) as refused:
                    list(read_text(tmp_path / "a"))
                assert f"is not utf-8 text at byte {place};" in str(refused.value), name


def test_any_bytes_are_a_text_of_bytes(tmp_path):
    """At byte level every sequence comes as it is; its characters are counted, of well-formed text as Python counts."""
    for name, data in sequences().items():
        (tmp_path / "a").write_bytes(data)
        assert b"".join(read_chunks(tmp_path / "a", "byte")) == data
        vocabulary = Vocabulary.build([], "byte")
        assert vocabulary.encode(data).tobytes() == data
        assert vocabulary.decode(vocabulary.encode(data)) == data.decode("utf-8", "replace")
        if first_bad_byte(data) is None:
            assert num_characters(data) == len(data.decode()), name
        assert sum(num_characters(data[k : k + 1]) for k in range(len(data))) == num_characters(data)


def test_the_patterns_of_the_sequences():
    """Numbers that UTF-8 can hold are encoded as Python encodes them."""
    for code, length in ((0x24, 1), (0xE9, 2), (0x20AC, 3), (0x10348, 4)):
        assert encoded(code, length) == chr(code).encode()


@LEVELS
def test_naughty_strings_are_a_corpus(tmp_path, level, tokenizer):
    """Together, and as lines, they come back from their ids, but for what the whitespace tokenizer does not keep."""
    text = "\n".join(string for string in STRINGS if "\0" not in string) + "\n"
    (tmp_path / "a").write_bytes(text.encode())
    corpus = load_corpus(tmp_path / "a", level=level, tokenizer=tokenizer, valid_fraction=0, newline="keep")
    assert corpus.train_unknown <= text.count("<unk>")  # what is spelt so is read so
    if tokenizer == "default" and level != "char":
        assert corpus.vocabulary.decode(corpus.train) == text
    lines = load_corpus(tmp_path / "a", level=level, tokenizer=tokenizer, documents="line", valid_fraction=0)
    assert len(lines.train_offsets) > 90


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A model of each level, trained on the strings, in a folder."""
    folder = tmp_path_factory.mktemp("naughty")
    (folder / "corpus.txt").write_bytes("\n".join(string for string in STRINGS if "\0" not in string).encode() * 3)
    for level in ("char", "word", "byte"):
        nblstm.train(
            folder / "corpus.txt", folder / level, level=level, hidden_size=8, num_layers=1, batch_size=4, bptt=8,
            steps=2, threads=1,
        )  # fmt: skip
    return folder


@pytest.mark.parametrize("level", ["char", "word", "byte"])
def test_naughty_strings_as_prompt_stop_and_line(models, level):
    """Any of them is a prompt, a stop string, a line and its own novel corpus; figures stay numbers."""
    model = nblstm.load(models / level)
    scores = list(model.score_lines(STRINGS, "numpy"))
    for string, score in zip(STRINGS, scores):
        bare = string.removesuffix("\n").removesuffix("\r")
        assert (score.characters, score.bytes) == (len(bare), len(bare.encode())) and score.nats >= 0
        assert len(model.surprisals(string, "numpy").tokens) == len(model.vocabulary.split(string))
        text = "".join(model.generate(string, n=3, stop=[string] if string else [], seed=1, backend="numpy"))
        assert string == "" or string not in text
        assert isinstance(model.generate_novel(string, corpus=string, n=2, seed=1, backend="numpy").texts, list)


def test_naughty_names_of_files(command, models, tmp_path, monkeypatch):
    """What a file may be called, a corpus and a line's file are called; bytes that are no text among them."""
    monkeypatch.chdir(tmp_path)
    names = [
        string
        for string in STRINGS
        if string.strip("./") and not set(string) & set("/\0") and len(string.encode()) < 256
    ]
    names = [f"texts/{name}" for name in names if not name.startswith(".")] + [os.fsdecode(b"texts/caf\xe9")]
    os.mkdir("texts")
    for name in names:
        with open(name, "w", newline="") as file:
            file.write("Shall I\n" * 9)
    scored = command("score", "texts", "--by", "file", "-m", models / "char", "--json")
    assert scored.code == 0 and len(scored.out.splitlines()) == len(names)
    for args in (["score", "texts", "--by", "line"], ["eval", *names]):
        assert command(*args, "-m", models / "char").code == 0
    trained = command("train", *names, *SMALL, "--steps", 1, "-q", "-o", "new.safetensors")
    assert (trained.code, command("info", "-m", "new.safetensors").code) == (0, 0), trained
    for name in names[:5] + names[-1:]:
        missing = command("score", name + "x", "-m", models / "char")
        assert missing.code == 1 and "cannot be read" in missing.err and missing.err.count("Error") == 1


def test_naughty_prompts_on_the_command_line(command, models):
    """Each is written first, as it is, in front of what the model writes."""
    for string in STRINGS:
        shown = command("sample", "-m", models / "byte", "-n", 2, "--seed", 1, "--no-escape", f"--prompt={string}")
        assert shown.code == 0 and shown.out.startswith(string), string
