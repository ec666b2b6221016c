"""Cells in the exports: what computes one in each format, a paragraph each. A cell that is not here is refused by its name.

| format | what it is given                                                 | what it makes               |
|--------|------------------------------------------------------------------|-----------------------------|
| c      | z (GATES H), W x + U h + b; kept apart b (GATES H), U h          | y, the next h; c            |
| py     | z = W x + b, u = U h, h, c, the cell's vectors v                 | (h, c)                      |
| html   | the same                                                         | y, the next h; c            |
| onnx   | names in a graph: a = W x + b, b = U h + b (batch, gates H) or "" | names of (h, c)             |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from nblstm.exporting.onnx_graph import Graph

Weights = Mapping[str, np.ndarray]


class OnnxOperator(NamedTuple):
    """A recurrent operator that ONNX has, of the cell's name in capitals."""

    blocks: list[int]  # its gates among ours
    settings: Callable[[Any], dict[str, Any]] = lambda config: {}  # beside hidden_size


@dataclass(frozen=True)
class ExportedCell:
    """What each format has for a cell; what is None it does not have."""

    c: Any = (
        None  # the statements, @squash@ before the tanh of c; a function of the config where an option changes them
    )
    py: Any = None  # a function of the cell's name
    html: Any = None  # methods: of the cell's name, or of its nonlinearities'
    onnx: Any = None  # (graph, a, b, h, c, weights, config) -> (h, c)
    mix: Any = None  # (graph, x, h, weights, config) -> (x, h), where these change each other before W x and U h
    operator: Any = None  # OnnxOperator that computes it where it has no options
    apart: bool = False  # U h + b of its last gate stands inside a product, so it is not added to W x


EXPORTED_CELLS: dict[str, ExportedCell] = {}


def _lstm(graph: Graph, a: str, b: str, h: str, c: str, weights: Weights, config: Any) -> tuple[str, str]:
    """i, f, o = sigmoid, g = tanh; c = f c + i g, mixed with the one before by an update gate; h = o tanh(c)"""
    op, count = graph.node, config.cells[0].gates
    i, f, g, o, *u = graph.split(op("Add", a, b), count, config.hidden_size)
    if config.peepholes:
        p_i, p_f, p_o = (graph.constant(p) for p in weights["peepholes"])
        i, f = op("Add", i, op("Mul", p_i, c)), op("Add", f, op("Mul", p_f, c))
    new = op("Add", op("Mul", op("Sigmoid", f), c), op("Mul", op("Sigmoid", i), op("Tanh", g)))
    c = graph.between(c, new, u[0]) if u else new
    if config.peepholes:
        o = op("Add", o, op("Mul", p_o, c))
    seen = graph.normalized(c, weights["gain_c"], weights["bias_c"]) if config.layer_norm else c
    return op("Mul", op("Sigmoid", o), op("Tanh", seen)), c


LSTM_C = {  # whether it has peepholes -> statements
    False: """\
    /* i, f, o = sigmoid, g = tanh; c = f c + i g; h = o tanh(c) */
    nblstm_sigmoid(z, 2 * NBLSTM_H);
    nblstm_tanh(z + 2 * NBLSTM_H, NBLSTM_H);
    nblstm_sigmoid(z + 3 * NBLSTM_H, NBLSTM_H);
    for (i = 0; i < NBLSTM_H; i++) y[i] = c[i] = z[NBLSTM_H + i] * c[i] + z[i] * z[2 * NBLSTM_H + i];
@squash@    nblstm_tanh(y, NBLSTM_H);
    for (i = 0; i < NBLSTM_H; i++) y[i] *= z[3 * NBLSTM_H + i];""",
    True: """\
    /* i, f = sigmoid(z + p c), g = tanh; c = f c + i g; o = sigmoid(z + p c); h = o tanh(c) */
    for (i = 0; i < NBLSTM_H; i++) {
        z[i] += l->peepholes[i] * c[i];
        z[NBLSTM_H + i] += l->peepholes[NBLSTM_H + i] * c[i];
    }
    nblstm_sigmoid(z, 2 * NBLSTM_H);
    nblstm_tanh(z + 2 * NBLSTM_H, NBLSTM_H);
    for (i = 0; i < NBLSTM_H; i++) {
        y[i] = c[i] = z[NBLSTM_H + i] * c[i] + z[i] * z[2 * NBLSTM_H + i];
        z[3 * NBLSTM_H + i] += l->peepholes[2 * NBLSTM_H + i] * c[i];
    }
    nblstm_sigmoid(z + 3 * NBLSTM_H, NBLSTM_H);
@squash@    nblstm_tanh(y, NBLSTM_H);
    for (i = 0; i < NBLSTM_H; i++) y[i] *= z[3 * NBLSTM_H + i];""",
}
EXPORTED_CELLS["lstm"] = ExportedCell(
    c=lambda config: LSTM_C[config.peepholes],
    py='''\
def lstm(z, u, h, c, v):
    """i, f, o = sigmoid, g = tanh; c = f c + i g; h = o tanh(c)"""
    i, f, g, o = gates(add(z, u), 4)
    peepholes = gates(v["peepholes"], 3) if "peepholes" in v else None
    if peepholes is not None:
        i, f = (add(gate, each(operator.mul, p, c)) for gate, p in zip((i, f), peepholes))
    c = each(lambda i, f, g, c: sigmoid(f) * c + sigmoid(i) * tanh(g), i, f, g, c)
    if peepholes is not None:
        o = add(o, each(operator.mul, peepholes[2], c))
    return each(lambda o, s: sigmoid(o) * tanh(s), o, squashed(c, v)), c''',
    html="""\
  // i, f, o = sigmoid, g = tanh; c = f c + i g; h = o tanh(c)
  "lstm"(y, z, u, h, c, v) {
    const H = y.length, p = v.peepholes;
    for (let k = 0; k < H; k++) {
      const i = z[k] + u[k] + (p ? p[k] * c[k] : 0), f = z[H + k] + u[H + k] + (p ? p[H + k] * c[k] : 0);
      c[k] = sigmoid(f) * c[k] + sigmoid(i) * tanh(z[2 * H + k] + u[2 * H + k]);
      y[k] = sigmoid(z[3 * H + k] + u[3 * H + k] + (p ? p[2 * H + k] * c[k] : 0));
    }
    squash(y, c, v);
  },
""",
    onnx=_lstm,
    operator=OnnxOperator([0, 3, 1, 2]),
)

EXPORTED_CELLS["update-lstm"] = ExportedCell(
    c="""\
    /* i, f, o, u = sigmoid, g = tanh; c = u (f c + i g) + (1 - u) c; h = o tanh(c) */
    nblstm_sigmoid(z, 2 * NBLSTM_H);
    nblstm_tanh(z + 2 * NBLSTM_H, NBLSTM_H);
    nblstm_sigmoid(z + 3 * NBLSTM_H, 2 * NBLSTM_H);
    for (i = 0; i < NBLSTM_H; i++) {
        const float new_c = z[NBLSTM_H + i] * c[i] + z[i] * z[2 * NBLSTM_H + i], u = z[4 * NBLSTM_H + i];
        y[i] = c[i] = u * new_c + (1.0f - u) * c[i];
    }
@squash@    nblstm_tanh(y, NBLSTM_H);
    for (i = 0; i < NBLSTM_H; i++) y[i] *= z[3 * NBLSTM_H + i];""",
    py='''\
def update_lstm(z, u, h, c, v):
    """i, f, o, u = sigmoid, g = tanh; c = u (f c + i g) + (1 - u) c; h = o tanh(c)"""
    i, f, g, o, u = gates(add(z, u), 5)
    new = each(lambda i, f, g, c: sigmoid(f) * c + sigmoid(i) * tanh(g), i, f, g, c)
    c = each(lambda u, new, c: sigmoid(u) * new + (1 - sigmoid(u)) * c, u, new, c)
    return each(lambda o, s: sigmoid(o) * tanh(s), o, squashed(c, v)), c''',
    html="""\
  // c = u (f c + i g) + (1 - u) c
  "update-lstm"(y, z, u, h, c, v) {
    const H = y.length, at = (gate, k) => z[gate * H + k] + u[gate * H + k];
    for (let k = 0; k < H; k++) {
      const made = sigmoid(at(1, k)) * c[k] + sigmoid(at(0, k)) * tanh(at(2, k)), update = sigmoid(at(4, k));
      c[k] = update * made + (1 - update) * c[k];
      y[k] = sigmoid(at(3, k));
    }
    squash(y, c, v);
  },
""",
    onnx=_lstm,
)


def _gru(graph: Graph, a: str, b: str, h: str, c: str, weights: Weights, config: Any) -> tuple[str, str]:
    """r, u = sigmoid(a + b); n = tanh(a + r b); h = (1 - u) n + u h"""
    op, H = graph.node, config.hidden_size
    (ar, au, an), (br, bu, bn) = graph.split(a, 3, H), graph.split(b, 3, H)
    n = op("Tanh", op("Add", an, op("Mul", op("Sigmoid", op("Add", ar, br)), bn)))
    return graph.between(n, h, op("Add", au, bu)), c


EXPORTED_CELLS["gru"] = ExportedCell(
    c="""\
    /* r, u = sigmoid(a + b); n = tanh(a + r b); h = (1 - u) n + u h */
    for (i = 0; i < 2 * NBLSTM_H; i++) z[i] += b[i];
    nblstm_sigmoid(z, 2 * NBLSTM_H);
    for (i = 0; i < NBLSTM_H; i++) y[i] = z[2 * NBLSTM_H + i] + z[i] * b[2 * NBLSTM_H + i];
    nblstm_tanh(y, NBLSTM_H);
    for (i = 0; i < NBLSTM_H; i++) y[i] = (1.0f - z[NBLSTM_H + i]) * y[i] + z[NBLSTM_H + i] * h[i];""",
    py='''\
def gru(z, u, h, c, v):
    """r, u = sigmoid(a + b); n = tanh(a + r b); h = (1 - u) n + u h"""
    (ar, au, an), (br, bu, bn) = gates(z, 3), gates(u, 3)
    n = each(lambda ar, br, an, bn: tanh(an + sigmoid(ar + br) * bn), ar, br, an, add(bn, v["hidden_bias"]))
    return each(lambda au, bu, n, h: n + sigmoid(au + bu) * (h - n), au, bu, n, h), c''',
    html="""\
  // r, u = sigmoid(a + b); n = tanh(a + r b); h = (1 - u) n + u h
  "gru"(y, z, u, h, c, v) {
    const H = y.length;
    for (let k = 0; k < H; k++) {
      const reset = sigmoid(z[k] + u[k]), update = sigmoid(z[H + k] + u[H + k]);
      y[k] = (1 - update) * tanh(z[2 * H + k] + reset * (u[2 * H + k] + v.hidden_bias[k])) + update * h[k];
    }
  },
""",
    onnx=_gru,
    operator=OnnxOperator([1, 0, 2], lambda config: {"linear_before_reset": 1}),
    apart=True,
)


def _min_gru(graph: Graph, a: str, b: str, h: str, c: str, weights: Weights, config: Any) -> tuple[str, str]:
    """u = sigmoid(z); h = (1 - u) h + u n"""
    z, n = graph.split(a, 2, config.hidden_size)
    return graph.between(h, n, z), c


EXPORTED_CELLS["mingru"] = ExportedCell(
    c="""\
    /* u = sigmoid(z); h = (1 - u) h + u n */
    nblstm_sigmoid(z, NBLSTM_H);
    for (i = 0; i < NBLSTM_H; i++) y[i] = (1.0f - z[i]) * h[i] + z[i] * z[NBLSTM_H + i];""",
    py='''\
def mingru(z, u, h, c, v):
    """u = sigmoid(z); h = (1 - u) h + u n"""
    return each(lambda z, n, h: h + sigmoid(z) * (n - h), *gates(z, 2), h), c''',
    html="""\
  // u = sigmoid(z); h = (1 - u) h + u n
  "mingru"(y, z, u, h) {
    for (let k = 0; k < y.length; k++) y[k] = h[k] + sigmoid(z[k]) * (z[y.length + k] - h[k]);
  },
""",
    onnx=_min_gru,
)


def _rnn(graph: Graph, a: str, b: str, h: str, c: str, weights: Weights, config: Any) -> tuple[str, str]:
    """h = tanh(z), or max(0, z)"""
    return graph.node("Tanh" if config.nonlinearity == "tanh" else "Relu", graph.node("Add", a, b)), c


RNN_C = {  # nonlinearity -> statements
    "tanh": """\
    for (i = 0; i < NBLSTM_H; i++) y[i] = z[i];
    nblstm_tanh(y, NBLSTM_H);""",
    "relu": """\
    for (i = 0; i < NBLSTM_H; i++) y[i] = z[i] > 0.0f ? z[i] : 0.0f;""",
}
EXPORTED_CELLS["rnn"] = ExportedCell(
    c=lambda config: RNN_C[config.nonlinearity],
    py="""\
def rnn(z, u, h, c, v):
    return each(tanh if CONFIG["nonlinearity"] == "tanh" else relu, add(z, u)), c""",
    html="""\
  "tanh"(y, z, u) {
    for (let k = 0; k < y.length; k++) y[k] = tanh(z[k] + u[k]);
  },
  "relu"(y, z, u) {
    for (let k = 0; k < y.length; k++) y[k] = Math.max(0, z[k] + u[k]);
  },
""",
    onnx=_rnn,
    operator=OnnxOperator([0], lambda config: {"activations": [config.nonlinearity.capitalize()]}),
)


def _mogrified(graph: Graph, x: str, h: str, weights: Weights, config: Any) -> tuple[str, str]:
    """x = 2 sigmoid(Q h) x and h = 2 sigmoid(R x) h, in turn"""
    two = graph.constant(np.float32(2))
    gated = lambda gate, seen: graph.node("Mul", graph.node("Mul", two, graph.node("Sigmoid", gate)), seen)
    for k in range(1, config.mogrifier_rounds + 1):
        matrix = graph.constant(weights[f"weight_{'q' if k % 2 else 'r'}{k}"].T)
        if k % 2:
            x = gated(graph.node("MatMul", h, matrix), x)
        else:
            h = gated(graph.node("MatMul", x, matrix), h)
    return x, h


EXPORTED_CELLS["mogrifier-lstm"] = ExportedCell(onnx=_lstm, mix=_mogrified)
