"""How good tags are: precision, recall and F1 of spans, as conlleval counts them, and accuracy of single tags."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from nblstm.tasks.tagging.spans import spans_of


class SpanMeasures(NamedTuple):
    """Spans, of one type or of all. A span is right if its type, its first and its last word are."""

    right: int
    found: int  # by the model
    there: int  # in truth

    @property
    def precision(self) -> float:
        """Of the spans that were found the share that is right; 0 where there are none."""
        return self.right / self.found if self.found else 0.0

    @property
    def recall(self) -> float:
        """Of the spans that are there the share that was found; 0 where there are none."""
        return self.right / self.there if self.there else 0.0

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall: 2 right / (found + there)."""
        return 2 * self.right / (self.found + self.there) if self.found + self.there else 0.0


@dataclass(frozen=True)
class TagEvaluation:
    """The tags that were found for sentences, at least one word, beside the true ones.

    by_type: of every type of span that there is or that was found; empty where tags mark no spans.
    """

    sentences: int
    words: int
    right_words: int
    by_type: dict[str, SpanMeasures]

    @classmethod
    def of(
        cls, expected: Iterable[Sequence[str]], found: Iterable[Sequence[str]], types: Iterable[str] = ()
    ) -> TagEvaluation:
        """Measure the tags that were found for sentences by the true ones; types: those told even if none has them."""
        counts = TagCounts()
        for tags, mine in zip(expected, found):
            counts.add(tags, mine)
        return counts.evaluation(types)

    @property
    def accuracy(self) -> float:
        """The share of the words whose tag was found."""
        return self.right_words / self.words

    @property
    def spans(self) -> SpanMeasures:
        """All spans, whatever their type."""
        return SpanMeasures(*(sum(counts) for counts in zip((0, 0, 0), *self.by_type.values())))

    @property
    def precision(self) -> float:
        """Of the spans that were found, the share that is right."""
        return self.spans.precision

    @property
    def recall(self) -> float:
        """Of the spans that are there, the share that was found."""
        return self.spans.recall

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall of all spans."""
        return self.spans.f1

    def facts(self) -> dict[str, Any]:
        """Return the figures as JSON values, those of spans where there are any."""
        found = {"accuracy": self.accuracy, "sentences": self.sentences, "words": self.words}
        if not self.by_type:
            return found
        names = ("precision", "recall", "f1", "right", "found", "there")
        of = lambda measures: {name: getattr(measures, name) for name in names}
        return {**found, **of(self.spans), "types": {name: of(measures) for name, measures in self.by_type.items()}}

    def lines(self) -> list[str]:
        """Return the figures as lines: accuracy, then a row for each type of span and one for all."""
        lines = [f"accuracy  {100 * self.accuracy:.2f} % of {self.words:,} words in {self.sentences:,} sentences"]
        if not self.by_type:
            return lines
        rows = {f"{name:.24}": measures for name, measures in self.by_type.items()} | {"all": self.spans}
        width = max(map(len, [*rows, "spans"]))
        lines.append(f"{'spans':<{width}}  precision  recall      F1    there    found    right")
        for name, m in rows.items():
            counts = "".join(f"{count:>9,}" for count in (m.there, m.found, m.right))
            lines.append(f"{name:<{width}}  {m.precision:>9.4f}  {m.recall:.4f}  {m.f1:.4f}{counts}")
        return lines


@dataclass
class TagCounts:
    """What is counted of one sentence after the other."""

    sentences: int = 0
    words: int = 0
    right_words: int = 0
    spans: tuple[Counter[str], Counter[str], Counter[str]] = field(
        default_factory=lambda: (Counter(), Counter(), Counter())
    )

    def add(self, expected: Sequence[str], found: Sequence[str]) -> None:
        """Count a sentence's true tags and those that were found for it."""
        self.sentences, self.words = self.sentences + 1, self.words + len(expected)
        self.right_words += sum(map(str.__eq__, expected, found))
        there, mine = set(spans_of(expected)), set(spans_of(found))
        for counter, spans in zip(self.spans, (there & mine, mine, there)):
            counter.update(span.type for span in spans)

    def evaluation(self, types: Iterable[str] = ()) -> TagEvaluation:
        """Return what was counted; types: those that are told even if no sentence has them."""
        names = sorted({*types, *self.spans[1], *self.spans[2]})
        by_type = {name: SpanMeasures(*(counter[name] for counter in self.spans)) for name in names}
        return TagEvaluation(self.sentences, self.words, self.right_words, by_type)
