"""Labels from outside: strings, whole numbers or booleans, in whatever list or array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nblstm import checks
from nblstm.config.checks import said
from nblstm.errors import ConfigError
from nblstm.kernels.packed import indices
from nblstm.tasks.classification.config import BALANCED, LABEL_TYPES


def plain_labels(labels: Any, num_texts: int) -> list[Any]:
    """Return the labels of so many texts as values of Python.

    ConfigError unless these are as many, and all strings, all whole numbers or all booleans.
    """
    if isinstance(labels, (str, bytes)):
        raise ConfigError(f"labels must be a list or the like, one for each text, got {said(labels)}.")
    plain = [label.item() if isinstance(label, np.generic) else label for label in checks.items("labels", labels)]
    if len(plain) != num_texts:
        raise ConfigError(f"labels must be as many as the texts, got {len(plain):,} labels and {num_texts:,} texts.")
    kind = type(plain[0]) if plain else str
    for label in plain:
        if type(label).__name__ not in LABEL_TYPES or type(label) is not kind:
            raise ConfigError(f"labels must be all strings, all whole numbers or all booleans, got {said(label)}.")
    return plain


def numbered_labels(labels: Any, classes: Sequence[Any], num_texts: int) -> np.ndarray:
    """Return the place of each label in classes, (texts,) int32. ConfigError for one that is not there, or too few."""
    plain, places = plain_labels(labels, num_texts), {label: place for place, label in enumerate(classes)}
    for label in plain:
        if label not in places or type(label) is not type(classes[0]):
            known = ", ".join(map(str, classes))
            raise ConfigError(f"label {said(label)} is none that was learned; these are {known[:200]}.")
    return np.array([places[label] for label in plain], np.int32)


def weights_of_classes(class_weights: Any, classes: Sequence[Any], labels: np.ndarray, dtype: str) -> np.ndarray | None:
    """Return how much the texts of each class count, (classes,); None where all count alike.

    labels (texts,): balanced weights are texts / (classes * texts of the class), so that each class counts as much as
    the others. ConfigError for a label that is none of the classes, and where no text would count.
    """
    if not class_weights:
        return None
    if class_weights == BALANCED:
        counts = np.bincount(indices(labels), minlength=len(classes))
        return (len(labels) / (len(classes) * np.maximum(counts, 1))).astype(dtype)  # of some there may be no text
    weights, places = np.ones(len(classes), dtype), {label: place for place, label in enumerate(classes)}
    for label, weight in class_weights.items():
        if label not in places:
            raise ConfigError(f"class_weights names {said(label)}, which is no label of these texts; leave it out.")
        with np.errstate(over="ignore"):
            weights[places[label]] = weight
    if not (np.isfinite(weights).all() and weights[np.unique(labels)].any()):
        raise ConfigError(f"class_weights must be numbers that {dtype} holds, not all of them 0.")
    return weights
