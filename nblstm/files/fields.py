"""Fields: the rule for every value that is read from a file, and the sentence about one that breaks it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

from nblstm.config import MAX_COUNT, Recipe, is_number, said
from nblstm.errors import TrainingError


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


class Stored:
    """What training remembers from update to update: some of its attributes are fields of the checkpoint.

    STATE: these attributes, and the rule for each. config: the recipe of the training.
    """

    STATE: ClassVar[dict[str, Rule]] = {}
    config: Recipe

    @classmethod
    def name_of(cls, config: Recipe) -> str:
        """Name what a config makes, for messages."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """Return the state, as JSON values."""
        return {name: getattr(self, name) for name in self.STATE}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict()`. TrainingError if it is not one of this class."""
        self.check_state(state, self.config)
        vars(self).update(state)

    @classmethod
    def check_state(cls, state: Any, config: Recipe) -> None:
        """Raise TrainingError unless the state is a `state_dict()` of this class."""
        broken = fault(state, cls.STATE, alone=True)
        if broken:
            raise TrainingError(f"the checkpoint's state of {cls.name_of(config)} is none: {broken}.")
