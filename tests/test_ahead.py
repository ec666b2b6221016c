"""What is compiled in a fork, ahead of the update that needs it: it is help, and whatever becomes of it, nothing else changes."""

import sys

import pytest
from support.numba import needs_numba
from support.training import make_trainer
from test_kernel_cache import python

pytestmark = [needs_numba, pytest.mark.skipif(sys.platform != "linux", reason="forks on Linux alone")]

# kernels that compile in a tenth of a second each; what is called in the block is told from what the fork has compiled
START = """
import os, signal, threading, time
import numpy as np
from nblstm.kernels import cpu
from nblstm.kernels.cpu import ahead, elementwise
ahead.available = lambda: 2  # whatever this machine has
g, clip = np.full(9, 5, np.float32), elementwise._clip_values
norm = lambda: cpu.squared_norm(g, 1)
forks, fork = [], os.fork
os.fork = lambda: forks.append(fork()) or forks[-1]

def clipped():
    cpu.clip_values(g, 2.0, 1)
    return g.tolist() == [2] * 9

def gone():
    '''Whether no child is left, not even a dead one.'''
    try:
        return os.waitpid(-1, os.WNOHANG) is None
    except ChildProcessError:
        return True
"""

HELPED = """
def several():
    clipped()
    norm()  # compiled first
    raise ValueError("a rehearsal may fail behind what it calls")

with ahead.compiled_ahead(norm, several, 2):
    kinds = tuple(map(clip.typeof_pyval, (g, np.float32(2), (0, 0, 9, 1, np.zeros(3, np.int64)))))
    until = time.monotonic() + 100
    while clip._cache.lacks(kinds, clip.targetctx) and time.monotonic() < until:
        time.sleep(0.01)
    assert g.tolist() == [5] * 9
    assert clipped()
print(sum(clip.stats.cache_hits.values()), sum(clip.stats.cache_misses.values()), len(forks), gone())
"""

ENDED = """
def hang():
    while True:
        time.sleep(1)

def hang_for_good():
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    hang()

ends = [lambda: os.kill(os.getpid(), signal.SIGKILL), lambda: os._exit(7), lambda: print("heard"), hang, hang_for_good]
for end in ends:
    with ahead.compiled_ahead(norm, end, 2):
        assert len(forks) == 1 and forks.pop() > 0
    assert gone()
try:
    with ahead.compiled_ahead(norm, hang, 2):
        raise KeyboardInterrupt
except KeyboardInterrupt:
    print(len(forks), gone())
signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system lets children go
with ahead.compiled_ahead(norm, hang, 2):
    pass
print(clipped(), gone())
"""

ALONE = """
def refuse():
    raise BlockingIOError("too many processes")

def hang():
    raise AssertionError("in a fork")

with ahead.compiled_ahead(norm, hang, 1):  # on one thread
    pass
other = threading.Thread(target=(wait := threading.Event()).wait)
other.start()
with ahead.compiled_ahead(norm, hang, 2):
    wait.set()
other.join()
os.fork = refuse
with ahead.compiled_ahead(norm, hang, 2):
    pass
os.fork = lambda: forks.append(0)
norm()
with ahead.compiled_ahead(norm, hang, 2):  # its kernels are there
    pass
print(len(forks), clipped())
"""


def test_a_block_loads_what_a_fork_has_compiled(tmp_path):
    """The last kernel that a rehearsal calls is compiled first, its call is not made, and no process is left."""
    assert python(START + HELPED, NUMBA_CACHE_DIR=tmp_path) == "1 0 1 True"


def test_a_fork_that_fails_or_hangs_costs_nothing(tmp_path):
    """Killed, ended, hanging, deaf to signals: the block ends as it would alone, errors in it too; nothing is written."""
    assert python(START + ENDED, NUMBA_CACHE_DIR=tmp_path) == "1 True\nTrue True"
    assert not [path for path in tmp_path.rglob("*") if ".tmp" in path.name]


def test_there_is_no_fork_where_it_would_not_help(tmp_path):
    """One thread, other threads, a system that refuses, kernels that are there: the block goes alone."""
    assert python(START + ALONE, NUMBA_CACHE_DIR=tmp_path) == "0 True"


def test_a_folder_that_nobody_can_write_to_is_no_fault(tmp_path):
    """Where no cache can be, there is no fork, and kernels are compiled in the process."""
    if not hasattr(pytest.importorskip("numba.core.config"), "CACHE_LOCATOR_CLASSES"):
        pytest.skip("an older numba, which cannot be told to look for no other folder")
    (tmp_path / "file").write_text("")
    folders = dict.fromkeys(("NUMBA_CACHE_DIR", "HOME", "XDG_CACHE_HOME"), tmp_path / "file" / "cache")
    code = START + "with ahead.compiled_ahead(norm, clipped, 2): print(len(forks), clipped())"
    assert python(code, **folders, NUMBA_CACHE_LOCATOR_CLASSES="UserProvidedCacheLocator") == "0 True"


def test_a_rehearsal_calls_the_kernels_of_an_update():
    """With the same types: so what is compiled ahead of a first update is what it needs."""
    from nblstm.kernels import threads
    from nblstm.kernels.cpu import ahead
    from nblstm.training.rehearsal import rehearse

    trainer, made = make_trainer(threads=1), []
    listed = ahead._calls(lambda: rehearse(trainer))
    with threads.listing(lambda kernel, args: (made.append((kernel, args)), kernel(*args))):
        next(trainer.run())
    called = {(kernel, tuple(map(kernel.typeof_pyval, args))) for kernel, args in made if hasattr(kernel, "overloads")}
    assert len(called) > 10 and called <= set(listed)
