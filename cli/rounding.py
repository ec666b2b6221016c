"""What rounding costs, for the commands that round weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nblstm.cli.shown import say


def measure_on(model: Any, path: str, encoding: str) -> Callable[[Any], float]:
    """Return what says how good a model of this kind is on a file, which is read here."""
    from nblstm.tasks.classification.model import TextClassifier
    from nblstm.tasks.classification.reading import read_labelled
    from nblstm.tasks.tagging.model import Tagger
    from nblstm.tasks.tagging.reading import read_tagged
    from nblstm.text.reading import read_text

    if isinstance(model, Tagger):
        sentences, tags = read_tagged(path, encoding=encoding)
        return lambda each: each.score(sentences, tags)
    if isinstance(model, TextClassifier):
        texts, names = read_labelled(path, encoding=encoding)
        known = dict(zip(model.config.labels, model.config.classes))
        return lambda each: each.score(texts, [known.get(name, name) for name in names])
    text = "".join(read_text((path,), encoding))
    return lambda each: each.score(text).loss


def say_cost(measure: Callable[[Any], float], before: Any, after: Any) -> None:
    """Print how good a model is before and after it was rounded."""
    from nblstm.tasks.classification.model import TextClassifier
    from nblstm.tasks.tagging.model import Tagger

    what, unit = "loss", " nats per token"
    if isinstance(before, (TextClassifier, Tagger)):
        what, unit = "accuracy", ""
        if isinstance(before, Tagger) and before.config.scheme != "none":
            what = "F1"
    say(f"{what:<12}{measure(before):.4f}{unit} before, {measure(after):.4f} after")
