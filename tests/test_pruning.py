"""Pruning: weights become zero in blocks while a model trains on, and stay so; decoding skips them."""

import numpy as np
import pytest
from support.cases import each, pairs
from support.commands import USAGE, assert_refused
from support.compare import close
from support.kernels import TOLERANCE
from support.training import assert_same_run, history, make_trainer

import nblstm
from nblstm.config import TrainConfig
from nblstm.errors import ConfigError
from nblstm.nn.parameters import initial, views
from nblstm.nn.sparsity import count_blocks, magnitudes, prunable, smallest
from nblstm.tasks.language.config import LanguageConfig
from nblstm.training.pruning import RAMP, Pruner, sparsity_at

CONFIG = LanguageConfig(7, hidden_size=20, num_layers=2)


def share(config, parameters):
    """Return the share of the blocks that is zero."""
    zero, blocks = count_blocks(config, parameters)
    return zero / blocks


def test_a_block_is_16_units_of_a_gate_by_one_input():
    """Worked example: of 20 units a gate has a block of 16 and one of 4, each by itself zero or not; means of |w|."""
    matrix = np.ones((2 * 20, 3), np.float32)
    matrix[16:20, 1] = 0  # the last 4 units of the first gate
    matrix[20:36, 2] = -3  # the first 16 of the second
    matrix[20, 0] = 17  # one of them
    expected = [[1, 1, 1], [1, 0, 1], [2, 1, 3], [1, 1, 1]]
    assert np.array_equal(magnitudes(matrix, 20), expected)
    flat = np.ones(CONFIG.num_parameters, np.float32)
    views(flat, CONFIG)["rnn.weight_hh_l1"][16:20, 5] = 0
    assert count_blocks(CONFIG, flat) == (1, 4 * 8 * 20)
    assert prunable(CONFIG) == ["rnn.weight_ih_l0", "rnn.weight_hh_l0", "rnn.weight_ih_l1", "rnn.weight_hh_l1"]


def test_the_smallest_blocks_are_chosen():
    """So many as are asked for, none for none."""
    found = np.array([[3.0, 1.0], [2.0, 0.0]])
    assert [smallest(found, count).tolist() for count in (0, 1, 3)] == [
        [[False, False], [False, False]], [[False, False], [False, True]], [[False, True], [True, True]],
    ]  # fmt: skip


def test_the_schedule_is_cubic():
    """Zhu & Gupta 2017, eq. 1: s (1 - (1 - t)^3) up to RAMP, then s."""
    assert sparsity_at(0, 0.8) == 0 and sparsity_at(RAMP, 0.8) == sparsity_at(1, 0.8) == 0.8
    assert sparsity_at(RAMP / 2, 0.8) == pytest.approx(0.8 * (1 - 0.5**3))


def pruned(sparsity, **settings):
    """Return a trainer that prunes."""
    trainer = make_trainer(shape=LanguageConfig(7, hidden_size=20, num_layers=2, dropout=0.2), **settings)
    trainer.companions.each.append(Pruner(trainer.network, sparsity))
    return trainer


def test_what_is_zero_stays_zero_and_more_becomes_so():
    """After every update, whatever momentum says; the share follows the schedule, and ends where it was asked to."""
    pytest.importorskip("numba")
    trainer, before, shares = pruned(0.75, steps=60), None, []
    for report in trainer.run():
        if report.validated:
            continue
        zero = trainer.network.parameters == 0
        if before is not None:
            assert zero[before].all()
        before = zero
        shares.append(share(trainer.network.config, trainer.network.parameters))
        assert shares[-1] <= sparsity_at(trainer.progress, 0.75) + 0.005
    assert shares[0] == 0 and shares[15] > 0.1 and shares == sorted(shares)
    assert shares[-1] == shares[35] == pytest.approx(0.75, abs=0.005)
    assert share(trainer.network.config, trainer.keep()) == shares[-1]  # not the best one of before


def test_a_run_that_prunes_is_resumed_to_the_last_bit(tmp_path):
    """The zeros of the parameters are all that it needs."""
    pytest.importorskip("numba")
    from nblstm.files.model_file import load_checkpoint, save_checkpoint

    whole, part = pruned(0.5, steps=30), pruned(0.5, steps=30)
    expected, found = history(whole.run()), []
    for report in part.run():
        found += history([report])
        if report.step == 13 and not report.validated:
            break
    save_checkpoint(tmp_path / "c.safetensors", part.tensors(), part.facts())
    resumed = pruned(0.5, steps=30)
    resumed.restore(*load_checkpoint(tmp_path / "c.safetensors"))
    assert found + history(resumed.run()) == expected
    assert_same_run(whole, resumed)


@each("settings, words", [
    ({"sparsity": 1.0}, "less than 1"), ({"sparsity": -0.1}, "at least 0"), ({"sparsity": "x"}, "float"),
    ({"sparsity": 0.5, "optimizer": "asgd"}, "asgd"), ({"sparsity": 0.5, "device": "cuda"}, "cuda"),
    ({"sparsity": 0.5, "average_every": 4}, "average_every"),
])  # fmt: skip
def test_what_cannot_be_pruned_is_refused(settings, words):
    """In a line."""
    with pytest.raises(ConfigError, match=words):
        TrainConfig(**settings)


# ---------------------------------------------------------------- decoding


def pruned_net(net, share):
    """Make blocks of a decoder's weights zero, at random."""
    r, H = np.random.default_rng(3), net.cells[0].hidden_size
    for weights in net.layers:
        for name in {"weight_ih", "weight_hh"} & weights.keys():
            for first in range(0, len(weights[name]), H):
                for row in range(first, first + H, 16):
                    columns = r.random(weights[name].shape[1]) < share
                    weights[name][row : min(row + 16, first + H), columns] = 0
    return net


@pytest.fixture
def decoding(monkeypatch):
    """Return the decoding kernels, which share a text whatever its weights."""
    pytest.importorskip("numba")
    from nblstm.kernels.cpu import decoding, recurrent

    monkeypatch.setattr(recurrent, "SHARED_BYTES", 0)
    return decoding


KINDS = {
    "lstm": {}, "gru": {"kind": "gru"}, "rnn": {"kind": "rnn", "nonlinearity": "relu"},
    "residual": {"residual": True, "with_memory": True},
}  # fmt: skip


@each("kind, split, room", pairs(KINDS, [(1, 1), (1, 3), (9, 2)], [1 << 23, 0]))
def test_decoding_without_the_zeros_equals_the_specification(kind, split, room, decoding, monkeypatch):
    """State and logits, of sizes that fill no block and no panel; tokens in a table or not; empty lists of blocks."""
    from test_kernels import decoded, small_net

    from nblstm.kernels import cpu, reference

    monkeypatch.setattr(decoding, "KEPT_BYTES", room)
    texts, threads = split
    for sizes, zeros in (((40, 33, 33), 0.7), ((65, 20, 64), 0.9), ((20, 130, 130), 1.0)):
        net = pruned_net(small_net(sizes, np.float32, num_layers=3, scale=0.2, **KINDS[kind]), zeros)
        assert cpu.decode_weights(net, 1)["layout"].sparse
        for value, other in zip(decoded(reference, net, texts, 1), decoded(cpu, net, texts, threads)):
            close(other, value, TOLERANCE[np.float32])


def test_few_zeros_are_multiplied(decoding):
    """Below the share from which on it pays, and in a network of numbers all of which are there."""
    from test_kernels import small_net

    from nblstm.kernels import cpu

    for zeros in (0.0, 0.3):
        assert not cpu.decode_weights(pruned_net(small_net((9, 32, 32), np.float32), zeros), 1)["layout"].sparse


def test_any_number_of_threads_and_texts_decodes_to_the_same_bits(decoding):
    """A row's sum has one order, alone or among others."""
    from test_kernels import decoded, small_net

    from nblstm.kernels import cpu

    net = pruned_net(small_net((20, 70, 70), np.float32), 0.8)
    expected = decoded(cpu, net, 1, 1)
    assert all(np.array_equal(one, other) for one, other in zip(expected, decoded(cpu, net, 1, 3)))
    expected = decoded(cpu, net, 6, 1)  # four of them together, two alone
    assert all(np.array_equal(one, other) for one, other in zip(expected, decoded(cpu, net, 6, 6)))


# ---------------------------------------------------------------- the command

HOW = ["--batch-size", "4", "--bptt", "8", "--threads", "1"]


def test_the_command(command, folder):
    """It says how good the model was and is and how much is zero; info says so, too; the file has its size; it goes on."""
    pytest.importorskip("numba")
    found = command("prune", "model.safetensors", "corpus.txt", "--steps", "12", *HOW, "-o", "p.safetensors")
    assert found.code == 0, found.err
    assert "before  valid" in found.err and "pruned  81.2 % of the recurrent weights" in found.err
    model = nblstm.load("p.safetensors")
    assert share(model.config, model.parameters) == 26 / 32  # 80 %, in whole blocks
    assert "81.2 % zero" in command("info", "p.safetensors").out
    assert "zero" not in command("info", "model.safetensors").out
    sizes = [(folder / name).stat().st_size for name in ("p.safetensors", "model.safetensors")]
    assert sizes[0] == pytest.approx(sizes[1], abs=400)
    went_on = nblstm.train(output="p.safetensors", resume=True, steps=15)
    assert share(went_on.config, went_on.parameters) == share(model.config, model.parameters)


@each("words, message", [
    ((), "behind the model"), (("corpus.txt", "--sparsity", "0"), "sparsity must be greater than 0"),
    (("corpus.txt", "--sparsity", "1"), "sparsity must be greater than 0 and less than 1"),
])  # fmt: skip
def test_wrong_words_are_refused(words, message, command, folder):
    """In a line, with exit code 2, before anything is read."""
    assert_refused(command("prune", "model.safetensors", *words, "-o", "p.safetensors"), USAGE, message)


def test_a_network_of_weights_that_are_all_zero_is_no_error():
    """Nothing is chosen twice; a matrix of zeros is as sparse as it can be."""
    config = LanguageConfig(5, hidden_size=4, num_layers=1)
    flat = initial(config, 0)
    for name in prunable(config):
        views(flat, config)[name][...] = 0
    zero, blocks = count_blocks(config, flat)
    assert zero == blocks == 32


def test_the_library_prunes(folder):
    """`prune` is a run of `train` from a model, with less dropout; it alone may have another one than its model."""
    pytest.importorskip("numba")
    how = {"batch_size": 4, "bptt": 8, "threads": 1, "steps": 4}
    model = nblstm.prune("model.safetensors", "corpus.txt", "p.safetensors", sparsity=0.75, **how)
    assert model.config.dropout == pytest.approx(0.4 * 0.5) and share(model.config, model.parameters) == 0.75
    assert nblstm.load("model.safetensors").config.dropout == 0.4
    with pytest.raises(ConfigError, match="hidden_size comes from the model"):
        nblstm.prune("model.safetensors", "corpus.txt", "q.safetensors", hidden_size=9)


# ---------------------------------------------------------------- C


@pytest.mark.parametrize("weights, cell, flags", [
    ("float32", "lstm", ["-O3", "-march=native"]), ("int8", "lstm", ["-O1"]), ("bfloat16", "gru", ["-O2"]),
    ("int8", "gru", ["-O3", "-march=native"]), ("int4", "lstm", ["-O1"]),
])  # fmt: skip
def test_exported_c_skips_blocks_of_zeros(weights, cell, flags, tmp_path):
    """The header's own test passes, with the sanitizers, and its weights are fewer bytes; of int4 they stay."""
    from support.exported import language_model
    from test_export_c import CC, compiled, run, sanitizers

    from nblstm.exporting.plan import plan

    if CC is None:
        pytest.skip("there is no C compiler")
    model = language_model(hidden_size=32, cell=cell, embedding_size=600)  # more columns than are summed at once
    flat = model.parameters.copy()
    for name in prunable(model.config):
        matrix = views(flat, model.config)[name]
        zero = np.random.default_rng(1).random((len(matrix) // 16, matrix.shape[1])) < 0.8
        zero[1] = True  # a list without blocks
        matrix[np.repeat(zero, 16, axis=0)] = 0
    zeros = nblstm.LanguageModel(model.config, model.vocabulary, flat, {})
    sizes = [plan(each, weights, "c").nbytes for each in (model, zeros)]
    assert sizes[1] == sizes[0] if weights == "int4" else sizes[1] < 0.6 * sizes[0]
    for compiler in (CC, *(["g++"] if CC == "gcc" and flags == ["-O1"] else [])):
        code, said = run(compiled(tmp_path, zeros, weights, *flags, *sanitizers(), compiler=compiler), "--test")
        assert code == 0, said
