"""Co-writing without a terminal: what is kept of a typed line, what is offered, and what each key does."""

import numpy as np
import pytest
from support.cases import each

from nblstm.errors import ConfigError
from nblstm.generation import cowriter
from nblstm.nn.decoder import Decoder
from nblstm.nn.parameters import initial, views
from nblstm.tasks.language.config import LanguageConfig
from nblstm.tasks.language.model import LanguageModel
from nblstm.text.vocabulary import Characters, Vocabulary


def a_model(level, text, bias=(), tokenizer="default"):
    """A model of the text's vocabulary whose logits are 0 but for bias, text of a token -> logit."""
    vocabulary = Vocabulary.build([text], level, tokenizer)
    config = LanguageConfig(len(vocabulary), hidden_size=4, num_layers=1)
    parameters = np.zeros(config.num_parameters, np.float32)
    logits = [dict(bias).get(token, 0.0) for token in vocabulary.tokens]
    views(parameters, config)["head.bias"][...] = logits
    return LanguageModel(config, vocabulary, parameters, {})


def states_of(writer):
    """The state after what has been typed."""
    writer.continuations()
    return writer._reading.states[-1]


def assert_same(state, other):
    np.testing.assert_allclose(state.h, other.h, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(state.c, other.c, rtol=1e-5, atol=1e-6)


@pytest.fixture
def reads(monkeypatch):
    """A list that grows by one with each token that a decoder reads."""
    reads, read = [], Decoder.__call__
    monkeypatch.setattr(Decoder, "__call__", lambda *args, **keywords: reads.append(1) or read(*args, **keywords))
    return reads


# ---------------------------------------------------------------- what is searched


@pytest.mark.parametrize("until, groups", [("word", 1), ("line", 3)])
def test_four_hypotheses_are_kept_for_each_continuation(until, groups, monkeypatch):
    """Some differ only in what is cut off: a beam of 12 for three continuations, in a group each where lines are."""
    searches, search = [], cowriter.BeamSearch
    monkeypatch.setattr(cowriter, "BeamSearch", lambda *args: searches.append(args[3]) or search(*args))
    writer = a_model("char", "abcdefghij klmnop\n").cowriter(continuations=3, until=until, n=4)
    writer.continuations()
    assert [(config.beam, config.groups) for config in searches] == [(12, groups)]


# ---------------------------------------------------------------- what is kept


def test_a_key_costs_one_step(model, reads):
    """Each character is read once, one taken back is not read again, and the state is that of the text read afresh."""
    writer = model.cowriter()
    for count, character in enumerate("Shall I", 1):
        writer.type(character)
        writer.continuations()
        assert len(reads) == count
    assert_same(states_of(writer), model.state("\nShall I"))
    for _ in range(3):
        writer.backspace()
        writer.continuations()
    assert len(reads) == 7 and writer.line == "Shal"
    assert_same(states_of(writer), model.state("\nShal"))
    writer.type("l")
    assert_same(states_of(writer), model.state("\nShall"))
    assert len(reads) == 8


@pytest.mark.parametrize("tokenizer", ["default", "whitespace"])
def test_a_word_is_read_again_as_it_grows(tokenizer, reads):
    """At word level a key changes the last token: again one step a key, and the state is right."""
    vocabulary = Vocabulary.build(["the cat sat"], "word", tokenizer)
    config = LanguageConfig(len(vocabulary), hidden_size=4, num_layers=1)
    model = LanguageModel(config, vocabulary, initial(config, 0), {})
    writer = model.cowriter()
    for character in "the cat":
        before = len(reads)
        writer.type(character)
        assert_same(states_of(writer), model.state(writer.line, model.state()))
        assert len(reads) - before <= 1
    writer.backspace()
    assert_same(states_of(writer), model.state("the ca", model.state()))


def test_the_lines_are_context(model):
    """Enter keeps the line, and the next one goes on from it; typing newlines does the same."""
    writer = model.cowriter()
    writer.type("Shall I")
    writer.enter()
    writer.type("Thou")
    assert (writer.lines, writer.line, writer.text) == (["Shall I"], "Thou", "Shall I\nThou")
    assert_same(states_of(writer), model.state("\nShall I\nThou"))
    other = model.cowriter()
    other.type("Shall I\nThou")
    assert other.text == writer.text and other.continuations() == writer.continuations()


def test_backspace_stays_in_the_line(model):
    """It takes nothing from an empty line, nor from lines that have ended."""
    writer = model.cowriter()
    writer.backspace()
    writer.type("a\n")
    writer.backspace()
    assert writer.text == "a\n"


def test_documents_start_afresh():
    """Where each line is a document and no newline is known, the line before is not context."""
    config = LanguageConfig(4, hidden_size=4, num_layers=1)
    model = LanguageModel(config, Characters(("<unk>", "<end>", "a", "b"), ends=True), initial(config, 0), {})
    writer = model.cowriter()
    fresh = states_of(writer)
    writer.type("ab\n")
    assert states_of(writer) is fresh
    assert all(set(text) <= set("ab") for text in writer.continuations())


# ---------------------------------------------------------------- what is offered


@each("until", ["word", "line"])
@each("line", ["", "S", "Shall ", "Shall I compare thee", "?"])
def test_continuations_are_distinct_and_end(model, until, line):
    """Up to the number asked for, no two alike, none empty, none with a line's end; single words if asked for."""
    writer = model.cowriter(continuations=4, until=until, n=20)
    writer.type(line)
    offered = writer.continuations()
    assert 1 <= len(offered) <= 4 and len(set(offered)) == len(offered)
    for text in offered:
        assert text.strip() and text == text.rstrip() and "\n" not in text and "<unk>" not in text
        assert until == "line" or len(text.split()) == 1 or len(text) > 15


def test_the_likeliest_word_comes_first():
    """Words are offered by falling probability, those that complete what is typed; a whole word is gone on from."""
    likely = {" cat": 3.0, " car": 2.0, " sat": 1.0, "<unk>": 9.0, "\n": 9.0}
    writer = a_model("word", "a cat car sat\nthe cat car sat", likely).cowriter()
    writer.type("the")
    assert writer.continuations() == [" cat", " car", " sat"]
    writer.type(" ")
    assert writer.continuations() == ["cat", "car", "sat"]
    writer.type("ca")
    assert writer.continuations()[:2] == ["t", "r"]
    writer.type("t")
    assert writer.continuations() == [" cat", " car", " sat"]
    writer.type("x")  # no word starts so
    assert writer.continuations() == [" cat", " car", " sat"]


def test_pretokenised_words_are_spaced():
    """With the whitespace tokenizer a continuation brings its space, unless it is typed already."""
    writer = a_model("word", "the cat car .\nthe", {"cat": 3.0, "car": 2.0, ".": 1.0}, "whitespace").cowriter()
    for typed, offered in (("the", [" cat", " car", " ."]), (" ", ["cat", "car", "."]), ("c", ["at", "ar"])):
        writer.type(typed)
        assert writer.continuations() == offered, typed
    assert writer.text == "the c"


def test_a_word_of_characters_ends_before_a_space():
    """Characters are offered up to the end of the word, whatever is likely behind it."""
    writer = a_model("char", "ab \n", {"a": 4.0, " ": 3.5}).cowriter(n=6)
    writer.type("b")
    assert set(writer.continuations()) >= {"a"} and not any(" " in text.strip() for text in writer.continuations())


def test_no_half_characters_of_bytes():
    """A byte model that likes the first byte of a character best offers whole ones only."""
    lead, rest = (chr(byte) for byte in "é".encode())
    writer = a_model("byte", "", {lead: 9.0, rest: 8.5, " ": 8.0}).cowriter(n=7)
    writer.type("é")
    assert not any("\ufffd" in text for text in writer.continuations())


@pytest.mark.parametrize("level, text", [("char", "\n"), ("word", "\n")])
def test_nothing_to_offer(level, text):
    """A model that knows only the line's end offers nothing, and the keys do no harm."""
    writer = a_model(level, text).cowriter()
    writer.type("abc")
    writer.accept()
    writer.choose(1)
    assert (writer.continuations(), writer.text) == ([], "abc")


def test_the_backends_offer_the_same(model):
    """NumPy and the compiled kernels."""
    one, other = (model.cowriter(backend=backend) for backend in ("numpy", "cpu"))
    for writer in (one, other):
        writer.type("Shall I\nTh")
    assert one.continuations() == other.continuations()


# ---------------------------------------------------------------- keys


def test_choose_and_accept(model):
    """Up and down go round; accepting types the selected one; a change of the line selects the first again."""
    writer = model.cowriter()
    writer.type("Sha")
    writer.accept()  # nothing has been offered yet: no one knows what would come
    assert writer.line == "Sha"
    offered = writer.continuations()
    writer.choose(-1)
    assert writer.selected == len(offered) - 1
    writer.choose(1)
    writer.choose(1)
    assert writer.selected == 1
    writer.accept()
    assert writer.line == "Sha" + offered[1] and writer.selected == 0
    assert writer.continuations() == model_continuations(model, writer.line)


def model_continuations(model, line):
    writer = model.cowriter()
    writer.type(line)
    return writer.continuations()


def test_a_search_can_be_given_up(model):
    """Nothing is offered then, and asking again gives what is always offered."""
    writer = model.cowriter()
    writer.type("Sha")
    answers = iter([False, False, True])
    assert writer.continuations(lambda: next(answers)) == []
    assert writer.continuations() == model_continuations(model, "Sha") != []


@each("settings", [{"continuations": 0}, {"until": "page"}, {"n": 0}, {"backend": "gpu"}, {"m": 1}])
def test_wrong_settings(model, settings):
    """Each is named."""
    with pytest.raises(ConfigError, match=next(iter(settings))):
        model.cowriter(**settings)


# ---------------------------------------------------------------- what is learned


LINES = ["the cat sat", "", "on the mat and the cat", "ran"]


def judged(model, pieces, alone_each):
    """The weights of dynamic evaluation of these pieces: of one stream, or of documents one after the other."""
    from nblstm.scoring import stream

    network = model.adapting("numpy", segment=5)
    for texts in [[piece] for piece in pieces] if alone_each else [pieces]:
        for _ in stream(network, model.vocabulary, texts, alone=True):
            pass
    return network.parameters


@each("level, tokenizer, documents", [
    ("char", "default", False), ("word", "whitespace", False), ("byte", "default", False), ("char", "default", True),
])  # fmt: skip
def test_lines_teach_as_dynamic_evaluation_does(level, tokenizer, documents):
    """The weights are those of `eval --adapt` after the finished lines, state and continuations those of a text read by
    them; the model itself stays as it is."""
    text = "the cat sat on the mat and ran\n" * 3
    vocabulary = Vocabulary.build([text.replace("\n", "") if documents else text], level, tokenizer, ends=documents)
    config = LanguageConfig(len(vocabulary), hidden_size=6, num_layers=1, dtype="float64")
    model = LanguageModel(config, vocabulary, initial(config, 1), {})
    writer, before = model.cowriter({"segment": 5}), model.parameters.copy()
    for line in LINES[:-1]:
        writer.type(line)
        writer.continuations()
        writer.enter()
    writer.type(LINES[-1])
    pieces = LINES[:-1] if documents else [f"{line}\n" for line in LINES[:-1]]
    np.testing.assert_allclose(writer.network.parameters, judged(model, pieces, documents), rtol=1e-12)
    assert not np.array_equal(writer.network.parameters, before)
    np.testing.assert_array_equal(model.parameters, before)
    again = model.cowriter({"segment": 5})
    again.open("\n".join(LINES))
    np.testing.assert_array_equal(again.network.parameters, writer.network.parameters)
    assert again.continuations() == writer.continuations()
    assert_same(states_of(again), states_of(writer))
    taught = model.taught(writer.network)
    np.testing.assert_array_equal(taught.parameters, writer.network.parameters)


def test_what_is_undone_was_never_learned():
    """The weights are a function of the finished lines: taking a line end back takes back what it taught."""
    model = a_model("char", "the cat sat\n")
    writer = model.cowriter({})
    writer.type("the cat\n")
    one = writer.network.parameters.copy()
    writer.type("sat\n")
    two = writer.network.parameters.copy()
    writer.undo()
    np.testing.assert_array_equal(writer.network.parameters, one)
    assert (writer.lines, writer.line) == (["the cat"], "")
    writer.type("sat\n")
    np.testing.assert_array_equal(writer.network.parameters, two)
    writer.undo()
    writer.undo()
    np.testing.assert_array_equal(writer.network.parameters, model.parameters)
    writer.open("the cat\n")
    np.testing.assert_array_equal(writer.network.parameters, one)


def test_what_cannot_teach_is_refused(model):
    """Settings that are none, and a network of another model."""
    with pytest.raises(ConfigError, match="no field 'speed'"):
        model.cowriter({"speed": 1})
    with pytest.raises(ConfigError, match="needs gradient statistics"):
        model.cowriter({"rule": "rms"})
    with pytest.raises(ConfigError, match="adapt must be"):
        model.cowriter(3)
    with pytest.raises(ConfigError, match="of another model"):
        model.taught(a_model("char", "abc").adapting("numpy"))


def test_an_empty_line_that_ends_brings_other_continuations():
    """What was offered for the line before is not offered for the next one, though both are empty."""
    writer = a_model("char", "ab\n").cowriter()
    writer.continuations()
    writer.enter()
    assert writer._offered is None
