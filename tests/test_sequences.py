"""Sequences: Keras's documented examples of pad_sequences, its corners, and texts as ids."""

import numpy as np
import pytest
from support.cases import each

import nblstm
from nblstm import pad_sequences, texts_to_sequences
from nblstm.errors import ConfigError, TextError

SEQUENCES = [[1], [2, 3], [4, 5, 6]]


@each(
    "options, rows",
    [
        ({}, [[0, 0, 1], [0, 2, 3], [4, 5, 6]]),
        ({"value": -1}, [[-1, -1, 1], [-1, 2, 3], [4, 5, 6]]),
        ({"padding": "post"}, [[1, 0, 0], [2, 3, 0], [4, 5, 6]]),
        ({"maxlen": 2}, [[0, 1], [2, 3], [5, 6]]),
    ],
)
def test_the_examples_of_keras(options, rows):
    """https://www.tensorflow.org/api_docs/python/tf/keras/utils/pad_sequences"""
    padded = pad_sequences(SEQUENCES, **options)
    assert padded.tolist() == rows and padded.dtype == np.int32


@each(
    "options, rows",
    [
        ({"maxlen": 2, "truncating": "post"}, [[0, 1], [2, 3], [4, 5]]),
        ({"maxlen": 2, "truncating": "post", "padding": "post"}, [[1, 0], [2, 3], [4, 5]]),
        ({"maxlen": 4, "padding": "post"}, [[1, 0, 0, 0], [2, 3, 0, 0], [4, 5, 6, 0]]),
        ({"maxlen": 0}, [[], [], []]),
    ],
)
def test_padding_and_truncating_are_two_choices(options, rows):
    """The end that is padded and the end that is cut are independent; rows may be longer than any sequence."""
    assert pad_sequences(SEQUENCES, **options).tolist() == rows


def test_empty_sequences_and_vectors():
    """An empty sequence is all padding, vectors stay vectors, no sequences make no rows."""
    assert pad_sequences([[], [7]]).tolist() == [[0], [7]]
    vectors = pad_sequences([[[1, 2]], [[3, 4], [5, 6]]], dtype="float64", value=0.5)
    assert vectors.tolist() == [[[0.5, 0.5], [1, 2]], [[3, 4], [5, 6]]]
    assert pad_sequences([]).shape == (0, 0)


@each(
    "sequences, options, message",
    [
        (SEQUENCES, {"padding": "left"}, "padding must be one of pre, post, got 'left'."),
        (SEQUENCES, {"truncating": ""}, "truncating must be one of pre, post, got ''."),
        (SEQUENCES, {"maxlen": -1}, "maxlen must be a whole number from 0 to 1,000,000,000, got -1."),
        ([1, 2], {}, "one of them has no length"),
        ([[1], [[1, 2]]], {}, "items must have the shape of the first"),
        (5, {}, "a list or the like, got 5"),
        (SEQUENCES, {"maxlen": 1.5}, "maxlen must be a whole number from 0 to 1,000,000,000, got 1.5"),
        (SEQUENCES, {"value": "x"}, "value must be what int32 can hold"),
        (SEQUENCES, {"dtype": "nonsense"}, "nonsense"),
        (["ab"], {}, "hold what int32 can"),
        ([[2**40]], {}, "hold what int32 can"),
        ([np.array([2**40])], {}, "go from 1099511627776"),
        ([np.array([np.nan])], {}, "go from nan to nan"),
        ([np.array([-1])], {"dtype": "uint8"}, "go from -1 to -1"),
        ([[1, [2, 3]]], {}, "inhomogeneous"),
        ([np.ma.masked_array([1, 2], [False, True])], {}, "sequences must hold nothing masked"),
        (np.ma.masked_array([[1, 2], [3, 4]], [[0, 0], [0, 1]]), {}, "sequences must hold nothing masked"),
    ],
)
def test_what_cannot_be_padded_is_named(sequences, options, message):
    """ConfigError, which is a ValueError as Keras's is."""
    with pytest.raises(ConfigError, match=message) as error:
        pad_sequences(sequences, **options)
    assert isinstance(error.value, ValueError)


def test_sequences_of_any_kind():
    """A generator, arrays and tensors are sequences as lists are."""
    expected = pad_sequences(SEQUENCES).tolist()
    assert pad_sequences(iter(SEQUENCES)).tolist() == expected
    assert pad_sequences([np.array(sequence, np.uint8) for sequence in SEQUENCES]).tolist() == expected
    torch = pytest.importorskip("torch")
    assert pad_sequences(map(torch.tensor, SEQUENCES)).tolist() == expected


def test_a_single_text_is_not_many():
    """A string is refused, whose letters would each become a text."""
    with pytest.raises(TextError, match="texts must be several texts, got a single one; put it into a list."):
        texts_to_sequences(nblstm.Vocabulary.build(["a b"], "word"), "ab")


def test_texts_become_lists_of_ids():
    """One list a text; what is not known is <unk>."""
    vocabulary = nblstm.Vocabulary.build(["a b"], "word", "whitespace")
    assert texts_to_sequences(vocabulary, ["b a", "", "a c"]) == [[2, 1], [], [1, 0]]
