# SPDX-License-Identifier: BSD-3-Clause
"""All SQL of forget, one line of purpose each; only ever run in a transaction alone."""

from typing import LiteralString

# Stage the attempts that are to be forgotten, and the contents of dimension records they brought.
STAGE_FORGOTTEN = """
CREATE TEMPORARY TABLE forgotten_attempt (attempt_id uuid, quantum_id uuid) ON COMMIT DROP;
CREATE TEMPORARY TABLE forgotten_record
    (dimension text, data_id jsonb, record jsonb, is_gone boolean) ON COMMIT DROP
"""
FILL_FORGOTTEN = """
INSERT INTO forgotten_attempt
SELECT attempt_id, quantum_id FROM merged_attempt
WHERE run = %(run)s AND NOT forgotten
  AND (%(quantum_ids)s::uuid[] IS NULL OR quantum_id = ANY(%(quantum_ids)s::uuid[]))
"""
ANALYZE_FORGOTTEN = "ANALYZE forgotten_attempt"

# Does the registry know this RUN?
KNOWS_RUN = """
SELECT EXISTS (SELECT FROM run WHERE run = %(run)s)
    OR EXISTS (SELECT FROM merged_attempt WHERE run = %(run)s)
    OR EXISTS (SELECT FROM quarantine WHERE run = %(run)s)
"""

# Those of some quanta of which nothing was ever merged into the RUN.
READ_UNKNOWN_QUANTA = """
SELECT wanted::text FROM unnest(%(quantum_ids)s::uuid[]) AS wanted
WHERE wanted NOT IN (SELECT quantum_id FROM merged_attempt WHERE run = %(run)s)
ORDER BY 1
"""

# Mark the ledger, so that no merge brings the attempts back.
MARK_FORGOTTEN = """
UPDATE merged_attempt m SET forgotten = true FROM forgotten_attempt f
WHERE m.attempt_id = f.attempt_id
"""

# Let the deltas of forgotten attempts be merged again.
DELETE_FORGOTTEN = """
DELETE FROM merged_attempt
WHERE run = %(run)s AND forgotten
  AND (%(quantum_ids)s::uuid[] IS NULL OR quantum_id = ANY(%(quantum_ids)s::uuid[]))
"""

# Attempts among them that are sides of recorded conflicts.
READ_CONFLICTING_ATTEMPTS = """
SELECT DISTINCT c.attempt_id::text FROM merge_conflict c JOIN forgotten_attempt USING (attempt_id)
WHERE c.table_name = 'dataset'
"""

# Take away what only these attempts brought.
DELETE_INPUTS = """
DELETE FROM quantum_input i USING forgotten_attempt f WHERE i.attempt_id = f.attempt_id
"""
DELETE_METRICS = """
DELETE FROM metric m USING forgotten_attempt f WHERE m.attempt_id = f.attempt_id
"""
DELETE_ATTEMPTS = """
DELETE FROM attempt a USING forgotten_attempt f WHERE a.attempt_id = f.attempt_id
"""
DELETE_QUANTA = """
DELETE FROM quantum q USING (SELECT DISTINCT quantum_id FROM forgotten_attempt) f
WHERE q.quantum_id = f.quantum_id
"""
DELETE_DATASETS = """
DELETE FROM dataset d USING forgotten_attempt f WHERE d.attempt_id = f.attempt_id AND d.run = %s
"""

# Take away who brought which dimension records, and remember the contents.
DELETE_SOURCES = """
WITH gone AS (
    DELETE FROM dimension_source s USING forgotten_attempt f WHERE s.attempt_id = f.attempt_id
    RETURNING s.dimension, s.data_id, s.record
)
INSERT INTO forgotten_record SELECT DISTINCT dimension, data_id, record FROM gone
"""

# Mark the contents that nobody else brought.
MARK_GONE = """
UPDATE forgotten_record r SET is_gone = NOT EXISTS (
    SELECT FROM dimension_source s
    WHERE s.dimension = r.dimension AND s.data_id = r.data_id AND s.record = r.record
)
"""
ANALYZE_RECORDS = "ANALYZE forgotten_record"

# Take them out of recorded conflicts, and out of the table.
DELETE_DIMENSION_SIDES = """
DELETE FROM merge_conflict c USING forgotten_record r
WHERE r.is_gone AND c.table_name = 'dimension_record' AND c.content->>'dimension' = r.dimension
  AND c.content->'data_id' = r.data_id AND c.content->'record' = r.record
RETURNING r.dimension, r.data_id::text
"""
DELETE_DIMENSIONS = """
DELETE FROM dimension_record d USING forgotten_record r
WHERE r.is_gone AND d.dimension = r.dimension AND d.data_id = r.data_id AND d.record = r.record
"""

# Records that others brought, too, and that may have to change.
READ_CONTENDED_DIMENSIONS = """
SELECT DISTINCT r.dimension, r.data_id::text FROM forgotten_record r
WHERE EXISTS (
    SELECT FROM merge_conflict c WHERE c.table_name = 'dimension_record'
    AND c.content->>'dimension' = r.dimension AND c.content->'data_id' = r.data_id
) OR (
    SELECT max(s.record::text COLLATE "C") FROM dimension_source s
    WHERE s.dimension = r.dimension AND s.data_id = r.data_id
) <> coalesce((
    SELECT d.record::text FROM dimension_record d
    WHERE d.dimension = r.dimension AND d.data_id = r.data_id
), '')
"""

# The quarantine of a RUN; what a person has given up stays so.
DELETE_QUARANTINE = "DELETE FROM quarantine WHERE run = %s AND NOT dropped"

# Datasets of a RUN that are left: no merged attempt made them.
COUNT_FROM_OUTSIDE = "SELECT count(*) FROM dataset WHERE run = %s"

# Take out what is left of a RUN, and of recorded conflicts.
DELETE_FROM_OUTSIDE = "DELETE FROM dataset WHERE run = %s"
DELETE_OUTSIDE_SIDES = """
DELETE FROM merge_conflict WHERE table_name = 'dataset' AND content->>'run' = %s
RETURNING conflict_key
"""

# What a RUN `r` has to be before it is taken away: nothing is in it, or waits to be.
RUN_IS_EMPTY: LiteralString = """
    NOT EXISTS (SELECT FROM dataset d WHERE d.run = r.run)
    AND NOT EXISTS (SELECT FROM quantum q WHERE q.run = r.run)
    AND NOT EXISTS (
        SELECT FROM merge_conflict c
        WHERE c.table_name = 'dataset' AND c.content->>'run' = r.run
    )
"""

# Take away the RUN, if nothing is in it.
DELETE_RUN = f"DELETE FROM run r WHERE run = %s AND {RUN_IS_EMPTY}"

# And out of the chains that it is in.
DELETE_FROM_CHAINS = "DELETE FROM collection_chain WHERE child = %s"
"""The other members keep their order; numbers between them may be missing."""
