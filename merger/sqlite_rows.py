# SPDX-License-Identifier: BSD-3-Clause
"""Rows of our tables in an SQLite file, checked column by column.

SQLite lets every column hold anything. What the same table in PostgreSQL would not take is refused
here, with its table, rowid and column.
"""

import datetime
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    Integer,
    Table,
    UniqueConstraint,
)

from merger.sqlite_source import SqliteSource, SqliteSourceError, quoted
from registry.errors import FormatError, InvalidNameError
from registry.model import check_identifier
from registry.names import check_run
from registry.tables import JSON_TYPE, UUID_TYPE, metadata
from registry.typed_json import canonical, load

Row = dict[str, Any]

_MAX_TEXT_BYTES = 1024 * 1024
_MAX_KEY_BYTES = 2000
"""Of what is in a key of the central registry, where an entry has 2704 bytes."""

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
_CHECKSUM = re.compile(r"sha256:[0-9a-f]{64}\Z")


class _WrongValueError(Exception):
    """A value is not what its column has; the message is what was expected."""


class RegistryTables:
    """Our tables in an SQLite file.

    Raises
    ------
    SqliteSourceError
        If a table has other columns, or one that ours lack.
    """

    def __init__(self, source: SqliteSource) -> None:
        self._source = source
        self.names = [
            table.name for table in metadata.sorted_tables if table.name in source.columns
        ]
        for table in metadata.sorted_tables:
            if source.is_other_kind(table.name):
                source.expect_tables([table.name])
        for name in self.names:
            self._check_columns(metadata.tables[name])

    def _check_columns(self, table: Table) -> None:
        found = set(self._source.columns[table.name])
        needed = {c.name for c in table.columns if not (c.nullable or c.server_default is not None)}
        if not needed <= found or not found <= set(table.columns.keys()):
            raise SqliteSourceError(
                f"{self._source.where}, table {table.name!r}: expected columns "
                f"{list(table.columns.keys())}, found {self._source.columns[table.name]}"
            )

    def check_keys(self) -> None:
        """See that no key is there twice, and that no row refers to one that is not there.

        Raises
        ------
        SqliteSourceError
        """
        for name in self.names:
            table = metadata.tables[name]
            keys = [list(table.primary_key.columns.keys())]
            unique = [c for c in table.constraints if isinstance(c, UniqueConstraint)]
            keys += [list(constraint.columns.keys()) for constraint in unique]
            for key in keys:
                self._check_unique(name, key)
            for foreign in table.foreign_keys:
                self._check_reference(name, foreign.parent.name, foreign.column)

    def _check_unique(self, table: str, key: list[str]) -> None:
        columns = ", ".join(map(quoted, key))
        for first, last in self._source.query(
            f"SELECT min(rowid), max(rowid) FROM {quoted(table)} GROUP BY {columns} "
            "HAVING count(*) > 1 LIMIT 1"
        ):
            raise SqliteSourceError(
                f"{self._source.where}, table {table!r}, rowid {last}: expected another "
                f"{', '.join(key)} than in rowid {first}, found the same"
            )

    def _check_reference(self, table: str, column: str, referred: Column[Any]) -> None:
        other, key = referred.table.name, referred.name
        if self._source.count(table) and other not in self._source.columns:
            self._source.expect_tables([other])
        if other not in self._source.columns:
            return
        their, ours = f"o.{quoted(key)}", f"t.{quoted(column)}"
        for rowid, value in self._source.query(
            f"SELECT t.rowid, {ours} FROM {quoted(table)} t "
            f"LEFT JOIN {quoted(other)} o ON {their} = {ours} WHERE {their} IS NULL LIMIT 1"
        ):
            raise self._wrong(table, rowid, column, f"one of table {other!r}", value)

    def rows(self, name: str, condition: str = "", *values: object) -> Iterator[Row]:
        """Give the rows of a table, none if there is no such table.

        Parameters
        ----------
        condition
            What follows FROM, of ours; rows come in the order of their rowid without one.

        Raises
        ------
        SqliteSourceError
            If a value is not what its column has.
        """
        if name not in self._source.columns:
            return
        table = metadata.tables[name]
        there = [c for c in table.columns if c.name in self._source.columns[name]]
        absent = {
            c.name: False if c.server_default is not None else None
            for c in table.columns
            if c not in there
        }
        readers = [(c.name, _reader(c), bool(c.nullable)) for c in there]
        chosen = ", ".join(quoted(c.name) for c in there)
        statement = f"SELECT rowid, {chosen} FROM {quoted(name)} {condition or 'ORDER BY rowid'}"
        for rowid, *found in self._source.query(statement, *values):
            row: Row = dict(absent)
            for (column, read, is_nullable), value in zip(readers, found, strict=True):
                try:
                    row[column] = None if value is None and is_nullable else read(value)
                except _WrongValueError as error:
                    raise self._wrong(name, rowid, column, str(error), value) from None
            yield row

    def _wrong(
        self, table: str, rowid: int, column: str, expected: str, found: object
    ) -> SqliteSourceError:
        shown = repr(found)
        shown = shown if len(shown) <= 80 else f"{shown[:79]}…"
        return SqliteSourceError(
            f"{self._source.where}, table {table!r}, rowid {rowid}, column {column!r}: "
            f"expected {expected}, found {shown}"
        )


def _reader(column: Column[Any]) -> Callable[[Any], Any]:
    """Return the function that reads a value of a column."""
    if column.type is UUID_TYPE:
        return _read_uuid
    if column.type is JSON_TYPE:
        return _read_data_id if column.name == "data_id" else _JSON.get(column.name, _read_json)
    if isinstance(column.type, Boolean):
        return _read_boolean
    if isinstance(column.type, DateTime):
        return _read_time
    if isinstance(column.type, Double):
        return _read_number
    if isinstance(column.type, Integer | BigInteger):
        bits = 63 if isinstance(column.type, BigInteger) else 31
        return lambda value: _read_integer(value, bits, column.name)
    return _TEXTS.get(column.name, _read_text)


def _read_text(value: object) -> str:
    if not isinstance(value, str):
        raise _WrongValueError("text")
    if "\0" in value:
        raise _WrongValueError("text without NUL")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise _WrongValueError("text in UTF-8") from None
    if len(value) > _MAX_TEXT_BYTES:
        raise _WrongValueError(f"at most {_MAX_TEXT_BYTES} characters")
    return value


def _read_uuid(value: object) -> str:
    if not isinstance(value, str) or not _UUID.match(value):
        raise _WrongValueError("a UUID in lower case with hyphens")
    return value


def _read_json(value: object) -> str:
    text = _read_text(value)
    try:
        found = load(text, "")
    except FormatError:
        raise _WrongValueError("JSON") from None
    if "\\u0000" in text and "\0" in str(found):
        raise _WrongValueError("JSON without NUL")
    return canonical(found)


def _read_object(value: object) -> str:
    text = _read_json(value)
    if not text.startswith("{"):
        raise _WrongValueError("a JSON object")
    return text


def _read_data_id(value: object) -> str:
    text = _read_object(value)
    if any(type(v) is not int and type(v) is not str for v in json.loads(text).values()):
        raise _WrongValueError("a JSON object of text and integers")
    if len(text.encode()) > _MAX_KEY_BYTES:
        raise _WrongValueError(f"at most {_MAX_KEY_BYTES} bytes")
    return text


def _read_dimensions(value: object) -> str:
    text = _read_json(value)
    names = json.loads(text)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise _WrongValueError("a JSON list of names")
    for name in names:
        _read_identifier(name)
    # Their order is that of the file.
    return text


def _read_boolean(value: object) -> bool:
    if value is not None and value in (0, 1):
        return bool(value)
    raise _WrongValueError("0 or 1")


def _read_integer(value: object, bits: int, name: str) -> int:
    if type(value) is not int or not -(2**bits) <= value < 2**bits:
        raise _WrongValueError("an integer" if bits > 31 else "an integer of 32 bits")
    if name.endswith("_bytes") and value < 0:
        raise _WrongValueError("a number of bytes")
    return value


def _read_number(value: object) -> float:
    if type(value) not in (int, float):
        raise _WrongValueError("a number")
    return float(value)  # type: ignore[arg-type]


def _read_time(value: object) -> str:
    """SQLAlchemy writes times without their zone, which is always UTC."""
    try:
        time = datetime.datetime.fromisoformat(_read_text(value))
    except ValueError:
        raise _WrongValueError("a time in ISO 8601") from None
    return (time if time.tzinfo else time.replace(tzinfo=datetime.UTC)).isoformat()


def _read_checksum(value: object) -> str:
    text = _read_text(value)
    if not _CHECKSUM.match(text):
        raise _WrongValueError("sha256:<64 hexadecimal digits>")
    return text


def _read_run(value: object) -> str:
    try:
        return check_run(_read_text(value))
    except InvalidNameError:
        raise _WrongValueError("a name of a RUN") from None


def _read_identifier(value: object) -> str:
    try:
        return check_identifier(_read_text(value), "name")
    except InvalidNameError:
        raise _WrongValueError("a name of letters, digits and underscores") from None


def _read_short(value: object) -> str:
    text = _read_text(value)
    if len(text.encode()) > _MAX_KEY_BYTES:
        raise _WrongValueError(f"at most {_MAX_KEY_BYTES} bytes")
    return text


_TEXTS: dict[str, Callable[[Any], str]] = {
    "run": _read_run,
    "chain": _read_run,
    "child": _read_run,
    "dataset_type": _read_identifier,
    "dimension": _read_identifier,
    "checksum": _read_checksum,
    "delta_checksum": _read_checksum,
    "object_key": _read_short,
    "name": _read_short,
}
_JSON: dict[str, Callable[[Any], str]] = {
    "dimensions": _read_dimensions,
    "record": _read_object,
    "versions": _read_object,
    "requested": _read_object,
    "content": _read_object,
}
