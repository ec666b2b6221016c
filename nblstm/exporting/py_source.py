"""The Python of `nblstm.exporting.py`: one file, whose constants stand behind its code."""

SOURCE = r'''"""@description@

Made by nblstm export, weights @weights@: @bytes@ bytes of them, in this file. It needs Python 3.8 and nothing else;
where NumPy is installed it is faster.

    python @file@ --prompt "@prompt@" -n 100

    from @module@ import Model
    print("".join(Model().generate("@prompt@", n=100, temperature=0.8, seed=1)))
"""

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
if np is not None:
    dot = operator.matmul
elif hasattr(math, "sumprod"):
    def dot(rows, x):
        return [math.sumprod(row, x) for row in rows]
else:
    def dot(rows, x):
        return [sum(map(operator.mul, row, x)) for row in rows]


def vector(numbers):
    """Numbers as a vector."""
    return [float(number) for number in numbers] if np is None else np.array(numbers, np.float32)


def each(formula, *vectors):
    """A formula of every place of some vectors."""
    return formula(*vectors) if np is not None else [formula(*numbers) for numbers in zip(*vectors)]


def add(x, y):
    return each(operator.add, x, y)


def sigmoid(x):
    return 0.5 + 0.5 * tanh(0.5 * x)


def relu(x):
    return max(0.0, x) if np is None else np.maximum(x, 0)


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
    """A matrix as it is multiplied with; stride: columns of a stored row. See nblstm's export/plan.py for the kinds."""
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


# ---------------------------------------------------------------- cells: z = W x + b (a GRU: a), u = U h (+ b_n)


def lstm(z, u, h, c, peepholes):
    """i, f, o = sigmoid, g = tanh; c = f c + i g; h = o tanh(c)"""
    i, f, g, o = gates(add(z, u), 4)
    if peepholes is not None:
        i, f = (add(gate, each(operator.mul, p, c)) for gate, p in zip((i, f), peepholes))
    c = each(lambda i, f, g, c: sigmoid(f) * c + sigmoid(i) * tanh(g), i, f, g, c)
    if peepholes is not None:
        o = add(o, each(operator.mul, peepholes[2], c))
    return each(lambda o, c: sigmoid(o) * tanh(c), o, c), c


def update_lstm(z, u, h, c, peepholes):
    """i, f, o, u = sigmoid, g = tanh; c = u (f c + i g) + (1 - u) c; h = o tanh(c)"""
    i, f, g, o, u = gates(add(z, u), 5)
    new = each(lambda i, f, g, c: sigmoid(f) * c + sigmoid(i) * tanh(g), i, f, g, c)
    c = each(lambda u, new, c: sigmoid(u) * new + (1 - sigmoid(u)) * c, u, new, c)
    return each(lambda o, c: sigmoid(o) * tanh(c), o, c), c


def gru(z, u, h, c, peepholes):
    """r, u = sigmoid(a + b); n = tanh(a + r b); h = (1 - u) n + u h"""
    (ar, au, an), (br, bu, bn) = gates(z, 3), gates(u, 3)
    n = each(lambda ar, br, an, bn: tanh(an + sigmoid(ar + br) * bn), ar, br, an, bn)
    return each(lambda au, bu, n, h: n + sigmoid(au + bu) * (h - n), au, bu, n, h), c


def rnn(z, u, h, c, peepholes):
    return each(tanh if CONFIG["nonlinearity"] == "tanh" else relu, add(z, u)), c


def gates(z, count):
    size = len(z) // count
    return [z[k * size : (k + 1) * size] for k in range(count)]


CELLS = {"lstm": lstm, "update-lstm": update_lstm, "gru": gru, "rnn": rnn}


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


class Model:
    """The language model of this file."""

    def __init__(self):
        self.matrices = {name: matrix(*fields) for name, fields in MATRICES.items()}
        self.vectors = {name: vector(numbers("f", text)) for name, text in VECTORS.items()}
        self.ids = {token: id for id, token in enumerate(TOKENS) if id != CONFIG["end"]}

    def start(self):
        """The state before a text: (h, c) of every layer."""
        halves = (gates(self.vectors[name], CONFIG["layers"]) for name in ("h", "c"))
        return list(zip(*halves))

    def feed(self, state, token):
        """Read a token: (the logits of the next one, the state behind it)."""
        m, v, after = self.matrices, self.vectors, []
        tokens, rows = m.get("tokens", m["head"]), CONFIG["table_rows"]
        x = tokens[token]
        if rows:
            x = [number for row in tokens[token * rows : (token + 1) * rows] for number in row]
            x = vector(x[: len(v["bias0"])])
        for layer, (h, c) in enumerate(state):
            name, below = str(layer), x
            z = x if rows and layer == 0 else add(dot(m["input" + name], x), v["bias" + name])
            u = dot(m["recurrent" + name], h)
            if CONFIG["cell"] == "gru":
                place = 2 * CONFIG["hidden"]
                behind = add(u[place:], v["hidden_bias" + name])
                u = u[:place] + behind if np is None else np.concatenate([u[:place], behind])
            peepholes = gates(v["peepholes" + name], 3) if "peepholes" + name in v else None
            y, c = CELLS[CONFIG["cell"]](z, u, h, c, peepholes)
            h = dot(m["projection" + name], y) if "projection" + name in m else y
            after.append((h, c))
            x = add(h, below) if CONFIG["residual"] and len(below) == len(h) and not (rows and layer == 0) else h
        if CONFIG["head"] == "cell":
            x = list(x) + list(c) if np is None else np.concatenate([x, c])
        return add(dot(m["head"], x), v["head_bias"]), after

    def encode(self, text):
        """The ids of a text's tokens; 0, <unk>, for those that are not known."""
        if CONFIG["level"] == "byte":
            return list(text.encode("utf-8", "surrogatepass"))
        pattern = {"char": r"(?s).", "default": r" ?\w+(?:['’]\w+)*| ?[^\w\s]|\s", "whitespace": r"\S+|\n"}
        found = re.findall(pattern["char" if CONFIG["level"] == "char" else CONFIG["tokenizer"]], text)
        return [self.ids.get(token, 0) for token in found]

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


# ---------------------------------------------------------------- what it knows

@constants@

if __name__ == "__main__":
    main()
'''
