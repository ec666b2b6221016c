"""How good a classifier is: accuracy, F1, the confusion matrix, calibration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nblstm.kernels.packed import indices

BINS = 10  # of equal width, for the calibration error


@dataclass(frozen=True)
class Evaluation:
    """The decisions of a classifier on labelled texts, at least one.

    confusion (labels, labels) int64: how many texts of each label (row) were given each label (column), in the order of
    `labels`. calibration_error: of accuracy and mean probability of the decisions, in BINS of that probability, the mean
    absolute difference, weighted by their texts (Guo et al. 2017, eq. 3).
    """

    labels: tuple[Any, ...]
    confusion: np.ndarray
    calibration_error: float
    bins: tuple[tuple[int, float, float], ...] = ()  # of each of BINS: texts, accuracy, mean probability

    @classmethod
    def of(cls, labels: tuple[Any, ...], expected: np.ndarray, probabilities: np.ndarray) -> Evaluation:
        """Measure probabilities (texts, labels) by the true labels' places (texts,)."""
        decided, count = probabilities.argmax(axis=1), len(labels)
        confusion = np.bincount(indices(expected * count + decided), minlength=count * count).reshape(count, count)
        bins = _calibration_bins(decided == expected, probabilities.max(axis=1).astype(np.float64))
        error = sum(count * abs(right - sure) for count, right, sure in bins) / len(expected)
        return cls(labels, confusion, float(error), bins)

    @property
    def accuracy(self) -> float:
        """The share of the texts whose label was found."""
        return float(np.trace(self.confusion) / self.confusion.sum())

    @property
    def precision(self) -> np.ndarray:
        """Of the texts that were given each label, the share that has it (labels,); 0 where there are none."""
        return _share(np.diag(self.confusion), self.confusion.sum(axis=0))

    @property
    def recall(self) -> np.ndarray:
        """Of the texts that have each label, the share that was given it (labels,); 0 where there are none."""
        return _share(np.diag(self.confusion), self.confusion.sum(axis=1))

    @property
    def f1(self) -> np.ndarray:
        """The harmonic mean of precision and recall of each label (labels,): 2 right / (given + there)."""
        return _share(2 * np.diag(self.confusion), self.confusion.sum(axis=0) + self.confusion.sum(axis=1))

    @property
    def macro_f1(self) -> float:
        """The mean F1 of the labels that a text has or was given."""
        return float(self.f1[self.confusion.sum(axis=0) + self.confusion.sum(axis=1) > 0].mean())

    def facts(self) -> dict[str, Any]:
        """Return the figures as JSON values; those of labels by their names."""
        names = list(map(str, self.labels))
        of_labels = {"precision": self.precision, "recall": self.recall, "f1": self.f1}
        return {
            "accuracy": self.accuracy,
            "macro_f1": self.macro_f1,
            "calibration_error": self.calibration_error,
            "texts": int(self.confusion.sum()),
            "labels": names,
            "confusion": self.confusion.tolist(),
            **{name: dict(zip(names, values.tolist())) for name, values in of_labels.items()},
        }

    def lines(self) -> list[str]:
        """Return the figures as lines: those of all texts, then a row for each label that texts have."""
        names = [f"{label!s:.24}" for label in self.labels]
        width = max(map(len, [*names, *(f"{count:,}" for count in self.confusion.ravel())]))
        first = max(len("label"), *map(len, names))
        rows = [["label".ljust(first), *(name.rjust(width) for name in names), "precision", "recall", "    F1"]]
        for name, counts, *shares in zip(names, self.confusion, self.precision, self.recall, self.f1):
            shown = [f"{counts_of:,}".rjust(width) for counts_of in counts]
            rows.append([name.ljust(first), *shown, *(f"{share:.4f}".rjust(n) for share, n in zip(shares, (9, 6, 6)))])
        return [
            f"accuracy           {100 * self.accuracy:.2f} % of {int(self.confusion.sum()):,} texts",
            f"macro F1           {self.macro_f1:.4f}",
            f"calibration error  {self.calibration_error:.4f}",
            "confusion          a row for each label that texts have, a column for each they were given",
            *("  ".join(cells) for cells in rows),
        ]


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return part / whole, 0 where whole is 0."""
    return part / np.maximum(whole, 1)


def _calibration_bins(right: np.ndarray, probability: np.ndarray) -> tuple[tuple[int, float, float], ...]:
    """Return of each bin of the decisions' probabilities (texts, accuracy, mean probability)."""
    bins = np.minimum((probability * BINS).astype(np.int64), BINS - 1)
    counts = np.bincount(indices(bins), minlength=BINS)
    accuracy, mean = (_share(np.bincount(indices(bins), values, BINS), counts) for values in (right, probability))
    return tuple(zip(counts.tolist(), accuracy.tolist(), mean.tolist()))
