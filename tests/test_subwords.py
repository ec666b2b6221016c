"""Sub-words: learned and cut as a plain reference does, without loss, and as good a level as any other."""

import dataclasses
import json
import random
from collections import Counter

import numpy as np
import pytest
from support.cases import each
from support.commands import SMALL, VERSE, assert_refused
from support.numba import needs_numba

import nblstm
from nblstm.errors import ConfigError, ModelFileError, TextError
from nblstm.nn.parameters import initial
from nblstm.scoring import stream
from nblstm.tasks.language.config import LanguageConfig
from nblstm.text.corpus import load_corpus
from nblstm.text.subwords import PIECE
from nblstm.text.vocabulary import Vocabulary

MIXED = "naïve café, Ελληνικά, 中文字符。 don't don’t 'x' 😀😀 👩‍🚀\n\tx  y\r\n3.14 a_b ...!?\u2028"
LONG = "a" * 100 + "-" * 100


def learned(text, size=300, **options):
    return Vocabulary.build([text], "subword", max_vocab=size, **options)


def random_text(seed, length=600):
    """Words of few letters, so that the same pairs come up in many places, and everything else between them."""
    return "".join(random.Random(seed).choices("aabbc dé'’_1 \t\r\n.,中👩", k=length))


# ---------------------------------------------------------------- the plain reference


def cut(data, tokens):
    """The tokens of a piece's bytes: of all pairs the first in the list of tokens, the leftmost, until there is none."""
    parts = [data[k : k + 1] for k in range(len(data))]
    while True:
        found = [(tokens.index(a + b), k) for k, (a, b) in enumerate(zip(parts, parts[1:])) if a + b in tokens]
        if not found:
            return parts
        _, k = min(found)
        parts = parts[:k] + [parts[k] + parts[k + 1]] + parts[k + 2 :]


def learn(text, count):
    """So many joint tokens of a text, from scratch for each of them."""
    pieces, tokens = Counter(PIECE.findall(text)), []
    while len(tokens) < count:
        pairs = Counter()
        for piece, times in pieces.items():
            parts = cut(piece.encode("utf-8", "surrogatepass"), tokens)
            for a, b in zip(parts, parts[1:]):
                pairs[a + b] += times
        best = min(pairs.items(), key=lambda item: (-item[1], item[0]), default=(b"", 0))
        if best[1] < 2:
            break
        tokens.append(best[0])
    return tokens


@each("text", [VERSE * 3, MIXED * 2, "aaaa aaa aa", LONG * 2, "abab abab baba\n" * 3, "", *map(random_text, range(6))])
def test_tokens_and_ids_are_those_of_the_reference(text):
    """Learned from a text, and for that text and another one."""
    vocabulary, tokens = learned(text, 256 + 40), learn(text, 40)
    assert [token.encode("latin-1") for token in vocabulary.tokens[256:]] == tokens
    for other in (text, MIXED + VERSE):
        parts = [part for piece in PIECE.findall(other) for part in cut(piece.encode("utf-8", "surrogatepass"), tokens)]
        assert [vocabulary.token_bytes(id) for id in vocabulary.encode(other).tolist()] == parts


# ---------------------------------------------------------------- a level like others


@each("text", [MIXED, LONG, "", " ", "  a", "\0\x1c\x85", "’'’ '", *map(random_text, range(3))])
def test_nothing_is_lost(text):
    """What was learned from another text encodes every text, and a stream of ids never gives half a character."""
    vocabulary = learned(VERSE + MIXED * 3)
    ids = vocabulary.encode(text)
    assert "".join(PIECE.findall(text)) == text == vocabulary.decode(ids)
    assert vocabulary.unk_id is None and vocabulary.unknown(text) == [] and len(vocabulary.split(text)) == len(ids)
    decoder = vocabulary.decoder()
    assert "".join([*map(decoder.feed, ids.tolist()), decoder.flush()]) == text
    assert vocabulary.decode(vocabulary.encode("\ud800")) == "\ufffd" * 3


def test_bytes_that_are_no_character_come_out_as_such():
    """Held back until it is certain, then U+FFFD."""
    decoder = learned("é").decoder()
    assert [decoder.feed(id) for id in (0xC3, 0xA9, 0xC3, 65)] == ["", "é", "", "\ufffdA"]
    assert (decoder.feed(0xE4), decoder.flush()) == ("", "\ufffd")


def test_the_same_text_gives_the_same_tokens():
    """In whatever chunks it comes; a larger vocabulary begins with the smaller one; min_count leaves rare pairs out."""
    text = (VERSE + MIXED) * 3
    lines = text.splitlines(keepends=True)
    assert Vocabulary.build(lines, "subword", max_vocab=300) == learned(text)
    assert learned(text, 320).tokens[:300] == learned(text).tokens
    assert len(learned("ab ab ab cd cd", 300, min_count=3)) < len(learned("ab ab ab cd cd", 300))


def test_a_vocabulary_survives_being_stored():
    """As JSON, with and without <end>, which stands behind the bytes."""
    for ends in (False, True):
        vocabulary = learned(VERSE * 2 + MIXED, ends=ends)
        again = Vocabulary.from_dict(json.loads(json.dumps(vocabulary.to_dict())))
        assert again == vocabulary and again.encode(MIXED).tolist() == vocabulary.encode(MIXED).tolist()
        assert vocabulary.end_id == (256 if ends else None)
    assert vocabulary.decode([256]) == "" and vocabulary.tokens[256] == "<end>"


BYTES = list(map(chr, range(256)))


@each(
    "tokens, words",
    [
        (BYTES[1:], "256 bytes"), (["a", *BYTES[1:]], "distinct"), ([*BYTES, "a"], "distinct"), ([*BYTES, ""], "2 to 256"),
        ([*BYTES, "aé中"], "2 to 256"), ([*BYTES, "abc"], "two of those before"), ([*BYTES, "abc", "ab"], "two of those"),
        ([*BYTES, *("a" * 2**k for k in range(1, 10))], "2 to 256"), ([*BYTES, "<end>"], "two of those"),
        ([*BYTES, "ab", "ab"], "distinct"), ([*BYTES, 3], "strings"), ([], "256 bytes"),
    ],
    ids=lambda case: case[1],
)  # fmt: skip
def test_hostile_tokens_are_refused(tokens, words):
    """Tokens that are none, that join nothing, that grow without end."""
    with pytest.raises(ModelFileError, match=words):
        Vocabulary.from_dict({"level": "subword", "tokenizer": "default", "tokens": tokens})


def test_a_vocabulary_has_room_for_the_bytes():
    """256 tokens at least, 257 with <end>; the default is 4,000."""
    assert len(learned(VERSE, 256)) == 256
    for size, ends in ((255, False), (256, True)):
        with pytest.raises(ConfigError, match=f"max_vocab must be at least {256 + ends} at level subword, got {size}"):
            learned(VERSE, size, ends=ends)
    many = " ".join(f"{k:03x}" for k in range(4096)) * 2
    assert len(Vocabulary.build([many], "subword")) == 4000
    with pytest.raises(TextError):
        Vocabulary.build([b"ab"], "subword")


# ---------------------------------------------------------------- corpora


def test_a_corpus_is_read_for_its_tokens_first(tmp_path):
    """They are the training text's; both parts are encoded with them, and together they are the text."""
    text = "".join(random_text(seed, 300) for seed in range(4)).replace("\r", "")
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    corpus = load_corpus(tmp_path / "a.txt", level="subword", max_vocab=290, valid_fraction=0.3)
    train, valid = (corpus.vocabulary.decode(ids) for ids in (corpus.train, corpus.valid))
    assert train + valid == text and len(valid) >= 0.3 * len(text)
    assert corpus.vocabulary.tokens == learned(train, 290).tokens and corpus.train_characters == len(train)
    np.testing.assert_array_equal(corpus.train, corpus.vocabulary.encode(train))
    again = load_corpus(tmp_path / "a.txt", level="subword", max_vocab=290, valid_fraction=0.3)
    assert again.fingerprint == corpus.fingerprint
    alone = load_corpus(tmp_path / "a.txt", valid_paths=tmp_path / "a.txt", level="subword", max_vocab=290)
    assert alone.vocabulary.tokens == learned(text, 290).tokens


def test_documents_have_ends(tmp_path):
    """A document a line, its ids between two <end>."""
    (tmp_path / "a.txt").write_text("ab ab\nabc\nab\n" * 5, encoding="utf-8")
    corpus = load_corpus(tmp_path / "a.txt", level="subword", max_vocab=260, documents="line", valid_fraction=0.2)
    found = [corpus.train[a + 1 : b] for a, b in zip(corpus.train_offsets, corpus.train_offsets[1:])]
    assert [corpus.vocabulary.decode(ids) for ids in found] == ["ab ab", "abc", "ab"] * 4
    assert (corpus.train[corpus.train_offsets] == 256).all() and corpus.train_unknown == 0


# ---------------------------------------------------------------- models


@pytest.fixture(scope="module")
def model():
    """One of random weights, whose tokens are often less than a character."""
    vocabulary = learned((VERSE + MIXED) * 2, 330)
    config = LanguageConfig(len(vocabulary), hidden_size=6, num_layers=1)
    return nblstm.LanguageModel(config, vocabulary, 2 * initial(config, 0), {})


def test_bits_per_character_count_characters(model):
    """Whatever the tokens are: of a stream all but those of the first token."""
    score = model.score(MIXED, "numpy")
    first = model.vocabulary.token_bytes(int(model.encode(MIXED)[0])).decode()
    assert score.characters == len(MIXED) - len(first) and score.bytes == len(MIXED.encode()) - len(first.encode())
    assert score.tokens == len(model.encode(MIXED)) - 1 and score.unknown == 0
    assert score.bits_per_character == pytest.approx(score.nats / np.log(2) / score.characters)
    emoji = model.score("😀 is half a token at first", "numpy")  # its first token may be a part of it
    assert emoji.bytes < len("😀 is half a token at first".encode()) and emoji.characters in (25, 26)
    lines = list(model.score_lines([MIXED, VERSE], "numpy"))
    assert [line.characters for line in lines] == [len(MIXED), len(VERSE) - 1]


def test_surprisals_are_of_its_tokens(model):
    """Also where a piece of text is judged behind another: nothing is cut anew."""
    found = model.surprisals(MIXED, "numpy")
    assert found.tokens == [model.vocabulary.tokens[id] for id in model.encode(MIXED)]
    pieces = list(stream(model.network(), model.vocabulary, [VERSE, MIXED]))
    assert [token for piece in pieces for token in piece.tokens] == list(model.vocabulary.split(VERSE + MIXED))[1:]
    assert sum(map(len, (piece.nats for piece in pieces))) == len(model.encode(VERSE + MIXED)) - 1


def test_texts_are_written_in_whole_characters(model):
    """The pieces of a stream join to the decoded ids, and a stop string ends them wherever tokens are cut."""
    whole = "".join(model.generate("Shall", n=60, seed=3, backend="numpy"))
    assert whole == model.generate_many("Shall", n=60, seed=3, num_samples=1, backend="numpy")[0]
    for pieces in (model.generate("Shall", n=60, seed=3, backend="numpy"),):
        assert all(piece.encode() for piece in pieces if piece)
    stop = whole[20:23]
    assert "".join(model.generate("Shall", n=60, seed=3, stop=stop, backend="numpy")) == whole[: whole.index(stop)]
    found = model.beam("Sh", n=6, beam=4, stop="e", backend="numpy")
    assert all("e" not in text.text for text in found)
    assert model.generate_novel(corpus=whole, prompt="Shall", n=60, seed=3, backend="numpy").skipped in (0, 1)


def test_a_half_typed_word_is_gone_on_with(model):
    """Co-writing offers what begins as the last token does, not only what follows it."""
    writer = model.cowriter(continuations=5, n=6)
    writer.type("Shall I comp")
    assert all(isinstance(text, str) and "\ufffd" not in text for text in writer.continuations())
    writer.type("é")
    assert writer.continuations() is not None and writer.line == "Shall I compé"


@each("ending", [".h", ".py", ".html"])
def test_exports_that_cannot_cut_text_refuse(model, tmp_path, ending):
    """By the level's name; nothing is written."""
    with pytest.raises(ConfigError, match="sub-words, level subword"):
        nblstm.export(model, tmp_path / f"m{ending}")
    assert not list(tmp_path.iterdir())


def test_what_needs_an_unknown_token_refuses():
    """A model that fills in hides tokens behind one."""
    with pytest.raises(ConfigError, match="which level subword does not have"):
        nblstm.train("none.txt", level="subword", bidirectional=True)


@needs_numba
def test_the_commands(command, tmp_path, monkeypatch):
    """Train with --vocab-size, go on, sample, score and describe."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corpus.txt").write_text((VERSE + MIXED) * 20, encoding="utf-8")
    train = ["train", "corpus.txt", "--level", "subword", *SMALL]
    refused = command(*train, "--vocab-size", 100)
    assert_refused(refused, 2, "--max-vocab must be at least 256 at level subword, got 100")
    done = command(*train, "--vocab-size", 280, "--steps", 6)
    assert done.code == 0 and "subwords to train on" in done.err and "vocabulary 280" in done.err
    assert command("train", "--resume", "--steps", 8).code == 0
    assert command("sample", "-n", 20, "--prompt", "Shall", "--seed", 1).out.startswith("Shall")
    scored = json.loads(command("eval", "corpus.txt", "--json").out)["files"][0]
    assert scored["unknown"] == 0 and scored["bits_per_character"] > scored["bits_per_byte"]
    table = command("score", "--text", "Shall é", "--per-token").out
    assert "nats" in table and table.count("\n") > 3
    assert "level subword" in command("info").out
    assert command("report", "--corpus", "corpus.txt", "-n", 20).code == 0


def test_line_ends_are_read_as_the_vocabulary_reads_them():
    """As at every other level: CRLF and CR as LF, or as they are."""
    vocabulary = learned(VERSE)
    read = dataclasses.replace(vocabulary, newline="lf")
    assert read.encode("a\r\nb\rc").tolist() == read.encode("a\nb\nc").tolist() == vocabulary.encode("a\nb\nc").tolist()
    assert vocabulary.decode(vocabulary.encode("a\r\nb")) == "a\r\nb"
