"""Products with factors rounded to bfloat16: the rounding, the register tile, layers, heads, and training with them."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.cases import each
from support.compare import assert_same_bits, close
from support.kernels import CELLS, random_head, run_layer, softmax_head
from support.training import assert_same_run, history, make_trainer, through_a_file

import nblstm
from nblstm import ConfigError
from nblstm.config import TrainConfig
from nblstm.kernels.cells import Cell
from nblstm.kernels.reference import bfloat16 as reference
from nblstm.nn.network import Network
from nblstm.nn.parameters import initial
from nblstm.nn.state import State
from nblstm.tasks.language.config import LanguageConfig
from nblstm.text.batches import Chunk
from nblstm.training.memory import per_token, training_bytes

numba = pytest.importorskip("numba")

from nblstm.kernels.cpu import bfloat16, factors, tiles
from nblstm.kernels.cpu.tiles import PANEL, Block, Factor

TESTS = Path(__file__).parent
FLIP = 2.0**-7  # a sum that is rounded another way in its last bit may be one step of bfloat16 away: two of 2^-8


def numbers(size, seed=0):
    """Numbers of every magnitude and both signs, among them ties, subnormals, infinities and NaN."""
    bits = np.random.default_rng(seed).integers(0, 2**32, size, dtype=np.uint32)
    bits[::3] &= np.uint32(0xFFFF8000)  # half way between two
    bits[-6:] = [0x7F800000, 0xFF800000, 0x7FC00000, 0x7FFFFFFF, 0xFFFFFFFF, 0x7F7FFFFF][:size]
    return bits.view(np.float32)


def flushed(x):
    """The numbers, those below 2^-126 zero: some machines round them to that."""
    return np.where(np.abs(x) < 2.0**-126, np.float32(0), x)


def halves(pairs, count):
    """The numbers in rows of pairs, (rows, count) float32."""
    upper = pairs.view(np.uint16).reshape(len(pairs), -1).astype(np.uint32) << np.uint32(16)
    return upper.view(np.float32)[:, :count]


def test_rounding_is_pytorchs():
    """To the nearest of 8 significant bits, of two the even one; infinities and NaN stay, the largest become infinite."""
    torch = pytest.importorskip("torch")
    x = numbers(100_000)
    np.testing.assert_array_equal(reference.rounded(x), torch.from_numpy(x).bfloat16().float().numpy())


@each("rows, K", [(1, 1), (3, 7), (5, 16), (4, 33), (7, 64)])
def test_rows_in_pairs_are_rounded(rows, K):
    """Neighbours in a row, an odd last one with a zero; pairs of rows in panels, zeros where there are none."""
    x = flushed(numbers(rows * K).reshape(rows, K))
    expected = reference.rounded(x)
    work = {"pairs": np.full(rows * -(-K // 2), 7, np.uint32), "panels": np.full(-(-rows // 2) * 64, 7, np.uint32)}
    found = factors.PAIRS.rows(2, work, "pairs", x).reshape(rows, -1)
    np.testing.assert_array_equal(halves(found, K), expected)
    assert not halves(found, K + K % 2)[:, K:].any()
    factors.PAIRS.pack_inputs(2, work, "panels", x)
    both = halves(work["panels"].reshape(-1, 1), 2).reshape(-1, PANEL, 2).transpose(0, 2, 1).reshape(-1, PANEL)
    np.testing.assert_array_equal(both[:rows, :K], expected)
    assert not both[rows:].any() and not both[:, K:].any()


# ---------------------------------------------------------------- the register tile


def tile_of(pairwise):
    """A compiled C += A @ B of pairs on a machine that multiplies them, or that does not; `_band` is made anew."""
    band = tiles._band(PANEL, False)

    @numba.njit(error_model="numpy", fastmath={"contract"})
    def multiplied(C, A, B, rows, K):
        band(Block(C, 0, PANEL), rows, Factor(A, 0, K, 0, 1, K), B, 0)

    before, tiles.PAIRWISE = tiles.PAIRWISE, pairwise
    try:
        multiplied.compile("void(float32[::1], uint32[::1], uint32[::1], int64, int64)")
    finally:
        tiles.PAIRWISE = before
    return multiplied


def test_the_tile_is_exact_but_for_its_additions():
    """Every height of a tile, beside float64; and where the machine has the instruction, float32 gives the same bits."""
    if tiles.NO_TILES:
        pytest.skip("there are no tiles")
    for pairwise in {False, tiles.PAIRWISE}:
        tile = tile_of(pairwise)
        for rows, K in ((1, 1), (13, 37), (6, 200)):
            r = np.random.default_rng(rows)
            x, w = (r.normal(0, 1, shape).astype(np.float32) for shape in ((rows, 2 * K), (2 * K, PANEL)))
            A, B = np.zeros(rows * K, np.uint32), np.zeros(K * PANEL, np.uint32)
            factors.PAIRS.rows(1, {"A": A}, "A", x)
            factors.PAIRS.pack_inputs(1, {"B": B}, "B", w)
            C = np.ones((rows, PANEL), np.float32)
            tile(C.reshape(-1), A, B, rows, K)
            exact = 1 + reference.rounded(x).astype(float) @ reference.rounded(w).astype(float)
            close(C, exact, 1e-6 * np.sqrt(K))
            if pairwise:
                again = np.ones((rows, PANEL), np.float32)
                tile_of(False)(again.reshape(-1), A, B, rows, K)
                np.testing.assert_array_equal(again, C)


# ---------------------------------------------------------------- layers and heads


def check(actual, expected):
    """Equal to the specification: as float32 is, but for few numbers whose factors were rounded the other way."""
    for name, value in expected.items():
        assert actual[name].dtype == value.dtype == np.float32
        scale = max(1.0, np.abs(value).max(initial=0))
        error = np.abs(actual[name] - value) / scale
        assert error.max(initial=0) < FLIP and np.median([0, *error.ravel()]) < 1e-5, name


@each("kind", [kind for kind in CELLS if kind != "relu rnn"])
def test_layer_equals_the_specification(kind):
    """Every cell, texts that end, odd sizes, inputs through an index and in place; the same bits on 1, 2 and 5 threads."""
    for D, H, lengths, repeated in ((5, 7, [4, 4, 4], False), (33, 64, [5, 4, 4, 1, 1], True), (70, 130, [3], False)):
        cell = Cell(**CELLS[kind], input_size=D, hidden_size=H)
        expected = run_layer(reference, 1, cell, lengths, np.float32, repeated)
        actual = run_layer(bfloat16, 1, cell, lengths, np.float32, repeated)
        check(actual, expected)
        for threads in (2, 5):
            assert_same_bits(run_layer(bfloat16, threads, cell, lengths, np.float32, repeated), actual)


def test_threads_that_share_every_text_find_the_same_bits(monkeypatch):
    """Each writes the pairs of its own units, and waits before it reads those of the others."""
    cell = Cell("lstm", 20, 150)
    alone = run_layer(bfloat16, 1, cell, [4, 3], np.float32, True)
    monkeypatch.setattr("nblstm.kernels.cpu.recurrent.SHARED_BYTES", 0)
    assert_same_bits(run_layer(bfloat16, 3, cell, [4, 3], np.float32, True), alone)


@each("M, D, V", [(1, 1, 1), (13, 33, 130), (600, 20, 65)])
def test_heads_equal_the_specification(M, D, V):
    """A softmax with weights of classes and smoothing, and a linear layer, for sizes that fill nothing."""
    head, scales, classes = random_head(M, D, V, np.float32)
    names = "plain", "losses", "dx", "dweight", "dbias"
    expected, actual, other = (
        dict(zip(names, softmax_head(kernels, *head, scales, classes, 0.1, threads=threads)))
        for kernels, threads in ((reference, 1), (bfloat16, 1), (bfloat16, 3))
    )
    check(actual, expected)
    assert_same_bits(other, actual)
    (x, _, weight, bias), dy = head, np.random.default_rng(1).normal(0, 1, (M, V)).astype(np.float32)
    found = []
    for kernels in (reference, bfloat16):
        y, dx, dw, db = np.empty_like(dy), np.empty_like(x), np.ones_like(weight), np.ones_like(bias)
        work = kernels.linear_work(M, D, V, np.float32, 2)
        kernels.linear_forward(y, work, x, weight, bias, 2)
        kernels.linear_backward(dx, dw, db, dy, work, x, weight, 2)
        found.append({"y": y, "dx": dx, "dweight": dw, "dbias": db})
    check(found[1], found[0])


def test_the_specification_is_pytorchs_product():
    """Factors as torch.bfloat16 holds them, summed in float32; the gradients of a linear layer likewise."""
    torch = pytest.importorskip("torch")
    r = np.random.default_rng(3)
    x, weight, dy = (r.normal(0, 1, shape).astype(np.float32) for shape in ((9, 33), (5, 33), (9, 5)))
    tx, tw, td = (torch.from_numpy(array).bfloat16().float() for array in (x, weight, dy))
    y, dx, dw, db = np.empty((9, 5), np.float32), np.empty_like(x), np.zeros_like(weight), np.zeros(5, np.float32)
    reference.linear_forward(y, (), x, weight, np.zeros(5, np.float32), 1)
    reference.linear_backward(dx, dw, db, dy, (), x, weight, 1)
    for found, expected in ((y, tx @ tw.T), (dx, td @ tw), (dw, td.T @ tx), (db, torch.from_numpy(dy).sum(0))):
        close(found, expected.numpy(), 1e-6)


LAYER = """
import numpy as np
from nblstm.kernels.cells import Cell
from nblstm.kernels.cpu import bfloat16
from nblstm.kernels.cpu.tiles import PAIRWISE
from nblstm.kernels.reference import bfloat16 as reference
from support.kernels import run_layer
expected, actual = (run_layer(k, 2, Cell("rnn", 5, 7), [3, 3, 1], np.float32, True) for k in (reference, bfloat16))
for name, value in expected.items():
    assert np.abs(actual[name] - value).max(initial=0) < 1e-5, name
print(PAIRWISE)
"""
MACHINES = {
    "no vectors but SSE2": {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "NUMBA_OPT": "1"},
    "Python": {"NUMBA_DISABLE_JIT": "1"},
}


@each("machine", MACHINES)
def test_other_machines_multiply_the_same_numbers(machine, tmp_path):
    """Where there is no instruction, and where kernels run as Python, the rounded numbers are multiplied as float32."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("NUMBA_", "NBLSTM_"))}
    variables |= {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])}
    command = [sys.executable, "-c", LAYER]
    done = subprocess.run(command, env=variables | MACHINES[machine], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert machine == "Python" or done.stdout.split() == ["False"]


# ---------------------------------------------------------------- networks


def chunk_of(T, N, V):
    """A chunk of random tokens."""
    text = np.random.default_rng(2).integers(0, V, (T + 1, N), np.int32)
    return Chunk.rectangle(text[:-1], text[1:], fresh=False)


def test_a_network_moves_a_little_from_single_precision():
    """The loss within 0.01 nats, the gradient within 5 % of its norm; the backends agree far closer than that."""
    shape, chunk = LanguageConfig(20, hidden_size=48, num_layers=2, dropout=0.0), chunk_of(12, 6, 20)
    losses, gradients = [], []
    for backend, precision in (("cpu", "single"), ("cpu", "bfloat16"), ("numpy", "bfloat16")):
        network = Network(shape, initial(shape, 1), backend, 2, precision)
        gradient = np.empty_like(network.parameters)
        loss, state = network.loss_and_gradient(gradient, chunk, State.zeros(shape, 6), 0, 0)
        assert gradient.dtype == state.c.dtype == np.float32
        losses.append(loss)
        gradients.append(gradient)
    size = np.linalg.norm(gradients[0])
    assert 0 < abs(losses[1] - losses[0]) < 0.01 and abs(losses[2] - losses[1]) < 1e-4
    assert 1e-4 < np.linalg.norm(gradients[1] - gradients[0]) / size < 0.05
    assert np.linalg.norm(gradients[2] - gradients[1]) / size < 0.003


def test_a_decoder_reads_in_single_precision():
    """Text is written with the weights as they are."""
    shape = LanguageConfig(9, hidden_size=8, num_layers=1)
    single, rounded = (Network(shape, initial(shape, 1), "cpu", 1, kind) for kind in ("single", "bfloat16"))
    states = [State.zeros(shape, 1), State.zeros(shape, 1)]
    logits = [network.decoder()([3], state) for network, state in zip((single, rounded), states)]
    np.testing.assert_array_equal(*logits)


REFUSED = {
    "layer_norm": ({"layer_norm": True}, "lstm with layer_norm, peepholes or proj_size"),
    "peepholes": ({"peepholes": True}, "lstm with layer_norm, peepholes or proj_size"),
    "mogrifier-lstm": ({"cell": "mogrifier-lstm"}, "is not for the cell mogrifier-lstm; choose precision single"),
    "float64": ({"dtype": "float64"}, "is for numbers of float32, not float64"),
}


@each("name", REFUSED)
def test_networks_without_such_kernels_are_refused(name):
    """A line says which cell or type has none."""
    settings, said = REFUSED[name]
    shape = LanguageConfig(9, hidden_size=8, num_layers=1, **settings)
    with pytest.raises(ConfigError, match=said):
        Network(shape, initial(shape, 1), "cpu", 1, "bfloat16")


@each("device, precision", [("cuda", "bfloat16"), ("cpu", "half")])
def test_each_precision_is_for_its_device(device, precision):
    """A recipe and a network say so alike."""
    shape, said = LanguageConfig(9, hidden_size=8, num_layers=1), f"precision {precision} is for device"
    with pytest.raises(ConfigError, match=said):
        TrainConfig(device=device, precision=precision)
    if device == "cpu":
        with pytest.raises(ConfigError, match=said):
            Network(shape, initial(shape, 1), device, 1, precision)


def test_a_machine_without_the_instruction_says_so(monkeypatch):
    """One sentence, for the precision alone."""
    from nblstm.kernels import fallback

    cell = Cell("lstm", 4, 4)
    monkeypatch.setattr(tiles, "PAIRWISE", False)
    assert "does not multiply bfloat16 numbers" in fallback(cell, "cpu", "bfloat16")
    assert fallback(cell, "cpu") is None
    monkeypatch.setattr(tiles, "PAIRWISE", True)
    assert fallback(cell, "cpu", "bfloat16") is None


# ---------------------------------------------------------------- runs


def test_the_memory_of_pairs_is_counted():
    """By hand, for an LSTM of 8 units: gradients of 32 gates twice, h and x, 2 bytes each; packed inputs take 2 less."""
    shape = LanguageConfig(9, hidden_size=8, num_layers=1)
    assert per_token(shape, "bfloat16") - per_token(shape) == 2 * (2 * 32 + 2 * 8 - 8)
    single, rounded = (training_bytes(shape, TrainConfig(precision=kind)) for kind in ("single", "bfloat16"))
    assert rounded - single == 32 * 64 * 2 * (2 * 32 + 2 * 8 - 8)


def test_a_run_is_resumed_exactly(tmp_path):
    """From a checkpoint in the middle of an epoch the same weights, moments and losses follow, to the last bit."""
    settings = {"steps": 12, "precision": "bfloat16"}
    whole, start = make_trainer(**settings), make_trainer(**settings)
    reports = history(whole.run())
    first = [next(run) for run in [start.run()] for _ in range(7)]
    resumed = through_a_file(start, tmp_path / "run.safetensors", **settings)
    assert history(first) + history(resumed.run()) == reports
    assert_same_run(whole, resumed)
    assert whole.network.parameters.dtype == np.float32


def test_the_command_trains_resumes_and_writes_a_model_of_float32(command, tmp_path, monkeypatch):
    """`--precision bfloat16` is part of the run: it goes on without being asked for again, to the same weights."""
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text("to be or not to be, that is the question. " * 30)
    settings = {"hidden_size": 8, "num_layers": 1, "bptt": 8, "batch_size": 4, "schedule": "constant"}
    options = [str(part) for name, value in settings.items() for part in (f"--{name.replace('_', '-')}", value)]
    done = command("train", "text.txt", "--precision", "bfloat16", *options, "--steps", "8")
    assert done.code == 0 and "bfloat16 precision" in done.err
    assert command("train", "--resume", "--steps", "16").code == 0
    whole = nblstm.train("text.txt", "whole.safetensors", precision="bfloat16", steps=16, **settings)
    resumed = nblstm.load("model.safetensors")
    assert resumed.parameters.dtype == np.float32
    np.testing.assert_array_equal(resumed.parameters, whole.parameters)
