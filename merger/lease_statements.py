# SPDX-License-Identifier: BSD-3-Clause
"""All SQL of leases and of the ledger lookup, one line of purpose each."""

# ---- which deltas are left ------------------------------------------------------------------

# Attempts of a RUN that the ledger has, forgotten ones too, 16 bytes each. One value: a million
# rows would be a million objects.
READ_MERGED_OF_RUN = """
SELECT string_agg(uuid_send(attempt_id), '' ORDER BY attempt_id) FROM merged_attempt WHERE run = %s
"""

# Which of these attempts does the ledger have, and in which RUN?
READ_MERGED = """
SELECT attempt_id::text, run FROM merged_attempt WHERE attempt_id = ANY(%s::uuid[])
"""

# ---- leases ---------------------------------------------------------------------------------

# A lease that is lost in a crash of the server costs nothing.
BEGIN_LEASING = "SET LOCAL synchronous_commit = off"

# One merger of a RUN chooses at a time.
LOCK_LEASES = "SELECT pg_advisory_xact_lock(hashtext('merge_lease'), hashtext(%s))"

# Leases of a RUN that their mergers let expire.
DELETE_EXPIRED = """
DELETE FROM merge_lease WHERE run = %s AND expires < clock_timestamp()
  AND lease_id <> ALL(%s::uuid[])
"""

# What others have leased of a RUN, and for how many seconds still.
READ_LEASES = """
SELECT first_attempt, last_attempt, extract(epoch FROM expires - clock_timestamp())::float8
FROM merge_lease WHERE run = %s AND lease_id <> ALL(%s::uuid[])
"""

# Attempts of a RUN in a range that the ledger has.
READ_MERGED_BETWEEN = """
SELECT attempt_id::text FROM merged_attempt
WHERE run = %s AND attempt_id BETWEEN %s::uuid AND %s::uuid
"""

# Take a lease.
INSERT_LEASE = """
INSERT INTO merge_lease (lease_id, run, first_attempt, last_attempt, expires)
VALUES (%s, %s, %s::uuid, %s::uuid, clock_timestamp() + make_interval(secs => %s))
ON CONFLICT (lease_id) DO UPDATE SET first_attempt = excluded.first_attempt,
    last_attempt = excluded.last_attempt, expires = excluded.expires
"""

# Keep leases longer; one that another merger took away meanwhile does not come back.
RENEW_LEASES = """
UPDATE merge_lease SET expires = clock_timestamp() + make_interval(secs => %s)
WHERE lease_id = ANY(%s::uuid[])
"""

# Give leases back.
DELETE_LEASES = "DELETE FROM merge_lease WHERE lease_id = ANY(%s::uuid[])"
