# SPDX-License-Identifier: BSD-3-Clause
"""The password of the central registry: every place it may come from, and that it shows nowhere."""

import json
import os
import traceback
from pathlib import Path

import psycopg
import pytest

from merger.central_registry import CentralRegistry
from merger.database_address import DatabaseAddress, NoPasswordError
from merger.exit_codes import ExitCode
from merger.failures import exit_code_of
from merger.settings import SettingsError, database_address, read_config
from tests.own_postgres import OwnPostgres
from tests.refusals import call, check_refused

SECRET = "hidden-word"
OTHERS = ("PGPASSWORD", "PGSERVICE", "PGUSER", "PGSERVICEFILE", "LSST_DB_AUTH_CREDENTIALS")


@pytest.fixture(autouse=True)
def nothing_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only what a test says."""
    for name in OTHERS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "no-pgpass"))
    monkeypatch.setenv("LSST_DB_AUTH", str(tmp_path / "no-db-auth.yaml"))


@pytest.fixture
def address(password_postgres: OwnPostgres) -> str:
    """Where the server is, with a user and without a password."""
    return f"postgresql://merger@127.0.0.1:{password_postgres.port}/survey"


def write_private(path: Path, text: str) -> str:
    """Write a file that only its owner can read."""
    path.write_text(text)
    path.chmod(0o600)
    return str(path)


def entry(port: int, password: str = SECRET, **more: str) -> dict[str, str]:
    """An entry of db-auth."""
    return {"url": f"postgresql://127.0.*:{port}/sur*", "password": password, **more}


def who(address: DatabaseAddress) -> str:
    """Connect, and return the role."""
    with address.connect() as connection:
        ((role,),) = connection.execute("SELECT current_user").fetchall()
        assert SECRET not in f"{connection!r} {connection.info.dsn} {address!r} {address}"
        return str(role)


def plain(address: str) -> DatabaseAddress:
    """An address given as option."""
    return database_address(address, read_config(None))


def test_private_configuration_file(address: str, tmp_path: Path) -> None:
    url = address.replace("merger@", f"merger:{SECRET}@")
    path = write_private(tmp_path / "c.yaml", f"database: {url}\n")
    assert who(database_address(None, read_config(Path(path)))) == "merger"


def test_pgpass(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_private(tmp_path / "pgpass", f"127.0.0.1:*:*:merger:{SECRET}\n")
    monkeypatch.setenv("PGPASSFILE", path)
    # db-auth is not asked: libpq has one already.
    monkeypatch.setenv("LSST_DB_AUTH_CREDENTIALS", "no JSON")
    found = plain(address)
    assert (who(found), found.source) == ("merger", "libpq")


def test_password_of_the_environment(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", SECRET)
    assert who(plain(address)) == "merger"


def write_services(
    server: OwnPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *more: str
) -> None:
    lines = ["[registry]", "host=127.0.0.1", f"port={server.port}", "dbname=survey", *more]
    monkeypatch.setenv("PGSERVICEFILE", write_private(tmp_path / "services", "\n".join(lines)))


def test_service(
    password_postgres: OwnPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = ("user=merger", f"password={SECRET}")
    write_services(password_postgres, tmp_path, monkeypatch, *more)
    assert who(plain("service=registry")) == "merger"


def test_db_auth_file(
    password_postgres: OwnPostgres, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = password_postgres.port
    entries = [entry(port + 1, "another"), entry(port, username="merger"), entry(port, "later")]
    path = write_private(tmp_path / "db-auth.yaml", json.dumps(entries))
    monkeypatch.setenv("LSST_DB_AUTH", path)
    found = plain(address)
    assert (who(found), found.source) == ("merger", f"db-auth ({path})")
    # The name of the user may come from there as well, and so may it for a service.
    assert who(plain(address.replace("merger@", ""))) == "merger"
    write_services(password_postgres, tmp_path, monkeypatch)
    assert who(plain("service=registry")) == "merger"


def test_db_auth_in_the_environment_wins(
    password_postgres: OwnPostgres, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = password_postgres.port
    path = write_private(tmp_path / "db-auth.yaml", json.dumps([entry(port, "wrong")]))
    monkeypatch.setenv("LSST_DB_AUTH", path)
    monkeypatch.setenv("LSST_DB_AUTH_CREDENTIALS", json.dumps([entry(port)]))
    found = plain(address)
    assert (who(found), found.source) == ("merger", "db-auth (LSST_DB_AUTH_CREDENTIALS)")


def test_db_auth_that_changes_is_read_again(
    password_postgres: OwnPostgres, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = plain(address)
    for password in (SECRET, "hidden-words"):
        with psycopg.connect(password_postgres.address()) as superuser:
            superuser.execute(f"ALTER ROLE merger PASSWORD '{password}'".encode())
        monkeypatch.setenv(
            "LSST_DB_AUTH_CREDENTIALS", json.dumps([entry(password_postgres.port, password)])
        )
        assert who(found) == "merger"
    with psycopg.connect(password_postgres.address()) as superuser:
        superuser.execute(f"ALTER ROLE merger PASSWORD '{SECRET}'".encode())


def test_no_password_found(address: str, tmp_path: Path) -> None:
    with pytest.raises(NoPasswordError) as caught:
        who(plain(address))
    assert str(caught.value) == (
        "database 'survey' at '127.0.0.1' of user 'merger' asks for a password: expected one from "
        "PGPASSWORD, ~/.pgpass, a service file, a private --config or db-auth, found none "
        f"(db-auth: {tmp_path}/no-db-auth.yaml, which is not there)"
    )
    done = call(tmp_path, "init", "--database", address, module="merger.cli")
    text = "asks for a password: expected one from"
    check_refused(done, ExitCode.NOT_PERMITTED, text, program="registry-merge")


def test_db_auth_that_others_can_read(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_private(tmp_path / "db-auth.yaml", json.dumps([entry(1)]))
    os.chmod(path, 0o640)
    monkeypatch.setenv("LSST_DB_AUTH", path)
    with pytest.raises(SettingsError, match="found mode 0640; run chmod 600"):
        who(plain(address))
    done = call(tmp_path, "init", "--database", address, module="merger.cli")
    check_refused(done, ExitCode.USAGE, "holds a password", path, program="registry-merge")


WRONG = "wrong-hidden-word"


@pytest.mark.parametrize("place", ["PGPASSWORD", "config", "db-auth"])
@pytest.mark.parametrize("command", [["init"], ["migrate"], ["merge", "file:///x", "u/x"]])
def test_wrong_password_shows_nowhere(
    password_postgres: OwnPostgres, address: str, tmp_path: Path, place: str, command: list[str]
) -> None:
    words, environment = [*command, "--json"], {}
    if place == "config":
        url = address.replace("merger@", f"merger:{WRONG}@")
        path = write_private(tmp_path / "c.yaml", f"database: {url}\n")
        words += ["--config", path]
    else:
        words += ["--database", address]
    if place == "PGPASSWORD":
        environment = {"PGPASSWORD": WRONG}
    if place == "db-auth":
        listed = json.dumps([entry(password_postgres.port, WRONG)])
        environment = {"LSST_DB_AUTH_CREDENTIALS": listed}
    if command[0] == "merge":
        words[1] = tmp_path.as_uri()
    done = call(tmp_path, *words, module="merger.cli", **environment)
    assert WRONG not in done.stdout + done.stderr
    if command[0] != "merge":  # which asks the datastore first
        assert done.returncode == ExitCode.NOT_PERMITTED
        assert json.loads(done.stdout)["exit_code"] == ExitCode.NOT_PERMITTED
        assert 'password authentication failed for user "merger"' in done.stderr


def test_a_server_that_refuses_in_another_language(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No SQLSTATE comes with a refusal, only a text."""
    monkeypatch.setenv("PGPASSWORD", WRONG)
    with pytest.raises(psycopg.OperationalError) as caught:
        who(plain(address))
    caught.value.args = ("FATAL:  Passwort-Authentifizierung für Benutzer »merger« fehlgeschlagen",)
    assert exit_code_of(caught.value) == ExitCode.NOT_PERMITTED
    caught.value.args = ("FATAL:  sorry, too many clients already",)
    assert exit_code_of(caught.value) == ExitCode.UNAVAILABLE


@pytest.mark.parametrize(
    "broken", [{"port": WRONG}, {"sslmode": WRONG}, {"connect_timeout": WRONG}, {"options": WRONG}]
)
def test_an_error_of_libpq_that_quotes_the_secret(address: str, broken: dict[str, str]) -> None:
    """The same word in two places: libpq quotes the one that it does not understand."""
    keywords = {"host": "127.0.0.1", "dbname": "survey", "password": WRONG, **broken}
    with pytest.raises(psycopg.Error) as caught:
        DatabaseAddress(keywords).connect()
    told = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert WRONG not in told.replace(f"{broken!r}", "")


def test_registry_keeps_it_to_itself(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", SECRET)
    with CentralRegistry(plain(address)) as registry:
        assert registry.read_snapshot is not None
        assert SECRET not in repr(vars(registry))
