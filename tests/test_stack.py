"""The stack gives back the gradients of its inputs and of its first state, and takes that of its last one."""

import numpy as np
import pytest
from support.cases import each
from support.gradients import check_gradient
from support.kernels import offsets_of
from support.networks import BACKENDS, make_network

from nblstm.nn.noise import Noise
from nblstm.nn.parameters import views
from nblstm.nn.state import State
from nblstm.nn.tape import Inputs, Tape

LENGTHS = [4, 3, 3, 1]
STACKS = [
    {}, {"cell": "gru", "residual": True}, {"bidirectional": True, "cell": "rnn"},
    {"head": "cell", "dropout": 0.5, "num_layers": 3}, {"layer_norm": True, "cell": "update-lstm"},
    {"peepholes": True, "proj_size": 3, "variational_dropout": 0.3},
]  # fmt: skip


def random_state(config, r):
    """A state that is not zero."""
    zeros = vars(State.zeros(config, len(LENGTHS)))
    return State(*(r.normal(0, 0.5, array.shape) for array in zeros.values()))


@pytest.mark.parametrize("backend", BACKENDS)
@each("options", STACKS)
def test_gradients_of_inputs_and_states(backend, options):
    """A weighted sum of features and last states: its slope in every input and first state, by finite differences.

    As an encoder needs it: what follows has read the last state, what came before has made the first state and the
    inputs.
    """
    network = make_network(backend, threads=1, **{"hidden_size": 5, "embedding_size": 5, **options})
    c, stack, r = network.config, network.body, np.random.default_rng(3)
    offsets = offsets_of(LENGTHS)
    x, state = r.normal(0, 1, (sum(LENGTHS), 5)), random_state(network.config, r)
    of_features, of_last = r.normal(0, 1, (len(x), c.head_size)), random_state(c, r)

    def forward():
        with network.scratch() as scratch:
            tape = Tape(offsets, scratch, Noise(network.kernels, 1, 2, 1))
            after = stack.forward(tape, Inputs(x, None, 0), state)
            total = (tape.features * of_features).sum() + (after.h * of_last.h).sum() + (after.c * of_last.c).sum()
            gradient = np.zeros_like(network.parameters)
            dlast = list(zip(of_last.h, of_last.c))
            dx, dfirst = stack.backward(tape, views(gradient, c), of_features.copy(), False, dlast)
            return total, dx.copy(), dfirst

    _, dx, dfirst = forward()
    check_gradient("x", lambda: forward()[0], x, dx)
    check_gradient("h", lambda: forward()[0], state.h, np.array([dh for dh, _ in dfirst]))
    if c.cells[0].has_memory:
        check_gradient("c", lambda: forward()[0], state.c, np.array([dc for _, dc in dfirst]))
