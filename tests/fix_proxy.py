# SPDX-License-Identifier: BSD-3-Clause
"""A proxy before PostgreSQL that cuts connections where a test wants it."""

import enum
import selectors
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.fix_postgres import PostgresServer


class Cut(enum.Enum):
    """When a connection is cut."""

    BEFORE_COMMIT = "the server never sees the COMMIT"
    AFTER_COMMIT = "the server has committed, the client never learns it"


class PostgresProxy:
    """Listens on TCP and passes everything on to the socket of the server.

    ``cuts`` are used up one by one, each by the next COMMIT that a client sends.
    """

    def __init__(self, socket_path: str) -> None:
        self._socket_path = socket_path
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.cuts: list[Cut] = []
        self.n_cut = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Accept no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._socket_path)
            threading.Thread(target=self._pass_on, args=(client, server), daemon=True).start()

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        # Either side may be gone at any moment; then so is the other.
        with suppress(OSError), client, server, selectors.DefaultSelector() as selector:
            selector.register(client, selectors.EVENT_READ, (server, self._is_cut))
            selector.register(server, selectors.EVENT_READ, (client, lambda *_: False))
            while True:
                for key, _ in selector.select():
                    source = key.fileobj
                    assert isinstance(source, socket.socket)
                    received = source.recv(1 << 16)
                    target, is_cut = key.data
                    if not received or is_cut(received, target):
                        return
                    target.sendall(received)

    def _is_cut(self, received: bytes, server: socket.socket) -> bool:
        if b"COMMIT\0" not in received or not self.cuts:
            return False
        self.n_cut += 1
        if self.cuts.pop(0) is Cut.AFTER_COMMIT:
            server.sendall(received)
            # The answer says that the COMMIT is done; it stays here.
            answer = b""
            while b"COMMIT\0" not in answer:
                answer += server.recv(1 << 16)
        return True


MakeProxy = Callable[[str], tuple[PostgresProxy, str]]


@pytest.fixture
def make_proxy(postgres_server: PostgresServer) -> Iterator[MakeProxy]:
    """Return a function that gives a proxy for a database, and the URL that leads through it."""
    proxies = []

    def make(address: str) -> tuple[PostgresProxy, str]:
        parsed = conninfo_to_dict(address)
        proxy = PostgresProxy(f"{parsed['host']}/.s.PGSQL.5432")
        proxies.append(proxy)
        return proxy, f"postgresql://postgres@127.0.0.1:{proxy.port}/{parsed['dbname']}"

    yield make
    for proxy in proxies:
        proxy.close()
