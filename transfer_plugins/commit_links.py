# SPDX-License-Identifier: BSD-3-Clause
"""Commit links: what lets a wrapper without credentials upload the keys of its own attempt.

HTCondor transfers nothing when it evicts a job. So stage-in leaves presigned PUT URLs, in a file
that only the user of the job can read; the wrapper takes the file away before the task begins.
"""

import os
from pathlib import Path

from registry import names, staging
from registry.job import DataMode, Job
from transfer_plugins.object_store import ObjectStore


def write_commit_links(
    job: Job, attempt_id: str, store: ObjectStore, sandbox: Path, lifetime_s: int
) -> None:
    """Write the URLs of an attempt's outputs, log and delta, if the datastore has such.

    Parameters
    ----------
    lifetime_s
        Seconds until they expire; nothing is written if it is 0.
    """
    if lifetime_s <= 0 or store.is_local:
        return
    # Late, for datastores of files.
    from transfer_plugins.s3_object_store import S3ObjectStore

    if not isinstance(store, S3ObjectStore):
        return
    links = {key: store.presigned_put(key, lifetime_s) for key in _keys(job, attempt_id)}
    path = sandbox / names.COMMIT_LINKS
    path.unlink(missing_ok=True)
    content = staging.CommitLinks(links, store.ca_bundle)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(staging.write_commit_links(content))


def _keys(job: Job, attempt_id: str) -> list[str]:
    """The keys that an attempt may write; in direct mode its task writes the outputs itself."""
    extensions = {t.name: t.extension for t in job.dataset_types}
    outputs = [
        names.dataset_key(output.path, extensions[output.dataset_type], attempt_id)
        for output in job.outputs
        if job.data_mode is DataMode.STAGED
    ]
    quantum = (job.run, job.quantum_id, attempt_id)
    return [*outputs, names.log_key(*quantum), names.delta_key(*quantum)]
