"""The article's two programs: they learn, predict, write, end, are stored and refused, each as it says."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from support.cases import each

import nblstm
from nblstm import MLPLanguageModel, TextGenerator, pad_sequences, texts_to_sequences
from nblstm.errors import ConfigError, ModelFileError, TextError
from nblstm.files import safetensors

VERSE = "the cat sat on the mat. "
DOCUMENTS = ["anna", "bob", "otto"]
TRANSLATORS = ["translation", "shortening", "captions", "chat"]  # the examples of Translator
NETWORKS = {MLPLanguageModel: {"window": 8, "hidden_size": 32, "dropout": 0.2}, TextGenerator: {"hidden_size": 16}}
TRAINING = {
    MLPLanguageModel: {"batch_size": 32, "lr": 0.01},
    TextGenerator: {"batch_size": 4, "bptt": 24, "lr": 0.03},
}
both = pytest.mark.parametrize("kind", NETWORKS, ids=lambda kind: kind.__name__)


def learnt(kind, text, network=None, **settings):
    """A small program that has learnt a text."""
    settings = {**TRAINING[kind], "valid_fraction": 0.0, "steps": 150, "threads": 1, **settings}
    return kind(**{**NETWORKS[kind], **(network or {})}, **settings).fit(text)


@pytest.fixture(scope="module")
def programs():
    """kind -> what has learnt the verse, and what has learnt the documents."""
    return {kind: (learnt(kind, VERSE * 30), learnt(kind, DOCUMENTS * 20)) for kind in NETWORKS}


# ---------------------------------------------------------------- learning and writing


@both
def test_a_repeated_text_is_learnt_by_heart(programs, kind):
    """The most likely continuation is the text's own, and what was learnt is probable, other text is not."""
    verse, _ = programs[kind]
    assert verse.generate_text("the cat ", n=16, temperature=0) == VERSE[8:]
    assert verse.score(VERSE).perplexity < 2 < verse.score("tat no eht").perplexity


@both
def test_a_text_ends_where_its_end_token_comes(programs, kind):
    """Each of the documents comes out whole, from nothing or from its beginning, and is not written on."""
    _, documents = programs[kind]
    assert {documents.generate_text(n=30, temperature=0.1, seed=seed) for seed in range(20)} <= set(DOCUMENTS)
    assert documents.generate_text("ann", n=30, temperature=0) == "a"
    assert documents.generate_text("bob", n=30, temperature=0) == ""


@both
def test_lines_of_a_string_are_documents_if_asked(programs, kind):
    """documents="line" learns what a list of the lines learns, to the last bit."""
    other = learnt(kind, "\n".join(DOCUMENTS * 20), documents="line")
    np.testing.assert_array_equal(other.parameters, programs[kind][1].parameters)


@both
def test_the_seed_makes_the_text(programs, kind):
    """One seed writes one text, n tokens of it; at a high temperature another seed writes another."""
    verse, _ = programs[kind]
    texts = [verse.generate_text("the", n=40, temperature=3.0, seed=seed) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2] and len(texts[0]) == 40
    assert verse.generate_text("the", n=0) == ""


@both
@each("level", ["word", "byte"])
def test_other_levels(kind, level):
    """Words and bytes are learnt like characters; spaces and characters of several bytes come out whole."""
    program = learnt(kind, "é a café is. " * 60, level=level, steps=120)
    assert program.generate_text("é a", n=4 if level == "word" else 10, temperature=0).startswith(" café is")


@both
def test_a_token_of_weight_zero_is_never_learnt(kind):
    """The training's settings reach both programs."""
    program = learnt(kind, "ab" * 300, token_weights={"b": 0}, steps=60)
    after_a, after_b = program.predict(texts_to_sequences(program.vocabulary, ["aba", "abab"]))
    a, b = program.vocabulary.encode("ab")
    assert after_b[a] > 0.8 and after_a[b] < 0.6


@both
def test_an_interrupt_keeps_what_was_learnt(kind):
    """Ctrl-C leaves a program that can be asked and saved."""

    def interrupt(report):
        if report.step == 3:
            raise KeyboardInterrupt

    program = kind(**NETWORKS[kind])
    with pytest.raises(KeyboardInterrupt):
        program.fit(VERSE * 9, on_report=interrupt)
    assert program.training["steps"] == 3 and len(program.generate_text(n=5)) == 5


@both
def test_the_validation_loss_is_that_of_the_texts_kept_back(kind):
    """The last tenth of the documents, every token and every end; exactly what `score` finds there."""
    documents = [name for name in ("eve", "ada", "bea", "dave", "adeb", "va") for _ in range(10)]
    program = learnt(kind, documents, valid_fraction=0.1, steps=20)
    scores = [program.score(name) for name in documents[54:]]
    expected = sum(score.nats for score in scores) / sum(score.tokens for score in scores)
    assert program.training["valid_loss"] == pytest.approx(expected, rel=1e-5)


# ---------------------------------------------------------------- predicting


@both
@each("number", [0, 1])
def test_probabilities_multiply_to_the_score(programs, kind, number):
    """p(text) = product of p(token | those before), each from `predict`; rows sum to 1, in the order asked."""
    program = programs[kind][number]
    text, end = "the cat sat" if number == 0 else "otto", program.vocabulary.end_id
    ids = [*program.vocabulary.encode(text).tolist(), *([] if end is None else [end])]
    found = program.predict([ids[:k] for k in reversed(range(len(ids)))])
    assert found.shape == (len(ids), len(program.vocabulary)) and found.dtype == np.float32
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    nats = -np.log(found[range(len(ids))[::-1], ids])
    score = program.score(text)
    assert score.tokens == len(ids) and score.characters == len(text)
    if end is not None or kind is MLPLanguageModel:  # a generator of a stream scores after a line end, goes on without
        assert nats.sum() == pytest.approx(score.nats, rel=1e-4)


@both
def test_predicting_nothing(programs, kind):
    """No sequences give no rows; an empty sequence is the start of a text."""
    _, documents = programs[kind]
    assert documents.predict([]).shape == (0, len(documents.vocabulary))
    likely = {documents.vocabulary.tokens[id] for id in np.argsort(documents.predict([[]])[0])[-3:]}
    assert likely == {"a", "b", "o"}


@pytest.mark.parametrize("padding", ["pre", "post"])
def test_the_mlp_sees_a_padded_window(padding):
    """A rectangle padded on the program's side with its end token predicts what the bare lists predict."""
    program = learnt(MLPLanguageModel, DOCUMENTS * 9, {"padding": padding, "embedding_size": 5}, steps=60)
    sequences = texts_to_sequences(program.vocabulary, ["", "an", "otto" * 5])
    rows = pad_sequences(sequences, 8, padding=padding, value=program.vocabulary.end_id)
    np.testing.assert_array_equal(program.predict(rows), program.predict(sequences))
    assert program.generate_text("ann", n=9, temperature=0) == "a"


def test_the_generator_predicts_many_texts_as_each_alone():
    """Of all lengths, also longer than what is read at once."""
    program = learnt(TextGenerator, DOCUMENTS * 9, steps=5)
    r = np.random.default_rng(0)
    sequences = [r.integers(2, 7, length).tolist() for length in (3, 150, 0, 3, 64, 1, 150)] + [[2]] * 70
    alone = np.concatenate([program.predict([sequence]) for sequence in sequences])
    np.testing.assert_allclose(program.predict(sequences), alone, atol=1e-6)
    state = program.model.state(program.vocabulary.decode(sequences[1]))
    logits = program.model.network().logits(state.features)
    np.testing.assert_allclose(alone[1], np.exp(logits[0]) / np.exp(logits[0]).sum(), atol=1e-6)


@both
@each("wrong", [[[99]], [[-1]], ["abc"], [[0.5]], [[[1, 2]]], [[[1], [1, 2]]], [3]], ids=str)
def test_what_is_no_sequence_of_ids_is_refused(programs, kind, wrong):
    """ConfigError, with the way to make one."""
    with pytest.raises(ConfigError, match="sequences, as texts_to_sequences makes them, must be"):
        programs[kind][0].predict(wrong)


@both
def test_a_masked_sequence_is_refused(programs, kind):
    """A cast to ids would drop the mask."""
    with pytest.raises(ConfigError, match="sequences must hold nothing masked"):
        programs[kind][0].predict([np.ma.masked_array([1, 1], [False, True])])


# ---------------------------------------------------------------- files


@both
@each("number", [0, 1])
def test_what_is_saved_is_loaded(programs, kind, number, tmp_path):
    """The loaded program has the network's settings, says the same and knows how it was made."""
    program = programs[kind][number]
    program.save(tmp_path / "p.safetensors")
    loaded = kind.load(tmp_path / "p.safetensors")
    assert (loaded.config, loaded.vocabulary, loaded.training) == (program.config, program.vocabulary, program.training)
    np.testing.assert_array_equal(loaded.parameters, program.parameters)
    assert loaded.generate_text("t", n=20, seed=3) == program.generate_text("t", n=20, seed=3)
    again = loaded.set_params(steps=1).fit(VERSE * 3)
    assert again.config.hidden_size == program.config.hidden_size


def test_the_generators_file_is_a_model_file(programs, tmp_path, command):
    """The commands read it, and the program reads what `nblstm train` wrote."""
    path = tmp_path / "p.safetensors"
    programs[TextGenerator][0].save(path)
    outcome = command("sample", "-m", path, "-n", 16, "--prompt", "the cat ", "--temperature", 0)
    assert (outcome.code, outcome.out.strip()) == (0, VERSE.strip())
    assert command("info", "-m", path).code == 0


def test_programs_read_what_the_commands_wrote(trained):
    """A TextGenerator is any model that writes."""
    text = TextGenerator.load(trained / "model.safetensors").generate_text("Shall", n=5, seed=1)
    assert text == "".join(nblstm.load(trained / "model.safetensors").generate("Shall", n=5, seed=1, temperature=0.5))


def test_each_others_files_are_refused(programs, tmp_path, command):
    """By what they are, also from the command line, in one line."""
    paths = {kind: tmp_path / kind.__name__ for kind in NETWORKS}
    for kind, path in paths.items():
        programs[kind][0].save(path)
    with pytest.raises(ModelFileError, match="is a model, not a windowed model"):
        MLPLanguageModel.load(paths[TextGenerator])
    with pytest.raises(ModelFileError, match="is a windowed model, not a model"):
        TextGenerator.load(paths[MLPLanguageModel])
    outcome = command("sample", "-m", paths[MLPLanguageModel])
    assert outcome.code == 1 and outcome.err.count("\n") == 1 and "is a windowed model" in outcome.err


@each(
    "damage, message",
    [
        (lambda tensors: tensors.pop("dense.bias"), "lacks the tensor 'dense.bias'"),
        (lambda tensors: tensors.update(extra=tensors["head.bias"]), "has a tensor 'extra'"),
        (lambda tensors: tensors.update({"head.bias": tensors["head.bias"][1:]}), "'head.bias' must have shape"),
        (lambda tensors: tensors["head.bias"].fill(np.nan), "not finite"),
    ],
)
def test_a_damaged_file_is_refused(programs, tmp_path, damage, message):
    """Whatever its tensors are, they are what the config calls for, or there is no program."""
    path = tmp_path / "p.safetensors"
    programs[MLPLanguageModel][0].save(path)
    tensors, metadata = safetensors.read(path)
    damage(tensors)
    safetensors.write(path, tensors, {"nblstm_window": metadata["nblstm_window"]})
    with pytest.raises(ModelFileError, match=message):
        MLPLanguageModel.load(path)


def test_both_are_asked_without_numba(programs, tmp_path, python):
    """Loading, predicting, writing and scoring need NumPy alone; so does training an MLP."""
    for kind in NETWORKS:
        programs[kind][1].save(tmp_path / kind.__name__)
    code = f"""
import sys; sys.modules["numba"] = None
import nblstm
for name in ("MLPLanguageModel", "TextGenerator"):
    program = getattr(nblstm, name).load({str(tmp_path)!r} + "/" + name)
    assert program.predict([[2]]).shape == (1, len(program.vocabulary))
    print(program.generate_text("ann", temperature=0), program.score("bob").tokens)
print(nblstm.MLPLanguageModel(steps=2).fit("ab" * 50).training["steps"])
"""
    outcome = python("-c", code)
    assert (outcome.code, outcome.out.split()) == (0, ["a", "4", "a", "4", "2"]), outcome.err


# ---------------------------------------------------------------- refusals


@both
def test_a_program_that_has_learnt_nothing_says_so(kind, tmp_path):
    """Whatever it is asked."""
    program = kind()
    asked = [
        lambda: program.predict([]),
        program.generate_text,
        lambda: program.score("a"),
        lambda: program.save(tmp_path / "p"),
    ]
    for ask in asked:
        with pytest.raises(ConfigError, match=f"this {kind.__name__} has learnt nothing yet"):
            ask()


@both
@each("text", [3, None, ["a", 3]], ids=str)
def test_what_is_no_text_is_refused(kind, text):
    """ConfigError, not a traceback from within."""
    with pytest.raises(ConfigError, match="text must be a string or a list of strings"):
        kind().fit(text)


@both
@each("text", ["", []], ids=str)
def test_an_empty_text_is_refused(kind, text):
    """There is nothing to learn."""
    with pytest.raises(TextError, match="the text is empty"):
        kind().fit(text)


@each(
    "action, message",
    [
        (lambda: MLPLanguageModel(widow=3), "there is no setting 'widow' of MLPLanguageModel"),
        (lambda: MLPLanguageModel(window=0), "window must be at least 1"),
        (lambda: TextGenerator(hidden_size=0), "hidden_size must be at least 1"),
        (lambda: MLPLanguageModel(vocab_size=3), "vocab_size is how many tokens the text has"),
        (lambda: TextGenerator(epoch=3).fit("text"), "there is no setting 'epoch'"),
        (lambda: TextGenerator(encoding="latin-1").fit("text"), "encoding is for files"),
        (lambda: TextGenerator(buckets="3").fit("text"), "buckets is for documents"),
        (lambda: TextGenerator(bidirectional=True), "there is no setting 'bidirectional' of TextGenerator"),
        (lambda: TextGenerator(on_divergence="rollback"), "there is no setting 'on_divergence'"),
        (lambda: MLPLanguageModel(bptt=3), "there is no setting 'bptt' of MLPLanguageModel"),
        (lambda: MLPLanguageModel(device="cuda"), "there is no setting 'device'"),
    ],
)
def test_wrong_settings_are_named(action, message):
    """ConfigError, before any work."""
    with pytest.raises(ConfigError, match=message):
        action()


@both
def test_the_old_way_to_train_still_works(kind):
    """`train(text, **settings)` warns, and learns what `fit` learns."""
    with pytest.warns(DeprecationWarning, match="call fit"):
        old = kind(**NETWORKS[kind]).train(VERSE * 9, steps=3, threads=1)
    new = kind(**NETWORKS[kind], steps=3, threads=1).fit(VERSE * 9)
    np.testing.assert_array_equal(old.parameters, new.parameters)


@both
def test_a_wrong_temperature_is_named(programs, kind):
    """As `nblstm sample` names it."""
    with pytest.raises(ConfigError, match="temperature must be at least 0"):
        programs[kind][0].generate_text(temperature=-1)


# ---------------------------------------------------------------- the examples


EXAMPLES = Path(nblstm.__file__).parent.parent / "examples"
in_checkout = pytest.mark.skipif(not EXAMPLES.exists(), reason="not run from a checkout")


@in_checkout
@each("name", ["names", "shakespeare"])
def test_the_examples_run(name, tmp_path, python):
    """Each learns a small file and shows what both programs make of it."""
    (tmp_path / "text").write_text("\n".join(["quinn", "mary", "anna", "otto", "ROMEO:"] * 12))
    outcome = python(EXAMPLES / f"{name}.py", tmp_path / "text", 1)
    assert outcome.code == 0, outcome.err
    assert "MLPLanguageModel: MLP 128" in outcome.out and "TextGenerator: LSTM 1 x" in outcome.out and outcome.err == ""


@in_checkout
@each(
    "name, kind, said",
    [
        *((name, nblstm.Translator, "LSTM 1 x 64, bidirectional") for name in TRANSLATORS),
        ("sentiment", nblstm.TextClassifier, "reviews that are new"),
        ("entities", nblstm.Tagger, "sentences that are new"),
    ],
)
def test_the_examples_of_other_tasks_run(name, kind, said, monkeypatch, capsys):
    """Each learns what it makes, and shows what the model makes of others."""
    monkeypatch.setattr(kind, "DEFAULTS", {**kind.DEFAULTS, "steps": 3})
    runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"](None)
    shown = capsys.readouterr()
    assert said in shown.out and shown.err == ""


@in_checkout
@each("installed", [False, True])
def test_digits_are_completed(installed, tmp_path, monkeypatch, capsys):
    """The upper halves of four digits are written on, shown as text and stored as a picture, with and without sklearn."""
    if installed:
        pytest.importorskip("sklearn.datasets")
    else:
        monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    monkeypatch.setattr(TextGenerator, "DEFAULTS", {**TextGenerator.DEFAULTS, "steps": 3, "threads": 1})
    runpy.run_path(str(EXAMPLES / "digits.py"))["main"](None, str(tmp_path / "digits.pgm"))
    shown = capsys.readouterr().out
    assert ("1597 scanned digits" if installed else "1800 digits drawn here") in shown and "█" in shown
    size = (5 * 10 * 8, 4 * 10 * 8)  # five framed images a row, four rows, 8 points a pixel
    content = (tmp_path / "digits.pgm").read_bytes()
    header = b"P5 %d %d 255\n" % size
    assert content.startswith(header) and len(content) == len(header) + size[0] * size[1]
