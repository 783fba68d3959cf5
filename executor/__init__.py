# SPDX-License-Identifier: BSD-3-Clause
"""The life of a quantum on a worker; getting a graph there is `executor.submit`.

What runs where::

    access point                      worker
    quantum-exec submit, run-local    quantum-exec run job.json        (`quantum_run`)
      `executor.submit`                 private registry made, seeded  (`private_registry`)
                                        the quantum's task             (`task`, `function_task`)
                                        outputs checked, recorded      (`outputs`)
                                        delta and stage-out list

===================  ==========================================================================
module               subject
===================  ==========================================================================
`cli`                the command ``quantum-exec``, all but ``run``
`command_options`    options that several commands share
`worker_command`     ``quantum-exec run``, which starts once per quantum
`init_check`         ``quantum-exec init``, the first job of a DAG
`formats`            the formats of this release, compared with the access point's
`exit_codes`         what its exit codes mean
`quantum_run`        one attempt from a staged-in sandbox to a stage-out list
`cluster_run`        the quanta of a cluster, one after the other in one job
`cluster_exit`       the one exit code of such a job
`stopped_commit`     what a stopped wrapper uploads by itself
`vacate_time`        how long a stopped job has for it
`private_registry`   the SQLite file: made, seeded, and read back as the rows of a delta
`outputs`            the predicted outputs found, measured and recorded
`parent_death`       what Linux does when a parent process ends
`task`               what a task is given: argument list and environment
`terminal_text`      text of tasks as a terminal may show it
`task_supervision`   the task from its start to the end of its last process
`task_log`           its log: streamed, compressed, capped
`limits`             what it uses, and whether that is more than was asked for
`process_tree`       its processes, wherever they went: found, measured, ended
`guardian`           ends the task of a wrapper that was killed
`stop_signal`        SIGTERM and SIGINT, noted and passed on
`sandbox`            the directory of a quantum: made, or refused
`sandbox_files`      the wrapper's own files in a sandbox
`versions`           the versions of what ran
`wrapper_log`        what the wrapper did, when
`function_task`      the process that calls a Python function with the repo object
`repo`               the repo object: get, put, path of a ref
`task_datasets`      the datasets behind it: files of the sandbox
`direct_data`        or objects of the datastore, where the outputs are then measured
`task_versions`      the versions that a task reports
`storage_classes`    readers and writers, by storage class
`demo`               a survey of real pixels and a pipeline over it, as an example
`graph`              graph files, and what can be asked of them
`submit`             the local runner, DAGMan, rerun
`bundle`             our programs as files that travel with a job
===================  ==========================================================================

A worker imports nothing of `executor.graph` and `executor.submit`, no database driver and no
htcondor2. boto3 is imported only when ``quantum-exec run`` is given a URI and must stage in and
out by itself, and in direct mode with a datastore in S3.
"""
