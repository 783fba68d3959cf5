# SPDX-License-Identifier: BSD-3-Clause
"""Settings: where they come from, and that a password is kept from others."""

import dataclasses
import re
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict
from typer.testing import CliRunner

from merger.cli import app
from merger.settings import (
    DEFAULT_BATCH_SIZE,
    ConfigFile,
    SettingsError,
    database_address,
    has_password,
    read_config,
)

BOMB = "on_conflict:\n- &a0 [x, x]\n" + "".join(f"- &a{n + 1} [*a{n}, *a{n}]\n" for n in range(60))
"""As a text it would be longer than any memory."""

# What is given as option, environment and in the file, and where the address comes from.
SOURCES = [
    ("option", "environment", "file", "option"),
    (None, "environment", "file", "environment"),
    (None, None, "file", "file"),
    ("option", None, None, "option"),
    (None, "environment", None, "environment"),
    (None, None, None, None),
]


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
        ("databas: x", "unknown key 'databas'; did you mean 'database'? expected one of"),
        ("Batch-Size: 3", "unknown key 'Batch-Size'; did you mean 'batch_size'? expected one of"),
        ("1: hidden-word", "unknown key 1; expected one of"),
        ("threads: 99999999999999999999", "threads: expected a number from 1 to 1000000"),
        (f"threads: {'9' * 5000}", "expected YAML"),
        ("threads:", "threads: expected a number"),
        ("rds_iam: 1", "rds_iam: expected true or false"),
        ("on_conflict: ''", "on_conflict: expected a text or a list of texts"),
        ("on_conflict: [keep, 1]", "on_conflict: expected a text or a list of texts"),
        ("datastore: 2020-01-01", "datastore: expected text"),
        ("--- a\n--- hidden-word", "expected YAML"),
        ("? [hidden-word]\n: 1", "expected YAML"),
        ("database: !!python/object/apply:os.getpid []", "expected YAML"),
        ("[" * 2000, "expected YAML"),
        (BOMB, "on_conflict: expected a text or a list of texts"),
        ("batch_size: many", "batch_size: expected a number from 1 to 1000000"),
        ("batch_size: 0", "batch_size: expected a number from 1 to 1000000"),
        ("threads: -2", "threads: expected a number from 1 to 1000000"),
        ("threads: true", "threads: expected a number from 1 to 1000000"),
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


@pytest.mark.parametrize(("option", "environment", "in_file", "counts"), SOURCES)
def test_what_wins(
    tmp_path: Path, option: str | None, environment: str | None, in_file: str | None, counts: str
) -> None:
    """Option, environment, file, default: for the database and for the service of S3."""
    text = f"database: host=/nowhere/{in_file}\nendpoint_url: ftp//{in_file}" if in_file else ""
    path = write(tmp_path / "c.yaml", text)
    words = ["doctor", "--config", str(path)]
    words += ["--database", f"host=/nowhere/{option}"] if option else []
    value = f"host=/nowhere/{environment}" if environment else ""
    told = CliRunner().invoke(app, words, env={"REGISTRY_MERGE_DATABASE": value}).output
    expected = f"/nowhere/{counts}/" if counts else "no database given: use --database"
    assert expected in "".join(told.split("\n")).replace("\n", "")
    words = ["archive", "s3://b/x", "u/run", "--config", str(path)]
    words += ["--endpoint-url", f"ftp//{option}"] if option else []
    variables = {"AWS_ENDPOINT_URL": f"ftp//{environment}"} if environment else {}
    if counts and {option, in_file} != {None}:
        told = CliRunner().invoke(app, words, env=variables).output
        assert f"Invalid endpoint: ftp//{option or in_file}" in told


def test_every_key_stands_in_the_example() -> None:
    example = Path(__file__).parents[3] / "configs/registry-merge.yaml"
    assert read_config(example).batch_size == DEFAULT_BATCH_SIZE
    text = example.read_text()
    for field in dataclasses.fields(ConfigFile):
        assert re.search(rf"^(# )?{field.name}: ", text, re.MULTILINE), field.name
