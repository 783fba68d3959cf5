# SPDX-License-Identifier: BSD-3-Clause
"""Settings of ``registry-merge``: options, environment, configuration file."""

import stat
from dataclasses import dataclass, fields
from pathlib import Path

import yaml
from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from registry.errors import QuantumExecError

DEFAULT_BATCH_SIZE = 4000
"""Deltas in one transaction, about 10,000 datasets: COPY gains nothing from more."""

_SECRET_KEYWORDS = ("password", "sslpassword", "oauth_client_secret")


class SettingsError(QuantumExecError, ValueError):
    """The command line, environment or configuration file cannot be used."""

    error_type = "settings"


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """What a configuration file may set; options win over it."""

    database: str | None = None
    datastore: str | None = None
    endpoint_url: str | None = None
    batch_size: int | None = None
    threads: int | None = None


def read_config(path: Path | None) -> ConfigFile:
    """Read a configuration file (YAML); none given is an empty one.

    Raises
    ------
    SettingsError
        If it cannot be read, has an unknown key or a value of the wrong kind, or holds a
        password that others can read.
    """
    if path is None:
        return ConfigFile()
    try:
        read = yaml.safe_load(path.read_text()) or {}
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"configuration file {str(path)!r}: {error}") from error
    except yaml.YAMLError:
        # The parser quotes the text around the error, and a password may be in it.
        raise SettingsError(f"configuration file {str(path)!r}: expected YAML") from None
    kinds = {
        f.name: int if f.name in ("batch_size", "threads") else str for f in fields(ConfigFile)
    }
    if not isinstance(read, dict):
        raise SettingsError(f"configuration file {str(path)!r}: expected keys and values")
    for key, value in read.items():
        if key not in kinds:
            raise SettingsError(
                f"configuration file {str(path)!r}: unknown key {key!r}; "
                f"expected one of {sorted(kinds)}"
            )
        if type(value) is not kinds[key] or value in (0, "") or str(value).startswith("-"):
            expected = "a number of 1 or more" if kinds[key] is int else "text"
            raise SettingsError(f"configuration file {str(path)!r}: {key}: expected {expected}")
    config = ConfigFile(**read)
    if config.database is not None and has_password(config.database):
        _check_private(path)
    return config


def _check_private(path: Path) -> None:
    mode = path.stat().st_mode
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise SettingsError(
            f"configuration file {str(path)!r} holds a password: expected a file that only its "
            f"owner can read, found mode {stat.S_IMODE(mode):04o}; run chmod 600"
        )


def database_address(option: str | None, config: ConfigFile) -> str:
    """Return the libpq connection string to use; only a private file may hold a password.

    Raises
    ------
    SettingsError
        If there is none, it cannot be parsed, or a password came by option or environment,
        where every user of this machine, or every child process, could read it.
    """
    if option is not None and has_password(option):
        raise SettingsError(
            "--database (or REGISTRY_MERGE_DATABASE) holds a password: expected none; put it in "
            "~/.pgpass, a libpq service file, PGPASSWORD, or a private file given by --config"
        )
    address = option if option is not None else config.database
    if not address:
        raise SettingsError(
            "no database given: use --database, REGISTRY_MERGE_DATABASE, or 'database' in a file "
            "given by --config"
        )
    return make_conninfo("", **_parse(address))


def has_password(address: str) -> bool:
    """Tell whether a connection string holds a secret."""
    return any(_parse(address).get(keyword) for keyword in _SECRET_KEYWORDS)


def _parse(address: str) -> dict[str, str]:
    address = address.strip().replace("postgresql+psycopg://", "postgresql://", 1)
    try:
        parsed = conninfo_to_dict(address)
    except ProgrammingError:
        # libpq quotes the part it does not understand, and that may be a password.
        raise SettingsError(
            "database: expected postgresql://user@host/name, 'host=… dbname=…' or service=name, "
            "found something that libpq cannot parse"
        ) from None
    return {key: str(value) for key, value in parsed.items() if value is not None}
