# SPDX-License-Identifier: BSD-3-Clause
"""All SQL of verify, one line of purpose each; it only reads."""

from merger.conflict_statements import DATASET_SIDE

# Attempts of a RUN that were merged, each with the checksum of its delta.
READ_LEDGER = """
SELECT attempt_id::text, quantum_id::text, delta_checksum FROM merged_attempt WHERE run = %s
"""

# Those of them that were forgotten.
READ_FORGOTTEN = "SELECT attempt_id::text FROM merged_attempt WHERE run = %s AND forgotten"

# Datasets that attempts of a RUN read, and that went when who made them was forgotten.
READ_FORGOTTEN_INPUTS = """
SELECT i.dataset_id::text, min(i.object_key), count(*)
FROM merged_attempt l JOIN quantum_input i USING (attempt_id)
JOIN merged_attempt f ON f.attempt_id = i.input_attempt_id AND f.forgotten
WHERE l.run = %s AND NOT EXISTS (SELECT FROM dataset d WHERE d.dataset_id = i.dataset_id)
GROUP BY 1 ORDER BY 1
"""

# Quanta of a RUN with the attempt that counts.
READ_QUANTA = "SELECT quantum_id::text, status, attempt_id::text FROM quantum WHERE run = %s"

# Attempts of a RUN, with the numbers of rows that belong to each.
READ_ATTEMPTS = """
SELECT a.attempt_id::text, a.superseded, a.status, a.no_work,
    coalesce(i.n, 0), coalesce(m.n, 0), coalesce(d.n, 0),
    a.read_bytes, a.write_bytes, a.scratch_bytes, a.requested::text, a.versions::text
FROM merged_attempt l JOIN attempt a USING (attempt_id)
LEFT JOIN (SELECT attempt_id, count(*) AS n FROM quantum_input GROUP BY 1) i USING (attempt_id)
LEFT JOIN (SELECT attempt_id, count(*) AS n FROM metric GROUP BY 1) m USING (attempt_id)
LEFT JOIN (SELECT attempt_id, count(*) AS n FROM dimension_source GROUP BY 1) d USING (attempt_id)
WHERE l.run = %s
"""

# Dimension records that attempts of a RUN brought, if other ones are there and no conflict says so.
READ_DIFFERING_DIMENSIONS = """
SELECT s.dimension, s.data_id, max(s.record::text COLLATE "C"), max(d.record::text)
FROM merged_attempt l JOIN dimension_source s USING (attempt_id)
LEFT JOIN dimension_record d USING (dimension, data_id)
WHERE l.run = %s AND (d.record IS NULL OR d.record <> s.record) AND NOT EXISTS (
    SELECT FROM merge_conflict c
    WHERE d.record IS NOT NULL AND c.table_name = 'dimension_record'
      AND c.content->>'dimension' = s.dimension AND c.content->'data_id' = s.data_id
)
GROUP BY 1, 2 ORDER BY 1, 2
"""

# Datasets of a RUN with their datastore records.
READ_DATASETS = f"""
SELECT {DATASET_SIDE} FROM dataset d LEFT JOIN datastore_record r USING (dataset_id)
WHERE d.run = %s
"""

# All sides of all conflicts, and whether they are settled.
READ_CONFLICTS = """
SELECT c.table_name, c.conflict_key, c.content, c.attempt_id::text, c.kept, coalesce(
    d.decision <> 'chosen' OR bool_or(c.content_checksum = d.content_checksum)
        OVER (PARTITION BY c.table_name, c.conflict_key), false)
FROM merge_conflict c LEFT JOIN conflict_decision d USING (table_name, conflict_key)
ORDER BY c.table_name, c.conflict_key, c.content_checksum
"""

# The quarantine of a RUN.
READ_QUARANTINED = "SELECT delta_key, reason, message FROM quarantine WHERE run = %s"

# What a person gave up of it.
READ_DROPPED = "SELECT delta_key FROM quarantine WHERE run = %s AND dropped"
