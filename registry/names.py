# SPDX-License-Identifier: BSD-3-Clause
"""Every S3 key and every file name in a sandbox.

A *key* is relative to the root of the datastore (``s3://bucket/prefix`` or ``file:///dir``)::

    <run>/<dataset_type>/<value>/…/<dataset_type>_<value>_….<attempt>.<ext>   datasets
    <run>/quantum-exec/graphs/<graph id>.json              graph record
    <run>/quantum-exec/graphs/<graph id>.quanta.jsonl.gz   predicted quanta of the graph
    <run>/quantum-exec/init/<graph id>.json                what the init job found
    <run>/quantum-exec/jobs/<quantum id>.json              job
    <run>/quantum-exec/clusters/<cluster id>.json          quanta that one job carries
    <run>/quantum-exec/logs/<quantum id>.<attempt id>.log.gz  log of the task
    <run>/quantum-exec/deltas/<quantum id>.<attempt id>.json
    <run>/quantum-exec/archive/<first attempt id>.<last attempt id>.<16 digits>.parquet
                                                           deltas, many in one file
    <run>/quantum-exec/replacements/<id>.json              ``rerun --replace`` that is under way
    quantum-exec/workers/<sha256>.pyz                      worker archives, for all RUNs

``quantum-exec`` has a hyphen, so no dataset type can be called so, and no part of a RUN may be.
"""

import hashlib
import re

from registry.attempt import short_attempt
from registry.errors import InvalidNameError
from registry.model import MAX_NAME_LENGTH, DataId

CONTROL = "quantum-exec"

# Names in a sandbox, all relative to its directory.
JOB_FILE = "job.json"
STAGE_IN_FILE = "stage-in.json"
STAGE_OUT_FILE = "stage-out.json"
DELTA_FILE = "delta.json"
TASK_LOG = "task.log.gz"
VERSIONS_FILE = "versions.json"
PRIVATE_REGISTRY = "registry.sqlite3"
REPO_DIR = "repo"
# The programs themselves, where a job brings them.
WORKER_ARCHIVE = "worker.pyz"
# A job with several quanta: its cluster file, and below `QUANTA_DIR` a sandbox for each quantum.
CLUSTER_FILE = "cluster.json"
QUANTA_DIR = "quanta"
# Where the wrapper may upload by itself when the job is stopped; never uploaded, mode 0600.
COMMIT_LINKS = "commit-links.json"
# What the init job of a DAG found.
INIT_FILE = "init.json"

_RUN_PART = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_.+@-]{{0,{MAX_NAME_LENGTH - 1}}}\Z")
_UUID = r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}"
_DELTA_NAME = re.compile(rf"(?P<quantum>{_UUID})\.(?P<attempt>{_UUID})\.json\Z")
_LOG_NAME = re.compile(rf"(?P<quantum>{_UUID})\.(?P<attempt>{_UUID})\.log(?:\.gz)?\Z")
_ARCHIVE_NAME = re.compile(
    rf"(?P<first>{_UUID})\.(?P<last>{_UUID})\.(?P<digest>[0-9a-f]{{16}})\.parquet\Z"
)
_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f]")
# ext4, XFS and most others allow 255 bytes in one name; attempt and extension need some.
MAX_PART_BYTES = MAX_NAME_LENGTH


def check_run(run: str) -> str:
    """Return the name of a RUN collection if keys can be built from it.

    Raises
    ------
    InvalidNameError
        If a part between slashes is empty, hidden, reserved, too long or has an unsafe character.
    """
    for part in run.split("/"):
        if not _RUN_PART.match(part) or part == CONTROL or ".." in part:
            raise InvalidNameError(
                f"RUN {run!r}: part {part!r} must begin with a letter, digit or underscore, hold "
                f"only these and . + @ -, at most {MAX_NAME_LENGTH}, and not be {CONTROL!r}"
            )
    return run


def check_key(key: str, what: str) -> str:
    """Return a key that stays below the root of the datastore.

    Raises
    ------
    InvalidNameError
        If it is absolute, empty, or has an empty, ``.`` or ``..`` part or a control character.
    """
    parts = key.split("/")
    # Once per object of a run and three times per delta, so no loop over characters.
    if "" in parts or "." in parts or ".." in parts or _CONTROL_CHARACTER.search(key):
        raise InvalidNameError(
            f"{what}: expected a key relative to the datastore, without empty, '.' or '..' "
            f"parts; found {key!r}"
        )
    return key


def printable(key: str) -> str:
    """Return a key that can be shown and stored: the name of a file may be no UTF-8."""
    return key.encode(errors="surrogateescape").decode(errors="backslashreplace")


def worker_archive_key(checksum: str) -> str:
    """Key of a worker archive with this checksum (``sha256:…``); no RUN can take its place."""
    return f"{CONTROL}/workers/{checksum.removeprefix('sha256:')}.pyz"


def control_prefix(run: str) -> str:
    """Prefix of all objects of a RUN that are not datasets."""
    return f"{run}/{CONTROL}/"


def graph_prefix(run: str) -> str:
    """Prefix of the records of the graphs that write into a RUN: one, or more when extended."""
    return f"{control_prefix(run)}graphs/"


def graph_record_key(run: str, graph_id: str) -> str:
    """Key of the record of a graph."""
    return f"{graph_prefix(run)}{graph_id}.json"


def predicted_quanta_key(run: str, graph_id: str) -> str:
    """Key of the list of all quanta of a graph with their predicted outputs."""
    return f"{graph_prefix(run)}{graph_id}.quanta.jsonl.gz"


def init_key(run: str, graph_id: str) -> str:
    """Key of what the init job of a graph found on a worker."""
    return f"{control_prefix(run)}init/{graph_id}.json"


def job_prefix(run: str) -> str:
    """Prefix of all jobs of a RUN."""
    return f"{control_prefix(run)}jobs/"


def job_key(run: str, quantum_id: str) -> str:
    """Key of the job of a quantum."""
    return f"{job_prefix(run)}{quantum_id}.json"


def cluster_prefix(run: str) -> str:
    """Prefix of the cluster files of a RUN."""
    return f"{control_prefix(run)}clusters/"


def cluster_key(run: str, cluster_id: str) -> str:
    """Key of the cluster file that names the quanta of a job with several."""
    return f"{cluster_prefix(run)}{cluster_id}.json"


def delta_prefix(run: str, quantum_id: str | None = None) -> str:
    """Prefix of the deltas of a RUN, or of one quantum in it."""
    return f"{control_prefix(run)}deltas/" + (f"{quantum_id}." if quantum_id else "")


def delta_key(run: str, quantum_id: str, attempt_id: str) -> str:
    """Key of the delta of an attempt."""
    return f"{delta_prefix(run, quantum_id)}{attempt_id}.json"


def replacement_key(run: str, replacement_id: str) -> str:
    """Key of the record of a replacement that is under way."""
    return f"{control_prefix(run)}replacements/{replacement_id}.json"


def parse_delta_key(key: str) -> tuple[str, str] | None:
    """Return quantum id and attempt id of a delta's key; None if it is no such key."""
    found = _DELTA_NAME.match(key.rpartition("/")[2])
    if not found:
        return None
    return found["quantum"], found["attempt"]


def archive_prefix(run: str) -> str:
    """Prefix of the archived deltas of a RUN."""
    return f"{control_prefix(run)}archive/"


def archive_key(run: str, first_attempt: str, last_attempt: str, checksum: str) -> str:
    """Key of a file of archived deltas, from its attempts and its checksum (``sha256:<hex>``).

    So two that archive at once never write other bytes under the same key.
    """
    digest = checksum.removeprefix("sha256:")[:16]
    return f"{archive_prefix(run)}{first_attempt}.{last_attempt}.{digest}.parquet"


def parse_archive_key(key: str) -> tuple[str, str, str] | None:
    """Return first and last attempt and the digits of the checksum; None if it is no such key."""
    found = _ARCHIVE_NAME.match(key.rpartition("/")[2])
    return (found["first"], found["last"], found["digest"]) if found else None


def log_key(run: str, quantum_id: str, attempt_id: str) -> str:
    """Key of the log that a task wrote during an attempt."""
    return f"{log_prefix(run)}{quantum_id}.{attempt_id}.log.gz"


def log_prefix(run: str) -> str:
    """Prefix of the logs of a RUN."""
    return f"{control_prefix(run)}logs/"


def parse_log_key(key: str) -> tuple[str, str] | None:
    """Return quantum id and attempt id of a log's key; None if it is no such key."""
    found = _LOG_NAME.match(key.rpartition("/")[2])
    return (found["quantum"], found["attempt"]) if found else None


def dataset_path(run: str, dataset_type: str, data_id: DataId, extension: str) -> str:
    """Path of a dataset in the repo of a sandbox: its key without the attempt."""
    parts = [path_part(value) for value in data_id.values()]
    name = _bounded("_".join([dataset_type, *parts]))
    return "/".join([run, dataset_type, *parts[:-1], name]) + extension


def dataset_key(path: str, extension: str, attempt_id: str) -> str:
    """Key of an output: its path with the attempt, so that no two attempts write one key."""
    stem = path.removesuffix(extension) if extension else path
    return f"{stem}.{short_attempt(attempt_id)}{extension}"


def path_part(value: object) -> str:
    """A data ID value as one part of a path, whatever it holds."""
    # Paths are made where graphs are; a worker is given them.
    from urllib.parse import quote

    text = quote(str(value), safe="+@=,").replace("~", "%7E")
    if not text or text.startswith("."):
        text = "%" + text
    return _bounded(text)


def _bounded(part: str) -> str:
    if len(part) <= MAX_PART_BYTES:
        return part
    digest = hashlib.sha256(part.encode()).hexdigest()[:16]
    return f"{part[: MAX_PART_BYTES - 17]}-{digest}"
