# SPDX-License-Identifier: BSD-3-Clause
"""RDS IAM: a new token for every connection, over TLS, and in no text.

The tokens are signed by boto3; a role of a real server gets each as its password, as RDS would
take it, and the one before is worth nothing from then on.
"""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from merger import schema
from merger.central_registry import CentralRegistry
from merger.database_address import DatabaseAddress
from merger.settings import SettingsError, database_address, read_config
from tests.own_postgres import OwnPostgres
from tests.tls_front import TlsFront, make_certificate
from transfer_plugins import database_token
from transfer_plugins.object_store import TransferRefusedError

REGION = "eu-west-1"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate that signs itself."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def front(password_postgres: OwnPostgres, certificate: Path) -> Iterator[TlsFront]:
    """The server, with TLS."""
    front = TlsFront(password_postgres.port, certificate)
    yield front
    front.close()


@pytest.fixture
def tokens(
    password_postgres: OwnPostgres, s3_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """The tokens that were made so far; the newest is the password of the role."""
    made: list[str] = []
    sign = database_token.make_token

    def signed(host: str, port: int, user: str, region: str | None) -> str:
        token = f"{sign(host, port, user, region)}&number={len(made)}"
        with psycopg.connect(password_postgres.address()) as superuser:
            superuser.execute(f"ALTER ROLE merger PASSWORD '{token}'".encode())
        made.append(token)
        return token

    monkeypatch.setattr(database_token, "make_token", signed)
    return made


def address(tmp_path: Path, port: int, *more: str) -> DatabaseAddress:
    """As a configuration file says it; it may be read by all."""
    lines = [f"database: postgresql://merger@127.0.0.1:{port}/survey", "rds_iam: true"]
    path = tmp_path / "config.yaml"
    path.write_text("\n".join([*lines, f"rds_region: {REGION}", *more]))
    path.chmod(0o644)
    return database_address(None, read_config(path))


def test_a_token_for_every_connection(tmp_path: Path, front: TlsFront, tokens: list[str]) -> None:
    found = address(tmp_path, front.port)
    for number in (1, 2, 3):
        with found.connect() as connection:
            assert connection.execute("SELECT current_user").fetchone() == ("merger",)
            assert not any(t in f"{connection!r}{connection.info.dsn}{found!r}" for t in tokens)
        assert len(tokens) == number
    assert len(set(tokens)) == 3
    assert all(f"/{REGION}/rds-db/aws4_request".replace("/", "%2F") in t for t in tokens)
    assert (front.n_encrypted, front.n_plain) == (3, 0)
    assert found.source == "RDS IAM token"


def test_a_lost_connection_gets_a_new_one(
    tmp_path: Path, front: TlsFront, tokens: list[str]
) -> None:
    found = address(tmp_path, front.port)
    schema.create(found)
    with CentralRegistry(found) as registry:
        registry.transact(lambda cursor: None)
        registry.transact(lambda cursor: None)
        assert len(tokens) == 2, "one for the tables, one for the registry"
        front.cut()
        registry.transact(lambda cursor: None)
    assert len(tokens) == 3


def test_never_without_encryption(
    tmp_path: Path, password_postgres: OwnPostgres, tokens: list[str]
) -> None:
    with pytest.raises(psycopg.OperationalError, match="SSL was required") as caught:
        address(tmp_path, password_postgres.port).connect()
    assert not any(token in str(caught.value) for token in tokens)


def test_with_a_certificate_that_is_verified(
    front: TlsFront, tokens: list[str], certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What address and environment say of TLS stands."""
    monkeypatch.setenv("PGSSLROOTCERT", str(certificate))
    keywords = {"port": str(front.port), "user": "merger", "dbname": "survey"}
    keywords["sslmode"] = "verify-full"
    named = DatabaseAddress({**keywords, "host": "localhost"}, rds_iam=True, rds_region=REGION)
    with named.connect() as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("merger",)
    other = DatabaseAddress({**keywords, "host": "127.0.0.1"}, rds_iam=True, rds_region=REGION)
    with pytest.raises(psycopg.OperationalError, match="does not match host name") as caught:
        other.connect()
    assert not any(token in str(caught.value) for token in tokens)


def test_an_expired_token_shows_nowhere(
    tmp_path: Path, front: TlsFront, s3_environment: dict[str, str]
) -> None:
    with pytest.raises(psycopg.OperationalError, match="authentication failed") as caught:
        address(tmp_path, front.port).connect()
    assert "X-Amz-Signature" not in repr(caught.value)


def test_no_credentials(tmp_path: Path, front: TlsFront, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    database_token._client.cache_clear()
    with pytest.raises(TransferRefusedError, match=r"no RDS IAM token for user 'merger'.*credent"):
        address(tmp_path, front.port).connect()
    database_token._client.cache_clear()


def test_what_may_stand_in_the_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="rds_iam: expected true or false"):
        (tmp_path / "c.yaml").write_text("rds_iam: 1\n")
        read_config(tmp_path / "c.yaml")
