# SPDX-License-Identifier: BSD-3-Clause
"""The files through which stage-in, ``quantum-exec run`` and stage-out talk in a sandbox."""

from dataclasses import dataclass, field

from registry import names, typed_json
from registry.delta import ReadInput
from registry.errors import InvalidNameError


@dataclass(frozen=True, slots=True)
class StageInReport:
    """What stage-in found and fetched; it also names the attempt.

    ``successful_attempt`` is set when the quantum has a valid successful delta already: there is
    nothing to run. ``missing`` are inputs whose producer succeeded without making them.
    ``datastore`` (URI) and ``endpoint_url`` tell a task that reads and writes there itself where.
    ``from_members`` are datasets that other quanta of the same job make: ``quantum-exec run``
    brings them from the sandboxes of these, and then counts them among ``inputs`` or ``missing``.
    """

    quantum_id: str
    attempt_id: str
    started: str
    successful_attempt: str | None = None
    inputs: list[ReadInput] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    datastore: str | None = None
    endpoint_url: str | None = None
    from_members: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class CommitLinks:
    """Where the wrapper itself may upload when the job is stopped: HTCondor transfers nothing then.

    ``links`` are presigned PUT URLs by key, for the keys of one attempt and no others; each is a
    secret until it expires. ``ca_bundle`` is the file of certificates that the plugin trusts.
    """

    links: dict[str, str] = field(default_factory=dict)
    ca_bundle: str | None = None


@dataclass(frozen=True, slots=True)
class StageOutFile:
    """One file to upload: ``path`` below the sandbox, to ``key`` below the datastore.

    ``mtime_ns`` is the file's time of change when it was recorded, in nanoseconds: a file that
    changed afterwards is not what its checksum says.
    """

    path: str
    key: str
    size_bytes: int
    checksum: str
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class StageOutList:
    """What to upload when the job ends: ``files`` in any order, then ``delta``, alone and last."""

    run: str
    files: list[StageOutFile] = field(default_factory=list)
    delta: StageOutFile | None = None


def write_stage_in_report(report: StageInReport) -> bytes:
    """Return the text of a stage-in report.

    Bytes, because the plugin and the wrapper may run with different locales.
    """
    return typed_json.encode(report).encode()


def read_stage_in_report(text: bytes, what: str) -> StageInReport:
    """Read a stage-in report; raises `FormatError`."""
    return typed_json.decode(StageInReport, text, what)


def write_commit_links(links: CommitLinks) -> bytes:
    """Return the text of the file of presigned URLs."""
    return typed_json.encode(links).encode()


def read_commit_links(text: bytes, what: str) -> CommitLinks:
    """Read the file of presigned URLs; raises `FormatError`."""
    return typed_json.decode(CommitLinks, text, what)


def write_stage_out_list(stage_out: StageOutList) -> bytes:
    """Return the text of a stage-out list."""
    return typed_json.encode(stage_out).encode()


def read_stage_out_list(text: bytes, what: str) -> StageOutList:
    """Read a stage-out list.

    Raises
    ------
    FormatError
        If it is damaged.
    InvalidNameError
        If a path leaves the sandbox, a key leaves the RUN, or a file would lie among its control
        objects: there an attempt writes its log and its delta, and nothing else.
    """
    stage_out = typed_json.decode(StageOutList, text, what)
    names.check_run(stage_out.run)
    for entry in [*stage_out.files, *([stage_out.delta] if stage_out.delta else [])]:
        names.check_key(entry.path, f"{what}: path")
        names.check_key(entry.key, f"{what}: key")
        if not entry.key.startswith(f"{stage_out.run}/"):
            raise InvalidNameError(
                f"{what}: expected keys below RUN {stage_out.run!r}, found {entry.key!r}"
            )
    control, logs = names.control_prefix(stage_out.run), names.log_prefix(stage_out.run)
    for entry in stage_out.files:
        if entry.key.startswith(control) and not entry.key.startswith(logs):
            raise InvalidNameError(
                f"{what}: expected keys of datasets and logs, found {entry.key!r}"
            )
    return stage_out
