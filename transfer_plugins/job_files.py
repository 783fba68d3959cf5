# SPDX-License-Identifier: BSD-3-Clause
"""A job file and its datastore, from the URI of the job file alone."""

from pathlib import PurePosixPath

from registry import names
from registry.errors import FormatError
from registry.job import Job, read_job
from transfer_plugins.object_store import ObjectStore, open_store

_JOBS = f"/{names.CONTROL}/jobs/"


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


def split_job_uri(uri: str) -> tuple[str, str]:
    """Split the URI of a job file into that of its directory and its name; raises `FormatError`."""
    if _JOBS not in uri or not uri.endswith(".json"):
        raise FormatError(
            f"expected the URI of a job, <datastore>/<run>{_JOBS}<quantum id>.json, found {uri!r}"
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
    key = f"/{names.job_key(run, quantum_id)}"
    if not uri.endswith(key):
        raise FormatError(f"expected the URI of the job to end with {key!r}, found {uri!r}")
    return uri[: -len(key)]


def quantum_of_job(uri: str) -> str:
    """Return the quantum id that the URI of a job file names."""
    return PurePosixPath(split_job_uri(uri)[1]).stem
