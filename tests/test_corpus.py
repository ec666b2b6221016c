"""Corpus: what can be read, what is refused and how, the split, and memory."""

import gzip
import hashlib
import io
import os
import subprocess
import sys
import tempfile
from types import SimpleNamespace

import numpy as np
import pytest

from nblstm.errors import ConfigError, TextError
from nblstm.text import corpus as corpus_module
from nblstm.text.corpus import CHUNK, load_corpus, read, read_bytes, read_text
from nblstm.text.vocabulary import Vocabulary

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
    monkeypatch.setattr(corpus_module, "CHUNK", 6)
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
    """"-" is standard input, alone or among files."""
    stdin("naïve\n".encode())
    assert text_of([write("a", "a "), "-"]) == "a naïve\n"


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-16-le", "cp1252", "utf-8-sig", "gb18030"])
def test_other_encodings(write, encoding):
    """An encoding that Python knows is decoded; a mark of its own goes."""
    assert text_of(write("a", "é à\n".encode(encoding)), encoding=encoding) == "é à\n"


def test_bytes_are_read_as_they_are(write):
    """At byte level a mark, NULs, and what is not UTF-8 are content."""
    content = b"\xef\xbb\xbf\x00\xff\r\n"
    assert b"".join(read(write("a", content), "byte")) == content


# ---- chunks


@pytest.mark.parametrize(
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


@pytest.mark.parametrize("tokenizer", ["default", "whitespace"])
@pytest.mark.parametrize("separator", [" ", "\n", "\r\n", "\t "])
def test_no_token_spans_two_chunks(write, monkeypatch, tokenizer, separator):
    """Encoding chunk by chunk gives what encoding the whole text gives, wherever the blocks of bytes end."""
    text = separator.join("don't , naïve . the (中文字)  <unk> snake_case".split(" ") * 20)
    vocabulary = Vocabulary.build([text], "word", tokenizer)
    path = write("a", text)
    for size in range(20, 40):
        monkeypatch.setattr(corpus_module, "CHUNK", size)
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
    assert message_of(read, path, level) == f"the text is empty: there is nothing to read in {path}."
    assert message_of(read, [], level) == "the text is empty: there is nothing to read in no files."


def test_a_lone_mark_is_an_empty_text(write):
    """A file that is only a byte order mark holds no text."""
    assert "is empty" in message_of(read_text, write("a", "\ufeff"))


def test_folder_without_files(write, tmp_path):
    """Hidden files do not count, and the error says so."""
    write("folder/.hidden", "x")
    assert "folder is a folder without files (hidden ones are skipped)" in message_of(read_text, tmp_path / "folder")


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


@pytest.mark.parametrize("before", [0, 5, CHUNK - 1, CHUNK, 2 * CHUNK + 3])
@pytest.mark.parametrize("bad", [b"\xff", b"\xc3(", b"\xe4\xb8"], ids=["never", "broken", "cut off"])
def test_invalid_utf8_names_file_and_byte(write, before, bad):
    """The offset is that of the first bad byte in the file, also across blocks and at the end."""
    path = write("a", b"x" * before + bad)
    message = message_of(read_text, path)
    assert message.startswith(f"{path} is not utf-8 text at byte {before};")
    assert "--encoding" in message and "--level byte" in message


@pytest.mark.parametrize("encoding", ["utf-9", "hex", "rot13", "", "a\0b", "undefined"])
def test_unknown_encoding(write, encoding):
    """Not a codec, or not one for text."""
    message = message_of(read_text, write("a", "x"), encoding=encoding)
    assert message == f"encoding must be one that Python knows, such as utf-8, got {encoding!r}."


@pytest.mark.parametrize(
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
    assert message.startswith(f"{path} looks like a binary file") and "--level byte" in message


def test_nul_in_a_path():
    """A name that no file can have is refused as a missing one is."""
    assert "cannot be a file's name" in message_of(read_text, "a\0b")


# ---- load_corpus


def test_split_is_contiguous_by_characters(write):
    """The first int(n * 0.9) characters train, the rest validates, and the vocabulary comes from the first alone."""
    text = "héllo wörld\r\n" * 20 + "Z" * 5
    corpus = load_corpus(write("a", text))
    cut = int(len(text) * 0.9)
    assert corpus.vocabulary == Vocabulary.build([text[:cut]], "char")
    np.testing.assert_array_equal(corpus.train, corpus.vocabulary.encode(text[:cut]))
    np.testing.assert_array_equal(corpus.valid, corpus.vocabulary.encode(text[cut:]))
    assert (corpus.train_characters, corpus.valid_characters) == (cut, len(text) - cut)
    assert (corpus.train_unknown, corpus.valid_unknown) == (0, 5)
    assert corpus.train.dtype == corpus.valid.dtype == np.uint8


@pytest.mark.parametrize("fraction", [0.0, 0.001, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("level", ["char", "word", "byte"])
def test_training_and_validation_text_join_to_the_text(write, monkeypatch, level, fraction):
    """Nothing is lost or read twice at the split, wherever it falls in a chunk."""
    text = "".join(f"line {i % 7}, naïve\n" for i in range(40))
    monkeypatch.setattr(corpus_module, "CHUNK", 64)
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
    assert corpus.vocabulary == Vocabulary.build([text], **options) and len(corpus.vocabulary) == 300
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
    monkeypatch.setattr(corpus_module, "CHUNK", 50)
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
    done = subprocess.run([sys.executable, "-c", GROWTH, path], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 48
