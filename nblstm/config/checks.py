"""The base of every config: fields checked by type and range, a plain dict out and back in."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from typing import Any, TypeVar

from nblstm.errors import ConfigError

MAX_SIZE = 1_000_000  # a size above this is a typing error, not a model
MAX_TOKENS = 10**9  # to generate: months of it
MAX_COUNT = 2**53  # of updates, epochs, tokens: whole numbers up to here are exact in double precision

_TYPES: dict[str, Any] = {
    "int": int,
    "float": (int, float),
    "bool": bool,
    "str": str,
    "tuple[str, ...]": tuple,
    "dict": dict,
    "None": type(None),
}

C = TypeVar("C", bound="Config")


class Config:
    """Base of all configs, which are frozen dataclasses."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dict of JSON values."""
        return dataclasses.asdict(self)  # type: ignore[call-overload]

    @classmethod
    def from_dict(cls: type[C], fields: Mapping[str, Any]) -> C:
        """Make the config a `to_dict` came from. ConfigError names a field this version does not know."""
        if not isinstance(fields, Mapping):
            raise ConfigError(f"{cls.__name__} is made of named fields, got {said(fields)}.")
        unknown = set(fields) - cls.names()
        if unknown:
            raise ConfigError(f"{cls.__name__} has no field {said(min(unknown))}.")
        try:
            return cls(**fields)
        except TypeError as error:
            raise ConfigError(f"{cls.__name__}: {error}.") from None

    @classmethod
    def names(cls) -> set[str]:
        """Return the names of the fields."""
        return {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]


def is_number(value: Any) -> bool:
    """Tell whether a value is a finite number that a float can hold (true is none)."""
    most = sys.float_info.max
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -most <= value <= most


def said(value: Any) -> str:
    """Quote a value in at most 40 characters, for a message."""
    try:
        return f"{value!r:.40}"
    except ValueError:  # Python writes no whole number of more than 4,300 digits
        return "a number of thousands of digits"


def check_types(config: Any) -> None:
    """Raise ConfigError unless every field has the type it is declared with: settings also come from files.

    A whole number for a field of float becomes one: of some NumPy makes objects, that no kernel reads.
    """
    for field in dataclasses.fields(config):
        value, names = getattr(config, field.name), field.type.split(" | ")
        fits = any(isinstance(value, _TYPES[name]) for name in names)
        if not fits or (isinstance(value, bool) and "bool" not in names):
            raise ConfigError(f"{field.name} must be {' or '.join(names)}, got {said(value)}.")
        if isinstance(value, (int, float)) and not isinstance(value, bool) and not is_number(value):
            raise ConfigError(f"{field.name} must be a finite number, got {said(value)}.")
        if "float" in names and type(value) is int:
            object.__setattr__(config, field.name, float(value))


def at_least(config: Any, minimum: float, *names: str) -> None:
    """Raise ConfigError unless every named field that is set is >= minimum."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not value >= minimum:
            raise ConfigError(f"{name} must be at least {minimum}, got {said(value)}.")


def above_zero(config: Any, *names: str) -> None:
    """Raise ConfigError unless every named field that is set is > 0."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not value > 0:
            raise ConfigError(f"{name} must be greater than 0, got {said(value)}.")


def at_most(config: Any, maximum: float, *names: str) -> None:
    """Raise ConfigError unless every named field that is set is <= maximum."""
    for name in names:
        value = getattr(config, name)
        if value is not None and value > maximum:
            raise ConfigError(f"{name} must be at most {maximum}, got {said(value)}.")


def fraction(config: Any, *names: str) -> None:
    """Raise ConfigError unless every named field lies in [0, 1)."""
    for name in names:
        value = getattr(config, name)
        if not 0 <= value < 1:
            raise ConfigError(f"{name} must be at least 0 and less than 1, got {said(value)}.")


def one_of(config: Any, name: str, choices: tuple[str, ...]) -> None:
    """Raise ConfigError unless the named field is one of the choices."""
    value = getattr(config, name)
    if value not in choices:
        raise ConfigError(f"{name} must be one of {', '.join(choices)}, got {said(value)}.")


def only_with(config: Any, choice: str, having: dict[str, tuple[str, ...]]) -> None:
    """Raise ConfigError for a setting that the config's choice, such as its cell, does not have.

    having: what each choice has; a setting that none of them names is every choice's.
    """
    chosen = getattr(config, choice)
    for name in dict.fromkeys(name for names in having.values() for name in names):
        if name not in having[chosen] and getattr(config, name) != getattr(type(config), name):
            owners = " or ".join(owner for owner, names in having.items() if name in names)
            raise ConfigError(f"{name} is for {owners}, not for {chosen}; leave it out.")


def strings(config: Any, name: str) -> None:
    """Make the named field a tuple where it is a string or a list. ConfigError unless it holds non-empty strings."""
    value = getattr(config, name)
    values = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, (list, tuple)) else (value,)
    for string in values:
        if not isinstance(string, str) or not string:
            raise ConfigError(f"{name} must be strings that are not empty, got {said(string)}.")
    object.__setattr__(config, name, values)
