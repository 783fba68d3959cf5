# SPDX-License-Identifier: BSD-3-Clause
"""Settings of ``registry-merge``: options, environment, configuration file."""

import difflib
import re
from dataclasses import dataclass, fields
from pathlib import Path

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from merger.database_address import SECRET_KEYWORDS, DatabaseAddress
from merger.db_auth import check_private, read_yaml
from merger.settings_error import SettingsError

DEFAULT_BATCH_SIZE = 1500
"""Deltas in one transaction, about 4,000 datasets.

COPY gains little from more, and the database begins later (27,075 deltas: 3.6 s with 1,500, 4.5 s
with 4,000 or with 1,000).
"""

DEFAULT_ROWS_PER_FILE = 50_000
"""Deltas in one file of an archive: about 35 MB."""

__all__ = [
    "DEFAULT_BATCH_SIZE",
    "ConfigFile",
    "SettingsError",
    "database_address",
    "has_password",
    "read_config",
]


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """What a configuration file may set; options win over it."""

    database: str | None = None
    datastore: str | None = None
    endpoint_url: str | None = None
    batch_size: int | None = None
    threads: int | None = None
    connections: int | None = None
    on_conflict: list[str] | None = None
    """As --on-conflict has them: ``POLICY`` or ``TYPE=POLICY``; in the file also a single text."""
    output_chain: str | None = None
    rds_iam: bool | None = None
    rds_region: str | None = None


_KINDS: dict[str, type] = {
    **dict.fromkeys(("batch_size", "threads", "connections"), int),
    **{"rds_iam": bool, "on_conflict": list},
}
_MOST = 1_000_000
_EXPECTED = {
    **{int: f"a number from 1 to {_MOST}", bool: "true or false", str: "text"},
    list: "a text or a list of texts",
}


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
    place = f"configuration file {str(path)!r}"
    read = read_yaml(path, place) or {}
    if not isinstance(read, dict):
        raise SettingsError(f"{place}: expected keys and values")
    kinds = {f.name: _KINDS.get(f.name, str) for f in fields(ConfigFile)}
    for key, value in read.items():
        if key not in kinds:
            near = difflib.get_close_matches(str(key).lower(), kinds, 1)
            meant = f"did you mean {near[0]!r}? " if near else ""
            raise SettingsError(
                f"{place}: unknown key {key!r}; {meant}expected one of {sorted(kinds)}"
            )
        if kinds[key] is list and isinstance(value, str):
            read[key] = value = [value]
        if not _is_fit(value, kinds[key]):
            raise SettingsError(f"{place}: {key}: expected {_EXPECTED[kinds[key]]}")
    config = ConfigFile(**read)
    if config.database is not None and has_password(config.database):
        check_private(path, place)
    return config


def _is_fit(value: object, kind: type) -> bool:
    # By its type first: aliases of YAML make a short file a text without end.
    if type(value) is not kind:
        return False
    match value:
        case bool():
            return True
        case int():
            return 1 <= value <= _MOST
        case list():
            return bool(value) and all(isinstance(text, str) and text for text in value)
    return bool(value)


def database_address(option: str | None, config: ConfigFile) -> DatabaseAddress:
    """Return the address to connect to; only a private file may hold a password.

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
    return DatabaseAddress(
        _parse(address), rds_iam=config.rds_iam or False, rds_region=config.rds_region
    )


def has_password(address: str) -> bool:
    """Tell whether a connection string holds a secret."""
    return any(_parse(address).get(keyword) for keyword in SECRET_KEYWORDS)


def _parse(address: str) -> dict[str, str]:
    # Addresses of a Butler name a driver of Python.
    address = re.sub(r"\Apostgresql\+\w+://", "postgresql://", address.strip())
    try:
        parsed = conninfo_to_dict(address)
    except ProgrammingError:
        # libpq quotes the part it does not understand, and that may be a password.
        raise SettingsError(
            "database: expected postgresql://user@host/name, 'host=… dbname=…' or service=name, "
            "found something that libpq cannot parse"
        ) from None
    return {key: str(value) for key, value in parsed.items() if value is not None}
