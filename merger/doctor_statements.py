# SPDX-License-Identifier: BSD-3-Clause
"""All SQL of the doctor, one line of purpose each; none needs a right of its own."""

# Which server is this?
VERSION = "SELECT current_setting('server_version_num')::int, current_setting('server_version')"

# No look waits long, whatever is locked, and whatever the role is set to.
LIMITS = "SET LOCAL lock_timeout = '2s'; SET LOCAL statement_timeout = '60s'"

# The process that serves us; a pooler tells its clients another number.
BACKEND = "SELECT pg_backend_pid()"

# Who are we, and where?
WHO = "SELECT current_user, current_database(), current_schema()"

# May nothing be written here, and why?
READ_ONLY = "SELECT pg_is_in_recovery(), current_setting('transaction_read_only') = 'on'"

# Where tables of ours are that we cannot see: schema, and whether we have a right on it.
UNSEEN = """
SELECT n.nspname::text, has_schema_privilege(n.oid, 'USAGE')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = %s AND c.relkind IN ('r', 'p') AND NOT (
    pg_table_is_visible(c.oid) AND has_schema_privilege(n.oid, 'USAGE')) ORDER BY 1
"""

# Rights on tables, by name: none of them is there if its first column is null.
TABLE_RIGHTS = """
SELECT t.name, to_regclass(t.name)::text, r.privilege,
       has_table_privilege(to_regclass(t.name), r.privilege)
FROM unnest(%s::text[]) AS t (name), unnest(%s::text[]) AS r (privilege)
ORDER BY t.name
"""

# Rights on the database: temporary tables, which every merge uses.
TEMPORARY_RIGHT = "SELECT has_database_privilege(current_database(), 'TEMPORARY')"

# The schema in which tables would be made, whether we can make some, and whether there are any;
# tables that another role owns, so that we cannot alter them.
MIGRATION_RIGHTS = """
SELECT current_schema(), coalesce(has_schema_privilege(current_schema(), 'CREATE'), false),
       count(*), coalesce(array_agg(c.relname::text
       ORDER BY c.relname) FILTER (WHERE NOT pg_has_role(c.relowner, 'USAGE')), '{}')
FROM pg_class c WHERE c.oid = ANY(
    SELECT to_regclass(name)::oid FROM unnest(%s::text[]) AS t (name))
"""

# Connections: the most there may be, kept for superusers, in use; and the limits of role, database.
CONNECTIONS = """
SELECT current_setting('max_connections')::int,
       current_setting('superuser_reserved_connections')::int
           + coalesce(current_setting('reserved_connections', true)::int, 0),
       (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
       (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user),
       (SELECT datconnlimit FROM pg_database WHERE datname = current_database())
"""

# Settings that are to be looked at.
SETTINGS = """
SELECT name, setting FROM pg_settings WHERE name IN ('max_locks_per_transaction', 'fsync',
    'synchronous_commit', 'full_page_writes', 'autovacuum', 'TimeZone', 'max_wal_size',
    'server_encoding')
"""

# Of this database: encoding and order of text.
ENCODING = """
SELECT pg_encoding_to_char(encoding), datcollate FROM pg_database
WHERE datname = current_database()
"""

# Sessions that keep others waiting, that hold a lock on a table of ours with which no merge can
# write, or that do nothing for long within a transaction.
BLOCKING = """
WITH blocking AS (
    SELECT DISTINCT unnest(pg_blocking_pids(pid)) AS pid FROM pg_stat_activity
    WHERE wait_event_type = 'Lock' AND datname = current_database()
), locking AS (
    SELECT pid, string_agg(DISTINCT relation::regclass::text, ', ') AS tables FROM pg_locks
    WHERE granted AND mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock',
        'AccessExclusiveLock') AND database = (
            SELECT oid FROM pg_database WHERE datname = current_database())
      AND relation IN (SELECT to_regclass(name)::oid FROM unnest(%s::text[]) AS t (name))
    GROUP BY pid
)
SELECT a.pid, coalesce(a.usename, ''), coalesce(a.state, 'unknown'),
       coalesce(extract(epoch FROM clock_timestamp() - a.xact_start), 0)::int,
       a.pid IN (SELECT pid FROM blocking), l.tables
FROM pg_stat_activity a LEFT JOIN locking l USING (pid)
WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()
  AND (a.pid IN (SELECT pid FROM blocking) OR l.pid IS NOT NULL
       OR (a.state LIKE 'idle in transaction%%'
       AND a.xact_start < clock_timestamp() - make_interval(secs => %s)))
ORDER BY 4 DESC
"""

# Transactions that were prepared and forgotten hold their locks for ever.
PREPARED = "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()"

# Bytes of this database, and the largest log of changes that is kept.
SIZE = """
SELECT pg_database_size(current_database()), pg_size_bytes(current_setting('max_wal_size'))
"""

# Where the files are; only some roles may know.
DATA_DIRECTORY = "SELECT current_setting('data_directory')"

# The clock of the database, in seconds since 1970.
CLOCK = "SELECT extract(epoch FROM clock_timestamp())::float8"

# What was left: leases of mergers that are gone, bad deltas, conflicts that nobody settled.
LEFT = """
SELECT (SELECT count(*) FROM merge_lease WHERE expires < clock_timestamp()),
       (SELECT count(*) FROM quarantine WHERE NOT dropped),
       (SELECT count(DISTINCT (table_name, conflict_key)) FROM merge_conflict c
        WHERE NOT EXISTS (SELECT FROM conflict_decision d
            WHERE d.table_name = c.table_name AND d.conflict_key = c.conflict_key))
"""
