# SPDX-License-Identifier: BSD-3-Clause
"""The submit configuration: YAML with the keys that BPS users know.

``configs/submit.yaml`` shows all of it with comments. `configuration_file` reads it.
"""

import math
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from executor.submit.cluster_configuration import ClusterAlgorithm, ClusterRequest
from executor.submit.configuration_checks import check_configuration
from executor.submit.configuration_error import ConfigurationError as ConfigurationError
from executor.submit.configuration_file import read_file
from executor.submit.requests import Count, LinkLifetime, Multiplier, Positive, Requests, merged
from registry.job import ResourceRequest


class SubmitConfiguration(
    Requests, forbid_unknown_fields=True, rename="camel", frozen=True, kw_only=True
):
    """All that ``submit`` and ``rerun --pool`` can be told; requests here are for every job."""

    submit_path: str = "submit"
    """Directory for the files of DAGs; each submission gets one of its own below."""
    worker_executable: str = ""
    """Absolute path of ``quantum-exec`` on execution points; as on this machine if empty."""
    bundle: str = ""
    """Directory that ``quantum-exec bundle`` made: jobs bring the programs with them."""
    merge_executable: str = ""
    """Absolute path of ``registry-merge`` on the access point; beside this command if empty."""
    merge_config: str = ""
    """Configuration file of ``registry-merge`` on the access point, which names the database."""
    s3_endpoint_url: str = ""
    """Address of the S3 service, for execution points, submit and merge alike.

    If empty, each machine takes what its own environment says, in the end AWS.
    """
    max_idle: Positive = 1000
    """Idle jobs that DAGMan keeps in the queue."""
    max_jobs: Positive | None = None
    """Jobs of the whole DAG that are in the queue at once; not a default of the labels."""
    max_starts: Positive = 8
    """Starts of one job after which it is given up, evictions counted."""
    hold_retries: Count = 4
    """Releases of a job that is held for a transfer; holds for memory are not counted."""
    hold_retry_delay: Count = 60
    """Seconds before the first release; each further one waits twice as long."""
    hold_timeout: Positive = 86_400
    """Seconds after which a job that waits for a person is removed; not if a person held it."""
    transfer_deadline: Positive = 1800
    """Seconds after which the plugin ends a transfer as failed."""
    commit_link_lifetime: LinkLifetime = 86_400
    """Seconds for which a job that is stopped can commit by itself; 0 for not at all."""
    project: str = ""
    campaign: str = ""
    operator: str = ""
    """Shown by ``bps report``; the account that submits if empty."""
    payload_name: str = ""
    output: str = ""
    """CHAINED collection of which the merge makes the RUN the first member."""
    compute_site: str = ""
    """The section of ``site`` that holds."""
    init_tasks: list[str] = msgspec.field(default_factory=list)
    """Task labels whose quanta all others wait for."""

    request_memory: Positive | None = 2048
    request_cpus: Positive | None = 1
    request_disk: Positive | None = 1024
    number_of_retries: Count | None = 0
    memory_multiplier: Multiplier | None = 2

    pipetask: dict[str, Requests] = msgspec.field(default_factory=dict)
    """Requests of single task labels."""
    cluster: dict[str, ClusterRequest] = msgspec.field(default_factory=dict)
    """Several quanta in one job, by label of the cluster."""
    cluster_algorithm: ClusterAlgorithm = ClusterAlgorithm.DIMENSION
    """``none`` leaves ``cluster`` out of account."""
    site: dict[str, Requests] = msgspec.field(default_factory=dict)
    """Requests of a site, of which ``computeSite`` names one."""

    def requests_of(self, label: str, resources: ResourceRequest | None = None) -> Requests:
        """The requests of a label: its own, else the graph's, the site's, the top level's."""
        return merged(
            [*self.general_requests(), _requests_of_graph(resources), *self._own_requests(label)]
        )

    def general_requests(self) -> Sequence[Requests]:
        """The levels that hold for every label: top and site."""
        top = Requests(**{name: getattr(self, name) for name in Requests.__struct_fields__})
        everywhere = msgspec.structs.replace(top, max_jobs=None)
        return [everywhere, self.site.get(self.compute_site, Requests())]

    def _own_requests(self, label: str) -> Sequence[Requests]:
        return [self.pipetask.get(label, Requests()), self.cluster.get(label, Requests())]

    def with_endpoint(self, endpoint_url: str | None) -> "SubmitConfiguration":
        """The same with another address of the S3 service, if one is given."""
        if not endpoint_url:
            return self
        return msgspec.structs.replace(self, s3_endpoint_url=endpoint_url)

    def worker_command(self) -> str:
        """Absolute path of ``quantum-exec`` on execution points."""
        return self.worker_executable or _beside_us("quantum-exec")

    def merge_command(self) -> str:
        """Absolute path of ``registry-merge`` on the access point."""
        return self.merge_executable or _beside_us("registry-merge")


def _requests_of_graph(resources: ResourceRequest | None) -> Requests:
    """What a graph asks for, in what HTCondor takes: whole cores, MiB and seconds."""

    def whole(value: float | None) -> int | None:
        return None if value is None else max(1, math.ceil(value))

    asked = resources or ResourceRequest()
    return Requests(
        request_cpus=whole(asked.cpus),
        request_memory=whole(asked.memory_mib),
        request_disk=whole(asked.scratch_mib),
    )


def _beside_us(name: str) -> str:
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if not found:
        raise ConfigurationError(f"expected {name} beside {sys.executable} or on PATH, found none")
    return found


def read_submit_configuration(path: Path | None) -> SubmitConfiguration:
    """Read a submit configuration; without a file everything is at its default.

    Raises
    ------
    ConfigurationError
        If a file cannot be read, a key is unknown, or a value is of the wrong kind.
    """
    if path is None:
        return SubmitConfiguration()
    found, source = read_file(path, SubmitConfiguration)
    check_configuration(found, source)
    return found
