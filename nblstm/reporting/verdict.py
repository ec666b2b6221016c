"""Verdicts: the figures of a model in a word, and advice.

The limits are rules of thumb, written on the page beside the figures: they turn figures into a word, not into a proof.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nblstm.reporting.metrics import Metrics

SMALL_GAP, LARGE_GAP = 0.03, 0.20  # (held-out loss - training loss) / held-out loss
RISE, FALL = 0.02, 0.01  # of the validation loss, as shares of its best value
FEWEST_VALIDATIONS = 3
COPIED = 2  # times as long as what held-out text shares with the training text


@dataclass(frozen=True)
class Verdict:
    """One judgement. tone: good | fair | poor | unknown. figures: (name, value) that it rests on."""

    question: str
    word: str
    tone: str
    why: str
    advice: str
    figures: list[tuple[str, str]]


@dataclass(frozen=True)
class Losses:
    """Nats per token, measured without dropout; None where there was no text to measure on."""

    train: float | None = None
    held_out: float | None = None


def fit_verdict(losses: Losses, metrics: Metrics | None) -> Verdict:
    """Judge whether a model has learned too little from its text, or too much of it."""
    figures = _loss_figures(losses)
    curve = metrics.curve("step", "valid_loss")[1] if metrics else np.empty(0)
    if losses.train is not None and losses.held_out is not None:
        levelled = len(curve) >= FEWEST_VALIDATIONS and not _is_falling(curve)
        return Verdict("Fit", *_by_gap(1 - losses.train / losses.held_out, _is_falling(curve), levelled), figures)
    if len(curve) >= FEWEST_VALIDATIONS:
        figures += [("best validation loss", f"{curve.min():.4f}"), ("last validation loss", f"{curve[-1]:.4f}")]
        return Verdict("Fit", *_by_curve(curve), figures)
    why = "There is neither a training and a held-out text to compare, nor a curve with three validations."
    return Verdict("Fit", "not known", "unknown", why, "Name the training text (corpus).", figures)


def _loss_figures(losses: Losses) -> list[tuple[str, str]]:
    figures = []
    if losses.train is not None:
        figures.append(("loss on training text", f"{losses.train:.4f}"))
    if losses.held_out is not None:
        figures.append(("loss on held-out text", f"{losses.held_out:.4f}"))
    if losses.train is not None and losses.held_out is not None:
        figures.append(("gap", f"{1 - losses.train / losses.held_out:.1%} of the held-out loss"))
    return figures


def _by_gap(gap: float, falling: bool, levelled: bool) -> tuple[str, str, str, str]:
    """Return word, tone, why and advice, by the gap between the losses on training and on held-out text.

    A small gap alone is no underfitting: it is where the validation loss was still falling, or nobody knows its course.
    levelled: whether it is known to have levelled off.
    """
    limits = f"(a gap below {SMALL_GAP:.0%} is small, one above {LARGE_GAP:.0%} is called overfitting)"
    more = " The validation loss was still falling at the end: resume the run with more epochs." if falling else ""
    if gap < SMALL_GAP and levelled:
        return (
            "fine",
            "good",
            f"New text is hardly harder for it than the text it learned from {limits}, and the validation "
            "loss has levelled off: it has learned what a network of this size does.",
            "A larger hidden size, or less dropout, may still lower both losses; more epochs hardly will.",
        )
    if gap < SMALL_GAP:
        course = (
            "the validation loss was still falling"
            if falling
            else f"fewer than {FEWEST_VALIDATIONS} validations do not say whether it has levelled off"
        )
        return (
            "underfitting",
            "fair",
            f"New text is hardly harder for it than the text it learned from {limits}, and {course}.",
            f"It can learn more: train longer, raise the hidden size, or lower the dropout.{more}",
        )
    if gap > LARGE_GAP:
        return (
            "overfitting",
            "poor",
            f"It knows its training text much better than new text {limits}.",
            "More text helps most. Without it, raise the dropout or the weight decay, or lower the hidden size.",
        )
    return (
        "fine",
        "good",
        f"It knows its training text better than new text, as it should, and not by much {limits}.",
        more.strip() or "A larger hidden size with more dropout may still lower the held-out loss.",
    )


def _is_falling(curve: np.ndarray) -> bool:
    """Tell whether the last fifth of the validations still lowered the loss by more than FALL."""
    if len(curve) < FEWEST_VALIDATIONS:
        return False
    earlier = curve[: len(curve) - max(1, len(curve) // 5)].min()
    return bool(curve[-1] == curve.min() and curve[-1] < earlier * (1 - FALL))


def _by_curve(curve: np.ndarray) -> tuple[str, str, str, str]:
    """Return word, tone, why and advice, by the validation losses alone."""
    ask = "Name the training text (corpus) to measure the gap itself."
    if curve[-1] > curve.min() * (1 + RISE):
        return (
            "overfitting",
            "fair",
            f"The validation loss rose by more than {RISE:.0%} above its best during the run.",
            f"The saved model is the best one. To get further: more text, more dropout, or patience. {ask}",
        )
    if _is_falling(curve):
        return (
            "underfitting",
            "fair",
            "The validation loss was still falling when training ended.",
            f"Train longer: resume the run with more epochs. {ask}",
        )
    return "fine", "good", "The validation loss has levelled off and does not rise.", ask


def copy_verdict(copied: int | None, by_chance: int | None, unit: str) -> Verdict:
    """Judge whether samples repeat the training text. copied, by_chance: the longest spans, in tokens called `unit`s,
    that samples at temperature 1 and as much held-out text share with the training text; None if not measured."""
    if copied is None:
        why = "Samples are compared with the training text, which was not given."
        return Verdict("Copying", "not known", "unknown", why, "Name the training text (corpus).", [])
    figures = [("longest span copied by samples", f"{copied:,} {unit}s")]
    if by_chance is None:
        why = "There is no held-out text to say how long such spans are by chance."
        return Verdict("Copying", "not known", "unknown", why, "Name a text that it has not seen (text).", figures)
    figures.append(("the same for held-out text", f"{by_chance:,} {unit}s"))
    limit = f"({COPIED} times as long is called copying)"
    if copied >= COPIED * max(by_chance, 1):
        why = f"Its samples repeat far longer spans of the training text than unseen text does by chance {limit}."
        advice = "Train on more text, with more dropout, or for less long."
        return Verdict("Copying", "copying", "poor", why, advice, figures)
    why = f"Its samples repeat no longer spans of the training text than unseen text does by chance {limit}."
    return Verdict("Copying", "not copying", "good", why, "Nothing to do.", figures)
