# SPDX-License-Identifier: BSD-3-Clause
"""The submit side: from a graph to attempts, on this machine or on an HTCondor pool.

===================  ==========================================================================
module               subject
===================  ==========================================================================
`publish`            graph record, predicted quanta and jobs into the datastore
`plan`               what is to be run, from a graph or from the datastore
`standings`          which quanta of a RUN have a valid successful delta
`orphans`            processes that outlive a killed wrapper, ended by the runner
`local_runner`       N quanta at once on this machine, in dependency order
`local_attempt`      one attempt on this machine: stage in, ``quantum-exec run``, stage out
`scratch`            the directory of a local runner, in which it makes its sandboxes
`configuration`      the submit configuration, with the keys that BPS users know
`requests`           what a job asks of a pool, as every level of a configuration may say it
`cluster_configuration`  ``cluster.<label>``: several quanta in one job
`clustering`         quanta into groups, each of which is one job
`dimension_values`   … by values of dimensions
`quantum_clusters`   clusters as workers are told of them
`cluster_requests`   … and what their jobs ask for
`unkept_inputs`      who is run again because what it made was not kept
`arrangement`        the jobs of a plan: clusters, nodes, what is done
`configuration_file`  reading one: unknown keys, variables, kinds of values
`configuration_source`  … the YAML of its files, with includes
`configuration_levels`  … one level brought to one form, ``profile.condor`` among it
`configuration_checks`  … values that must fit each other
`configuration_error`  … what is raised of it
`bps_keys`           keys of BPS that have no effect here
`nodes`              the jobs of a plan as DAGMan sees them
`node_table`         the same in a file beside the DAG, for those who look at it later
`hold_reasons`       why a job is held, and what is done about it
`job_policy`         what HTCondor is to do with a job that goes wrong; growth of memory
`submit_text`        text of submit descriptions: quoted, or refused
`submit_files`       … of the jobs of a label, the init job, the merge
`dag`                the files of a DAG: one job per quantum, ``registry-merge`` at the end
`pool`               handing a DAG to HTCondor; only modules named ``pool…`` import htcondor2
`pool_queue`         what HTCondor's queue has of a RUN
`checks`             what is looked at before anything is queued
`pool_slots`         … of a pool: rights, slots, transfer plugin
`pool_checks`        … the same for what is already published: restart, rerun
`dry_run`            every file of a submission without submitting it
`earlier_requests`   requests as an earlier run measured them
`submit_command`     ``quantum-exec submit``
`pool_steering`      pause, resume and stop of a DAG; jobs that lost theirs
`steering_command`   ``quantum-exec pause``, ``resume``, ``stop``
`restart`            a RUN taken up again from what the datastore says
`restart_command`    ``quantum-exec restart``
`earlier_memory`     with how much memory jobs begin whose quanta went over before
`dag_report`         a plan on the pool, and what is told of it
`derived_outputs`    deltas that can be judged without the job
`bucket_run`         a RUN as the datastore alone tells it
`rerun`              which quanta are run again, and the plan that runs them
`scratch_run`        the same quanta in a scratch RUN, with the inputs as they were read
`replacement`        new attempts in the place of successful ones
`rerun_command`      ``quantum-exec rerun``
`rerun_report`       what a rerun did
`output_comparison`  outputs of two attempts: are they the same, and if not, what differs
`fits_comparison`    … of FITS files
`table_comparison`   … of Parquet tables
`array_comparison`   … of NumPy arrays
`document_comparison`  … of JSON and YAML documents
`shell`              a quantum's sandbox opened again, with what an attempt read
`shell_script`       ``run-task``, the script in it
`shell_findings`     what was done in it
`shell_command`      ``quantum-exec shell``
`event_log`          HTCondor's event log, read as it grows
`state_series`       the states of jobs, and how many were in each over time
`node_states`        what the events tell of each node
`dag_structure`      what DAGMan was told: order, retries, what is done
`submissions`        the directories of a RUN's submissions, and what their logs tell
`dag_states`         the state of every node, as DAGMan sees it
`known_deltas`       deltas as they come, each read once
`run_status`         what ``quantum-exec status`` tells
`status_reading`     … put together from logs and deltas
`status_tables`      … for a terminal
`status_page`        … as a static page
`status_command`     ``quantum-exec status``
`attempt_logs`       logs of tasks, from the datastore
`logs_command`       ``quantum-exec logs``
`progress`           bars and tables for people
===================  ==========================================================================

Nothing here runs on a worker. The local runner plays HTCondor's part: it stages in, starts
``quantum-exec run`` as a process, and stages out, with the functions that the plugin calls.
"""
