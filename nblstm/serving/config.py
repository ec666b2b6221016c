"""How a model is served."""

from __future__ import annotations

from dataclasses import dataclass

from nblstm.config import BACKENDS
from nblstm.config.checks import MAX_COUNT, Config, above_zero, at_least, at_most, check_types, one_of


@dataclass(frozen=True)
class ServeConfig(Config):
    """Where a server listens, and how much it takes on."""

    host: str = "127.0.0.1"  # the address it listens at; 127.0.0.1 can be reached from this machine alone
    port: int = 8080  # 0: any that is free
    max_tokens: int = 65_536  # of one request, of all its texts together
    queue: int = 64  # requests at once; they share the machine, and more are asked to come back
    connections: int = 256  # clients at once
    max_body: int = 1 << 20  # bytes of a request
    timeout: float = 20.0  # seconds that a client may take to send a request, or to take in a piece of an answer
    backend: str = "auto"  # numpy | cpu | cuda | auto: the fastest there is

    def __post_init__(self) -> None:
        check_types(self)
        at_least(self, 0, "port")
        at_most(self, 65_535, "port")
        at_least(self, 1, "max_tokens", "queue", "connections", "max_body")
        at_most(self, MAX_COUNT, "max_tokens", "max_body")
        at_most(self, 10_000, "queue", "connections")
        above_zero(self, "timeout")
        at_most(self, 86_400, "timeout")
        one_of(self, "backend", BACKENDS)
