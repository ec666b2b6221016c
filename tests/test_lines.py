"""Lines: one rule of where they end, for documents, lines that are scored, stop strings and the search for copies."""

import io
from itertools import pairwise

import pytest
from support.cases import each
from support.commands import SMALL, VERSE
from support.properties import given, st

import nblstm
from nblstm.generation.stops import Stops
from nblstm.text.corpus import load_corpus
from nblstm.text.documents import split
from nblstm.text.lines import count_ends, lines, lines_with_ends, normalized, place_in, unsplit, without_end

ENDS = pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
QUICK = {"hidden_size": 8, "num_layers": 1, "batch_size": 4, "bptt": 8, "steps": 2, "threads": 1}


def universal(text):
    """The lines of a text as Python's text files have them, each but the last with "\\n"."""
    return io.TextIOWrapper(io.BytesIO(text.encode()), "utf-8", newline=None).read().split("\n")


texts = st.text(st.sampled_from("\r\n\x0b\x85\u2028a é"), max_size=20)
cuts = st.lists(st.integers(0, 20), max_size=6)


@given(texts, cuts)
def test_lines_are_those_of_a_text_file(text, at):
    """Python's universal newlines, for text and bytes, wherever the pieces are cut, also between CR and LF."""
    at = sorted({0, len(text), *(place for place in at if place < len(text))})
    pieces = [text[a:b] for a, b in pairwise(at)]
    encoded = [piece.encode() for piece in pieces]
    expected = universal(text) if text else []
    assert list(lines(unsplit(pieces))) == expected
    assert [line.decode() for line in lines(unsplit(encoded))] == expected
    assert "".join(lines_with_ends(unsplit(pieces))) == text
    assert [without_end(line) for line in lines_with_ends(unsplit(pieces))] == expected
    assert [without_end(line).decode() for line in lines_with_ends(unsplit(encoded))] == expected
    assert normalized(text) == "\n".join(universal(text)) and normalized(text.encode()) == normalized(text).encode()
    assert count_ends(text) == count_ends(text.encode()) == len(universal(text)) - 1


@given(texts)
def test_places_are_found_again(text):
    """What stands before a place of the normalized text is what stands before its place in the text."""
    for place in range(len(normalized(text)) + 1):
        assert normalized(text[: place_in(text, place)]) == normalized(text)[:place]


# ---------------------------------------------------------------- training, scoring


@ENDS
@each("level", ["char", "byte", "word"])
def test_documents_are_the_same_with_any_line_end(tmp_path, level, end):
    """A file from Unix, Windows or an old Mac gives the same lines as documents, and the same ids."""
    for name, text in (("a", VERSE * 9), ("b", (VERSE * 9).replace("\n", end))):
        (tmp_path / name).write_bytes(text.encode())
    one, other = (load_corpus(tmp_path / name, level=level, documents="line") for name in "ab")
    assert one.fingerprint == other.fingerprint and len(one.train_offsets) - 1 == 16


def test_a_file_with_cr_only_has_documents(command, tmp_path, monkeypatch):
    """Training on its lines works as on any other file's."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mac.txt").write_bytes((VERSE * 9).replace("\n", "\r").encode())
    shown = command("train", "mac.txt", *SMALL, "--documents", "line", "--steps", 2)
    assert shown.code == 0 and "text    16 documents of" in shown.err
    scored = command("score", "mac.txt")
    assert scored.code == 0 and scored.err.splitlines()[-1].startswith("18 lines: ")


@ENDS
def test_a_line_end_is_not_scored(model, end):
    """`score_lines("ab\\r\\n")` is that of "ab", as the command scores it; so for bytes."""
    (bare,) = model.score_lines(["ab"], "numpy")
    assert list(model.score_lines(["ab" + end], "numpy")) == [bare]


def test_a_byte_model_scores_no_line_end_either(tmp_path):
    """Bytes follow the same rule."""
    (tmp_path / "a").write_text(VERSE)
    model = nblstm.train(tmp_path / "a", tmp_path / "m.safetensors", level="byte", **QUICK)
    bare, *others = model.score_lines([b"ab", b"ab\r\n", b"ab\r", "ab\r\n"], "numpy")
    assert others == [bare] * 3


@ENDS
def test_the_command_and_the_library_score_the_same_lines(command, folder, end):
    """Whatever ends the lines of a file, `nblstm score` gives what `score_lines` gives."""
    text = end.join(["ab", "", "Shall I", ""])
    (folder / "lines.txt").write_bytes(text.encode())
    found = command("score", "lines.txt", "--json").out.splitlines()
    expected = list(nblstm.load("model.safetensors").score_lines(["ab" + end, "Shall I" + end], "numpy"))
    assert len(found) == 2
    for line, score in zip(found, expected):
        assert f'"tokens": {score.tokens}' in line and f'"log_probability": {-score.nats:.4f}'[:-2] in line


def test_a_model_that_knows_no_newline_begins_after_a_carriage_return(tmp_path):
    """Where lines end with CR alone, a text that nothing stands before is read after a CR."""
    (tmp_path / "mac.txt").write_bytes((VERSE * 9).replace("\n", "\r").encode())
    model = nblstm.train(tmp_path / "mac.txt", tmp_path / "m.safetensors", **QUICK)
    after = model.score(["\r", "ab"], "numpy")
    (line,) = model.score_lines(["ab"], "numpy")
    assert line.nats == pytest.approx(after.nats, rel=1e-6)


# ---------------------------------------------------------------- what a model reads


def trained_with(tmp_path, end, name="m", **settings):
    """The file of a model that was trained on the verse, its line ends being `end`."""
    (tmp_path / f"{name}.txt").write_bytes(((VERSE + "\n") * 9).replace("\n", end).encode())
    told = []
    output = tmp_path / f"{name}.safetensors"
    quick = {k: v for k, v in QUICK.items() if "init_from" not in settings or k not in ("hidden_size", "num_layers")}
    nblstm.train(tmp_path / f"{name}.txt", output, on_message=told.append, overwrite=True, **{**quick, **settings})
    return output, told


@each("settings", [{}, {"level": "word"}, {"level": "byte", "newline": "lf"}, {"documents": "blank-line"}], ids=str)
def test_a_text_gives_the_same_model_with_any_line_end(tmp_path, settings):
    """Weights, vocabulary and fingerprint are equal; how many line ends were another is said once."""
    files, told = [], []
    for end in ("\n", "\r\n", "\r"):
        output, messages = trained_with(tmp_path, end, **settings)
        files, told = [*files, output.read_bytes()], [*told, messages]
    assert files[0] == files[1] == files[2] and not told[0]
    ends = 9 if "documents" in settings else 27  # those behind a document are no part of it
    for messages in told[1:]:
        assert messages == [
            f'{ends} line ends of Windows or old Macs (CRLF, CR) read as LF; newline="keep" keeps them.'
        ]


def test_line_ends_can_be_kept(tmp_path):
    """Then CR is a token, as it is of bytes unless they are told otherwise; nothing is said."""
    for settings in ({"newline": "keep"}, {"level": "byte"}):
        output, told = trained_with(tmp_path, "\r\n", **settings)
        model = nblstm.load(output)
        assert model.encode("a\r\n").size == 3 and not told
        assert "\n" not in model.vocabulary.unknown("\r\n") and not model.vocabulary.unknown("\r")


@ENDS
@each("level", ["char", "word", "byte"])
def test_scoring_and_prompts_read_line_ends_as_training_did(command, tmp_path, monkeypatch, level, end):
    """A model of LF gives a text the same score with any line end, in the library and in every command."""
    monkeypatch.chdir(tmp_path)
    output, _ = trained_with(tmp_path, "\r\n", level=level, newline="lf")
    model, plain = nblstm.load(output), VERSE * 2
    text = plain.replace("\n", end)
    same, score = model.score(text, "numpy"), model.score(plain, "numpy")  # a last CR is read when no LF follows it
    assert same.tokens == score.tokens and same.nats == pytest.approx(score.nats, rel=1e-6)
    if level == "char":
        pieces = model.score(iter(text), "numpy")
        assert (pieces.tokens, pieces.nats) == (
            len(plain) - 1,
            pytest.approx(model.score(plain, "numpy").nats, rel=1e-4),
        )
    assert list(model.score_lines([text], "numpy")) == list(model.score_lines([plain], "numpy"))
    assert model.surprisals(text, "numpy").tokens == model.surprisals(plain, "numpy").tokens
    assert "".join(model.generate(text, n=9, seed=1)) == "".join(model.generate(plain, n=9, seed=1))
    for name, content in (("plain", plain), ("text", text)):
        (tmp_path / name).write_bytes(content.encode())
    for ask in (["eval"], ["eval", "--streams", 2], ["score", "--by", "file"], ["score", "--by", "blank-line"]):
        shown = [command(*ask, name, "-m", output).out.replace("plain", "text ") for name in ("plain", "text")]
        assert shown[0].split() == shown[1].split(), ask


def test_a_model_that_training_starts_from_says_which(tmp_path):
    """Its line ends are read; asking for others is an error."""
    kept, _ = trained_with(tmp_path, "\r\n", "kept", newline="keep")
    tuned, told = trained_with(tmp_path, "\r\n", "tuned", init_from=kept)
    assert nblstm.load(tuned).vocabulary == nblstm.load(kept).vocabulary and not told
    with pytest.raises(nblstm.ConfigError, match="newline"):
        trained_with(tmp_path, "\n", init_from=trained_with(tmp_path, "\n")[0], newline="keep")


def test_models_without_the_setting_keep_line_ends(model):
    """A vocabulary says nothing of line ends where they are kept, as all did before."""
    assert model.vocabulary.to_dict()["newline"] == "lf"
    fields = {name: value for name, value in model.vocabulary.to_dict().items() if name != "newline"}
    old = nblstm.Vocabulary.from_dict(fields)
    assert old.newline == "keep" and old.to_dict() == fields and old.unknown("\r\n") == ["\r"]
    for wrong in ("LF", None, 1):
        with pytest.raises(nblstm.ModelFileError, match="newline"):
            nblstm.Vocabulary.from_dict({**fields, "newline": wrong})


# ---------------------------------------------------------------- novelty


@ENDS
@each("documents", [None, "line"])
def test_copies_are_found_in_a_corpus_of_any_line_end(trained, tmp_path, documents, end):
    """A text is a copy whatever ends the lines of the corpus it stands in."""
    model = nblstm.train(trained / "corpus.txt", tmp_path / "m.safetensors", documents=documents, **QUICK)
    texts = model.generate_many("Thou\nart", n=6, num_samples=2, seed=3)
    corpus = end.join([f"x\nThou\nart{texts[0]}", *(f"Thou\nart{text}" for text in texts), ""]).replace("\n", end)
    found = model.generate_novel("Thou\nart", corpus=corpus, n=6, num_samples=2, seed=3)
    assert found.skipped >= 2 and not set(found.texts) & set(texts)


def test_the_command_finds_copies_in_a_windows_corpus(command, folder):
    """`--novel` with a CRLF corpus skips what it skips with the same corpus of LF; files never share a line."""
    letters = sorted(set(VERSE) - {"\n"})
    (folder / "names.txt").write_text("".join(f"S{letter}\n" for letter in letters) * 9)
    command("train", "names.txt", *SMALL, "--documents", "line", "--steps", 1, "-o", "n.safetensors")
    (folder / "crlf.txt").write_bytes("".join(f"S{letter}\r\n" for letter in letters[1:] + ["S"]).encode() + b"S\r\nS")
    (folder / "rest.txt").write_bytes(f"S{letters[0]}".encode())  # crlf.txt does not end with a line end
    ask = ["sample", "-m", "n.safetensors", "-n", 1, "--prompt", "S"]
    none = command(*ask, "--novel", "crlf.txt", "--novel", "rest.txt")
    assert (none.code, none.out) == (1, "") and "only 0 of 1 texts are novel" in none.err


def test_blanks_between_words_are_alike(tmp_path):
    """A model of the whitespace tokenizer writes one blank where its corpus has several, and that is a copy."""
    (tmp_path / "a").write_text("one  two\tthree\n" * 30)
    model = nblstm.train(
        tmp_path / "a", tmp_path / "m.safetensors", level="word", tokenizer="whitespace", documents="line",
        **{**QUICK, "steps": 60}, lr=0.05,
    )  # fmt: skip
    assert model.beam(n=4)[0].text == "one two three"
    found = model.generate_novel(corpus="x\r\none  two\tthree\r\n", n=4, temperature=0.0)
    assert found.texts == [] and found.skipped > 0


# ---------------------------------------------------------------- stop strings


@ENDS
@given(cut=st.integers(1, 3))
def test_a_line_end_in_a_stop_string_is_any(end, cut):
    """The text stops before the line end as it is, wherever it is cut, and before the first blank line."""
    text = f"one{end}two{end}{end}three"
    for stop, before in (("\n", "one"), ("\r\n", "one"), ("\n\n", f"one{end}two"), ("two\n", f"one{end}")):
        stops = Stops([stop])
        pieces = [text[at : at + cut] for at in range(0, len(text), cut)]
        assert "".join(map(stops.feed, pieces)) + stops.flush() == before and stops.found


def test_a_carriage_return_is_half_a_line_end():
    """CR and LF that come one after the other are one line end, not a blank line."""
    stops = Stops(["\n\n"])
    assert "".join(map(stops.feed, ["a\r", "\nb", "\r", "\n", "c"])) + stops.flush() == "a\r\nb\r\nc"


def test_documents_inside_keep_their_line_ends():
    """Only the line end behind a document goes."""
    assert list(split(["a\r", "\nb\r\r", "c\n"], "blank-line")) == ["a\r\nb", "c"]
