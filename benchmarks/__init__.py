# SPDX-License-Identifier: BSD-3-Clause
"""Speed and memory, measured side by side with a peer or a limit in one run.

``python -m benchmarks.NAME [--full] [--json]``: a minute by default, ``--full`` for the real
sizes, ``--json`` for one object on one line, last, whose keys name ratio and unit. No test asserts
on a time: machines differ, ratios of one run hardly.

===========  ==================================================================================
module       subject
===========  ==================================================================================
`quantum`    one no-op quantum through ``quantum-exec run``, against ``python -c pass``
`graph`      a large graph made, checked and read in parts, against plain Parquet and YAML
`merge`      deltas of a large run into PostgreSQL, against COPY of the same rows
`report`     the command of a benchmark: its options, its table, its line of JSON
===========  ==================================================================================
"""
