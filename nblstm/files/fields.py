"""Fields: the rule for every value that is read from a file, and the sentence about one that breaks it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from nblstm.config import MAX_COUNT, is_number, said


class Rule(NamedTuple):
    """The rule for a value: in words, and as a test that raises nothing."""

    words: str
    holds: Callable[[Any], bool]


def _is_list(value: Any, kind: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and all(map(kind, value))


COUNT = Rule(f"a whole number from 0 to {MAX_COUNT:,}", lambda value: type(value) is int and 0 <= value <= MAX_COUNT)
NUMBER = Rule("a finite number", is_number)
AMOUNT = Rule("a finite number of at least 0", lambda value: is_number(value) and value >= 0)
FACTOR = Rule("a number above 0 and at most 1", lambda value: is_number(value) and 0 < value <= 1)
NUMBERS = Rule("a list of finite numbers", lambda value: _is_list(value, is_number))
STRING = Rule("a string", lambda value: isinstance(value, str))
STRINGS = Rule("a list of strings", lambda value: _is_list(value, STRING.holds))
OBJECT = Rule("a JSON object", lambda value: isinstance(value, dict))


def optional(rule: Rule) -> Rule:
    """Make a rule that null keeps, too."""
    return Rule(f"{rule.words} or null", lambda value: value is None or rule.holds(value))


def fault(fields: Any, rules: Mapping[str, Rule], alone: bool = False) -> str | None:
    """Say which rule the fields break: "step must be ..., got ..."; None if they keep all of them.

    alone: there must be no other fields.
    """
    if not isinstance(fields, dict):
        return f"it must be {OBJECT.words}, got {said(fields)}"
    for name, rule in rules.items():
        if name not in fields:
            return f"it has no {name!r}"
        if not rule.holds(fields[name]):
            return f"{name} must be {rule.words}, got {said(fields[name])}"
    others = fields.keys() - rules.keys()
    return f"it must not have {said(min(others))}" if alone and others else None
