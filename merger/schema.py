# SPDX-License-Identifier: BSD-3-Clause
"""Schema of the central registry: created and upgraded by Alembic, checked by every merge."""

from pathlib import Path
from typing import TYPE_CHECKING

from psycopg import Connection, Cursor

from merger import statements
from merger.database_address import DatabaseAddress, connect
from merger.settings_error import SettingsError
from registry.errors import QuantumExecError

if TYPE_CHECKING:
    from alembic.config import Config

SCHEMA_VERSION = "0003"
"""Newest revision in `merger.migrations`; a test compares."""


class SchemaVersionError(QuantumExecError):
    """The tables of the central registry are not the ones that this release knows."""

    error_type = "schema_version"


def read_version(cursor: Cursor) -> str | None:
    """Return the version of the schema; None if there is none."""
    if cursor.execute(statements.FIND_VERSION).fetchone() is None:
        return None
    row = cursor.execute(statements.READ_VERSION).fetchone()
    return None if row is None else str(row[0])


def check_version(cursor: Cursor) -> None:
    """Refuse a schema that is not the one of this release.

    Raises
    ------
    SchemaVersionError
    """
    found = read_version(cursor)
    if found is None:
        raise SchemaVersionError(
            "central registry: expected its tables, found none that we can see; run registry-merge "
            "init, or registry-merge doctor if they were there before"
        )
    if found < SCHEMA_VERSION:
        raise SchemaVersionError(
            f"central registry: expected schema version {SCHEMA_VERSION}, found {found}; "
            "run registry-merge migrate"
        )
    if found > SCHEMA_VERSION:
        raise SchemaVersionError(
            f"central registry: expected schema version {SCHEMA_VERSION}, found {found}; "
            "upgrade registry-merge"
        )


def create(address: str | DatabaseAddress) -> bool:
    """Create the tables; two calls at once create them once.

    Returns
    -------
    bool
        False if they were there already.

    Raises
    ------
    SchemaVersionError
        If they are there in another version.
    merger.settings_error.SettingsError
        If the database is not in UTF-8.
    psycopg.Error
    """
    return _upgrade(address, is_new=True) is None


def migrate(address: str | DatabaseAddress) -> tuple[str, str]:
    """Upgrade the tables and return the versions before and after.

    Raises
    ------
    SchemaVersionError
        If there are none, or they are newer than this release.
    psycopg.Error
    """
    before = _upgrade(address, is_new=False)
    assert before is not None
    return before, SCHEMA_VERSION


def _upgrade(address: str | DatabaseAddress, *, is_new: bool) -> str | None:
    """Run the migrations in one transaction, which no merge and no other upgrade overlaps."""
    from alembic import command
    from sqlalchemy import create_engine
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.pool import NullPool

    with connect(address, prepare_threshold=None, client_encoding="UTF8") as driver:
        engine = create_engine("postgresql+psycopg://", creator=lambda: driver, poolclass=NullPool)
        try:
            with engine.begin() as connection:
                cursor = driver.cursor()
                cursor.execute(statements.BEGIN_UPGRADE)
                before = read_version(cursor)
                if before is None:
                    _check_encoding(driver)
                if is_new is (before is not None) or (before or "") > SCHEMA_VERSION:
                    check_version(cursor)
                config = alembic_config()
                config.attributes["connection"] = connection
                command.upgrade(config, SCHEMA_VERSION)
        except DBAPIError as error:
            # What PostgreSQL said, without the statement and what SQLAlchemy adds.
            raise error.orig or error from error
    return before


def _check_encoding(connection: Connection) -> None:
    found = connection.info.parameter_status("server_encoding")
    if found != "UTF8":
        raise SettingsError(
            f"database {connection.info.dbname!r}: expected encoding UTF8, found {found}; make "
            "another one: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
        )


def alembic_config() -> "Config":
    """Return the configuration of Alembic for the packaged migrations."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config
