# SPDX-License-Identifier: BSD-3-Clause
"""All SQL of sifting a batch: what meets rows of other attempts is found, and left out."""

# Stage all that a foreign key or a unique key could be about; the rest can be taken out again.
STAGE_QUANTA = "CREATE TEMPORARY TABLE staged_quantum (LIKE quantum) ON COMMIT DROP"
STAGE = f"""
{STAGE_QUANTA};
CREATE TEMPORARY TABLE staged_attempt (LIKE attempt) ON COMMIT DROP;
CREATE TEMPORARY TABLE sifted_quantum (quantum_id uuid PRIMARY KEY, other_run text) ON COMMIT DROP
"""

# Let the planner know that the stages are small, and the tables may not be.
ANALYZE = "ANALYZE staged_quantum, staged_attempt, staged_dataset, staged_record, staged_dimension"

# Quanta whose datasets contend with others (ids given), or that bring dimension records on which
# not all agree.
SIFT_CONTENDED = """
WITH contended AS (
    SELECT s.dimension, s.data_id FROM staged_dimension s
    JOIN dimension_record d USING (dimension, data_id) WHERE s.record::text <> d.record::text
    UNION
    SELECT dimension, data_id FROM staged_dimension
    GROUP BY 1, 2 HAVING count(DISTINCT record::text) > 1
    UNION
    SELECT s.dimension, s.data_id FROM merge_conflict c JOIN staged_dimension s
        ON c.content->>'dimension' = s.dimension AND c.content->'data_id' = s.data_id
    WHERE c.table_name = 'dimension_record'
)
INSERT INTO sifted_quantum (quantum_id)
SELECT quantum_id FROM staged_dataset WHERE dataset_id = ANY(%s::uuid[])
UNION
SELECT a.quantum_id FROM contended JOIN staged_dimension d USING (dimension, data_id)
JOIN staged_attempt a USING (attempt_id)
"""

# Leave quanta out.
UNSTAGE_QUANTA = """
DELETE FROM staged_quantum s USING sifted_quantum q WHERE s.quantum_id = q.quantum_id
"""

# Lock the quanta that were there: in which RUN, and has a success been merged that counts now?
LOCK_MET_QUANTA = """
SELECT q.quantum_id::text, q.run, q.status = 'successful' AND s.status = 'successful'
FROM quantum q JOIN staged_quantum s USING (quantum_id)
WHERE q.attempt_id <> s.attempt_id
ORDER BY q.quantum_id
FOR NO KEY UPDATE OF q
"""

# Leave out these, too.
SIFT_QUANTA = """
INSERT INTO sifted_quantum SELECT * FROM unnest(%s::uuid[], %s::text[])
"""

# Attempts that are left out, with the RUN that their quantum is of if it is another.
READ_SIFTED = """
SELECT a.attempt_id::text, a.quantum_id::text, q.other_run
FROM staged_attempt a JOIN sifted_quantum q USING (quantum_id)
"""

# Leave out all that these attempts bring.
UNSTAGE_RECORDS = """
DELETE FROM staged_record r USING staged_dataset d JOIN sifted_quantum q USING (quantum_id)
WHERE r.dataset_id = d.dataset_id
"""
UNSTAGE_DATASETS = """
DELETE FROM staged_dataset s USING sifted_quantum q WHERE s.quantum_id = q.quantum_id
"""
UNSTAGE_DIMENSIONS = """
DELETE FROM staged_dimension d USING staged_attempt a JOIN sifted_quantum q USING (quantum_id)
WHERE d.attempt_id = a.attempt_id
"""
UNSTAGE_ATTEMPTS = """
DELETE FROM staged_attempt a USING sifted_quantum q WHERE a.quantum_id = q.quantum_id
"""
UNCLAIM = "DELETE FROM merged_attempt WHERE attempt_id = ANY(%s::uuid[])"
DELETE_INPUTS = "DELETE FROM quantum_input WHERE attempt_id = ANY(%s::uuid[])"
DELETE_METRICS = "DELETE FROM metric WHERE attempt_id = ANY(%s::uuid[])"

# Insert what is left; rows are staged in the order of their keys.
INSERT_ATTEMPTS = "INSERT INTO attempt SELECT * FROM staged_attempt"
INSERT_DATASETS = "INSERT INTO dataset SELECT * FROM staged_dataset"
INSERT_RECORDS = "INSERT INTO datastore_record SELECT * FROM staged_record"

# ---- counts ---------------------------------------------------------------------------------

# How many of these attempts do not count though they were successful?
COUNT_SUPERSEDED = """
SELECT count(*) FROM attempt WHERE attempt_id = ANY(%s::uuid[]) AND superseded
"""

# How many were there before any merge, with the same content?
COUNT_SKIPPED = """
SELECT count(*) FROM staged_dataset JOIN dataset d USING (dataset_id, run, dataset_type, data_id)
JOIN staged_record s USING (dataset_id) JOIN datastore_record r USING (dataset_id)
WHERE d.attempt_id IS NULL
  AND (s.size_bytes, s.checksum) IS NOT DISTINCT FROM (r.size_bytes, r.checksum)
"""
