# SPDX-License-Identifier: BSD-3-Clause
"""What a stopped wrapper uploads by itself, as far as time allows: HTCondor transfers nothing then.

It has no credentials, but presigned URLs for the keys of its own attempts. They are taken out of
the sandbox before a task begins, and stand in no message. The plugin may upload the same bytes
under the same keys again.
"""

import logging
import os
import stat
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from executor.vacate_time import seconds_to_stop
from registry import names, staging
from registry.errors import FormatError, QuantumExecError
from transfer_plugins.stage_out import check_unchanged

if TYPE_CHECKING:
    import ssl

_log = logging.getLogger(__name__)

_UPLOADS_AT_ONCE = 8
_FIRST_PAUSE_S = 0.25
_LONGEST_TRY_S = 20.0
# What one PUT takes on S3, Ceph and MinIO.
_LARGEST_PUT_BYTES = 5 * 1024**3
_CHUNK_BYTES = 1 << 16


class _OutOfTimeError(QuantumExecError):
    """The time of a stopped job is over."""

    error_type = "out_of_time"


@dataclass(frozen=True, slots=True)
class StoppedCommit:
    """What one attempt has to upload; ``builds_on`` are attempts to be committed before it."""

    attempt_id: str
    sandbox: Path
    stage_out_list: staging.StageOutList
    links: staging.CommitLinks
    builds_on: frozenset[str] = frozenset()


def take_links(sandbox: Path) -> staging.CommitLinks:
    """Read the presigned URLs that stage-in left, and remove their file: no task is to find it."""
    path = sandbox / names.COMMIT_LINKS
    try:
        text = path.read_bytes()
    except OSError:
        return staging.CommitLinks()
    with suppress(OSError):
        path.unlink()
    try:
        return staging.read_commit_links(text, f"commit links {path}")
    except FormatError:
        # What it says could hold a URL.
        _log.warning("commit links %s: expected a file of links, found a damaged one", path)
        return staging.CommitLinks()


def commit_stopped(commits: Sequence[StoppedCommit], received_at: float) -> set[str]:
    """Upload what attempts left, in this order, each delta after its files.

    Parameters
    ----------
    received_at
        When the job was told to stop, by the monotonic clock. The time allowed counts from there.

    Returns
    -------
    set
        The attempts that are committed. No error is raised: what is not, is run again.
    """
    deadline = received_at + seconds_to_stop(os.environ)
    # Those that an earlier job committed are none of ours.
    ours = {commit.attempt_id for commit in commits}
    committed: set[str] = set()
    for commit in commits:
        if not commit.links.links or not commit.builds_on & ours <= committed:
            continue
        try:
            _commit(commit, deadline)
        except (QuantumExecError, OSError, ValueError) as error:
            _log.warning("attempt %s is not committed: %s", commit.attempt_id, _told(error))
        else:
            _log.info("attempt %s is committed before the job ends", commit.attempt_id)
            committed.add(commit.attempt_id)
    return committed


def _commit(commit: StoppedCommit, deadline: float) -> None:
    def upload(entry: staging.StageOutFile) -> None:
        _upload(entry, commit, deadline)

    files, delta = commit.stage_out_list.files, commit.stage_out_list.delta
    if delta is None:
        return
    _map(upload, files)
    upload(delta)


def _map(
    function: Callable[[staging.StageOutFile], None], entries: Iterable[staging.StageOutFile]
) -> None:
    with ThreadPoolExecutor(_UPLOADS_AT_ONCE) as threads:
        for _ in threads.map(function, entries):
            pass


def _upload(entry: staging.StageOutFile, commit: StoppedCommit, deadline: float) -> None:
    """PUT one file, again while time allows."""
    url = commit.links.links.get(entry.key)
    if url is None or entry.size_bytes > _LARGEST_PUT_BYTES:
        raise FormatError(f"{entry.key}: expected a link for {entry.size_bytes} bytes, found none")
    pause = _FIRST_PAUSE_S
    while True:
        check_unchanged(commit.sandbox, entry)
        left = deadline - time.monotonic()
        if left <= 0:
            raise _OutOfTimeError(f"{entry.key}: no time is left before the job is killed")
        try:
            _put(url, commit.sandbox / entry.path, entry, commit.links.ca_bundle, deadline)
        except OSError as error:
            if _is_refusal(error) or time.monotonic() + pause > deadline:
                raise
        else:
            return
        time.sleep(pause)
        pause *= 2


def _is_refusal(error: OSError) -> bool:
    """Whether the service answered, and would answer the same again."""
    code = getattr(error, "code", 500)
    return isinstance(code, int) and 400 <= code < 500 and code not in (408, 429)


def _put(
    url: str, path: Path, entry: staging.StageOutFile, ca_bundle: str | None, deadline: float
) -> None:
    # Needed by stopped jobs only; 30 ms.
    import http.client
    import urllib.request

    with _Body(path, entry.size_bytes, deadline) as body:
        headers = {"Content-Length": str(entry.size_bytes), "Content-Type": "binary/octet-stream"}
        request = urllib.request.Request(url, body, headers, method="PUT")
        context = _trusting(ca_bundle) if url[:6] == "https:" else None
        timeout = min(_LONGEST_TRY_S, max(0.1, deadline - time.monotonic()))
        try:
            with urllib.request.urlopen(request, timeout=timeout, context=context):
                pass
        except http.client.HTTPException as error:
            # What answered is no S3 service, or a proxy that is dying: passing trouble.
            raise ConnectionError(f"expected HTTP, found {type(error).__name__}") from error


def _trusting(ca_bundle: str | None) -> "ssl.SSLContext":
    """Trust whom the plugin trusts: the site's authorities, or public ones."""
    import ssl

    from transfer_plugins.packed_boto3 import authorities

    context = ssl.create_default_context(cafile=ca_bundle)
    # A directory of authorities counts only once they are used; then these are more of the same.
    if ca_bundle is None and not context.cert_store_stats()["x509_ca"] and (known := authorities()):
        context.load_verify_locations(cadata=known)
    return context


class _Body:
    """A file that is sent until time is over, and not a byte more than was recorded."""

    def __init__(self, path: Path, size_bytes: int, deadline: float) -> None:
        self._left, self._deadline = size_bytes, deadline
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        self._file: BinaryIO = os.fdopen(handle, "rb")
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            self._file.close()
            raise FormatError(f"{path.name}: expected a regular file, found another kind")

    def __enter__(self) -> "_Body":
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._file.close()

    def read(self, size: int = -1) -> bytes:
        """Give the next bytes; called by http.client."""
        if time.monotonic() > self._deadline:
            raise _OutOfTimeError("no time is left before the job is killed")
        chunk = self._file.read(min(_CHUNK_BYTES if size < 0 else size, self._left))
        self._left -= len(chunk)
        return chunk


def _told(error: Exception) -> str:
    """An error without what it may quote: a URL that lets anybody write."""
    from registry.hidden_words import without_secrets

    return without_secrets(str(error))
