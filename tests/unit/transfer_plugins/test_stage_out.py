# SPDX-License-Identifier: BSD-3-Clause
"""Stage-out: what was recorded and nothing else, the delta alone and last."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from registry import names, staging
from registry.errors import FormatError, InvalidNameError, QuantumExecError
from tests.samples import ATTEMPT_ID, QUANTUM_ID, RUN
from transfer_plugins import stage_out as stage_out_module
from transfer_plugins.checksums import checksum_of_file
from transfer_plugins.object_store import (
    DirectoryObjectStore,
    ObjectStore,
    TransferError,
    TransferRefusedError,
)
from transfer_plugins.stage_out import ChangedFileError, Moved, read_list, stage_out

DELTA_KEY = names.delta_key(RUN, QUANTUM_ID, ATTEMPT_ID)
PATHS = [f"repo/{number}.fits" for number in range(5)]


class StubbornStore(DirectoryObjectStore):
    """A datastore that fails some uploads, and knows in which order the others ended."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.failures: dict[str, list[TransferError]] = {}
        self.uploaded: list[str] = []

    def upload(self, path: Path, key: str, checksum: str) -> None:
        """Upload a file, or fail as the test says."""
        if self.failures.get(key):
            raise self.failures[key].pop()
        super().upload(path, key, checksum)
        self.uploaded.append(key)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StubbornStore:
    """An empty datastore; pauses between tries take no time."""
    monkeypatch.setattr(stage_out_module, "_FIRST_PAUSE_S", 0.001)
    return StubbornStore(tmp_path / "store")


@pytest.fixture
def sandbox(tmp_path: Path) -> Path:
    """A sandbox with five files, and one that stands for a delta."""
    sandbox = tmp_path / "sandbox"
    (sandbox / "repo").mkdir(parents=True)
    for path in [*PATHS, names.DELTA_FILE]:
        (sandbox / path).write_text(f"content of {path}")
    return sandbox


def recorded(sandbox: Path, path: str, key: str) -> staging.StageOutFile:
    """A file as it is now."""
    found = (sandbox / path).stat()
    checksum = checksum_of_file(sandbox / path)
    return staging.StageOutFile(path, key, found.st_size, checksum, found.st_mtime_ns)


def list_of(sandbox: Path) -> staging.StageOutList:
    """The stage-out list of all files of the sandbox."""
    files = [recorded(sandbox, path, f"{RUN}/{path}") for path in PATHS]
    return staging.StageOutList(RUN, files, recorded(sandbox, names.DELTA_FILE, DELTA_KEY))


def keys_in(store: ObjectStore) -> set[str]:
    """The keys of all objects."""
    return {stored.key for stored in store.list_objects("")}


def test_all_files_arrive_and_the_delta_last(store: StubbornStore, sandbox: Path) -> None:
    moved = stage_out(list_of(sandbox), store, sandbox, patience_s=0)
    assert store.uploaded[-1] == DELTA_KEY
    assert sorted(store.uploaded[:-1]) == [f"{RUN}/{path}" for path in PATHS]
    n_bytes = sum((sandbox / path).stat().st_size for path in [*PATHS, names.DELTA_FILE])
    assert moved == Moved(6, n_bytes)
    assert store.get(f"{RUN}/{PATHS[0]}") == b"content of repo/0.fits"


def test_empty_list_uploads_nothing(store: StubbornStore, sandbox: Path) -> None:
    assert stage_out(staging.StageOutList(RUN), store, sandbox, patience_s=0) == Moved(0, 0)
    assert keys_in(store) == set()


@pytest.mark.parametrize("failing", range(5))
def test_no_delta_when_another_upload_failed(
    store: StubbornStore, sandbox: Path, failing: int
) -> None:
    store.failures[f"{RUN}/{PATHS[failing]}"] = [TransferRefusedError("no right to write")]
    with pytest.raises(TransferRefusedError, match="no right to write"):
        stage_out(list_of(sandbox), store, sandbox, patience_s=60)
    assert DELTA_KEY not in keys_in(store)


def test_failed_upload_is_tried_again_within_patience(store: StubbornStore, sandbox: Path) -> None:
    for path in PATHS[:3]:
        store.failures[f"{RUN}/{path}"] = [TransferError("timed out")] * 3
    store.failures[DELTA_KEY] = [TransferError("timed out")]
    stage_out(list_of(sandbox), store, sandbox, patience_s=60)
    assert store.uploaded[-1] == DELTA_KEY
    assert len(keys_in(store)) == 6


def test_patience_ends(store: StubbornStore, sandbox: Path) -> None:
    left = store.failures.setdefault(f"{RUN}/{PATHS[0]}", [TransferError("timed out")] * 1000)
    with pytest.raises(TransferError, match="timed out"):
        stage_out(list_of(sandbox), store, sandbox, patience_s=0.02)
    assert 1 < 1000 - len(left) < 100
    assert DELTA_KEY not in keys_in(store)


def replace_by_link(path: Path) -> None:
    target = path.with_suffix(".target")
    path.rename(target)
    path.symlink_to(target)


def replace_by_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def touch(path: Path) -> None:
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))


CHANGES: list[tuple[Callable[[Path], object], str]] = [
    (Path.unlink, "expected 22 bytes, found none: No such file or directory"),
    (lambda path: path.write_text("longer than it was when recorded"), "it changed after"),
    (touch, "it changed after it was recorded"),
    (replace_by_link, "expected a regular file in the sandbox"),
    (replace_by_directory, "expected a regular file in the sandbox"),
    (replace_by_pipe, "expected a regular file in the sandbox"),
]


@pytest.mark.parametrize(("change", "message"), CHANGES)
def test_file_that_changed_is_not_uploaded(
    store: StubbornStore, sandbox: Path, change: Callable[[Path], object], message: str
) -> None:
    stage_out_list = list_of(sandbox)
    change(sandbox / PATHS[2])
    with pytest.raises(ChangedFileError, match=rf"^repo/2\.fits: .*{message}"):
        stage_out(stage_out_list, store, sandbox, patience_s=60)
    assert not {DELTA_KEY, f"{RUN}/{PATHS[2]}"} & keys_in(store)


def test_delta_that_changed_is_not_uploaded(store: StubbornStore, sandbox: Path) -> None:
    stage_out_list = list_of(sandbox)
    (sandbox / names.DELTA_FILE).write_text("another")
    with pytest.raises(ChangedFileError, match=r"^delta\.json: "):
        stage_out(stage_out_list, store, sandbox, patience_s=60)
    assert DELTA_KEY not in keys_in(store)


def test_file_that_changes_between_tries_is_not_uploaded(
    store: StubbornStore, sandbox: Path
) -> None:
    class Meddling(TransferError):
        """An error during which the file is changed."""

        @property
        def is_retryable(self) -> bool:  # type: ignore[override]
            touch(sandbox / PATHS[0])
            return True

    stage_out_list = list_of(sandbox)
    store.failures[f"{RUN}/{PATHS[0]}"] = [Meddling("timed out")]
    with pytest.raises(ChangedFileError):
        stage_out(stage_out_list, store, sandbox, patience_s=60)


def test_directory_that_is_a_link_out_of_the_sandbox_is_refused(
    store: StubbornStore, sandbox: Path, tmp_path: Path
) -> None:
    stage_out_list = list_of(sandbox)
    (sandbox / "repo").rename(tmp_path / "elsewhere")
    (sandbox / "repo").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ChangedFileError, match="a link out of it"):
        stage_out(stage_out_list, store, sandbox, patience_s=60)
    assert keys_in(store) == set()


def test_sandbox_may_itself_lie_behind_a_link(store: StubbornStore, sandbox: Path) -> None:
    link = sandbox.parent / "link"
    link.symlink_to(sandbox)
    stage_out(list_of(sandbox), store, link, patience_s=0)
    assert len(keys_in(store)) == 6


def test_list_is_read_from_the_sandbox(sandbox: Path) -> None:
    stage_out_list = list_of(sandbox)
    path = sandbox / names.STAGE_OUT_FILE
    path.write_bytes(staging.write_stage_out_list(stage_out_list))
    assert read_list(sandbox) == stage_out_list
    path.write_text("{")
    with pytest.raises(FormatError, match=f"^stage-out list {path}: expected JSON"):
        read_list(sandbox)
    path.write_bytes(b"\xff")
    with pytest.raises(FormatError, match=f"^stage-out list {path}: expected JSON"):
        read_list(sandbox)
    path.write_bytes(staging.write_stage_out_list(staging.StageOutList("../x")))
    with pytest.raises(InvalidNameError):
        read_list(sandbox)


def test_list_that_is_gone_is_told(sandbox: Path) -> None:
    with pytest.raises(QuantumExecError, match=r"stage-out list .*: expected a file, found none"):
        read_list(sandbox)
