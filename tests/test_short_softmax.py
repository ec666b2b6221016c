"""The softmax over many classes with short vectors, whose logits are computed twice: equal to its specification."""

import numpy as np
import pytest

pytest.importorskip("numba")

from support.cases import each

from nblstm.kernels import CrossEntropy, load
from nblstm.kernels.cpu import short


def softmax(name, M, D, V, dtype, threads, **loss):
    """losses, dx, dweight and dbias, the latter two added to what was there, of random numbers."""
    kernels, r = load(name), np.random.default_rng(3)
    x, weight, bias, dweight, dbias = (r.normal(size=s).astype(dtype) for s in ((M, D), (V, D), V, (V, D), V))
    targets, scales = r.integers(0, V, M).astype(np.int32), r.random(M).astype(dtype)
    targets[:3] = 0, V - 1, 63
    losses, dx = np.full(M, np.nan, dtype), np.full((M, D), np.nan, dtype)
    work = kernels.softmax_gradient_work(M, D, V, np.dtype(dtype), threads)
    kernels.softmax_losses_and_gradient(
        losses, dx, dweight, dbias, work, x, CrossEntropy(targets, scales, **loss), weight, bias, threads
    )
    return losses, dx, dweight, dbias


@each("M, D, V", [(3, 1, 450), (37, 3, 1000), (97, 12, 513), (200, 16, 2112)])
@each("dtype, tolerance", [("float64", 1e-11), ("float32", 2e-5)])
def test_equals_the_specification(M, D, V, dtype, tolerance, monkeypatch):
    """Vectors of 1 to 16 numbers, blocks of rows and a last panel that are not whole; nothing reaches the usual way back."""
    monkeypatch.setattr("nblstm.kernels.cpu.head.panels_product", None)
    for found, expected in zip(softmax("cpu", M, D, V, dtype, 2), softmax("numpy", M, D, V, dtype, 1)):
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def test_class_weights_and_smoothing_take_the_usual_way():
    """They need all logits at once; the result is the specification's, too."""
    more = {"classes": np.random.default_rng(1).random(700), "smoothing": 0.1}
    for found, expected in zip(*(softmax(name, 20, 5, 700, "float64", 2, **more) for name in ("cpu", "numpy"))):
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-11)


def test_any_number_of_threads_gives_the_same_bits():
    """More threads than parts of the panels, too."""
    found = [[a.tobytes() for a in softmax("cpu", 50, 3, 1500, "float32", threads)] for threads in (1, 2, 3, 40)]
    assert all(other == found[0] for other in found[1:])


def test_what_is_short():
    """At most 16 numbers, 8 panels or more, and factors that are not rounded."""
    from nblstm.kernels.cpu.factors import FACTORS, PAIRS

    assert short.is_short(FACTORS, 16, 449) and not short.is_short(PAIRS, 16, 449)
    assert not short.is_short(FACTORS, 17, 449) and not short.is_short(FACTORS, 16, 448)
