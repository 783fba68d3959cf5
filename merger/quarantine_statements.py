# SPDX-License-Identifier: BSD-3-Clause
"""All SQL about the quarantine as a whole, one line of purpose each."""

# Bad deltas of a RUN, or of all.
LIST_QUARANTINE = """
SELECT delta_key, run, reason, message, dropped FROM quarantine
WHERE %(run)s::text IS NULL OR run = %(run)s ORDER BY run, delta_key
"""

# Put a bad delta into the quarantine, unless it was merged meanwhile.
INSERT_QUARANTINE = """
INSERT INTO quarantine (delta_key, run, reason, message)
SELECT %(delta_key)s, %(run)s, %(reason)s, %(message)s
WHERE NOT EXISTS (
    SELECT FROM merged_attempt
    WHERE attempt_id = %(attempt_id)s::uuid AND quantum_id = %(quantum_id)s::uuid
)
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
