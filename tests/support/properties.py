"""hypothesis, or where it is missing stand-ins with which a property is a test that is skipped."""

import functools
import inspect
from typing import Any

import pytest

try:
    from hypothesis import HealthCheck, given, settings
    from hypothesis import strategies as st

    # on a machine with other work an example may take any time
    settings.register_profile("any speed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("any speed")
except ImportError:

    class _Strategies:
        """Every strategy, made of anything."""

        def __getattr__(self, name: str) -> Any:
            return lambda *args, **keywords: self

    st: Any = _Strategies()

    def given(*args: Any, **keywords: Any) -> Any:
        """Return a decorator that makes a test without what hypothesis would give it, which is skipped."""

        def decorate(test: Any) -> Any:
            parameters = list(inspect.signature(test).parameters.values())
            others = parameters[: len(parameters) - len(args)]  # hypothesis gives the last ones

            @functools.wraps(test)
            def skipped(**fixtures: Any) -> None:
                pytest.skip("hypothesis is not installed")

            skipped.__signature__ = inspect.Signature([each for each in others if each.name not in keywords])
            return skipped

        return decorate


__all__ = ["given", "st"]
