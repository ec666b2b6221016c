"""remembered: what is made once, without the lock that the standard library's has before Python 3.12."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class remembered(Generic[T]):  # used as a decorator
    """A property whose value stays on the object. Two threads that ask at once may both compute it; one value is kept."""

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self.compute, self.name, self.__doc__ = compute, compute.__name__, compute.__doc__

    def __get__(self, instance: Any, owner: type) -> T:
        """Return the value: computed now, unless it was before (then the object's own attribute is found first)."""
        if instance is None:
            return self  # type: ignore[return-value]
        return vars(instance).setdefault(self.name, self.compute(instance))


def kept_under(key: Any, values: dict[Any, T], make: Callable[[], T]) -> T:
    """Return values[key], made now unless it was before. Two threads that ask at once get the same one."""
    found = values.get(key)
    return values.setdefault(key, make()) if found is None else found
