"""Every GPU kernel compiles, for a card that need not be there. Skipped without the compiler's packages."""

import os
from types import SimpleNamespace

import pytest

pytest.importorskip("numba_cuda")

from numba import cuda as numba_cuda
from numba import types

from nblstm.kernels import cuda
from nblstm.kernels.cells import KINDS, Cell

CARD = (8, 0)  # compute capability: an A100
CELLS = [Cell(name, 1, 1) for name, kind in KINDS.items() if kind.cuda] + [Cell("rnn", 1, 1, "relu")]
F, H, I, D = types.float32[::1], types.float16[::1], types.int64[::1], types.float64[::1]
f, i = types.float32, types.int64


def ptx(kernel, *kinds):
    """The assembler text of a kernel for these types of arguments."""
    return numba_cuda.compile_ptx(kernel, kinds, cc=CARD)[0]


@pytest.fixture(autouse=True)
def card(monkeypatch):
    """Functions that kernels call are compiled for the present card: let there be one."""
    there = SimpleNamespace(compute_capability=CARD)
    monkeypatch.setattr("numba.cuda.dispatcher.get_current_device", lambda: there)


def compiler_is_there():
    if os.environ.get("NUMBA_ENABLE_CUDASIM", "0") != "0":
        return False
    try:
        ptx(cuda.arrays.fill_with, i, F, f)
    except Exception:  # whatever the CUDA package raises where its compiler is missing
        return False
    return True


pytestmark = [
    pytest.mark.skipif(not compiler_is_there(), reason="no CUDA compiler here"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

SIMPLE = {
    "fill": (cuda.arrays.fill_with, i, F, f), "copy": (cuda.arrays.copy_as, i, H, F), "scale_texts": (cuda.elementwise._scale_texts, i, H, H, F, I, i),
    "dropout": (cuda.elementwise._dropout, i, H, H, types.uint64, f, types.uint64, types.uint64),
    "gather": (cuda.elementwise.gather, i, H, I, F, i), "scatter": (cuda.elementwise.scatter, i, F, I, I, I, F, i),
    "column sums": (cuda.products.column_sums, F, F, i, i), "squared error": (cuda.head._squared_error, i, F, F, F, F, F, i),
    "softmax": (cuda.head._softmax, F, F, I, F, F, f, i, i, types.boolean),
    "draw": (cuda.drawing.draw_kernel, I, F, D, I, types.float64, i), "squares": (cuda.elementwise._squares, D, F, i),
    "clip": (cuda.elementwise._clip_values, i, F, f), "adam": (cuda.optimizers._adam, i, F, F, F, F, types.UniTuple(f, 10)),
    "sgd": (cuda.optimizers._sgd, i, F, F, F, *[f] * 4), "nesterov": (cuda.optimizers._nesterov, i, F, F, F, *[f] * 4),
    "average": (cuda.optimizers._average, i, F, F, f), "rmsprop": (cuda.optimizers._rmsprop, i, F, F, F, *[f] * 6),
}  # fmt: skip


@pytest.mark.parametrize("name", SIMPLE)
def test_kernel_compiles(name):
    """Elementwise kernels, sums, softmax and drawing."""
    kernel, *kinds = SIMPLE[name]
    assert ".entry" in ptx(kernel, *kinds)


@pytest.mark.parametrize("stored", [F, H], ids=["float32", "float16"])
@pytest.mark.parametrize("product", ["linear_product", "input_product", "weight_product"])
def test_products_load_four_numbers_at_once_and_keep_their_sums_in_registers(product, stored):
    """The aligned kernel has vector loads only and no memory of its own."""
    text = ptx(getattr(cuda.products, product).kernels[True], F, F, stored, stored, i, i, i)
    wide = "ld.global.v4.f32" if stored is F else "ld.global.v4.u16"
    assert wide in text and ".local" not in text
    assert ".entry" in ptx(getattr(cuda.products, product).kernels[False], F, F, stored, stored, i, i, i)


@pytest.mark.parametrize("stored", [F, H], ids=["float32", "float16"])
@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cuda.recurrent.functions_of(cell).name)
def test_recurrent_steps_keep_their_sums_in_registers(cell, stored):
    """One step and all steps, forward and backward, with vector loads of U where there is one and no memory of their own."""
    layer, slopes = types.Tuple((stored, F, stored, stored, F, F, stored, F, I)), types.UniTuple(F, 5)
    for ahead, kinds in ((True, (layer, i, i)), (False, (slopes, layer, i, i))):
        for kernel in cuda.recurrent.steps_of(cell.definition, cuda.recurrent.functions_of(cell), ahead, True):
            text = ptx(kernel, *kinds)
            assert ("ld.global.v4" in text) == bool(cell.definition.hidden) and ".local" not in text, ahead
