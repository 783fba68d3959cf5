# SPDX-License-Identifier: BSD-3-Clause
"""Which rights a role needs that merges, and the SQL that gives them; never superuser."""

from registry.tables import metadata

VERSION_TABLE = "alembic_version"
RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE")


def table_names() -> list[str]:
    """Return the tables that a merge writes."""
    return sorted(metadata.tables)


def needed(table: str) -> tuple[str, ...]:
    """Return the rights that a merge needs on a table."""
    return ("SELECT",) if table == VERSION_TABLE else RIGHTS


def grants(role: str, *, database: str, schema: str = "public") -> str:
    """Return the SQL that lets a role merge into tables that another role owns."""
    who = _quoted(role)
    tables = ",\n    ".join(f"{_quoted(schema)}.{name}" for name in table_names())
    return (
        f"GRANT CONNECT, TEMPORARY ON DATABASE {_quoted(database)} TO {who};\n"
        f"GRANT USAGE ON SCHEMA {_quoted(schema)} TO {who};\n"
        f"GRANT SELECT ON {_quoted(schema)}.{VERSION_TABLE} TO {who};\n"
        f"GRANT {', '.join(RIGHTS)} ON\n    {tables}\n    TO {who};\n"
    )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
