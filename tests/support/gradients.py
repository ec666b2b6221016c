"""Gradients against central finite differences in float64: signed, entry by entry."""

import numpy as np

EPS = 1e-5  # error of a central difference: EPS^2 from the third derivative, 1e-16 / EPS from rounding
TOLERANCE = 1e-6  # of the largest slope in the same array
CHECKED = 150  # entries of one array, at most


def slopes(function, array, entries):
    """Return d function() / d array[entry] for each flat entry, by a step to either side; array is left as it was."""
    flat, found = array.reshape(-1), []
    for entry in entries:
        value = flat[entry]
        flat[entry] = value + EPS
        above = function()
        flat[entry] = value - EPS
        below = function()
        flat[entry] = value
        found.append((above - below) / (2 * EPS))
    return np.array(found)


def check_gradient(name, function, array, gradient, limit=CHECKED):
    """Fail unless the gradient of function() with respect to array agrees with finite differences, entry by entry."""
    entries = np.random.default_rng(6).permutation(array.size)[:limit]
    expected = slopes(function, array, entries)
    scale = np.abs(expected).max()
    assert scale > 1e-6, f"{name}: nothing to see"
    tolerance = TOLERANCE * max(scale, 1e-4)  # below that a difference of two losses is mostly rounding
    np.testing.assert_allclose(gradient.reshape(-1)[entries], expected, rtol=0, atol=tolerance, err_msg=name)
