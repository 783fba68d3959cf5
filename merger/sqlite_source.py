# SPDX-License-Identifier: BSD-3-Clause
"""An SQLite file of somebody else, read without trusting it.

Nothing in it is run: only plain tables are read, views, triggers and virtual tables are not. It is
read in one transaction, so that it is one state of the file, and never written; where SQLite would
have to (a write-ahead log that nobody has taken up, in a directory that is not ours), a copy is
read.
"""

import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

from registry.errors import QuantumExecError

_HEADER = b"SQLite format 3\0"
_LOCK_PATIENCE_S = 30.0
_LARGEST_VALUE_BYTES = 16 * 1024 * 1024
_FETCHED = 1000
_ALLOWED = frozenset(
    {
        sqlite3.SQLITE_SELECT,
        sqlite3.SQLITE_READ,
        sqlite3.SQLITE_PRAGMA,
        sqlite3.SQLITE_TRANSACTION,
    }
)
_FUNCTIONS = frozenset({"count", "max", "min", "->", "->>"})


class SqliteSourceError(QuantumExecError, ValueError):
    """An SQLite file cannot be read, or holds what a registry cannot: table, rowid, column."""

    error_type = "sqlite_source"


class SqliteSource:
    """An SQLite file, open for reading; a context."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.where = f"SQLite file {str(path)!r}"
        self._stack = ExitStack()
        self.columns: dict[str, list[str]] = {}
        """Columns of each table."""

    def __enter__(self) -> "SqliteSource":
        self._check_header()
        with self._stack:
            try:
                self._connection = self._open(self.path, "mode=ro")
            except sqlite3.OperationalError as error:
                if "locked" in str(error):
                    raise self._error(error) from error
                self._connection = self._open_otherwise()
            except sqlite3.Error as error:
                raise self._error(error) from error
            self._look()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _check_header(self) -> None:
        try:
            with self.path.open("rb") as file:
                begin = file.read(len(_HEADER))
        except OSError as error:
            raise SqliteSourceError(f"{self.where}: {error.strerror}") from error
        if begin != _HEADER:
            raise SqliteSourceError(
                f"{self.where}: expected an SQLite database, found another file"
            )

    def _open(self, path: Path, how: str) -> sqlite3.Connection:
        address = f"file:{quote(str(path.absolute()))}?{how}"
        connection = sqlite3.connect(
            address,
            uri=True,
            timeout=_LOCK_PATIENCE_S,
            isolation_level=None,
            # Batches are made in a thread of their own, one thread at a time.
            check_same_thread=False,
        )
        self._stack.callback(connection.close)
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LARGEST_VALUE_BYTES)
        connection.text_factory = _read_text
        for pragma in ("trusted_schema = OFF", "query_only = ON", "cell_size_check = ON"):
            connection.execute(f"PRAGMA {pragma}")
        connection.set_authorizer(_authorize)
        connection.execute("BEGIN")
        try:
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        except sqlite3.DatabaseError as error:
            if "unsafe use of ->>" not in str(error):
                raise
            # Indexes of our own tables have this operator, which some releases of SQLite distrust.
            connection.execute("PRAGMA trusted_schema = ON")
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        return connection

    def _open_otherwise(self) -> sqlite3.Connection:
        """Open a file that SQLite cannot only read: as it is, or a copy with what belongs to it."""
        sides = [Path(f"{self.path}{end}") for end in ("-wal", "-journal")]
        left = [side for side in sides if side.exists() and side.stat().st_size]
        try:
            if not left:
                return self._open(self.path, "mode=ro&immutable=1")
            directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
            for path in (self.path, *left):
                shutil.copyfile(path, directory / path.name)
            return self._open(directory / self.path.name, "mode=rw")
        except (sqlite3.Error, OSError) as error:
            raise self._error(error) from error

    def _look(self) -> None:
        """See that the file is sound, and which tables it has."""
        try:
            for (message,) in self._connection.execute("PRAGMA quick_check(1)"):
                if message != "ok":
                    raise SqliteSourceError(f"{self.where}: it is damaged: {message}")
            found = self._connection.execute("SELECT name, type, sql FROM sqlite_schema").fetchall()
            self._kinds = {name: (kind, sql or "") for name, kind, sql in found}
            for name, (kind, sql) in self._kinds.items():
                if kind == "table" and not sql.upper().startswith("CREATE VIRTUAL"):
                    rows = self._connection.execute(f"PRAGMA table_xinfo({quoted(name)})")
                    # Hidden ones are computed.
                    self.columns[name] = [row[1] for row in rows if row[6] == 0]
        except sqlite3.Error as error:
            raise self._error(error) from error

    def expect_tables(self, names: Iterable[str]) -> None:
        """Raise `SqliteSourceError` unless these are tables, none of them a view or virtual."""
        for name in names:
            if name not in self.columns:
                kind = self._kinds.get(name, ("none", ""))[0]
                kind = "a virtual table" if kind == "table" else kind
                raise SqliteSourceError(f"{self.where}: expected table {name!r}, found {kind}")

    def is_other_kind(self, name: str) -> bool:
        """Tell whether there is something of this name that is no plain table."""
        return name in self._kinds and name not in self.columns

    def query(self, statement: str, *values: object) -> Iterator[tuple[Any, ...]]:
        """Run a query of ours; rows come as they are read.

        Raises
        ------
        SqliteSourceError
            If the file is damaged, or a value is larger than 16 MiB.
        """
        try:
            cursor = self._connection.execute(statement, values)
            while rows := cursor.fetchmany(_FETCHED):
                yield from rows
        except (sqlite3.Error, OverflowError) as error:
            raise self._error(error, statement) from error

    def count(self, table: str) -> int:
        """Return the number of rows of a table, 0 if there is none."""
        if table not in self.columns:
            return 0
        return int(next(self.query(f"SELECT count(*) FROM {quoted(table)}"))[0])

    def _error(self, error: Exception, statement: str = "") -> SqliteSourceError:
        text = str(error)
        if "locked" in text:
            text += f" for {_LOCK_PATIENCE_S:.0f} s; end what writes it, or import a copy"
        elif "too big" in text:
            text = f"expected values of at most {_LARGEST_VALUE_BYTES} bytes, found a larger one"
        if statement:
            text += f" (in {' '.join(statement.split())[:120]!r})"
        return SqliteSourceError(f"{self.where}: {text}")


def quoted(name: str) -> str:
    """Return a name as SQL has it."""
    doubled = name.replace('"', '""')
    return f'"{doubled}"'


def _read_text(raw: bytes) -> str:
    # What is no UTF-8 becomes lone surrogates, and is refused with its place.
    return raw.decode("utf-8", "surrogateescape")


def _authorize(action: int, _: str | None, name: str | None, *__: object) -> int:
    if action == sqlite3.SQLITE_FUNCTION:
        return sqlite3.SQLITE_OK if name in _FUNCTIONS else sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY
