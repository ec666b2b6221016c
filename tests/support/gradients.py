"""Gradients against central finite differences in float64: signed, entry by entry and along directions."""

import numpy as np

EPS = 1e-5  # error of a central difference: EPS^2 from the third derivative, 1e-16 / EPS from rounding
TOLERANCE = 1e-6  # of the largest slope in the same array
ENTRIES, DIRECTIONS = 12, 3  # of one array


def slope(function, array, step):
    """Return d function() / d array along step, by EPS of it to either side; array is left as it was."""
    before = array.copy()
    array += EPS * step
    above = function()
    array[...] = before - EPS * step
    below = function()
    array[...] = before
    return (above - below) / (2 * EPS)


def unit_steps(shape, entries):
    """Yield the step of size 1 in each flat entry."""
    for entry in entries:
        step = np.zeros(shape)
        step.reshape(-1)[entry] = 1
        yield step


def check_gradient(name, function, array, gradient, entries=ENTRIES):
    """Fail unless the gradient of function() with respect to array agrees with finite differences.

    So many entries at random, and DIRECTIONS in which every entry goes up or down by as much: these see a wrong entry
    wherever it is, those say which it may be.
    """
    r = np.random.default_rng(6)
    places = r.permutation(array.size)[:entries]
    expected = np.array([slope(function, array, step) for step in unit_steps(array.shape, places)])
    scale = np.abs(expected).max()
    assert scale > 1e-6, f"{name}: nothing to see"
    tolerance = TOLERANCE * max(scale, 1e-4)  # below that a difference of two losses is mostly rounding
    np.testing.assert_allclose(gradient.reshape(-1)[places], expected, rtol=0, atol=tolerance, err_msg=name)
    for _ in range(DIRECTIONS):
        step = r.choice([-1.0, 1.0], array.shape)
        along, found = slope(function, array, step), (gradient * step).sum()
        np.testing.assert_allclose(found, along, rtol=0, atol=tolerance * array.size**0.5, err_msg=f"{name}, all entries")
