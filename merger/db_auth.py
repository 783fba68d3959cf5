# SPDX-License-Identifier: BSD-3-Clause
"""Passwords from LSST's db-auth: a JSON list in the environment, or a private YAML file.

The rules are those of ``lsst.utils.db_auth``: the first entry whose ``url`` matches counts; host
and database may have wildcards; user, port and database match everything where they are left out.
Entries for other databases are passed over. Where libpq would have a port, we have it, too.
"""

import fnmatch
import json
import os
import re
import stat
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from merger.settings_error import SettingsError

LIST_VARIABLE = "LSST_DB_AUTH_CREDENTIALS"
PATH_VARIABLE = "LSST_DB_AUTH"
_PATH = "~/.lsst/db-auth.yaml"
_PORT = "5432"

# Not by `urllib.parse`: it takes wildcards ("?", "[ab]", "*" as port) for parts of a URL.
_URL = re.compile(
    r"postgres(?:ql)?://(?:(?P<user>[^@/:]*)(?::[^@/]*)?@)?"
    r"(?P<host>\[[0-9a-f.]*:[0-9a-f:.]*\]|[^/:]+)(?::(?P<port>[0-9*?]*))?"
    r"(?:/(?P<database>.*?))?(?:\?[a-z_]+=.*)?",
    re.IGNORECASE | re.DOTALL,
)
_DIALECTS = ("postgresql", "postgres")


@dataclass(frozen=True, slots=True)
class Credential:
    """What an entry gives; ``username`` only where the address names none."""

    username: str | None
    password: str = field(repr=False)


def find_credential(
    named: Mapping[str, str], environment: Mapping[str, str] = os.environ
) -> Credential | None:
    """Return what the first entry that matches an address gives; None if none does.

    Parameters
    ----------
    named
        What the address names of host, port, dbname and user; of several hosts the first that has
        an entry counts.

    Raises
    ------
    SettingsError
        If the file can be read by others, or the entries have not the form they should have.
    """
    # Entries are for hosts; a socket in a directory is on this machine.
    hosts = [(h, p) for h, p in _hosts(named) if h and not h.startswith(("/", "@"))]
    if not hosts or not named.get("dbname"):
        return None
    place, entries = _read_entries(environment)
    for host, port in hosts:
        for number, entry in enumerate(entries, 1):
            where = f"{place}: entry {number}"
            if not isinstance(entry, dict) or not isinstance(entry.get("url"), str):
                raise SettingsError(f"{where}: expected url, username and password")
            if _matches(entry["url"], {**named, "host": host, "port": port}, where):
                return _credential(entry, named, where)
    return None


def _hosts(named: Mapping[str, str]) -> list[tuple[str, str]]:
    """Hosts with their ports, of which there may be one for all."""
    hosts = named.get("host", "").split(",")
    ports = [port or _PORT for port in named.get("port", "").split(",")]
    return list(zip(hosts, ports * len(hosts) if len(ports) == 1 else ports, strict=False))


def place_of_entries(environment: Mapping[str, str] = os.environ) -> str:
    """Say where entries are looked for."""
    if environment.get(LIST_VARIABLE):
        return LIST_VARIABLE
    path = _path(environment)
    return str(path) if path.is_file() else f"{path}, which is not there"


def _path(environment: Mapping[str, str]) -> Path:
    return Path(environment.get(PATH_VARIABLE) or _PATH).expanduser()


def _read_entries(environment: Mapping[str, str]) -> tuple[str, list[Any]]:
    if environment.get(LIST_VARIABLE):
        place = LIST_VARIABLE
        try:
            read = json.loads(environment[LIST_VARIABLE])
        except ValueError:
            # What cannot be parsed may be a password.
            raise SettingsError(f"{place}: expected a JSON list") from None
    else:
        path = _path(environment)
        place = f"db-auth file {str(path)!r}"
        if not path.is_file():
            return place, []
        check_private(path, place)
        read = read_yaml(path, place) or []
    if not isinstance(read, list):
        raise SettingsError(f"{place}: expected a list of url, username and password")
    return place, read


def read_yaml(path: Path, what: str) -> Any:
    """Read a file of settings; no error shows what stands there.

    Raises
    ------
    SettingsError
    """
    try:
        return yaml.load(path.read_text(), _Loader)
    except _KeyTwiceError as error:
        raise SettingsError(f"{what}, line {error}: expected each key once") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{what}: {error}") from error
    except (yaml.YAMLError, ValueError, RecursionError):
        # The parser quotes the text around the error, and a password may be in it.
        raise SettingsError(f"{what}: expected YAML") from None


class _KeyTwiceError(Exception):
    """Holds the number of the line where a key stands again."""


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice, of which YAML would take the last without a word."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise _KeyTwiceError(key.start_mark.line + 1)
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def check_private(path: Path, what: str) -> None:
    """Refuse a file with a secret that group or others can read.

    Raises
    ------
    SettingsError
    """
    mode = path.stat().st_mode
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise SettingsError(
            f"{what} holds a password: expected a file that only its owner can read, found mode "
            f"{stat.S_IMODE(mode):04o}; run chmod 600"
        )


def _matches(url: str, named: Mapping[str, str], where: str) -> bool:
    dialect, separator, _ = url.partition("://")
    if separator and dialect and dialect.partition("+")[0].lower() not in _DIALECTS:
        return False
    found = _URL.fullmatch(url)
    if found is None:
        raise SettingsError(
            f"{where}: expected postgresql://host/database as url, without the name of a driver"
        )
    user, host, port, database = found.group("user", "host", "port", "database")
    if ":" in host:
        host = host[1:-1]
    return (
        (not database or fnmatch.fnmatchcase(named["dbname"], urllib.parse.unquote(database)))
        and (user is None or named.get("user") == urllib.parse.unquote(user))
        and fnmatch.fnmatchcase(named["host"].lower(), host.lower())
        and (not port or fnmatch.fnmatchcase(named["port"], port))
    )


def _credential(entry: dict[str, Any], named: Mapping[str, str], where: str) -> Credential:
    password, username = entry.get("password"), entry.get("username")
    if password is None or not isinstance(username, str | None):
        raise SettingsError(f"{where}: expected url, username and password")
    return Credential(None if named.get("user") else username, str(password))
