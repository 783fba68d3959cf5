# SPDX-License-Identifier: BSD-3-Clause
"""What an address names: services, environment and libpq together, and nothing is changed."""

import getpass
import json
import os
from pathlib import Path

import psycopg
import pytest

from merger.database_address import DatabaseAddress, is_in_service, resolve
from merger.exit_codes import ExitCode
from merger.failures import exit_code_of
from merger.settings import SettingsError

ME = getpass.getuser()
SERVICES = f"""
# [registry]
[registry]
host=db.example.org
port=5555
dbname=survey
user=bob
password=hidden-word

[mine]
host=db.example.org
user={ME}

[nobody]
host=other.example.org
"""


@pytest.fixture(autouse=True)
def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service file, and nothing else in the environment."""
    for name in [name for name in os.environ if name.startswith("PG")]:
        monkeypatch.delenv(name)
    (tmp_path / "services").write_text(SERVICES)
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    monkeypatch.setenv("PGSYSCONFDIR", str(tmp_path))
    (tmp_path / "pg_service.conf").write_text("[shared]\nuser=sue\nhost=shared.example.org\n")


def named(found: dict[str, str]) -> tuple[str | None, ...]:
    """What tells one database from another."""
    return tuple(found.get(name) for name in ("host", "port", "dbname", "user"))


@pytest.mark.parametrize("of_environment", [None, "registry", "nobody"])
def test_services(of_environment: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if of_environment:
        monkeypatch.setenv("PGSERVICE", of_environment)
    before = dict(os.environ)
    registry = ("db.example.org", "5555", "survey", "bob")
    assert named(resolve({"service": "registry"})) == registry
    assert named(resolve({"service": "registry", "user": "me", "dbname": "x"}))[2:] == ("x", "me")
    nobody = ("other.example.org", "5432", ME, ME)
    assert named(resolve({"service": "nobody"})) == nobody
    if of_environment:
        expected = registry if of_environment == "registry" else nobody
        assert named(resolve({})) == expected
    assert "hidden-word" not in str(resolve({"service": "registry"}))
    assert dict(os.environ) == before


@pytest.mark.parametrize(
    ("keywords", "environment", "user"),
    [
        ({"service": "registry"}, {}, None),
        ({}, {"PGSERVICE": "registry"}, None),
        ({"service": "mine"}, {}, None),
        ({"service": "shared"}, {}, None),
        ({"user": ME}, {}, ME),
        ({}, {"PGUSER": ME}, None),
        ({"service": "nobody"}, {}, "alice"),
        ({}, {}, "alice"),
        ({}, {"PGSERVICE": "nobody"}, "alice"),
    ],
)
def test_db_auth_gives_a_user_only_where_none_is_named(
    keywords: dict[str, str],
    environment: dict[str, str],
    user: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where the one that is named is the one that libpq guesses."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if not {"service", "PGSERVICE"} & {*keywords, *environment}:
        keywords = {**keywords, "host": "db.example.org"}
    entry = {"url": "postgresql://*.example.org", "username": "alice", "password": "p"}
    monkeypatch.setenv("LSST_DB_AUTH_CREDENTIALS", json.dumps([entry]))
    found = DatabaseAddress({**keywords, "dbname": "x"})._with_db_auth()
    assert (found.get("user"), found["password"]) == (user, "p")


def test_service_files(tmp_path: Path) -> None:
    assert is_in_service("user", "registry") and is_in_service("user", "shared")
    assert not is_in_service("user", "nobody") and not is_in_service("user", None)
    (tmp_path / "services").unlink()
    assert not is_in_service("user", "registry") and is_in_service("user", "shared")


@pytest.mark.parametrize(
    ("keywords", "text"),
    [
        ({"service": "none"}, 'definition of service "none" not found'),
        ({"host": "a,b", "port": "1,2,3"}, "could not match 3 port numbers to 2 hosts"),
        ({"sslmode": "none"}, 'invalid sslmode value: "none"'),
        ({"host": "127.0.0.1", "port": "99999"}, "invalid port number"),
        ({"host": "127.0.0.1", "connect_timeout": "x"}, "bad value for connect_timeout"),
    ],
)
def test_what_libpq_does_not_take_is_a_wrong_setting(keywords: dict[str, str], text: str) -> None:
    with pytest.raises(psycopg.Error, match=text) as caught:
        DatabaseAddress(keywords).connect()
    assert exit_code_of(caught.value) == ExitCode.USAGE


@pytest.mark.parametrize(
    "keywords", [{}, {"host": "/tmp"}, {"host": "a,b"}, {"host": "a", "port": "1,2"}]
)
def test_a_token_is_for_one_host(keywords: dict[str, str]) -> None:
    with pytest.raises((SettingsError, psycopg.OperationalError)):
        DatabaseAddress(keywords, rds_iam=True, rds_region="eu-west-1").connect()
