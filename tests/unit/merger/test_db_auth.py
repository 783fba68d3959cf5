# SPDX-License-Identifier: BSD-3-Clause
"""db-auth: which entry counts, and what is refused without showing what stands there."""

import json
from pathlib import Path

import pytest

from merger.db_auth import Credential, find_credential
from merger.settings_error import SettingsError

NAMED = {"host": "db.example.org", "port": "5432", "dbname": "survey", "user": "me"}
SECRET = "hidden-word"


def environment(*entries: object) -> dict[str, str]:
    return {"LSST_DB_AUTH_CREDENTIALS": json.dumps(entries)}


@pytest.mark.parametrize(
    ("url", "is_match"),
    [
        ("postgresql://db.example.org", True),
        ("postgresql://DB.EXAMPLE.ORG/", True),
        ("postgresql://*", True),
        ("postgresql://*.example.org/sur*", True),
        ("postgresql://db.example.org:5432/survey", True),
        ("postgresql://me@db.example.org/survey", True),
        ("postgres://db.example.org", True),
        ("postgresql://you@db.example.org/survey", False),
        ("postgresql://db.example.org:5433/survey", False),
        ("postgresql://db.example.org/other", False),
        ("postgresql://example.org", False),
        ("oracle://db.example.org/survey", False),
        ("postgresql://db.example.or?/su[r-v]vey", True),
        ("postgresql://db.example.org:54*/surve?", True),
        ("postgresql://me:ignored@db.example.org/survey?sslmode=require", True),
        ("postgresql://[db]b.example.org:*", True),
    ],
)
def test_which_entries_match(url: str, is_match: bool) -> None:
    entry = {"url": url, "username": "other", "password": SECRET}
    found = find_credential(NAMED, environment(entry))
    assert found == (Credential(None, SECRET) if is_match else None)
    assert SECRET not in repr(found)


@pytest.mark.parametrize(
    "url", ["sqlite:///a/b.sqlite3", "mysql://h:x/y", "mysql:///x", "oracle+cx_oracle://h/x"]
)
def test_other_databases_are_passed_over(url: str) -> None:
    entries = [{"url": url, "password": "other"}, {"url": "postgresql://*", "password": SECRET}]
    assert find_credential(NAMED, environment(*entries)) == Credential(None, SECRET)


def test_port_is_that_of_libpq() -> None:
    without = {name: value for name, value in NAMED.items() if name != "port"}
    entry = {"url": "postgresql://*:5432", "password": SECRET}
    assert find_credential(without, environment(entry)) == Credential(None, SECRET)
    assert find_credential({**NAMED, "host": "::1"}, environment(entry)) is not None
    entry["url"] = "postgresql://[::1]:5432/survey"
    assert find_credential({**NAMED, "host": "::1"}, environment(entry)) is not None
    assert find_credential(NAMED, environment(entry)) is None


@pytest.mark.parametrize("ports", ["5432", "1,5432", ""])
def test_one_of_several_hosts(ports: str) -> None:
    several = {**NAMED, "host": "a.example.com,db.example.org", "port": ports}
    entry = {"url": "postgresql://*.org:5432", "password": SECRET}
    assert find_credential(several, environment(entry)) == Credential(None, SECRET)
    entry["url"] = "postgresql://a.example.com:2"
    assert find_credential(several, environment(entry)) is None


def test_first_match_wins() -> None:
    entries = [{"url": f"postgresql://{h}", "password": h} for h in ("a", "*.org", "db.*")]
    found = find_credential(NAMED, environment(*entries))
    assert found is not None and found.password == "*.org"


def test_username_is_taken_if_the_address_names_none() -> None:
    entry = {"url": "postgresql://*", "username": "merger", "password": SECRET}
    nobody = {name: value for name, value in NAMED.items() if name != "user"}
    assert find_credential(nobody, environment(entry)) == Credential("merger", SECRET)
    entry["url"] = "postgresql://merger@*"
    assert find_credential(nobody, environment(entry)) is None


@pytest.mark.parametrize("host", ["", "/var/run/postgresql"])
def test_sockets_have_no_entries(host: str) -> None:
    entry = {"url": "postgresql://*", "password": SECRET}
    assert find_credential({**NAMED, "host": host}, environment(entry)) is None


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ({"url": "postgresql+psycopg2://*"}, "without the name of a driver"),
        ({"url": f"{SECRET}"}, "expected postgresql://host/database as url"),
        ({"url": f"postgresql://h:{SECRET}/"}, "expected postgresql://host/database as url"),
        ({"username": "me", "password": SECRET}, "expected url, username and password"),
        ({"url": "postgresql://*"}, "expected url, username and password"),
        (SECRET, "expected url, username and password"),
    ],
)
def test_entries_that_are_wrong(entry: object, text: str) -> None:
    with pytest.raises(SettingsError, match="LSST_DB_AUTH_CREDENTIALS: entry 1: ") as caught:
        find_credential(NAMED, environment(entry))
    assert text in str(caught.value) and SECRET not in str(caught.value)


@pytest.mark.parametrize("text", [f"[{SECRET}", f'{{"url": "{SECRET}"}}'])
def test_no_list(text: str, tmp_path: Path) -> None:
    path = tmp_path / "db-auth.yaml"
    path.write_text(text)
    path.chmod(0o600)
    for where in ({"LSST_DB_AUTH_CREDENTIALS": text}, {"LSST_DB_AUTH": str(path)}):
        with pytest.raises(SettingsError, match="expected") as caught:
            find_credential(NAMED, where)
        assert SECRET not in str(caught.value)


def test_no_file_is_no_entry(tmp_path: Path) -> None:
    assert find_credential(NAMED, {"LSST_DB_AUTH": str(tmp_path / "none")}) is None
