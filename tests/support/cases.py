"""Many cases in one test: `each` runs a table; `pairs` and `cycled` thin a product of axes that no code needs whole."""

import functools
import inspect
import itertools
import random

import pytest

from support.numba import skipped_without


def each(names, cases, ids=None):
    """Return a decorator that runs a test with every case, in one item that fails once and names all cases that failed.

    Written as `pytest.mark.parametrize(names, cases, ids)`; of several, one above the other, every combination is run.
    A case has a folder of its own as `tmp_path`, a `monkeypatch` that is undone behind it, and empty `capsys` and
    `capfd`; every other fixture is shared by all cases. A case that skips is left out, the test where all of them do.
    """
    names = [name.strip() for name in names.split(",")]

    def decorate(test):
        inner = getattr(test, "cases_of", None)  # (the test itself, the names and cases of decorators below)
        test, tables = inner or (test, [])
        tables = [*tables, (names, list(cases), ids)]
        parameters = inspect.signature(test).parameters
        given = {name for names, _, _ in tables for name in names}
        assert given <= set(parameters), f"{test.__name__} does not take {sorted(given - set(parameters))}"

        @functools.wraps(test)
        def run(**fixtures):
            report(*_run_all(test, tables, fixtures))

        run.cases_of = test, tables
        run.__signature__ = inspect.Signature([p for name, p in parameters.items() if name not in given])
        return run

    return decorate


def _run_all(test, tables, fixtures):
    """Return ([(label, error)] of the cases that failed, the number that were run, the reason of one that skipped)."""
    failures, ran, reason = [], 0, None
    for number, row in enumerate(itertools.product(*(_rows(*table) for table in tables)), 1):
        label = ", ".join(label for label, _ in row)
        case, ran = {name: value for _, values in row for name, value in values.items()}, ran + 1
        try:
            with pytest.MonkeyPatch.context() as monkeypatch, skipped_without():
                test(**case, **_own(fixtures, number, monkeypatch))
        except pytest.skip.Exception as skipped:
            reason, ran = str(skipped), ran - 1
        except (Exception, pytest.fail.Exception) as error:
            failures.append((label, error))
    return failures, ran, reason


def _rows(names, cases, ids):
    """Yield (label, name -> value) of each case of a table."""
    for number, case in enumerate(cases):
        values = dict(zip(names, case if len(names) > 1 else [case], strict=True))
        if ids is None:
            label = ", ".join(f"{name}={_short(value)}" for name, value in values.items())
        else:
            label = str(ids(case) if callable(ids) else list(ids)[number])
        yield label, values


def _short(value):
    """The name of a function, another value's repr, of 80 characters at most."""
    text = getattr(value, "__name__", "") or repr(value)
    return f"case {text}" if text == "<lambda>" else text[:80]


def _own(fixtures, number, monkeypatch):
    """The fixtures, those that a case must not share made its own."""
    own = dict(fixtures)
    if "tmp_path" in own:
        own["tmp_path"] = own["tmp_path"] / f"case{number}"
        own["tmp_path"].mkdir()
    if "monkeypatch" in own:
        own["monkeypatch"] = monkeypatch
    for name in {"capsys", "capfd"} & set(own):
        own[name].readouterr()
    return own


def report(failures, number, reason=None):
    """Fail with a line for each failure, the traceback being that of the first; skip where nothing was run."""
    if failures:
        lines = "\n".join(f"  [{label}] {type(error).__name__}: {error}" for label, error in failures)
        raise AssertionError(f"{len(failures)} of {number} cases failed:\n{lines}") from failures[0][1]
    if not number and reason is not None:
        pytest.skip(reason)


def cycled(*axes):
    """Return rows in which every value of each axis comes up, as many as the longest has: for axes that do not meet."""
    axes = [list(axis) for axis in axes]
    return [tuple(axis[k % len(axis)] for axis in axes) for k in range(max(map(len, axes)))]


def pairs(*axes, seed=0):
    """Return rows, a value of each axis in each, such that any two values of two axes meet in a row.

    Chosen greedily among seeded candidates: of five axes of four values some 25 rows instead of 1,024. For axes that
    meet in one code path, where what goes wrong goes wrong for a value or for two of them together.
    """
    axes, r = [list(axis) for axis in axes], random.Random(seed)
    sizes = [range(len(axis)) for axis in axes]
    open_pairs = {
        (a, i, b, j) for a, b in itertools.combinations(range(len(axes)), 2) for i in sizes[a] for j in sizes[b]
    }
    rows = []
    while open_pairs:
        a, i, b, j = min(open_pairs)
        candidates = []
        for _ in range(40):
            row = [r.choice(size) for size in sizes]
            row[a], row[b] = i, j
            candidates.append((len(_met(row) & open_pairs), row))
        rows.append(max(candidates)[1])
        open_pairs -= _met(rows[-1])
    return [tuple(axis[k] for axis, k in zip(axes, row)) for row in rows]


def _met(row):
    """The pairs of places in a row."""
    return {(a, row[a], b, row[b]) for a, b in itertools.combinations(range(len(row)), 2)}
