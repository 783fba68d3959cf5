# SPDX-License-Identifier: BSD-3-Clause
"""The state of every node of a DAG: what its log tells, seen with DAGMan's eyes.

The log knows jobs. That a failed node will be tried again, waits for a parent, or never runs any
more because one failed, follows from the DAG file and from whether DAGMan is still there.
"""

from collections import defaultdict

from executor.submit.dag_structure import DagNode
from executor.submit.node_states import NodeRecord
from executor.submit.state_series import JobState
from executor.submit.submissions import Submission

ENDED_BADLY = (JobState.FAILED, JobState.DELETED)
# How HTCondor words a removal that no expression of the job or of the pool asked for.
_BY_A_PERSON = ("condor_rm", "DAG Removed", "DAG Abort", "Removed by user")


def states_of_dag(submission: Submission) -> dict[str, JobState]:
    """How each node of a DAG stands, by name."""
    states = {
        name: _own_state(node, submission.log.nodes.get(name), submission)
        for name, node in submission.structure.items()
    }
    told = {name: state for name, state in states.items() if state is not None}
    pruned = _pruned(submission, told)
    for name, node in submission.structure.items():
        if name in told:
            continue
        is_ready = all(told.get(p) is JobState.SUCCEEDED for p in node.parents)
        states[name] = (
            JobState.PRUNED
            if name in pruned
            else JobState.READY
            if is_ready and not node.is_final
            else JobState.UNREADY
        )
    return {name: state for name, state in states.items() if state is not None}


def _own_state(node: DagNode, record: NodeRecord | None, submission: Submission) -> JobState | None:
    """What is known of a node by itself; None if it has had no job."""
    table = submission.nodes.get(node.name)
    if node.is_done or (table is not None and table.is_done):
        return JobState.SUCCEEDED
    if record is None or record.state is None:
        return _submit_failure(node, submission)
    state = record.state
    if node.is_final and submission.log.post_scripts.get(node.name):
        return JobState.FAILED
    if state not in ENDED_BADLY:
        return state
    is_over = submission.dagman.has_ended or node.is_final
    has_tries = record.n_submits <= node.retries and (
        node.unless_exit is None or record.exit_code != node.unless_exit
    )
    if has_tries and not is_over:
        return JobState.READY
    if state is JobState.DELETED and not is_removed_by_a_person(record):
        return JobState.FAILED
    return state


def is_removed_by_a_person(record: NodeRecord) -> bool:
    """Whether a job was removed by somebody, or with its DAG, and not by its policy."""
    return any(words in (record.removal or "") for words in _BY_A_PERSON)


def _submit_failure(node: DagNode, submission: Submission) -> JobState | None:
    """A node that could not even be submitted stands in no event log."""
    if submission.dagman.has_ended and node.name in submission.refused():
        return JobState.FAILED
    return None


def _pruned(submission: Submission, told: dict[str, JobState]) -> set[str]:
    """Nodes without a job, below one that ended badly."""
    bad = {JobState.FAILED} if submission.dagman.is_removed else set(ENDED_BADLY)
    children: dict[str, list[str]] = defaultdict(list)
    for node in submission.structure.values():
        for parent in node.parents:
            children[parent].append(node.name)
    waiting = [name for name, state in told.items() if state in bad]
    found: set[str] = set()
    while waiting:
        new = [c for c in children[waiting.pop()] if c not in told and c not in found]
        found.update(new)
        waiting += new
    return found
