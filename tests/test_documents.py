"""Documents: where they end in a file, how a corpus holds them, and the token between them."""

import json
from itertools import pairwise

import numpy as np
import pytest
from support.cases import each

from nblstm.errors import ConfigError, ModelFileError, TextError
from nblstm.text import sources
from nblstm.text.corpus import load_corpus
from nblstm.text.documents import split
from nblstm.text.reading import read_documents
from nblstm.text.vocabulary import END, LEVELS, UNK, Vocabulary

ENDS = {"char": 1, "word": 1, "byte": 256, "subword": 256}


@pytest.fixture
def write(tmp_path):
    """write(name, text) puts a file under the test's folder and returns its path."""

    def write(name, text):
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(tmp_path / name)

    return write


# ---------------------------------------------------------------- where they end


@each(
    "kind, text, documents",
    [
        ("line", "a\nb c\n\n \t\n d \n", ["a", "b c", " d "]),
        ("line", "a\r\n\r\nb\r\n", ["a", "b"]),
        ("line", "a", ["a"]),
        ("line", "a\rb\n", ["a", "b"]),
        ("line", "\n\n", []),
        ("blank-line", "a\nb\n\nc\n", ["a\nb", "c"]),
        ("blank-line", "\n\n a\n \n\n\t\nb\nc", [" a", "b\nc"]),
        ("blank-line", "a\r\nb\r\n\r\nc\r\n", ["a\r\nb", "c"]),
        ("blank-line", "", []),
        ("file", "a\n\nb\n", ["a\n\nb\n"]),
        ("file", "", []),
    ],
)
def test_documents_by_hand(kind, text, documents):
    """Line ends behind a document go, those inside stay, and what is empty is none; so for str as for bytes."""
    assert list(split([text], kind)) == documents
    assert list(split([text.encode()], kind)) == [document.encode() for document in documents]


@pytest.mark.parametrize("kind", ["line", "blank-line", "file"])
def test_where_a_file_is_cut_into_pieces_does_not_matter(kind):
    """Any pieces give the documents of the whole."""
    text = "one\r\n\r\n two\nthree\n\n\n\nfour \r\n \nfive"
    whole = list(split([text], kind))
    for size in (1, 2, 3, 7):
        pieces = [text[k : k + size] for k in range(0, len(text), size)]
        assert list(split(pieces, kind)) == whole


def test_a_files_end_ends_a_document(write, monkeypatch):
    """Files are never joined, empty ones are none, and documents come in lists of about CHUNK characters."""
    paths = [write("a", "one\ntwo"), write("b", "\n"), write("c", "\ufeffthree\n")]
    assert list(read_documents(paths, "char", "line")) == [["one", "two", "three"]]
    monkeypatch.setattr(sources, "CHUNK", 4)
    assert list(read_documents(paths, "byte", "line")) == [[b"one", b"two"], ["\ufeffthree".encode()]]
    with pytest.raises(TextError, match="the text is empty"):
        list(read_documents(paths[1], "char", "line"))


# ---------------------------------------------------------------- the corpus


@pytest.mark.parametrize("level, tokenizer", [("char", "default"), ("byte", "default"), ("word", "whitespace")])
def test_a_corpus_holds_documents_one_after_the_other(write, level, tokenizer):
    """Decoded between their offsets the documents come back; before, between and behind them stands <end> alone."""
    lines = ["ab", "b", "a b a", "naïve"]
    corpus = load_corpus(
        write("a", "\n".join(lines)), level=level, tokenizer=tokenizer, documents="line", valid_fraction=0
    )
    end = corpus.vocabulary.end_id
    assert corpus.train_offsets.dtype == np.int64 and corpus.train.dtype == corpus.vocabulary.dtype
    assert np.flatnonzero(corpus.train == end).tolist() == corpus.train_offsets.tolist()
    assert [corpus.vocabulary.decode(corpus.train[a:b]) for a, b in pairwise(corpus.train_offsets)] == lines
    assert corpus.train_characters == sum(len(line.encode() if level == "byte" else line) for line in lines)
    assert corpus.valid_offsets.tolist() == [0] and corpus.valid.tolist() == [end]


def test_a_document_by_hand(write):
    """<unk> is 0, <end> 1, then the characters: x <end> yx <end>."""
    corpus = load_corpus(write("a", "x\nyx\n"), documents="line", valid_fraction=0)
    assert corpus.vocabulary.tokens == (UNK, END, "x", "y")
    assert corpus.train.tolist() == [1, 2, 1, 3, 2, 1] and corpus.train_offsets.tolist() == [0, 2, 5]


def test_whole_documents_validate(write):
    """The last valid_fraction of them, or those of the files given; the vocabulary comes from the others."""
    path = write("a", "".join(f"{k}\n" for k in range(10)))
    corpus = load_corpus(path, documents="line", valid_fraction=0.3)
    assert corpus.vocabulary.decode(corpus.train) == "0123456"
    assert len(corpus.valid_offsets) == 4 and corpus.valid_unknown == 3
    given = load_corpus(path, valid_paths=[write("b", "3\n\nx4")], documents="line", valid_fraction=0.3)
    assert given.vocabulary.decode(given.valid) == "3<unk>4" and len(given.train_offsets) == 11


def test_a_document_without_a_token_is_left_out(write):
    """Blanks are no words for the whitespace tokenizer: a file of them is no document."""
    corpus = load_corpus(
        [write("a", " \t"), write("b", "one two"), write("c", " ")],
        level="word",
        tokenizer="whitespace",
        documents="file",
        valid_fraction=0,
    )
    assert corpus.train.tolist() == [1, 2, 3, 1] and corpus.train_offsets.tolist() == [0, 3]


def test_words_do_not_span_documents(write):
    """The last word of a line and the first of the next are two, and are counted so."""
    corpus = load_corpus(write("a", "one\ntwo\n"), level="word", documents="line", valid_fraction=0)
    assert set(corpus.vocabulary.tokens) == {UNK, END, "one", "two"}


@pytest.mark.parametrize("level", LEVELS)
def test_the_fingerprint_tells_documents_apart(write, monkeypatch, level):
    """Other borders between the same characters make another corpus; other pieces of the file do not."""
    path, other = write("a", "ab\nc\n" * 9), write("b", "a\nbc\n" * 9)
    options = {"documents": "line", "level": level, "vocabulary": Vocabulary.build(["ab\nc\na\nbc"], level, ends=True)}
    whole = load_corpus(path, **options).fingerprint
    assert whole != load_corpus(other, **options).fingerprint
    monkeypatch.setattr(sources, "CHUNK", 7)
    assert load_corpus(path, **options).fingerprint == whole


def test_nothing_to_train_on(write):
    """One document of which a tenth validates leaves none; the error says what there must be."""
    with pytest.raises(
        TextError, match="at least 1 document with a token in it, got 0; of 1 in all, valid_fraction keeps 1 "
    ):
        load_corpus(write("a", "one"), documents="line")


def test_a_vocabulary_must_fit_what_is_read(write):
    """One with <end> is for documents, one without for a stream; nothing is read before that is said."""
    with pytest.raises(ConfigError, match="documents must say what a text of its own is"):
        load_corpus("missing", vocabulary=Vocabulary.build(["a"], "char", ends=True))
    with pytest.raises(ConfigError, match="documents needs a vocabulary with a token <end>, which this one lacks"):
        load_corpus("missing", vocabulary=Vocabulary.build(["a"], "char"), documents="line")


# ---------------------------------------------------------------- the token between them


@pytest.mark.parametrize("level", LEVELS)
def test_end_has_its_place_and_no_text(level):
    """Id 1, or 256 behind the bytes; it decodes to nothing, and no text encodes to it, also not its own name."""
    vocabulary = Vocabulary.build(["a <end> b"], level, "whitespace", ends=True)
    end = vocabulary.end_id
    assert end == ENDS[level] and vocabulary.tokens[end] == END
    assert len(vocabulary) <= np.iinfo(vocabulary.dtype).max + 1
    ids = vocabulary.encode("a <end> b")
    assert ids.dtype == vocabulary.dtype and end not in ids
    assert vocabulary.decode([*ids, end]) == vocabulary.decode(ids) and vocabulary.decode([end]) == ""
    assert vocabulary.unknown("<end>") == ([END] if level == "word" else [])
    assert Vocabulary.build(["a"], level).end_id is None


def test_the_name_of_end_is_a_word_like_any_other_in_a_stream():
    """A text that writes <end> itself keeps it where there are no documents, file and back."""
    vocabulary = Vocabulary.build(["<end> <end> a"], "word", "whitespace")
    copy = Vocabulary.from_dict(vocabulary.to_dict())
    assert copy == vocabulary and copy.end_id is None and copy.decode(copy.encode("<end> a")) == "<end> a"


def test_decoders_begin_anew_behind_end():
    """No space before the first word of a document; bytes that never became a character are replaced at its end."""
    words = Vocabulary.build(["a b"], "word", "whitespace", ends=True)
    ids = [*words.encode("a b"), words.end_id, *words.encode("b a")]
    decoder = words.decoder()
    assert [decoder.feed(id) for id in ids] == ["a", " b", "", "b", " a"]
    decoder = Vocabulary.build([], "byte", ends=True).decoder()
    assert [decoder.feed(id) for id in (0xC3, 256, 0xA9, 0x41)] == ["", "\ufffd", "\ufffd", "A"]


def test_special_tokens_count_in_max_vocab():
    """Three are <unk>, <end> and the most frequent; fewer leave nothing to say."""
    assert Vocabulary.build(["aab"], "char", max_vocab=3, ends=True).tokens == (UNK, END, "a")
    with pytest.raises(ConfigError, match=r"max_vocab must be at least 3 \(<unk>, <end> and one token\), got 2."):
        Vocabulary.build(["aab"], "char", max_vocab=2, ends=True)


@each("level", LEVELS)
@each("ends", [True, False])
def test_several_texts_are_encoded_at_once(level, ends):
    """The ids of all, one after the other, and the length of each."""
    vocabulary, texts = Vocabulary.build(["ab cd"], level, ends=ends), ["ab", "", "c dé a", "x"]
    ids, lengths = vocabulary.encode_all(texts)
    one_by_one = [vocabulary.encode(text).tolist() for text in texts]
    assert ids.tolist() == sum(one_by_one, []) and lengths.tolist() == list(map(len, one_by_one))
    assert ids.dtype == vocabulary.dtype and lengths.dtype == np.int64
    assert vocabulary.encode_all([])[0].tolist() == []


@pytest.mark.parametrize("level", LEVELS)
def test_end_survives_a_file(level):
    """to_dict, through JSON, gives an equal vocabulary; without <end> the dict is what it always was."""
    vocabulary = Vocabulary.build(["a b"], level, ends=True)
    fields = json.loads(json.dumps(vocabulary.to_dict()))
    assert Vocabulary.from_dict(fields) == vocabulary and fields["end_id"] == ENDS[level]
    assert set(Vocabulary.build(["a b"], level).to_dict()) == {"level", "tokenizer", "tokens"}
    assert vocabulary != Vocabulary.build(["a b"], level)


@each("level", LEVELS)
@each("end_id", [0, 2, -1, None, True, "1", 1.0, [1], 10**400])
def test_a_false_end_is_refused(level, end_id):
    """What is no id, or not that of <end>, is named with the rule."""
    fields = {**Vocabulary.build(["a b"], level, ends=True).to_dict(), "end_id": end_id}
    with pytest.raises(ModelFileError, match=f"end_id must be {ENDS[level]}, that of <end>"):
        Vocabulary.from_dict(fields)


@each(
    "level, tokens",
    [("char", [UNK, "a"]), ("char", [UNK]), ("char", [UNK, "a", END]), ("byte", [chr(k) for k in range(256)])],
)
def test_an_end_without_its_token_is_refused(level, tokens):
    """end_id names <end>, or the file was not written by to_dict."""
    with pytest.raises(ModelFileError, match="that of <end>"):
        Vocabulary.from_dict({"level": level, "tokenizer": "default", "tokens": tokens, "end_id": ENDS[level]})


def test_a_token_end_without_end_id_is_no_character():
    """A char vocabulary of documents that lost its end_id is damaged; one of bytes too."""
    for level in ("char", "byte"):
        fields = Vocabulary.build(["a"], level, ends=True).to_dict()
        del fields["end_id"]
        with pytest.raises(ModelFileError, match="must be single characters|256 bytes in order"):
            Vocabulary.from_dict(fields)
