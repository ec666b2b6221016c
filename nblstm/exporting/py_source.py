"""The Python of `nblstm.exporting.py`: one file, in parts, whose constants stand behind its code."""

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


@cells@


def squashed(c, v):
    """What the tanh of an LSTM's output sees."""
    return add(normalized(c, v["gain_c"]), v["bias_c"]) if "gain_c" in v else c


def gates(z, count):
    size = len(z) // count
    return [z[k * size : (k + 1) * size] for k in range(count)]


CELLS = {@cell_names@}


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
        rows = self.tokens[token * self.rows : (token + 1) * self.rows]
        row = [number for row in rows for number in row] if np is None else rows.reshape(-1)
        return row[: CELL_GATES[self.config["cell"]] * self.config["hidden"]]

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


CELL_GATES = {@cell_gates@}
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

CONSTANTS_CODE = r"""

# ---------------------------------------------------------------- what it knows

@constants@

if __name__ == "__main__":
    main()
"""
