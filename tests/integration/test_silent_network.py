# SPDX-License-Identifier: BSD-3-Clause
"""A network that is cut and says nothing ends a connection within minutes, or as a person says."""

import socket
from contextlib import closing
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from merger.database_address import DatabaseAddress, connect
from tests.fix_proxy import MakeProxy


def limits_of(address: str | DatabaseAddress) -> tuple[int, ...]:
    """What the kernel was told: keepalives, idle, interval, count; unanswered, in milliseconds."""
    with connect(address) as connection:
        with closing(socket.socket(fileno=socket.dup(connection.fileno()))) as found:
            tcp = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            return (
                found.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
                *(found.getsockopt(socket.IPPROTO_TCP, each) for each in tcp),
                found.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
            )


def test_ours_unless_somebody_says_otherwise(
    database: str, make_proxy: MakeProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, address = make_proxy(database)
    assert limits_of(address) == (1, 30, 10, 9, 120_000)
    words = {"host": "127.0.0.1", "port": str(proxy.port), "user": "postgres"}
    words["dbname"] = str(conninfo_to_dict(database)["dbname"])
    assert limits_of(DatabaseAddress(words)) == (1, 30, 10, 9, 120_000)
    assert limits_of(f"{address}?keepalives_idle=7&tcp_user_timeout=9000") == (1, 7, 10, 9, 9000)
    services = tmp_path / "services"
    lines = ["[registry]", "keepalives_count=4", *(f"{k}={v}" for k, v in words.items())]
    services.write_text("\n".join(lines))
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    assert limits_of(DatabaseAddress({"service": "registry"})) == (1, 30, 10, 4, 120_000)
