"""The Python of `nblstm.exporting.py`: one file, in parts, whose constants stand behind its code."""

LANGUAGE_DOC = r'''"""@description@

Made by nblstm export, weights @weights@: @bytes@ bytes of them, in this file. It needs Python 3.8 and nothing else;
where NumPy is installed it is faster.

    python @file@ --prompt "@prompt@" -n 100

    from @module@ import Model
    print("".join(Model().generate("@prompt@", n=100, temperature=0.8, seed=1)))
"""
'''

NETWORK_CODE = r'''
import argparse
import array
import base64
import codecs
import math
import operator
import random
import re
import sys

try:
    import numpy as np
except ImportError:
    np = None


# ---------------------------------------------------------------- numbers: vectors are lists, or NumPy's arrays

tanh = math.tanh if np is None else np.tanh


class Columns:
    """A matrix as one long whole number for each column: all its rows, in units of each, side by side in 64 bits.

    A product is then a multiplication a column and a sum, and Python's long arithmetic does all rows at once.
    """

    def __init__(self, rows):
        bits = 35 - len(rows[0]).bit_length()  # of a weight; of an input 27, and their sum stays below 2 ** 62
        self.units = [max(map(abs, row)) / 2.0**bits or 1.0 for row in rows]
        self.signs = sum(1 << 64 * k + 63 for k in range(len(rows)))
        whole = ([int(w / unit) for w in row] for row, unit in zip(rows, self.units))
        self.columns = [self.joined(column) for column in zip(*whole)]

    def joined(self, numbers):
        """sum of numbers[k] * 2 ** (64 k), from their two's complements."""
        data = array.array("q", numbers).tobytes()
        return (int.from_bytes(data, sys.byteorder) ^ self.signs) - self.signs

    def __matmul__(self, x):
        unit = max(max(x), -min(x)) / 2.0**27 or 1.0
        total = sum(map(operator.mul, self.columns, [int(number / unit) for number in x]))
        data = ((total + self.signs) ^ self.signs).to_bytes(8 * len(self.units), sys.byteorder)
        return [number * unit * own for number, own in zip(array.array("q", data), self.units)]


def vector(numbers):
    """Numbers as a vector."""
    return [float(number) for number in numbers] if np is None else np.array(numbers, np.float32)


def each(formula, *vectors):
    """A formula of every place of some vectors."""
    return formula(*vectors) if np is not None else [formula(*numbers) for numbers in zip(*vectors)]


def add(x, y):
    return each(operator.add, x, y)


def joined(x, y):
    return x + y if np is None else np.concatenate([x, y])


def sigmoid(x):
    return 0.5 + 0.5 * tanh(0.5 * x)


def relu(x):
    return max(0.0, x) if np is None else np.maximum(x, 0)


def normalized(x, gain):
    """gain (x - mean) / deviation"""
    mean = sum(x) / len(x)
    scale = 1 / math.sqrt(sum((number - mean) ** 2 for number in x) / len(x) + 1e-5)
    return each(lambda x, gain: (x - mean) * scale * gain, x, gain)


def numbers(kind, text):
    """The numbers that base64 stands for, little-endian."""
    found = array.array(kind, base64.b64decode(text))
    if sys.byteorder == "big":
        found.byteswap()
    return found


def floats(bfloats):
    """The floats that bfloat16 numbers are: their upper halves."""
    return array.array("f", array.array("I", [number << 16 for number in bfloats]).tobytes())


def matrix(rows, columns, stride, text, scales):
    """The rows of a matrix; stride: columns of a stored row. See nblstm's export/plan.py for the kinds of weights."""
    if CONFIG["weights"] == "float32":
        flat = numbers("f", text)
    elif CONFIG["weights"] == "bfloat16":
        flat = floats(numbers("H", text))
    elif CONFIG["weights"] == "int8":
        flat = array.array("f", numbers("b", text))
        for row, scale in enumerate(numbers("f", scales)[:rows]):
            for k in range(row * stride, (row + 1) * stride):
                flat[k] *= scale
    else:
        flat, packed = array.array("f"), numbers("B", text)
        for group, scale in enumerate(floats(numbers("H", scales))):
            part = packed[16 * group : 16 * group + 16]
            flat.extend([((byte & 15) - 8) * scale for byte in part] + [((byte >> 4) - 8) * scale for byte in part])
    if np is not None:
        return np.frombuffer(flat, np.float32).reshape(-1, stride)[:rows, :columns].copy()
    return [flat[row * stride : row * stride + columns].tolist() for row in range(rows)]


# ---------------------------------------------------------------- cells: z = W x + b, u = U h; v: the cell's vectors


def lstm(z, u, h, c, v):
    """i, f, o = sigmoid, g = tanh; c = f c + i g; h = o tanh(c)"""
    i, f, g, o = gates(add(z, u), 4)
    peepholes = gates(v["peepholes"], 3) if "peepholes" in v else None
    if peepholes is not None:
        i, f = (add(gate, each(operator.mul, p, c)) for gate, p in zip((i, f), peepholes))
    c = each(lambda i, f, g, c: sigmoid(f) * c + sigmoid(i) * tanh(g), i, f, g, c)
    if peepholes is not None:
        o = add(o, each(operator.mul, peepholes[2], c))
    return each(lambda o, s: sigmoid(o) * tanh(s), o, squashed(c, v)), c


def update_lstm(z, u, h, c, v):
    """i, f, o, u = sigmoid, g = tanh; c = u (f c + i g) + (1 - u) c; h = o tanh(c)"""
    i, f, g, o, u = gates(add(z, u), 5)
    new = each(lambda i, f, g, c: sigmoid(f) * c + sigmoid(i) * tanh(g), i, f, g, c)
    c = each(lambda u, new, c: sigmoid(u) * new + (1 - sigmoid(u)) * c, u, new, c)
    return each(lambda o, s: sigmoid(o) * tanh(s), o, squashed(c, v)), c


def gru(z, u, h, c, v):
    """r, u = sigmoid(a + b); n = tanh(a + r b); h = (1 - u) n + u h"""
    (ar, au, an), (br, bu, bn) = gates(z, 3), gates(u, 3)
    n = each(lambda ar, br, an, bn: tanh(an + sigmoid(ar + br) * bn), ar, br, an, add(bn, v["hidden_bias"]))
    return each(lambda au, bu, n, h: n + sigmoid(au + bu) * (h - n), au, bu, n, h), c


def mingru(z, u, h, c, v):
    """u = sigmoid(z); h = (1 - u) h + u n"""
    return each(lambda z, n, h: h + sigmoid(z) * (n - h), *gates(z, 2), h), c


def rnn(z, u, h, c, v):
    return each(tanh if CONFIG["nonlinearity"] == "tanh" else relu, add(z, u)), c


def squashed(c, v):
    """What the tanh of an LSTM's output sees."""
    return add(normalized(c, v["gain_c"]), v["bias_c"]) if "gain_c" in v else c


def gates(z, count):
    size = len(z) // count
    return [z[k * size : (k + 1) * size] for k in range(count)]


CELLS = {"lstm": lstm, "update-lstm": update_lstm, "gru": gru, "mingru": mingru, "rnn": rnn}


class Network:
    """Layers, and what the first one reads of a token."""

    def __init__(self, config, matrices, vectors):
        rows = {name: matrix(*fields) for name, fields in matrices.items()}
        self.config, self.tokens, self.rows = config, rows.get("tokens", rows["head"]), config["table_rows"]
        self.matrices = {name: m if np is not None else Columns(m) for name, m in rows.items() if name != "tokens"}
        self.vectors = {name: vector(numbers("f", text)) for name, text in vectors.items()}
        self.cells = config["layers"] * config["directions"]
        self.of_cells = [
            {name[: -len(str(k))]: v for name, v in self.vectors.items() if re.fullmatch(r"\D+" + str(k), name)}
            for k in range(self.cells)
        ]

    def start(self):
        """The state before a text: (h, c) of every cell."""
        halves = (gates(self.vectors[name], self.cells) for name in ("h", "c"))
        return list(zip(*halves))

    def read(self, token):
        """What the first layer reads: a token's vector, or its pre-activations where a table holds these."""
        if not self.rows:
            return self.tokens[token]
        row = [number for row in self.tokens[token * self.rows : (token + 1) * self.rows] for number in row]
        return vector(row[: CELL_GATES[self.config["cell"]] * self.config["hidden"]])

    def step(self, cell, x, h, c):
        """(h, c) of a cell after its input x, which may be its pre-activations."""
        m, v, name = self.matrices, self.of_cells[cell], str(cell)
        z, u = x, None
        if "input" + name in m:
            z = m["input" + name] @ x
            z = add(normalized(z, v["gain_ih"]) if "gain_ih" in v else z, v["bias"])
        if "recurrent" + name in m:
            u = m["recurrent" + name] @ h
            u = normalized(u, v["gain_hh"]) if "gain_hh" in v else u
        y, c = CELLS[self.config["cell"]](z, u, h, c, v)
        return (m["projection" + name] @ y if "projection" + name in m else y), c

    def read_layers(self, rows):
        """The outputs of the last layer, of whole texts: what the first one reads of each token -> a row of each."""
        start, ways = self.start(), self.config["directions"]
        for layer in range(self.config["layers"]):
            outputs = []
            for cell in range(layer * ways, (layer + 1) * ways):
                step = -1 if cell % ways else 1  # the second direction reads from the end
                (h, c), said = start[cell], []
                for x in rows[::step]:
                    h, c = self.step(cell, x, h, c)
                    said.append(h)
                outputs = said if not outputs else [joined(h, back) for h, back in zip(outputs, said[::-1])]
            adds = self.config["residual"] and len(rows[0]) == len(outputs[0]) and not (self.rows and layer == 0)
            rows = [add(y, x) for y, x in zip(outputs, rows)] if adds else outputs
        return rows

    def last(self, rows):
        """What each direction has read a text to."""
        size = len(rows[0]) // self.config["directions"]
        return joined(rows[-1][:size], rows[0][size:])


CELL_GATES = {"lstm": 4, "update-lstm": 5, "gru": 3, "mingru": 2, "rnn": 1}
'''

ENCODE_CODE = r'''

IDS = {}  # token -> id, once a text is encoded


def encode(text):
    """The ids of a text's tokens; 0, <unk>, for those that are not known."""
    if CONFIG["newline"] == "lf":
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if CONFIG["level"] == "byte":
        return list(text.encode("utf-8", "surrogatepass"))
    if not IDS:
        IDS.update((token, id) for id, token in enumerate(TOKENS) if id != CONFIG["end"])
    pattern = {"char": r"(?s).", "default": r" ?\w+(?:['’]\w+)*| ?[^\w\s]|\s", "whitespace": r"\S+|\n"}
    found = re.findall(pattern["char" if CONFIG["level"] == "char" else CONFIG["tokenizer"]], text)
    return [IDS.get(token, 0) for token in found]
'''

LANGUAGE_CODE = r'''

# ---------------------------------------------------------------- drawing


class Random:
    """NumPy's default_rng(seed).random(): PCG64, seeded by SeedSequence."""

    def __init__(self, seed):
        words = [seed >> 32 * k & 0xFFFFFFFF for k in range(max(1, (seed.bit_length() + 31) // 32))]
        self.hash, low = 0x43B0D7E5, 0xFFFFFFFF
        pool = [self.hashed(word, 0x931E8875) for word in (words + [0] * 4)[:4]]

        def mix(place, word):
            mixed = (0xCA01F9DD * pool[place] - 0x4973F715 * self.hashed(word, 0x931E8875)) & low
            pool[place] = mixed ^ mixed >> 16

        for k in range(4):
            for j in range(4):
                if j != k:
                    mix(j, pool[k])
        for word in words[4:]:
            for j in range(4):
                mix(j, word)
        self.hash = 0x8B51F9DD
        made = [self.hashed(pool[k % 4], 0x58F38DED) for k in range(8)]
        start, step = ((made[k + 1] << 96) + (made[k] << 64) + (made[k + 3] << 32) + made[k + 2] for k in (0, 4))
        self.step, self.state = step << 1 | 1, 0
        self.advance()
        self.state += start
        self.advance()

    def hashed(self, word, multiplier):
        word ^= self.hash
        self.hash = self.hash * multiplier & 0xFFFFFFFF
        word = word * self.hash & 0xFFFFFFFF
        return word ^ word >> 16

    def advance(self):
        self.state = (self.state * 0x2360ED051FC65DA44385DF649FCCF645 + self.step) & (1 << 128) - 1

    def random(self):
        self.advance()
        mixed, turn = (self.state >> 64 ^ self.state) & (1 << 64) - 1, self.state >> 122
        return (((mixed >> turn | mixed << 64 - turn) & (1 << 64) - 1) >> 11) * 2.0**-53


def draw(logits, temperature, top_k, top_p, source):
    """The next token: temperature 0 takes the most likely; equals stay or go together."""
    logits = [-math.inf if id == CONFIG["banned"] else float(z) for id, z in enumerate(logits)]
    most = max(logits)
    if temperature == 0:
        return logits.index(most)
    weights = [math.exp(max((z - most) / temperature, -745)) for z in logits]
    if CONFIG["banned"] is not None:
        weights[CONFIG["banned"]] = 0.0
    if 0 < top_k < len(weights):
        least = sorted(weights, reverse=True)[top_k - 1]
        weights = [w if w >= least else 0.0 for w in weights]
    if top_p < 1:
        goal, total = top_p * sum(weights), 0.0
        for least in sorted(weights, reverse=True):
            total += least
            if total >= goal:
                break
        weights = [w if w >= least else 0.0 for w in weights]
    goal, total = source.random() * sum(weights), 0.0
    for id, weight in enumerate(weights):
        total += weight
        if total > goal:
            return id
    return logits.index(most)


# ---------------------------------------------------------------- the model


class Model(Network):
    """The language model of this file."""

    def __init__(self):
        super().__init__(CONFIG, MATRICES, VECTORS)

    def encode(self, text):
        """The ids of a text's tokens."""
        return encode(text)

    def feed(self, state, token):
        """Read a token: (the logits of the next one, the state behind it)."""
        x, after = self.read(token), []
        for cell, (h, c) in enumerate(state):
            h, c = self.step(cell, x, h, c)
            after.append((h, c))
            adds = CONFIG["residual"] and len(x) == len(h) and not (self.rows and cell == 0)
            x = add(h, x) if adds else h
        if CONFIG["head"] == "cell":
            x = joined(x, c)
        return add(self.matrices["head"] @ x, self.vectors["head_bias"]), after

    def generate(self, prompt="", n=200, temperature=1.0, top_k=0, top_p=1.0, seed=None):
        """The text that follows the prompt, in pieces as it is made."""
        source = Random(random.getrandbits(64) if seed is None else seed)
        ids, state, text = self.encode(prompt), self.start(), Text()
        for id in ids:
            text.feed(id)
        if not ids or CONFIG["end"] is not None:
            ids = [CONFIG["start"], *ids]
        for id in ids:
            logits, state = self.feed(state, id)
        for _ in range(n):
            id = draw(logits, temperature, top_k, top_p, source)
            if id == CONFIG["end"]:
                break
            yield text.feed(id)
            logits, state = self.feed(state, id)
        yield text.flush()


class Text:
    """Ids in, text out: bytes are held back until they are a character, words get the blank between them."""

    def __init__(self):
        self.utf8, self.before = codecs.getincrementaldecoder("utf-8")("replace"), "\n"

    def feed(self, id):
        if CONFIG["level"] == "byte":
            return self.utf8.decode(bytes([id]))
        token, before = TOKENS[id], self.before
        self.before = token
        spaced = CONFIG["level"] == "word" and CONFIG["tokenizer"] == "whitespace" and "\n" not in (before, token)
        return " " + token if spaced else token

    def flush(self):
        return self.utf8.decode(b"", True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-n", type=int, default=200, help="tokens to write")
    parser.add_argument("--prompt", default="", help="text to go on from")
    parser.add_argument("--temperature", type=float, default=1.0, help="0 takes the most likely token")
    parser.add_argument("--top-k", type=int, default=0, help="draw from the k most likely; 0 draws from all")
    parser.add_argument("--top-p", type=float, default=1.0, help="draw from the most likely that together have this")
    parser.add_argument("--seed", type=int, help="the same seed writes the same text")
    asked = vars(parser.parse_args())
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8")
    sys.stdout.write(asked["prompt"])
    for piece in Model().generate(**asked):
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")
'''

CONSTANTS_CODE = r"""

# ---------------------------------------------------------------- what it knows

@constants@

if __name__ == "__main__":
    main()
"""
