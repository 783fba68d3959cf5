# SPDX-License-Identifier: BSD-3-Clause
"""Speed and memory, measured side by side with a peer or a limit in one run.

``python -m benchmarks.NAME [--full] [--json]``: a minute by default, ``--full`` for the real
sizes, ``--json`` for one object on one line, last, whose keys name ratio and unit. No test asserts
on a time: machines differ, ratios of one run hardly.

=================  ============================================================================
module             subject
=================  ============================================================================
`quantum`          one no-op quantum through ``quantum-exec run``, against ``python -c pass``
`graph`            a large graph made, checked and read in parts, against plain Parquet and YAML
`dagman`           a large graph at the door of a pool: dry run, DAGMan, the first jobs
`merge`            deltas of a large run into PostgreSQL, against COPY of the same rows
`merge_place`      where merges are measured: turns, medians, figures
`merge_workload`   the deltas of that run
`merge_process`    ``registry-merge merge`` as a process: seconds, memory of all its processes
`merge_columns`    ours, ours without reading, COPY and others; second merge; bad deltas
`merge_insertion`  a merge without reading
`merge_peers`      COPY, SQLAlchemy with ON CONFLICT, row by row with savepoints
`merge_s3`         a merge from S3: where the time goes, and what clients cost
`merge_growth`     merge time against the size of the registry: table and plot
`registry_fill`    a registry of millions of datasets, made in a minute or two
`postgres_server`  the embedded PostgreSQL
`submit`           a DAG of 27,040 quanta written, against LSST's ``bps prepare``
`submit_bps`       ``bps prepare`` of a graph of the same shape
`s3_server`        an S3 server that is not the bottleneck
`report`           the command of a benchmark: its options, its table, its line of JSON
=================  ============================================================================
"""
