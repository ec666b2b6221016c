"""The Python of `nblstm.exporting.py` for a classifier."""

CLASSIFIER_DOC = r'''"""@description@

Made by nblstm export, weights @weights@: @bytes@ bytes of them, in this file. It needs Python 3.8 and nothing else;
where NumPy is installed it is faster.

    python @file@ "a text" "another text"

    from @module@ import Model
    label, probability = Model().classify("a text")
"""
'''

CLASSIFIER_CODE = r'''

# ---------------------------------------------------------------- the model


class Model(Network):
    """The text classifier of this file."""

    def __init__(self):
        super().__init__(CONFIG, MATRICES, VECTORS)

    def classify(self, text):
        """(the most probable label, its probability)"""
        found = self.probabilities(text)
        label = max(found, key=found.get)
        return label, found[label]

    def probabilities(self, text):
        """Label -> probability."""
        ids = encode(" " + text.strip() if CONFIG["level"] == "word" else text)[: CONFIG["max_length"]]
        logits = [float(number) for number in self.logits(ids or [CONFIG["end"]])]
        weights = [math.exp(number - max(logits)) for number in logits]
        return {label: weight / sum(weights) for label, weight in zip(CONFIG["labels"], weights)}

    def logits(self, ids):
        """The logits of the labels of a text, at least one token."""
        rows = self.read_layers([self.read(id) for id in ids])
        return add(self.matrices["head"] @ POOLINGS[CONFIG["pooling"]](self, rows), self.vectors["head_bias"])

    def mean(self, rows):
        return each(lambda *numbers: sum(numbers) / len(rows), *rows)

    def max(self, rows):
        return [max(numbers) for numbers in zip(*rows)] if np is None else np.max(rows, axis=0)

    def attention(self, rows):
        """sum of a x, a = softmax of query . tanh(W x + b)"""
        hidden = (add(self.matrices["attention"] @ x, self.vectors["attention_bias"]) for x in rows)
        scores = [float(sum(each(lambda q, u: q * tanh(u), self.vectors["query"], u))) for u in hidden]
        weights = [math.exp(score - max(scores)) for score in scores]
        total = sum(weights)
        return each(lambda *numbers: sum(w * x for w, x in zip(weights, numbers)) / total, *rows)


POOLINGS = {"last": Model.last, "mean": Model.mean, "max": Model.max, "attention": Model.attention}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", nargs="*", help="what to classify; without one, every line of standard input")
    parser.add_argument("--all", action="store_true", help="print every label, the most probable first")
    asked = parser.parse_args()
    for stream in (sys.stdin, sys.stdout):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8")
    model = Model()
    for text in asked.text or (line.rstrip("\n") for line in sys.stdin):
        found = sorted(model.probabilities(text).items(), key=lambda pair: -pair[1])
        shown = found if asked.all else found[:1]
        print("\t".join("{}\t{:.4f}".format(label, probability) for label, probability in shown))
'''
