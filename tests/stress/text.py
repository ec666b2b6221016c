"""Texts under stress: `python tests/stress/text.py --seed S --count N [--large]`. Prints a table; exit code 1 if one fails.

N random cases each of: byte sequences that are nearly UTF-8, against the table of the Unicode standard; line ends cut
anywhere, against Python's text files; splits of words, against the tokens' own borders; stop strings, against the whole
text. --large: 10 million distinct words, a line of 1 GB, and /dev/zero, each in a process of its own whose memory is told.
"""

import argparse
import io
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from support.naughty import STRINGS, first_bad_byte, sequences

from nblstm.errors import TextError
from nblstm.generation.stops import Stops
from nblstm.text import sources
from nblstm.text.corpus import load_corpus
from nblstm.text.lines import lines, lines_with_ends, normalized, unsplit, without_end
from nblstm.text.reading import read_text
from nblstm.text.strings import num_characters
from nblstm.text.vocabulary import PATTERNS, Bytes


def check(holds, *what):
    """Raise AssertionError that tells the case."""
    if not holds:
        raise AssertionError(repr(what)[:500])


def cut(draw, text):
    """The text in random pieces."""
    places = sorted({0, len(text), *(draw.randrange(len(text) + 1) for _ in range(draw.randrange(6)))})
    return [text[a:b] for a, b in zip(places, places[1:])]


def source(data):
    """The bytes as a file."""
    return sources.Source("a", lambda: io.BytesIO(data))


def utf8(draw):
    """Sequences joined, cut, flipped: read as they are or refused at their first bad byte; bytes come back."""
    data = bytearray(b"".join(draw.choice(SEQUENCES) for _ in range(draw.randrange(1, 8))))
    for _ in range(draw.randrange(4)):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    data = bytes(data[draw.randrange(len(data)) :])
    sources.CHUNK = draw.choice([1, 2, 3, 7, 1 << 20])
    place = first_bad_byte(data)
    try:
        text = "".join(read_text(source(data)))
        check(place is None and text.encode() == data.removeprefix(b"\xef\xbb\xbf"), data, text)
        check(num_characters(data) == len(data.decode()), data)
    except TextError as error:
        said = f"is not utf-8 text at byte {place};" in str(error)
        check(said or "NUL characters" in str(error) or "is empty" in str(error), data, error)
        check(said == (place is not None) or b"\0" in data, data, error)
    check(sum(map(num_characters, cut(draw, data))) == num_characters(data), data)
    vocabulary = Bytes(Bytes.TOKENS)
    check(vocabulary.decode(vocabulary.encode(data)) == data.decode("utf-8", "replace"), data)


def line_ends(draw):
    """Lines are those of Python's text files, for text and bytes."""
    text = "".join(
        draw.choice(["\r", "\n", "\r\n", "a", "é", " ", *STRINGS[5:12]]) for _ in range(draw.randrange(1, 20))
    )
    pieces = cut(draw, text)
    expected = io.TextIOWrapper(io.BytesIO(text.encode()), "utf-8", newline=None).read().split("\n")
    check(list(lines(unsplit(pieces))) == expected, text, pieces)
    check([line.decode() for line in lines(unsplit([p.encode() for p in pieces]))] == expected, text, pieces)
    kept = list(lines_with_ends(unsplit(pieces)))
    check("".join(kept) == text and [without_end(line) for line in kept] == expected, text, pieces)


def word_split(draw):
    """Training text ends at the last border of two tokens before the fraction's place."""
    text = "".join(
        draw.choice(["a", "b'c", " ", "\t", "\n", "\r\n", "中", ",", "é9"]) for _ in range(draw.randrange(9, 200))
    )
    tokenizer, fraction = draw.choice(["default", "whitespace"]), draw.random() * 0.9
    sources.CHUNK, newline = draw.choice([16, 64, 1 << 20]), draw.choice(["keep", "lf"])
    how = {"tokenizer": tokenizer, "valid_fraction": fraction, "newline": newline}
    try:
        found = load_corpus(source(text.encode()), level="word", **how)
    except TextError:
        return
    text = text if newline == "keep" else text.replace("\r\n", "\n")
    place = int(len(text) * (1 - fraction)) if fraction else len(text)
    if len("".join(text.split())) != len(text) and sources.CHUNK >= len(text):
        tokens = [token.span() for token in PATTERNS[tokenizer].finditer(text)]
        borders = [
            p for p in range(place + 1) if not any(a < p < b for a, b in tokens) and text[p - 1 : p + 1] != "\r\n"
        ]
        check(found.train_characters == max(borders), text, tokenizer, fraction)


def stop_strings(draw):
    """Wherever a text is cut, what comes out is the text before the string that is complete first."""
    text = "".join(draw.choice("ab\r\n") for _ in range(draw.randrange(30)))
    stops = ["".join(draw.choice("ab\n") for _ in range(draw.randrange(1, 4))) for _ in range(draw.randrange(1, 4))]
    stop = Stops(stops)
    out = "".join(map(stop.feed, cut(draw, text))) + stop.flush()
    plain = normalized(text)
    ends = [(place + len(string), place) for string in stops if (place := plain.find(string)) >= 0]
    check(normalized(out) == (plain[: min(ends)[1]] if ends else plain) and text.startswith(out), text, stops, out)


MEMORY = "import sys; sys.path.insert(0, {root!r})\n{body}\nprint(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"
WORDS = """
import random
from nblstm.text.corpus import load_corpus
told = []
corpus = load_corpus({path!r}, level="word", max_vocab={most}, on_message=told.append)
assert len(corpus.vocabulary) == ({most} or 300_000), len(corpus.vocabulary)
assert bool(told) == ({most} is None), told
"""
LINE = """
from nblstm.text.corpus import load_corpus
corpus = load_corpus({path!r}, level={level!r})
assert corpus.train_characters + corpus.valid_characters == 1 << 30
"""
REFUSED = """
from nblstm.errors import TextError
from nblstm.text.corpus import load_corpus
try:
    load_corpus({path!r}, level={level!r}, documents="line")
    raise SystemExit("not refused")
except TextError as error:
    assert "longer than" in str(error), error
"""
ZERO = """
from nblstm.errors import TextError
from nblstm.text.corpus import load_corpus
for path in ("-", "/dev/zero"):
    for level in ("char", "byte", "word"):
        try:
            load_corpus(path, level=level)
            raise SystemExit("not refused")
        except TextError as error:
            assert "never ends" in str(error) or "neither a regular file" in str(error), error
"""


def large(name, body, stdin=None):
    """Run Python code in a process of its own; tell its time and the most memory it had."""
    started = time.monotonic()
    code = MEMORY.format(root=str(ROOT), body=body)
    done = subprocess.run([sys.executable, "-c", code], stdin=stdin, capture_output=True, text=True)
    memory = f"{int(done.stdout) / 1024:,.0f} MiB" if done.returncode == 0 else done.stderr.strip().splitlines()[-1]
    print(f"{name:<44}{time.monotonic() - started:8.1f} s  {memory}", flush=True)
    return done.returncode


def run_large(folder):
    """The large cases: how many failed."""
    words, line, chinese = (str(Path(folder, name)) for name in ("words", "line", "chinese"))
    with open(words, "w") as file:
        file.writelines(f"w{k:x} common " for k in range(10_000_000))
    with open(line, "w") as file:
        file.writelines(["to be, or not to" * 4096] * (1 << 14))
    with open("/dev/zero", "rb") as zero:
        failed = large("/dev/zero", ZERO, zero)
    failed += large("10 million words, max_vocab 50,000", WORDS.format(path=words, most=50_000))
    failed += large("10 million words, the default bound", WORDS.format(path=words, most=None))
    for level in ("byte", "char"):
        failed += large(f"a line of 1 GiB, {level}", LINE.format(path=line, level=level))
        failed += large(f"a line of 1 GiB as a document, {level}", REFUSED.format(path=line, level=level))
    return failed + large("a line of 1 GiB, word", LINE.format(path=line, level="word"))


SEQUENCES = list(sequences().values()) + [string.encode() for string in STRINGS if string]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--large", action="store_true")
    asked = parser.parse_args()
    failed = 0
    for case in (utf8, line_ends, word_split, stop_strings):
        draw, started = random.Random(f"{asked.seed} {case.__name__}"), time.monotonic()
        for number in range(asked.count):
            try:
                case(draw)
            except Exception as error:
                print(f"{case.__name__}, case {number}: {error!r}")
                failed += 1
        print(f"{case.__name__:<44}{time.monotonic() - started:8.1f} s  {asked.count:,} cases", flush=True)
    if asked.large:
        with tempfile.TemporaryDirectory() as folder:
            failed += run_large(folder)
    print(f"{failed} failed")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
