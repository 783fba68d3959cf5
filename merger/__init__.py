# SPDX-License-Identifier: BSD-3-Clause
"""``registry-merge``: many deltas of a RUN into few transactions of the central registry.

::

    datastore ──► listing minus ledger ──► read, verify, check ──► collate ──► transaction
                  `delta_listing`          `delta_checks`         `collation`  `insertion`
                                           (`reading_process`, batches ahead)

A batch goes one of three ways. The *plain* way holds a shared lock, COPYs, and stops as soon as it
meets anything that could depend on what other attempts brought: a key that is taken, an attempt
that it supersedes. Then the batch is rolled back and *sifted*, beside others still: the quanta that
meet something are found and left out. These go the *careful* way, alone in the registry, where
every row that has to do with them is looked at and the outcome follows from content only. So the
plain way stays fast and simple, the careful one needs no thought about concurrency, and it is
short. Which merger takes which deltas, `leases` say; who has merged them, the ledger alone.

=====================  ========================================================================
module                 subject
=====================  ========================================================================
`cli`                  the program; its commands are in `commands`
`settings`             options, environment and configuration file; no password in arguments
`settings_error`       what a person has set up wrongly
`database_address`     where the central registry is, and with which secret
`db_auth`              passwords from LSST's db-auth
`exit_codes`           what the exit code of a command says
`doctor`               is this place fit for a merge?
`check`                one thing that the doctor looked at
`doctor_database`      what it looks at in the database
`doctor_datastore`     what it looks at in the datastore
`doctor_statements`    all SQL of the doctor
`rights`               which rights a role needs that merges, and the SQL that gives them
`failures`             which exit code an error gives, and what to do about it
`reports`              what verify shows: lines for people, JSON for programs
`merge_reports`        what merge shows at its end, and what is left for a person
`dry_run`              what a merge would do
`progress`             how far a merge or verify is, told to whoever shows it
`shown_progress`       a bar for terminals, lines for logs
`stopping`             SIGTERM and SIGINT: what is under way is finished first
`follow`               merging while the graph runs, pass after pass, until nothing can come
`quantum_states`       the rule of ending: which quanta can still bring a delta
`predicted_ids`        ids of predicted quanta and who reads of whom, packed
`dag_status`           DAGMan's node status file
`dag_clusters`         which quanta its nodes stand for
`standings`            what the central registry knows of predicted quanta
`standings_statements` all SQL of that
`central_registry`     connection, transactions, and which errors are worth another try
`schema`               creating and upgrading the tables (Alembic, in `migrations`)
`database_errors`      which errors of PostgreSQL and of poolers pass by themselves
`statements`           all SQL of the merge, one line of purpose each
`merge`                the whole act: `merge.merge_run`
`predictions`          graph records and predicted quanta of a RUN
`predicted_quanta`     the latter, packed
`packed_ids`           UUIDs, packed, sorted and searched
`delta_listing`        which deltas a RUN has, packed
`delta_reading`        concurrent reading, batches
`prepared`             deltas made ready for insertion, ahead of it
`prepared_batch`       what is left of a batch once it is read
`reading_client`       this side of the reading process
`reading_start`        the start of it, ahead of the imports of a merge
`reading_process`      the other side: reads, verifies, checks, collates
`reading_errors`       errors that cross between the two
`frames`               and what carries everything across
`delta_checks`         which deltas are good, and the reasons why others are not
`plain_deltas`         a quick look, for the many that plainly are
`quarantine`           bad deltas of a RUN, and how they leave the quarantine again
`quarantine_statements`  all SQL of that
`quarantine_retry`     bad deltas looked at again, or given up
`unfinished`           quanta without a success in the central registry, and why
`collation`            deltas to Arrow tables, in insert order
`uuid_arrays`          UUIDs as Arrow arrays
`copy_format`          Arrow tables to PostgreSQL's binary COPY format
`leases`               which deltas a merger takes next, so that others take others
`lease_statements`     all SQL of leases and of the ledger lookup
`writers`              one connection's share of a merge: lease, read ahead, insert
`graph_rows`           what rows of deltas refer to: RUN, dataset types, the graph's records
`insertion`            one batch: the way it goes, and who in it is to blame
`plain_way`            batches beside those of other mergers: plain, and sifted
`careful_way`          deltas alone in the registry, where every row they meet is looked at
`sifting_statements`   all SQL of sifting a batch
`refused_rows`         which deltas of a batch PostgreSQL refuses, tried without inserting any
`refusal_statements`   all SQL of that
`merge_counts`         what a merge did, in numbers
`dimension_conflicts`  dimension records on which attempts agree, or do not
`dataset_conflicts`    the careful way for datasets: superseded attempts and conflicts
`conflict_records`     the table of conflicts
`dataset_types`        dataset types: one definition each
`collection_chains`    collections: RUNs and the chains made of them
`outside_entries`      datasets that come from outside, by the rules of a merge
`outside_statements`   all SQL of what comes from outside
`source_table`         CSV and Parquet tables that people bring, in batches of rows
`data_id_columns`      data IDs from columns: integers or text, and the ids they give
`known_kinds`          what the values of dimensions are in the central registry
`file_columns`         where a file lies, its size and checksum, from columns
`duplicate_rows`       rows of a table that claim the same
`measured_files`       sizes and checksums asked of the store
`file_ingest`          ``ingest-files``
`dimension_ingest`     ``ingest-dimensions``
`sqlite_import`        ``import``
`imported_chains`      its chains: tried first, made last
`sqlite_source`        an SQLite file of somebody else, read without trusting it
`sqlite_rows`          rows of our tables in it, checked column by column
`sqlite_deltas`        attempts of a repository in SQLite, as deltas
`registry_file`        what an SQLite registry holds for an import
`butler_file`          the same of the registry of an LSST Butler
`entry_reports`        what is shown about entries from outside
`conflict_statements`  all SQL about conflicts
`conflict_policy`      defer, keep, replace, fail: what a merge does about new conflicts
`conflict_choice`      which of several sides stay; pure
`settling`             recorded conflicts shown and settled by a person
`settling_statements`  all SQL of that
`conflict_reports`     what the commands about conflicts show
`forgetting`           taking out what a RUN or quanta put in
`forgetting_statements`  all SQL of forget
`delta_archive`        the deltas of a RUN as a few Parquet files
`archive_schema`       their columns, and rows of them
`archived_deltas`      a datastore in which archived deltas can be read as if they were objects
`archive_index`        where each of them is, packed
`archive_file`         one such file, read in ranges and not believed unchecked
`verification`         verify: registry, deltas and bucket compared
`verify_statements`    all SQL of verify
`registry_rows`        what the registry says about a RUN, for verify
`registry_comparison`  deltas against the registry, for verify
`bucket_comparison`    the registry against the objects in the bucket, for verify
`sweep`                objects that nothing names, listed, and deleted if wanted
`sweep_statements`     all SQL of sweep
`protection`           what protects an object from sweep, looked at in this order
`named_keys`           which keys the text of a datastore record may mean
`listed_objects`       a million objects: keys on disk, marks in memory
`whole_deltas`         deltas for whom predictions do not matter: fetched and decoded
`measured_requests`    what the tasks of a RUN used, and what the next run should ask for
`left_objects`         objects that the registry does not name: superseded, orphaned
`findings`             what verify tells: differences and notes
=====================  ========================================================================

Never imports `executor`: the two meet only in a delta.

Rejected: ON CONFLICT for every table (twice the time of COPY, and it hides rows that are there
with other content); advisory locks per key (they exhaust the lock table at 27,000); SERIALIZABLE
(aborts under exactly the load that matters); a lease per delta (the ledger row is the claim).
"""
