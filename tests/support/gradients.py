"""Gradients against central finite differences in float64: signed, entry by entry and along directions."""

import numpy as np

EPS = 1e-5  # error of a central difference: EPS^2 from the third derivative, 1e-16 / EPS from rounding
TOLERANCE = 1e-6  # of the largest slope in the same array
ENTRIES, DIRECTIONS = 12, 2  # of one array


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

    So many entries at random, and DIRECTIONS in which every entry goes up or down, each by another step: these see a
    wrong entry wherever it is, or one in another's place; those say which it may be.
    """
    r = np.random.default_rng(6)
    steps = list(unit_steps(array.shape, r.permutation(array.size)[:entries]))
    steps += [r.choice([-1, 1], array.shape) * r.uniform(0.5, 1.5, array.shape) for _ in range(DIRECTIONS)]
    sizes = np.array([np.linalg.norm(step) for step in steps])
    expected, found = (
        np.array([of(step) for step in steps]) / sizes
        for of in (lambda step: slope(function, array, step), lambda step: (gradient * step).sum())
    )
    scale = np.abs(expected).max()
    assert scale > 1e-6, f"{name}: nothing to see"
    tolerance = TOLERANCE * max(scale, 1e-4)  # below that a difference of two losses is mostly rounding
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance, err_msg=f"{name}: entries, then directions")
