"""How far a number may be from what is expected."""

import numpy as np


def close(actual, expected, tolerance):
    """Fail unless the arrays are equal relative to the largest expected value."""
    expected = np.asarray(expected)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * max(1.0, np.abs(expected).max(initial=0)))


def assert_same_bits(actual, expected):
    """Fail unless every array of `expected` is in `actual` under its name, bit by bit."""
    for name, value in expected.items():
        assert np.array_equal(actual[name], value), name
