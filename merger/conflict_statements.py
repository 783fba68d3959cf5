# SPDX-License-Identifier: BSD-3-Clause
"""All SQL about conflicts, one line of purpose each; only ever run in a transaction alone."""

# ---- dimension records ----

# All sides of a dimension record: equal content once, with the lowest attempt that brought it.
# Equal JSON may differ in text (1 and 1.0); the greatest text stands for it.
READ_DIMENSION_SIDES = """
WITH contended AS (
    SELECT * FROM unnest(%(dimensions)s::text[], %(data_ids)s::jsonb[]) AS c (dimension, data_id)
), sides AS (
    SELECT dimension, data_id, record, attempt_id FROM contended
    JOIN dimension_source USING (dimension, data_id)
    UNION ALL
    SELECT dimension, data_id, record, NULL FROM contended
    JOIN dimension_record USING (dimension, data_id)
    UNION ALL
    SELECT dimension, data_id, record, NULL FROM contended
    JOIN staged_dimension USING (dimension, data_id)
    UNION ALL
    SELECT k.dimension, k.data_id, c.content->'record', NULL
    FROM contended k JOIN merge_conflict c
        ON c.content->>'dimension' = k.dimension AND c.content->'data_id' = k.data_id
    WHERE c.table_name = 'dimension_record'
)
SELECT dimension, data_id::text, max(record::text COLLATE "C"), min(attempt_id::text)
FROM sides GROUP BY dimension, data_id, record
"""

# Put the side that stays into the table.
UPDATE_DIMENSION = """
UPDATE dimension_record SET record = %(record)s::jsonb
WHERE dimension = %(dimension)s AND data_id = %(data_id)s::jsonb
"""

# ---- datasets ----

# The columns of `dataset_conflicts.Side`.
DATASET_SIDE = """
d.dataset_id::text, d.run, d.dataset_type, d.data_id::text, d.quantum_id::text,
d.attempt_id::text, r.object_key, r.size_bytes, r.checksum, r.storage_class
"""

# Datasets in the table that have one of these ids, or one of these (RUN, type, data ID).
READ_DATASET_SIDES = f"""
SELECT {DATASET_SIDE} FROM dataset d LEFT JOIN datastore_record r USING (dataset_id)
WHERE d.dataset_id = ANY(%(ids)s::uuid[])
UNION
SELECT {DATASET_SIDE}
FROM unnest(%(runs)s::text[], %(types)s::text[], %(data_ids)s::jsonb[]) AS k (run, type, data_id)
JOIN dataset d ON d.run = k.run AND d.dataset_type = k.type AND d.data_id = k.data_id
LEFT JOIN datastore_record r USING (dataset_id)
"""

# The same among the sides of recorded conflicts.
READ_CONFLICT_SIDES = """
SELECT c.content, c.attempt_id::text FROM merge_conflict c
WHERE c.table_name = 'dataset' AND c.content->>'dataset_id' = ANY(%(ids)s)
UNION
SELECT c.content, c.attempt_id::text
FROM unnest(%(runs)s::text[], %(types)s::text[], %(data_ids)s::jsonb[]) AS k (run, type, data_id)
JOIN merge_conflict c ON c.content->>'run' = k.run AND c.content->>'dataset_type' = k.type
    AND c.content->'data_id' = k.data_id
WHERE c.table_name = 'dataset'
"""

# Sides of recorded conflicts that these attempts brought.
READ_CONFLICT_SIDES_OF = """
SELECT content, attempt_id::text FROM merge_conflict
WHERE table_name = 'dataset' AND attempt_id = ANY(%s::uuid[])
"""

# Take datasets away; their datastore records go with them.
DELETE_DATASETS = "DELETE FROM dataset WHERE dataset_id = ANY(%s::uuid[])"

# Rows of recorded conflicts about these keys go, and come back as they are now.
DELETE_CONFLICTS = """
DELETE FROM merge_conflict WHERE table_name = %s AND conflict_key = ANY(%s)
RETURNING conflict_key, content_checksum
"""

# Record one side of a conflict.
INSERT_CONFLICT = """
INSERT INTO merge_conflict
    (table_name, conflict_key, content_checksum, content, attempt_id, kept)
SELECT %(table_name)s, %(conflict_key)s,
    'sha256:' || encode(sha256(convert_to(content::text, 'UTF8')), 'hex'),
    content, %(attempt_id)s::uuid, %(kept)s
FROM (SELECT %(content)s::jsonb AS content) AS side
RETURNING conflict_key, content_checksum
"""
