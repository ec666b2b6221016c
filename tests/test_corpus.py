"""Corpus: what can be read, what is refused and how, the split, and memory."""

import dataclasses
import gzip
import hashlib
import io
import os
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from functools import partial
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from support.cases import each

import nblstm
from nblstm.config import TextConfig, TrainConfig
from nblstm.errors import ConfigError, TextError
from nblstm.tasks.session import Session
from nblstm.text import corpus as corpus_module
from nblstm.text import sources
from nblstm.text.corpus import load_corpus
from nblstm.text.kinds import BEGIN
from nblstm.text.reading import read_bytes, read_chunks, read_documents, read_each, read_text
from nblstm.text.sources import CHUNK, Source, rereadable
from nblstm.text.vocabulary import PATTERNS, Vocabulary

posix_only = pytest.mark.skipif(os.name != "posix", reason="POSIX permissions, devices and mappings")


@pytest.fixture
def write(tmp_path):
    """write(name, content) puts a file, bytes or UTF-8 text, under the test's folder and returns its path."""

    def write(name: str, content) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


@pytest.fixture
def stdin(monkeypatch):
    """stdin(content) makes these bytes standard input."""
    return lambda content: monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))


def text_of(paths, **options) -> str:
    return "".join(read_text(paths, **options))


def message_of(call, *arguments, error=TextError, **options) -> str:
    """The message that exhausting call(...) fails with: one line that ends in a full stop."""
    with pytest.raises(error) as raised:
        list(call(*arguments, **options))
    message = str(raised.value)
    assert "\n" not in message and message.endswith(".")
    return message


# ---- what can be read


def test_text_is_untouched(write):
    """Line ends, blanks and characters of every length come as they are; only a byte order mark goes."""
    content = "\ufeff a\r\nb\rc\n\n\té👩 \ufeff\n"
    assert text_of(write("a.txt", content)) == content[1:]


def test_files_are_joined_and_each_drops_its_mark(write):
    """Nothing is put between files; a mark inside a file stays."""
    paths = [write("b", "\ufeffone "), write("a", "\ufefftwo\ufeff"), write("c", "")]
    assert text_of(paths) == "one two\ufeff"


def test_only_the_first_block_of_a_file_drops_a_mark(write, monkeypatch):
    """A mark that happens to come first in a later block of bytes is text."""
    monkeypatch.setattr(sources, "CHUNK", 6)
    assert text_of(write("a", "\ufeffabc\ufeffabc\ufeff")) == "abc\ufeffabc\ufeff"


def test_a_folder_is_its_visible_files_sorted(write, tmp_path):
    """Files at any depth by path; hidden files and folders are skipped."""
    for name in ("z", "b/2", "b/1", ".hidden", ".git/x", "b/.x", "a"):
        write(f"folder/{name}", name + ";")
    assert text_of(tmp_path / "folder") == "a;b/1;b/2;z;"


def test_gz_is_unpacked(write):
    """A .gz file, of several members too, is read as what it holds."""
    path = write("a.txt.gz", gzip.compress("caf\u00e9 ".encode()) + gzip.compress(b"two"))
    assert text_of(path) == "café two"
    assert b"".join(read_bytes(path)) == "café two".encode()


def test_standard_input(stdin, write):
    """ "-" is standard input, alone or among files."""
    stdin("naïve\n".encode())
    assert text_of([write("a", "a "), "-"]) == "a naïve\n"


@each("encoding", ["latin-1", "utf-16", "utf-16-le", "cp1252", "utf-8-sig", "gb18030"])
def test_other_encodings(write, encoding):
    """An encoding that Python knows is decoded; a mark of its own goes."""
    assert text_of(write("a", "é à\n".encode(encoding)), encoding=encoding) == "é à\n"


def test_bytes_are_read_as_they_are(write):
    """At byte level a mark, NULs, and what is not UTF-8 are content."""
    content = b"\xef\xbb\xbf\x00\xff\r\n"
    assert b"".join(read_chunks(write("a", content), "byte")) == content


# ---- chunks


@each(
    "text",
    [
        "the cat, sat on the mat.\r\n" * 120_000,
        "a line without an end , " * 120_000,
        "é中👩" * 800_000,
        "\n" + "x" * (CHUNK + 100) + " yes" + "\n \n" * 300_000,
    ],
    ids=["lines", "one line", "one word", "mixed"],
)
def test_chunks_are_bounded_and_join_to_the_text(write, text):
    """Whatever stands between newlines or spaces, chunks stay small and no character is lost or split."""
    chunks = list(read_text(write("a", text)))
    assert "".join(chunks) == text
    assert len(chunks) > 1 and max(map(len, chunks)) <= 4 * CHUNK


@each("tokenizer", ["default", "whitespace"])
@each("separator", [" ", "\n", "\r\n", "\t "])
def test_no_token_spans_two_chunks(write, monkeypatch, tokenizer, separator):
    """Encoding chunk by chunk gives what encoding the whole text gives, wherever the blocks of bytes end."""
    text = separator.join("don't , naïve . the (中文字)  <unk> snake_case".split(" ") * 20)
    vocabulary = Vocabulary.build([text], "word", tokenizer)
    path = write("a", text)
    for size in range(20, 40):
        monkeypatch.setattr(sources, "CHUNK", size)
        chunks = list(read_text(path))
        assert len(chunks) > 5
        ids = np.concatenate([vocabulary.encode(chunk) for chunk in chunks])
        np.testing.assert_array_equal(ids, vocabulary.encode(text))


def test_small_files_are_gathered(write, tmp_path):
    """A thousand tiny files make one chunk, not a thousand."""
    for i in range(1000):
        write(f"many/{i:04}", f"{i} ")
    assert list(read_text(tmp_path / "many")) == ["".join(f"{i} " for i in range(1000))]


# ---- what is refused


def test_missing_file(tmp_path):
    """The path is named."""
    assert message_of(read_text, tmp_path / "no") == f"{tmp_path / 'no'} cannot be read: No such file or directory."


@pytest.mark.parametrize("level", ["char", "byte"])
def test_nothing_to_read(write, level):
    """Empty files, or no files at all, are no corpus."""
    path = write("empty", "")
    assert message_of(read_chunks, path, level) == f"the text is empty: there is nothing to read in {path}."
    assert message_of(read_chunks, [], level) == "the text is empty: there is nothing to read in no files."


def test_a_lone_mark_is_an_empty_text(write):
    """A file that is only a byte order mark holds no text."""
    assert "is empty" in message_of(read_text, write("a", "\ufeff"))


def test_folder_without_files(write, tmp_path):
    """Hidden files do not count, and the error says so."""
    write("folder/.hidden", "x")
    assert "folder is a folder without files (hidden ones are skipped)" in message_of(read_text, tmp_path / "folder")


@each("how", ["read_text", "read_each", "read_documents", "rereadable"])
def test_standard_input_named_twice(how, stdin):
    """The second time nothing would be left of it: whoever reads says so, and does not go on with half of the text."""
    stdin(b"abc")
    call = {"read_text": read_text, "read_each": partial(read_each, level="char")}.get(how)
    call = call or {"read_documents": partial(read_documents, level="char", kind="line")}.get(how)
    call = call or partial(rereadable, encoding="utf-8", open_files=ExitStack())
    assert message_of(call, ["-", "-"]) == "standard input can be read only once; name '-' once."


@posix_only
def test_devices_and_pipes(tmp_path):
    """A device or FIFO is refused before it is opened, with the way out."""
    os.mkfifo(tmp_path / "fifo")
    for path in ("/dev/null", tmp_path / "fifo"):
        message = message_of(read_text, path)
        assert message.startswith(f"{path} is neither a regular file nor a folder;") and "name it '-'" in message


@posix_only
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may read everything")
def test_permission_denied(write, tmp_path):
    """A file or folder that may not be read is named."""
    path = write("folder/a", "x")
    os.chmod(path, 0)
    assert message_of(read_text, path) == f"{path} cannot be read: Permission denied."
    os.chmod(tmp_path / "folder", 0)
    try:
        message = message_of(read_text, tmp_path / "folder")
    finally:
        os.chmod(tmp_path / "folder", 0o700)
    assert message == f"{tmp_path / 'folder'} cannot be read: Permission denied."


def closed(folder, monkeypatch):
    """Let a folder be one that may not be opened, also for root."""
    scandir = os.scandir

    def denied(path):
        if Path(path) == folder:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)


READING_A_FOLDER = {
    "read_text": lambda folder: [*read_text(folder)],
    "load_corpus": lambda folder: load_corpus(folder, level="char"),
    "the validation text": lambda folder: load_corpus(folder / "a", valid_paths=folder, level="char"),
    "read_each": lambda folder: [*read_each(folder, "char")],
    "read_documents": lambda folder: [*read_documents(folder, "char", "line")],
    "rereadable": lambda folder: rereadable([folder], "utf-8", ExitStack()),
    "read_labelled": lambda folder: nblstm.read_labelled(folder),
}


@each("how", READING_A_FOLDER)
def test_a_folder_within_a_folder_that_may_not_be_opened(how, write, monkeypatch):
    """Whoever reads a folder is told which one in it is closed, and reads no part of the text in silence."""
    folder = Path(write("folder/a", "one\ttwo\n" * 9)).parent
    write("folder/more/deep/b", "three\tfour\n" * 9)
    closed(folder / "more" / "deep", monkeypatch)
    with pytest.raises(TextError, match="folder/more/deep cannot be read: Permission denied"):
        READING_A_FOLDER[how](folder)


@posix_only
def test_a_link_to_nothing_within_a_folder(write, tmp_path):
    """A file that is named but not there is text that would be missing: it is said."""
    write("folder/a", "one")
    (tmp_path / "folder" / "b").symlink_to(tmp_path / "gone")
    message = message_of(read_text, tmp_path / "folder")
    assert message == f"{tmp_path / 'folder' / 'b'} cannot be read: No such file or directory."


@each("before", [0, 5, CHUNK - 1, CHUNK, 2 * CHUNK + 3])
@each("bad", [b"\xff", b"\xc3(", b"\xe4\xb8"], ids=["never", "broken", "cut off"])
def test_invalid_utf8_names_file_and_byte(write, before, bad):
    """The offset is that of the first bad byte in the file, also across blocks and at the end."""
    path = write("a", b"x" * before + bad)
    message = message_of(read_text, path)
    assert message.startswith(f"{path} is not utf-8 text at byte {before};")
    assert 'encoding="cp1252"' in message and 'level="byte"' in message


@each("encoding", ["utf-9", "hex", "rot13", "", "a\0b", "undefined"])
def test_unknown_encoding(write, encoding):
    """Not a codec, or not one for text."""
    message = message_of(read_text, write("a", "x"), encoding=encoding)
    assert message == f"encoding must be one that Python knows, such as utf-8, got {encoding!r}."


@each(
    "damage",
    [
        lambda data: data[:-9],
        lambda data: b"no" + data,
        lambda data: data[:-8] + b"x" * 8,
        lambda data: data[:10] + b"\xff" * (len(data) - 10),
    ],
    ids=["cut off", "not gzip", "wrong checksum", "not deflated"],
)
def test_damaged_gzip(write, damage):
    """Every way of being damaged is the same clear error."""
    path = write("a.gz", damage(gzip.compress(os.urandom(1000).hex().encode())))
    assert message_of(read_text, path).startswith(f"{path} is not an intact gzip file (")


def test_binary_file(write):
    """NULs at char or word level are taken for a binary file; the way out is named."""
    path = write("a", b"ELF\0\0")
    message = message_of(read_text, path)
    assert message.startswith(f"{path} looks like a binary file") and 'level="byte"' in message


def test_nul_in_a_path():
    """A name that no file can have is refused as a missing one is."""
    assert "cannot be a file's name" in message_of(read_text, "a\0b")


# ---- load_corpus


def test_split_is_contiguous_by_characters(write):
    """The first int(n * 0.9) characters train, the rest validates, and the vocabulary comes from the first alone."""
    text = "héllo wörld\r\n" * 20 + "Z" * 5
    corpus = load_corpus(write("a", text), newline="keep")
    cut = int(len(text) * 0.9)
    assert corpus.vocabulary == Vocabulary.build([text[:cut]], "char")
    np.testing.assert_array_equal(corpus.train, corpus.vocabulary.encode(text[:cut]))
    np.testing.assert_array_equal(corpus.valid, corpus.vocabulary.encode(text[cut:]))
    assert (corpus.train_characters, corpus.valid_characters) == (cut, len(text) - cut)
    assert (corpus.train_unknown, corpus.valid_unknown) == (0, 5)
    assert corpus.train.dtype == corpus.valid.dtype == np.uint8


@each("fraction", [0.0, 0.001, 0.25, 0.5, 0.9])
@each("level", ["char", "word", "byte"])
def test_training_and_validation_text_join_to_the_text(write, monkeypatch, level, fraction):
    """Nothing is lost or read twice at the split, wherever it falls in a chunk."""
    text = "".join(f"line {i % 7}, naïve\n" for i in range(40))
    monkeypatch.setattr(sources, "CHUNK", 64)
    known = Vocabulary.build([text], level)
    corpus = load_corpus(write("a", text), valid_fraction=fraction, level=level, vocabulary=known)
    assert known.decode(np.concatenate([corpus.train, corpus.valid])) == text
    length = len(text.encode()) if level == "byte" else len(text)
    assert corpus.train_characters + corpus.valid_characters == length
    assert 0 <= int(length * (1 - fraction)) - corpus.train_characters <= (30 if level == "word" else 0)


def test_words_are_not_cut_by_the_split(write):
    """At word level the split moves back to the last border of two tokens."""
    lines = load_corpus(write("a", "one two\nthree four\nfive six"), level="word", valid_fraction=0.3)
    assert lines.vocabulary.decode(lines.train) == "one two\nthree four"
    line = load_corpus(write("b", "one two three four five six"), level="word", valid_fraction=0.3)
    assert line.vocabulary.decode(line.train) == "one two three four"
    assert line.valid_characters == len(" five six")
    inside = load_corpus(write("c", "one two three four five six"), level="word", valid_fraction=0.4)
    assert inside.vocabulary.decode(inside.train) == "one two three"


def test_bytes_of_any_kind(write):
    """At byte level the ids are the file's bytes, split by bytes."""
    content = bytes(range(256))[::-1]
    corpus = load_corpus(write("a", content), level="byte", valid_fraction=0.25)
    assert corpus.train.tobytes() == content[:192] and corpus.valid.tobytes() == content[192:]
    assert (corpus.train_characters, corpus.valid_characters, corpus.valid_unknown) == (192, 64, 0)


def test_validation_files(write):
    """With valid_paths all of paths trains, and the fraction means nothing."""
    corpus = load_corpus(write("a", "abab"), valid_paths=[write("b", "bz"), write("c", "a")], valid_fraction=0.5)
    assert corpus.vocabulary.tokens == ("<unk>", "a", "b")
    assert corpus.train.tolist() == [1, 2, 1, 2] and corpus.valid.tolist() == [2, 0, 1]
    assert corpus.valid_unknown == 1


def test_a_given_vocabulary_is_used_as_it_is(write):
    """To resume or fine-tune: level and tokenizer are the vocabulary's, new words are counted as unknown."""
    known = Vocabulary.build(["the cat\n"], "word", "whitespace")
    corpus = load_corpus(write("a", "the  dog\nthe cat\n"), vocabulary=known, valid_fraction=0)
    assert corpus.vocabulary is known
    assert known.decode(corpus.train) == "the <unk>\nthe cat\n"
    assert (corpus.train_unknown, len(corpus.valid)) == (1, 0)


def test_settings_reach_the_vocabulary(write):
    """level, tokenizer, min_count and max_vocab are those of Vocabulary.build; the ids take the type it needs."""
    text = " ".join(f"w{i} w{i}" for i in range(400)) + " once"
    options = dict(level="word", tokenizer="whitespace", min_count=2, max_vocab=300)
    corpus = load_corpus(write("a", text), valid_fraction=0, **options)
    built = dataclasses.replace(Vocabulary.build([text], **options), newline="lf")
    assert corpus.vocabulary == built and len(corpus.vocabulary) == 300
    assert corpus.train.dtype == np.uint16 and corpus.train_unknown == 801 - 598


@pytest.mark.parametrize("level", ["char", "byte"])
def test_standard_input_can_be_a_corpus(stdin, write, level):
    """It is read once, though the text is needed three times, and gives what the same file gives."""
    content = ("naïve text\n" * 200_000).encode()
    stdin(content)
    assert load_corpus("-", level=level).fingerprint == load_corpus(write("a", content), level=level).fingerprint


def test_standard_input_only_once(stdin):
    """It cannot be both the training and the validation text."""
    stdin(b"abc")
    with pytest.raises(TextError, match="standard input can be read only once"):
        load_corpus("-", valid_paths="-")


def test_gz_corpus(write):
    """A packed corpus is the corpus."""
    packed = write("b.gz", gzip.compress(b"some text\n" * 100))
    assert load_corpus(packed).fingerprint == load_corpus(write("a", "some text\n" * 100)).fingerprint


def test_fingerprint_tells_corpora_apart(write):
    """It changes with any id, with the split and with the vocabulary, and with nothing else."""
    path = write("a", "abcabcabca")
    prints = [
        load_corpus(path).fingerprint,
        load_corpus(write("b", "abcabcabcb")).fingerprint,
        load_corpus(path, valid_fraction=0.2).fingerprint,
        load_corpus(write("c", "xbcxbcxbcx")).fingerprint,
        load_corpus(path, level="byte").fingerprint,
    ]
    assert len(set(prints)) == len(prints)
    assert load_corpus([write("d", "abca"), write("e", "bcabca")]).fingerprint == prints[0]


def test_fingerprint_does_not_depend_on_chunks(write, monkeypatch):
    """A resumed run may read the same text in other pieces."""
    path = write("a", "the cat sat on the mat. " * 50)
    whole = load_corpus(path, level="word").fingerprint
    monkeypatch.setattr(sources, "CHUNK", 50)
    assert load_corpus(path, level="word").fingerprint == whole


@pytest.mark.parametrize("text, tokens", [("a", 0), ("ab", 1)])
def test_too_short_a_training_text(write, text, tokens):
    """One token predicts nothing."""
    with pytest.raises(TextError, match=f"at least 2 tokens, one to predict the other from, got {tokens}; add text"):
        load_corpus(write("a", text))


def test_a_text_whose_tokens_are_all_rare_is_refused(write):
    """A vocabulary of <unk> alone teaches nothing."""
    with pytest.raises(TextError, match="no token of the training text occurs min_count times; lower min_count"):
        load_corpus(write("rare.txt", "every word differs " * 3), level="word", min_count=9)


def test_two_tokens_are_a_corpus(write):
    """The smallest text there can be."""
    assert load_corpus(write("a", "ab"), valid_fraction=0).train.tolist() == [1, 2]


@pytest.mark.parametrize("fraction", [-0.1, 1, float("nan")])
def test_valid_fraction_out_of_range(write, fraction):
    """The error names the rule and the value."""
    with pytest.raises(ConfigError, match="valid_fraction must be at least 0 and less than 1, got"):
        load_corpus(write("a", "abc"), valid_fraction=fraction)


# ---- disk and memory


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_disk_names_the_folder(write, monkeypatch):
    """Running out of space is an error of one line that says where, and how to go elsewhere."""
    folder = tempfile.gettempdir()
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda: open("/dev/full", "w+b"))
    with pytest.raises(TextError) as error:
        load_corpus(write("a", "abc" * 100_000))
    assert str(error.value) == (
        f"the corpus cannot be written to {folder}: No space left on device; make room there or set TMPDIR to a folder "
        "that has some."
    )


def test_no_usable_temporary_folder(write, monkeypatch):
    """So is a system without any folder for temporary files."""

    def fail():
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "TemporaryFile", fail)
    with pytest.raises(TextError, match="No usable temporary directory found; make room there or set TMPDIR"):
        load_corpus(write("a", "abc"))


@posix_only
def test_nothing_is_left_in_the_temporary_folder(write, tmp_path, monkeypatch):
    """The ids have no name on disk even while they are in use, so nothing can be left behind."""
    path = write("a", "abc" * 1000)
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    corpus = load_corpus(path)
    assert list(folder.iterdir()) == [] and len(corpus.train) == 2700


def test_ids_are_read_only_and_survive_release(write):
    """Released pages come back from disk with the same ids; nobody can change them."""
    text = "the cat " * 10_000
    corpus = load_corpus(write("a", text))
    before = hashlib.sha256(corpus.train).digest()
    corpus.release()
    assert hashlib.sha256(corpus.train).digest() == before
    with pytest.raises(ValueError):
        corpus.train[0] = 0


GROWTH = """
import sys
from nblstm.text.corpus import load_corpus
from nblstm.text.kinds import BEGIN

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) // 1024

start = peak()
corpus = load_corpus(sys.argv[1])
for k in range(0, len(corpus.train), 1 << 22):
    corpus.train[k : k + (1 << 22)].max()
    corpus.release()
print(peak() - start)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_corpus(write):
    """Loading 96 MiB and reading all of its ids takes less than 48 MiB."""
    path = write("a", b"To be, or not to be: that is the question.\n" * (96 * CHUNK // 43))
    done = subprocess.run([sys.executable, "-c", GROWTH, path], capture_output=True, text=True, check=True, timeout=120)
    assert int(done.stdout) < 48


# ---- the split of words


def word_corpus(write, text, tokenizer="default", fraction=0.1):
    corpus = load_corpus(
        write("words", text), level="word", tokenizer=tokenizer, valid_fraction=fraction, newline="keep"
    )
    return corpus, int(len(text) * (1 - fraction))


@each(
    "text",
    [
        "a header line\n" + " ".join(f"w{k % 50}" for k in range(20_000)),
        "\n".join(" ".join(f"w{k % 50}" for k in range(7_000)) for _ in range(3)),
        "\t".join(f"word{k % 50}" for k in range(20_000)),
        "\r\n".join(f"a line, {k % 50}" for k in range(2_000)),
    ],
    ids=["header and one line", "three lines", "tabs", "CRLF"],
)
@each("tokenizer", ["default", "whitespace"])
def test_words_are_split_where_the_fraction_says(write, text, tokenizer):
    """Whatever the lines, training and validation take their shares to a word, and no word or line end is cut."""
    corpus, place = word_corpus(write, text, tokenizer)
    assert 0 <= place - corpus.train_characters <= 8 and corpus.valid_unknown <= 1
    whole = Vocabulary.build([text], "word", tokenizer).split(text)
    parts = [
        corpus.vocabulary.split(part) for part in (text[: corpus.train_characters], text[corpus.train_characters :])
    ]
    assert [*parts[0], *parts[1]] == list(whole)
    assert not (text[: corpus.train_characters].endswith("\r") and text[corpus.train_characters :].startswith("\n"))


@each("tokenizer", ["default", "whitespace"])
@each("fraction", [0.05, 0.21, 0.5, 0.83])
def test_the_split_is_the_last_border_of_two_tokens(write, monkeypatch, tokenizer, fraction):
    """It is where the tokens' own ends say, computed from the whole text, wherever the chunks end."""
    text = "don't ,naïve\t\t(中文字，中)  x_y\r\n.\ra 'b''c " * 9
    monkeypatch.setattr(sources, "CHUNK", 29)
    corpus, place = word_corpus(write, text, tokenizer, fraction)
    tokens = list(PATTERNS[tokenizer].finditer(text))
    borders = {p for p in range(len(text) + 1) if not any(t.start() < p < t.end() for t in tokens)}
    borders -= {p for p in borders if text[p - 1 : p + 1] == "\r\n"}
    assert corpus.train_characters == max(p for p in borders if p <= place)


def test_runs_that_were_split_at_a_line_go_on(write):
    """The older rule is there for them: after the last newline, else before the last space."""
    text = "one two\nthree four\nfive six"
    corpus = load_corpus(write("a", text), level="word", valid_fraction=0.3, split_at="line")
    assert corpus.vocabulary.decode(corpus.train) == "one two\n"


def test_a_run_that_was_split_at_a_line_is_resumed(write, tmp_path, monkeypatch):
    """Its text is the one it was started on."""
    text, session = "".join(f"line {k % 7} of words\n" for k in range(60)), "nblstm.tasks.language.run.load_corpus"
    settings = dict(level="word", hidden_size=8, num_layers=1, batch_size=4, bptt=8, threads=1)
    with monkeypatch.context() as before:
        before.setattr(session, partial(load_corpus, split_at="line"))
        nblstm.train(write("a", text), tmp_path / "m.safetensors", **settings, steps=2)
    nblstm.train(output=tmp_path / "m.safetensors", resume=True, steps=4)
    with open(tmp_path / "m.metrics.csv") as rows:
        assert rows.read().splitlines()[-1].startswith("4,")


# ---- how often a text is read


class CountedFile(io.FileIO):
    """A file that adds each opening, and the bytes read of it, to counters of its name."""

    opened, bytes_read = Counter(), Counter()

    def __init__(self, path):
        super().__init__(path)
        self.opened[path.name] += 1

    def read(self, size=-1):
        block = super().read(size)
        self.bytes_read[os.path.basename(self.name)] += len(block)
        return block


@pytest.fixture
def reads(monkeypatch):
    """reads(run) is how often each file is opened while run() makes a session and saves it, and the bytes read of it."""
    monkeypatch.setattr(sources, "_file_source", lambda path: Source(str(path), partial(CountedFile, path)))

    def reads(run):
        CountedFile.opened.clear(), CountedFile.bytes_read.clear()
        with run() as session:
            session.save()
        return dict(CountedFile.opened), dict(CountedFile.bytes_read)

    return reads


@pytest.mark.parametrize("held_out", ["a share", "a file", "nothing"])
@pytest.mark.parametrize("documents", [None, "line", "blank-line", "file"])
@pytest.mark.parametrize("level", ["char", "word", "byte", "subword"])
def test_a_text_is_read_at_most_twice(write, tmp_path, reads, level, documents, held_out):
    """A new run, one from a model, one whose vocabulary grows, one resumed: once, and once more for a share's length."""
    text = "one two, three\n\nfour\n" * 40
    paths = [write(f"texts/{name}.txt", text) for name in "ab"]
    valid = [write("valid.txt", "three one\n")] if held_out == "a file" else []
    times = 2 if held_out == "a share" else 1
    shape = {"hidden_size": 8, "num_layers": 1}
    settings = TextConfig(level=level, documents=documents, valid_fraction=0.0 if held_out == "nothing" else 0.5)
    chosen = settings if level == "byte" else dataclasses.replace(settings, min_count=2, max_vocab=270)
    train = TrainConfig(batch_size=2, bptt=8)

    def starts(name, text=settings, **options):
        return lambda: Session.start(paths, tmp_path / name, valid=valid, config=train, text=text, **options)

    new = tmp_path / "new.safetensors"
    runs = {
        "new": starts("new.safetensors", chosen, model=shape),
        "from a model": starts("from.safetensors", init_from=new),
        "growing": starts("grown.safetensors", chosen, init_from=new, extend_vocabulary=True),
        "resumed": lambda: Session.resume(new),
    }
    for name, run in runs.items():
        opened, size = reads(run)
        assert opened == {"a.txt": times, "b.txt": times, **({"valid.txt": 1} if valid else {})}, name
        assert size["a.txt"] == times * len(text), name


def test_of_a_folder_first_bytes_are_looked_at(write, tmp_path, reads):
    """Whether its files hold text is told by these; then it is read as a file is."""
    text = b"one two three four\n" * (2 * CHUNK // 19)
    write("texts/a.txt", text)
    settings = {"text": TextConfig(valid_fraction=0.5), "model": {"hidden_size": 8, "num_layers": 1}}
    _, size = reads(lambda: Session.start([str(tmp_path / "texts")], tmp_path / "m.safetensors", **settings))
    assert size == {"a.txt": 2 * len(text) + BEGIN}


@each(
    "task, name, text",
    [
        ("classification", "corpus", "good one\tup\nbad one\tdown\n"),
        ("tagging", "corpus", "Ann NAME\nruns VERB\n\n"),
        ("translation", "corpus", "one two\teins zwei\nthree\tdrei\n"),
    ],
)
def test_examples_are_read_once(write, tmp_path, reads, task, name, text):
    """Also where a share of them is kept for validation: there are few enough to be held."""
    path, output = write(f"{task}.txt", text * 10), tmp_path / f"{task}.safetensors"
    shape = {"hidden_size": 8, "num_layers": 1, "embedding_size": 8}
    for run in (
        lambda: Session.start([path], output, task=task, model=shape, overwrite=True),
        lambda: Session.start([path], tmp_path / "other.safetensors", task=task, init_from=output, overwrite=True),
        lambda: Session.resume(output),
    ):
        assert reads(run) == ({f"{task}.txt": 1}, {f"{task}.txt": 10 * len(text)})


def test_standard_input_is_read_once(monkeypatch):
    """Also where a share of it is kept for validation, which takes a second look at what was read."""
    source = io.BytesIO(b"one two\n" * 50)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=source))
    assert len(load_corpus("-", valid_fraction=0.5).train) == 200
    assert not source.closed and source.read() == b""


# ---- ids of a vocabulary that is built on the way


def plain_ids(parts, level, documents, min_count, max_vocab):
    """(vocabulary tokens, ids of each part), counted and looked up token by token."""
    tokens_of = list if level == "char" else PATTERNS["default"].findall
    counts = Counter(token for text in parts[0] for token in tokens_of(text))
    specials = ["<unk>", "<end>"] if documents else ["<unk>"]
    ranked = sorted((token for token in counts if counts[token] >= min_count), key=lambda word: (-counts[word], word))
    kept = ranked[: None if max_vocab is None else max_vocab - len(specials)]
    tokens = [*specials, *(sorted(kept) if level == "char" else kept)]
    place = {token: id for id, token in enumerate(tokens)}
    ids = [[[place.get(token, 0) for token in tokens_of(text)] for text in part] for part in parts]
    joined = [[1, *chain.from_iterable([*text, 1] for text in part)] if documents else sum(part, []) for part in ids]
    return tokens, joined


@pytest.mark.parametrize("min_count, max_vocab", [(1, None), (2, None), (1, 40)])
@pytest.mark.parametrize("documents", [None, "line"])
@pytest.mark.parametrize(
    "level, distinct", [("char", 30), ("char", 254), ("char", 600), ("word", 300), ("word", 70_000)]
)
def test_ids_are_those_of_a_plain_count(write, monkeypatch, level, distinct, documents, min_count, max_vocab):
    """Whatever type the ids take on the way, wherever chunks end: tokens by rank, ids by place, the rest unknown."""
    monkeypatch.setattr(sources, "CHUNK", 1 << 12)
    monkeypatch.setattr(corpus_module, "MOST_UNKNOWN", 1.0)
    numbers = [*range(distinct), *range(0, distinct, 3), *range(20)]
    token = (lambda k: chr(0x4E00 + k)) if level == "char" else (lambda k: f"w{k}")
    train = [" ".join(token(k) for k in numbers[i : i + 50]) for i in range(0, len(numbers), 50)]
    valid = [" ".join(token(distinct - 5 + k) for k in range(10))]
    ends = "" if documents else "\n"
    parts = [[line + ends for line in lines] for lines in (train, valid)]
    files = [write(name, "\n".join(lines) + "\n") for name, lines in (("a", train), ("b", valid))]
    corpus = load_corpus(
        files[0], valid_paths=files[1], level=level, documents=documents, min_count=min_count, max_vocab=max_vocab
    )
    tokens, (train_ids, valid_ids) = plain_ids(parts, level, documents, min_count, max_vocab)
    assert list(corpus.vocabulary.tokens) == tokens
    assert corpus.train.tolist() == train_ids and corpus.valid.tolist() == valid_ids
    assert corpus.train.dtype == corpus.vocabulary.dtype and corpus.train_unknown == train_ids.count(0)


# ---- what the vocabulary does not know


def test_a_text_that_is_all_unknown_is_refused(write):
    """Training on 20,000 of 20,000 unknown characters would teach nothing: it says so."""
    known = Vocabulary.build(["latin letters\n"], "char")
    message = message_of(load_corpus, write("a", "привет" * 4000), vocabulary=known, valid_fraction=0.1)
    assert message.startswith("21,600 of the training text's 21,600 tokens are not in the vocabulary of the model")
    kept = message_of(load_corpus, write("b", " ".join(f"w{k}" for k in range(900))), level="word", max_vocab=2)
    assert "899" not in kept and kept.endswith("lower min_count, raise max_vocab, or choose another level.")


def test_unknown_tokens_are_told(write):
    """A share worth a word is told in a sentence, for a vocabulary that was given; documents count without <end>."""
    told = []
    known = Vocabulary.build(["abc\n"], "char", ends=True)
    corpus = load_corpus(write("a", "abx\n" * 50), vocabulary=known, documents="line", on_message=told.append)
    assert (corpus.train_unknown, corpus.train_tokens) == (45, 135)
    assert told == ["the vocabulary does not know 33.3 % of the training text's tokens; they are read as <unk>."]
    load_corpus(write("b", "abc\n" * 50), vocabulary=known, documents="line", on_message=told.append)
    assert len(told) == 1


def test_a_default_bound_on_the_vocabulary(write, monkeypatch):
    """Without max_vocab a text of very many words keeps the most frequent, and says so; with it nothing is said."""
    monkeypatch.setattr(corpus_module, "DEFAULT_MAX_VOCAB", 100)
    told, path = [], write("a", " ".join(f"w{k} common" for k in range(500)))
    corpus = load_corpus(path, level="word", valid_fraction=0, on_message=told.append)
    assert len(corpus.vocabulary) == 100 and " common" in corpus.vocabulary.tokens
    assert len(told) == 1 and told[0].startswith("the vocabulary keeps the 100 most frequent tokens, ")
    assert (
        len(load_corpus(path, level="word", max_vocab=300, on_message=told.append).vocabulary) == 300 and len(told) == 1
    )


def test_one_long_word_is_named(write):
    """Chinese at word level: the message says that all is one word, not that text is missing."""
    for text in ("中文" * 5000, "中文" * 5000 + "\n"):
        message = message_of(load_corpus, write("a", text), level="word", tokenizer="whitespace")
        if text.endswith("\n"):
            assert "2 tokens" in message
        else:
            assert "all of the text is one word of 10,000 characters" in message and "level char or byte" in message


# ---- a text that changes, and one that never ends


class Changing:
    """A text that is another one from its k-th reading on."""

    def __init__(self, first, then, k):
        self.first, self.then, self.left = first, then, k

    def __call__(self):
        self.left -= 1
        return io.BytesIO(self.first if self.left >= 0 else self.then)


@each("level", ["char", "word", "byte"])
@each("then", [b"b b\n" * 99, b"a b\n" * 98, b"a b\n" * 100, b"", b"a b\n" * 98 + b"a c\n"])
def test_a_text_that_changes_between_two_passes(level, then):
    """Other characters, more or fewer: the second pass stops where it meets them, and names the file."""
    source = Source("a.txt", Changing(b"a b\n" * 99, then, 1))
    message = message_of(load_corpus, [source], level=level)
    assert message == "a.txt has changed while it was read; use a copy that nothing writes to."


def test_a_file_that_grows_between_two_passes(write, monkeypatch):
    """A log that is still written to; a new file in a folder does not count, as files are listed once."""
    path, cut = write("folder/a.log", "a line\n" * 50), corpus_module.cut_in_two

    def grown(*arguments):
        with open(path, "a") as file:
            file.write("another\n")
        return cut(*arguments)

    def joined(*arguments):
        write("folder/b.log", "not there at first")
        return cut(*arguments)

    monkeypatch.setattr(corpus_module, "cut_in_two", joined)
    assert load_corpus(os.path.dirname(path)).train_unknown == 0
    os.remove(os.path.join(os.path.dirname(path), "b.log"))
    monkeypatch.setattr(corpus_module, "cut_in_two", grown)
    assert "a.log has changed while it was read" in message_of(load_corpus, path)


@posix_only
@pytest.mark.parametrize("level", ["char", "byte"])
def test_a_device_that_never_ends(monkeypatch, level):
    """/dev/zero is refused as a file, as standard input, and where a pipe carries it, at levels of text."""
    with open("/dev/zero", "rb") as zero:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=zero))
        message = message_of(load_corpus, "-", level=level)
        assert message == "standard input is a device that never ends; name a file or pipe a text into it."
    assert "neither a regular file nor a folder" in message_of(load_corpus, "/dev/zero", level=level)


@posix_only
def test_zeros_from_a_pipe_are_no_text(monkeypatch):
    """They are refused at once, not copied until the disk is full."""
    with subprocess.Popen(["cat", "/dev/zero"], stdout=subprocess.PIPE) as process:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=process.stdout))
        assert "standard input looks like a binary file" in message_of(load_corpus, "-")
        process.kill()


def test_a_document_too_long_to_hold(write, monkeypatch):
    """A line beyond any that is held in memory is refused by file and line; as a stream it is read."""
    monkeypatch.setattr("nblstm.text.documents.LONGEST_TRAINED", 1000)
    path = write("a", "short\n" + "x" * 1001)
    for kind in ("line", "blank-line", "file"):
        message = message_of(load_corpus, path, documents=kind)
        assert message.startswith(f"{path} has a document at line ") and "longer than 1,000 characters" in message
    assert len(load_corpus(path, valid_fraction=0).train) == 1007


@pytest.mark.parametrize("task", ["language", "classify", "tag", "translate"])
def test_an_encoding_that_python_does_not_know_is_a_sentence(task, tmp_path):
    """Whatever reads the files."""
    (tmp_path / "corpus.txt").write_text("a b\tx\nb a\ty\n" * 5, encoding="utf-8")
    with pytest.raises(TextError, match="encoding must be one that Python knows"):
        nblstm.train(tmp_path / "corpus.txt", tmp_path / "m.safetensors", task=task, encoding="klingon", steps=1)
    with pytest.raises(TextError, match="(no|least)"):
        nblstm.train([], tmp_path / "m.safetensors", task=task, steps=1)


@each("name", ["a.csv", "b.JSONL", "c.jsonl.gz", "d.txt"])
def test_a_table_that_is_read_as_text_is_told(name, tmp_path):
    """What is learned then are its commas, quotes and names of columns, which hardly anybody wants; a text is no table."""
    told, content = [], b'{"text": "to be"}\n' * 50
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    load_corpus(tmp_path / name, on_message=told.append)
    assert [line.endswith("text_column names the column whose texts to learn.") for line in told] == [True] * (
        name[0] != "d"
    )
    load_corpus(tmp_path / name, documents="row", text_column="text", on_message=told.append) if name[
        0
    ] in "bc" else None
    assert len(told) == (name[0] != "d")
