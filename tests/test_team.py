"""Kernels whose parts are handed over in compiled code: every part once, whatever sleeps, fails, forks or calls at once."""

import os
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip("numba")

from nblstm.kernels.cpu.jit import jit
from nblstm.kernels.cpu.machine import PLAIN
from nblstm.kernels.cpu.team import LOOKS
from nblstm.kernels.threads import equal, parallel_for, run_ranges

TOTAL = 23


@jit
def count(seen, parts, share):
    """seen[i] += 1 for i in start ... stop; parts[i] = the number of the part that saw it."""
    part, start, stop, _, _ = share
    for i in range(start, stop):
        seen[i] += 1
        parts[i] = part


@jit
def count_or_fail(seen, last, share):
    """As `count`; ValueError where the last one is seen."""
    _, start, stop, _, _ = share
    for i in range(start, stop):
        seen[i] += 1
        if i == last:
            raise ValueError("the last one")


def counted(threads, times=1):
    """What `count` has seen, and in which parts, after so many calls."""
    seen, parts = np.zeros(TOTAL, np.int64), np.zeros(TOTAL, np.int64)
    for _ in range(times):
        parallel_for(threads, count, TOTAL, seen, parts)
    return seen.tolist(), parts.tolist()


def numbers_of_parts(edges):
    """The part of each i."""
    return np.repeat(np.arange(len(edges) - 1), np.diff(edges)).tolist()


@pytest.mark.parametrize("threads", [1, 2, 3, 7, 40])
def test_every_part_runs_once_in_each_of_many_calls(threads):
    """For fewer and more threads than cores, and than there is work; a part's number is that of its place."""
    assert counted(threads, 200) == ([200] * TOTAL, numbers_of_parts(equal(TOTAL, threads)))


def test_parts_of_their_own_lengths_run_once():
    """An empty one, too."""
    seen, parts, edges = np.zeros(TOTAL, np.int64), np.zeros(TOTAL, np.int64), [0, 1, 1, 9, TOTAL]
    run_ranges(count, edges, seen, parts)
    assert (seen.tolist(), parts.tolist()) == ([1] * TOTAL, numbers_of_parts(edges))


def test_helpers_that_fell_asleep_take_part_again():
    """After a pause longer than they look for work, and just as they give up looking."""
    for pause in [0.1] + [1e-9 * looks for looks in range(0, 60 * LOOKS, 6 * LOOKS)]:
        for _ in range(5):
            time.sleep(pause)
            assert counted(3)[0] == [1] * TOTAL


@pytest.mark.parametrize("last", [0, TOTAL - 1])
def test_an_error_in_any_part_arrives_behind_all_parts(last):
    """In the leader's or in a helper's; the next call works."""
    seen = np.zeros(TOTAL, np.int64)
    with pytest.raises(ValueError, match="the last one"):
        parallel_for(TOTAL, count_or_fail, TOTAL, seen, last)
    assert PLAIN or seen.tolist() == [1] * TOTAL
    assert counted(TOTAL)[0] == [1] * TOTAL


def test_callers_at_once_have_teams_of_their_own():
    """Eight threads, each of which sees all of its own work and nothing of the others'."""
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: counted(2 + number % 2, 100)[0], range(16)))
    assert found == [[100] * TOTAL] * 16


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_process_has_helpers_of_its_own():
    """Those of its parent do not come along; both go on."""
    expected = counted(2, 20)
    child = os.fork()
    if child == 0:
        os._exit(0 if counted(2, 20) == expected else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert counted(2, 20) == expected
