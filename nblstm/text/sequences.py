"""Sequences: texts as lists of ids, and lists of ids as a rectangle, as Keras's preprocessing makes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from nblstm import checks
from nblstm.config import MAX_TOKENS, PADDINGS
from nblstm.errors import ConfigError
from nblstm.text.vocabulary import Vocabulary, checked


def texts_to_sequences(vocabulary: Vocabulary, texts: Iterable[str]) -> list[list[int]]:
    """The token ids of each text; what the vocabulary does not know becomes unk_id."""
    checks.a(Vocabulary, "vocabulary", vocabulary)
    return [vocabulary.encode(checked(text)).tolist() for text in checks.items("texts", texts)]


def pad_sequences(
    sequences: Sequence[Sequence[Any]],
    maxlen: int | None = None,
    dtype: Any = "int32",
    padding: str = "pre",
    truncating: str = "pre",
    value: Any = 0.0,
) -> np.ndarray:
    """The sequences as rows of equal length, (len(sequences), maxlen) of dtype, and on if their items are arrays.

    maxlen: None means that of the longest. padding: whether `value` is put before ("pre") or behind ("post") a short
    sequence. truncating: whether a long one loses its beginning ("pre") or its end ("post").
    Raises ConfigError for another word, a negative maxlen, something that is not a sequence, or items whose shapes
    differ. Source: keras.utils.pad_sequences.
    """
    for name, word in (("padding", padding), ("truncating", truncating)):
        checks.one_of(name, word, PADDINGS)
    if maxlen is not None:
        checks.whole("maxlen", maxlen, 0, MAX_TOKENS)
    if not all(hasattr(sequence, "__len__") for sequence in checks.items("sequences", sequences)):
        raise ConfigError("sequences must be a list of sequences, and one of them has no length.")
    try:
        with np.errstate(invalid="raise"):  # NaN is no integer
            arrays, value = [np.asarray(sequence, dtype) for sequence in sequences], np.asarray(value, dtype)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise ConfigError(f"sequences and value must be what an array of {dtype!r:.40} holds: {error}.") from None
    if any(array.ndim == 0 for array in arrays) or value.ndim:
        raise ConfigError("sequences must hold sequences, and value must be one item.")
    shape = next((array.shape[1:] for array in arrays if len(array)), ())  # of an item
    longest = max(map(len, arrays), default=0)
    rows = np.full((len(arrays), longest if maxlen is None else maxlen, *shape), value, dtype)
    for row, array in zip(rows, arrays):
        if not len(array) or not len(row):
            continue
        if array.shape[1:] != shape:
            raise ConfigError(f"items must have the shape of the first, {shape}, got one of shape {array.shape[1:]}.")
        kept = array[-len(row) :] if truncating == "pre" else array[: len(row)]
        row[len(row) - len(kept) if padding == "pre" else 0 :][: len(kept)] = kept
    return rows
