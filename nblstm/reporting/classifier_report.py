"""ClassifierReport: what the page about a classifier shows, measured on labelled texts."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from nblstm.reporting.facts import model_facts
from nblstm.reporting.metrics import Metrics
from nblstm.reporting.verdict import Verdict
from nblstm.tasks.classification.measures import Evaluation
from nblstm.tasks.classification.model import TextClassifier
from nblstm.tasks.classification.reading import labelled_in
from nblstm.tasks.classification.run import labels_of

MOST_TEXTS = 2000  # whose words are weighed
EXAMPLES = 6  # decisions that are shown, of the right and of the wrong ones
WORDS = 12  # of each label
FEWEST = 3  # times that a word must occur to be among them
SURE_ENOUGH, UNSURE = 0.03, 0.10  # calibration error


@dataclass(frozen=True)
class Decision:
    """A text that was judged. tokens: (token, how much it moved the decision)."""

    tokens: list[tuple[str, float]]
    label: str
    decided: str
    probability: float


@dataclass(frozen=True)
class ClassifierReport:
    """All of it. evaluation is None, and the lists are empty, where there was no labelled text.

    words: of each label the words that spoke for it most, (word, mean contribution, times).
    """

    name: str
    model: TextClassifier
    facts: list[tuple[str, str]]
    metrics: Metrics | None
    text: str
    evaluation: Evaluation | None
    wrong: list[Decision]
    right: list[Decision]
    words: list[tuple[str, list[tuple[str, float, int]]]]
    verdicts: list[Verdict]


def make_classifier_report(
    path: str | os.PathLike[str], model: TextClassifier, *, text: str | None = None, text_column: str | None = None,
    label_column: str | None = None, encoding: str = "utf-8", metrics: Metrics | None = None,
    on_message: Callable[[str], None] = lambda message: None,
) -> ClassifierReport:  # fmt: skip
    """Measure the classifier in the file at `path` on a labelled text that it has not seen, if one is given.

    text_column, label_column: of a table. on_message is called with a sentence before each long step. TextError names file
    and line of what is wrong.
    """
    shown = os.path.basename(path), model, model_facts(path, model), metrics
    if text is None:
        return ClassifierReport(*shown, "", None, [], [], [], [])
    on_message(f"reading {text}")
    read = labelled_in([text], text_column, label_column, encoding)
    expected = labels_of(read, model.config.classes, [text])
    on_message(f"judging {len(read.texts):,} texts")
    chances = model.predict_proba(read.texts)
    evaluation = Evaluation.of(tuple(model.classes_.tolist()), expected, chances)
    decisions = _decisions(model, read.texts[:MOST_TEXTS], expected, chances)
    sure = sorted(decisions, key=lambda one: -one.probability)
    wrong, right = ([one for one in sure if (one.label == one.decided) is good][:EXAMPLES] for good in (False, True))
    return ClassifierReport(
        *shown, os.path.basename(text), evaluation, wrong, right, _words(model, decisions), _verdicts(evaluation)
    )


def _decisions(
    model: TextClassifier, texts: Sequence[str], expected: np.ndarray, chances: np.ndarray
) -> list[Decision]:
    """Weigh the words of texts."""
    names = list(map(str, model.classes_.tolist()))
    decided = chances.argmax(axis=1)
    return [
        Decision(tokens, names[expected[n]], names[decided[n]], float(chances[n, decided[n]]))
        for n, tokens in enumerate(model.contributions(texts))
    ]


def _words(model: TextClassifier, decisions: Sequence[Decision]) -> list[tuple[str, list[tuple[str, float, int]]]]:
    """Find the words that spoke for each label most, by their mean contribution where it was decided."""
    found: list[tuple[str, list[tuple[str, float, int]]]] = []
    unknown = model.vocabulary.tokens[model.vocabulary.unk_id] if model.vocabulary.unk_id is not None else None
    for name in map(str, model.classes_.tolist()):
        scores: dict[str, list[float]] = defaultdict(list)
        for one in decisions:
            for token, score in one.tokens if one.decided == name else ():
                scores[token].append(score)
        means = [(w, sum(of) / len(of), len(of)) for w, of in scores.items() if len(of) >= FEWEST and w != unknown]
        found.append((name, sorted((word for word in means if word[1] > 0), key=lambda word: -word[1])[:WORDS]))
    return found


def _verdicts(evaluation: Evaluation) -> list[Verdict]:
    """Judge how often it is right, and whether it is as sure as it may be."""
    accuracy, of_labels = evaluation.accuracy, evaluation.confusion.sum(axis=1)
    usual, total = float(of_labels.max() / of_labels.sum()), int(of_labels.sum())
    figures = [
        ("accuracy", f"{accuracy:.1%}"),
        ("always the most frequent label", f"{usual:.1%}"),
        ("texts", f"{total:,}"),
    ]
    why = "It is compared with who always says the most frequent label."
    if accuracy <= usual:
        right = Verdict("Right", "no better than a guess", "poor", why, "Train longer, or on more texts.", figures)
    elif 1 - accuracy < (1 - usual) / 2:
        right = Verdict(
            "Right", f"in {accuracy:.0%}", "good", why, "Look at the decisions that are wrong below.", figures
        )
    else:
        advice = "More texts, more dropout or another pooling may help; look at the decisions that are wrong below."
        right = Verdict("Right", f"in {accuracy:.0%}", "fair", why, advice, figures)
    return [right, _sureness(evaluation)]


def _sureness(evaluation: Evaluation) -> Verdict:
    """Judge the calibration error."""
    error = evaluation.calibration_error
    tone = "good" if error < SURE_ENOUGH else "fair" if error < UNSURE else "poor"
    sure = sum(count * mean for count, _, mean in evaluation.bins) / max(
        1, sum(count for count, _, _ in evaluation.bins)
    )
    word = (
        "as sure as it is right" if tone == "good" else "too sure" if sure > evaluation.accuracy else "not sure enough"
    )
    why = f"Below {SURE_ENOUGH:g} its probabilities may be taken at their word, above {UNSURE:g} they may not."
    advice = "Use its probabilities." if tone == "good" else "Train for fewer epochs, or with label_smoothing."
    if word == "not sure enough":
        advice = "Train longer, or without label_smoothing."
    figures = [("calibration error", f"{error:.4f}"), ("mean probability", f"{sure:.1%}")]
    return Verdict("Sure", word, tone, why, advice, figures)
