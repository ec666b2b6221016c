"""Vocabulary: round trips, order, unknown tokens, streaming decoders, and what `from_dict` refuses."""

import json
import random

import numpy as np
import pytest
from support.cases import each
from support.properties import given, st

from nblstm.errors import ConfigError, ModelFileError
from nblstm.text.vocabulary import LEVELS, TOKENIZERS, UNK, Vocabulary

TEXTS = [
    "",
    "the cat sat.\n",
    "  two  blanks\tand a tab \r\nDON'T, don’t!  \n\n",
    "naïve café, Ελληνικά, 中文字符。\u2028\u00a0e\u0301 👩‍🚀\n",
    "snake_case 3.14 'tis (a) [b] {c} <unk> -- ...\n",
    "\0\x1c\x85\ud800 \udcff",
]


def random_text(seed: int, length: int = 300) -> str:
    """Letters, blanks, line ends, punctuation and characters of every UTF-8 length."""
    return "".join(random.Random(seed).choices("ab'’_1 \t\r\n.,é中👩", k=length))


def build(text, level="char", **options):
    return Vocabulary.build([text], level, **options)


# ---- what the tokens are


def test_characters_are_code_points_in_order_after_unk():
    """A char vocabulary is <unk> and then the text's distinct code points by number."""
    vocabulary = build("b👩a\nb")
    assert vocabulary.tokens == (UNK, "\n", "a", "b", "👩")
    assert vocabulary.encode("ab👩").tolist() == [2, 3, 4]
    assert vocabulary.unk_id == 0


def test_bytes_are_their_own_ids():
    """A byte vocabulary has the 256 bytes and no <unk>; ids are the values of the UTF-8 encoding."""
    vocabulary = build("ignored", "byte")
    assert len(vocabulary) == 256 and vocabulary.unk_id is None
    assert vocabulary.encode("é!").tolist() == [0xC3, 0xA9, 0x21]
    assert vocabulary.encode(b"\xff\x00").tolist() == [255, 0]


@each(
    "text, tokens",
    [
        ("the cat, sat\n", ["the", " cat", ",", " sat", "\n"]),
        ("  a \t(b)", [" ", " a", " ", "\t", "(", "b", ")"]),
        ("don't don’t 'x'", ["don't", " don’t", " '", "x", "'"]),
        ("a\r\nb", ["a", "\r", "\n", "b"]),
    ],
)
def test_default_tokenizer_splits_as_by_hand(text, tokens):
    """A word or punctuation mark takes one blank before it along; other white space stands alone."""
    assert build(text, "word").split(text) == tokens


@each("text", TEXTS + [random_text(seed) for seed in range(20)])
def test_default_tokenizer_loses_nothing(text):
    """The tokens of any text, joined, are the text."""
    assert "".join(build("", "word").split(text)) == text


def test_whitespace_tokenizer_keeps_words_and_newlines():
    """Words are what stands between blanks, and newlines are words."""
    vocabulary = build("", "word", tokenizer="whitespace")
    assert vocabulary.split(" = Title = \n a\t b,c\r\n") == ["=", "Title", "=", "\n", "a", "b,c", "\n"]


def test_words_are_ordered_by_falling_count_then_alphabetically():
    """b is seen three times, a and c twice."""
    vocabulary = build("c c b b b a a d", "word", tokenizer="whitespace")
    assert vocabulary.tokens == (UNK, "b", "a", "c", "d")


# ---- building


@pytest.mark.parametrize("level", ["char", "word"])
def test_chunks_count_as_one_text(level):
    """A text given whole or in chunks cut between tokens gives the same vocabulary."""
    chunks = ["the cat\n", "", "sat on\n", "the mat\n"]
    assert Vocabulary.build(chunks, level) == build("".join(chunks), level)


def test_min_count_leaves_rare_tokens_out():
    """Tokens seen fewer than min_count times become <unk>."""
    assert build("aaabbc", min_count=2).tokens == (UNK, "a", "b")
    assert build("x y y", "word", tokenizer="whitespace", min_count=2).tokens == (UNK, "y")


def test_max_vocab_keeps_the_most_frequent_and_counts_unk():
    """A char vocabulary of 3 is <unk> and the two most frequent characters, still ordered by code point."""
    assert build("zzzabbb", max_vocab=3).tokens == (UNK, "b", "z")
    assert build("z z z a b b", "word", tokenizer="whitespace", max_vocab=3).tokens == (UNK, "z", "b")


def test_literal_unk_is_the_unknown_word():
    """<unk> as spelled in WikiText is id 0, once, however often it is seen."""
    vocabulary = build("<unk> <unk> cat", "word", tokenizer="whitespace")
    assert vocabulary.tokens == (UNK, "cat")
    assert vocabulary.encode("<unk> cat").tolist() == [0, 1]
    assert vocabulary.unknown("<unk> cat") == []


@each(
    "arguments, message",
    [
        (dict(level="letter"), "level must be one of char, word, byte, subword, got 'letter'."),
        (dict(level="word", tokenizer="x"), "tokenizer must be one of default, whitespace, got 'x'."),
        (dict(level="char", min_count=0), "min_count must be at least 1, got 0."),
        (dict(level="char", max_vocab=1), "max_vocab must be at least 2 (<unk> and one token), got 1."),
    ],
)
def test_build_refuses_settings_out_of_range(arguments, message):
    """The error names the setting, the rule and the value."""
    with pytest.raises(ConfigError) as error:
        Vocabulary.build(["a"], **arguments)
    assert str(error.value) == message


# ---- encode and decode


@each("text", TEXTS + [random_text(seed) for seed in range(20)])
@each("level", ["char", "word"])
def test_known_text_comes_back(level, text):
    """Blanks, case, line ends, punctuation, NULs and lone surrogates survive encode and decode."""
    vocabulary = build(text, level)
    assert vocabulary.decode(vocabulary.encode(text)) == text
    assert vocabulary.unknown(text) == []


@each("text", TEXTS[:-1] + [random_text(seed) for seed in range(20)])
def test_any_text_comes_back_from_bytes(text):
    """The byte vocabulary knows every text."""
    vocabulary = build("", "byte")
    assert vocabulary.decode(vocabulary.encode(text)) == text


def test_lone_surrogates_do_not_crash_the_byte_vocabulary():
    """A character that UTF-8 cannot hold is encoded and comes back as replacement characters."""
    vocabulary = build("", "byte")
    assert vocabulary.decode(vocabulary.encode("a\ud800b")) == "a\ufffd\ufffd\ufffdb"
    assert vocabulary.unknown("a\ud800b") == []


@each("text", ["", "one two", "\n= Title =\n\nThe <unk> cat .\n", "a\n\n\nb"])
def test_canonical_text_comes_back_from_whitespace_words(text):
    """Single spaces between words and none next to newlines: nothing is lost."""
    vocabulary = build(text, "word", tokenizer="whitespace")
    assert vocabulary.decode(vocabulary.encode(text)) == text


def test_whitespace_words_normalise_blanks():
    """Runs of blanks become one space; blanks next to newlines and at the ends go."""
    text = " = Title = \n \r\n a \t b "
    vocabulary = build(text, "word", tokenizer="whitespace")
    assert vocabulary.decode(vocabulary.encode(text)) == "= Title =\n\na b"


def test_encode_agrees_with_the_definition():
    """The table lookup of the char vocabulary gives what looking every character up does."""
    vocabulary = build(random_text(0)[:40])
    text = random_text(1) + "Z"
    expected = [vocabulary.tokens.index(c) if c in vocabulary.tokens else 0 for c in text]
    assert vocabulary.encode(text).tolist() == expected


@each("size, dtype", [(3, np.uint8), (256, np.uint8), (257, np.uint16), (65537, np.uint32)])
def test_ids_have_the_smallest_type(size, dtype):
    """The type holds the largest id, and no smaller one does."""
    tokens = [UNK, *(chr(0x20000 + i) for i in range(size - 1))]
    vocabulary = Vocabulary.from_dict({"level": "char", "tokenizer": "default", "tokens": tokens})
    ids = vocabulary.encode(tokens[-1])
    assert vocabulary.dtype == ids.dtype == dtype
    assert ids.tolist() == [size - 1]


def test_unknown_tokens_are_id_0_and_listed_once_in_order():
    """What the vocabulary does not know is encoded as <unk>, decoded as "<unk>", and named by `unknown`."""
    vocabulary = build("abc")
    assert vocabulary.encode("zaxz").tolist() == [0, 1, 0, 0]
    assert vocabulary.decode([0, 1]) == "<unk>a"
    assert vocabulary.unknown("zaxz") == ["z", "x"]
    assert build("a cat", "word").unknown("a dog, a cow") == [" dog", ",", " a", " cow"]


# ---- streaming


@each("level, tokenizer", [(level, t) for level in LEVELS for t in TOKENIZERS])
def test_decoding_one_by_one_gives_the_same_text(level, tokenizer):
    """Any ids at all, fed one at a time, give what decode gives."""
    vocabulary = build(random_text(2), level, tokenizer=tokenizer)
    ids = np.random.default_rng(0).integers(0, len(vocabulary), 500)
    decoder = vocabulary.decoder()
    assert "".join(decoder.feed(id) for id in ids) + decoder.flush() == vocabulary.decode(ids)


def test_random_bytes_decode_as_python_decodes_them():
    """Invalid UTF-8 becomes U+FFFD exactly where bytes.decode puts it, one byte at a time or at once."""
    for seed in range(200):
        data = bytes(random.Random(seed).choices(b"a\x80\xbf\xc3\xa9\xe4\xb8\xad\xf0\x9f\x91\xff", k=12))
        assert build("", "byte").decode(list(data)) == data.decode("utf-8", "replace")


def test_a_character_is_never_shown_in_parts():
    """The bytes of é yield nothing, then é; bytes left over at the end are replaced by flush."""
    decoder = build("", "byte").decoder()
    assert [decoder.feed(0xC3), decoder.feed(0xA9), decoder.feed(0xE4)] == ["", "é", ""]
    assert decoder.flush() == "\ufffd"


def test_a_decoder_fed_a_prompt_goes_on_from_it():
    """After "the cat" the next word begins with a space, after a newline it does not."""
    vocabulary = build("the cat sat \n", "word", tokenizer="whitespace")
    decoder = vocabulary.decoder()
    for id in vocabulary.encode("the cat"):
        decoder.feed(id)
    assert [decoder.feed(id) for id in vocabulary.encode("sat \n the cat")] == [" sat", "\n", "the", " cat"]


# ---- to and from a file


@each("level, tokenizer", [(level, t) for level in LEVELS for t in TOKENIZERS])
def test_json_round_trip(level, tokenizer):
    """to_dict, through JSON, gives an equal vocabulary; lone surrogates included."""
    vocabulary = build(TEXTS[-1] + TEXTS[-2], level, tokenizer=tokenizer)
    copy = Vocabulary.from_dict(json.loads(json.dumps(vocabulary.to_dict())))
    assert copy == vocabulary
    assert copy != build("something else", "char" if level == "word" else "word")


def test_vocabularies_differ_in_level_tokenizer_and_tokens():
    """Equality looks at all three."""
    word = build("a", "word")
    assert word == build("a", "word")
    assert word != build("a", "char")
    assert word != build("a", "word", tokenizer="whitespace")
    assert word != build("b", "word")


@each(
    "change, message",
    [
        ({"extra": 1}, "must hold level, tokenizer and tokens"),
        ({"level": "letter"}, "level must be one of"),
        ({"level": ["char"]}, "level must be one of"),
        ({"tokenizer": None}, "tokenizer must be one of"),
        ({"tokens": "<unk>ab"}, "must be a list of strings"),
        ({"tokens": [UNK, 1]}, "must be a list of strings"),
        ({"tokens": [UNK, ["a"]]}, "must be a list of strings"),
        ({"tokens": [UNK, "a", "a"]}, "must be distinct, but 'a' is there twice"),
        ({"tokens": []}, "first token must be <unk>, got ''"),
        ({"tokens": ["a", UNK]}, "first token must be <unk>, got 'a'"),
        ({"tokens": [UNK, "ab"]}, "must be single characters, got 'ab'"),
        ({"tokens": [UNK, ""]}, "must not be empty"),
        ({"level": "word", "tokens": [UNK, ""]}, "must not be empty"),
        ({"level": "byte", "tokens": [UNK, "a"]}, "must be the 256 bytes in order"),
        ({"level": "byte", "tokens": [chr(i) for i in range(255)]}, "must be the 256 bytes in order"),
    ],
)
def test_from_dict_refuses_what_to_dict_never_wrote(change, message):
    """Every part of a foreign or damaged dict is checked, and the error says which rule it breaks."""
    with pytest.raises(ModelFileError, match=message):
        Vocabulary.from_dict({"level": "char", "tokenizer": "default", "tokens": [UNK, "a"], **change})


@each("fields", [None, [], "x", {}, {"level": "char"}])
def test_from_dict_refuses_other_values(fields):
    """Not a dict, or a dict without the three fields."""
    with pytest.raises(ModelFileError, match="must hold level, tokenizer and tokens"):
        Vocabulary.from_dict(fields)


@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), st.integers(1, 4)), st.integers(1, 4), st.integers(1, 9))
def test_the_most_frequent_tokens(counts, min_count, most):
    """By falling count, then by code point, as many as there is room for: as sorting all of them says."""
    text = "".join(f"{word}\n" * count for word, count in counts.items())
    expected = sorted((word for word in counts if counts[word] >= min_count), key=lambda word: (-counts[word], word))[
        :most
    ]
    found = Vocabulary.build([text.replace("\n", " ")], "word", "whitespace", min_count, most + 1)
    assert list(found.tokens) == ["<unk>", *expected]
