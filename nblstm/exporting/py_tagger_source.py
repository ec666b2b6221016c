"""The Python of `nblstm.exporting.py` for a tagger."""

TAGGER_DOC = r'''"""@description@

Made by nblstm export, weights @weights@: @bytes@ bytes of them, in this file. It needs Python 3.8 and nothing else;
where NumPy is installed it is faster.

    python @file@ "Ada lives in Bonn"
    python @file@ < words.txt                 (a word a line, an empty line behind a sentence)

    from @module@ import Model
    print(Model().tag(["Ada", "lives", "in", "Bonn"]))
"""
'''

TAGGER_CODE = r'''

# ---------------------------------------------------------------- the model


class Model(Network):
    """The tagger of this file."""

    def __init__(self):
        super().__init__(CONFIG, MATRICES, VECTORS)
        self.spelling = None if SPELLING is None else Network(*SPELLING)
        self.ids = {token: id for id, token in enumerate(TOKENS)}
        self.letters = {letter: number for number, letter in enumerate(CONFIG["characters"], 1)}

    def tag(self, words):
        """The tag of each word of a sentence."""
        size, found = CONFIG["max_length"], []
        for start in range(0, len(words), size):
            found += self.best(self.scores(words[start : start + size]))
        tags = [CONFIG["tags"][tag] for tag in found]
        return tags if CONFIG["scheme"] == "none" else rewritten(tags)

    def scores(self, words):
        """The scores of the tags of each word of a sentence, at least one."""
        rows = self.read_layers([self.read_word(word) for word in words])
        return [add(self.matrices["head"] @ row, self.vectors["head_bias"]) for row in rows]

    def read_word(self, word):
        """What the first layer reads: the vector of a word as it is looked up, and what its characters make."""
        known = word.lower() if CONFIG["lowercase"] else word
        known = re.sub(r"\d", "0", known) if CONFIG["zero_digits"] else known
        x = self.read(self.ids.get(known, 0))
        if self.spelling is None:
            return x
        letters = [self.spelling.read(self.letters.get(letter, 0)) for letter in word[: CONFIG["max_characters"]]]
        return joined(x, self.spelling.last(self.spelling.read_layers(letters)))

    def best(self, scores):
        """The numbers of the tags of the largest score: of a chain all together (Viterbi 1967)."""
        scores, count = [[float(score) for score in row] for row in scores], len(CONFIG["tags"])
        if "transitions" not in self.vectors:
            return [row.index(max(row)) for row in scores]
        # best[j] = score[j] + max over i of best[i] + transition[i, j]
        flat = [float(score) for score in self.vectors["transitions"]]
        columns = [flat[j::count] for j in range(count)]
        best, before = [float(s) + own for s, own in zip(self.vectors["start"], scores[0])], []
        for row in scores[1:]:
            sums = [list(map(operator.add, best, column)) for column in columns]
            before.append([each.index(max(each)) for each in sums])
            best = [max(each) + score for each, score in zip(sums, row)]
        last = [score + float(end) for score, end in zip(best, self.vectors["end"])]
        tags = [last.index(max(last))]
        for row in reversed(before):
            tags.append(row[tags[-1]])
        return tags[::-1]


def begins(before, now):
    """Whether a span begins at a tag; tags are (letter, type)."""
    return now[0] in "BS" or (now[0] in "IE" and (before[0] in "ESO" or before[1] != now[1]))


def ends(now, after):
    """Whether a span ends at a tag."""
    return now[0] in "ES" or after[0] in "BSO" or now[1] != after[1]


def rewritten(tags):
    """The spans of tags, as they were marked in what was learned."""
    outside = ("O", "")
    marks = [outside, *((tag[0], tag[2:]) for tag in tags), outside]
    written = []
    for before, now, after in zip(marks, marks[1:], marks[2:]):
        first, last = begins(before, now), ends(now, after)
        if CONFIG["scheme"] == "iob1":
            letter = "B" if first and before[1] == now[1] else "I"
        elif CONFIG["scheme"] == "iob2":
            letter = "B" if first else "I"
        else:
            letter = "BS"[last] if first else "IE"[last]
        written.append("O" if now == outside else letter + "-" + now[1])
    return written


def show(model, lines):
    """Print the lines of a sentence, each with the tag of its first column behind it."""
    tags = model.tag([line.split()[0] for line in lines]) if lines else []
    for line, tag in zip(lines, tags):
        print(line + ("\t" if "\t" in line else " ") + tag)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sentence", nargs="*", help="words between blanks; without one, standard input, a word a line")
    asked = parser.parse_args()
    for stream in (sys.stdin, sys.stdout):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8")
    model, lines = Model(), []
    for sentence in asked.sentence:
        show(model, sentence.split())
        print()
    for line in () if asked.sentence else sys.stdin:
        if line.strip():
            lines.append(line.rstrip("\r\n"))
        else:
            show(model, lines)
            lines = []
            print()
    show(model, lines)
'''
