"""Sequences: texts as lists of ids, and lists of ids as a rectangle, as Keras's preprocessing makes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from nblstm import checks
from nblstm.arrays import converting, refuse_masked
from nblstm.config import MAX_TOKENS, PADDINGS
from nblstm.errors import ConfigError, TextError
from nblstm.text.strings import checked
from nblstm.text.vocabulary import Vocabulary


def texts_to_sequences(vocabulary: Vocabulary, texts: Iterable[str]) -> list[list[int]]:
    """Encode each text as token ids; what the vocabulary does not know becomes unk_id.

    TextError for a single string, which would be taken letter by letter, and for anything that is no text.
    """
    checks.a(Vocabulary, "vocabulary", vocabulary)
    if isinstance(texts, (str, bytes)):
        raise TextError("texts must be several texts, got a single one; put it into a list.")
    return [vocabulary.encode(checked(text)).tolist() for text in checks.items("texts", texts)]


def pad_sequences(
    sequences: Iterable[Sequence[Any]],
    maxlen: int | None = None,
    dtype: Any = "int32",
    padding: str = "pre",
    truncating: str = "pre",
    value: Any = 0.0,
) -> np.ndarray:
    """Lay out sequences as rows of equal length: (sequences, maxlen) of dtype, and on if their items are arrays.

    maxlen: None means that of the longest. padding: whether `value` is put before ("pre") or behind ("post") a short
    sequence. truncating: whether a long one loses its beginning ("pre") or its end ("post").
    Raises ConfigError for another word, a negative maxlen, something that is not a sequence, masks, values that dtype
    cannot hold (fractions are cut off, as Keras does), or items whose shapes differ. Source: keras.utils.pad_sequences.
    """
    for name, word in (("padding", padding), ("truncating", truncating)):
        checks.choice(name, word, PADDINGS)
    if maxlen is not None:
        checks.whole("maxlen", maxlen, 0, MAX_TOKENS)
    arrays = [_row(sequence, dtype) for sequence in checks.items("sequences", sequences)]
    shape = next((array.shape[1:] for array in arrays if len(array)), ())  # of an item
    longest = max(map(len, arrays), default=0)
    with converting("value", f"be what {dtype} can hold"):
        rows = np.full((len(arrays), longest if maxlen is None else maxlen, *shape), value, dtype)
    for row, array in zip(rows, arrays):
        if not len(array) or not len(row):
            continue
        if array.shape[1:] != shape:
            raise ConfigError(f"items must have the shape of the first, {shape}, got one of shape {array.shape[1:]}.")
        kept = array[-len(row) :] if truncating == "pre" else array[: len(row)]
        row[len(row) - len(kept) if padding == "pre" else 0 :][: len(kept)] = kept
    return rows


def _row(sequence: Any, dtype: Any) -> np.ndarray:
    """Return a sequence (tokens, ...) as an array of dtype. ConfigError if it is none, or holds what dtype cannot."""
    if not hasattr(sequence, "__len__"):
        raise ConfigError("sequences must be a list of sequences, and one of them has no length.")
    refuse_masked(sequence, "sequences")
    with converting("sequences", f"hold what {dtype} can"), np.errstate(invalid="ignore", over="ignore"):
        row = np.asarray(sequence, dtype)
        if not row.ndim:
            raise TypeError("one of them is a single number")
        if row.dtype.kind in "iu":
            _check_range(np.asarray(sequence), np.iinfo(row.dtype))
    return row


def _check_range(given: np.ndarray, limits: np.iinfo) -> None:
    """Raise OverflowError unless all numbers lie within an integer type's limits: a cast would wrap them."""
    inside = not given.size or given.dtype.kind not in "iuf" or limits.min <= given.min() <= given.max() <= limits.max
    if not inside:  # or not a number
        raise OverflowError(f"their values go from {given.min()} to {given.max()}")
