# SPDX-License-Identifier: BSD-3-Clause
"""A proxy in front of an S3 server: it records what the server saw, and fails as a test says."""

import http.client
import threading
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self


@dataclass(frozen=True, slots=True)
class Fault:
    """What is done to a request: refused with a status and a code of S3, hung, garbled or cut."""

    status: int = 0
    code: str = ""
    is_hung: bool = False
    is_garbled: bool = False
    cut_after: int | None = None


@dataclass(slots=True)
class Seen:
    """A request in the order in which it came; ``n_ended`` counts the answers given before it."""

    method: str
    key: str
    n_ended: int
    status: int = 0


Rule = Callable[[str, str], Fault | None]
HANG = Fault(is_hung=True)


class S3Proxy:
    """An HTTP server that passes requests on to an S3 server.

    ``rule`` is asked with method and key (bucket first) of each request before it is passed on.
    """

    def __init__(self, endpoint: str, rule: Rule = lambda method, key: None) -> None:
        self.rule = rule
        self.seen: list[Seen] = []
        self.changed = threading.Condition()
        self.closing = threading.Event()
        self._behind = urllib.parse.urlsplit(endpoint).netloc
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.proxy = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def endpoint(self) -> str:
        """Address of the proxy."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def wait_for(self, methods: str, text: str, *, timeout_s: float = 30) -> None:
        """Wait until a request was seen with one of these methods and text in its key."""
        with self.changed:
            found = self.changed.wait_for(lambda: self.has_seen(methods, text), timeout_s)
        assert found, f"no {methods} of {text!r} among {self.seen}"

    def has_seen(self, methods: str, text: str) -> bool:
        """Whether there was a request with one of these methods and text in its key."""
        return any(s.method in methods and text in s.key for s in self.seen)

    def of(self, method: str) -> list[Seen]:
        """The requests seen with this method."""
        with self.changed:
            return [seen for seen in self.seen if seen.method == method]

    def note(self, method: str, key: str) -> Seen:
        """Record a request that has come."""
        with self.changed:
            seen = Seen(method, key, sum(s.status != 0 for s in self.seen))
            self.seen.append(seen)
            self.changed.notify_all()
            return seen

    def forward(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[http.client.HTTPResponse, bytes]:
        """Ask the server behind."""
        connection = http.client.HTTPConnection(self._behind, timeout=60)
        try:
            connection.request(method, path, body or None, headers)
            response = connection.getresponse()
            return response, response.read()
        finally:
            connection.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64
    proxy: S3Proxy


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def _pass_on(self) -> None:
        proxy = self.server.proxy
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        key = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path.lstrip("/"))
        seen = proxy.note(self.command, key)
        fault = proxy.rule(self.command, key)
        if fault is not None and fault.is_hung:
            proxy.closing.wait(120)
            self.close_connection = True
            return
        if fault is not None and fault.is_garbled:
            self.wfile.write(b"220 this is no service of S3\r\n")
            self.close_connection = True
            return
        if fault is not None and fault.status:
            self._refuse(fault)
            seen.status = fault.status
            return
        response, content = proxy.forward(self.command, self.path, dict(self.headers), body)
        self._answer(response, content, fault)
        seen.status = response.status

    def _refuse(self, fault: Fault) -> None:
        content = f"<Error><Code>{fault.code}</Code><Message>said no</Message></Error>".encode()
        self.send_response(fault.status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", "0" if self.command == "HEAD" else str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _answer(
        self, response: http.client.HTTPResponse, content: bytes, fault: Fault | None
    ) -> None:
        self.send_response_only(response.status)
        for name, value in response.getheaders():
            if name.lower() not in ("connection", "transfer-encoding"):
                self.send_header(name, value)
        if response.getheader("Content-Length") is None:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault is not None and fault.cut_after is not None and len(content) > fault.cut_after:
            self.wfile.write(content[: fault.cut_after])
            self.close_connection = True
            return
        self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass_on

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""
