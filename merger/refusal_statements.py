# SPDX-License-Identifier: BSD-3-Clause
"""All SQL of trying rows that PostgreSQL may refuse, one line of purpose each."""

from typing import LiteralString

_TABLES: tuple[LiteralString, ...] = (
    *("merged_attempt", "quantum", "attempt", "quantum_input", "metric"),
    *("dimension_source", "dataset", "datastore_record"),
)

# Stage tables with the same columns, in which rows do no harm.
STAGE_TRIAL: LiteralString = ";".join(
    f"CREATE TEMPORARY TABLE tried_{name} (LIKE {name}) ON COMMIT DROP" for name in _TABLES
)

# What gives them the same indexes, of the same names: a key may be too large for its index. None
# is unique here, since rows that meet others are not refused.
READ_INDEXES = """
SELECT format('CREATE INDEX %%I ON %%I', i.relname, 'tried_' || t.relname)
    || substring(pg_get_indexdef(i.oid) FROM ' USING .*')
FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid
WHERE x.indrelid IN (SELECT to_regclass(name) FROM unnest(%s::text[]) AS name)
ORDER BY i.relname
"""
