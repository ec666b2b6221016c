"""Server: one model behind HTTP, for many clients at once; the standard library alone.

Every client has a thread, which sends and waits; what computes takes turns of some 20 ms, as many at once as there are
cores. So all requests get on together, none waits for another's end, and a client that reads slowly holds up nobody.
What a text is depends on its request alone.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

from nblstm.errors import NblstmError
from nblstm.kernels import fastest
from nblstm.kernels.threads import available
from nblstm.nn.decoder import check_writes
from nblstm.serving.config import ServeConfig
from nblstm.serving.handler import Handler
from nblstm.serving.page import served_page
from nblstm.serving.protocol import to_json, unavailable
from nblstm.tasks.language.model import LanguageModel

GRACE = 1.5  # seconds that requests in flight may still take when the server stops
LAST = 0.5  # seconds more in which they are told that it has stopped
LOCAL = ("localhost", "ip6-localhost")
OVERLOADED = "the server has as many requests as it takes at once; try again in a moment.", "overloaded"


class CompletionServer(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """A server of one model. It listens from now on; `serve_forever` answers, `stop` ends.

        with CompletionServer(nblstm.load("model.safetensors"), "model", ServeConfig()) as server:
            server.serve_forever()

    name: of the model, as clients know it. on_message: called with a sentence for each answer, from any thread.
    ConfigError for a model that cannot write, NblstmError where the address cannot be had.
    """

    daemon_threads, block_on_close, request_queue_size = True, False, 128

    def __init__(
        self, model: LanguageModel, name: str, config: ServeConfig, on_message: Callable[[str], None] = lambda line: None
    ) -> None:  # fmt: skip
        check_writes(model.config)
        self.model, self.name, self.config, self.on_message = model, name, config, on_message
        self.backend = fastest() if config.backend == "auto" else config.backend
        self.created, self.page = int(time.time()), served_page(model, name)
        self.slots, self.cut, self.stopping = threading.Semaphore(available()), threading.Event(), False
        self._lock = threading.Condition()
        self._connections: set[socket.socket] = set()
        self._busy: set[socket.socket] = set()  # those with a request in flight
        self._completions = 0
        model.generate_many(n=2, seed=0, backend=self.backend)  # what is compiled is compiled before the first client
        family, address = _address(config.host, config.port)
        self.address_family = family
        self.allow_reuse_address = hasattr(socket, "AF_UNIX")  # elsewhere it would share a port that is taken
        try:
            super().__init__(address, Handler)
        except OSError as error:
            where = f"port {config.port} of {config.host}"
            raise NblstmError(f"{where} cannot be had: {error.strerror or error}; choose another port.") from None

    @property
    def port(self) -> int:
        """The port that it listens at."""
        return self.server_address[1]

    @property
    def url(self) -> str:
        """The address of its page."""
        host = f"[{self.config.host}]" if ":" in self.config.host else self.config.host
        return f"http://{host}:{self.port}/"

    @property
    def is_local(self) -> bool:
        """Whether it can be reached from this machine alone."""
        return ipaddress.ip_address(str(self.server_address[0]).partition("%")[0]).is_loopback

    def knows_host(self, host: str) -> bool:
        """Tell whether a Host header names this machine by an address, localhost, or the host of the config."""
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
            urlsplit(f"//{host}").port  # noqa: B018
            if name in LOCAL or name == self.config.host.lower():
                return True
            return bool(ipaddress.ip_address(name.partition("%")[0]))
        except ValueError:
            return False

    # ------------------------------------------------------------ connections

    def process_request(self, request: Any, client_address: Any) -> None:
        """Give a client a thread, or refuse it where there are too many."""
        with self._lock:
            full = len(self._connections) >= self.config.connections
            if not full:
                self._connections.add(request)
        if not full:
            return super().process_request(request, client_address)
        with contextlib.suppress(OSError):
            request.setblocking(False)
            body = to_json(unavailable(*OVERLOADED).to_dict())
            head = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: close\r\n"
            request.send(f"{head}Retry-After: 1\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        self.shutdown_request(request)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection and forget it."""
        with self._lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a connection that breaks is its client's affair, and errors of a request are answered."""

    @contextlib.contextmanager
    def busy(self, connection: socket.socket) -> Iterator[None]:
        """Count a connection as one with a request in flight, for a block."""
        with self._lock:
            self._busy.add(connection)
        try:
            yield
        finally:
            with self._lock:
                self._busy.discard(connection)
                self._lock.notify_all()

    @contextlib.contextmanager
    def admitted(self) -> Iterator[None]:
        """Count a request that computes, for a block. RequestError where there are too many."""
        with self._lock:
            if self._completions >= self.config.queue:
                raise unavailable(*OVERLOADED)
            self._completions += 1
        try:
            yield
        finally:
            with self._lock:
                self._completions -= 1

    def stop(self) -> None:
        """Stop listening, give the requests in flight GRACE seconds, then end them. Call it when `serve_forever` is over."""
        self.stopping = True
        self.server_close()
        with self._lock:
            for connection in self._connections - self._busy:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RD)
            self._lock.wait_for(lambda: not self._busy, GRACE)
            self.cut.set()
            self._lock.wait_for(lambda: not self._busy, LAST)

    def __exit__(self, *args: object) -> None:
        """Stop at the end of a block."""
        self.stop()


def _address(host: str, port: int) -> tuple[socket.AddressFamily, Any]:
    """Find the family and the address to listen at. NblstmError if there is no such host."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise NblstmError(f"there is no address of host {host}: {reason}; name one of this machine.") from None
    return family, address
