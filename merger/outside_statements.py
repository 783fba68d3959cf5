# SPDX-License-Identifier: BSD-3-Clause
"""All SQL of what comes from outside (files, tables, SQLite), one line of purpose each."""

from typing import LiteralString

from merger.forgetting_statements import RUN_IS_EMPTY

# Let the planner know the size of both stages.
ANALYZE_STAGED = "ANALYZE staged_dataset, staged_record"

# Leave out what attempts made that the ledger has, forgotten ones too, or that do not count: a
# success of their quantum is merged, or a newer attempt of it was entered before.
SKIP_OF_ATTEMPTS = """
DELETE FROM staged_dataset s
WHERE EXISTS (SELECT FROM merged_attempt m WHERE m.attempt_id = s.attempt_id)
    OR EXISTS (
        SELECT FROM quantum q WHERE q.quantum_id = s.quantum_id AND q.status = 'successful'
    )
    OR EXISTS (
        SELECT FROM dataset d WHERE d.dataset_id = s.dataset_id
        AND d.quantum_id = s.quantum_id AND d.attempt_id > s.attempt_id
    )
"""

# Make way for newer attempts where no conflict says who is there.
DELETE_OLDER = """
DELETE FROM dataset d USING staged_dataset s
WHERE d.dataset_id = s.dataset_id AND d.quantum_id = s.quantum_id AND d.attempt_id < s.attempt_id
    AND NOT EXISTS (
        SELECT FROM merge_conflict c
        WHERE c.table_name = 'dataset' AND c.content->>'dataset_id' = d.dataset_id::text
    )
"""

# Attempts that have some of these datasets, or lost a conflict with them, and do not count: entered
# from outside before a success of their quantum was merged, or failed.
READ_DISPLACED = """
WITH side AS (
    SELECT attempt_id, quantum_id FROM dataset
    WHERE dataset_id = ANY(%(dataset_ids)s::text[]::uuid[])
    UNION
    SELECT attempt_id, (content->>'quantum_id')::uuid FROM merge_conflict
    WHERE table_name = 'dataset' AND content->>'dataset_id' = ANY(%(dataset_ids)s::text[])
)
SELECT s.attempt_id::text, s.quantum_id::text
FROM side s JOIN quantum q USING (quantum_id) LEFT JOIN attempt a ON a.attempt_id = s.attempt_id
WHERE s.attempt_id IS NOT NULL
    AND (a.attempt_id IS NULL AND q.status = 'successful' OR a.status <> 'successful')
"""

# What both sides know of the bytes is the same, and they lie at one place or have one checksum.
_IS_SAME_RECORD = """
    r.dataset_id IS NOT NULL
    AND coalesce(s.size_bytes = r.size_bytes, true) AND coalesce(s.checksum = r.checksum, true)
    AND (s.object_key = r.object_key OR coalesce(s.checksum = r.checksum, false))
"""

_IS_NEWS = """
    r.size_bytes IS NULL AND s.size_bytes IS NOT NULL
    OR r.checksum IS NULL AND s.checksum IS NOT NULL
"""

# How many of the batch are there with the same content, of how many of these is more known now, and
# how many did attempts make?
COUNT_SAME = f"""
SELECT count(*), count(*) FILTER (WHERE {_IS_NEWS}), count(d.attempt_id)
FROM staged_dataset JOIN dataset d USING (dataset_id, run, dataset_type, data_id)
LEFT JOIN staged_record s USING (dataset_id) LEFT JOIN datastore_record r USING (dataset_id)
WHERE s.dataset_id IS NULL OR {_IS_SAME_RECORD}
"""

# Add size and checksum, where they were not known, to records that came from outside before.
COMPLETE_RECORDS = f"""
UPDATE datastore_record t
SET size_bytes = coalesce(r.size_bytes, s.size_bytes), checksum = coalesce(r.checksum, s.checksum)
FROM staged_dataset JOIN dataset d USING (dataset_id, run, dataset_type, data_id)
JOIN staged_record s USING (dataset_id) JOIN datastore_record r USING (dataset_id)
WHERE t.dataset_id = d.dataset_id AND d.attempt_id IS NULL AND {_IS_SAME_RECORD}
    AND s.object_key = r.object_key
    AND ({_IS_NEWS})
    AND NOT EXISTS (
        SELECT FROM merge_conflict c
        WHERE c.table_name = 'dataset' AND c.content->>'dataset_id' = d.dataset_id::text
    )
"""

# Let what an attempt made, too, stand for what was registered, so that forget leaves it.
ADOPT_RECORDS = f"""
UPDATE datastore_record t
SET object_key = s.object_key, storage_class = s.storage_class,
    size_bytes = coalesce(r.size_bytes, s.size_bytes), checksum = coalesce(r.checksum, s.checksum)
FROM staged_dataset JOIN dataset d USING (dataset_id, run, dataset_type, data_id)
JOIN staged_record s USING (dataset_id) JOIN datastore_record r USING (dataset_id)
WHERE t.dataset_id = d.dataset_id AND d.attempt_id IS NOT NULL AND {_IS_SAME_RECORD}
    AND NOT EXISTS (
        SELECT FROM merge_conflict c
        WHERE c.table_name = 'dataset' AND c.content->>'dataset_id' = d.dataset_id::text
    )
RETURNING t.dataset_id::text
"""
ADOPT_DATASETS = """
UPDATE dataset SET quantum_id = NULL, attempt_id = NULL WHERE dataset_id = ANY(%s::uuid[])
"""

# Leave out what is there with the same content.
SKIP_SAME = f"""
DELETE FROM staged_dataset WHERE dataset_id IN (
    SELECT dataset_id FROM staged_dataset
    JOIN dataset d USING (dataset_id, run, dataset_type, data_id)
    LEFT JOIN staged_record s USING (dataset_id) LEFT JOIN datastore_record r USING (dataset_id)
    WHERE s.dataset_id IS NULL OR {_IS_SAME_RECORD}
)
"""
SKIP_RECORDS = """
DELETE FROM staged_record s
WHERE NOT EXISTS (SELECT FROM staged_dataset d WHERE d.dataset_id = s.dataset_id)
"""

CLEAR_STAGE = "TRUNCATE staged_dataset, staged_record"

# Sides that this batch brings, of those that something contends with.
READ_STAGED_SIDES = """
SELECT d.dataset_id::text, d.run, d.dataset_type, d.data_id::text, d.quantum_id::text,
    d.attempt_id::text, r.object_key, r.size_bytes, r.checksum, r.storage_class
FROM staged_dataset d LEFT JOIN staged_record r USING (dataset_id)
WHERE d.dataset_id = ANY(%s::uuid[])
"""

# Some data ID of a dataset type: by RUN, so that the index serves.
READ_SOME_DATA_ID = """
SELECT found.data_id FROM run r CROSS JOIN LATERAL (
    SELECT d.data_id FROM dataset d WHERE d.run = r.run AND d.dataset_type = %s LIMIT 1
) AS found LIMIT 1
"""

# Some record of a dimension.
READ_SOME_RECORD = "SELECT data_id, record FROM dimension_record WHERE dimension = %s LIMIT 1"

# What JSON has as the value of a dimension: in some record of it.
READ_OWN_KIND = """
SELECT jsonb_typeof(data_id->%(dimension)s::text) FROM dimension_record
WHERE dimension = %(dimension)s::text LIMIT 1
"""

# The same in some record of each other dimension, and in some data ID of each dataset type, that
# has it; one by one, so that the indexes serve.
READ_OTHER_KINDS = """
WITH RECURSIVE others AS (
    (SELECT dimension FROM dimension_record ORDER BY dimension LIMIT 1)
    UNION ALL
    SELECT (
        SELECT r.dimension FROM dimension_record r WHERE r.dimension > o.dimension
        ORDER BY r.dimension LIMIT 1
    ) FROM others o WHERE o.dimension IS NOT NULL
)
SELECT jsonb_typeof(one.data_id->%(dimension)s::text) FROM others o CROSS JOIN LATERAL (
    SELECT r.data_id FROM dimension_record r WHERE r.dimension = o.dimension LIMIT 1
) AS one WHERE one.data_id ? %(dimension)s::text
UNION
SELECT jsonb_typeof(one.data_id->%(dimension)s::text) FROM dataset_type t CROSS JOIN LATERAL (
    SELECT found.data_id FROM run r CROSS JOIN LATERAL (
        SELECT d.data_id FROM dataset d
        WHERE d.run = r.run AND d.dataset_type = t.dataset_type LIMIT 1
    ) AS found LIMIT 1
) AS one WHERE t.dimensions ? %(dimension)s::text
"""

# How many of these dimension records are there, with the same content and with other content?
COUNT_RECORDS = """
SELECT count(*) FILTER (WHERE d.record = k.record), count(*) FILTER (WHERE d.record <> k.record)
FROM unnest(%s::jsonb[], %s::jsonb[]) AS k (data_id, record)
JOIN dimension_record d ON d.dimension = %s AND d.data_id = k.data_id
"""

# Take away RUNs that were forgotten and have nothing again.
DELETE_FORGOTTEN_RUNS = f"""
DELETE FROM run r WHERE r.run = ANY(%s)
    AND EXISTS (SELECT FROM merged_attempt m WHERE m.run = r.run AND m.forgotten)
    AND NOT EXISTS (SELECT FROM collection_chain c WHERE c.child = r.run)
    AND {RUN_IS_EMPTY}
"""

# Datasets that some quanta have made; by RUN, so that the index serves.
READ_MADE = "SELECT dataset_id::text FROM dataset WHERE run = %s AND quantum_id = ANY(%s::uuid[])"

# What lost a conflict waits there, whole.
_WAITS = """
    EXISTS (
        SELECT FROM merge_conflict c
        WHERE c.table_name = 'dataset' AND c.content->>'dataset_id' = k.dataset_id::text
    )
"""

# How many of these keys does a table have?
COUNT_PRESENT: dict[str, LiteralString] = {
    "run": "SELECT count(*) FROM run WHERE run = ANY(%s)",
    "dataset_type": "SELECT count(*) FROM dataset_type WHERE dataset_type = ANY(%s)",
    "dataset": f"""
        SELECT count(*) FROM unnest(%s::uuid[]) AS k (dataset_id)
        WHERE {_WAITS} OR EXISTS (SELECT FROM dataset t WHERE t.dataset_id = k.dataset_id)
    """,
    "datastore_record": f"""
        SELECT count(*) FROM unnest(%s::uuid[]) AS k (dataset_id)
        WHERE {_WAITS} OR EXISTS (SELECT FROM datastore_record t WHERE t.dataset_id = k.dataset_id)
    """,
    "merged_attempt": "SELECT count(*) FROM merged_attempt WHERE attempt_id = ANY(%s::uuid[])",
    "quantum": "SELECT count(*) FROM quantum WHERE quantum_id = ANY(%s::uuid[])",
    "attempt": "SELECT count(*) FROM attempt WHERE attempt_id = ANY(%s::uuid[])",
    "dimension_record": """
        SELECT count(*) FROM unnest(%s::text[], %s::jsonb[]) AS k (dimension, data_id)
        JOIN dimension_record USING (dimension, data_id)
    """,
    "quantum_input": """
        SELECT count(*) FROM unnest(%s::uuid[], %s::uuid[]) AS k (attempt_id, dataset_id)
        JOIN quantum_input USING (attempt_id, dataset_id)
    """,
    "metric": """
        SELECT count(*) FROM unnest(%s::uuid[], %s::text[]) AS k (attempt_id, name)
        JOIN metric USING (attempt_id, name)
    """,
    "collection_chain": """
        SELECT count(*) FROM unnest(%s::text[], %s::text[]) AS k (chain, child)
        JOIN collection_chain USING (chain, child)
    """,
}

# ---- collections ----------------------------------------------------------------------------

# Every RUN whose name is like a pattern, with the number of its datasets.
READ_RUNS = """
SELECT r.run, (SELECT count(*) FROM dataset d WHERE d.run = r.run) FROM run r ORDER BY 1
"""

# Every link of every chain, in search order.
READ_CHAINS = "SELECT chain, child FROM collection_chain ORDER BY chain, position"

# Is there a RUN of this name?
HAS_RUN = "SELECT EXISTS (SELECT FROM run WHERE run = %s)"

# Is there a chain of this name?
HAS_CHAIN = "SELECT EXISTS (SELECT FROM collection_chain WHERE chain = %s)"

# Take a chain away.
DELETE_CHAIN = "DELETE FROM collection_chain WHERE chain = %s"

# Write the links of a chain; positions are dense.
INSERT_CHAIN = """
INSERT INTO collection_chain (chain, position, child)
SELECT %s, place - 1, child FROM unnest(%s::text[]) WITH ORDINALITY AS c (child, place)
"""
