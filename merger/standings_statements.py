# SPDX-License-Identifier: BSD-3-Clause
"""All SQL about how predicted quanta stand, one line of purpose each; none of it writes."""

# Which of these quanta have been tried, is one successful, and how many attempts failed? One that
# was told to stop has not.
READ_STANDINGS = """
SELECT q.quantum_id::text, q.status = 'successful',
    CASE WHEN q.status = 'successful' THEN 0 ELSE (
        SELECT count(*) FROM attempt a
        WHERE a.quantum_id = q.quantum_id AND a.status <> 'aborted'
    ) END
FROM quantum q WHERE q.quantum_id = ANY(%s::uuid[])
"""

# How did the attempt end that counts of these quanta, and how many were there?
READ_LAST_ATTEMPTS = """
SELECT q.quantum_id::text, a.exit_code, a.signal,
    (SELECT count(*) FROM attempt b WHERE b.quantum_id = q.quantum_id)
FROM quantum q JOIN attempt a USING (attempt_id) WHERE q.quantum_id = ANY(%s::uuid[])
"""

# Quanta of a RUN with attempts that were taken out and are not to come back, 16 bytes each.
READ_FORGOTTEN = """
SELECT string_agg(uuid_send(quantum_id), '' ORDER BY quantum_id) FROM (
    SELECT DISTINCT quantum_id FROM merged_attempt WHERE run = %s AND forgotten
) forgotten
"""

# Which of these attempts have been merged, and which were taken out again?
READ_MERGED = """
SELECT attempt_id::text, forgotten FROM merged_attempt WHERE attempt_id = ANY(%s::uuid[])
"""
