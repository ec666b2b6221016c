"""int8 weights: the rule that rounds them, the file that holds them, what they say and write, and what is refused."""

import json
from fractions import Fraction

import numpy as np
import pytest
from support import golden
from support.borders import CLASSIFIER, MASKED, VOCABULARY, make_model
from support.cases import each, pairs
from support.commands import assert_refused
from support.mutations import joined, parts
from support.rounded import NETS, decoded, rounded_net

import nblstm
from nblstm.errors import ConfigError, ModelFileError
from nblstm.files import safetensors
from nblstm.kernels import DecoderState, Filters, Int8, load, reference
from nblstm.kernels.reference.int8 import in_floats, product, rounded_activations, steps_of, sums, values
from nblstm.nn.int8 import matrix_names, pack_tensors, round_rows
from nblstm.nn.parameters import initial

MASKED_MODEL = nblstm.MaskedLanguageModel(MASKED, VOCABULARY, initial(MASKED, 0), {})
KINDS = {  # settings of models whose weights are rounded
    "lstm": {}, "gru": {"cell": "gru", "tie": True}, "rnn": {"cell": "rnn", "residual": True},
    "update-lstm": {"cell": "update-lstm", "head": "cell"}, "mingru": {"cell": "mingru", "learned_state": True},
    "mogrifier": {"cell": "mogrifier-lstm"}, "options": {"peepholes": True, "layer_norm": True, "proj_size": 3},
}  # fmt: skip


def model(seed=0, **settings):
    """A model of random weights, its biases not zero."""
    config = nblstm.LanguageConfig(11, **{"hidden_size": 6, "num_layers": 2, "embedding_size": 5, **settings})
    r = np.random.default_rng(seed)
    return make_model(config, r.normal(0, 0.7, config.num_parameters).astype(config.dtype))


def settings_of(kind):
    options = KINDS[kind]
    return {**options, **({"embedding_size": 6} if options.get("tie") or options.get("residual") else {})}


# ---------------------------------------------------------------- the rule


def test_rows_are_rounded_as_said():
    """By hand: scales are the largest of a row over 127, but for their last bits; a row of zeros stays zero."""
    numbers, scales = round_rows(np.array([[127, -63.5, 1, 0.5], [0, 0, 0, 0], [-254, 3, 1, -1.1]], np.float32))
    assert scales.tolist() == [1, 0, 2]
    assert numbers.tolist() == [[127, -64, 1, 0], [0, 0, 0, 0], [-127, 2, 0, -1]]  # halves go to the even one


@each("size", [1, 1e-3, 1e-30, 1e-38, 1e-42, 1e38, 3.4e38])
def test_what_is_rounded_is_its_own_rounding(size):
    """Numbers times scales are exact in float32 and give the same numbers and scales, whatever their size."""
    matrix = (np.random.default_rng(0).uniform(-1, 1, (60, 37)) * size).astype(np.float32)
    matrix[3] = 0
    first = round_rows(matrix)
    exact = [[Fraction(int(q)) * Fraction(float(s)) for q in row] for row, s in zip(*first)]
    assert all(Fraction(float(v)) == e for row, es in zip(values(first), exact) for v, e in zip(row, es))
    again = round_rows(values(first))
    assert np.array_equal(first.numbers, again.numbers) and first.scales.tobytes() == again.scales.tobytes()
    assert (np.abs(first.numbers).max(axis=1)[np.arange(60) != 3] == 127).all() or size < 1e-40
    step = np.maximum(np.abs(matrix).max(axis=1)[:, None] / 127, 2e-42)  # no scale is below that
    assert (np.abs(values(first) - matrix) <= 0.502 * step).all()


@each("K", [1, 2, 515, 516, 517, 650, 1024, 4096, 100_000])
def test_no_sum_leaves_32_bits(K):
    """The worst row and the worst weights stay below 2^31, and up to 516 numbers have all of an int16's steps."""
    assert 127 * steps_of(K) * K < 2**31
    assert steps_of(K) == 32767 if K <= 516 else steps_of(K) > 32767 * 515 / K


def test_products_are_those_of_whole_numbers():
    """Python's own integers give the same sums, up to the largest, and the scales what they stand for."""
    r = np.random.default_rng(1)
    x, weight = r.normal(0, 1, (3, 700)).astype(np.float32), round_rows(r.normal(0, 0.1, (5, 700)))
    x[2], weight.numbers[4] = np.sign(x[2]) * 9, np.sign(x[2]) * 127  # the largest sum that there is
    q, units = rounded_activations(x)
    expected = [[sum(int(a) * int(b) for a, b in zip(row, w)) for w in weight.numbers] for row in q]
    assert sums(q, weight.numbers).tolist() == expected and expected[2][4] == 127 * steps_of(700) * 700
    assert np.abs(q).max(axis=1).tolist() == [steps_of(700)] * 3
    np.testing.assert_allclose(q * units[:, None], x, rtol=0, atol=float(units.max()) * 0.51)
    close = values(weight).astype(np.float64) @ x.T.astype(np.float64)
    np.testing.assert_allclose(product(x, weight), close.T, rtol=1e-3, atol=1e-3)


def test_activations_that_are_no_numbers_are_noticed():
    """A row with NaN or infinity gives NaN; zeros and what is next to them give 0; other rows are not touched."""
    x = np.array([[np.nan, 1], [np.inf, 1], [0, 0], [1e-38, 0], [1, -1]], np.float32)
    y = product(x, Int8(np.array([[1, 2]], np.int8), np.ones(1, np.float32)))
    assert np.isnan(y[:2]).all() and y[2:4].tolist() == [[0], [0]] and y[4, 0] == pytest.approx(-1, abs=1e-4)


# ---------------------------------------------------------------- models


@each("kind", KINDS)
def test_a_rounded_model_is_close_to_the_first_and_rounds_to_itself(kind):
    """Matrices move by half a step at most, vectors not at all; nothing is left to round the second time."""
    before = model(**settings_of(kind))
    after = before.quantize()
    assert after.int8 and not before.int8 and np.array_equal(after.quantize().parameters, after.parameters)
    assert after.fingerprint != before.fingerprint and after.quantize().fingerprint == after.fingerprint
    old, new, rounded = before._file().weights, after._file().weights, matrix_names(before.config)
    for name in old:
        step = np.abs(old[name]).max(axis=-1, keepdims=True) / 127 if name in rounded else 0
        assert (np.abs(old[name] - new[name]) <= 0.502 * step).all(), name
    assert {name for name in old if old[name].ndim == 2} - {*rounded} <= {"initial_state.h", "initial_state.c", "rnn.peepholes_l0", "rnn.peepholes_l1"}  # fmt: skip


@each("kind", KINDS)
def test_a_rounded_model_is_saved_and_loaded_bit_by_bit(kind, tmp_path):
    """Its file has int8 tensors and the scales of their rows, and gives back every parameter."""
    made = model(**settings_of(kind)).quantize()
    made.save(tmp_path / "small.safetensors")
    loaded = nblstm.load(tmp_path / "small.safetensors")
    assert loaded.int8 and loaded.parameters.tobytes() == made.parameters.tobytes()
    assert loaded.fingerprint == made.fingerprint
    tensors, metadata = safetensors.read(tmp_path / "small.safetensors")
    for name in matrix_names(made.config):
        assert tensors[name].dtype == np.int8 and tensors[f"{name}_scale"].shape == made.config.shapes[name][:1]
    document = json.loads(metadata["nblstm"])
    assert document["format_version"] == 2 and document["weights"] == "int8"
    loaded.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "small.safetensors").read_bytes()


def test_other_programs_read_the_file(tmp_path):
    """The safetensors package finds integers and scales, whose product is what the model computes with."""
    numpy = pytest.importorskip("safetensors.numpy")
    made = model().quantize()
    made.save(tmp_path / "small.safetensors")
    tensors = numpy.load_file(tmp_path / "small.safetensors")
    for name, weight in made._file().weights.items():
        scale = tensors.get(f"{name}_scale")
        assert np.array_equal(weight, tensors[name] if scale is None else tensors[name] * scale[:, None])


def test_a_model_in_float64_becomes_one_of_float32():
    """Its loss stays what it was, to what rounding changes."""
    before = model(dtype="float64", hidden_size=8)
    after = before.quantize()
    assert after.config.dtype == "float32" and after.parameters.dtype == np.float32
    losses = [each.score("abcdefgh" * 9, backend="numpy").loss for each in (before, after)]
    assert losses[0] == pytest.approx(losses[1], abs=0.05)
    huge = make_model(before.config, np.full(before.config.num_parameters, 1e300))
    with pytest.raises(ConfigError, match="parameters must hold finite numbers"):
        huge.quantize()


def test_copies_of_a_rounded_model_stay_rounded(tmp_path):
    """With statistics, or a rate; what has learned is float32 again."""
    made = model().quantize()
    prepared = made.prepared("abcd" * 20, backend="numpy")
    assert prepared.int8 and prepared.with_statistics(None).int8 and prepared.quantize().statistics is None
    prepared.save(tmp_path / "prepared.safetensors")
    loaded = nblstm.load(tmp_path / "prepared.safetensors")
    assert loaded.int8 and np.array_equal(loaded.statistics, prepared.statistics)
    assert not made.adapt("abcd" * 20, backend="numpy").int8


def test_an_export_keeps_the_integers():
    """The matrices of a C header in int8 have the numbers and scales of the file; in other formats they are its floats."""
    from nblstm.exporting.plan import plan

    made = model(hidden_size=40, embedding_size=40, residual=True).quantize()
    tensors, c = pack_tensors(made.config, made._file().weights), plan(made, "int8", "c")
    names = {"head": "head.weight", "tokens": "embedding.weight", "input0": "rnn.weight_ih_l0", "recurrent1": "rnn.weight_hh_l1"}  # fmt: skip
    for ours, name in names.items():
        R, K = tensors[name].shape
        assert np.array_equal(c.matrices[ours].numbers[:R, :K], tensors[name])
        assert c.matrices[ours].scales[:R].tobytes() == tensors[f"{name}_scale"].tobytes()
    assert np.array_equal(plan(made, "float32", "c").matrices["head"].values, made._file().weights["head.weight"])


# ---------------------------------------------------------------- decoding


@each("name", NETS)
def test_whole_numbers_say_what_floats_say(name):
    """Decoding with rounded activations is close to decoding in floats with the same weights, which NumPy does."""
    made = rounded_net(**{"kind": "lstm", **NETS[name]})
    for exact, whole in zip(decoded(reference, made), decoded(None, made)):
        np.testing.assert_allclose(whole, exact, rtol=0, atol=3e-3)
    floats = in_floats(made)
    assert isinstance(floats.embedding, np.ndarray) and all(
        isinstance(weight, np.ndarray) for layer in floats.layers for weight in layer.values()
    )


COMPILED = ["lstm", "gru", "mingru", "residual, cell head"]  # stress/int8.py has the others, too
SHARED = [(1, 1), (1, 2), (5, 2), (9, 3)]  # texts, threads
SIZES = [(5, 3, 1), (40, 33, 33), (70, 64, 64), (66, 21, 130), (130, 6, 17)]  # V, E, H


@each("name, split, kept", pairs(COMPILED, SHARED, [1 << 23, 0]))
def test_compiled_decoding_equals_the_specification(name, split, kept, monkeypatch):
    """State and logits over several steps, at odd sizes, by texts or by units; kept: room for projected tokens, or none.

    Where a last bit of tanh moves a number to the next whole one, the difference is a step of one of K numbers.
    """
    cpu = load("cpu")
    from nblstm.kernels.cpu import decoding, recurrent

    monkeypatch.setattr(recurrent, "SHARED_BYTES", 0)
    monkeypatch.setattr(decoding, "KEPT_BYTES", kept)
    texts, threads = split
    for sizes in SIZES:
        sizes = (sizes[0], sizes[2], sizes[2]) if NETS[name].get("residual") and sizes[2] % 2 else sizes
        made = rounded_net(sizes=sizes, num_layers=3, scale=0.1, **{"kind": "lstm", **NETS[name]})
        for expected, found in zip(decoded(None, made, texts), decoded(cpu, made, texts, threads)):
            np.testing.assert_allclose(found, expected, rtol=0, atol=2e-4)


@each("name", COMPILED)
def test_one_token_equals_the_specification_to_the_last_bits(name):
    """Before anything is rounded twice: the state and logits after a token, from zero."""
    made = rounded_net(sizes=(40, 33, 33), num_layers=1, scale=0.3, **{"kind": "lstm", **NETS[name]})
    for expected, found in zip(decoded(None, made, steps=1), decoded(load("cpu"), made, steps=1)):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    h = decoded(None, made, steps=1).h
    np.testing.assert_allclose(decoded(load("cpu"), made, steps=1).h, h, rtol=2e-6, atol=2e-7)


def test_any_number_of_threads_and_any_table_give_the_same_bits(monkeypatch):
    """One text alone, its units on three threads, with its tokens projected before or not: the same numbers."""
    cpu = load("cpu")
    from nblstm.kernels.cpu import decoding, recurrent

    monkeypatch.setattr(recurrent, "SHARED_BYTES", 0)
    for name in COMPILED:
        made = rounded_net(sizes=(20, 130, 130), **{"kind": "lstm", **NETS[name]})
        expected = decoded(cpu, made, 1, 1)
        for found in (decoded(cpu, made, 1, 3), decoded(cpu, made, 1, 2)):
            assert all(np.array_equal(*both) for both in zip(expected, found))
        with monkeypatch.context() as patch:
            patch.setattr(decoding, "KEPT_BYTES", 0)
            assert all(np.array_equal(*both) for both in zip(expected, decoded(cpu, made, 1, 1)))


def compiled_for(monkeypatch, group, function, *args):
    """Compile and call a function for a machine that multiplies so many neighbours of K at once."""
    numba = pytest.importorskip("numba")
    from nblstm.kernels.cpu import int8_tiles, whole

    with monkeypatch.context() as patch:
        patch.setattr(int8_tiles, "GROUP", group)
        patch.setattr(whole, "GROUP", group)
        compiled = numba.njit(error_model="numpy", fastmath={"contract"})(function)
        compiled(*args)
    return compiled


def groups():
    """How many neighbours of K are multiplied at once: by this machine, and by those that have no such instruction."""
    load("cpu")
    from nblstm.kernels.cpu.machine import GROUP

    return sorted({2, GROUP})


def numbers_laid_out(q, group):
    """Rows of whole numbers as tiles read them; in fours, the low bytes of n + 2^15 of each four, then the high ones."""
    q = np.pad(q, ((0, 0), (0, -q.shape[1] % 16)))
    if group == 2:
        return q.astype(np.int16)
    n = (q.astype(np.int64) + 2**15).reshape(len(q), -1, 1, 4)
    return np.concatenate([n % 256, n // 256], axis=2).astype(np.uint8).reshape(len(q), -1).view(np.int16)


def panel_laid_out(weight, group):
    """A panel of columns (columns, K) as tiles read them; in fours, -128 times the sum of each column before them."""
    columns = np.pad(weight, ((0, 0), (0, -weight.shape[1] % 8))).astype(np.int8)
    panel = columns.reshape(len(weight), -1, group).transpose(1, 0, 2)
    starts = (-128 * weight.astype(np.int32).sum(axis=1)).astype("<i4").view(np.int8).reshape(1, -1, 4)
    return np.concatenate([starts, panel]) if group == 4 else np.ascontiguousarray(panel)


@each("columns", [48, 64, 80])
def test_the_tile_gives_the_exact_sums(columns, monkeypatch):
    """Of any depth and any number of rows, up to the largest that there are: the sums of whole numbers, in float32."""
    for group in groups():
        from nblstm.kernels.cpu import int8_tiles
        from nblstm.kernels.cpu.int8_tiles import Activations, Int8Panels
        from nblstm.kernels.cpu.tiles import Block

        tile = int8_tiles._make(columns)

        def multiply(y, rows, q, width, panel, depth, ones, tile=tile):
            x, weight = Activations(q, 0, width, ones, 0), Int8Panels(panel, 0, ones, 0, depth)
            tile(Block(y, 0, columns), rows, x, weight)

        for K in (1, 3, 4, 5, 63, 65, 516, 517, 2048):
            r, most, ones = np.random.default_rng(K), steps_of(K), np.ones(columns, np.float32)
            for rows in (1, 2, 3, 4, 6, 7):
                q, weight = r.integers(-most, most + 1, (rows, K)), r.integers(-127, 128, (columns, K))
                q[0], weight[3], weight[4] = -most, 127, -127  # the largest of all sums
                q[-1], weight[5] = most, np.sign(weight[5]) * 127
                x, panel = numbers_laid_out(q, group), panel_laid_out(weight, group)
                y = np.zeros((rows + 1, columns), np.float32)
                args = y.reshape(-1), rows, x.reshape(-1), x.shape[1], panel.reshape(-1), len(panel), ones
                multiply = compiled_for(monkeypatch, group, multiply, *args) if (K, rows) == (1, 1) else multiply
                y[...] = 0
                multiply(*args)
                assert np.array_equal(y[:rows], (q @ weight.T).astype(np.float32)) and not y[rows].any()


def test_whole_numbers_are_laid_out_as_the_machine_multiplies_them(monkeypatch):
    """Rounded ones, up to the largest, and those of a token, with zeros behind: beside what is said of it, in NumPy."""

    def store(rounded, row, factor, widened, numbers, place, count):
        store_rounded(rounded, 1, load_vector(row, 0), factor)
        store_numbers(widened, 1, numbers, place, count)

    for group in groups():
        from nblstm.kernels.cpu.vectors import load as load_vector
        from nblstm.kernels.cpu.whole import store_numbers, store_rounded

        whole = np.array([32767, -32767, 0, 1, -1, 255, 256, -256, -257, 127, -128, 128, 9, -9, 5461, -21846])
        numbers = np.array([7, *range(-127, 127, 17), -1, 127, 99], np.int8)
        for count in (1, 5, 15, 16):
            rounded, widened = np.full(18, 99, np.int16), np.full(18, 99, np.int16)
            args = rounded, whole.astype(np.float32) / 4, np.float32(4), widened, numbers, 1, count
            if count == 1:
                compiled = compiled_for(monkeypatch, group, store, *args)
            compiled(*args)
            expected = np.where(np.arange(16) < count, numbers[1:17], 0)
            for found, row in ((rounded, whole), (widened, expected)):
                assert np.array_equal(found[1:17], numbers_laid_out(row[None], group)[0])
                assert found[0] == found[17] == 99


@each("K", [1, 15, 16, 33, 700])
def test_compiled_rounding_equals_the_specification(K):
    """Every whole number and every unit, with halves, tiny rows, and rows that are not finite."""
    load("cpu")
    from nblstm.kernels.cpu.int8 import magnitude, padded, round_row
    from nblstm.kernels.cpu.jit import jit
    from nblstm.kernels.cpu.machine import GROUP

    @jit
    def rounded(whole, row, K, steps):
        return round_row(whole, 0, row, 0, K, magnitude(row, 0, K), steps)

    x = np.random.default_rng(K).normal(0, 1, (60, K)).astype(np.float32)
    x[1:9] = np.rint(x[1:9] * 100) / 2  # halves of a step where the largest is a whole number of them
    x[1:9, 0], x[9], x[10], x[11, -1], x[12, -1] = steps_of(K), 0, 1e-35, np.nan, -np.inf
    q, units = rounded_activations(x)
    for row, numbers, unit in zip(x, numbers_laid_out(q, GROUP), units):
        whole = np.full(padded(K) + 1, 99, np.int16)
        found = rounded(whole, row, K, np.float32(steps_of(K)))
        assert np.float32(found).tobytes() == unit.tobytes() or np.isnan([found, unit]).all()
        if np.isfinite(unit):
            assert np.array_equal(whole[:-1], numbers) and whole[-1] == 99


@each("temperature", [1.0, 0.7, 0.0])
def test_threads_that_share_a_text_weigh_its_tokens_together(temperature, monkeypatch):
    """Of a large vocabulary, each its pieces: what is drawn is the specification's, whatever the number of threads."""
    cpu = load("cpu")
    from nblstm.kernels.cpu import recurrent

    monkeypatch.setattr(recurrent, "SHARED_BYTES", 0)
    made, filters = rounded_net("lstm", sizes=(1100, 8, 16), scale=1.0), Filters(temperature=temperature)
    for texts, banned in ((1, []), (2, [3, 900, 1099])):
        found = []
        for kernels, threads in ((reference, 1), (cpu, 1), (cpu, 2), (cpu, 3)):
            shapes = (2, texts, 16), (2, texts, 16), (texts, 16), (texts, 1100)
            state = DecoderState(*(np.zeros(shape, np.float32) for shape in shapes))
            work = kernels.decode_work(texts, kernels.decode_weights(made, threads), threads)
            history, uniform = np.zeros((texts, 31), np.int64), np.random.default_rng(texts).random((30, texts))
            kernels.generate(history, 1, state, uniform, np.array(banned, np.int64), filters, work, threads)
            found.append(history)
        assert all(np.array_equal(history, found[0]) for history in found[1:])
        assert not np.isin(found[0], banned).any() and len(np.unique(found[0])) > 3


@each("size", [1, 100, 1 << 20])
def test_arrays_begin_with_a_cache_line(size):
    """Small ones and large ones, in their shape; what is written to them stays."""
    load("cpu")
    from nblstm.kernels.cpu.int8 import aligned

    made = aligned((size, 2), np.float32)
    made[...] = 7
    assert made.shape == (size, 2) and made.ctypes.data % 64 == 0 and made.min() == made.max() == 7


def test_a_rounded_model_writes_the_same_with_kernels_and_without():
    """Texts that are drawn, searched and continued: NumPy's floats and the kernels' whole numbers agree."""
    made = model(hidden_size=40, embedding_size=20).quantize()
    settings = {"n": 40, "seed": 3, "num_samples": 5}
    assert made.generate_many("ab", backend="cpu", **settings) == made.generate_many("ab", backend="numpy", **settings)
    both = [made.beam("ab", n=6, beam=4, num_samples=4, backend=backend) for backend in ("cpu", "numpy")]
    assert [found.text for found in both[0]] == [found.text for found in both[1]]
    for one, other in zip(*both):
        assert one.log_probability == pytest.approx(other.log_probability, abs=1e-3)
    bias = {"a": -3.0, "b": 2.0}
    drawn = [made.generate_many("", logit_bias=bias, backend=backend, **settings) for backend in ("cpu", "numpy")]
    assert drawn[0] == drawn[1]


def test_an_adaptive_head_is_rounded_too(tmp_path):
    """Its shortlist, clusters and projections; it is stored, and writes the same with kernels and without."""
    made = nblstm.load(golden.DATA / "adaptive.safetensors").quantize()
    assert {"head.head.weight", "head.tail.0.0.weight", "head.tail.0.1.weight"} <= {*matrix_names(made.config)}
    made.save(tmp_path / "small.safetensors")
    assert nblstm.load(tmp_path / "small.safetensors").parameters.tobytes() == made.parameters.tobytes()
    texts = [made.generate_many("So", n=12, num_samples=4, seed=2, backend=backend) for backend in ("cpu", "numpy")]
    assert texts[0] == texts[1]


# ---------------------------------------------------------------- hostile files


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The content of a rounded model's file."""
    path = tmp_path_factory.mktemp("small") / "small.safetensors"
    model(num_layers=1).quantize().save(path)
    return path.read_bytes()


def changed(path, content, tensor=None, **document):
    """Write a file with one tensor or parts of its document changed, without a digest; load it."""
    path.write_bytes(content)
    tensors, metadata = safetensors.read(path)
    for name, change in (tensor or {}).items():
        if change is None:
            del tensors[name]
        else:
            tensors[name] = change(tensors[name].copy()) if name in tensors else change(None)
    facts = {**json.loads(metadata["nblstm"]), **document}
    facts = {name: value for name, value in facts.items() if value is not ...}
    path.unlink()
    safetensors.write(path, tensors, {"nblstm": json.dumps(facts)})
    return nblstm.load(path)


def put(place, value):
    def change(tensor):
        tensor[place] = value
        return tensor

    return change


HEAD, SCALES = "head.weight", "head.weight_scale"
LIES = {
    "-128": ({HEAD: put((0, 0), -128)}, "not rounded as int8 weights are"),
    "a row without 127": ({HEAD: lambda tensor: tensor // 2}, "not rounded as int8 weights are"),
    "a negative scale": ({SCALES: lambda tensor: -tensor}, "not rounded as int8 weights are"),
    "a scale of NaN": ({SCALES: put(1, np.nan)}, "not finite"),
    "an infinite scale": ({SCALES: put(1, np.inf)}, "not finite"),
    "a scale too large": ({SCALES: put(1, 3e38)}, "not finite"),
    "a scale with too many bits": ({SCALES: lambda tensor: np.nextafter(tensor, 1, dtype="f4")}, "not rounded as int8"),
    "no scales": ({SCALES: None}, "lacks the tensor 'head.weight_scale'"),
    "too few scales": ({SCALES: lambda tensor: tensor[1:]}, "must have shape"),
    "scales in float64": ({SCALES: lambda tensor: tensor.astype("f8")}, "must be float32 by the config, got float64"),
    "floats for integers": ({HEAD: lambda tensor: tensor.astype("f4")}, "must be int8 by the config, got float32"),
    "integers for a bias": (
        {"head.bias": lambda tensor: tensor.astype("i1")},
        "must be float32 by the config, got int8",
    ),
    "a scale of a bias": ({"head.bias_scale": lambda tensor: np.ones(1, "f4")}, "does not call for"),
}


@each("name", LIES)
def test_lies_about_small_integers_are_refused(name, small, tmp_path):
    """Whatever is not what rounding gives, in one sentence that names the tensor."""
    tensors, message = LIES[name]
    with pytest.raises(ModelFileError, match=message) as caught:
        changed(tmp_path / "lie.safetensors", small, tensors)
    assert "\n" not in str(caught.value) and str(caught.value).startswith(str(tmp_path))


DOCUMENTS = {
    "other weights": ({"weights": "int4"}, "its weights must be int8 where they are named, got 'int4'"),
    "a list": ({"weights": []}, r"its weights must be int8 where they are named, got \[\]"),
    "null": ({"weights": None}, "its weights must be int8 where they are named, got None"),
    "no word of it": ({"weights": ...}, "does not call for|must be float32 by the config, got int8"),
}


@each("name", DOCUMENTS)
def test_a_document_that_says_something_else(name, small, tmp_path):
    """The document says what the tensors are, or the file is refused."""
    document, message = DOCUMENTS[name]
    with pytest.raises(ModelFileError, match=message):
        changed(tmp_path / "lie.safetensors", small, **document)
    facts = json.loads(safetensors.read(tmp_path / "lie.safetensors")[1]["nblstm"])
    with pytest.raises(ModelFileError, match="only language models in float32 have int8 weights"):
        changed(tmp_path / "lie.safetensors", small, config={**facts["config"], "dtype": "float64"})
    with pytest.raises(ModelFileError, match="only language models in float32 have int8 weights"):
        changed(tmp_path / "lie.safetensors", small, config={**facts["config"], "bidirectional": True})


def test_every_bit_of_a_file_counts(small, tmp_path):
    """Some hundred bits and cuts are noticed by the digest."""
    path = tmp_path / "small.safetensors"
    for bit in range(0, 8 * len(small), 8 * len(small) // 300 | 1):
        flipped = bytearray(small)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        with pytest.raises(ModelFileError):
            nblstm.load(path)
    for size in range(0, len(small), len(small) // 40):
        path.write_bytes(small[:size])
        with pytest.raises(ModelFileError):
            nblstm.load(path)


def test_a_huge_claim_costs_nothing(small, tmp_path):
    """Shapes are compared with the config before a tensor is read."""
    header, data = parts(small)
    document = json.loads(header["__metadata__"]["nblstm"])
    document["config"]["hidden_size"] = 2000
    header["__metadata__"] = {"nblstm": json.dumps(document)}
    (tmp_path / "lie.safetensors").write_bytes(joined(header, data))
    with pytest.raises(ModelFileError, match="must have shape"):
        nblstm.load(tmp_path / "lie.safetensors")


# ---------------------------------------------------------------- commands


def test_the_command_rounds_a_file(command, folder):
    """A quarter of the file, its loss before and after, and what info, score and sample say of it."""
    found = command("quantize", "model.safetensors", "-o", "small.safetensors", "--check", "corpus.txt")
    assert found.code == 0 and "int8" in found.out and "nats per token before" in found.out
    words = found.out.split("loss")[1].split()
    assert abs(float(words[0]) - float(words[5])) < 0.02
    assert " int8" in command("info", "small.safetensors").out
    assert json.loads(command("info", "small.safetensors", "--json").out)["weights"] == "int8"
    again = command("quantize", "model.safetensors", "-o", "small.safetensors")
    assert again.code == 2 and "small.safetensors exists; name another -o, or replace it with --overwrite" in again.err
    assert command("quantize", "small.safetensors", "-o", "small.safetensors", "--overwrite").code == 0
    rounded = command("sample", "-m", "small.safetensors", "-n", "5", "--backend", "numpy", "--seed", "1")
    asked = ["-n", "5", "--backend", "numpy", "--seed", "1", "--weights", "int8"]
    assert rounded.code == 0 and command("sample", *asked).out == rounded.out
    for verb in ("eval", "score"):
        small = command(verb, "corpus.txt", "-m", "small.safetensors", "--backend", "numpy")
        again = command(verb, "corpus.txt", "--weights", "int8", "--backend", "numpy")
        assert small.code == 0 and small.out == again.out


def test_other_models_are_not_rounded(command, tmp_path, monkeypatch):
    """Masked models and those of other tasks are refused in one sentence, by the command and by its option."""
    monkeypatch.chdir(tmp_path)
    MASKED_MODEL.save("masked.safetensors")
    CLASSIFIER.save("classes.safetensors")
    (tmp_path / "text.txt").write_text("abcd" * 5, "utf-8")
    for name in ("masked", "classes"):
        asked = command("quantize", f"{name}.safetensors", "-o", "small.safetensors")
        assert_refused(asked, 2, "only language models that write have int8 weights")
    assert_refused(
        command("eval", "text.txt", "-m", "masked.safetensors", "--weights", "int8"), 2, "got MaskedLanguageModel"
    )


def test_training_starts_from_a_rounded_model_in_floats(folder):
    """`init_from` takes its numbers; what is trained is float32."""
    nblstm.load("model.safetensors").quantize().save("small.safetensors")
    trained = nblstm.train("corpus.txt", "more.safetensors", init_from="small.safetensors", steps=2, threads=1)
    assert not trained.int8 and not nblstm.load("more.safetensors").int8
