"""How good translations are: BLEU, exact match, perplexity."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

ORDER = 4  # longest n-gram


@dataclass(frozen=True)
class TranslationScores:
    """The translations of sources, at least one, beside their references.

    perplexity: of the references' tokens. exact_match: share of the translations that are their reference. bleu: 0 to 100.
    pairs: how many there were.
    """

    perplexity: float
    exact_match: float
    bleu: float
    pairs: int

    def facts(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        return dict(vars(self))

    def lines(self) -> list[str]:
        """Return the figures as lines."""
        return [
            f"perplexity   {self.perplexity:.3f}",
            f"exact match  {100 * self.exact_match:.2f} % of {self.pairs:,} pairs",
            f"BLEU         {self.bleu:.2f}",
        ]


def corpus_bleu(translations: Sequence[str], references: Sequence[str]) -> float:
    """Compute BLEU, 0 to 100, of texts whose words stand between blanks, a reference each.

        BLEU = min(1, exp(1 - r / c)) (p_1 p_2 p_3 p_4)^(1/4)                          (Papineni et al. 2002)

    p_n: the share of the n-grams of all translations that their references have, each as often as there at most; r and c:
    words of references and translations. Where no n-gram is found, p_n is 1 / (2^k n-grams) for the k-th such n (Chen &
    Cherry 2014, smoothing 3): so sacrebleu computes it with tokenize="none".
    """
    found, total, words, expected = [0] * ORDER, [0] * ORDER, 0, 0
    for translation, reference in zip(translations, references):
        hypothesis, wanted = translation.split(), reference.split()
        words, expected = words + len(hypothesis), expected + len(wanted)
        for n in range(1, ORDER + 1):
            given = _ngrams(hypothesis, n)
            found[n - 1] += sum((given & _ngrams(wanted, n)).values())
            total[n - 1] += sum(given.values())
    if not any(found) or not all(total):
        return 0.0
    logs, smoothing = 0.0, 1.0
    for hits, count in zip(found, total):
        if hits == 0:
            smoothing *= 2
        logs += math.log(hits / count if hits else 1 / (smoothing * count))
    return 100 * min(1.0, math.exp(1 - expected / words)) * math.exp(logs / ORDER)


def _ngrams(words: list[str], n: int) -> Counter[tuple[str, ...]]:
    """Count the n-grams of a text."""
    return Counter(tuple(words[k : k + n]) for k in range(len(words) - n + 1))
