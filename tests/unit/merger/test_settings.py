# SPDX-License-Identifier: BSD-3-Clause
"""Settings: where they come from, and that a password is kept from others."""

from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from merger.settings import ConfigFile, SettingsError, database_address, has_password, read_config


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_all_keys(tmp_path: Path) -> None:
    path = write(
        tmp_path / "c.yaml",
        "database: service=registry\ndatastore: s3://bucket/prefix\nendpoint_url: http://s3\n"
        "batch_size: 100\nthreads: 3\n",
    )
    assert read_config(path) == ConfigFile(
        "service=registry", "s3://bucket/prefix", "http://s3", 100, 3
    )


def test_none_and_empty(tmp_path: Path) -> None:
    assert read_config(None) == read_config(write(tmp_path / "c.yaml", "")) == ConfigFile()


@pytest.mark.parametrize(
    "text, message",
    [
        ("databas: x", "unknown key 'databas'; expected one of"),
        ("batch_size: many", "batch_size: expected a number of 1 or more"),
        ("batch_size: 0", "batch_size: expected a number of 1 or more"),
        ("threads: -2", "threads: expected a number of 1 or more"),
        ("threads: true", "threads: expected a number of 1 or more"),
        ("datastore: 5", "datastore: expected text"),
        ("datastore: ''", "datastore: expected text"),
        ("- a\n- b", "expected keys and values"),
        ("database: [hidden-word", "expected YAML"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_config(write(tmp_path / "c.yaml", text))
    assert message in str(caught.value) and "c.yaml" in str(caught.value)
    assert "hidden-word" not in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"c\.yaml"):
        read_config(tmp_path / "c.yaml")


@pytest.mark.parametrize("mode, is_private", [(0o600, True), (0o400, True), (0o640, False)])
def test_password_only_in_a_private_file(tmp_path: Path, mode: int, is_private: bool) -> None:
    path = write(tmp_path / "c.yaml", "database: postgresql://u:hidden-word@h/n\n", mode)
    if is_private:
        address = database_address(None, read_config(path))
        assert address.source == "configuration file"
        assert "hidden-word" not in f"{address} {address!r} {address.conninfo}"
    else:
        with pytest.raises(SettingsError, match="found mode 0640; run chmod 600") as caught:
            read_config(path)
        assert "hidden-word" not in str(caught.value)


def test_file_without_password_may_be_read_by_all(tmp_path: Path) -> None:
    assert read_config(write(tmp_path / "c.yaml", "database: service=a", 0o644)).database


def test_option_wins_over_file() -> None:
    address = database_address("service=mine", ConfigFile(database="service=its"))
    assert str(address) == "service=mine"


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_urls(scheme: str) -> None:
    address = database_address(f"{scheme}://u@h:5433/n?sslmode=require", ConfigFile())
    assert conninfo_to_dict(address.conninfo) == {
        "user": "u",
        "host": "h",
        "port": "5433",
        "dbname": "n",
        "sslmode": "require",
    }


def test_empty_password_is_none() -> None:
    """As the embedded server's URL has it."""
    assert not has_password("postgresql://postgres:@/name?host=/tmp/socket")
