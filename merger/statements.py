# SPDX-License-Identifier: BSD-3-Clause
"""All SQL of the merge, one line of purpose each.

Rows are always inserted in the order of a key, and tables in one order, so that two mergers
wait for each other and do not deadlock.
"""

from typing import LiteralString

# One lock for a whole registry. Transactions of a merge share it; whoever must be sure that
# nothing changes meanwhile takes it alone. It ends with the transaction, so it passes poolers.
_LOCK_KEY = int.from_bytes(b"registry") >> 1

# Without the limit of a role on whole transactions; servers before PostgreSQL 17 know none.
_NO_LIMIT: LiteralString = """CASE WHEN current_setting('transaction_timeout', true) <> '0'
    THEN set_config('transaction_timeout', '0', true) END"""

# Settings of a transaction: nothing that is blocked or forgotten stops the others for ever, and the
# server notices that the client it works for was killed. (Only Linux can tell the latter.)
BEGIN = f"""
SELECT set_config('lock_timeout', %s, true),
    set_config('idle_in_transaction_session_timeout', %s, true),
    set_config('statement_timeout', %s, true),
    set_config('client_connection_check_interval',
        CASE WHEN version() LIKE '%%linux%%' THEN %s ELSE '0' END, true),
    {_NO_LIMIT}
"""

# Let others run beside.
LOCK_SHARED = f"SELECT pg_advisory_xact_lock_shared({_LOCK_KEY})"

# Wait for all others and keep them waiting.
LOCK_ALONE = f"SELECT pg_advisory_xact_lock({_LOCK_KEY})"

# Begin an upgrade of the tables; how long it may take, nobody can say.
BEGIN_UPGRADE = f"SET LOCAL lock_timeout = '60s'; {LOCK_ALONE}"

# End transactions of a merge whose COPY has waited long for a client that is stopped: cancelling,
# and so every timeout of the server, has no effect then.
END_STOPPED = f"""
SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity a JOIN pg_locks l USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
  AND l.classid = {_LOCK_KEY >> 32} AND l.objid = {_LOCK_KEY & 0xFFFFFFFF}
  AND a.datname = current_database() AND a.usename = current_user AND a.pid <> pg_backend_pid()
  AND a.state = 'active' AND a.wait_event IN ('ClientRead', 'ClientWrite')
  AND a.query_start < clock_timestamp() - make_interval(secs => %s)
"""

# Begin a transaction that sees one state of the registry in all its statements. A role may have
# limits that are meant for people; reading all of a RUN takes as long as it takes.
BEGIN_SNAPSHOT = f"""
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;
SET LOCAL lock_timeout = '60s'; SET LOCAL statement_timeout = 0;
SET LOCAL idle_in_transaction_session_timeout = 0;
SELECT {_NO_LIMIT}
"""

# Which transaction is this, if it has written? And what became of it?
READ_TRANSACTION_ID = "SELECT pg_current_xact_id_if_assigned()::text"
READ_TRANSACTION_STATUS = "SELECT pg_xact_status(%s::text::xid8)"

# Has Alembic ever been here? Then its schema is the only one for the rest of the transaction: a
# role may search others before it, which may have tables of our names.
FIND_VERSION = """
SELECT set_config('search_path', quote_ident(nspname), true)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = to_regclass('alembic_version')
"""

# Revision of the schema.
READ_VERSION = "SELECT version_num FROM alembic_version"

# ---- what a RUN needs before its deltas -----------------------------------------------------

# Ensure the RUN.
ENSURE_RUN = "INSERT INTO run (run) VALUES (%s) ON CONFLICT DO NOTHING"

# Ensure a dataset type.
ENSURE_DATASET_TYPE = """
INSERT INTO dataset_type (dataset_type, dimensions, storage_class) VALUES (%s, %s::jsonb, %s)
ON CONFLICT DO NOTHING
"""

# How is a dataset type defined here?
READ_DATASET_TYPE = """
SELECT dimensions, storage_class FROM dataset_type WHERE dataset_type = %s
"""

# ---- one batch ------------------------------------------------------------------------------

# Stage what may meet rows that are there already; everything else is COPYed where it belongs.
STAGE_BATCH = """
CREATE TEMPORARY TABLE staged_ledger (LIKE merged_attempt) ON COMMIT DROP;
CREATE TEMPORARY TABLE staged_quantum (LIKE quantum) ON COMMIT DROP
"""
STAGE_DIMENSIONS = """
CREATE TEMPORARY TABLE staged_dimension
    (dimension text, data_id jsonb, attempt_id uuid, record jsonb) ON COMMIT DROP
"""


def copy_binary(table_name: LiteralString) -> LiteralString:
    """Fill a table, all columns in their order."""
    return f"COPY {table_name} FROM STDIN (FORMAT BINARY)"


# Claim the attempts: whoever inserts the ledger row merges the delta.
CLAIM = """
INSERT INTO merged_attempt SELECT * FROM staged_ledger ORDER BY attempt_id
ON CONFLICT DO NOTHING
RETURNING attempt_id::text
"""

# Insert the quanta that are new.
INSERT_QUANTA = """
INSERT INTO quantum SELECT * FROM staged_quantum ORDER BY quantum_id ON CONFLICT DO NOTHING
"""

# Lock the quanta that were there, and see which attempt counts so far.
LOCK_QUANTA = """
SELECT q.quantum_id::text, q.run, q.status, q.attempt_id::text
FROM quantum q JOIN staged_quantum s USING (quantum_id)
WHERE q.attempt_id <> s.attempt_id
ORDER BY q.quantum_id
FOR NO KEY UPDATE OF q
"""

# A success counts more than anything else, then the higher attempt id.
RAISE_QUANTA = """
UPDATE quantum q SET
    graph_id = s.graph_id, task_label = s.task_label, data_id = s.data_id,
    status = s.status, attempt_id = s.attempt_id
FROM staged_quantum s
WHERE q.quantum_id = s.quantum_id
  AND (s.status = 'successful', s.attempt_id) > (q.status = 'successful', q.attempt_id)
"""

# Is any conflict about datasets on record?
HAS_DATASET_CONFLICTS = """
SELECT EXISTS (SELECT FROM merge_conflict WHERE table_name = 'dataset')
"""

# Stage datasets, to compare them with what is there.
STAGE_DATASETS = """
CREATE TEMPORARY TABLE staged_dataset (LIKE dataset) ON COMMIT DROP;
CREATE TEMPORARY TABLE staged_record (LIKE datastore_record) ON COMMIT DROP
"""

# Does a dataset of this batch claim a key that some conflict is about?
TOUCHES_DATASET_CONFLICT = """
SELECT EXISTS (
    SELECT FROM merge_conflict c JOIN staged_dataset s
        ON c.content->>'dataset_id' = s.dataset_id::text
    WHERE c.table_name = 'dataset'
) OR EXISTS (
    SELECT FROM merge_conflict c JOIN staged_dataset s
        ON c.content->>'run' = s.run AND c.content->>'dataset_type' = s.dataset_type
        AND c.content->'data_id' = s.data_id
    WHERE c.table_name = 'dataset'
)
"""

# Note who brought which dimension records; what comes from outside is known by its content.
INSERT_DIMENSION_SOURCES = """
INSERT INTO dimension_source
SELECT dimension, data_id, coalesce(attempt_id, md5(record::text)::uuid), record
FROM staged_dimension
ON CONFLICT DO NOTHING
"""

# Insert dimension records that are new.
INSERT_DIMENSIONS = """
INSERT INTO dimension_record (dimension, data_id, record)
SELECT DISTINCT ON (dimension, data_id) dimension, data_id, record
FROM staged_dimension ORDER BY dimension, data_id, record::text COLLATE "C" DESC
ON CONFLICT DO NOTHING
"""

# Dimension records of this batch that differ from what is there, or that a conflict is about.
READ_CONTENDED_DIMENSIONS = """
SELECT DISTINCT s.dimension, s.data_id::text
FROM staged_dimension s JOIN dimension_record d USING (dimension, data_id)
WHERE s.record::text <> d.record::text
UNION
SELECT s.dimension, s.data_id::text FROM merge_conflict c JOIN staged_dimension s
    ON c.content->>'dimension' = s.dimension AND c.content->'data_id' = s.data_id
WHERE c.table_name = 'dimension_record'
"""

# ---- the careful way: datasets --------------------------------------------------------------

# Let the planner know that the stage is small, and the tables may not be.
ANALYZE_DATASETS = "ANALYZE staged_dataset"

# Datasets of the batch that claim a key which the table, a side of a conflict, or another dataset
# of the batch claims, too.
READ_CONTENDED_DATASETS = """
SELECT s.dataset_id::text FROM staged_dataset s JOIN dataset d USING (dataset_id)
UNION
SELECT s.dataset_id::text FROM staged_dataset s JOIN dataset d USING (run, dataset_type, data_id)
UNION
SELECT s.dataset_id::text FROM staged_dataset s JOIN merge_conflict c
    ON c.content->>'dataset_id' = s.dataset_id::text
WHERE c.table_name = 'dataset'
UNION
SELECT s.dataset_id::text FROM staged_dataset s JOIN merge_conflict c
    ON c.content->>'run' = s.run AND c.content->>'dataset_type' = s.dataset_type
    AND c.content->'data_id' = s.data_id
WHERE c.table_name = 'dataset'
UNION
SELECT dataset_id::text FROM (
    SELECT dataset_id, count(*) OVER (PARTITION BY dataset_id) AS n_same_id,
        count(*) OVER (PARTITION BY run, dataset_type, data_id) AS n_same_data_id
    FROM staged_dataset
) AS claims WHERE n_same_id > 1 OR n_same_data_id > 1
"""

# Insert the datasets that nothing contends with.
INSERT_DATASETS = """
INSERT INTO dataset SELECT * FROM staged_dataset WHERE dataset_id <> ALL(%s::uuid[])
"""
INSERT_DATASTORE_RECORDS = """
INSERT INTO datastore_record SELECT * FROM staged_record WHERE dataset_id <> ALL(%s::uuid[])
"""

# Successful attempts that no longer count.
SUPERSEDE = "UPDATE attempt SET superseded = true WHERE attempt_id = ANY(%s::uuid[])"
