"""Handler: what one client sends, and what it is answered, request by request.

Nothing that comes is believed: the bytes of a head and of a body are limited, and the time for each; the Host must be an
address or a name of this machine (or else a page of another site, whose name now leads here, could ask); and a body must
say that it is JSON, which such a page may not send without leave.
"""

from __future__ import annotations

import contextlib
import io
import socket
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from itertools import chain
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from nblstm.errors import NblstmError, NonFiniteError
from nblstm.serving.completion import Completion, Turn
from nblstm.serving.page import POLICY
from nblstm.serving.protocol import (
    CompletionRequest,
    Piece,
    RequestError,
    choice_object,
    joined,
    new_id,
    parse_json,
    parse_request,
    to_json,
    unavailable,
    usage_object,
)

if TYPE_CHECKING:
    from nblstm.serving.server import CompletionServer

MAX_HEAD = 1 << 16  # bytes of a request line and the headers
LINGER_SECONDS, LINGER_BYTES = 1.0, 1 << 22  # what is read of a refused request, so that its client hears why
STOPPED = "the server is being stopped; ask again later.", "stopped"
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Content-Security-Policy": POLICY,
}


class _TooMuch(Exception):
    """More bytes than are allowed."""


class _Gone(Exception):
    """The client has closed its connection."""


class _Incoming(io.RawIOBase):
    """What a client sends, for so many seconds and bytes. TimeoutError, _TooMuch."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.allow(0, 0)

    def allow(self, seconds: float, count: int) -> None:
        """Set what may come from now on."""
        self.deadline, self.left = time.monotonic() + seconds, count

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        seconds = self.deadline - time.monotonic()
        if seconds <= 0:
            raise TimeoutError
        if self.left <= 0:
            raise _TooMuch
        self.connection.settimeout(seconds)
        count = self.connection.recv_into(memoryview(buffer)[: self.left])
        self.left -= count
        return count


class Handler(BaseHTTPRequestHandler):
    """One client: its requests one after the other."""

    server: CompletionServer
    protocol_version, server_version = "HTTP/1.1", "nblstm"
    disable_nagle_algorithm = True
    _headers_buffer: list[bytes]

    def version_string(self) -> str:
        """Return the name of the server, and no version."""
        return self.server_version

    def setup(self) -> None:
        """Put limits on what is read."""
        super().setup()
        self.incoming = _Incoming(self.connection)
        self.rfile.close()
        self.rfile = io.BufferedReader(self.incoming)

    def handle(self) -> None:
        """Answer requests until either side has enough."""
        self.close_connection, self.unread = False, False
        with contextlib.suppress(OSError, _Gone, _TooMuch):
            while not self.close_connection:
                self.handle_one_request()
        if self.unread:  # to close a connection with unread bytes would take the answer away
            with contextlib.suppress(OSError, _TooMuch):
                self.connection.shutdown(socket.SHUT_WR)
                self.incoming.allow(LINGER_SECONDS, LINGER_BYTES)
                while self.rfile.read(1 << 16):
                    pass

    def handle_one_request(self) -> None:
        """Read a request and answer it."""
        seconds, self.streams, self.status, self.expects = self.server.config.timeout, False, 0, False
        self.requestline = self.command = self.path = ""
        self.request_version = "HTTP/1.1"
        self.incoming.allow(seconds, MAX_HEAD)
        self.raw_requestline = self.rfile.readline(MAX_HEAD)  # the time up to here is a pause between two requests
        started = time.monotonic()
        if not self.raw_requestline:
            self.close_connection = True
            return
        with self.server.busy(self.connection):
            try:
                self._answer()
            except RequestError as error:
                self._refuse(error)
            except TimeoutError:
                rule = f"a request must come within {seconds:g} seconds"
                self._refuse(RequestError(408, f"{rule}; this one did not.", code="timeout"))
            except _TooMuch:
                self._refuse(RequestError(431, f"a head must be at most {MAX_HEAD:,} bytes.", code="too_large"))
            except NonFiniteError as error:
                self._refuse(RequestError(500, str(error), code="model_error"))
            except NblstmError as error:
                self._refuse(RequestError(400, str(error)))
            except (OSError, _Gone):  # the client is
                self.close_connection, self.status = True, self.status or 499
            except Exception as error:
                self._refuse(RequestError(500, f"this is a fault of the server: {type(error).__name__}: {error}"))
        took = time.monotonic() - started
        line = f"{self.client_address[0]} {self.requestline[:200]} {self.status} {took:.2f} s"
        with contextlib.suppress(Exception):
            self.server.on_message(line)

    def _answer(self) -> None:
        if not self.raw_requestline.endswith(b"\n"):
            raise _TooMuch
        self.incoming.allow(self.server.config.timeout, MAX_HEAD)
        if not self.parse_request():  # has been answered by `send_error`
            return
        if self.request_version == "HTTP/0.9":
            raise RequestError(505, "the version of HTTP must be 1.0 or 1.1.")
        self.unread = "Transfer-Encoding" in self.headers or self.headers.get("Content-Length", "0") != "0"
        if self.server.stopping:
            self.close_connection = True
        hosts = self.headers.get_all("Host") or []
        if len(hosts) > 1 or (not hosts and self.request_version != "HTTP/1.0"):
            raise RequestError(400, "a request must have one Host header.", code="bad_host")
        if hosts and not self.server.knows_host(hosts[0]):
            raise RequestError(
                403, f"the Host {hosts[0][:80]!r} is not this server's; ask it by its address.", code="bad_host"
            )
        self._route()

    def _route(self) -> None:
        try:
            path = unquote(urlsplit(self.path).path)
        except ValueError:
            raise RequestError(400, "the path of the request cannot be read.") from None
        name, owner = self.server.name, "nblstm"
        model = {"id": name, "object": "model", "created": self.server.created, "owned_by": owner}
        answers: dict[str, Callable[[], None]] = {
            "/": lambda: self._send(200, self.server.page, "text/html; charset=utf-8"),
            "/health": lambda: self._send_json(200, {"status": "ok"}),
            "/v1/models": lambda: self._send_json(200, {"object": "list", "data": [model]}),
            f"/v1/models/{name}": lambda: self._send_json(200, model),
            "/v1/completions": self._complete,
        }
        if path not in answers:
            hint = "; this model goes on with a text, ask /v1/completions" if path.endswith("/completions") else ""
            raise RequestError(404, f"there is no {path[:80]!r} here{hint}.", code="not_found")
        allowed = ("POST",) if path == "/v1/completions" else ("GET", "HEAD")
        if self.command not in allowed:
            self.allowed = ", ".join(allowed)
            raise RequestError(405, f"{path[:80]} takes {self.allowed}, not {self.command[:20]}.", code="bad_method")
        answers[path]()

    # ------------------------------------------------------------ completions

    def _complete(self) -> None:
        request = parse_request(parse_json(self._body()), self.server.name, self.server.backend)
        with self.server.admitted():
            texts = [Completion(self.server.model, request, prompt) for prompt in request.prompts]
            total, most = sum(text.most_tokens for text in texts), self.server.config.max_tokens
            if total > most:
                rule = f"max_tokens must be at most {most:,} for all texts of a request together"
                raise RequestError(400, f"{rule}, got {total:,}.", "max_tokens")
            facts = {
                "id": new_id(),
                "object": "text_completion",
                "created": int(time.time()),
                "model": self.server.name,
                "system_fingerprint": self.server.model.fingerprint,
                "seed": request.sampling.seed,
            }
            unknown = [token for prompt in request.prompts for token in self.server.model.vocabulary.unknown(prompt)]
            if unknown:
                shown = ", ".join(map(repr, dict.fromkeys(unknown[:10])))
                facts["warnings"] = [f"the model has never seen {shown} of the prompt; it reads <unk> instead."]
            (self._stream if request.stream else self._send_whole)(request, texts, facts)

    def _pieces(self, request: CompletionRequest, texts: list[Completion]) -> Iterator[Piece]:
        """Yield the pieces of all texts, which are numbered through all prompts."""
        for number, text in enumerate(texts):
            for piece in text.pieces(self._turn):
                yield piece._replace(choice=piece.choice + number * request.sampling.num_samples)

    def _send_whole(self, request: CompletionRequest, texts: list[Completion], facts: dict[str, Any]) -> None:
        choices = joined(self._pieces(request, texts), request.logprobs is not None)
        self._send_json(200, {**facts, "choices": choices, "usage": _usage(texts)})

    def _stream(self, request: CompletionRequest, texts: list[Completion], facts: dict[str, Any]) -> None:
        """Send each piece as an event, as soon as it is there."""
        pieces = self._pieces(request, texts)
        first = next(pieces)  # what goes wrong before is answered with its status
        self.status, self.chunked = 200, self.request_version != "HTTP/1.0"
        self.send_response(200)
        self._send_headers({"Content-Type": "text/event-stream; charset=utf-8"})
        if self.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.close_connection = True
        self._end_headers()
        self.streams = True
        for piece in chain([first], pieces):
            tokens = None if request.logprobs is None else piece.tokens
            self._event({**facts, "choices": [choice_object(piece.choice, piece.text, tokens, piece.finish)]})
        if request.usage:
            self._event({**facts, "choices": [], "usage": _usage(texts)})
        self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")

    def _event(self, value: Any) -> None:
        self._chunk(b"data: " + to_json(value) + b"\n\n")

    def _chunk(self, data: bytes) -> None:
        """Send a part of a stream; the empty one ends it."""
        self._write(b"%x\r\n%s\r\n" % (len(data), data) if self.chunked else data)

    @property
    def _turn(self) -> Turn:
        """A turn of work. _Gone where the client is, RequestError where the server is stopped."""

        @contextlib.contextmanager
        def turn() -> Iterator[None]:
            self._check_here()
            with self.server.slots:
                if self.server.cut.is_set():
                    raise unavailable(*STOPPED)
                yield

        return turn

    def _check_here(self) -> None:
        """Raise _Gone if the client has closed its connection."""
        self.connection.setblocking(False)
        try:
            if not self.connection.recv(1, socket.MSG_PEEK):
                raise _Gone
        except BlockingIOError:
            pass
        except OSError:
            raise _Gone from None

    # ------------------------------------------------------------ what comes and goes

    def handle_expect_100(self) -> bool:
        """Wait with the invitation until the headers have been looked at."""
        self.expects = True
        return True

    def _body(self) -> bytes:
        """Read the body of a request. RequestError if it is not JSON by its type, or too long."""
        kind = self.headers.get_content_type() if self.headers.get("Content-Type") else "none"
        if kind != "application/json":
            raise RequestError(415, f"the Content-Type must be application/json, got {kind[:60]}.", code="bad_type")
        lengths = self.headers.get_all("Content-Length") or []
        if "Transfer-Encoding" in self.headers or len(lengths) != 1:
            raise RequestError(411, "there must be one Content-Length, and no Transfer-Encoding.", code="no_length")
        if not (lengths[0].isascii() and lengths[0].isdigit()):
            raise RequestError(400, f"the Content-Length must be a number, got {lengths[0][:20]!r}.", code="no_length")
        most, said = self.server.config.max_body, lengths[0][:20]
        if len(said) > 18 or int(said) > most:
            raise RequestError(413, f"the body must be at most {most:,} bytes, got {said}.", code="too_large")
        if self.expects:
            self._write(b"HTTP/1.1 100 Continue\r\n\r\n")
        length = int(lengths[0])
        self.incoming.allow(self.server.config.timeout, length + io.DEFAULT_BUFFER_SIZE)
        body = self.rfile.read(length)
        if len(body) < length:
            raise _Gone
        self.unread = False
        return body

    def _send_json(self, status: int, value: Any) -> None:
        self._send(status, to_json(value), "application/json")

    def _send(self, status: int, body: bytes, kind: str, **headers: str) -> None:
        """Send a whole answer."""
        self.status = status
        self.send_response(status)
        self._send_headers({"Content-Type": kind, "Content-Length": str(len(body)), **headers})
        self._end_headers(b"" if self.command == "HEAD" else body)

    def _send_headers(self, headers: dict[str, str]) -> None:
        self.close_connection |= self.unread
        if self.close_connection:
            headers["Connection"] = "close"
        for name, value in {**headers, **HEADERS}.items():
            self.send_header(name, value)

    def _end_headers(self, body: bytes = b"") -> None:
        """Send the headers, and the body with them."""
        head = b"".join(self._headers_buffer)
        self._headers_buffer = []
        self._write(head + b"\r\n" + body)

    def _write(self, data: bytes) -> None:
        try:
            self.connection.settimeout(self.server.config.timeout)  # of all of it
            self.connection.sendall(data)
        except OSError:
            raise _Gone from None

    def _refuse(self, error: RequestError) -> None:
        """Send an error: as an answer, or where one has begun as its last event."""
        self.status = error.status
        with contextlib.suppress(_Gone):
            if self.streams:
                self.close_connection = True
                self._event(error.to_dict())
                self._chunk(b"")
                return
            self.close_connection |= error.param is None  # all is well but for a field of the request
            extra = {"Retry-After": "1"} if error.status == 503 else {}
            if error.status == 405:
                extra["Allow"] = self.allowed
            self._headers_buffer = []
            self._send(error.status, to_json(error.to_dict()), "application/json", **extra)
            return
        self.close_connection = True

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what is no request at all."""
        self.request_version, self.unread = "HTTP/1.1", True
        self._refuse(RequestError(int(code), f"{message or 'this is no request of HTTP'}.", code="bad_request"))

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing: `handle_one_request` does."""


def _usage(texts: list[Completion]) -> dict[str, int]:
    return usage_object(sum(text.prompt_tokens for text in texts), sum(text.completion_tokens for text in texts))
