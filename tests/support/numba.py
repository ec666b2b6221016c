"""numba, where it is missing: what needs it is skipped there, and says so."""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from nblstm.errors import DeviceError

MISSING = importlib.util.find_spec("numba") is None
REASON = "numba is not installed"


class _Skipping:
    """Stands for a module that cannot be imported: whoever asks it for anything is skipped."""

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __getattr__(self, name: str) -> Any:
        pytest.skip(REASON)


def asked_for(message: str) -> bool:
    """Tell whether an error says that numba is missing, and it is."""
    return MISSING and ("'numba'" in message or "'llvmlite'" in message)


@contextmanager
def skipped_without() -> Iterator[None]:
    """Skip what asks for numba where it is missing."""
    try:
        yield
    except (DeviceError, ImportError) as error:
        if not asked_for(str(error)):
            raise
        pytest.skip(REASON)


if MISSING:
    cpu: Any = _Skipping("nblstm.kernels.cpu")
else:
    from nblstm.kernels import cpu  # noqa: F401  for the tests
