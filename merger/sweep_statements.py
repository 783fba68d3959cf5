# SPDX-License-Identifier: BSD-3-Clause
"""All SQL of sweep, one line of purpose each; it only reads, and needs no temporary table."""

from typing import LiteralString

# Is this a server that follows another one, and may not know yet what that one has?
IS_STANDBY = "SELECT pg_is_in_recovery()"

# Has anything of the RUN ever reached the registry?
KNOWS_RUN = """
SELECT EXISTS (SELECT FROM run WHERE run = %(run)s)
    OR EXISTS (SELECT FROM merged_attempt WHERE run = %(run)s)
    OR EXISTS (SELECT FROM quarantine WHERE run = %(run)s)
"""

# RUNs whose names begin with that of this one and a slash: their objects are their own.
READ_RUNS_BELOW = """
SELECT run FROM run WHERE starts_with(run, %(below)s)
UNION SELECT run FROM merged_attempt WHERE starts_with(run, %(below)s)
"""

# A text that may mean a key below the RUN: it has that of the RUN; or a percent sign, which may
# stand for any character of it; or slashes and dots that are left out when it is read; or it is
# absolute, and a link may lead there.
_MAY_NAME: LiteralString = """(
    strpos(object_key, %(below)s) > 0 OR strpos(object_key, '%%') > 0
    OR strpos(object_key, '//') > 0 OR strpos(object_key, './') > 0
    OR starts_with(object_key, '/') OR strpos(object_key, ':/') > 0
)"""

# What every datastore record, every side of a conflict, what attempts read of which nobody knows
# who made it or which have a side in a conflict, and every attempt's log may mean by a key below
# the RUN.
COPY_NAMED = f"""
COPY (
    SELECT object_key FROM datastore_record WHERE {_MAY_NAME}
    UNION ALL
    SELECT object_key FROM quantum_input WHERE input_attempt_id IS NULL AND {_MAY_NAME}
    UNION ALL
    SELECT i.object_key FROM merge_conflict c JOIN quantum_input i USING (attempt_id)
    UNION ALL
    SELECT content->>'object_key' FROM merge_conflict WHERE content ? 'object_key'
    UNION ALL
    SELECT log_key FROM attempt WHERE strpos(log_key, %(below)s) > 0
) TO STDOUT
"""

# Attempts of some RUNs that were merged, and whether their rows were taken out again.
COPY_LEDGER = """
COPY (
    SELECT attempt_id, quantum_id, forgotten, run FROM merged_attempt WHERE run = ANY(%(runs)s)
) TO STDOUT
"""

# The quarantine of some RUNs.
READ_QUARANTINE = "SELECT delta_key, dropped FROM quarantine WHERE run = ANY(%(runs)s)"

# Successful attempts of some RUNs that do not count, and the attempt that does.
READ_SUPERSEDED = """
SELECT a.attempt_id::text, q.attempt_id::text
FROM quantum q JOIN attempt a USING (quantum_id) WHERE q.run = ANY(%(runs)s) AND a.superseded
"""
