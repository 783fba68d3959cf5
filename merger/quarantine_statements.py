# SPDX-License-Identifier: BSD-3-Clause
"""All SQL about the quarantine as a whole, one line of purpose each."""

# Bad deltas of a RUN, or of all.
LIST_QUARANTINE = """
SELECT delta_key, run, reason, message, dropped FROM quarantine
WHERE %(run)s::text IS NULL OR run = %(run)s ORDER BY run, delta_key
"""

# Put bad deltas into the quarantine, but for those that were merged meanwhile.
INSERT_QUARANTINE = """
INSERT INTO quarantine (delta_key, run, reason, message)
SELECT delta_key, %(run)s, reason, message
FROM json_to_recordset(%(bad)s::json)
    AS bad (delta_key text, reason text, message text, quantum_id uuid, attempt_id uuid)
WHERE NOT EXISTS (
    SELECT FROM merged_attempt m
    WHERE m.attempt_id = bad.attempt_id AND m.quantum_id = bad.quantum_id AND m.run = %(run)s
)
ORDER BY delta_key
ON CONFLICT (delta_key) DO UPDATE SET reason = excluded.reason, message = excluded.message
"""

# How many are in the quarantine of a RUN?
COUNT_QUARANTINE = "SELECT count(*) FROM quarantine WHERE run = %s"

# Is there anything in it?
HAS_QUARANTINE = "SELECT EXISTS (SELECT FROM quarantine WHERE run = %s)"

# Let deltas leave the quarantine.
DELETE_QUARANTINE = "DELETE FROM quarantine WHERE delta_key = ANY(%s)"

# Give deltas up, or take that back.
SET_DROPPED = """
UPDATE quarantine SET dropped = %s WHERE run = %s AND delta_key = ANY(%s) AND dropped <> %s
"""
