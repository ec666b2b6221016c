"""Every gradient against central finite differences in float64: signed, unclipped, all sizes different."""

import numpy as np
import pytest
from support.cases import each
from support.gradients import check_gradient
from support.kernels import CELLS, SPECIFIED, layer, offsets_of
from support.networks import BACKENDS, DROPOUTS, make_chunk, make_network, text_config
from support.numba import cpu

from nblstm.errors import ConfigError
from nblstm.kernels import CrossEntropy, Outputs, Packed, reference
from nblstm.kernels.cells import KINDS, Cell
from nblstm.nn.parameters import views
from nblstm.text.batches import Chunk

LENGTHS = [4, 3, 3, 1]  # of the texts that a layer reads; it has 18 units: one panel of 16 and a tail

SMALL, TIED = {"vocab_size": 7, "embedding_size": 3, "hidden_size": 5}, {"embedding_size": 5, "tie": True}
SAME = {"vocab_size": 7, "embedding_size": 5, "hidden_size": 5}
NOISE = {**DROPOUTS, "embedding_dropout": 0.3, "variational_dropout": 0.2, "weight_dropout": 0.4}
NETWORKS = {
    "untied": SMALL,
    "untied, dropout": {**SMALL, **DROPOUTS},
    "tied": {**SMALL, **TIED},
    "tied, dropout": {**SMALL, **TIED, **DROPOUTS},
    "several panels": {"vocab_size": 67, "embedding_size": 70, "hidden_size": 66},
    "every noise": {**SAME, **NOISE, "residual": True},
    "embedding dropout": {**SAME, "embedding_dropout": 0.5, "residual": True},
}
FAMILY = [  # what every cell is combined with
    {"num_layers": 1}, {"num_layers": 3, "residual": True}, {"layer_norm": True, "learned_state": True},
    {"bidirectional": True, "num_layers": 3, "learned_state": True}, {"bidirectional": True, **NOISE},
    {"residual": True, "learned_state": True, "layer_norm": True, **NOISE},
    {"bidirectional": True, "residual": True, "embedding_size": 10, "num_layers": 3}, {"head": "cell", **NOISE},
    {"head": "cell", "bidirectional": True, "layer_norm": True, "num_layers": 1},
    {"head": "cell", "tie": True, "embedding_size": 10, "residual": True},
    {"peepholes": True, "proj_size": 3}, {"proj_size": 3, "bidirectional": True, "layer_norm": True},
    {"proj_size": 3, "residual": True, "embedding_size": 3}, {"peepholes": True, "head": "cell", "learned_state": True},
    {"nonlinearity": "relu", "bidirectional": True, "num_layers": 1},
]  # fmt: skip


def allowed(cell, options):
    """Whether a cell can be combined so."""
    try:
        text_config(**{**SAME, "cell": cell, **options})
    except ConfigError:
        return False
    return True


STARTS = {"learned_state", "bidirectional"}  # where it matters that texts start: a first state is learned, or read anew
COMBINED = [
    (cell, options, fresh)
    for cell in KINDS
    for number, options in enumerate(options for options in FAMILY if allowed(cell, options))
    for fresh in ([False, True] if STARTS & set(options) else [number % 2 == 0])
]


@pytest.mark.parametrize("backend", BACKENDS)
@each("variant", NETWORKS)
def test_gradient_of_the_loss(backend, variant):
    """loss_and_gradient: every parameter tensor of a two-layer network, with dropout as a function of its key."""
    network = make_network(backend, threads=1, **NETWORKS[variant])
    chunk, gradient = make_chunk(network.config, T=4, N=2), np.empty_like(network.parameters)
    scratch = np.empty_like(gradient)

    def loss():
        return network.loss_and_gradient(scratch, *chunk, seed=1, step=2)[0]

    network.loss_and_gradient(gradient, *chunk, seed=1, step=2)
    grads = views(gradient, network.config)
    for name in network.config.shapes:
        check_gradient(name, loss, network.weights[name], grads[name])


@each("cell, options, fresh", COMBINED)
def test_gradient_of_every_kind_of_network(cell, options, fresh):
    """Texts of 4, 3, 3 and 1 tokens, weighted, with class weights and smoothing: every parameter of every combination.

    fresh: whether the texts start, from a learned state where there is one. The cpu backend, whose fast cells and whose
    specified ones alike are composed by the network.
    """
    hidden = {"mask_fraction": 0.8} if "bidirectional" in options else {}
    network = make_network("cpu", threads=1, **{**SAME, "cell": cell, **options, **hidden})
    network.parameters *= 2  # slopes that stand out from rounding
    r, M, offsets = np.random.default_rng(11), sum(LENGTHS), offsets_of(LENGTHS)
    tokens, targets = r.integers(0, 7, (2, M)).astype(np.int32)
    weights = r.random(M) * (r.random(M) > 0.2)
    chunk = Chunk(tokens, targets, offsets, fresh, weights)
    network.head.classes, network.head.smoothing = r.random(7) + 0.5, 0.1
    gradient, scratch = np.empty_like(network.parameters), np.empty_like(network.parameters)
    _, state = make_chunk(network.config, N=len(LENGTHS))

    def loss(into=scratch):
        return network.loss_and_gradient(into, chunk, network.before(chunk, state), seed=1, step=2)[0]

    loss(gradient)
    grads = views(gradient, network.config)
    for name in network.config.shapes:
        if name.startswith("initial_state") and not fresh:
            assert not grads[name][:: network.config.directions].any()  # backwards every chunk is a start
        elif grads[name].size:
            check_gradient(name, loss, network.weights[name], grads[name], entries=0)


class Layer:
    """One layer on texts that end, and a loss that weighs y, hn, cn and c of every step at random."""

    def __init__(self, kernels, cell, repeated):
        self.kernels, self.cell, self.given = kernels, cell, layer(cell, LENGTHS, np.float64, repeated, seed=7)
        self.arrays = {name: self.given[name] for name in ("x", "h0", "c0")} | self.given["weights"]
        rows = len(self.given["x"]) if repeated else 0
        (self.work,) = kernels.recurrent_work([cell], sum(LENGTHS), len(LENGTHS), [rows], np.float64, 1)
        self.y, self.hn, self.cn = (np.empty_like(self.given[name]) for name in ("dy", "dh", "dc"))
        self.cs = np.empty_like(self.given["dcs"]) if cell.has_memory else None
        self.packed = Packed(*(self.given[name] for name in Packed._fields))

    def loss(self):
        g = self.given
        outputs = Outputs(self.y, self.cs, self.hn, self.cn)
        self.kernels.recurrent_forward(outputs, self.work, self.packed, g["weights"], self.cell, 1)
        found = {"dy": self.y, "dh": self.hn, "dc": self.cn} | ({"dcs": self.cs} if self.cell.has_memory else {})
        return sum((g[slope] * value).sum() for slope, value in found.items())

    def gradients(self):
        """Name -> gradient of the loss, for every array."""
        self.loss()
        g = self.given
        grads = {name: np.zeros_like(array) for name, array in self.arrays.items()}
        grads["h0"], grads["c0"] = g["dh"].copy(), g["dc"].copy()
        slopes = Outputs(g["dy"].copy(), g["dcs"], grads["h0"], grads["c0"])
        self.kernels.recurrent_backward(
            grads["x"], grads, slopes, self.y, self.work, self.packed, g["weights"], self.cell, 1
        )
        return grads


@pytest.mark.parametrize("kernels", [reference, cpu], ids=BACKENDS)
@each("kind", {**CELLS, **SPECIFIED})
@each("repeated", [False, True])
def test_gradient_of_a_layer(kernels, kind, repeated):
    """Inputs, initial state, and every parameter of every cell, with gradients coming from y, hn and cn."""
    cell = Cell(**{**CELLS, **SPECIFIED}[kind], input_size=5, hidden_size=18)
    if kernels is cpu and not cell.compiled:
        return  # the same code
    layer = Layer(kernels, cell, repeated)
    for name, gradient in layer.gradients().items():
        if gradient.size:
            check_gradient(name, layer.loss, layer.arrays[name], gradient)


@each("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("kernels", [reference, cpu], ids=BACKENDS)
def test_gradient_of_the_softmax_head(kernels, smoothing):
    """Inputs, weight and bias of sum(scales * losses), for a vocabulary of more than a panel, with class weights."""
    r = np.random.default_rng(8)
    arrays = {"x": r.normal(size=(5, 19)), "weight": r.normal(size=(70, 19)), "bias": r.normal(size=70)}
    targets, scales, classes = r.integers(0, 70, 5).astype(np.int32), r.random(5), r.random(70) + 0.5
    grads, losses = {name: np.zeros_like(array) for name, array in arrays.items()}, np.empty(5)

    def loss(grads=None):
        x, weight, bias = arrays.values()
        into = grads or {name: np.zeros_like(array) for name, array in arrays.items()}
        work = kernels.softmax_gradient_work(5, 19, 70, np.float64, 1)
        counted = CrossEntropy(targets, scales, classes, smoothing)
        kernels.softmax_losses_and_gradient(losses, *into.values(), work, x, counted, weight, bias, 1)
        return (scales * losses).sum()

    loss(grads)
    for name, gradient in grads.items():
        check_gradient(name, loss, arrays[name], gradient)


@pytest.mark.parametrize("kernels", [reference, cpu], ids=BACKENDS)
def test_gradient_of_the_head(kernels):
    """linear_backward: inputs, weight and bias, for sizes of one panel and of two."""
    r = np.random.default_rng(9)
    arrays = {"x": r.normal(size=(5, 67)), "weight": r.normal(size=(13, 67)), "bias": r.normal(size=13)}
    y, slope = np.empty((5, 13)), r.normal(size=(5, 13))
    grads = {name: np.zeros_like(array) for name, array in arrays.items()}
    work = kernels.linear_work(5, 67, 13, np.float64, 1)

    def loss():
        kernels.linear_forward(y, work, *arrays.values(), 1)
        return (slope * y).sum()

    kernels.linear_backward(*grads.values(), slope.copy(), work, arrays["x"], arrays["weight"], 1)
    for name, gradient in grads.items():
        check_gradient(name, loss, arrays[name], gradient)
