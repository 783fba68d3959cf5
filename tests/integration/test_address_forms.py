# SPDX-License-Identifier: BSD-3-Clause
"""Every form in which libpq takes an address, against a real server."""

import json
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

from merger import schema
from merger.settings import ConfigFile, database_address
from tests.own_postgres import OwnPostgres

FORMS = [
    "postgresql://postgres@127.0.0.1:{port}/survey",
    "postgres://postgres@127.0.0.1:{port}/survey",
    "postgresql+psycopg://postgres@127.0.0.1:{port}/survey",
    "postgresql+psycopg2://postgres@127.0.0.1:{port}/survey?sslmode=prefer",
    "postgresql://postgres@127.0.0.1:1,127.0.0.1:{port}/survey?target_session_attrs=read-write",
    "host=127.0.0.1,127.0.0.1 port=1,{port} user=postgres dbname=survey connect_timeout=5",
    "postgresql://postgres@{directory}:{port}/survey",
    "postgresql:///survey?host={directory}&port={port}&user=postgres",
    "postgresql:///survey?service=place",
    "service=place dbname=survey",
    "hostaddr=127.0.0.1 port={port} user='postgres' dbname = 'survey'",
]


def connect(server: OwnPostgres, form: str) -> psycopg.Connection:
    """Connect to an address of this form."""
    words = {"port": server.port, "directory": quote(str(server.directory), safe="")}
    return database_address(form.format(**words), ConfigFile()).connect()


@pytest.fixture(autouse=True)
def services(
    password_postgres: OwnPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service, and no passwords."""
    lines = ("[place]", "host=127.0.0.1", f"port={password_postgres.port}", "user=postgres")
    (tmp_path / "services").write_text("\n".join(lines))
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "none"))


@pytest.mark.parametrize("form", FORMS)
def test_form(password_postgres: OwnPostgres, form: str) -> None:
    with connect(password_postgres, form) as connection:
        found = connection.execute("SELECT current_user, current_database()").fetchone()
        named = connection.execute("SELECT current_setting('application_name')").fetchone()
    assert (found, named) == (("postgres", "survey"), ("registry-merge",))


def test_settings_of_the_environment(
    password_postgres: OwnPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"PGHOST": "127.0.0.1", "PGPORT": str(password_postgres.port), "PGUSER": "postgres"}
    for name, value in {**settings, "PGAPPNAME": "final job", "PGCONNECT_TIMEOUT": "7"}.items():
        monkeypatch.setenv(name, value)
    with connect(password_postgres, "dbname=survey") as connection:
        assert connection.info.get_parameters()["application_name"] == "final job"
        found = connection.info.get_parameters()
        assert (found["connect_timeout"], found["keepalives_idle"]) == ("7", "30")
    monkeypatch.setenv("PGSSLMODE", "require")
    with pytest.raises(psycopg.OperationalError, match="does not support SSL"):
        connect(password_postgres, "dbname=survey")


def test_schema_by_search_path(password_postgres: OwnPostgres) -> None:
    """The tables need not be in public."""
    form = f"postgresql://postgres@127.0.0.1:{password_postgres.port}/survey"
    with psycopg.connect(form) as superuser:
        superuser.execute("CREATE SCHEMA registry")
    address = database_address(f"{form}?options=-c%20search_path%3Dregistry", ConfigFile())
    assert schema.create(address) and not schema.create(address)
    with psycopg.connect(form) as superuser:
        found = superuser.execute("SELECT to_regclass('registry.dataset'), to_regclass('dataset')")
        assert found.fetchall() == [("registry.dataset", None)]
        superuser.execute("DROP SCHEMA registry CASCADE")


@pytest.mark.parametrize("hosts", ["127.0.0.1:1,127.0.0.1:{port}", "127.0.0.1:{port},127.0.0.1:1"])
def test_db_auth_for_one_of_several_hosts(
    password_postgres: OwnPostgres, hosts: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = {
        "url": f"postgresql://127.0.0.1:{password_postgres.port}",
        **{"username": "merger", "password": "hidden-word"},
    }
    monkeypatch.setenv("LSST_DB_AUTH_CREDENTIALS", json.dumps([entry]))
    form = f"postgresql://merger@{hosts}/survey"
    with connect(password_postgres, form) as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("merger",)
