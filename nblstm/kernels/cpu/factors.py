"""The factors of products: as they are, or rounded to bfloat16 and laid out in pairs.

`Factors` and `Pairs` have the same methods. A product's depth is counted in elements, `count(K)` of K numbers; the names
of arrays are those of a work, a dict, which `buffers` adds. What is not in pairs needs no copy where it stands in place.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from nblstm.kernels.cpu.jit import inlined, jit
from nblstm.kernels.cpu.pairs import store_factors, store_pairs
from nblstm.kernels.cpu.products import Columns, copy_piece, pack, pack_inputs, pack_transposed, panels
from nblstm.kernels.cpu.tiles import PANEL
from nblstm.kernels.cpu.vectors import LANES, like, load, load_part, store
from nblstm.kernels.packed import are_equal, indices
from nblstm.kernels.threads import parallel_for

# ---------------------------------------------------------------- packing pairs


@jit
def round_rows(packed, x, rows, K, share):
    """packed (rows, ceil(K / 2)) = the rows start ... stop of x (rows, K), neighbours in a row in pairs."""
    _, start, stop, _, _ = share
    step = -(-K // 2)
    for r in range(start, stop):
        for k in range(0, K, LANES):
            source, target = r * K + k, r * step + k // 2
            if k + LANES <= K:
                store_factors(packed, target, load(x, source), LANES)
            else:
                store_factors(packed, target, load_part(x, source, K - k, 0), K - k)


@inlined
def _part(x, place, count):
    """16 numbers from a place on, of which `count` are there: zeros behind them."""
    return load(x, place) if count >= LANES else load_part(x, place, max(0, count), 0)


@inlined
def _part_at(first, x, row, k, columns):
    """`_part` from column k of a row of first (., columns) and x below it; zeros where the row is -1."""
    place, count = row * columns + k, columns - k if row >= 0 else 0
    return _part(first, place, count) if place < first.size else _part(x, place - first.size, count)


@jit
def pair_rows(packed, step, first, x, places, columns, share):
    """packed[q * step + i * 64 + j] = the pair of numbers q * 64 + j of the rows places[2 i] and places[2 i + 1].

    For the pairs start ... stop of rows of first (., columns) and x below it; zeros where a place is -1.
    """
    _, start, stop, _, _ = share
    for i in range(start, stop):
        upper, lower = places[2 * i], places[2 * i + 1] if 2 * i + 1 < len(places) else -1
        plain = min(upper, lower) * columns >= first.size  # both rows are in x
        a, b = upper * columns - first.size, lower * columns - first.size
        for k in range(0, -(-columns // PANEL) * PANEL, LANES):
            target = k // PANEL * step + i * PANEL + k % PANEL
            if plain and k + LANES <= columns:
                store_pairs(packed, target, load(x, a + k), load(x, b + k))
            else:
                second = _part_at(first, x, lower, k, columns)
                store_pairs(packed, target, _part_at(first, x, upper, k, columns), second)


@jit
def pair_panel_rows(packed, sums, z, M, S, share):
    """packed (P, ceil(M / 2), S) = the rows of z (P, M, S) in pairs, sums (P, S) = their sums, for panels start ... stop."""
    _, start, stop, _, _ = share
    for p in range(start, stop):
        for j in range(p * S, (p + 1) * S):
            sums[j] = 0
        for m in range(0, M, 2):
            row, target = (p * M + m) * S, (p * (-(-M // 2)) + m // 2) * S
            for j in range(0, S, LANES):
                first = load(z, row + j)
                second = load(z, row + S + j) if m + 1 < M else like(first, 0)
                store_pairs(packed, target + j, first, second)
                store(sums, p * S + j, load(sums, p * S + j) + (first + second))


@jit
def pack_previous(packed, h0, y, offsets, N, H, share):
    """packed (Q, M, 64) = h_{t-1} of the rows of steps start ... stop: those of h0, then of y."""
    _, start, stop, _, _ = share
    M = offsets[len(offsets) - 1]
    for t in range(start, stop):
        for n in range(offsets[t + 1] - offsets[t]):
            for q in range(-(-H // PANEL)):
                column, place = q * PANEL, (q * M + offsets[t] + n) * PANEL
                width = min(PANEL, H - column)
                if t == 0:
                    copy_piece(packed, place, h0, n * H + column, width)
                else:
                    copy_piece(packed, place, y, (offsets[t - 1] + n) * H + column, width)


@jit
def pack_rows(packed, step, weight, V, D, first, share):
    """packed[q * step + r * 64 + i] = weight[first + r, q * 64 + i] for rows r in start ... stop; zeros behind row V."""
    _, start, stop, _, _ = share
    for r in range(start, stop):
        for q in range(-(-D // PANEL)):
            width = min(PANEL, D - q * PANEL) if first + r < V else 0
            copy_piece(packed, q * step + r * PANEL, weight, (first + r) * D + q * PANEL, width)


# ---------------------------------------------------------------- the two kinds

SHARED_NUMBERS = 1 << 14  # of a copy: below, a thread alone is as fast


def _shared(threads, numbers):
    """How many threads copy so many numbers."""
    return threads if numbers >= SHARED_NUMBERS else 1


class Factors:
    """Factors as they are: an element is a number."""

    numbers = 1  # in an element

    def dtype(self, dtype):
        """Return the type of an element."""
        return np.dtype(dtype)

    def count(self, K):
        """Return how many elements K numbers are."""
        return K

    def copied(self, size):
        """Return how many elements a copy of so many takes, that only pairs need."""
        return 0

    def written(self, work, name, numbers):
        """Return the flat array in which a kernel leaves these numbers as a factor: where they are."""
        return numbers.reshape(-1)

    def rows(self, threads, work, name, x):
        """Return x (M, K) as a left factor, flat: rows of count(K)."""
        return np.ascontiguousarray(x).reshape(-1)

    def pack(self, threads, work, name, weight, order, w, size, K):
        """Pack the right factor of x @ weight.T, in panels of w rows of every block."""
        threads = _shared(threads, weight.size)
        parallel_for(threads, pack, panels(size, w), work[name], weight, order, w, size, K)

    def pack_transposed(self, threads, work, name, weight, order, w, size, K):
        """Pack the right factor of dz @ weight, dz in panels of w rows of every block."""
        threads = _shared(threads, weight.size)
        parallel_for(threads, pack_transposed, panels(size, w), work[name], weight, order, w, size, K)

    def pack_rows(self, threads, work, name, weight, first, rows, step):
        """Pack the rows first ... first + rows of a right factor (V, D), zeros behind it; step: of a panel, in numbers."""
        threads = _shared(threads, rows * weight.shape[1])
        parallel_for(threads, pack_rows, rows, work[name], step, weight.reshape(-1), *weight.shape, first)

    def pack_inputs(self, threads, work, name, x):
        """Pack x (M, K) as the right factor of dz.T @ x: (Q, count(M), 64)."""
        M, K = x.shape
        threads = _shared(threads, x.size)
        parallel_for(threads, pack_inputs, M, work[name], x.reshape(-1), M, K)

    def pack_previous(self, threads, work, name, h0, y, offsets):
        """Pack h_{t-1} of every row as the right factor of dz.T @ h_{t-1}."""
        h, threads = np.ascontiguousarray(h0).reshape(-1), _shared(threads, y.size)
        parallel_for(threads, pack_previous, len(offsets) - 1, work[name], h, y.reshape(-1), offsets, *h0.shape)

    def by_columns(self, threads, work, dz, P, is_there=False):
        """Return `Columns` dz of P panels as the left factor of dz @ weight. is_there: its pairs are in place already."""
        return tuple(dz)

    def by_rows(self, threads, work, dz, P, is_there=False):
        """Return `Columns` dz of P panels as the left factor of dz.T @ x, and others with the same sums over rows.

        is_there: its pairs are in place already.
        """
        return tuple(dz), tuple(dz)


@lru_cache(maxsize=256)  # of every size of the layers that are trained
def _rows_of_panels(order, w, size):
    """The row of a weight that stands at each place of its panels of w rows of every block; -1 where there is none."""
    units = np.arange(panels(size, w) * w).reshape(-1, 1, w)
    return np.where(units < size, units + size * np.array(order).reshape(-1, 1), -1).reshape(-1)


class Pairs(Factors):
    """Factors rounded to bfloat16: an element is a pair of numbers."""

    numbers = 2

    def dtype(self, dtype):
        """Return the type of a pair."""
        return np.dtype(np.uint32)

    def count(self, K):
        """Return how many pairs K numbers are."""
        return -(-K // 2)

    def copied(self, size):
        """Return the size of a copy, in pairs."""
        return size

    def written(self, work, name, numbers):
        """Return the flat array in which a kernel leaves these numbers as a factor: beside them."""
        return work[name]

    def rows(self, threads, work, name, x):
        """Return x (M, K) as a left factor, flat: rows of count(K)."""
        threads = _shared(threads, x.size)
        parallel_for(threads, round_rows, len(x), work[name], np.ascontiguousarray(x).reshape(-1), *x.shape)
        return work[name]

    def pack(self, threads, work, name, weight, order, w, size, K):
        """Pack the right factor of x @ weight.T, in panels of w rows of every block."""
        rounded, threads = self.rows(threads, work, "rounded", weight), _shared(threads, weight.size)
        parallel_for(threads, pack, panels(size, w), work[name], rounded, order, w, size, self.count(K))

    def pack_transposed(self, threads, work, name, weight, order, w, size, K):
        """Pack the right factor of dz @ weight, dz in panels of w rows of every block."""
        self._pair_rows(threads, work[name], weight, _rows_of_panels(tuple(order), w, size))

    def pack_rows(self, threads, work, name, weight, first, rows, step):
        """Pack the rows first ... first + rows of a right factor (V, D), zeros behind it; step: of a panel, in numbers."""
        places = np.arange(first, first + rows)
        places[places >= len(weight)] = -1
        self._pair_rows(threads, work[name], weight, places, step=step // 2)

    def pack_inputs(self, threads, work, name, x):
        """Pack x (M, K) as the right factor of dz.T @ x: (Q, count(M), 64)."""
        self._pair_rows(threads, work[name], x, np.arange(len(x)))

    def pack_previous(self, threads, work, name, h0, y, offsets):
        """Pack h_{t-1} of every row as the right factor of dz.T @ h_{t-1}."""
        places = np.arange(len(y))
        if not are_equal(offsets):  # of a step: where its texts stood before
            before = np.concatenate([[0], len(h0) + offsets[:-2]]) - offsets[:-1]
            places += np.repeat(before, indices(np.diff(offsets)))
        self._pair_rows(threads, work[name], y, places, h0)

    def _pair_rows(self, threads, packed, x, places, first=None, step=None):
        """Call `pair_rows` for all pairs of rows; step: from a panel to the next, none of them left out."""
        first, pairs = x[:0] if first is None else np.ascontiguousarray(first), self.count(len(places))
        step, threads = pairs * PANEL if step is None else step, _shared(threads, len(places) * x.shape[1])
        parallel_for(threads, pair_rows, pairs, packed, step, first.reshape(-1), x.reshape(-1), places, x.shape[1])

    def by_columns(self, threads, work, dz, P, is_there=False):
        """Return `Columns` dz of P panels as the left factor of dz @ weight. is_there: its pairs are in place already."""
        z, M, stride, first, count = dz
        if not is_there:
            threads = _shared(threads, P * M * stride)
            parallel_for(threads, round_rows, P * M, work["dz"], z, P * M, stride)
        return tuple(Columns(work["dz"], M, stride // 2, first // 2, count // 2))

    def by_rows(self, threads, work, dz, P, is_there=False):
        """Return `Columns` dz of P panels as the left factor of dz.T @ x, and others with the same sums over rows.

        is_there: its pairs are in place already.
        """
        z, M, stride, first, count = dz
        if not is_there:
            threads = _shared(threads, P * M * stride)
            parallel_for(threads, pair_panel_rows, P, work["dz pairs"], work["sums"], z, M, stride)
        pairs = Columns(work["dz pairs"], self.count(M), stride, first, count)
        return tuple(pairs), tuple(Columns(work["sums"], 1, stride, first, count))


FACTORS, PAIRS = Factors(), Pairs()
