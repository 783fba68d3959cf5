# SPDX-License-Identifier: BSD-3-Clause
"""Where the central registry is, and with which secret: looked up anew for every connection."""

import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg
from psycopg import Connection, pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from merger.db_auth import find_credential, place_of_entries
from merger.settings_error import SettingsError

SECRET_KEYWORDS = (
    *("password", "sslpassword", "oauth_client_secret"),
    *("scram_client_key", "scram_server_key"),
)
"""What libpq takes and nobody may read."""

_NO_SUCH_MODE = "resolved-only"
_NO_PASSWORD = "no password supplied"

_LIMITS = {
    "connect_timeout": "30",
    # A cut network may say nothing. It must be longer than a server waits for a lock in the middle
    # of a COPY: that time counts, too.
    "tcp_user_timeout": "120000",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "9",
    "fallback_application_name": "registry-merge",
}
"""For how long a network may be silent, unless address, service or environment say otherwise; and
who we are, for those who look at the sessions of the server.
"""

_ENCRYPTED = ("require", "verify-ca", "verify-full")


class NoPasswordError(psycopg.OperationalError):
    """The server asks for a password, and none was found."""


class DatabaseAddress:
    """Address of the central registry; its text never has a secret.

    Secrets are looked for in this order: an RDS IAM token, if that is asked for, and nothing else;
    a private configuration file; libpq itself (service file, PGPASSWORD, pgpass); and, when the
    server asks for a password that libpq has not got, LSST's db-auth.

    Parameters
    ----------
    keywords
        Of libpq.
    rds_iam, rds_region
        Whether a token of AWS is the password, and in which region the database runs.
    """

    def __init__(
        self, keywords: Mapping[str, str], *, rds_iam: bool = False, rds_region: str | None = None
    ) -> None:
        self._secret = {k: v for k, v in keywords.items() if k in SECRET_KEYWORDS and v}
        self._public = {k: v for k, v in keywords.items() if k not in SECRET_KEYWORDS}
        self._rds_iam, self._rds_region = rds_iam, rds_region
        self._libpq_lacks_it = False

    @property
    def conninfo(self) -> str:
        """The address as libpq takes it, without secrets."""
        return make_conninfo("", **self._public)

    @property
    def dbname(self) -> str:
        """Name of the database, as libpq finds it."""
        resolved = resolve(self._public)
        return resolved.get("dbname") or resolved.get("user", "")

    def __str__(self) -> str:
        return self.conninfo

    def __repr__(self) -> str:
        return f"DatabaseAddress({self.conninfo!r})"

    @property
    def source(self) -> str:
        """Where the secret comes from, for people; after a connection it is known."""
        if self._rds_iam:
            return "RDS IAM token"
        if "password" in self._secret:
            return "configuration file"
        return f"db-auth ({place_of_entries()})" if self._libpq_lacks_it else "libpq"

    def connect(self, **options: Any) -> Connection:
        """Connect; ``options`` are those of `psycopg.connect`.

        Raises
        ------
        psycopg.Error
            With no secret in its text.
        registry.errors.QuantumExecError
            If a place of secrets cannot be used.
        """
        if self._rds_iam:
            return _open(self._with_token(), options)
        if not self._libpq_lacks_it:
            try:
                return _open(self._public | self._secret, options)
            except psycopg.OperationalError as error:
                if not _is_password_missing(error):
                    raise
        return _open(self._with_db_auth(), options)

    def _with_db_auth(self) -> dict[str, str]:
        named = self._named()
        found = find_credential(named)
        if found is None:
            raise NoPasswordError(
                f"{self._shown(named)} asks for a password: expected one from PGPASSWORD, "
                f"~/.pgpass, a service file, a private --config or db-auth, found none (db-auth: "
                f"{place_of_entries()})"
            )
        self._libpq_lacks_it = True
        user = {} if found.username is None else {"user": found.username}
        return self._public | self._secret | user | {"password": found.password}

    def _with_token(self) -> dict[str, str]:
        from transfer_plugins.database_token import make_token

        resolved = resolve(self._public)
        host, port = resolved.get("host", ""), resolved.get("port", "")
        if not host or {"/", ","} & set(host) or not port.isdecimal():
            raise SettingsError(
                f"rds_iam: expected one host and port, for which the token is made, found host "
                f"{host!r} and port {port!r}"
            )
        token = make_token(host, int(port), resolved.get("user", ""), self._rds_region)
        # A token opens the database to whoever reads it.
        mode = resolved.get("sslmode")
        encrypted = {} if mode in _ENCRYPTED else {"sslmode": "require"}
        return self._public | self._secret | encrypted | {"password": token}

    def _named(self) -> dict[str, str]:
        """What the address, its service and the environment name, without what libpq guesses."""
        resolved = resolve(self._public)
        resolved.setdefault("host", resolved.get("hostaddr", ""))
        is_user_named = "user" in self._public or os.environ.get("PGUSER")
        if not is_user_named and not is_in_service("user", resolved.get("service")):
            resolved.pop("user", None)
        return resolved

    @staticmethod
    def _shown(named: Mapping[str, str]) -> str:
        user = f" of user {named['user']!r}" if named.get("user") else ""
        return f"database {named.get('dbname', '')!r} at {named.get('host', '')!r}{user}"


def connect(address: str | DatabaseAddress, **options: Any) -> Connection:
    """Connect to an address that may be a plain connection string."""
    if isinstance(address, DatabaseAddress):
        return address.connect(**options)
    return _open({k: str(v) for k, v in conninfo_to_dict(address).items()}, options)


def resolve(keywords: Mapping[str, str]) -> dict[str, str]:
    """Return an address with what libpq adds to it: service file, environment, defaults.

    Raises
    ------
    psycopg.OperationalError
        If libpq cannot make sense of it: no such service, say.
    """
    # libpq tells only of connections; one that it is told to refuse reaches nobody.
    refused = make_conninfo("", **{**keywords, "gssencmode": _NO_SUCH_MODE})
    attempt = pq.PGconn.connect_start(refused.encode())
    try:
        found = {o.keyword.decode(): o.val.decode() for o in attempt.info if o.val is not None}
        told = attempt.get_error_message()
    finally:
        attempt.finish()
    if _NO_SUCH_MODE not in told:
        raise psycopg.OperationalError(told)
    secrets = {*SECRET_KEYWORDS, "gssencmode"}
    return {k: v for k, v in found.items() if k not in secrets}


def is_in_service(keyword: str, service: str | None) -> bool:
    """Tell whether a service file has a keyword for a service; libpq hides where it has one from.

    The directory of the system's file is built into libpq; only PGSYSCONFDIR names it elsewhere.
    """
    if service is None:
        return False
    own = os.environ.get("PGSERVICEFILE") or "~/.pg_service.conf"
    shared = f"{os.environ.get('PGSYSCONFDIR') or '/etc'}/pg_service.conf"
    for path in (Path(own).expanduser(), Path(shared)):
        text = path.read_text(errors="replace") if path.is_file() else ""
        lines = iter([line.strip() for line in text.splitlines()])
        if f"[{service}]" in lines:
            of_service = itertools.takewhile(lambda line: not line.startswith("["), lines)
            return any(line.partition("=")[0] == keyword for line in of_service)
    return False


def _is_password_missing(error: psycopg.OperationalError) -> bool:
    connection = error.pgconn
    # Of several hosts the last one is there, and the text tells of all.
    return (connection is not None and connection.needs_password) or _NO_PASSWORD in str(error)


def _open(keywords: Mapping[str, str], options: Mapping[str, Any]) -> Connection:
    try:
        there = resolve(keywords)
        limits = {keyword: limit for keyword, limit in _LIMITS.items() if keyword not in there}
        return psycopg.connect(make_conninfo("", **limits, **keywords), **options)
    except psycopg.Error as error:
        told = str(error)
        secrets = [keywords[k] for k in SECRET_KEYWORDS if keywords.get(k)]
        if not any(secret in told for secret in secrets):
            raise
        for secret in secrets:
            told = told.replace(secret, "…")
        # Not the error itself, which has the secret in its text.
        raise type(error)(told) from None
