# SPDX-License-Identifier: BSD-3-Clause
"""TLS before a PostgreSQL server that was built without it."""

import datetime
import selectors
import socket
import ssl
import struct
import threading
from contextlib import suppress
from pathlib import Path

_TLS_REQUEST = struct.pack("!II", 8, 80877103)


def make_certificate(directory: Path) -> Path:
    """Make a certificate for localhost, signed by itself; returns the file with it and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    path = directory / "server.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


class TlsFront:
    """Listens on TCP, takes TLS connections only, and passes what they say to the server.

    ``n_encrypted`` counts connections that asked for TLS, ``n_plain`` those that did not.
    """

    def __init__(self, server_port: int, certificate: Path) -> None:
        self._server_port = server_port
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.n_encrypted = self.n_plain = 0
        self._clients: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Accept no more connections."""
        self._listener.close()

    def cut(self) -> None:
        """Cut every connection that there is."""
        for client in self._clients:
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        self._clients.clear()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError), client:
            if not self._asks_for_tls(client):
                self.n_plain += 1
                return
            self.n_encrypted += 1
            with self._context.wrap_socket(client, server_side=True) as encrypted:
                self._clients.append(encrypted)
                with socket.create_connection(("127.0.0.1", self._server_port)) as server:
                    _pass_on(encrypted, server)

    def _asks_for_tls(self, client: socket.socket) -> bool:
        """In the way of PostgreSQL; other protocols have other ways."""
        if client.recv(8, socket.MSG_WAITALL) != _TLS_REQUEST:
            return False
        client.sendall(b"S")
        return True


def _pass_on(client: ssl.SSLSocket, server: socket.socket) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(client, selectors.EVENT_READ, server)
        selector.register(server, selectors.EVENT_READ, client)
        while True:
            for key, _ in selector.select():
                source, target = key.fileobj, key.data
                assert isinstance(source, socket.socket)
                received = source.recv(1 << 16)
                if isinstance(source, ssl.SSLSocket):
                    # What is decrypted already does not make the socket readable again.
                    received += source.recv(source.pending()) if source.pending() else b""
                if not received:
                    return
                target.sendall(received)
