# SPDX-License-Identifier: BSD-3-Clause
"""The submit configuration: YAML with the keys that BPS users know.

``configs/submit.yaml`` shows all of it with comments.
"""

import math
import shutil
import sys
from pathlib import Path

import msgspec

from executor.submit.cluster_configuration import ClusterAlgorithm, ClusterRequest
from executor.submit.requests import Count, Positive, Requests
from registry.errors import QuantumExecError
from registry.job import ResourceRequest


class ConfigurationError(QuantumExecError, ValueError):
    """A configuration file is wrong; the message names the file, the key and what was expected."""

    error_type = "configuration"


class SubmitConfiguration(
    msgspec.Struct, forbid_unknown_fields=True, rename="camel", frozen=True, kw_only=True
):
    """All that ``submit`` and ``rerun --pool`` can be told."""

    submit_path: str = "submit"
    """Directory for the files of DAGs; each submission gets one of its own below."""
    worker_executable: str = ""
    """Absolute path of ``quantum-exec`` on execution points; as on this machine if empty."""
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
    max_starts: Positive = 8
    """Starts of one job after which it is given up, evictions counted."""
    transfer_deadline: Positive = 1800
    """Seconds after which the plugin ends a transfer as failed."""
    request_memory: Positive = 2048
    """MiB."""
    request_cpus: Positive = 1
    request_disk: Positive = 1024
    """MiB."""
    number_of_retries: Count = 0
    retry_unless_exit: int | None = None
    pipetask: dict[str, Requests] = {}
    """Requests of single task labels."""
    cluster: dict[str, ClusterRequest] = {}
    """Several quanta in one job, by label of the cluster."""
    cluster_algorithm: ClusterAlgorithm = ClusterAlgorithm.DIMENSION
    """``none`` leaves ``cluster`` out of account."""

    def requests_of(self, task_label: str, resources: ResourceRequest | None = None) -> Requests:
        """The requests of a task or cluster label: its own, else the graph's, else the top's."""
        found = {name: getattr(self, name) for name in Requests.__struct_fields__}
        own = self.pipetask.get(task_label, Requests())
        of_cluster = self.cluster.get(task_label, Requests())
        for level in (_requests_of_graph(resources or ResourceRequest()), own, of_cluster):
            values = {name: getattr(level, name) for name in Requests.__struct_fields__}
            found.update({name: value for name, value in values.items() if value is not None})
        return Requests(**found)

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


def _requests_of_graph(resources: ResourceRequest) -> Requests:
    """What a graph asks for, in what HTCondor takes: whole cores and whole MiB."""

    def whole(value: float | None) -> int | None:
        return None if value is None else max(1, math.ceil(value))

    return Requests(
        request_cpus=whole(resources.cpus),
        request_memory=whole(resources.memory_mib),
        request_disk=whole(resources.scratch_mib),
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
        If the file cannot be read, a key is unknown, or a value is of the wrong kind.
    """
    if path is None:
        return SubmitConfiguration()
    try:
        # A file of comments is read as null.
        read = msgspec.yaml.decode(path.read_bytes(), type=SubmitConfiguration | None)
        found = read or SubmitConfiguration()
    except (OSError, msgspec.MsgspecError) as error:
        found_instead = " ".join(str(error).split())
        raise ConfigurationError(f"submit configuration {path}: {found_instead}") from error
    for value in (found.worker_executable, found.merge_executable, found.merge_config):
        if value and not value.startswith("/"):
            raise ConfigurationError(
                f"submit configuration {path}: expected an absolute path, found {value!r}"
            )
    return found
