# SPDX-License-Identifier: BSD-3-Clause
"""A registry filled with the rows of earlier RUNs, millions of datasets in a minute or two.

Proportions are those of the workload. Ids of quanta and datasets are spread over their whole
range, as those of many graphs are; attempts follow each other in time. Tables are filled without
their keys and indexes, by two connections, and these are made again as they were.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import LiteralString

import psycopg
from psycopg import sql

N_PER_QUANTUM, N_INPUTS_PER_QUANTUM = 2.75, 8

# Ids follow from numbers, so that each table can be made by itself.
_ID: LiteralString = "md5({} || i)::uuid"
_ATTEMPT_ID: LiteralString = (
    "(lpad(to_hex(1600000000000 + i * 1000), 12, '0') || '7' || left(md5('a' || i), 3)"
    " || '8' || substr(md5('a' || i), 5, 15))::uuid"
)
_QUANTUM_ID, _DATASET_ID = _ID.replace("{}", "'q'"), _ID.replace("{}", "'d'")
# In the order of their RUNs, so that sorting by RUN and data ID finds them sorted.
_RUN: LiteralString = "'earlier/' || lpad((i * 100 / {})::text, 2, '0')"
_RUN_OF_QUANTUM = _RUN.replace("{}", "%(n_quanta)s::bigint")
_RUN_OF_DATASET = _RUN.replace("{}", "%(n_datasets)s::bigint")
_QUANTA: LiteralString = "FROM generate_series(0, %(n_quanta)s::bigint - 1) i"
_DATASETS: LiteralString = "FROM generate_series(0, %(n_datasets)s::bigint - 1) i"

_ROWS: dict[str, LiteralString] = {
    "quantum_input": f"""
INSERT INTO quantum_input SELECT attempt_id, md5(i || '/' || k)::uuid, attempt_id,
    above || k || '.fits', 18000000, checksum FROM (
        SELECT *, generate_series(1, %(n_inputs)s) AS k FROM (
            SELECT i, {_ATTEMPT_ID} AS attempt_id, 'HSC/raw/all/' || i || '/' AS above,
                'sha256:' || repeat(md5(i::text), 2) AS checksum {_QUANTA} OFFSET 0
        ) quanta OFFSET 0
    ) inputs
""",
    "datastore_record": f"""
INSERT INTO datastore_record SELECT {_DATASET_ID}, {_RUN_OF_DATASET} || '/calexp/' || i
    || '.fits', 8000000, 'sha256:' || repeat(md5(i::text), 2), 'Fits' {_DATASETS}
""",
    "dataset": f"""
INSERT INTO dataset SELECT {_DATASET_ID}, {_RUN_OF_DATASET}, 'calexp',
    jsonb_build_object('instrument', 'HSC', 'visit', i, 'detector', i %% 103), NULL, NULL
    {_DATASETS}
""",
    "attempt": f"""
INSERT INTO attempt (attempt_id, quantum_id, status, superseded, no_work, started, finished, host,
    wall_s, cpu_user_s, cpu_system_s, max_rss_bytes)
    SELECT {_ATTEMPT_ID}, {_QUANTUM_ID}, 'successful', false, false, now(), now(), 'node',
    1, 1, 1, 1 {_QUANTA}
""",
    "quantum": f"""
INSERT INTO quantum SELECT {_QUANTUM_ID}, {_RUN_OF_QUANTUM}, {_QUANTUM_ID}, 'calibrate',
    jsonb_build_object('visit', i), 'successful', {_ATTEMPT_ID} {_QUANTA}
""",
    "merged_attempt": f"""
INSERT INTO merged_attempt (attempt_id, run, quantum_id, delta_checksum)
    SELECT {_ATTEMPT_ID}, {_RUN_OF_QUANTUM}, {_QUANTUM_ID},
    'sha256:' || repeat(md5(i::text), 2) {_QUANTA}
""",
    "metric": f"""
INSERT INTO metric SELECT {_ATTEMPT_ID}, 'n_sources', i {_QUANTA}
""",
}
"""What fills each table, the largest first."""

_PARENTS: LiteralString = """
INSERT INTO run SELECT 'earlier/' || lpad(i::text, 2, '0') FROM generate_series(0, 99) i;
INSERT INTO dataset_type VALUES ('calexp', '["instrument", "visit", "detector"]', 'Fits')
    ON CONFLICT DO NOTHING
"""

# Constraints, and indexes that belong to none, as statements that make them again; foreign keys
# last, because they need the others.
_READ_CONSTRAINTS: LiteralString = """
SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid), contype = 'f'
FROM pg_constraint WHERE conrelid = ANY(%s::regclass[]) AND contype IN ('p', 'u', 'f')
"""
_READ_INDEXES: LiteralString = """
SELECT i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid) FROM pg_index i
WHERE i.indrelid = ANY(%s::regclass[])
  AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = i.indexrelid)
"""


def fill(address: str, n_datasets: int) -> None:
    """Fill a fresh registry with rows of earlier RUNs, and let PostgreSQL count them."""
    numbers = {
        "n_datasets": n_datasets,
        "n_quanta": int(n_datasets / N_PER_QUANTUM),
        "n_inputs": N_INPUTS_PER_QUANTUM,
    }
    with psycopg.connect(address, autocommit=True) as connection:
        keys, foreign_keys = _take_indexes(connection)
        connection.execute(_PARENTS)

    def run(statement: LiteralString | sql.SQL | sql.Composed) -> None:
        with psycopg.connect(address, autocommit=True) as connection:
            for setting in ("synchronous_commit = off", "maintenance_work_mem = '512MB'"):
                connection.execute(sql.SQL("SET " + setting))
            # They hold by construction, and PostgreSQL would ask for them row by row.
            connection.execute("SET session_replication_role = replica")
            connection.execute(statement, numbers if isinstance(statement, str) else None)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(run, _ROWS.values()))
        list(pool.map(run, keys))
    for statement in foreign_keys:
        run(statement)
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")


def _take_indexes(
    connection: psycopg.Connection,
) -> tuple[list[sql.SQL | sql.Composed], list[sql.SQL | sql.Composed]]:
    """Drop keys and indexes of the tables; returns what makes keys, and foreign keys, again."""
    tables = list(_ROWS)
    indexes = connection.execute(_READ_INDEXES, (tables,)).fetchall()
    constraints = connection.execute(_READ_CONSTRAINTS, (tables,)).fetchall()
    made: list[sql.SQL | sql.Composed] = [_verbatim(definition) for _, definition in indexes]
    foreign: list[sql.SQL | sql.Composed] = []
    for name, _ in indexes:
        connection.execute(sql.SQL("DROP INDEX {}").format(_verbatim(name)))
    for table, name, definition, is_foreign in constraints:
        statement = sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}").format(
            _verbatim(table), sql.Identifier(name), _verbatim(definition)
        )
        (foreign if is_foreign else made).append(statement)
    for table, name, _, _ in sorted(constraints, key=lambda c: not c[3]):
        connection.execute(
            sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(
                _verbatim(table), sql.Identifier(name)
            )
        )
    return made, foreign


def _verbatim(text: LiteralString) -> sql.SQL:
    # What PostgreSQL itself has written as SQL.
    return sql.SQL(text)
