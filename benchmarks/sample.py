"""Time per token of sampling (embed, network, softmax, draw), one text and 64 at once, beside every way to do it.

    python benchmarks/sample.py [--threads 2] [--only 2x256 2x650] [--batches 1 64] [--repeat 5] [--json]

All get the same weights and must give the same logits; all draw from the same distribution. The peers draw with
NumPy's cumulative sum on their own memory, which is cheaper than torch.multinomial. PyTorch and ONNX Runtime run on
one thread or on all, whichever a short trial finds faster, so the peers are at their best. "nblstm int8" has the
weights rounded as `nblstm quantize` rounds them, and gives the logits of those; "ONNX int8" is what
onnxruntime.quantization makes of the graph, whose logits are not looked at.

The bandwidth share compares our time with the time it takes just to read the weights that a token needs, from an
array of that size and on the same threads. Word models draw from a Zipf distribution, as text does.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable
from functools import cached_property
from typing import Any

import common  # first: it sets the environment that the others read  # isort: skip

import limits
import numpy as np

from nblstm.config import SampleConfig
from nblstm.generation.sampler import generate
from nblstm.kernels import Filters
from nblstm.kernels.reference.drawing import draw as specified_draw
from nblstm.nn.int8 import round_parameters
from nblstm.nn.network import Network
from nblstm.nn.parameters import initial, views
from nblstm.nn.state import State
from nblstm.tasks.language.config import LanguageConfig

MODELS = {
    "2x128": LanguageConfig(65, hidden_size=128),
    "2x256": LanguageConfig(65, hidden_size=256),
    "2x512": LanguageConfig(65, hidden_size=512),
    "2x650": LanguageConfig(10_000, hidden_size=650),
}
TOLERANCE = 1e-4
INT8, INT8_TOLERANCE = "nblstm int8", 1e-3  # activations are rounded, too
CHECKED_TOKENS = 20
ENDLESS = 10**9
TRIAL_TOKENS = 20


def weights_like_text(shape: LanguageConfig) -> np.ndarray:
    """Fresh weights; a word model's head prefers words as Zipf's law does, so that words come again."""
    parameters = initial(shape, 0)
    if shape.vocab_size > 1000:
        views(parameters, shape)["head.bias"][...] = -np.log(np.arange(shape.vocab_size) + 2.7)
    return parameters


def draw(logits: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """One token of each row of logits (N, V): the cheapest way NumPy has. uniform (N,)."""
    if len(logits) == 1:
        cumulative = np.exp(logits[0] - logits[0].max()).cumsum()
        return cumulative.searchsorted(uniform * cumulative[-1], side="right")
    cumulative = np.exp(logits - logits.max(axis=1, keepdims=True)).cumsum(axis=1)
    return (cumulative <= uniform[:, None] * cumulative[:, -1:]).sum(axis=1)


# ---------------------------------------------------------------- the contestants
#
# A contestant has `read(tokens (N,) int64) -> logits (N, V)`, which carries its state, and `call()`, which is
# `turns` turns of the whole loop.


class Loop:
    """The sampling loop around a `read`."""

    turns = 1

    def __init__(self, read: Callable[[np.ndarray], np.ndarray], N: int) -> None:
        self.read, self.random = read, np.random.default_rng(0)
        self.tokens, self.N = np.zeros(N, np.int64), N

    def call(self) -> None:
        self.tokens = draw(self.read(self.tokens), self.random.random(self.N))


class Ours:
    """The package's own generator, which makes the first token here and then more and more in a call."""

    def __init__(
        self, shape: LanguageConfig, parameters: np.ndarray, N: int, backend: str, threads: int, int8: bool = False
    ) -> None:
        self.network = Network(shape, parameters, backend, threads, constant=True, int8=int8)
        decode, state = self.network.decoder(N), State.zeros(shape, N)
        self.read = lambda tokens: decode(tokens, state)
        config = SampleConfig(n=ENDLESS, num_samples=N)
        self.pieces = generate(self.network, State.zeros(shape), config, np.random.default_rng(0))
        next(self.pieces)

    @cached_property
    def turns(self) -> int:
        """Tokens of a text in each call from now on: pieces have stopped growing."""
        sizes = itertools.pairwise(next(self.pieces).shape[1] for _ in itertools.count())
        return next(size for size, following in sizes if size == following)

    def call(self) -> None:
        next(self.pieces)


def numpy_reader(shape: LanguageConfig, parameters: np.ndarray, N: int) -> Callable[[np.ndarray], np.ndarray]:
    """The loop anyone would write in NumPy, with the obvious savings: one product a layer, biases added up before."""
    w, H, L = views(parameters, shape), shape.hidden_size, shape.num_layers
    layers = []
    for k in range(L):
        joined = np.concatenate([w[f"rnn.weight_ih_l{k}"], w[f"rnn.weight_hh_l{k}"]], axis=1)
        layers.append((np.ascontiguousarray(joined.T), w[f"rnn.bias_ih_l{k}"] + w[f"rnn.bias_hh_l{k}"]))
    head, bias, embedding = np.ascontiguousarray(w["head.weight"].T), w["head.bias"], w["embedding.weight"]
    h, c = np.zeros((L, N, H), np.float32), np.zeros((L, N, H), np.float32)

    def read(tokens: np.ndarray) -> np.ndarray:
        x = embedding[tokens]
        for k, (weight, b) in enumerate(layers):
            z = np.concatenate([x, h[k]], axis=1) @ weight
            z += b
            i, f, o = (1 / (1 + np.exp(-z[:, g * H : (g + 1) * H])) for g in (0, 1, 3))
            c[k] = f * c[k] + i * np.tanh(z[:, 2 * H : 3 * H])
            x = h[k] = o * np.tanh(c[k])
        return x @ head + bias

    return read


def torch_reader(shape: LanguageConfig, parameters: np.ndarray, N: int, cells: bool, threads: int):
    """nn.LSTM on one time step, or a loop over nn.LSTMCell."""
    import torch
    from torch_peer import TorchModel

    model = TorchModel(shape, parameters).eval()
    layers = [
        torch.nn.LSTMCell(shape.embedding_size if k == 0 else shape.hidden_size, shape.hidden_size)
        for k in range(shape.num_layers)
    ]
    for k, cell in enumerate(layers):
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        cell.load_state_dict({name: getattr(model.rnn, f"{name}_l{k}").detach() for name in names})
    state = None
    states: list[Any] = [None] * shape.num_layers

    @torch.inference_mode()
    def read_with_lstm(tokens: np.ndarray) -> np.ndarray:
        nonlocal state
        torch.set_num_threads(threads)
        y, state = model.rnn(model.embedding(torch.from_numpy(tokens)[None]), state)
        return model.head(y[0]).numpy()

    @torch.inference_mode()
    def read_with_cells(tokens: np.ndarray) -> np.ndarray:
        torch.set_num_threads(threads)
        x = model.embedding(torch.from_numpy(tokens))
        for k, cell in enumerate(layers):
            states[k] = cell(x, states[k])
            x = states[k][0]
        return model.head(x).numpy()

    return read_with_cells if cells else read_with_lstm


def onnx_reader(shape: LanguageConfig, parameters: np.ndarray, N: int, threads: int, int8: bool = False):
    """ONNX Runtime on Gather, one LSTM node a layer, MatMul; inputs and outputs are bound once, states in turns."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    model = onnx_model(shape, parameters, N)
    if int8:
        model = onnx_int8(model)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    value = onnxruntime.OrtValue.ortvalue_from_numpy
    size = (1, N, shape.hidden_size)
    names = [f"{part}{k}" for k in range(shape.num_layers) for part in "hc"]
    tokens, logits = np.zeros((1, N), np.int64), np.zeros((N, shape.vocab_size), np.float32)
    token_value, logits_value = value(tokens), value(logits)
    states = [{name: value(np.zeros(size, np.float32)) for name in names} for _ in range(2)]
    turns = []
    for before, after in (states, states[::-1]):
        binding = session.io_binding()
        binding.bind_ortvalue_input("tokens", token_value)
        binding.bind_ortvalue_output("logits", logits_value)
        for name in names:
            binding.bind_ortvalue_input(name, before[name])
            binding.bind_ortvalue_output(f"{name}_next", after[name])
        turns.append(binding)

    def read(ids: np.ndarray) -> np.ndarray:
        tokens[0] = ids
        token_value.update_inplace(tokens)
        session.run_with_iobinding(turns[0])
        turns.reverse()
        return logits_value.numpy()

    return read


def onnx_int8(model: bytes) -> bytes:
    """The graph with its weights as int8, a scale for each column, and activations that are rounded as they come."""
    import logging

    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.disable(logging.WARNING)  # it asks for a step before, which such a graph does not need
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/int8.onnx"
        quantize_dynamic(onnx.load_from_string(model), path, per_channel=True, weight_type=QuantType.QInt8)
        with open(path, "rb") as file:
            return file.read()


def onnx_model(shape: LanguageConfig, parameters: np.ndarray, N: int) -> bytes:
    """The network's single step as an ONNX model: tokens (1, N), h and c (1, N, H) of each layer -> logits (N, V)."""
    from onnx import TensorProto, checker, helper, numpy_helper

    w, H, V, state = views(parameters, shape), shape.hidden_size, shape.vocab_size, (1, N, shape.hidden_size)
    constants = {"embedding": w["embedding.weight"], "head": w["head.weight"], "bias": w["head.bias"],
                 "flat": np.array([N, H])}  # fmt: skip
    nodes = [helper.make_node("Gather", ["embedding", "tokens"], ["x0"])]
    inputs = [helper.make_tensor_value_info("tokens", TensorProto.INT64, (1, N))]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, (N, V))]
    in_onnx_order = lambda a: np.concatenate([a.reshape(4, H, -1)[g] for g in (0, 3, 1, 2)])
    for k in range(shape.num_layers):
        biases = [in_onnx_order(w[f"rnn.{part}_l{k}"]).reshape(1, -1) for part in ("bias_ih", "bias_hh")]
        constants[f"w{k}"], constants[f"r{k}"] = (
            in_onnx_order(w[f"rnn.{part}_l{k}"])[None] for part in ("weight_ih", "weight_hh")
        )
        constants[f"b{k}"] = np.concatenate(biases, axis=1)
        out = [f"y{k}", f"h{k}_next", f"c{k}_next"]
        nodes.append(
            helper.make_node("LSTM", [f"x{k}", f"w{k}", f"r{k}", f"b{k}", "", f"h{k}", f"c{k}"], out, hidden_size=H)
        )
        nodes.append(helper.make_node("Squeeze", [f"y{k}", "direction"], [f"x{k + 1}"]))
        inputs += [helper.make_tensor_value_info(f"{part}{k}", TensorProto.FLOAT, state) for part in "hc"]
        outputs += [helper.make_tensor_value_info(f"{part}{k}_next", TensorProto.FLOAT, state) for part in "hc"]
    constants["direction"] = np.array([1])
    nodes.append(helper.make_node("Reshape", [f"x{shape.num_layers}", "flat"], ["top"]))
    nodes.append(helper.make_node("Gemm", ["top", "head", "bias"], ["logits"], transB=1))
    tensors = [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "lstm", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    return model.SerializeToString()


# ---------------------------------------------------------------- checking


def check(
    name: str, fields: dict[str, list], reference: Callable, shape: LanguageConfig, N: int, tolerance: float = TOLERANCE
) -> float:
    """All, still at the zero state, give the logits of the reference along the same tokens, or the program ends."""
    tokens = np.random.default_rng(2).integers(0, shape.vocab_size, (CHECKED_TOKENS, N))
    expected = np.stack([reference(row).copy() for row in tokens])
    return max(
        common.require_close(
            f"{name}: logits of {who}", np.stack([c.read(row).copy() for row in tokens]), expected, tolerance
        )
        for who, contestants in fields.items()
        for c in contestants
    )


def check_draw(V: int) -> None:
    """The peers' draw picks the specification's tokens (but for float32's last bits), one row or many."""
    random = np.random.default_rng(3)
    logits, uniform = random.normal(0, 2, (500, V)).astype(np.float32), random.random(500)
    expected = np.empty(500, np.int64)
    nothing = np.empty((500, 0), np.int64)
    specified_draw(expected, logits, uniform, nothing, nothing[0], Filters(), 1)
    single = np.concatenate([draw(logits[n : n + 1], uniform[n : n + 1]) for n in range(500)])
    for drawn in (draw(logits, uniform), single):
        if np.mean(drawn != expected) > 0.01:
            raise SystemExit(f"the peers' draw differs from ours in {np.mean(drawn != expected):.1%} of 500 draws")


# ---------------------------------------------------------------- measuring


Makers = dict[str, list[Callable[[], Any]]]  # by name: what makes a contestant, one for each number of threads to try


def field(shape: LanguageConfig, parameters: np.ndarray, N: int, threads: int, peers: list[str]) -> Makers:
    """Everyone who takes part."""
    makers: Makers = {
        f"nblstm {backend}": [lambda backend=backend: Ours(shape, parameters, N, backend, threads)]
        for backend in ("cpu", "numpy")
    }
    makers[INT8] = [lambda: Ours(shape, round_parameters(shape, parameters), N, "cpu", threads, int8=True)]
    numbers = sorted({1, threads})

    def loops(read: Callable[[int], Callable]) -> list[Callable[[], Any]]:
        return [lambda t=t: Loop(read(t), N) for t in numbers]

    if "torch" in peers:
        makers["LSTMCell"] = loops(lambda t: torch_reader(shape, parameters, N, True, t))
        makers["torch LSTM"] = loops(lambda t: torch_reader(shape, parameters, N, False, t))
    if "onnx" in peers:
        makers["ONNX"] = loops(lambda t: onnx_reader(shape, parameters, N, t))
        makers["ONNX int8"] = loops(lambda t: onnx_reader(shape, parameters, N, t, int8=True))
    if "numpy" in peers:
        makers["plain numpy"] = [lambda: Loop(numpy_reader(shape, parameters, N), N)]
    return makers


def quickest(loops: list) -> Any:
    """The contestant that wins a short trial."""
    if len(loops) == 1:
        return loops[0]
    trials = {str(k): lambda loop=loop: [loop.call() for _ in range(TRIAL_TOKENS)] for k, loop in enumerate(loops)}
    times = common.interleaved(trials, 3)
    return loops[min(range(len(loops)), key=lambda k: common.median(times[str(k)]))]


def serve(name: str, N: int, who: str, threads: int) -> None:
    """Be the process of a contestant, or of what reads as much memory as a token needs."""
    shape = MODELS[name]
    if who == "read":
        return common.serve(limits.read_contestant(limits.decoding_bytes(shape), threads)[0])
    makers = field(shape, weights_like_text(shape), N, threads, ["torch", "onnx", "numpy"])[who]
    contestant = quickest([make() for make in makers])
    return common.serve(contestant.call, contestant.turns)


def measure(name: str, shape: LanguageConfig, N: int, args, peers: list[str]) -> dict[str, Any]:
    """Check a model, then time it: seconds per turn of the loop (N tokens), a number a round."""
    parameters = weights_like_text(shape)
    started = common.timed(lambda: Ours(shape, parameters, N, "cpu", args.threads))
    setup = common.timed(lambda: Ours(shape, parameters, N, "cpu", args.threads))
    makers = field(shape, parameters, N, args.threads, peers)
    fields = {who: [make() for make in each] for who, each in makers.items()}
    exact = {who: each for who, each in fields.items() if "int8" not in who}
    error = check(name, exact, numpy_reader(shape, parameters, N), shape, N)
    rounded = numpy_reader(shape, round_parameters(shape, parameters), N)
    check(name, {INT8: fields[INT8]}, rounded, shape, N, INT8_TOLERANCE)
    size = limits.decoding_bytes(shape)
    read, read_bytes = limits.read_contestant(size, args.threads)
    if args.together:
        contestants = {who: quickest(candidates) for who, candidates in fields.items()}
        turns = {who: contestant.turns for who, contestant in contestants.items()}
        calls = {who: contestant.call for who, contestant in contestants.items()}
        times = common.interleaved({**calls, "read": read}, args.repeat)
        times |= {who: [seconds / number for seconds in times[who]] for who, number in turns.items()}
    else:
        del fields, exact
        times = common.in_processes({who: [name, str(N), who] for who in (*makers, "read")}, args.repeat)
    reading = [seconds * size / read_bytes for seconds in times.pop("read")]
    return {
        "model": name, "texts": N, "seconds": times, "error": error, "compile_seconds": max(0.0, started - setup),
        "setup_seconds": setup, "weight_bytes": size, "read_gigabytes_per_second": size / common.median(reading) / 1e9,
        "ratios": {who: common.ratios(seconds, times["nblstm cpu"]) for who, seconds in times.items()
                   if not who.startswith("nblstm")},
        "int8_ratios": {who: common.ratios(seconds, times[INT8]) for who, seconds in times.items() if who != INT8},
        "share_of_bandwidth": common.median(common.ratios(reading, times["nblstm cpu"])),
    }  # fmt: skip


FRAMEWORKS = ("LSTMCell", "torch LSTM", "ONNX")


def fastest(row: dict[str, Any]) -> str | None:
    """The framework to beat."""
    present = [who for who in FRAMEWORKS if who in row["ratios"]]
    return min(present, key=lambda who: common.median(row["seconds"][who]), default=None)


def times_of(row: dict[str, Any]) -> dict[str, str]:
    """A row of the table of times."""
    cells = {"model": row["model"], "texts": str(row["texts"])}
    return cells | {who: common.spread(seconds, 1e6, 0) for who, seconds in row["seconds"].items()}


def ratios_of(row: dict[str, Any]) -> dict[str, str]:
    """A row of the table of ratios."""
    cells = {"model": row["model"], "texts": str(row["texts"])}
    peer = fastest(row)
    if peer:
        cells |= {"fastest framework": peer, "it / nblstm": common.spread(row["ratios"][peer], digits=2)}
    if "plain numpy" in row["ratios"]:
        cells["plain numpy / nblstm"] = common.spread(row["ratios"]["plain numpy"], digits=2)
    gains = {who: gain for who, gain in row["int8_ratios"].items() if who != "nblstm numpy"}
    cells["nblstm / its int8"] = common.spread(gains.pop("nblstm cpu"), digits=2)
    if gains:
        best = min(gains, key=lambda who: common.median(gains[who]))
        cells["fastest peer / int8"] = f"{best} {common.spread(gains[best], digits=2)}"
    return cells | {
        "weights MB": f"{row['weight_bytes'] / 1e6:.2f}",
        "read GB/s": f"{row['read_gigabytes_per_second']:.0f}",
        "share": f"{row['share_of_bandwidth']:.0%}" if row["texts"] == 1 else "-",
        "setup ms": f"{row['setup_seconds'] * 1e3:.0f}",
        "compile s": f"{row['compile_seconds']:.1f}",
        "error": f"{row['error']:.0e}",
    }


def main() -> None:
    parser = common.parser(__doc__, repeat=5, peers=["torch", "onnx", "numpy"])
    parser.add_argument("--only", nargs="+", metavar="MODEL", help=f"of: {', '.join(MODELS)}")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 64], metavar="N", help="texts at once (1 64)")
    args = parser.parse_args()
    if args.serve:
        name, N, who = args.serve
        return serve(name, int(N), who, args.threads)
    peers = common.installed(args.peers)
    if "onnx" in peers and not common.importlib.util.find_spec("onnx"):
        print("onnx, which builds the model for onnxruntime, is not installed: left out", file=common.sys.stderr)
        peers.remove("onnx")
    models = common.chosen(MODELS, args.only)
    for V in {shape.vocab_size for shape in models.values()}:
        check_draw(V)
    rows = [measure(name, shape, N, args, peers) for N in args.batches for name, shape in models.items()]
    title = "sampling: microseconds per turn of the loop, one token of each text (median, smallest-largest)"
    if args.json:
        return common.report(title, args, rows)
    common.report(title, args, [times_of(row) for row in rows])
    print()
    common.table([ratios_of(row) for row in rows])
    print("\nshare: time to read the weights / our time a token. setup: packing the weights and the first token.")
    print("compile: what the first setup in this process took longer, with an empty kernel cache.")


if __name__ == "__main__":
    main()
