"""The network as a whole: state, threads, dtypes, tied weights and numbers at the edge, for both backends."""

import threading

import numpy as np
import pytest
from support.cases import each, pairs
from support.compare import assert_same_bits, close
from support.networks import BACKENDS, DROPOUTS, SHAPE, make_chunk, make_network, text_config
from support.numba import cpu

from nblstm.errors import ConfigError
from nblstm.kernels.cells import KINDS as CELLS
from nblstm.nn.inputs import unique_tokens
from nblstm.nn.network import Network
from nblstm.nn.parameters import flatten, initial, views
from nblstm.nn.state import State
from nblstm.tasks.language.config import LanguageConfig
from nblstm.text.batches import Chunk

TOLERANCE = {"float32": 1e-5, "float64": 1e-12}
VARIANTS = [
    {}, {"tie": True, "embedding_size": 19}, {"dropout": 0.4}, {"input_dropout": 0.3}, {"output_dropout": 0.5},
    {**DROPOUTS, "tie": True, "embedding_size": 19, "num_layers": 3},
    {"hidden_size": 70, "vocab_size": 67, "num_layers": 1},
    {"cell": "gru", "residual": True, "embedding_size": 19}, {"cell": "rnn", "learned_state": True},
    {"cell": "update-lstm", "head": "cell", "num_layers": 3}, {"bidirectional": True, "residual": True, "num_layers": 3},
    {"layer_norm": True, "peepholes": True, "proj_size": 6}, {"weight_dropout": 0.3, "variational_dropout": 0.2},
]  # fmt: skip


def results(network, T=6, N=3):
    """What every public function returns for one chunk, as arrays by name."""
    chunk, state = make_chunk(network.config, T, N)
    gradient = np.full_like(network.parameters, np.nan)
    loss, after = network.loss_and_gradient(gradient, chunk, state, seed=3, step=4)
    found = {"loss": np.array(loss), "gradient": gradient, "h": after.h, "c": after.c}
    found["losses"], _ = network.losses(chunk, state)
    if network.config.directions == 1:
        stepped, decode = state.copy(), network.decoder(N)
        found["logits"] = np.stack([decode(row, stepped) for row in chunk.tokens.reshape(T, N)])
        found |= {"stepped h": stepped.h, "stepped c": stepped.c}
    return found


# ---------------------------------------------------------------- chunks, scoring, decoding


@each("dtype", ["float32", "float64"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_one_long_run_equals_three_chunks_with_the_state_carried(backend, dtype):
    """Reading 12 tokens at once or in chunks of 5, 4 and 3 gives the same losses and the same final state.

    On the cpu backend bit for bit; NumPy's BLAS sums in an order that depends on the number of rows.
    """
    network = make_network(backend, dtype=dtype)
    chunk, state = make_chunk(network.config, T=12)
    whole, after = network.losses(chunk, state)
    parts, (tokens, targets) = [], (ids.reshape(12, 3) for ids in (chunk.tokens, chunk.targets))
    for rows in np.split(np.arange(12), [5, 9]):
        losses, state = network.losses(Chunk.rectangle(tokens[rows], targets[rows], fresh=False), state)
        parts.append(losses)
    for actual, expected in [(np.concatenate(parts), whole), (state.h, after.h), (state.c, after.c)]:
        close(actual, expected, 0 if backend == "cpu" else TOLERANCE[dtype])


@pytest.mark.parametrize("backend", BACKENDS)
def test_scoring_equals_the_training_loss_without_dropout(backend):
    """`losses` averages to the loss of `loss_and_gradient`, and both leave the same state behind."""
    network = make_network(backend)
    chunk, state = make_chunk(network.config)
    losses, after = network.losses(chunk, state)
    loss, trained = network.loss_and_gradient(np.empty_like(network.parameters), chunk, state, 0, 0)
    close(losses.mean(), loss, 1e-14)
    assert_same_bits({"h": after.h, "c": after.c}, {"h": trained.h, "c": trained.c})


@pytest.mark.parametrize("backend", BACKENDS)
def test_scoring_has_no_dropout(backend):
    """`losses` and the decoder read the same network whatever its dropout: only training drops."""
    plain, dropping = (make_network(backend, dropout=rate, output_dropout=rate) for rate in (0.0, 0.6))
    chunk = make_chunk(plain.config)
    assert np.array_equal(plain.losses(*chunk)[0], dropping.losses(*chunk)[0])


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
def test_scoring_has_no_input_dropout(backend):
    """The embedding's dropout, too, is for training alone."""
    plain, dropping = (make_network(backend, input_dropout=rate, hidden_size=70) for rate in (0.0, 0.6))
    chunk = make_chunk(plain.config)
    assert np.array_equal(plain.losses(*chunk)[0], dropping.losses(*chunk)[0])


WRITERS = [{}] + [variant for variant in VARIANTS[7:] if "bidirectional" not in variant]


@pytest.mark.parametrize("backend", BACKENDS)
@each("variant, N, dtype", pairs(WRITERS, [1, 3], ["float32", "float64"]))
def test_decoding_one_token_at_a_time_equals_scoring(variant, N, backend, dtype):
    """-log softmax of the decoder's logits, token by token, is what `losses` finds for the whole chunk."""
    network = make_network(backend, dtype=dtype, **variant)
    chunk, state = make_chunk(network.config, N=N)
    losses, after = network.losses(chunk, state)
    decode = network.decoder(N)
    logits = np.concatenate([decode(row, state) for row in chunk.tokens.reshape(-1, N)])  # state is overwritten
    logits, rows = logits.astype(np.float64), np.arange(len(losses))
    expected = np.log(np.exp(logits).sum(axis=1)) - logits[rows, chunk.targets]
    for actual, value in [(losses, expected), (state.h, after.h), (state.c, after.c), (state.features, after.features)]:
        close(actual, value, TOLERANCE[dtype])
    close(network.logits(state.features), logits[-N:], TOLERANCE[dtype])


@pytest.mark.parametrize("backend", BACKENDS)
def test_decoding_without_logits_moves_the_state_alike(backend):
    """want_logits=False skips the head and nothing else."""
    network = make_network(backend)
    chunk, state = make_chunk(network.config)
    tokens = chunk.tokens.reshape(6, 3)
    with_head, without = state.copy(), state.copy()
    decode = network.decoder(3)
    decode(tokens[0], with_head)
    assert decode(tokens[0], without, want_logits=False).shape == (0, network.config.vocab_size)
    assert_same_bits({"h": without.h, "c": without.c}, {"h": with_head.h, "c": with_head.c})
    assert not np.array_equal(without.h, state.h)


@pytest.mark.parametrize("backend", BACKENDS)
def test_texts_that_were_taken_go_on_as_they_would_alone(backend):
    """The state of several texts, in any order and more than once each, is decoded like that of each alone."""
    network, tokens, order = make_network(backend), np.array([[1, 2, 3, 2], [0, 1, 4, 3]]), [2, 0, 0, 1]
    _, state = make_chunk(network.config)
    together = state.take(order)
    assert all(array.flags.c_contiguous for array in vars(together).values())
    decode = network.decoder(4)
    logits = [decode(row, together) for row in tokens][-1]
    for n, text in enumerate(order):
        alone = state.take([text])
        expected = [decode(row[n : n + 1], alone) for row in tokens][-1]
        close(logits[n], expected[0], 1e-5)
        close(together.c[:, n], alone.c[:, 0], 1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_inputs_are_left_alone(backend):
    """Parameters, tokens and the incoming state are read, never written, by training and scoring."""
    network = make_network(backend, dropout=0.3)
    chunk, state = make_chunk(network.config)
    arrays = network.parameters, chunk.tokens, chunk.targets, chunk.offsets, state.h, state.c
    before = [array.copy() for array in arrays]
    network.loss_and_gradient(np.empty_like(network.parameters), chunk, state, 0, 0)
    network.losses(chunk, state)
    for array, value in zip(arrays, before):
        assert np.array_equal(array, value)


@pytest.mark.parametrize("backend", BACKENDS)
def test_buffers_of_other_shapes_and_calls_leave_no_trace(backend):
    """A chunk gives the same bits before and after chunks of other shapes, and after scoring."""
    network = make_network(backend, dropout=0.3)
    expected = results(network)
    results(network, T=3, N=5)
    results(network, T=9, N=1)
    assert_same_bits(results(network), expected)


# ---------------------------------------------------------------- backends, threads, dtypes


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@each("variant", VARIANTS)
def test_backends_agree(variant, dtype):
    """Loss, gradient, state and logits of the cpu kernels are the specification's, dropout masks included."""
    expected, actual = (results(make_network(backend, dtype=dtype, **variant)) for backend in BACKENDS)
    for name, value in expected.items():
        close(actual[name], value, TOLERANCE[dtype])


@pytest.mark.parametrize("N", [1, 5])
@each("variant", VARIANTS)
def test_threads_do_not_change_a_bit(variant, N, monkeypatch):
    """Loss, gradient, state and logits have the same bits on 1, 2, 3 and 8 threads, also when they share streams."""
    monkeypatch.setattr(cpu.recurrent, "SHARED_BYTES", 0)
    expected = results(make_network(threads=1, dtype="float32", **variant), N=N)
    for threads in (2, 3, 8):
        assert_same_bits(results(make_network(threads=threads, dtype="float32", **variant), N=N), expected)


@pytest.mark.parametrize("shared_bytes", [0, None])
def test_callers_in_several_threads_do_not_disturb_each_other(shared_bytes, monkeypatch):
    """Six Python threads, each with its own network of another shape, find what they find one by one.

    With shared_bytes 0 kernels whose parts wait for each other meet, too.
    """
    if shared_bytes is not None:
        monkeypatch.setattr(cpu.recurrent, "SHARED_BYTES", shared_bytes)
    shapes = [{"hidden_size": size, "dropout": 0.2} for size in (3, 16, 19, 33, 64, 70)]
    expected = [results(make_network(threads=4, **shape)) for shape in shapes]
    failures = []

    def work(shape, value):
        try:
            network = make_network(threads=4, **shape)
            for _ in range(10):
                assert_same_bits(results(network), value)
        except BaseException as error:  # a failed assertion in a thread would be lost
            failures.append(error)

    callers = [threading.Thread(target=work, args=pair) for pair in zip(shapes, expected)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert failures == []


@pytest.mark.parametrize("backend", BACKENDS)
def test_float32_in_float32_out(backend):
    """No float64 array leaves a float32 network: states, losses and logits keep its type."""
    found = results(make_network(backend, dtype="float32", dropout=0.2))
    del found["loss"]  # a Python float
    assert {name: value.dtype for name, value in found.items()} == dict.fromkeys(found, np.dtype("float32"))


@pytest.mark.parametrize("backend", BACKENDS)
def test_tied_weights_get_both_gradients(backend):
    """The gradient of a tied matrix is the embedding's plus the head's of the same network with two matrices."""
    tied = make_network(backend, tie=True, embedding_size=19)
    untied = make_network(backend, embedding_size=19)
    untied.parameters[:] = flatten(tied.weights, untied.config)
    one, two = results(tied), results(untied)
    grads, parts = views(one["gradient"], tied.config), views(two["gradient"], untied.config)
    close(one["loss"], two["loss"], 1e-14)
    close(grads["embedding.weight"], parts["embedding.weight"] + parts["head.weight"], 1e-14)
    assert min(np.abs(parts[name]).max() for name in ("embedding.weight", "head.weight")) > 1e-3


# ---------------------------------------------------------------- dropout


@pytest.mark.parametrize("backend", BACKENDS)
@each("variant", [{"dropout": 0.5}, {"input_dropout": 0.5}, {"output_dropout": 0.5}])
def test_dropout_is_a_function_of_seed_and_step(backend, variant):
    """The same (seed, step) gives the same loss again; another seed or another step another loss."""
    network = make_network(backend, **variant)
    chunk, gradient = make_chunk(network.config), np.empty_like(network.parameters)
    losses = [network.loss_and_gradient(gradient, *chunk, *key)[0] for key in [(1, 2), (1, 3), (2, 2), (2, 1), (1, 2)]]
    assert losses[0] == losses[-1]
    assert len(set(losses)) == 4


@pytest.mark.parametrize("backend", BACKENDS)
def test_dropout_is_between_layers(backend):
    """One layer has no layer behind it: `dropout` leaves it alone, as in torch.nn.LSTM; two layers it does not."""
    for num_layers, same in ((1, True), (2, False)):
        losses = [results(make_network(backend, num_layers=num_layers, dropout=rate))["loss"] for rate in (0.0, 0.5)]
        assert (losses[0] == losses[1]) == same


# ---------------------------------------------------------------- numbers at the edge


@each("name", list(LanguageConfig(**SHAPE).shapes))
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_nan_in_a_weight_is_a_nan_in_the_loss(backend, name):
    """A broken parameter shows in training and in scoring: nothing hides it."""
    network = make_network(backend)
    chunk, state = make_chunk(network.config)
    network.weights[name].reshape(network.weights[name].shape[0], -1)[chunk.tokens[0]] = np.nan
    with np.errstate(invalid="ignore"):
        loss, _ = network.loss_and_gradient(np.empty_like(network.parameters), chunk, state, 0, 0)
        losses, _ = network.losses(chunk, state)
    assert np.isnan(loss)
    assert np.isnan(losses).any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_saturated_gates_stay_finite(backend):
    """Parameters of +-1e4 saturate every gate; loss, gradient and state are finite in float32."""
    network = make_network(backend, dtype="float32")
    network.parameters[:] = np.sign(network.parameters) * 1e4
    for name, value in results(network).items():
        assert np.isfinite(value).all(), name


# ---------------------------------------------------------------- parameters


@each("variant", VARIANTS, ids=str)
def test_parameters_fill_the_flat_buffer_once(variant):
    """The named views are windows on the buffer, in order and without a gap; `flatten` is their inverse."""
    config = text_config(**{**SHAPE, **variant})
    flat = np.arange(config.num_parameters, dtype=config.dtype)
    named = views(flat, config)
    own = [named[name].reshape(-1) for name in config.shapes]
    assert np.array_equal(np.concatenate(own), flat)
    assert all(np.shares_memory(array, flat) for array in named.values())
    assert np.array_equal(flatten(named, config), flat)


def test_fresh_parameters():
    """Forget biases are 1, other biases 0, weights within +-1/sqrt(H), or three times that; the seed alone decides."""
    config = LanguageConfig(50, embedding_size=40, hidden_size=64, num_layers=2)
    flat = initial(config, 7)
    named = views(flat, config)
    for layer in range(2):
        assert named[f"rnn.bias_ih_l{layer}"].tolist() == [0] * 64 + [1] * 64 + [0] * 128
        assert not named[f"rnn.bias_hh_l{layer}"].any()
    scales = {"rnn.weight_ih_l0": 1, "rnn.weight_hh_l1": 1, "rnn.weight_ih_l1": 3, "head.weight": 3}
    for name, scale in scales.items():
        largest = np.abs(named[name]).max()
        assert 0.99 * scale / 8 < largest <= scale / 8, name
    assert abs(named["embedding.weight"].std() - 1) < 0.05
    assert np.array_equal(initial(config, 7), flat)
    assert not np.array_equal(initial(config, 8), flat)


@each("cell", CELLS)
def test_fresh_gains_are_one(cell):
    """Layer norm starts as the normalisation alone: from gains of 0 nothing would come through."""
    config = LanguageConfig(5, hidden_size=3, num_layers=2, cell=cell, layer_norm=True)
    named = views(initial(config, 7), config)
    gains = {name: array for name, array in named.items() if name.startswith("rnn.gain")}
    assert len(gains) >= 2  # a minGRU has those of its inputs alone
    for name, array in gains.items():
        assert (array == 1).all(), name


def test_unique_tokens_is_numpys_unique():
    """Distinct ids in rising order, and for every token its place among them."""
    tokens = np.random.default_rng(5).integers(0, 30, 40)
    distinct, index = unique_tokens(tokens, 33)
    expected, places = np.unique(tokens, return_inverse=True)
    assert np.array_equal(distinct, expected)
    assert np.array_equal(index, places.reshape(-1))
    assert index.dtype == np.int32


def test_a_bidirectional_network_does_not_write():
    """Its decoder is refused in a sentence."""
    with pytest.raises(ConfigError, match="cannot write from left to right"):
        make_network(bidirectional=True).decoder()


@each("settings, message", [
    ({"cell": "gru", "peepholes": True}, "peepholes is for lstm"), ({"cell": "gru", "head": "cell"}, "cell head needs"),
    ({"nonlinearity": "relu"}, "nonlinearity is for rnn"), ({"proj_size": 19}, "less than hidden_size"),
    ({"cell": "rnn", "proj_size": 2}, "proj_size is for lstm"), ({"tie": True, "bidirectional": True, "embedding_size": 19}, "embedding_size == 38"),
    ({"cell": "transformer"}, "cell must be one of"), ({"weight_dropout": 1.0}, "weight_dropout must be"),
])  # fmt: skip
def test_combinations_that_exclude_each_other_are_refused_by_name(settings, message):
    """Before anything is made or read."""
    with pytest.raises(ConfigError, match=message):
        text_config(**{**SHAPE, **settings})


@pytest.mark.parametrize("threads", [-1, 1.5, "two"])
def test_a_wrong_number_of_threads_is_named(threads):
    """In one line, whoever makes the network."""
    config = LanguageConfig(**SHAPE)
    with pytest.raises(ConfigError, match="threads must be a whole number from 0 to 4,096, got"):
        Network(config, initial(config, 0), "numpy", threads)


def test_the_features_of_a_state_have_their_old_name_too():
    """For one more version, with a warning."""
    state = State.zeros(LanguageConfig(5, hidden_size=3))
    with pytest.warns(DeprecationWarning, match="State.top is now State.features"):
        assert state.top is state.features
