"""The Python of `nblstm.exporting.py` for a language model."""

import inspect

from nblstm.generation.uniform import Random

LANGUAGE_DOC = r'''"""@description@

Made by nblstm export, weights @weights@: @bytes@ bytes of them, in this file. It needs Python 3.8 and nothing else;
where NumPy is installed it is faster.

    python @file@ --prompt "@prompt@" -n 100

    from @module@ import Model
    print("".join(Model().generate("@prompt@", n=100, temperature=0.8, seed=1)))
"""
'''

LANGUAGE_CODE = f"""

# ---------------------------------------------------------------- drawing


{inspect.getsource(Random)}"""

LANGUAGE_CODE += r'''

def draw(logits, temperature, top_k, top_p, source):
    """The next token: temperature 0 takes the most likely; equals stay or go together."""
    logits = list(logits) if np is None else logits.tolist()
    if CONFIG["banned"] is not None:
        logits[CONFIG["banned"]] = -math.inf
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
