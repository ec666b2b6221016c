"""One model, many threads: whoever reads with a model gets what a single caller gets, also in a forked process."""

import itertools
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from support.files import store
from support.networks import text_config
from support.numba import needs_numba

import nblstm
from nblstm.nn.network import Network
from nblstm.nn.parameters import initial, named_tensors
from nblstm.nn.pooling import POOLINGS
from nblstm.remembered import remembered
from nblstm.tasks.classification.config import ClassifierConfig
from nblstm.tasks.classification.network import initial_classifier
from nblstm.tasks.language.config import LanguageConfig
from nblstm.tasks.language.model import LanguageModel
from nblstm.tasks.masked.config import MaskedConfig
from nblstm.tasks.masked.model import MaskedLanguageModel
from nblstm.tasks.series.config import SeriesConfig
from nblstm.tasks.series.model import Scale, SeriesModel
from nblstm.tasks.tagging.network import initial_tagger
from nblstm.tasks.translation.network import initial_translator
from nblstm.tasks.window.config import WindowConfig
from nblstm.tasks.window.network import initial_windows
from nblstm.text.vocabulary import Vocabulary

THREADS = 8
VERSE = "Shall I compare thee to a summer's day?\nThou art more lovely and more temperate:\n"
TEXTS = [(VERSE * 3)[start : 150 + 13 * start] for start in range(8)]
PIECES = [(VERSE * 4)[start : start + 40 + 3 * start] for start in range(8)]
CELLS = {
    "lstm": {"num_layers": 2},
    "gru, cell by cell": {"cell": "gru", "residual": True, "embedding_size": 24},
    "layer norm": {"layer_norm": True},
    "both directions": {"bidirectional": True},
    "adaptive head": {"level": "word", "head": "adaptive", "cutoffs": "3,6"},
    "int8 weights": {"weights": "int8"},
}
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


@pytest.fixture(autouse=True)
def impatient():
    """Threads take turns as often as Python lets them."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def a_model(seed=0, level="char", weights="float32", **options):
    """A model of random weights that knows the verse, with an opinion of its own about it."""
    vocabulary = Vocabulary.build([VERSE], level)
    config = text_config(len(vocabulary), **{"hidden_size": 24, "num_layers": 1, **options})
    kind = MaskedLanguageModel if isinstance(config, MaskedConfig) else LanguageModel
    model = kind(config, vocabulary, 2 * initial(config, seed), {})
    return model.quantize() if weights == "int8" else model


def pooled(tasks):
    """What the tasks return, done by THREADS threads that all begin at once."""
    start = threading.Barrier(THREADS)
    with ThreadPoolExecutor(THREADS, initializer=start.wait) as pool:
        return list(pool.map(lambda task: task(), tasks))


def assert_serial_equals_pooled(tasks, times=2):
    """Every task gives to the last bit what it gives alone."""
    expected = [task() for task in tasks]
    for found in (pooled(tasks) for _ in range(times)):
        for one, other in zip(found, expected):
            np.testing.assert_equal(one, other)


# ---------------------------------------------------------------- what is asked of a model


def score(model, backend, k, folder):
    return model.score(TEXTS[k], backend)


def score_lines(model, backend, k, folder):
    return list(model.score_lines(TEXTS[k:] + PIECES[:k], backend))


def surprisals(model, backend, k, folder):
    return model.surprisals(TEXTS[k], backend).nats


def state(model, backend, k, folder):
    return vars(model.state(TEXTS[k], backend=backend))


def generate(model, backend, k, folder):
    writing = model.generate(PIECES[k], n=30, seed=k, backend=backend)
    return "".join(itertools.islice(writing, 3)), vars(writing.state()), "".join(writing)


def generate_many(model, backend, k, folder):
    return model.generate_many(PIECES[k], n=20, num_samples=1 + k, seed=k, top_k=5, backend=backend)


def generate_novel(model, backend, k, folder):
    return model.generate_novel(PIECES[k], corpus=VERSE, n=6, num_samples=3, seed=k, backend=backend)


def beam(model, backend, k, folder):
    return model.beam(PIECES[k], n=8, beam=2 + k, backend=backend)


def cowriter(model, backend, k, folder):
    writer, offered = model.cowriter(continuations=2, n=5, backend=backend), []
    for key in PIECES[k][:12]:
        writer.type(key)
        offered.append(writer.continuations())
    return writer.text, offered


def stored_state(model, backend, k, folder):
    path = folder / f"{model.fingerprint}-{backend}-{k}-{threading.get_ident()}.state"
    model.save_state(path, model.state(PIECES[k], backend=backend))
    return vars(model.load_state(path))


def learn(model, backend, k, folder):
    return model.dynamic_score(PIECES[k], backend, segment=8, rule="sgd"), model.adapt(
        PIECES[k][:20], backend, rule="sgd"
    ).fingerprint


SCORING = [score, score_lines, surprisals]
WRITING = [state, generate, generate_many, generate_novel, beam, cowriter, stored_state, learn]


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
@pytest.mark.parametrize("cell", CELLS)
def test_threads_get_what_one_caller_gets(cell, backend, tmp_path):
    """Eight threads that ask one model for everything at once, both backends, every kind of network."""
    model = a_model(**CELLS[cell])
    verbs = SCORING if model.config.directions == 2 else SCORING + WRITING
    if CELLS[cell].get("weights") == "int8":  # which learn nothing
        verbs = [verb for verb in verbs if verb is not learn]
    asked = itertools.product(range(8), verbs)
    assert_serial_equals_pooled([lambda k=k, verb=verb: verb(model, backend, k, tmp_path) for k, verb in asked])


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
def test_two_models_do_not_disturb_each_other(backend, tmp_path):
    """Threads that ask a model of characters and one of words."""
    models = [a_model(1), a_model(2, "word", num_layers=2, hidden_size=40)]
    asked = itertools.product(range(8), [score, surprisals, generate, beam], models)
    assert_serial_equals_pooled(
        [lambda k=k, verb=verb, model=model: verb(model, backend, k, tmp_path) for k, verb, model in asked]
    )


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
def test_a_classifier_answers_threads_as_one_caller(backend):
    """predict_proba, predict, score and evaluate of every pooling, asked by eight threads at once."""
    vocabulary, tasks = Vocabulary.build([VERSE], "word", ends=True), []
    for pooling in POOLINGS:
        config = ClassifierConfig(len(vocabulary), labels=("a", "b", "c"), hidden_size=20, pooling=pooling)
        parameters = 3 * initial_classifier(config, vocabulary, 0)
        model = nblstm.TextClassifier.of_parameters(config, vocabulary, parameters, {})
        for k in range(8):
            some, labels = TEXTS[k:] + PIECES[:k], ["a", "b", "c", "a", "b", "c", "a", "b"]
            tasks += [
                lambda ask=ask, more=more, some=some: ask(some, *more, backend)
                for ask, more in (
                    (model.predict_proba, []), (model.predict, []), (model.score, [labels]),
                    (lambda *args, model=model: model.evaluate(*args).confusion, [labels]),
                )
            ]  # fmt: skip
    assert_serial_equals_pooled(tasks)


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
def test_a_translator_answers_threads_as_one_caller(backend):
    """Searched and drawn translations, score and evaluate, with attention, input feeding and without, by eight threads."""
    vocabulary, tasks = Vocabulary.build([VERSE], "word", ends=True), []
    for options in ({}, {"attention": "additive", "input_feeding": True}, {"attention": "none", "cell": "gru"}):
        config = nblstm.TranslatorConfig(len(vocabulary), len(vocabulary), hidden_size=12, num_layers=1, **options)
        parameters = 3 * initial_translator(config, 0)
        model = nblstm.Translator.of_parameters(config, (vocabulary, vocabulary), parameters, {})
        for k in range(4):
            some, how = [text[:60] for text in TEXTS[k : k + 3]], {"n": 6, "backend": backend, "threads": 1 + k % 2}
            tasks += [
                lambda model=model, some=some, how=how: model.translate(some, **how),
                lambda model=model, some=some, how=how: [
                    [(best.text, best.log_probability, best.attention) for best in each]
                    for each in model.translations(some, num_samples=2, beam=3, **how)
                ],
                lambda model=model, some=some, how=how, k=k: model.translate(some, temperature=1.0, seed=k, **how),
                lambda model=model, some=some, how=how: vars(model.evaluate(some, some[::-1], **how)),
            ]
    assert_serial_equals_pooled(tasks)


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
def test_a_tagger_answers_threads_as_one_caller(backend):
    """predict, score and evaluate of both heads, with characters and without, by eight threads at once."""
    words, tags, tasks = Vocabulary.build([VERSE], "word", "whitespace"), ("O", "B-X", "I-X", "E-X", "S-X"), []
    for options in ({}, {"head": "softmax"}, {"char_hidden_size": 0}):
        sizes = {"hidden_size": 12, "char_hidden_size": 5, "characters": "".join(sorted(set(VERSE))), **options}
        config = nblstm.TaggerConfig(len(words), tags=tags, scheme="iob2", **sizes)
        model = nblstm.Tagger.of_parameters(config, words, 3 * initial_tagger(config, 0), {})
        for k in range(6):
            sentences = [text.split() for text in TEXTS[k:] + PIECES[:k]]
            gold = [["B-X"] * len(sentence) for sentence in sentences]
            tasks += [
                lambda model=model, some=sentences, k=k: model.predict(some, backend, 1 + k % 2),
                lambda model=model, some=sentences, gold=gold: model.score(some, gold, backend),
                lambda model=model, some=sentences, gold=gold: vars(model.evaluate(some, gold, backend)),
            ]
    assert_serial_equals_pooled(tasks)


@pytest.mark.parametrize("shape", [{}, {"embedding_size": 6}], ids=["one-hot", "embedded"])
def test_programs_answer_threads_as_one_caller(shape, tmp_path):
    """predict, score and generate_text of both of the article's programs, asked by eight threads at once."""
    vocabulary = Vocabulary.build([VERSE], "char")
    tasks, ids = [], [vocabulary.encode(text).tolist() for text in TEXTS]
    for kind, Config, fresh, sizes in (
        (nblstm.MLPLanguageModel, WindowConfig, initial_windows, {"window": 5, "hidden_size": 20, **shape}),
        (nblstm.TextGenerator, LanguageConfig, initial, {"hidden_size": 20, "num_layers": 1}),
    ):
        config = Config(vocab_size=len(vocabulary), **sizes)
        path = tmp_path / f"{kind.__name__}.safetensors"
        store(path, config, vocabulary, named_tensors(3 * fresh(config, 0), config), {})
        program = kind.load(path)
        for k in range(8):
            tasks += [
                lambda program=program, k=k: program.predict(ids[k:]),
                lambda program=program, k=k: program.score(TEXTS[k]),
                lambda program=program, k=k: program.generate_text(PIECES[k], n=25, seed=k),
            ]
    assert_serial_equals_pooled(tasks)


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
def test_a_model_of_series_answers_threads_as_one_caller(backend):
    """predict and forecast, asked by eight threads at once."""
    config = SeriesConfig(2, 2, hidden_size=24, num_layers=1)
    scale = Scale(np.array([0.5, -1.0]), np.array([2.0, 0.5]))
    model = SeriesModel()._take(config, 2 * initial(config, 1), scale, scale, {})
    series = [np.random.default_rng(k).normal(size=(50 + 7 * k, 2)) for k in range(8)]
    predict = [lambda x=x: model.predict(x, backend) for x in series]
    assert_serial_equals_pooled(predict + [lambda x=x: model.forecast(x, 5) for x in series])


# ---------------------------------------------------------------- what is asked for piece by piece


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
def test_iterators_of_one_thread_do_not_disturb_each_other(backend):
    """Texts, scores and continuations that are made in turns are those that are made one after the other."""
    model, words = a_model(num_layers=2), a_model(2, "word")

    def steps():
        """Five iterators over the same two models."""
        yield model.generate("Thou", n=40, seed=1, backend=backend)
        yield model.generate("Shall I", n=40, seed=2, backend=backend)
        yield words.generate("more", n=40, seed=3, backend=backend)
        yield iter(model.score_lines(TEXTS, backend))
        writer = model.cowriter(n=4, continuations=2, backend=backend)
        yield (writer.type(key) or writer.continuations() for key in "Thou art")

    expected = [list(iterator) for iterator in steps()]
    found = list(zip(*itertools.zip_longest(*steps())))
    assert [[piece for piece in pieces if piece is not None] for pieces in found] == expected


def test_two_threads_may_ask_one_cowriter(tmp_path):
    """Continuations that are looked for while somebody types are those of a line that was there, never a mixture."""
    alone, line = {}, "Shall I compare"
    for end in range(len(line) + 1):
        writer = a_model().cowriter(n=3, continuations=2)
        writer.type(line[:end])
        alone[line[:end]] = writer.continuations()
    writer, found, done = a_model().cowriter(n=3, continuations=2), [], threading.Event()

    def ask():
        while not done.is_set():
            before = writer.line
            found.append((before, writer.continuations(), writer.line))

    asking = threading.Thread(target=ask)
    asking.start()
    for key in line:
        writer.type(key)
        writer.continuations()
    done.set()
    asking.join()
    for before, offered, after in found:
        assert offered in [alone[line[:end]] for end in range(len(before), len(after) + 1)]
    assert writer.continuations() == alone[line]


# ---------------------------------------------------------------- what threads share


def test_a_network_is_made_once(monkeypatch):
    """Threads that ask for a network at once get the same one."""
    model = a_model()
    assert len(set(map(id, pooled([lambda: model.network("numpy")] * THREADS)))) == 1


@needs_numba
def test_a_reading_model_blocks_no_other():
    """While one model reads a prompt, another writes, in whatever Python: no lock is held while computing."""
    slow, quick, reading, go_on = a_model(1), a_model(2), threading.Event(), threading.Event()
    read = slow.state_after

    def state_after(*args):
        reading.set()
        go_on.wait(60)
        return read(*args)

    slow.state_after = state_after
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(lambda: "".join(slow.generate("Thou", n=3, seed=0)))
        assert reading.wait(60)
        try:
            assert len(pool.submit(lambda: "".join(quick.generate("Thou", n=3, seed=0))).result(30)) == 3
        finally:
            go_on.set()
        assert len(waiting.result(60)) == 3


def test_nothing_holds_a_lock_to_remember_a_value():
    """functools.cached_property, which has a lock for the whole process before Python 3.12, is used nowhere."""
    package = Path(nblstm.__file__).parent
    assert [path for path in package.rglob("*.py") if "cached_property" in path.read_text(encoding="utf-8")] == []


def test_a_remembered_value_is_computed_once_and_is_one_for_all():
    """Two callers that compute it at once get the same object, and later ones do not compute it."""
    both, computed = threading.Barrier(2), []

    class Thing:
        @remembered
        def value(self):
            """What it is."""
            computed.append(1)
            both.wait(30)
            return object()

    thing = Thing()
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: thing.value, range(2))
    assert first is second is thing.value and len(computed) == 2 and Thing.value.__doc__ == "What it is."


def test_a_crowd_leaves_few_buffers_behind():
    """After 64 calls at once a network keeps scratch for a few, not for 64."""
    model, start = a_model(), threading.Barrier(64)
    network = model.network("cpu")

    def borrow():
        with network.scratch() as space:
            start.wait(60)
            return id(space)

    with ThreadPoolExecutor(64) as pool:
        assert len({future.result() for future in [pool.submit(borrow) for _ in range(64)]}) == 64
    assert len(network._workspaces._free) <= 4


def test_a_failed_call_gives_no_buffer_back():
    """Threads that an interrupt has left behind may still be writing to it."""
    network = a_model().network("numpy")
    with pytest.raises(KeyboardInterrupt), network.scratch():
        raise KeyboardInterrupt
    assert len(network._workspaces._free) == 0


# ---------------------------------------------------------------- what may change


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
def test_a_decoder_reads_with_the_parameters_of_its_making(backend):
    """Where parameters may change, as in training, every new decoder has the present ones."""
    config = LanguageConfig(7, hidden_size=8, num_layers=1)
    parameters = initial(config, 0)
    network, found = Network(config, parameters, backend), []
    for seed in (0, 1):
        parameters[:] = initial(config, seed)
        expected = Network(config, initial(config, seed), backend).decoder()([3], network.initial_state())
        found.append(network.decoder()([3], network.initial_state()))
        np.testing.assert_array_equal(found[-1], expected)
    assert not np.array_equal(*found)


def test_the_parameters_of_a_model_are_only_to_be_read():
    """A model whose weights are packed once cannot be changed by accident."""
    with pytest.raises(ValueError, match="read-only"):
        a_model().parameters[0] = 1.0


# ---------------------------------------------------------------- forks

FORKS = """
import os, signal, sys, threading, time, warnings
warnings.filterwarnings("ignore", message=".*multi-threaded.*", category=DeprecationWarning)
import numpy as np
import nblstm
from nblstm.tasks.language.config import LanguageConfig
from nblstm.tasks.language.model import LanguageModel
from nblstm.nn.parameters import initial
from nblstm.text.vocabulary import Vocabulary

def forked(answer, seconds=30):
    '''Whether a child in which answer() is true ends in time.'''
    child = os.fork()
    if child == 0:
        signal.alarm(seconds)
        try:
            os._exit(0 if answer() else 1)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(2)
    return os.waitpid(child, 0)[1] == 0

def beside(work, forks, answer):
    '''How many of the children that are forked while a thread works give the answer.'''
    stop = threading.Event()
    thread = threading.Thread(target=lambda: [work() for _ in iter(stop.is_set, True)])
    thread.start()
    answered = 0
    for _ in range(forks):
        answered += forked(answer)
        time.sleep(0.002)
    stop.set()
    thread.join()
    return answered
"""

ANSWERS = """
verse = "Shall I compare thee to a summer's day? " * 6
vocabulary = Vocabulary.build([verse], "char")
config = LanguageConfig(len(vocabulary), hidden_size=40, num_layers=2)
fresh = lambda: LanguageModel(config, vocabulary, 2 * initial(config, 0), {})
model, backend = fresh(), sys.argv[1]

def ask(model):
    return "".join(model.generate("Thou", n=30, seed=1, backend=backend)), model.score(verse, backend, 2).nats

expected = ask(model)
print(beside(lambda: ask(model), 12, lambda: ask(model) == ask(fresh()) == expected))
print(ask(model) == expected)
"""

COMPILING = """
from nblstm.kernels.cpu.jit import jit

def compiled(number):
    exec(f"def f(x):\\n    return x + {number}", made := {})
    return jit(made["f"])(1)

compiled(0)
print(beside(lambda: compiled(1), 8, lambda: compiled(2) == 3))
"""


@needs_numba
@needs_fork
@pytest.mark.parametrize("backend", ["numpy", "cpu"])
def test_a_child_answers_whatever_threads_were_doing(python, backend):
    """Children that are forked while a thread of the parent generates and scores, also in Python's development mode."""
    asked = python("-c", FORKS + ANSWERS, backend, env={"PYTHONDEVMODE": "1"}.items(), timeout=300)
    assert (asked.out.split(), asked.err) == (["12", "True"], "")


@needs_numba
@needs_fork
def test_a_child_can_compile_whatever_threads_were_compiling(python):
    """A fork waits for a kernel that is being compiled; the child then compiles its own."""
    asked = python("-c", FORKS + COMPILING, timeout=300)
    assert (asked.out.split(), asked.err) == (["8"], "")


@needs_numba
def test_threads_in_development_mode(python):
    """Eight threads score and write with one model while Python checks its memory and warnings are errors."""
    script = """
from concurrent.futures import ThreadPoolExecutor
import sys
sys.path.insert(0, "tests")
import test_threads as t
model = t.a_model(num_layers=2)
for backend in ("numpy", "cpu"):
    tasks = [lambda k=k, verb=verb: verb(model, backend, k, None) for k in range(8) for verb in (t.score, t.generate)]
    t.assert_serial_equals_pooled(tasks)
"""
    asked = python("-c", script, env={"PYTHONDEVMODE": "1"}.items(), timeout=300, cwd=Path(__file__).parent.parent)
    assert (asked.code, asked.err) == (0, "")
