"""The border: whatever is passed to a public function, it answers with the right numbers or with an error of ours."""

import ast
import dataclasses
import inspect
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.borders import (
    BACKENDS,
    CALLS,
    CONFIG,
    JUNK,
    MODEL,
    SERIES,
    STATE,
    VOCABULARY,
    V,
    make_model,
    make_series,
    outcome,
)
from support.cases import each

import nblstm
from nblstm.config import BeamConfig, SampleConfig, TrainConfig
from nblstm.errors import ConfigError, NonFiniteError
from nblstm.kernels import Beam, CrossEntropy, Filters, Hypotheses, load
from nblstm.kernels.packed import indices
from nblstm.nn.network import Network
from nblstm.nn.parameters import initial, views
from nblstm.tasks.language.config import LanguageConfig
from nblstm.tasks.series.model import Scale
from nblstm.tasks.window.config import WindowConfig
from nblstm.text.batches import Chunk

PACKAGE = Path(nblstm.__file__).parent
backends = pytest.mark.parametrize("backend", BACKENDS)


@pytest.fixture(scope="module")
def programs():
    """A trained one of each of the article's programs."""
    settings = {"hidden_size": 3}
    mlp = nblstm.MLPLanguageModel(window=2, **settings, steps=1, batch_size=2).fit("abc abc abc abc")
    config = LanguageConfig(len(mlp.vocabulary), num_layers=1, hidden_size=3)
    generator = nblstm.TextGenerator(**settings)
    generator._take(config, mlp.vocabulary, initial(config, 0), {})
    return {"MLPLanguageModel": mlp, "TextGenerator": generator}


def junk_everywhere(function, args, keywords):
    """The function with each of its arguments replaced by each piece of junk."""
    for place in [*range(len(args)), *keywords]:
        for junk in JUNK:
            changed, named = list(args), dict(keywords)
            (changed if isinstance(place, int) else named)[place] = junk
            try:
                outcome(function, changed, named)
            except Exception as error:
                raise AssertionError(f"{place!r} = {junk!r}") from error


@backends
@each("name", CALLS)
def test_junk_is_answered_or_refused(name, backend, tmp_path, monkeypatch):
    """No argument of a public function, whatever it is, brings an exception that is not ours, or a warning."""
    monkeypatch.chdir(tmp_path)
    junk_everywhere(*CALLS[name](backend))


@each("method", ["predict", "generate_text", "score", "save", "load"])
@each("kind", ["MLPLanguageModel", "TextGenerator"])
def test_junk_is_answered_or_refused_by_the_programs(kind, method, programs, tmp_path, monkeypatch):
    """The same for the methods of the article's programs."""
    monkeypatch.chdir(tmp_path)
    args = {
        "predict": [[[1, 2]]],
        "generate_text": ["ab", 3, 0.5, None],
        "score": ["abc"],
        "save": ["a"],
        "load": ["b"],
    }
    junk_everywhere(getattr(programs[kind], method), args[method], {})


def test_every_public_name_is_called():
    """What the package offers stands in the table, but for errors, and results that nobody makes."""
    made_by_others = {"__version__", "Score", "Surprisals"}
    missing = {name for name in nblstm.__all__ if not name.endswith("Error")} - made_by_others - set(CALLS)
    assert not missing
    for owner, others in (
        ("LanguageModel", {"scorer", "state_after", "restore", "CONFIG", "NETWORK"}),
        ("Vocabulary", {"to_dict", "decoder", "counter", "dtype", "level", "canonical"}),
    ):
        methods = {name for name, _ in inspect.getmembers(getattr(nblstm, owner), callable) if name[0] != "_"} - others
        assert not {m for m in methods if m not in CALLS and f"{owner}.{m}" not in CALLS}


# ---------------------------------------------------------------- the same numbers in another form


def forms(x):
    """Name -> the numbers of x, laid out, ordered or protected otherwise."""
    wide = np.repeat(x, 2, axis=-1)
    read_only = x.copy()
    read_only.flags.writeable = False
    odd = np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    odd[...] = x
    return {
        "strided": wide[..., ::2], "Fortran": np.asfortranarray(x), "big-endian": x.astype(x.dtype.newbyteorder(">")),
        "read-only": read_only, "misaligned": odd, "reversed": np.ascontiguousarray(x[..., ::-1])[..., ::-1],
    }  # fmt: skip


def state_in_form(name):
    return nblstm.State(*(forms(array)[name] if array.size else array for array in vars(STATE).values()))


FORMS = list(forms(np.zeros(2)))
VERBS = {
    "generate": lambda b, s: "".join(MODEL.generate("c", state=s, n=9, seed=3, backend=b)),
    "generate_many": lambda b, s: MODEL.generate_many("", state=s, n=9, seed=3, num_samples=3, backend=b),
    "beam": lambda b, s: MODEL.beam("", state=s, n=4, beam=4, num_samples=4, backend=b),
    "state": lambda b, s: [array.tolist() for array in vars(MODEL.state("cd", s, b)).values()],
    "read": lambda b, s: MODEL.network(b).read(Chunk.rectangle(*np.ones((2, 2, 1), int), False), s).features.tolist(),
    "losses": lambda b, s: MODEL.network(b).losses(Chunk.rectangle(*np.ones((2, 2, 1), int), False), s)[0].tolist(),
    "logits": lambda b, s: MODEL.network(b).logits(s.features).tolist(),
}


@backends
@each("verb", VERBS)
def test_a_state_in_another_form_gives_the_same(verb, backend):
    """Strided, big-endian, read-only and the like: the answers of the state as it was made."""
    expected = VERBS[verb](backend, STATE)
    for form in FORMS:
        assert VERBS[verb](backend, state_in_form(form)) == expected, form


@backends
@each("verb", [verb for verb in VERBS if verb != "logits"])
@each("wrong", ["float64", "int32", "NaN", "two texts", "another size", "masked"])
def test_a_state_of_other_numbers_is_refused(verb, wrong, backend):
    """Another precision, another number of texts or units, NaN or a mask: ConfigError says so."""
    change = {
        "float64": lambda x: x.astype(np.float64),
        "int32": lambda x: x.astype(np.int32),
        "NaN": lambda x: x * np.nan,
        "two texts": lambda x: np.repeat(x, 2, axis=-2),
        "another size": lambda x: np.repeat(x, 2, axis=-1),
        "masked": np.ma.masked_array,
    }[wrong]
    state = nblstm.State(*map(change, vars(STATE).values()))
    if wrong == "NaN" and verb in ("read", "losses"):
        return  # a network carries what it is given; the models look
    with pytest.raises(ConfigError, match="state|finite"):
        VERBS[verb](backend, state)


@backends
@each("form", FORMS)
def test_parameters_in_another_form_give_the_same(form, backend):
    """A LanguageModel and a SeriesModel of strided, big-endian, read-only parameters answer as of plain ones."""
    model = make_model(parameters=forms(MODEL.parameters)[form])
    assert model.score("abcd", backend).nats == MODEL.score("abcd", backend).nats
    assert model.fingerprint == MODEL.fingerprint
    series = make_series(forms(SERIES.parameters)[form])
    assert np.array_equal(series.predict(np.arange(5.0), backend), SERIES.predict(np.arange(5.0), backend))


@each(
    "change",
    [lambda p: p.astype(np.float64), lambda p: p[:-1], lambda p: p[None], lambda p: p.tolist(), lambda p: p * np.nan],
)
def test_parameters_of_other_numbers_are_refused(change):
    """Another precision, another number of them, NaN: ConfigError when the model is made, not when it is used."""
    for make, parameters in ((make_model, MODEL.parameters), (make_series, SERIES.parameters)):
        with pytest.raises(ConfigError, match="parameters must"):
            make(parameters=change(parameters))


def test_parts_of_a_model_that_do_not_fit_are_refused():
    """A vocabulary of another size, a config of another kind, scales of another size."""
    with pytest.raises(ConfigError, match="vocab_size is 11, but the vocabulary has 3"):
        nblstm.LanguageModel(CONFIG, nblstm.Vocabulary.build(["ab"], "char"), MODEL.parameters, {})
    with pytest.raises(ConfigError, match="config must be a LanguageConfig"):
        nblstm.LanguageModel(TrainConfig(), VOCABULARY, MODEL.parameters, {})
    with pytest.raises(ConfigError, match="scale.mean must be"):
        nblstm.SeriesModel()._take(SERIES.config, SERIES.parameters, Scale(np.zeros(2), np.ones(2)), SERIES.targets, {})
    with pytest.raises(ConfigError, match="above 0"):
        nblstm.SeriesModel()._take(
            SERIES.config, SERIES.parameters, Scale(np.zeros(1), np.zeros(1)), SERIES.targets, {}
        )
    with pytest.raises(ConfigError, match="Vocabulary.build"):
        nblstm.Vocabulary(("<unk>", "a"))
    with pytest.raises(ConfigError, match="first token must be <unk>"):
        type(VOCABULARY)(("a", "b"))


# ---------------------------------------------------------------- ids


@backends
@each("ids", [[10**12], [-1], [V], [2**63], [1.0], [True], ["a"], [[1]], [1, 1], []])
def test_a_decoder_refuses_what_is_no_id(ids, backend):
    """Ids out of range would be read out of bounds; ConfigError names the range or the shape."""
    with pytest.raises(ConfigError, match="tokens must be"):
        MODEL.network(backend).decoder()(ids, STATE.copy())


@backends
@each("dtype", ["u1", "i2", "u4", "u8", ">i8", ">u8"])
def test_ids_of_any_integer_type_are_the_same(dtype, backend):
    """NumPy takes uint64 for no index, and compiled kernels know int64 alone: every type gives the same logits."""
    network, ids = MODEL.network(backend), np.array([3])
    expected = network.decoder()(ids, STATE.copy())
    assert np.array_equal(network.decoder()(ids.astype(dtype), STATE.copy()), expected)
    chunk = Chunk(ids.astype(dtype), ids.astype(dtype), np.array([0, 1], dtype), False)
    plain = Chunk.rectangle(ids[None], ids[None], False)
    assert np.array_equal(network.losses(chunk, STATE)[0], network.losses(plain, STATE)[0])
    assert np.array_equal(STATE.take(np.array([0, 0], dtype)).h, np.repeat(STATE.h, 2, axis=1))
    assert VOCABULARY.decode(ids.astype(dtype)) == VOCABULARY.decode([3])


@backends
@each("part", ["tokens", "targets", "offsets", "weights", "state", "gradient"])
def test_a_network_refuses_a_chunk_that_does_not_fit(part, backend):
    """Ids out of range, offsets that do not cut the rows, weights below 0, a state of another batch, a short gradient."""
    good = {
        "tokens": np.ones(3, np.int32), "targets": np.ones(3, np.int32), "offsets": np.array([0, 2, 3]),
        "weights": np.ones(3), "state": nblstm.State.zeros(CONFIG, 2), "gradient": np.zeros_like(MODEL.parameters),
    }  # fmt: skip
    ids = [np.full(3, 10**12), np.full(3, -1), np.full(3, V), np.ones(2, int), np.ones((3, 1), int), np.ones(3), None]
    offsets = [[0, 2], [1, 2, 3], [0, 1, 3], [0, 2, 2, 3], [0, 3, 2, 3], [3], [], [0, 2, 10**12], [0.0, 2.0, 3.0]]
    numbers = [np.zeros(3, np.float64), MODEL.parameters[::-1], np.zeros(3, np.float32)]
    bad = {
        "tokens": ids, "targets": ids, "offsets": [*map(np.array, offsets)], "state": [STATE, None, "x"],
        "weights": [-np.ones(3), np.ones(2), np.full(3, np.nan), np.array(["a"] * 3)], "gradient": numbers,
    }[part]  # fmt: skip
    network = Network(CONFIG, MODEL.parameters.copy(), backend, 1)
    for value in bad:
        given = {**good, part: value}
        if part == "tokens" and value is None:
            continue  # a chunk has tokens
        chunk = Chunk(given["tokens"], given["targets"], given["offsets"], False, given["weights"])
        with pytest.raises(ConfigError):
            network.loss_and_gradient(given["gradient"], chunk, given["state"], 0, 0)
        if part != "gradient":
            with pytest.raises(ConfigError):
                network.losses(chunk, given["state"])
            with pytest.raises(ConfigError):
                network.read(chunk, given["state"])


@backends
def test_a_decoder_writes_only_to_what_it_can(backend):
    """A state, logits or a history that cannot be written to in place is refused, not copied and lost."""
    decoder, logits = MODEL.network(backend).decoder(), MODEL.network(backend).logits(STATE.features)
    history, uniform, banned = np.zeros((1, 4), np.int64), np.zeros((2, 1)), np.zeros(1, np.int64)
    good = [history, 1, STATE.copy(), logits, uniform, banned, Filters()]
    bad = {
        0: [history[:, :2], history.astype(np.int32), history - 1, history[:, ::-1], np.full((1, 4), V)],
        2: [*map(state_in_form, ["strided", "big-endian", "read-only"]), STATE.take([0, 0]), None],
        3: [logits.astype(np.float64), logits[:, :-1], logits[:, ::-1]],
        4: [uniform.astype(np.float32), np.zeros((2, 2))],
        5: [np.array([V]), np.array([-1]), np.arange(V), np.array([0.5])],
    }
    for place, values in bad.items():
        for value in values:
            with pytest.raises(ConfigError):
                decoder.generate(*good[:place], value, *good[place + 1 :])
    places = Hypotheses(np.zeros(1), np.zeros(1), np.zeros(1, np.int64), np.zeros(1, bool))
    room = np.zeros((2, 1), np.int64)
    good = [room, room.copy(), 0, places, STATE.copy(), logits, np.zeros((2, 1, 0)), banned, Beam(longest=2)]
    bad = {
        0: [room[:1], room.astype(np.int32)],
        1: [room.astype(">i8")],
        3: [places._replace(length=np.zeros(1)), places._replace(finished=np.zeros(2, bool))],
        6: [np.zeros((2, 1, V)), np.zeros((2, 2, 0)), np.zeros((3, 1, 0))],
    }
    for place, values in bad.items():
        for value in values:
            with pytest.raises(ConfigError):
                decoder.search(*good[:place], value, *good[place + 1 :])


def test_a_forecast_has_a_longest_length():
    """n = 2**31 would go on for days: ConfigError names the most."""
    with pytest.raises(
        ConfigError, match="n must be at most 10,000,000 with so many numbers a step, got 2,147,483,648"
    ):
        SERIES.forecast(np.arange(5.0), 2**31)


# ---------------------------------------------------------------- indices


def test_every_index_is_made_in_one_place():
    """np.take, np.repeat and np.bincount get their rows and counts from `indices`, or a plain number with a capital name.

    On 32-bit platforms they refuse int64, as they refuse uint64 everywhere.
    """
    found = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            on_numpy = isinstance(node.func.value, ast.Name) and node.func.value.id == "np"
            if node.func.attr in ("take", "put", "choose", "repeat", "bincount") and on_numpy:
                index = node.args[0 if node.func.attr == "bincount" else 1]
            elif node.func.attr == "take" and any(word.arg == "axis" for word in node.keywords):
                index = node.args[0]  # of an array
            else:
                continue
            made = isinstance(index, ast.Call) and getattr(index.func, "id", "") == "indices"
            made |= isinstance(index, ast.Name) and (
                index.id == "texts" and "state.py" in path.name or index.id.isupper()
            )
            found.append((path.name, node.lineno, node.func.attr, made))
    assert len(found) > 8 and [place for place in found if not place[-1]] == []


def test_indices_are_what_numpy_takes():
    """uint64 raises in np.repeat as int64 does where pointers have 32 bits; what `indices` makes does not."""
    x, rows = np.arange(2.0), np.array([2, 0], np.uint64)
    with pytest.raises(TypeError, match="according to the rule 'safe'"):
        np.repeat(x, rows)
    assert np.repeat(x, indices(rows)).tolist() == [0, 0] and np.take(np.arange(3), indices(rows)).tolist() == [2, 0]
    assert indices(rows).dtype == np.intp
    kept = np.array([1], np.intp)
    assert indices(kept) is kept


@backends
@each("dtype", ["u8", "u4", "i8", "i4"])
def test_kernels_gather_by_ids_of_any_type(dtype, backend):
    """embedding_forward takes what a text's ids and offsets may be."""
    y, weight = np.empty((2, 3), np.float32), np.arange(12, dtype=np.float32).reshape(4, 3)
    load(backend).embedding_forward(y, np.array([3, 1], dtype), weight, 1)
    assert np.array_equal(y, weight[[3, 1]])


# ---------------------------------------------------------------- no rows


@each("config", [SampleConfig(temperature=2, top_p=1), TrainConfig(lr=1, epochs=1), BeamConfig(length_penalty=1)])
def test_a_whole_number_is_a_float_where_one_is_asked_for(config):
    """NumPy makes objects of whole numbers beyond 64 bits, and a file of settings has the same bytes for 1 and 1.0."""
    for field in dataclasses.fields(config):
        if field.type == "float":
            assert type(getattr(config, field.name)) is float, field.name


@backends
def test_no_rows_are_no_loss_and_no_gradient(backend):
    """A head of zero rows adds nothing, and a chunk of which no target counts has the loss 0 and no gradient."""
    kernels, D = load(backend), 3
    x, weight, bias = np.zeros((0, D), np.float32), np.ones((V, D), np.float32), np.zeros(V, np.float32)
    dweight, dbias, none = np.ones_like(weight), np.ones_like(bias), np.zeros(0, np.float32)
    targets = np.zeros(0, np.int32)
    kernels.softmax_losses(none, kernels.softmax_work(0, D, V, np.float32, 2), x, targets, weight, bias, 2)
    work = kernels.softmax_gradient_work(0, D, V, np.float32, 2)
    loss = CrossEntropy(targets, none)
    kernels.softmax_losses_and_gradient(none, x.copy(), dweight, dbias, work, x, loss, weight, bias, 2)
    assert (dweight == 1).all() and (dbias == 1).all()
    network = Network(CONFIG, MODEL.parameters, backend, 2)
    gradient = np.full_like(MODEL.parameters, 7)
    chunk = Chunk(np.ones(2, np.int32), np.ones(2, np.int32), np.array([0, 1, 2]), False, np.zeros(2))
    loss, _ = network.loss_and_gradient(gradient, chunk, network.initial_state(), 0, 0)
    assert loss == 0 and not gradient.any()


# ---------------------------------------------------------------- logits that are not finite


def lost_model(bias):
    """A model whose logit of "a" is `bias` (it may be large but finite) plus what overflows once "b" has been read."""
    config = dataclasses.replace(CONFIG, cell="rnn", nonlinearity="relu", embedding_size=1, hidden_size=1, num_layers=1)
    model = make_model(config, np.zeros(config.num_parameters, np.float32))
    weights = model.network().weights
    weights["embedding.weight"][VOCABULARY.encode("b")] = 3e38
    weights["rnn.weight_ih_l0"][...] = weights["head.weight"][VOCABULARY.encode("a")] = 1
    weights["head.bias"][VOCABULARY.encode("a")] = bias
    return model


LOST = {
    "generate": lambda m, b: "".join(m.generate("b", n=3, seed=1, backend=b)),
    "greedy": lambda m, b: "".join(m.generate("b", n=3, temperature=0, backend=b)),
    "filtered": lambda m, b: "".join(m.generate("b", n=3, top_k=2, top_p=0.9, seed=1, backend=b)),
    "many": lambda m, b: m.generate_many("b", n=3, num_samples=3, seed=1, backend=b),
    "beam": lambda m, b: m.beam("b", n=3, beam=3, backend=b),
    "stochastic": lambda m, b: m.beam("b", n=3, beam=3, stochastic=True, seed=1, backend=b),
    "score": lambda m, b: m.score("ba", b).nats,
    "score_lines": lambda m, b: [score.nats for score in m.score_lines(["a", "bc"], b)],
    "surprisals": lambda m, b: m.surprisals("ba", b).nats,
    "decoder": lambda m, b: m.network(b).decoder()(m.encode("b"), m.network(b).initial_state()),
}


@backends
@each("verb", LOST)
def test_logits_that_overflow_are_an_error(verb, backend):
    """Weights that are finite, and a logit that is not: NonFiniteError in every verb, and no warning."""
    with pytest.raises(NonFiniteError, match="not finite: the model's weights are damaged or far too large"):
        LOST[verb](lost_model(1e38), backend)


INFINITE = {**LOST, "state": lambda m, b: m.state("b", None, b)}  # what is asked where the state itself is lost
OVERFLOWING = {  # cell -> its options; every gate of each is made to overflow
    "lstm": {}, "gru": {}, "rnn": {}, "relu": {"cell": "rnn", "nonlinearity": "relu"}, "update-lstm": {}, "mingru": {},
    "mogrifier-lstm": {}, "peepholes": {"cell": "lstm", "peepholes": True}, "layer_norm": {"cell": "gru", "layer_norm": True},
}  # fmt: skip


def overflowing_models(cell):
    """Models of a cell that has read "b" when one row of one of its products is infinite, of either sign; else zero."""
    options = {"embedding_size": 2, "hidden_size": 2, "num_layers": 1, "cell": cell, **OVERFLOWING[cell]}
    config = dataclasses.replace(CONFIG, **options)
    for row in range(len(config.cells[0].definition.inputs) * 2):
        for large in (3e38, -3e38):
            model = make_model(config, np.zeros(config.num_parameters, np.float32))
            weights = model.network().weights
            weights["embedding.weight"][VOCABULARY.encode("b")] = large
            weights["rnn.weight_ih_l0"][row] = 1e9
            yield row, large, model


@backends
@each("cell", OVERFLOWING)
def test_a_sum_that_overflows_within_a_cell_is_an_error(cell, backend):
    """What a gate makes of infinity would be a 0 or 1 like any other: NonFiniteError, whichever gate it is."""
    for row, large, model in overflowing_models(cell):
        for verb in ("score", "state", "greedy", "decoder"):
            with pytest.raises(NonFiniteError):
                print(cell, row, large, verb, INFINITE[verb](model, backend))


@backends
@each("cell", ["lstm", "gru", "rnn", "update-lstm", "mingru"])
def test_weights_that_are_far_too_large_are_an_error(cell, backend):
    """Weights of 3e37 of random signs say nothing: no backend makes a number of them."""
    config = dataclasses.replace(CONFIG, cell=cell, hidden_size=16)
    signs = np.random.default_rng(4).choice([-3e37, 3e37], config.num_parameters)
    model = make_model(config, signs.astype(np.float32))
    for verb in ("generate", "beam", "score", "surprisals", "state"):
        with pytest.raises(NonFiniteError):
            print(INFINITE[verb](model, backend))


@backends
@each("pooling", ["last", "mean", "max", "attention"])
def test_a_classifier_notices_what_overflows_in_any_step(pooling, backend):
    """Whatever makes one vector of a text: a step that is not finite is in it, the first, one in the middle, the last."""
    ends = nblstm.Vocabulary.build(["ab"], "char", ends=True)
    config = nblstm.ClassifierConfig(
        len(ends), labels=("x", "y"), embedding_size=2, hidden_size=2, pooling=pooling, cell="mingru"
    )
    model = nblstm.TextClassifier.of_parameters(config, ends, np.zeros(config.num_parameters, np.float32), {})
    weights = model._network(backend, 0).weights
    weights["embedding.weight"][ends.encode("b")] = 3e38
    for name in ("rnn.weight_ih_l0", "rnn.weight_ih_l0_reverse"):
        weights[name][2:] = -1e9  # n, without a gate: h of this step is -inf
    assert model.predict_proba(["aaa"], backend).tolist() == [[0.5, 0.5]]
    for text in ("baa", "aba", "aab"):
        with pytest.raises(NonFiniteError):
            print(text, model.predict_proba([text], backend))


def test_a_window_notices_what_overflows():
    """relu of -inf would be 0."""
    model, config = (
        nblstm.MLPLanguageModel(window=2, hidden_size=3),
        WindowConfig(V, 2, embedding_size=2, hidden_size=3),
    )
    parameters = np.zeros(config.num_parameters, np.float32)
    weights = views(parameters, config)
    weights["embedding.weight"][...], weights["dense.weight"][1] = 3e38, -1e9
    model._take(config, VOCABULARY, parameters, {})
    for call in (lambda: model.predict([[1]]), lambda: model.generate_text("a", 2), lambda: model.score("abc")):
        with pytest.raises(NonFiniteError):
            call()


@backends
def test_the_token_that_is_lost_is_named(backend):
    """What can be written is written: the error comes at the token whose logits are not finite."""
    model = lost_model(1e38)
    model.network().weights["head.bias"][VOCABULARY.encode("b")] = 2e38  # so "b" is certain, and then a logit overflows
    pieces = model.generate("c", n=9, seed=1, backend=backend)
    assert "".join([next(pieces)]) == "b"
    with pytest.raises(NonFiniteError, match="the logits of token 1 of text 0 are not finite"):
        next(pieces)
    with pytest.raises(NonFiniteError, match="the logits of token 1 of a hypothesis"):
        model.beam("c", n=9, beam=2, backend=backend)
    with pytest.raises(NonFiniteError, match="the loss of token 1 of text 1"):
        list(model.score_lines(["c", "ba"], backend))


@backends
def test_what_cannot_be_drawn_is_marked(backend):
    """draw: -1 where a logit is NaN or inf, or all are -inf; beside it, the other rows as ever."""
    kernels = load(backend)
    logits = np.zeros((6, 5), np.float32)
    logits[0, 3], logits[1, 2], logits[2], logits[3, 0], logits[4, :4] = np.nan, np.inf, -np.inf, np.nan, -np.inf
    for temperature in (0.0, 1.0):
        tokens = np.zeros(6, np.int64)
        kernels.draw(
            tokens, logits, np.full(6, 0.5), np.zeros((6, 0), np.int64), np.array([0]), Filters(temperature), 2
        )
        assert tokens[:4].tolist() == [-1] * 4 and tokens[4] == 4 and tokens[5] > 0


@backends
def test_a_text_that_is_over_is_not_missed(backend):
    """Of several texts one is lost behind its stop string: the others go on, and nothing is raised."""
    model = lost_model(1e38)
    model.network().weights["head.bias"][VOCABULARY.encode("b")] = 2e38
    assert model.generate_many("c", n=9, num_samples=2, stop="b", seed=1, backend=backend) == ["", ""]


@backends
def test_predictions_that_overflow_are_an_error(backend):
    """A series that is predicted as infinity is none."""
    series = make_series(np.full(SERIES.config.num_parameters, 3e38, np.float32))
    with pytest.raises(NonFiniteError):
        series.predict(np.arange(5.0), backend)
    with pytest.raises(NonFiniteError):
        series.forecast(np.arange(5.0), 3)


def test_programs_say_that_their_logits_overflow(programs):
    """predict, generate_text and score of a windowed model."""
    mlp, vocabulary = nblstm.MLPLanguageModel(window=2, hidden_size=3), programs["MLPLanguageModel"].vocabulary
    config = programs["MLPLanguageModel"].config
    mlp._take(config, vocabulary, np.full(config.num_parameters, 3e38, np.float32), {})
    for call in (lambda: mlp.predict([[1]]), lambda: mlp.generate_text("a", 2), lambda: mlp.score("abc")):
        with pytest.raises(NonFiniteError):
            call()


# ---------------------------------------------------------------- the kernels' cache

posix = pytest.mark.skipif(not hasattr(os, "getuid") or "cpu" not in BACKENDS, reason="owners and numba are asked for")

CACHED = """
import numpy as np
from nblstm.kernels import cpu
from nblstm.kernels.cpu.jit import KernelCache
assert cpu.squared_norm(np.array([3.0, 4.0]), 1) == 25
print(KernelCache.refusal, cpu._squares._cache.cache_path if hasattr(cpu, "_squares") else "", sep="|")
"""


def cached(folder, home, script=CACHED):
    """What a fresh process says of its cache, which should be in `folder`."""
    variables = {**os.environ, "PYTHONPATH": str(PACKAGE.parent), "NUMBA_CACHE_DIR": str(folder), "HOME": str(home)}
    variables.pop("XDG_CACHE_HOME", None)
    done = subprocess.run([sys.executable, "-c", script], env=variables, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout.strip()


@posix
@pytest.mark.parametrize("others", ["folder", "above", "file"])
def test_a_cache_that_others_can_write_to_is_not_used(others, tmp_path):
    """Numba unpickles what it finds: such a folder gets nothing, and gives nothing; a sentence says which it is."""
    folder = tmp_path / "shared" / "cache"
    folder.mkdir(parents=True)
    assert cached(folder, tmp_path).startswith("None|")
    files = [path for path in folder.rglob("*.nb?")]
    before = {path: path.stat().st_mtime_ns for path in files}
    assert files
    {"folder": files[0].parent, "above": folder.parent, "file": files[0]}[others].chmod(0o777)
    for path in files:
        if path.suffix == ".nbc":
            path.write_bytes(b"not a pickle")  # would be replaced if it were looked at
    said = cached(folder, tmp_path)
    assert said.startswith(f"the kernel cache {files[0].parent} is not used, as others can write to {tmp_path}")
    assert [path.read_bytes() for path in before if path.suffix == ".nbc"] == [b"not a pickle"] * (len(files) // 2)


CALLING = """
import numpy as np
from nblstm.kernels import cpu
x, weight, y = np.arange(6.0).reshape(2, 3), np.ones((4, 3)), np.empty((2, 4))
cpu.linear_forward(y, cpu.linear_work(2, 3, 4, float, 1), x, weight, np.zeros(4), 1)
assert y.tolist() == [[3] * 4, [12] * 4]
print(sum(kernel.stats.cache_hits.total() for kernel in (cpu.head._linear_rows, cpu.products.product)))
"""


@posix
def test_a_kernel_from_the_cache_finds_the_functions_that_it_calls(tmp_path):
    """Those that are compiled once for all kernels: from the cache too, or compiled again where their file is lost."""
    asked = lambda: cached(tmp_path / "cache", tmp_path, CALLING)
    assert (asked(), asked()) == ("0", "2")
    for path in (tmp_path / "cache").rglob("products.product-*"):
        path.unlink()
    assert (asked(), asked()) == ("1", "2")


@posix
def test_a_sticky_folder_may_stand_above_a_cache(tmp_path):
    """In /tmp everyone can make files, but nobody can replace another's folder."""
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp").chmod(0o1777)
    assert cached(tmp_path / "tmp" / "mine", tmp_path).startswith("None|")


@posix
def test_the_command_says_so_in_one_line(tmp_path, folder, command, monkeypatch):
    """Where a cache is not used, a line on stderr tells the user, and the command does its work."""
    from nblstm.kernels.cpu.jit import KernelCache

    monkeypatch.setattr(KernelCache, "refusal", "the kernel cache is not used.")
    done = command("score", "corpus.txt", "--backend", "cpu")
    assert done.code == 0 and done.err.count("the kernel cache is not used.\n") == 1
