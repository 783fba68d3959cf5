# SPDX-License-Identifier: BSD-3-Clause
"""What the jobs of a cluster ask for, from what their quanta ask for."""

from typing import Any

import msgspec
import pytest

from executor.submit.arrangement import arrange
from executor.submit.cluster_requests import with_cluster_requests
from executor.submit.configuration import ConfigurationError, SubmitConfiguration
from executor.submit.quantum_clusters import clusters_of_plan
from executor.submit.requests import Requests
from registry.job import ResourceRequest
from tests.cluster_plans import survey_plan


def requests(pipetask: dict[str, Any], **stated: object) -> Requests:
    """The requests of a cluster of isr and fit, two chains in a job and one in the last."""
    cluster = {"pipetasks": "isr,fit", "maxSize": 4, **stated}
    configuration = msgspec.convert(
        {"requestDisk": 7, "cluster": {"single": cluster}, "pipetask": pipetask},
        SubmitConfiguration,
    )
    plan = survey_plan(1, 3)
    clusters = clusters_of_plan(plan, configuration.cluster)
    resources = {"isr": ResourceRequest(memory_mib=3000)}
    found = with_cluster_requests(configuration, plan, clusters, resources)
    return found.requests_of("single")


def test_the_greatest_of_memory_and_the_sum_of_disk() -> None:
    fit = {"requestCpus": 4, "requestMemory": 2500, "requestDisk": 100, "numberOfRetries": 2}
    found = requests({"fit": fit})
    assert (found.request_cpus, found.request_memory, found.number_of_retries) == (4, 3000, 2)
    # The larger job has two quanta of each.
    assert found.request_disk == 2 * (7 + 100)


def test_walltime_is_the_sum_if_all_have_one() -> None:
    isr, fit = {"requestWalltime": 60}, {"requestWalltime": 40}
    assert requests({"isr": isr, "fit": fit}).request_walltime == 200
    assert requests({"isr": isr}).request_walltime is None


def test_workers_are_told_the_walltime_of_each_task() -> None:
    isr, fit = {"requestWalltime": 60}, {"requestWalltime": 40}
    found = requests({"isr": isr, "fit": fit}, requestWalltime=500, attributes={"Mine": 1})
    assert found.request_walltime == 500
    assert found.attributes == {"Mine": 1, "QuantumExecWallTimes": "fit=40 isr=60"}
    assert requests({}).attributes == {}


def test_what_the_cluster_states_holds() -> None:
    found = requests({}, requestMemory=500, requestDisk=9, numberOfRetries=0)
    assert (found.request_memory, found.request_disk, found.number_of_retries) == (500, 9, 0)


def test_other_requests_must_be_the_same_or_stated() -> None:
    fit = {"accountingGroup": "group_b"}
    with pytest.raises(ConfigurationError, match="expected the same accountingGroup for all"):
        requests({"fit": fit})
    found = requests({"fit": fit}, accountingGroup="group_c")
    assert found.accounting_group == "group_c"


def test_jobs_of_a_cluster_are_those_of_a_label_of_its_own() -> None:
    configuration = msgspec.convert(
        {"cluster": {"single": {"pipetasks": "isr", "maxSize": 2}}}, SubmitConfiguration
    )
    found = arrange(survey_plan(1, 3), {}, configuration)
    files = [(n.label, n.job_file.partition("/")[0], len(n.quantum_ids)) for n in found.nodes]
    alone = [("fit", "jobs", 1)] * 3 + [("mosaic", "jobs", 1)]
    assert sorted(files) == [*alone, ("single", "clusters", 2), ("single", "jobs", 1)]
    [mosaic] = [node for node in found.nodes if node.label == "mosaic"]
    assert len(mosaic.parents) == 3
