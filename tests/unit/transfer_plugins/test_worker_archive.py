# SPDX-License-Identifier: BSD-3-Clause
"""The cache of worker archives: fetched once, compared each time, trusted never."""

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from registry.errors import FormatError
from transfer_plugins.checksums import checksum_of_bytes
from transfer_plugins.object_store import ChecksumMismatchError, open_store
from transfer_plugins.worker_archive import WorkerArchive, place_archive

CONTENT = b"the programs of a worker" * 10_000
SIZE = len(CONTENT)


@pytest.fixture
def archive(tmp_path: Path) -> WorkerArchive:
    """An archive in a datastore."""
    store = open_store((tmp_path / "store").as_uri())
    store.put("quantum-exec/workers/a.pyz", CONTENT)
    return WorkerArchive(f"{store.uri}/quantum-exec/workers/a.pyz", checksum_of_bytes(CONTENT))


@pytest.fixture
def sandbox(tmp_path: Path) -> Path:
    """An empty sandbox."""
    (tmp_path / "sandbox").mkdir()
    return tmp_path / "sandbox"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Where the cache is to be."""
    return tmp_path / "cache"


def place(archive: WorkerArchive, sandbox: Path, cache: Path) -> int:
    """Place the archive, look at what came, and return the bytes that were fetched."""
    fetched = place_archive(archive, sandbox, cache)
    assert (sandbox / "worker.pyz").read_bytes() == CONTENT
    return fetched


def test_second_job_takes_it_from_the_cache(
    archive: WorkerArchive, sandbox: Path, cache: Path
) -> None:
    assert place(archive, sandbox, cache) == SIZE
    assert place(archive, sandbox, cache) == 0
    assert cache.stat().st_mode & 0o777 == 0o700


def test_task_cannot_reach_the_cached_one(
    archive: WorkerArchive, sandbox: Path, cache: Path
) -> None:
    place(archive, sandbox, cache)
    cached = cache / archive.cached_name
    assert cached.stat().st_nlink == 1
    (sandbox / "worker.pyz").chmod(0o600)
    (sandbox / "worker.pyz").write_bytes(b"changed")
    assert cached.read_bytes() == CONTENT


@pytest.mark.parametrize("content", [b"", CONTENT[:-1], CONTENT + b"x"])
def test_damaged_entry_is_replaced(
    archive: WorkerArchive, sandbox: Path, cache: Path, content: bytes
) -> None:
    cache.mkdir(mode=0o700)
    (cache / archive.cached_name).write_bytes(content)
    assert place(archive, sandbox, cache) == SIZE
    assert place(archive, sandbox, cache) == 0


def test_entry_that_is_a_link_is_not_followed(
    archive: WorkerArchive, sandbox: Path, cache: Path, tmp_path: Path
) -> None:
    cache.mkdir(mode=0o700)
    (tmp_path / "elsewhere").write_bytes(CONTENT)
    (cache / archive.cached_name).symlink_to(tmp_path / "elsewhere")
    assert place(archive, sandbox, cache) == SIZE
    assert not (cache / archive.cached_name).is_symlink()


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701])
def test_directory_that_others_may_enter_is_not_used(
    archive: WorkerArchive,
    sandbox: Path,
    cache: Path,
    mode: int,
    capfd: pytest.CaptureFixture[str],
) -> None:
    cache.mkdir()
    cache.chmod(mode)
    assert place(archive, sandbox, cache) == SIZE
    assert list(cache.iterdir()) == []
    assert "expected a directory of user" in capfd.readouterr().err


def test_directory_behind_a_link_is_not_used(
    archive: WorkerArchive, sandbox: Path, cache: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    cache.symlink_to(tmp_path / "elsewhere")
    assert place(archive, sandbox, cache) == SIZE
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory to another user")
def test_directory_of_another_user_is_not_used(
    archive: WorkerArchive, sandbox: Path, cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    cache.mkdir(mode=0o700)
    (cache / archive.cached_name).write_bytes(CONTENT)
    os.chown(cache, 65534, 65534)
    assert place(archive, sandbox, cache) == SIZE
    assert [path.name for path in cache.iterdir()] == [archive.cached_name]
    assert "found user 65534" in capfd.readouterr().err


def test_entry_that_is_no_file_is_not_waited_for(
    archive: WorkerArchive, sandbox: Path, cache: Path
) -> None:
    cache.mkdir(mode=0o700)
    os.mkfifo(cache / archive.cached_name)
    assert place(archive, sandbox, cache) == SIZE
    assert place(archive, sandbox, cache) == 0


@pytest.mark.parametrize("path", ["/proc/nowhere/cache", "relative", "/dev/null"])
def test_without_a_cache_it_is_fetched(archive: WorkerArchive, sandbox: Path, path: str) -> None:
    assert place(archive, sandbox, Path(path)) == SIZE


def test_archive_that_differs_is_refused(
    archive: WorkerArchive, sandbox: Path, cache: Path
) -> None:
    other = WorkerArchive(archive.uri, checksum_of_bytes(b"another"))
    with pytest.raises(ChecksumMismatchError, match="expected sha256:"):
        place_archive(other, sandbox, cache)
    assert list(sandbox.iterdir()) == []
    assert [path.suffix for path in cache.iterdir()] == [".lock"]


def test_checksum_cannot_name_another_file() -> None:
    with pytest.raises(FormatError, match="64 hex digits"):
        WorkerArchive("file:///a", "sha256:../../evil")


def test_old_archives_are_removed(archive: WorkerArchive, sandbox: Path, cache: Path) -> None:
    cache.mkdir(mode=0o700)
    for number in range(12):
        path = cache / f"{number:064x}.pyz"
        path.write_bytes(b"old")
        os.utime(path, (2e9 - number, 2e9 - number))
    long_ago = cache / f"{'f' * 64}.pyz"
    long_ago.write_bytes(b"older")
    os.utime(long_ago, (1e9, 1e9))
    place(archive, sandbox, cache)
    left = {path.name for path in cache.glob("*.pyz")}
    assert left == {archive.cached_name, *(f"{number:064x}.pyz" for number in range(7))}


PLACE = """
import sys
from pathlib import Path
from transfer_plugins.worker_archive import WorkerArchive, place_archive
uri, checksum, sandbox, cache = sys.argv[1:]
sys.stdin.read()
print(place_archive(WorkerArchive(uri, checksum), Path(sandbox), Path(cache)))
"""


def test_jobs_that_start_at_once_fetch_it_once(
    archive: WorkerArchive, cache: Path, tmp_path: Path
) -> None:
    with ExitStack() as open_processes:
        started = []
        for number in range(8):
            (tmp_path / f"s{number}").mkdir()
            words: list[str | Path] = [
                archive.uri,
                archive.checksum,
                tmp_path / f"s{number}",
                cache,
            ]
            command: list[str | Path] = [sys.executable, "-c", PLACE, *words]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            started.append(open_processes.enter_context(process))
        # All stand at the line: each begins when its standard input ends.
        for process in started:
            assert process.stdin
            process.stdin.close()
        fetched = [int(process.stdout.read()) for process in started if process.stdout]
    assert [process.returncode for process in started] == [0] * 8
    assert sorted(fetched) == [0] * 7 + [SIZE]
    assert {path.read_bytes() for path in tmp_path.glob("s?/worker.pyz")} == {CONTENT}
