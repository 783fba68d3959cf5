# SPDX-License-Identifier: BSD-3-Clause
"""A job file or a cluster file and its datastore, from the URI of the file alone."""

from pathlib import PurePosixPath

from registry import names
from registry.errors import FormatError
from registry.job import Job, read_job
from registry.quantum_cluster import QuantumCluster, read_quantum_cluster
from transfer_plugins.concurrency import map_concurrently
from transfer_plugins.object_store import ObjectNotFoundError, ObjectStore, open_store

_JOBS = f"/{names.CONTROL}/jobs/"
_CLUSTERS = f"/{names.CONTROL}/clusters/"


def open_job(uri: str, *, endpoint_url: str | None = None) -> tuple[Job, ObjectStore, int]:
    """Read the job file at ``<datastore>/<run>/quantum-exec/jobs/<quantum id>.json``.

    Returns
    -------
    job, datastore, n_bytes
        ``n_bytes`` is the size of the job file.

    Raises
    ------
    FormatError
        If the URI is not that of a job file, or not of the job that the file holds.
    TransferError
        If it cannot be fetched.
    """
    holder, name = split_job_uri(uri)
    store = open_store(holder, endpoint_url=endpoint_url)
    content = store.get(name)
    job = read_job(content, f"job file {uri}")
    root = datastore_of_job(uri, job.run, job.quantum_id)
    return job, store.reopen(root), len(content)


def open_cluster(
    uri: str, *, endpoint_url: str | None = None
) -> tuple[QuantumCluster, ObjectStore, int]:
    """Read the cluster file at ``<datastore>/<run>/quantum-exec/clusters/<cluster id>.json``.

    Returns
    -------
    cluster, datastore, n_bytes
        ``n_bytes`` is the size of the cluster file.

    Raises
    ------
    FormatError
        If the URI is not that of a cluster file, or not of the cluster that the file holds.
    TransferError
        If it cannot be fetched.
    """
    holder, name = split_job_uri(uri)
    store = open_store(holder, endpoint_url=endpoint_url)
    content = store.get(name)
    cluster = read_quantum_cluster(content, f"cluster file {uri}")
    root = _root_of(uri, names.cluster_key(cluster.run, cluster.cluster_id))
    return cluster, store.reopen(root), len(content)


def jobs_of_cluster(cluster: QuantumCluster, store: ObjectStore) -> list[Job]:
    """Read the job files of all quanta of a cluster, many at once, in the order of its members.

    Raises
    ------
    FormatError
        If a job file is damaged, or is not of the graph, RUN and quantum that the cluster names.
    TransferError
        If one is missing or cannot be fetched.
    """

    def read(quantum_id: str) -> Job:
        key = names.job_key(cluster.run, quantum_id)
        try:
            job = read_job(store.get(key), f"job file {store.uri}/{key}")
        except ObjectNotFoundError as error:
            raise ObjectNotFoundError(
                f"cluster {cluster.cluster_id} ({cluster.label}): expected a job file of its "
                f"quantum {quantum_id}: {error}; submit the graph again"
            ) from error
        _check_member(cluster, job, quantum_id)
        return job

    return map_concurrently(read, [member.quantum_id for member in cluster.members])


def _check_member(cluster: QuantumCluster, job: Job, quantum_id: str) -> None:
    expected = (cluster.run, cluster.graph_id, quantum_id)
    found = (job.run, job.graph_id, job.quantum_id)
    if found != expected:
        raise FormatError(
            f"cluster {cluster.cluster_id} ({cluster.label}): expected a job of RUN, graph and "
            f"quantum {expected}, found {found}; the graph was submitted again, or changed"
        )


def is_cluster_uri(uri: str) -> bool:
    """Whether a URI has the form of that of a cluster file."""
    holder = uri.rpartition("/")[0]
    return f"{holder}/".endswith(_CLUSTERS) and uri.endswith(".json")


def split_job_uri(uri: str) -> tuple[str, str]:
    """Split the URI of a job or cluster file into directory and name; raises `FormatError`."""
    if not is_cluster_uri(uri) and (_JOBS not in uri or not uri.endswith(".json")):
        raise FormatError(
            f"expected the URI of a job, <datastore>/<run>{_JOBS}<quantum id>.json or "
            f"<datastore>/<run>{_CLUSTERS}<cluster id>.json, found {uri!r}"
        )
    holder, _, name = uri.rpartition("/")
    return holder, name


def datastore_of_job(uri: str, run: str, quantum_id: str) -> str:
    """Return the URI of the datastore of a job.

    Raises
    ------
    FormatError
        If the URI is not that of this quantum in this RUN: its outputs would go elsewhere.
    """
    return _root_of(uri, names.job_key(run, quantum_id))


def _root_of(uri: str, key: str) -> str:
    if not uri.endswith(f"/{key}"):
        raise FormatError(f"expected the URI of the job to end with {f'/{key}'!r}, found {uri!r}")
    return uri[: -len(f"/{key}")]


def quantum_of_job(uri: str) -> str:
    """Return the quantum id that the URI of a job file names."""
    return PurePosixPath(split_job_uri(uri)[1]).stem
