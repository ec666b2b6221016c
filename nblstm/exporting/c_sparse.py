"""The C of products with matrices of which most blocks are zero: only the others are stored, and read.

A block is 16 rows of one column. Plain loops of 16, which compilers make vectors of, unless they unroll them first.
"""

from __future__ import annotations

from collections.abc import Mapping

SPARSE_PRODUCT = r"""
#if defined(__GNUC__) && !defined(__clang__)
#define NBLSTM_ROLLED _Pragma("GCC unroll 1")
#else
#define NBLSTM_ROLLED
#endif

/* y (rows) += matrix q, of which only the blocks that are not zero are stored: 16 rows of a column each, list after list. */
static void nblstm_sparse_product(float *y, const nblstm_matrix *m, const nblstm_number *q, float unit)
{
    int row, j;
    for (row = 0; row < m->rows; row += 16) {
        const uint32_t last = m->starts[row / 16 + 1];
        uint32_t i = m->starts[row / 16];
        float total[16] = {0.0f};
        while (i < last) {
            const uint32_t stop = last - i > @most@ ? i + @most@ : last;
            @sum@ a[16] = {0};
            for (; i + 2 <= stop; i += 2) {
                const nblstm_weight *w = m->w + (long)i * 16;
                const @sum@ x = q[m->places[i]], z = q[m->places[i + 1]];
                NBLSTM_ROLLED
                for (j = 0; j < 16; j++) a[j] += @first@ * x + @second@ * z;
            }
            for (; i < stop; i++) {
                const nblstm_weight *w = m->w + (long)i * 16;
                for (j = 0; j < 16; j++) a[j] += @first@ * q[m->places[i]];
            }
            for (j = 0; j < 16; j++) total[j] += (float)a[j];
        }
        for (j = 0; j < 16; j++) y[row + j] += total[j] * @unit@;
    }
}
"""
FIELDS = "int rows, columns; const uint16_t *places; const uint32_t *starts; } nblstm_matrix;"
CHOICE = """\
    if (m->starts) {
        nblstm_sparse_product(y, m, q, unit);
        return;
    }
"""
OF_FLOATS = {"sum": "float", "most": "0x7fffffffu", "unit": "unit"}
SPARSE_KINDS: Mapping[str, Mapping[str, str]] = {
    "float32": {**OF_FLOATS, "first": "w[j]", "second": "w[16 + j]"},
    "bfloat16": {**OF_FLOATS, "first": "nblstm_float(w[j])", "second": "nblstm_float(w[16 + j])"},
    "int8": {
        "sum": "int32_t", "most": "512u", "unit": "m->scale[row + j] * unit", "first": "w[j]", "second": "w[16 + j]",
    },
}  # fmt: skip


def with_sparse_product(kernels: str, sparse: str) -> str:
    """Return the code of products with that of sparse ones, which is written before nblstm_product, and called by it."""
    begin = "static void nblstm_product(float *y, const nblstm_matrix *m, const nblstm_number *q, float unit)\n{\n"
    before, _, after = kernels.partition("int rows, columns; } nblstm_matrix;")
    head, _, body = after.partition(begin)
    comment = head.rindex("\n/* y (rows)")
    return f"{before}{FIELDS}{head[:comment]}{sparse}{head[comment:]}{begin}{_with_choice(body)}"


def _with_choice(body: str) -> str:
    """The body of nblstm_product, its declarations first, that leaves sparse matrices to the other."""
    declared, _, rest = body.partition("    for (row = 0;")
    return f"{declared}{CHOICE}    for (row = 0;{rest}"
