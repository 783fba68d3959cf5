# SPDX-License-Identifier: BSD-3-Clause
"""All SQL of showing and settling recorded conflicts, one line of purpose each."""

from typing import LiteralString

# What a person calls a conflict: the first digits of this.
_CONFLICT_ID: LiteralString = (
    "encode(sha256(convert_to(c.table_name || c.conflict_key, 'UTF8')), 'hex')"
)

_SELECTED: LiteralString = """
FROM merge_conflict c
LEFT JOIN conflict_decision d USING (table_name, conflict_key)
LEFT JOIN merged_attempt m ON m.attempt_id = c.attempt_id
LEFT JOIN quantum q ON q.quantum_id = m.quantum_id
WHERE (%(table_name)s::text IS NULL OR c.table_name = %(table_name)s)
GROUP BY c.table_name, c.conflict_key, d.decision, d.content_checksum, d.by_policy
HAVING (%(run)s::text IS NULL OR bool_or(c.content->>'run' = %(run)s OR m.run = %(run)s))
  AND (%(type)s::text IS NULL
       OR bool_or(coalesce(c.content->>'dataset_type', c.content->>'dimension') = %(type)s))
  AND (%(task)s::text IS NULL OR bool_or(q.task_label = %(task)s))
  AND (%(data_id)s::json IS NULL OR bool_or(NOT EXISTS (
       SELECT FROM json_each_text(%(data_id)s::json) AS wanted
       WHERE c.content->'data_id'->>wanted.key IS DISTINCT FROM wanted.value)))
  AND (%(settled_too)s OR NOT coalesce(
       d.decision <> 'chosen' OR bool_or(c.content_checksum = d.content_checksum), false))
"""

# Conflicts by RUN, kind, task, part of the data ID, and state, in the order of their keys.
COUNT_CONFLICTS = f"SELECT count(*) FROM (SELECT {_SELECTED}) AS found"
READ_CONFLICT_KEYS = f"SELECT c.table_name, c.conflict_key {_SELECTED} ORDER BY 1, 2"

# The same with what was decided, and all sides: first the one in the table, then the newest.
READ_CONFLICTS = f"""
SELECT {_CONFLICT_ID}, c.table_name, c.conflict_key,
    d.decision, d.content_checksum, d.by_policy,
    jsonb_agg(jsonb_build_object(
        'content_checksum', c.content_checksum, 'content', c.content,
        'attempt_id', c.attempt_id, 'kept', c.kept
    ) ORDER BY c.kept DESC, c.attempt_id DESC NULLS FIRST, c.content_checksum)
{_SELECTED} ORDER BY 2, 3 LIMIT %(limit)s
"""

# Conflicts by the beginning of their id, or by key.
READ_NAMED_KEYS = f"""
SELECT DISTINCT c.table_name, c.conflict_key FROM merge_conflict c
WHERE c.conflict_key = %(key)s OR (%(key)s ~ '^[0-9a-f]+$' AND starts_with({_CONFLICT_ID}, %(key)s))
ORDER BY 1, 2
"""

# One conflict, as above.
READ_CONFLICT = f"""
SELECT {_CONFLICT_ID}, c.table_name, c.conflict_key,
    d.decision, d.content_checksum, d.by_policy,
    jsonb_agg(jsonb_build_object(
        'content_checksum', c.content_checksum, 'content', c.content,
        'attempt_id', c.attempt_id, 'kept', c.kept
    ) ORDER BY c.kept DESC, c.attempt_id DESC NULLS FIRST, c.content_checksum)
FROM merge_conflict c LEFT JOIN conflict_decision d USING (table_name, conflict_key)
WHERE c.table_name = %s AND c.conflict_key = %s
GROUP BY c.table_name, c.conflict_key, d.decision, d.content_checksum, d.by_policy
"""

# Who made the sides of a conflict, and where.
READ_MAKERS = """
SELECT a.attempt_id::text, a.quantum_id::text, q.task_label, a.host, a.finished::text
FROM attempt a JOIN quantum q USING (quantum_id) WHERE a.attempt_id = ANY(%s::uuid[])
"""

# Other conflicts between exactly the sides of this one.
READ_KEYS_OF_SAME_SIDES = """
WITH sides AS (
    SELECT array_agg(content_checksum ORDER BY content_checksum) AS checksums
    FROM merge_conflict WHERE table_name = %(table_name)s AND conflict_key = %(key)s
), near AS (
    SELECT DISTINCT other.conflict_key
    FROM merge_conflict mine JOIN merge_conflict other
        ON other.table_name = mine.table_name AND other.content_checksum = mine.content_checksum
        AND other.content->>'dataset_id' = mine.content->>'dataset_id'
    WHERE mine.table_name = %(table_name)s AND mine.conflict_key = %(key)s
)
SELECT c.conflict_key FROM merge_conflict c JOIN near USING (conflict_key)
WHERE c.table_name = %(table_name)s GROUP BY 1
HAVING array_agg(c.content_checksum ORDER BY c.content_checksum) = (SELECT checksums FROM sides)
"""

# Write down what a person decided, over whatever was decided before.
WRITE_DECISIONS = """
INSERT INTO conflict_decision (table_name, conflict_key, decision, content_checksum, by_policy)
SELECT %(table_name)s, conflict_key, %(decision)s, %(content_checksum)s, false
FROM json_array_elements_text(%(keys)s::json) AS settled (conflict_key) ORDER BY 2
ON CONFLICT (table_name, conflict_key) DO UPDATE SET
    decision = excluded.decision, content_checksum = excluded.content_checksum, by_policy = false
"""

# Take decisions back.
DELETE_DECISIONS = """
DELETE FROM conflict_decision
WHERE table_name = %(table_name)s
  AND conflict_key IN (SELECT json_array_elements_text(%(keys)s::json))
"""

# The sides of these conflicts that are in the table.
READ_KEPT = """
SELECT conflict_key, content_checksum FROM merge_conflict
WHERE table_name = %(table_name)s AND kept
  AND conflict_key IN (SELECT json_array_elements_text(%(keys)s::json))
"""
