# SPDX-License-Identifier: BSD-3-Clause
"""All SQL about conflicts, one line of purpose each; only ever run in a transaction alone."""

from typing import LiteralString

# ---- dimension records ----

# What a batch stages, and what stands in the table or in a conflict, without who brought it.
_SIDES_OF_STAGE = """
    UNION ALL
    SELECT dimension, data_id, record, NULL, false, false FROM contended
    JOIN staged_dimension USING (dimension, data_id)
"""


def _dimension_sides(more: LiteralString) -> LiteralString:
    """All sides of dimension records.

    Equal content once, with the lowest and the highest attempt that brought it, whether a graph
    did, and the checksums of all its texts. Equal JSON may differ in text (1 and 1.0); the
    greatest text that somebody is known to have brought stands for it.
    """
    return f"""
WITH contended AS (
    SELECT * FROM unnest(%(dimensions)s::text[], %(data_ids)s::jsonb[]) AS c (dimension, data_id)
), sides AS (
    SELECT dimension, data_id, s.record, m.attempt_id, m.attempt_id IS NULL AS is_of_graph,
        true AS is_known
    FROM contended JOIN dimension_source s USING (dimension, data_id)
    LEFT JOIN merged_attempt m USING (attempt_id)
    UNION ALL
    SELECT dimension, data_id, record, NULL, false, false FROM contended
    JOIN dimension_record USING (dimension, data_id)
    UNION ALL
    SELECT k.dimension, k.data_id, c.content->'record', NULL, false, false
    FROM contended k JOIN merge_conflict c
        ON c.content->>'dimension' = k.dimension AND c.content->'data_id' = k.data_id
    WHERE c.table_name = 'dimension_record'
    {more}
)
SELECT dimension, data_id::text, coalesce(
        max(record::text COLLATE "C") FILTER (WHERE is_known), max(record::text COLLATE "C")
    ), min(attempt_id::text), max(attempt_id::text), bool_or(is_of_graph),
    array_agg(DISTINCT 'sha256:' || encode(sha256(convert_to(jsonb_build_object(
        'dimension', dimension, 'data_id', data_id, 'record', record)::text, 'UTF8')), 'hex'))
FROM sides GROUP BY dimension, data_id, record
"""


# Sides of records that a batch stages, and of others.
READ_STAGED_DIMENSION_SIDES = _dimension_sides(_SIDES_OF_STAGE)
READ_DIMENSION_SIDES = _dimension_sides("")

# Records as they were before this batch beside those that it stages, where they are not the same.
READ_DIFFERING_DIMENSIONS = """
SELECT s.dimension, s.data_id::text, s.attempt_id::text, s.record::text, d.record::text
FROM staged_dimension s LEFT JOIN dimension_record d USING (dimension, data_id)
WHERE (dimension, data_id) IN (
    SELECT t.dimension, t.data_id
    FROM staged_dimension t LEFT JOIN dimension_record e USING (dimension, data_id)
    GROUP BY 1, 2 HAVING min(t.record::text) <> max(coalesce(e.record, t.record)::text)
        OR min(t.record::text) <> max(t.record::text)
)
ORDER BY s.attempt_id, s.dimension, s.data_id
"""

# Put the sides that stay into the table.
ENSURE_DIMENSIONS = """
INSERT INTO dimension_record
SELECT * FROM unnest(%(dimensions)s::text[], %(data_ids)s::jsonb[], %(records)s::jsonb[])
ORDER BY 1, 2
ON CONFLICT (dimension, data_id) DO UPDATE SET record = excluded.record
    WHERE dimension_record.record::text <> excluded.record::text
"""

# ---- datasets ----

# The columns of `dataset_conflicts.Side`.
DATASET_SIDE = """
d.dataset_id::text, d.run, d.dataset_type, d.data_id::text, d.quantum_id::text,
d.attempt_id::text, r.object_key, r.size_bytes, r.checksum, r.storage_class
"""

# Keys come as one JSON text: thousands of JSON texts in an array are slow to write.
_CLAIMED: LiteralString = """json_to_recordset(%(claimed)s::json)
    AS k (dataset_id uuid, run text, dataset_type text, data_id jsonb)"""

# Datasets in the table that have one of these ids, or one of these (RUN, type, data ID).
READ_DATASET_SIDES = f"""
SELECT {DATASET_SIDE} FROM {_CLAIMED} JOIN dataset d ON d.dataset_id = k.dataset_id
LEFT JOIN datastore_record r ON r.dataset_id = d.dataset_id
UNION
SELECT {DATASET_SIDE} FROM {_CLAIMED}
JOIN dataset d ON d.run = k.run AND d.dataset_type = k.dataset_type AND d.data_id = k.data_id
LEFT JOIN datastore_record r ON r.dataset_id = d.dataset_id
"""

# The same among the sides that lost a conflict; the others are in the table.
READ_CONFLICT_SIDES = f"""
SELECT c.content, c.attempt_id::text
FROM {_CLAIMED} JOIN merge_conflict c ON c.content->>'dataset_id' = k.dataset_id::text
WHERE c.table_name = 'dataset' AND NOT c.kept
UNION
SELECT c.content, c.attempt_id::text
FROM {_CLAIMED} JOIN merge_conflict c ON c.content->>'run' = k.run
    AND c.content->>'dataset_type' = k.dataset_type AND c.content->'data_id' = k.data_id
WHERE c.table_name = 'dataset' AND NOT c.kept
"""

# Sides of recorded conflicts that these attempts brought.
READ_CONFLICT_SIDES_OF = """
SELECT content, attempt_id::text, kept FROM merge_conflict
WHERE table_name = 'dataset' AND attempt_id = ANY(%s::uuid[])
"""

# Sides of the conflicts about these keys.
READ_SIDES_OF_KEYS = """
SELECT content, attempt_id::text FROM merge_conflict
WHERE table_name = 'dataset'
  AND conflict_key IN (SELECT json_array_elements_text(%s::json))
"""

# Take datasets away; their datastore records go with them.
DELETE_DATASETS = "DELETE FROM dataset WHERE dataset_id = ANY(%s::uuid[])"

# Rows of recorded conflicts about these keys go, and come back as they are now.
DELETE_CONFLICTS = """
DELETE FROM merge_conflict
WHERE table_name = %s AND conflict_key IN (SELECT json_array_elements_text(%s::json))
RETURNING conflict_key, content_checksum
"""

# Record sides of conflicts.
INSERT_CONFLICTS = """
INSERT INTO merge_conflict
    (table_name, conflict_key, content_checksum, content, attempt_id, kept)
SELECT %(table_name)s, conflict_key,
    'sha256:' || encode(sha256(convert_to(content::text, 'UTF8')), 'hex'),
    content, attempt_id, kept
FROM json_to_recordset(%(sides)s::json)
    AS side (conflict_key text, content jsonb, attempt_id uuid, kept boolean)
RETURNING conflict_key, content_checksum
"""

# Checksums of contents as the table of conflicts has them.
READ_CHECKSUMS = """
SELECT 'sha256:' || encode(sha256(convert_to(content::text, 'UTF8')), 'hex')
FROM json_array_elements(%s::json) WITH ORDINALITY AS side (text, place),
    CAST(text AS jsonb) AS content
ORDER BY place
"""

# ---- decisions ----

# What is on record about these keys.
READ_DECISIONS = """
SELECT conflict_key, decision, content_checksum, by_policy FROM conflict_decision
WHERE table_name = %s AND conflict_key IN (SELECT json_array_elements_text(%s::json))
"""

# Record what policies decided.
INSERT_DECISIONS = """
INSERT INTO conflict_decision (table_name, conflict_key, decision, by_policy)
SELECT %(table_name)s, key, value, true FROM json_each_text(%(kinds)s::json)
ON CONFLICT DO NOTHING
"""

# What a policy decided goes with its conflict.
DELETE_LAPSED_DECISIONS = """
DELETE FROM conflict_decision
WHERE table_name = %s AND conflict_key IN (SELECT json_array_elements_text(%s::json)) AND by_policy
"""
