# SPDX-License-Identifier: BSD-3-Clause
"""What ``submit`` looks at before anything is queued, for jobs of a RUN that is published."""

from collections.abc import Collection, Iterator, Mapping

from executor.submit.arrangement import Arrangement, arrange, requests_left
from executor.submit.bucket_run import BucketRun
from executor.submit.checks import Submission, check_locally, most_input_bytes, raise_errors
from executor.submit.configuration import SubmitConfiguration
from executor.submit.dag_report import resources_of
from executor.submit.plan import labels_of
from executor.submit.pool_queue import PoolError
from executor.submit.pool_slots import check_rights, suited_to_pool
from executor.submit.rerun import JobOf, Rerun, plan_of_bucket
from registry.job import PredictedInput, ResourceRequest


def check_for_pool(
    found: Arrangement,
    resources: Mapping[str, ResourceRequest],
    task_labels: Collection[str],
    *,
    is_dry: bool,
    is_elastic: bool,
) -> tuple[Arrangement, list[str]]:
    """Look at this machine, at our rights and at the slots of the pool.

    Parameters
    ----------
    task_labels
        All of the RUN.
    is_dry
        A pool that cannot be asked is a warning.
    is_elastic
        Slots may come that are not there now.

    Returns
    -------
    arrangement
        With the pool's largest slot as the end of memory that grows.
    warnings

    Raises
    ------
    NotSubmittableError, PoolError
    """
    sizes = most_input_bytes(_one_of_each(found))
    requests = requests_left(found, resources)
    findings = check_locally(
        Submission(
            *(found.plan.run, task_labels, len(found.nodes)),
            *(found.configuration, requests, sizes),
        )
    )
    raise_errors(findings)
    warnings = [finding.message for finding in findings]
    try:
        check_rights()
        suited, of_pool = suited_to_pool(found, resources, is_elastic=is_elastic)
    except PoolError as error:
        if not is_dry:
            raise
        return found, [*warnings, f"not checked against a pool: {error}"]
    raise_errors(of_pool)
    return suited, [*warnings, *(finding.message for finding in of_pool)]


def _one_of_each(found: Arrangement) -> Iterator[tuple[str, list[PredictedInput]]]:
    """Task label and inputs of one unfinished quantum of each task: to read all jobs takes long."""
    plan, done = found.plan, found.done
    one_of = {
        q.task_label: quantum_id for quantum_id, q in plan.quanta.items() if quantum_id not in done
    }
    for label, quantum_id in one_of.items():
        yield label, plan.job_of(quantum_id).inputs


def check_rerun(
    bucket: BucketRun,
    planned: Rerun,
    job_of: JobOf,
    configuration: SubmitConfiguration,
    *,
    is_dry: bool,
    is_elastic: bool,
) -> list[str]:
    """The same for a rerun, before anything of it is published; returns warnings.

    The jobs of a scratch RUN ask for what those ask for that they repeat.
    """
    quantum_ids = list(planned.originals.values()) or list(planned.plan.quanta)
    plan = plan_of_bucket(bucket, quantum_ids, job_of)
    asked = resources_of(plan)
    found = arrange(plan, {}, configuration, asked)
    labels = labels_of(bucket.quanta)
    return check_for_pool(found, asked, labels, is_dry=is_dry, is_elastic=is_elastic)[1]
