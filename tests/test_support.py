"""What test files share does what they trust it with: a table fails where a case fails, and pairs are complete."""

import itertools

import numpy as np
import pytest
from support.cases import cycled, each, pairs
from support.gradients import check_gradient


def test_a_table_fails_with_every_case_that_fails():
    """All cases are run; the message names those that fail and why, the traceback is that of the first."""
    ran = []

    @each("number, word", [(1, "a"), (2, "b"), (3, "c")], ids=["one", "two", "three"])
    @each("sign", [1, -1])
    def test(number, word, sign):
        ran.append((number, word, sign))
        assert number * sign not in (2, -3), f"not {word}"

    with pytest.raises(AssertionError, match="2 of 6 cases failed") as caught:
        test()
    assert len(set(ran)) == 6
    lines = str(caught.value).splitlines()
    assert "[sign=1, two] AssertionError: not b" in lines[1] and "[sign=-1, three]" in "".join(lines)
    assert str(caught.value.__cause__).startswith("not b")


def test_a_table_fails_as_pytest_does():
    """pytest.raises that sees nothing fails its case; a case that skips is left out, and all of them skip the test."""

    @each("number", [1, 2, 3])
    def test(number, skipped):
        if number in skipped:
            pytest.skip("no such library")
        with pytest.raises(ZeroDivisionError):
            1 / (number - 2)

    with pytest.raises(AssertionError, match="2 of 3 cases failed"):
        test(skipped=[])
    test(skipped=[1, 3])
    with pytest.raises(pytest.skip.Exception, match="no such library"):
        test(skipped=[1, 2, 3])


KNOWN = []


@each("number", [1, 2])
def test_cases_do_not_meet_in_a_folder(number, tmp_path, monkeypatch, capsys):
    """Each has an empty folder, a patch that is undone behind it, and nothing on stdout from the one before."""
    assert not list(tmp_path.iterdir()) and KNOWN == [] and capsys.readouterr().out == ""
    (tmp_path / "file").touch()
    monkeypatch.setattr(f"{__name__}.KNOWN", [number])
    assert KNOWN == [number]
    print(number)


def test_a_misspelled_name_is_noticed():
    """Before anything is run."""
    with pytest.raises(AssertionError, match=r"does not take \['nubmer'\]"):
        each("nubmer", [1])(lambda number: None)


def test_pairs_are_complete_and_few():
    """Any two values of any two axes meet, in far fewer rows than there are combinations; the same ones every time."""
    axes = "abcdef", range(5), [False, True], [np.float32, np.float64], [1, 2, 3]
    rows = pairs(*axes)
    for (a, one), (b, other) in itertools.combinations(enumerate(axes), 2):
        assert {(row[a], row[b]) for row in rows} == set(itertools.product(one, other))
    assert len(rows) <= 45 and len(set(rows)) == len(rows) and rows == pairs(*axes)


def test_cycled_rows_have_every_value():
    """The shorter axes begin again."""
    assert cycled("ab", [1, 2, 3]) == [("a", 1), ("b", 2), ("a", 3)]


def test_a_gradient_of_the_wrong_sign_is_seen():
    """Finite differences pass the right gradient, and fail a sign, a scale and a single entry of many, wherever it is."""
    x = np.random.default_rng(0).normal(size=(50, 20))
    before, gradient = x.copy(), 3 * x**2
    function = lambda: (x**3).sum()
    check_gradient("x", function, x, gradient)
    one = np.zeros(1000)
    one[567] = 0.1
    for wrong in (-gradient, 1.001 * gradient, gradient + one.reshape(x.shape), gradient.T.reshape(x.shape)):
        with pytest.raises(AssertionError):
            check_gradient("x", function, x, wrong)
    assert np.array_equal(x, before)
