"""Which cells of a network can be read: those whose activation follows something simple in the text.

The picture is that of Karpathy, "The Unreasonable Effectiveness of Recurrent Neural Networks" (2015): a text
coloured by tanh(c) of one cell. Which cells are shown is a search over all of them, so the correlation that is
reported is measured on the half of the text that the search did not see.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BRACKETS = {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}
LONGEST_LINE = 200  # places in a line beyond are all the same: prose without line ends has no such feature
WEAK = 0.2  # a correlation below, on the unseen half, is not shown as a finding


@dataclass(frozen=True)
class ReadableCell:
    """A cell to look at. activation (T,), in [-1, 1]. r: its correlation with the feature, on the unseen half."""

    layer: int
    unit: int
    feature: str
    r: float
    activation: np.ndarray


def features(pieces: Sequence[str]) -> dict[str, np.ndarray]:
    """Return simple facts of each token of a text, given as the text that each adds: name -> (T,) float64.

    Of a token of several characters, its last one counts.
    """
    text = "".join(pieces)
    last = np.maximum(np.cumsum([len(piece) for piece in pieces]) - 1, 0)
    return {name: values[last] for name, values in _of_characters(text).items()} if text else {}


def _of_characters(text: str) -> dict[str, np.ndarray]:
    """Return the same facts of each character."""
    flag = lambda test: np.array([float(test(letter)) for letter in text])
    newline, word = flag(lambda a: a == "\n"), flag(str.isalnum)
    ends = flag(lambda a: a in ".!?")
    return {
        "the place in the line": _since(newline),
        "the end of the line coming near": _since(newline[::-1])[::-1],
        "the place in the word": np.minimum(_since(1 - word), 20),
        "the place in the sentence": _since(ends),
        "a line end": newline,
        "white space": flag(str.isspace),
        "capital letters": flag(str.isupper),
        "digits": flag(str.isdigit),
        "vowels": flag(lambda a: a.lower() in "aeiouy"),
        "punctuation": flag(lambda a: not a.isalnum() and not a.isspace()),
        "the inside of quotes": _inside_quotes(text),
        "the inside of brackets": np.minimum(np.cumsum([BRACKETS.get(a, 0) for a in text]).clip(0), 3).astype(float),
    }


def _since(marks: np.ndarray) -> np.ndarray:
    """Count the characters since the last mark, 0 at a mark, at most LONGEST_LINE. marks, result (n,)."""
    at = np.arange(len(marks))
    last = np.maximum.accumulate(np.where(marks > 0, at, -1))
    return np.minimum(at - last, LONGEST_LINE).astype(float)


def _inside_quotes(text: str) -> np.ndarray:
    """Mark with 1 what is between a double quotation mark and the next one in the same paragraph."""
    inside = np.zeros(len(text))
    for found in re.finditer(r'["“”][^"“”]*["“”]', text):
        if "\n\n" not in found.group():
            inside[found.start() : found.end() - 1] = 1
    return inside


def readable_cells(activations: Sequence[np.ndarray], pieces: Sequence[str], most: int = 8) -> list[ReadableCell]:
    """Find the cell that follows each feature best, the clearest first, at most `most`, each cell once.

    activations (T, H) of each layer, in [-1, 1]: tanh(c). pieces: the text that each of the T tokens adds. If no cell
    follows anything, the most active ones are shown as what they are.
    """
    values = np.concatenate(activations, axis=1).astype(np.float64)  # (T, L H)
    half, width = len(values) // 2, activations[0].shape[1]
    found: dict[int, tuple[str, float]] = {}
    for name, fact in features(pieces).items():
        r = correlations(values[:half], fact[:half])
        unit = int(np.abs(r).argmax())
        on_other_half = float(correlations(values[half:, unit : unit + 1], fact[half:])[0])
        if abs(on_other_half) >= WEAK and abs(on_other_half) > abs(found.get(unit, ("", 0.0))[1]):
            found[unit] = (name, on_other_half)
    if not found:
        found = {int(unit): ("", 0.0) for unit in np.argsort(-values.std(axis=0))[:3]}
    ordered = sorted(found.items(), key=lambda item: -abs(item[1][1]))[:most]
    return [ReadableCell(unit // width, unit % width, name, r, values[:, unit]) for unit, (name, r) in ordered]


def correlations(values: np.ndarray, fact: np.ndarray) -> np.ndarray:
    """Compute Pearson's r (K,) of each column of values (T, K) with fact (T,); 0 where one of the two does not vary."""
    if len(values) < 2:
        return np.zeros(values.shape[1])
    a, b = values - values.mean(axis=0), fact - fact.mean()
    scale = np.sqrt((a * a).sum(axis=0) * (b * b).sum())
    return np.divide(b @ a, scale, out=np.zeros(values.shape[1]), where=scale > 1e-12)
