# SPDX-License-Identifier: BSD-3-Clause
"""The contract between worker and merger: model, names, formats and tables.

Everything else imports this package and it imports nothing of ours. A worker and the merger
never call each other: they agree on what is written here.

===================  ==========================================================================
module               subject
===================  ==========================================================================
`names`              every S3 key and every file name in a sandbox, spelled once
`model`              dataset types, dataset refs, data IDs and their canonical form
`attempt`            attempt ids (UUIDv7) and what an attempt can end as
`job`                job file: all that a worker must know to run one quantum
`quantum_cluster`    cluster file: the quanta that one job carries
`delta`              delta: the commit record of one quantum attempt, written and verified
`graph_record`       what the bucket holds about a graph: RUN, dataset types, predicted quanta
`prediction`         what a graph expects of a quantum, and which deltas say otherwise
`staging`            stage-in report and stage-out list, the two files that meet the plugin
`typed_json`         decoding of JSON into these dataclasses, with the place of an error
`structs`            msgspec twins of these dataclasses, decoded several times faster
`tables`             the SQLAlchemy tables, for SQLite and PostgreSQL alike
`errors`             the base of all our errors
`hidden_words`       secrets in texts, told by their form and left out of messages
`version`            the release
===================  ==========================================================================

All but `tables` and `structs` use the standard library only, because the transfer plugin and the
worker start once or twice per quantum and must not pay for imports (SQLAlchemy alone is 0.25 s).
The worker creates its SQLite file from ``private_registry.sql``, generated from `tables`
(``python -m registry.tables``); a test keeps the two equal.

Rejected: the formats as msgspec structs (a compiled wheel on every bare worker); Arrow or Parquet
deltas (55 MB of wheel to write 3 kB, and no person can read them on a worker).
"""
