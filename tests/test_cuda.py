"""The GPU kernels against the specification: on a card where there is one, and in a process with numba's simulator.

Run by hand in the simulator: NUMBA_ENABLE_CUDASIM=1 python -m pytest tests/test_cuda.py
"""

import importlib.util
import inspect
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
from support.kernels import CELLS as FAST_CELLS
from support.kernels import CONTRACT, run_layer

import nblstm
from nblstm.config import BeamConfig, SampleConfig, TrainConfig
from nblstm.errors import ConfigError, DeviceError
from nblstm.generation.beam import BeamSearch
from nblstm.generation.sampler import generate
from nblstm.kernels import AdamSettings, CrossEntropy, Filters, reference
from nblstm.kernels.cells import Cell
from nblstm.nn.network import Network
from nblstm.nn.parameters import initial
from nblstm.tasks.language.config import LanguageConfig
from nblstm.text.batches import Chunk, Streams
from nblstm.text.vocabulary import Vocabulary
from nblstm.training.memory import card_bytes
from nblstm.training.trainer import Trainer

cuda = pytest.importorskip("nblstm.kernels.cuda")
THERE = cuda.device.SIMULATED or (
    importlib.util.find_spec("numba_cuda") is not None and cuda.device.cuda.is_available()
)
needs_card = pytest.mark.skipif(not THERE, reason="no NVIDIA card here")
CELLS = {**FAST_CELLS, "mogrifier-lstm": {"kind": "mogrifier-lstm", "mogrifier_rounds": 2}}  # which the host computes


@pytest.fixture(autouse=True)
def simulator():
    """The simulator polls its threads: they should not wait for it long."""
    if not cuda.device.SIMULATED:
        yield
        return
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.skipif(THERE, reason="this is the process with a card, or the simulator")
def test_in_the_simulator(simulator_run):
    """Everything below passes in numba's simulator."""
    process, said = simulator_run()
    code, out = process.wait(600), said.read_text(encoding="utf-8")
    assert code == 0, out[-3000:]
    assert " passed" in out and "failed" not in out


@pytest.mark.skipif(THERE, reason="there is a card")
def test_without_a_card_one_line_says_what_is_missing(command, folder):
    """`--device cuda` ends with exit code 1, one line and no traceback; nothing is written."""
    outcome = command("train", "corpus.txt", "--device", "cuda", "-o", "new.safetensors")
    assert outcome.code == 1 and outcome.err.count("\n") == 1 and "cuda" in outcome.err
    assert not Path("new.safetensors").exists()
    outcome = command("sample", "-n", "3", "--backend", "cuda")
    assert outcome.code == 1 and outcome.err.count("\n") == 1 and "cuda" in outcome.err


def test_a_package_that_cannot_compile_is_a_device_error(monkeypatch):
    """One line with what it said, as where NumPy is newer than it knows."""

    class Broken:
        def __getitem__(self, sizes):
            raise AttributeError("module 'numpy' has no attribute 'row_stack'")

    monkeypatch.setattr(cuda.device, "SIMULATED", False)
    monkeypatch.setattr(cuda.device.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(cuda.device.cuda, "is_available", lambda: True)
    monkeypatch.setattr(cuda.device, "_nothing", Broken())
    with pytest.raises(DeviceError, match="row_stack.*or choose cpu"):
        cuda.require()


def test_the_contract_is_kept():
    """The same functions with the same argument names as the specification."""
    for name in [*CONTRACT, "array", "empty", "zeros_like", "assign", "host"]:
        expected = list(inspect.signature(getattr(reference, name)).parameters)
        assert list(inspect.signature(getattr(cuda, name)).parameters) == expected, name


def test_only_one_folder_knows_the_package():
    """Only the files of one folder of nblstm import numba's cuda."""
    for path in Path(nblstm.__file__).parent.rglob("*.py"):
        imports = "import cuda\n" in path.read_text(encoding="utf-8").replace("from nblstm.kernels import cuda", "")
        assert not imports or path.parent.name == "cuda", path


# ---------------------------------------------------------------- kernels


def numbers(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(0, 1, shape).astype(np.float32)


def close(actual, expected, tolerance=2e-5):
    """Equal relative to the largest expected value."""
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * max(1.0, np.abs(expected).max(initial=0)))


def both(name, outputs, *args, **keywords):
    """Call a function of both modules on copies of the outputs: they must agree in all of them."""
    expected, actual = [x.copy() for x in outputs], [x.copy() for x in outputs]
    sides = (reference, expected), (cuda, actual)
    results = [getattr(kernels, name)(*given, *args, **keywords) for kernels, given in sides]
    for mine, theirs in zip(actual, expected):
        assert mine.dtype == theirs.dtype
        close(mine, theirs)
    return results


@needs_card
def test_arrays_cross_over():
    """What goes to the device comes back; zeros are zeros; an array without elements is one."""
    x = numbers(3, 5)
    y = cuda.array(x)
    np.testing.assert_array_equal(cuda.host(y), x)
    zeros = cuda.zeros_like(y)
    np.testing.assert_array_equal(cuda.host(zeros), np.zeros((3, 5)))
    cuda.assign(zeros, x)
    cuda.assign(y, zeros)
    np.testing.assert_array_equal(cuda.host(y), x)
    assert cuda.empty((2, 0), np.float32).size == 0


@needs_card
def test_optimizers():
    """Every update rule, with every option."""
    P = 300
    w, m, v, g = (numbers(P, seed=seed) for seed in range(4))
    v = np.abs(v)
    both("adam", [w, m, v], g, AdamSettings(0.01, 0.9, 0.999, 1e-8, 0.1, 0.2), 3, 0.5, 1)
    for nesterov in (False, True):
        both("sgd", [w, m], g, 0.1, 0.9, nesterov, 0.01, 0.5, 1)
    both("rmsprop", [w, v], g, 0.1, 0.99, 1e-8, 0.01, 0.5, 1)
    both("average", [w], m, 0.3, 1)
    both("clip_values", [w], 0.5, 1)
    both("clear", [w], 1)
    expected, actual = both("squared_norm", [numbers(5000)], 1)
    assert actual == pytest.approx(expected, rel=1e-12)
    assert np.isnan(cuda.squared_norm(np.full(3, np.nan, np.float32), 1))


@needs_card
def test_noise_has_the_same_mask():
    """Dropout bit for bit; whole texts scaled."""
    x, offsets = numbers(7, 5), np.array([0, 3, 5, 7])
    expected, actual = np.empty_like(x), np.empty_like(x)
    reference.dropout(expected, x, 0.3, 0xFEDCBA9876543210, 1)
    cuda.dropout(actual, x, 0.3, 0xFEDCBA9876543210, 1)
    np.testing.assert_array_equal(actual, expected)
    both("scale_texts", [x], x, numbers(3, 5), offsets, 1)


@needs_card
def test_embedding():
    """Rows are looked up, and their gradients added in the order of their places."""
    tokens = np.array([4, 0, 4, 2, 4], np.int32)
    both("embedding_forward", [np.empty((5, 3), np.float32)], tokens, numbers(6, 3), 1)
    both("embedding_backward", [numbers(6, 3)], numbers(5, 3), tokens, 1)


@needs_card
@pytest.mark.parametrize("M, D, V", [(5, 8, 12), (3, 7, 5), (70, 20, 66)])
def test_linear(M, D, V):
    """Products whose rows can be read four at a time, others, and such as fill more than a tile."""
    x, weight, bias = numbers(M, D), numbers(V, D), numbers(V)
    both("linear_forward", [np.empty((M, V), np.float32)], (), x, weight, bias, 1)
    both("linear_backward", [np.empty_like(x), weight, bias], numbers(M, V), (), x, weight, 1)


@needs_card
def test_squared_error():
    """Losses and gradients of more rows than a block has threads."""
    M = cuda.device.THREADS + 1
    y, targets, scales = numbers(M, 3), numbers(M, 3, seed=1), numbers(M)
    both("squared_error", [np.empty(len(y), np.float32), np.empty_like(y)], y, targets, scales, 1)


@needs_card
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
def test_softmax(smoothing, weighted, monkeypatch):
    """Losses and gradients in turns of few rows, with class weights, smoothing and rows that are left out."""
    M, D, V = 11, 6, 37
    monkeypatch.setattr(cuda.head, "LOGITS_BYTES", 5 * 4 * V)
    x, weight, bias, scales = numbers(M, D), numbers(V, D), 10 * numbers(V), np.abs(numbers(M)) / M
    scales[2] = 0
    targets = np.random.default_rng(0).integers(0, V, M).astype(np.int32)
    classes = np.abs(numbers(V)) if weighted else None
    work = cuda.softmax_gradient_work(M, D, V, np.float32, 1)
    outputs = [np.empty(M, np.float32), np.empty_like(x), weight, bias]
    loss = CrossEntropy(targets, scales, classes, smoothing)
    both("softmax_losses_and_gradient", outputs, work, x, loss, weight, bias, 1)
    both("softmax_losses", outputs[:1], work, x, targets, weight, bias, 1)


@needs_card
@pytest.mark.parametrize("kind", CELLS)
def test_layer(kind):
    """Outputs, final state and every gradient of packed texts, also of more than a block's; inputs through an index."""
    many = [3] * cuda.device.TEXTS + [2, 1, 1]
    cases = [((4, 8), [3, 3, 2], False), ((17, 3), [3, 1, 1], True), ((5, 3), many, False)]
    for (H, D), lengths, repeated in cases if kind in ("lstm", "gru") else cases[1:]:
        cell = Cell(**CELLS[kind], input_size=D, hidden_size=H)
        args = 1, cell, lengths, np.float32, repeated, False
        expected, actual = (run_layer(kernels, *args) for kernels in (reference, cuda))
        for name, value in expected.items():
            close(actual[name], value)


@needs_card
def test_a_launch_for_every_step_is_the_same_as_one_for_all(monkeypatch):
    """Where a grid does not fit on the card, nothing but the time changes."""
    cell = Cell("lstm", 3, 20)  # two blocks of units
    together = run_layer(cuda, 1, Cell("lstm", 3, 5), [3, 2], np.float32, False, False)
    monkeypatch.setattr(cuda.recurrent, "_most_blocks", lambda *_: 0)
    alone = run_layer(cuda, 1, Cell("lstm", 3, 5), [3, 2], np.float32, False, False)
    for name, value in together.items():
        np.testing.assert_array_equal(alone[name], value)
    many = run_layer(cuda, 1, cell, [2, 2], np.float32, False, False)
    for name, value in run_layer(reference, 1, cell, [2, 2], np.float32, False, False).items():
        close(many[name], value)


@needs_card
def test_cells_that_no_kernel_computes_are_refused():
    """By name, before anything is computed."""
    with pytest.raises(DeviceError, match="peepholes"):
        cuda.recurrent_work([Cell("lstm", 2, 2, peepholes=True)], 1, 1, [0], np.float32, 1)


# ---------------------------------------------------------------- networks


def chunk_of(config, T=3, N=2, seed=0):
    tokens = np.random.default_rng(seed).integers(0, config.vocab_size, (T + 1, N))
    return Chunk.rectangle(tokens[:-1], tokens[1:], fresh=False)


NETWORKS = {
    "lstm": {"dropout": 0.5, "output_dropout": 0.2},
    "tied gru": {"cell": "gru", "tie": True, "num_layers": 1},
    "no kernel of its own": {"cell": "mogrifier-lstm", "num_layers": 1, "mogrifier_rounds": 2},
    "noisy": {"input_dropout": 0.3, "variational_dropout": 0.2, "num_layers": 1},
}


@needs_card
@pytest.mark.parametrize("name", NETWORKS)
def test_loss_and_gradient(name):
    """Two chunks in a row, the state carried on the device: losses, gradients and states are NumPy's."""
    config = LanguageConfig(9, **{"hidden_size": 6, "embedding_size": 0, **NETWORKS[name]})
    networks = [Network(config, initial(config, 1), backend) for backend in ("numpy", "cuda")]
    states = [network.initial_state(2) for network in networks]
    for step in range(2):
        found = []
        for k, network in enumerate(networks):
            gradient = network.kernels.zeros_like(network.parameters)
            loss, states[k] = network.loss_and_gradient(gradient, chunk_of(config, seed=step), states[k], 5, step)
            found.append((loss, *map(network.kernels.host, (gradient, states[k].h, states[k].c, states[k].features))))
        for mine, theirs in zip(*found):
            close(mine, theirs, 1e-5)


@needs_card
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_texts_that_end_leave_the_others_their_states(cell):
    """A chunk goes on with the first of three texts, from states that are a part of those on the device."""
    config, found = LanguageConfig(9, hidden_size=6, cell=cell, dropout=0.0), []
    first, second = chunk_of(config, N=3), chunk_of(config, N=2, seed=1)
    for backend in ("numpy", "cuda"):
        network = Network(config, initial(config, 1), backend)
        gradient = network.kernels.zeros_like(network.parameters)
        _, state = network.loss_and_gradient(gradient, first, network.initial_state(3), 0, 0)
        loss, state = network.loss_and_gradient(gradient, second, network.before(second, state), 0, 1)
        found.append((loss, *map(network.kernels.host, (gradient, state.h, state.c))))
    for theirs, mine in zip(*found):
        close(mine, theirs, 1e-5)


@needs_card
def test_losses_and_logits():
    """Scoring, and reading a prompt, give NumPy's losses and states, in NumPy arrays."""
    config = LanguageConfig(9, hidden_size=6, num_layers=1)
    mine, theirs = (Network(config, initial(config, 1), backend) for backend in ("cuda", "numpy"))
    chunk = chunk_of(config)
    (losses, state), (expected, other) = (n.losses(chunk, n.initial_state(2)) for n in (mine, theirs))
    assert type(losses) is type(state.h) is np.ndarray
    close(losses, expected)
    close(mine.logits(state.features), theirs.logits(other.features))


@needs_card
def test_half_precision_moves_the_loss_a_little_and_the_gradient_not_much():
    """Weights and activations as float16, sums in float32: within the rounding of 11 bits."""
    config = LanguageConfig(9, hidden_size=8, dropout=0.3)
    single, half = (Network(config, initial(config, 1), "cuda", precision=kind) for kind in ("single", "half"))
    results = []
    for network in (single, half):
        gradient = network.kernels.zeros_like(network.parameters)
        loss, _ = network.loss_and_gradient(gradient, chunk_of(config), network.initial_state(2), 0, 0)
        results.append((loss, cuda.host(gradient)))
    (loss, gradient), (rounded, near) = results
    assert loss != rounded and abs(loss - rounded) < 2e-3 * loss
    assert np.linalg.norm(near - gradient) < 1e-2 * np.linalg.norm(gradient)


@needs_card
@pytest.mark.parametrize("setting", [{"residual": True}, {"learned_state": True}, {"dtype": "float64"}])
def test_networks_for_the_cpu_alone_are_refused(setting):
    """A ConfigError names the setting."""
    config = LanguageConfig(5, hidden_size=4, **setting)
    with pytest.raises(ConfigError, match=next(iter(setting))):
        Network(config, initial(config, 0), "cuda")


@needs_card
@pytest.mark.parametrize("cell", ["lstm", "mogrifier-lstm"])
def test_texts_are_the_same(cell):
    """Drawn on the device, or on the host where there are filters: the tokens of the CPU. Also where NumPy computes."""
    config = LanguageConfig(11, hidden_size=5, cell=cell)
    for settings in ({}, {"temperature": 0.0}, {"temperature": 0.5, "top_k": 3}):
        texts = []
        for backend in ("numpy", "cuda"):
            network = Network(config, 3 * initial(config, 2), backend)
            sample = SampleConfig(n=5, num_samples=2, **settings)
            pieces = generate(network, network.initial_state(), sample, np.random.default_rng(3), [0])
            texts.append(np.concatenate(list(pieces), axis=1))
        np.testing.assert_array_equal(*texts)


@needs_card
def test_a_beam_finds_the_same():
    """The card reads, the host chooses: the texts and figures of the CPU."""
    config, words = LanguageConfig(11, hidden_size=5), Vocabulary.build(["abcdefghij"], "char")
    found = []
    for backend in ("numpy", "cuda"):
        network = Network(config, 3 * initial(config, 2), backend)
        search = BeamSearch(network, words, network.initial_state(), BeamConfig(n=4, beam=3, num_samples=3))
        while not search.done:
            search.step()
        found.append(search.hypotheses())
    for expected, actual in zip(*found):
        assert np.array_equal(actual.tokens, expected.tokens)
        assert actual.score == pytest.approx(expected.score, abs=1e-4)


@needs_card
def test_draw_leaves_out_what_is_banned():
    """Tokens of many rows, drawn as the specification draws them."""
    logits, uniform = 3 * numbers(6, 70), np.random.default_rng(1).random(6)
    for filters in (Filters(), Filters(temperature=0.5), Filters(temperature=0.0), Filters(top_k=4)):
        args = logits, uniform, np.zeros((6, 0), np.int64), np.array([3, 69]), filters, 1
        expected, actual = both("draw", [np.zeros(6, np.int64)], *args)


# ---------------------------------------------------------------- runs


@needs_card
def test_training_is_that_of_numpy():
    """Three updates with clipping, moments and validation give NumPy's parameters."""
    config = LanguageConfig(7, hidden_size=5, num_layers=1)
    ids = np.random.default_rng(0).integers(0, 7, 25)
    recipe = TrainConfig(batch_size=2, bptt=4, steps=3, clip=0.1, clip_value=0.05)
    kept = []
    for backend in ("numpy", "cuda"):
        network = Network(config, initial(config, 0), backend)
        trainer = Trainer(network, recipe, Streams(ids, 2, 4), Streams(ids[:9], 1, 4))
        assert [report.validated for report in trainer.run()][-1]
        kept.append(trainer.keep())
    close(kept[1], kept[0], 1e-5)


@needs_card
def test_a_run_crosses_devices(tmp_path):
    """Started on the card, gone on with on the CPU and back; the model samples on both."""
    corpus, output = tmp_path / "corpus.txt", tmp_path / "model.safetensors"
    corpus.write_text("to be, or not to be, that is the question: " * 3, encoding="utf-8")
    shape = {"hidden_size": 4, "num_layers": 1, "batch_size": 2, "bptt": 4}
    nblstm.train(corpus, output, device="cuda", steps=2, **shape)
    for steps, device in ((4, "cpu"), (6, "cuda")):
        model = nblstm.train(output=output, resume=True, device=device, steps=steps)
        assert model.training["steps"] == steps and model.training["config"]["device"] == device
    texts = ["".join(nblstm.load(output).generate(n=4, seed=1, backend=backend)) for backend in ("numpy", "cuda")]
    assert texts[0] == texts[1] and len(texts[0]) == 4


@needs_card
def test_a_card_without_room_is_told_of_before_the_run(monkeypatch, tmp_path):
    """The line says how much is needed and which settings to lower."""
    (tmp_path / "corpus.txt").write_text("to be, or not to be, " * 9, encoding="utf-8")
    monkeypatch.setattr(cuda, "describe", lambda: ("a small card", 1000))
    with pytest.raises(DeviceError, match="batch_size or bptt"):
        nblstm.train(tmp_path / "corpus.txt", tmp_path / "m.safetensors", device="cuda", hidden_size=4, steps=1)


@needs_card
def test_an_array_without_room_is_a_device_error(monkeypatch):
    """What the package raises becomes a line with a way out; other errors pass."""

    def full(*args):
        raise RuntimeError("[2] Call to cuMemAlloc results in CUDA_ERROR_OUT_OF_MEMORY")

    monkeypatch.setattr(cuda.arrays.cuda, "device_array", full)
    for make in (cuda.array, cuda.zeros_like, lambda x: cuda.empty(x.shape, x.dtype)):
        with pytest.raises(DeviceError, match="no room for 4 MB more; lower batch_size or bptt"):
            make(np.ones((1000, 1000), np.float32))


@pytest.mark.skipif(not cuda.device.SIMULATED, reason="only the simulator's arrays can be counted")
@pytest.mark.parametrize("name", NETWORKS)
def test_training_takes_no_more_than_was_told(name, monkeypatch):
    """Many texts of one step: all arrays that are on the card at once are within `card_bytes`."""
    from numba.cuda.simulator.kernel import FakeCUDAKernel

    sizes = {"now": 0, "most": 0}

    def counted(make):
        def made(*args):
            array = make(*args)
            size = array._ary.nbytes
            weakref.finalize(array._ary, lambda: sizes.update(now=sizes["now"] - size))
            sizes["now"] += size
            sizes["most"] = max(sizes.values())
            return array

        return made

    for maker in ("device_array", "to_device"):
        monkeypatch.setattr(cuda.device.cuda, maker, counted(getattr(cuda.device.cuda, maker)))
    monkeypatch.setattr(FakeCUDAKernel, "__call__", lambda *args: None)  # no kernel makes an array
    monkeypatch.setattr("nblstm.training.memory.SCORED_AT_ONCE", 0)  # nothing is validated
    recipe = TrainConfig(batch_size=2048, bptt=1)
    config = LanguageConfig(9, **{"hidden_size": 32, "embedding_size": 0, **NETWORKS[name]})
    network = Network(config, initial(config, 1), "cuda")
    gradient, state = network.kernels.zeros_like(network.parameters), network.initial_state(2048)
    for step in range(3):
        with np.errstate(all="ignore"):  # the losses are whatever was in memory
            _, state = network.loss_and_gradient(gradient, chunk_of(config, 1, 2048), state, 0, step)
    assert 0 < sizes["most"] <= card_bytes(config, recipe)


def test_half_precision_is_for_the_card():
    """A ConfigError says so."""
    with pytest.raises(ConfigError, match="precision half"):
        TrainConfig(precision="half")


@needs_card
def test_what_cannot_be_drawn_is_marked():
    """draw: -1 where a logit is NaN or inf, or all are -inf; the other rows as ever. A decoder says that it is so."""
    logits = np.zeros((5, 9), np.float32)
    logits[0, 8], logits[1, 2], logits[2], logits[3, :4] = np.nan, np.inf, -np.inf, -np.inf
    for temperature in (0.0, 1.0):
        tokens = np.zeros(5, np.int64)
        cuda.draw(tokens, logits, np.full(5, 0.5), np.zeros((5, 0), np.int64), np.array([0]), Filters(temperature), 1)
        assert tokens[:3].tolist() == [-1] * 3 and tokens[3] >= 4 and tokens[4] > 0
