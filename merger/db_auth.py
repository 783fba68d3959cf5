# SPDX-License-Identifier: BSD-3-Clause
"""Passwords from LSST's db-auth: a JSON list in the environment, or a private YAML file.

The rules are those of ``lsst.utils.db_auth``: the first entry whose ``url`` matches counts; host
and database may have wildcards; user, port and database match everything where they are left out.
"""

import fnmatch
import json
import os
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
        What the address names of host, port, dbname and user.

    Raises
    ------
    SettingsError
        If the file can be read by others, or the entries have not the form they should have.
    """
    host, database = named.get("host", ""), named.get("dbname", "")
    # Entries are for hosts; a socket in a directory is on this machine.
    if not host or host.startswith("/") or not database:
        return None
    place, entries = _read_entries(environment)
    for number, entry in enumerate(entries, 1):
        where = f"{place}: entry {number}"
        if not isinstance(entry, dict) or not isinstance(entry.get("url"), str):
            raise SettingsError(f"{where}: expected url, username and password")
        if _matches(entry["url"], named, where):
            return _credential(entry, named, where)
    return None


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
        try:
            check_private(path, place)
            read = yaml.safe_load(path.read_text()) or []
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{place}: {error}") from error
        except yaml.YAMLError:
            raise SettingsError(f"{place}: expected YAML") from None
    if not isinstance(read, list):
        raise SettingsError(f"{place}: expected a list of url, username and password")
    return place, read


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
    try:
        parsed = urllib.parse.urlsplit(url)
        host, port, user = parsed.hostname, parsed.port, parsed.username
    except ValueError:
        raise SettingsError(f"{where}: expected postgresql://host/database as url") from None
    if not parsed.scheme or "+" in parsed.scheme or host is None:
        raise SettingsError(
            f"{where}: expected postgresql://host/database as url, without the name of a driver"
        )
    database = parsed.path.lstrip("/")
    return (
        parsed.scheme in ("postgresql", "postgres")
        and (not database or fnmatch.fnmatchcase(named["dbname"], database))
        and (user is None or named.get("user") == urllib.parse.unquote(user))
        and fnmatch.fnmatchcase(named["host"].lower(), host)
        and (port is None or named.get("port") == str(port))
    )


def _credential(entry: dict[str, Any], named: Mapping[str, str], where: str) -> Credential:
    password, username = entry.get("password"), entry.get("username")
    if password is None or not isinstance(username, str | None):
        raise SettingsError(f"{where}: expected url, username and password")
    return Credential(None if named.get("user") else username, str(password))
