# SPDX-License-Identifier: BSD-3-Clause
"""Tasks that do everything wrong: each ends as documented, and touches nothing outside.

The table "What a task can do wrong" of ``docs/operations.md`` tells the same.
"""

import gzip
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from executor.exit_codes import ExitCode
from registry import names
from registry.attempt import AttemptStatus
from tests.chain_attempt import HaltedAttempt
from tests.fix_chain import Reference
from tests.halted_processes import mark, marked_processes
from tests.local_graphs import RUN, GraphRun
from tests.processes import wait_until
from tests.samples import RAW_CONTENT
from tests.wrapper_process import Sandbox, make_sandbox
from transfer_plugins.checksums import checksum_of_file

COPY = "cp {input:raw} {output:calexp}"
PYTHON = f"{sys.executable} -c"
SQLITE = f"{PYTHON} 'import sqlite3, sys; sqlite3.connect(sys.argv[1]).executescript(sys.argv[2])'"
ENDLESS = "WITH RECURSIVE n(a) AS (SELECT 1 UNION ALL SELECT a + 1 FROM n) SELECT"
FORGED = "for f in job.json stage-in.json delta.json stage-out.json stage-out.json.part; do"

FILES_OF_A_RUN = ("graph.yaml", "halted", "tmp")

Tree = dict[str, tuple[int, bytes]]


@pytest.fixture(autouse=True)
def _nothing_outside_is_touched(tmp_path: Path) -> Iterator[None]:
    """Compare what lies around the sandbox before and after, and look for processes."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text("mine")
    (tmp_path / "outside" / "calexp_0_1.img").write_text("mine")
    before = tree(tmp_path)
    yield
    wait_until(lambda: not marked_processes(tmp_path), "no process is left")
    assert tree(tmp_path) == before
    # Pytest is to remove it all in its time.
    subprocess.run(["chmod", "-R", "u+rwX", tmp_path], check=True)


def tree(directory: Path) -> Tree:
    """Everything below a directory, apart from what the test works in."""
    found = {}
    for path in directory.rglob("*"):
        name = path.relative_to(directory).as_posix()
        if name.split("/")[0] not in ("sandbox", "store", "scratch", *FILES_OF_A_RUN):
            status = path.lstat()
            content = path.read_bytes() if path.is_file() else b""
            found[name] = (status.st_mode, content)
    return found


def run(tmp_path: Path, script: str) -> tuple[int, Sandbox, str]:
    """Run a script as the task of the sample quantum; returns code, sandbox, standard error."""
    sandbox = make_sandbox(tmp_path, "sh", "-ec", script)
    sandbox.environment.update(mark(tmp_path))
    code, stderr = sandbox.run()
    assert "Traceback" not in stderr
    return code, sandbox, stderr


WRONG_OUTPUTS = {
    "directory": ("mkdir {output:calexp}", "expected a regular file"),
    "link to a file in the sandbox": (
        "cp {input:raw} own; ln -s $PWD/own {output:calexp}",
        "found a directory, a link",
    ),
    "link to a file outside": (
        "ln -s $PWD/../outside/file {output:calexp}",
        "found a directory, a link",
    ),
    "link to nothing": ("ln -s /nonexistent {output:calexp}", "found a directory, a link"),
    "directory that is a link to one in the sandbox": (
        "mkdir own; d=$(dirname {output:calexp}); cp {input:raw} own/$(basename {output:calexp}); "
        "rmdir $d; ln -s $PWD/own $d",
        "expected only inputs and predicted outputs",
    ),
    "directory that is a link to one outside": (
        "d=$(dirname {output:calexp}); rmdir $d; ln -s $PWD/../outside $d",
        "found a directory, a link",
    ),
    "fifo": ("mkfifo {output:calexp}", "or a special file"),
    "socket": (
        "cd $(dirname {output:calexp}); "
        f"{PYTHON} 'import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])' "
        "$(basename {output:calexp})",
        "or a special file",
    ),
    "undeclared file": (f"{COPY}; touch {{repo}}/more", "found 'repo/more'"),
    "undeclared fifo": (f"{COPY}; mkfifo {{repo}}/more", "found 'repo/more'"),
    "name that is no text": (
        f"{COPY}; touch {{repo}}/$(printf '\\\\377\\\\n')x",
        "expected only inputs and predicted outputs",
    ),
}

WRONG_REGISTRIES = {
    "deleted": ("rm {registry}", "expected a file, found none"),
    "empty": (": > {registry}", "no such table"),
    "no database": ("head -c 9999 /dev/zero > {registry}", "file is not a database"),
    "damaged": (
        f"{PYTHON} 'import sys; f = open(sys.argv[1], \"r+b\"); f.seek(4096); f.write(bytes(8192))'"
        " {registry}",
        "private registry",
    ),
    "link to another": (
        "mv {registry} ../sandbox/own; ln -s own {registry}",
        "expected a regular file",
    ),
    "journal that is a link": (
        "ln -s ../outside/file {registry}-journal",
        "expected a regular file",
    ),
    "table taken away": (f"{SQLITE} {{registry}} 'DROP TABLE metric'", "no such table: metric"),
    "seeds taken away": (f"{SQLITE} {{registry}} 'DELETE FROM run'", "expected the seeded row"),
    "a million rows": (
        f"{SQLITE} {{registry}} \"INSERT INTO metric {ENDLESS} '{{attempt_id}}', a, 1 FROM n "
        'LIMIT 1000000"',
        "expected at most 100000 rows",
    ),
    "trigger that never ends": (
        f"{SQLITE} {{registry}} 'CREATE TRIGGER t AFTER INSERT ON dataset BEGIN INSERT INTO metric "
        f'{ENDLESS} "a", a, 1 FROM n WHERE a < 0; END\'',
        "expected tables only, found trigger",
    ),
}


@pytest.mark.parametrize("name", WRONG_OUTPUTS)
def test_wrong_output_fails_the_attempt(tmp_path: Path, name: str) -> None:
    script, message = WRONG_OUTPUTS[name]
    check_refused(tmp_path, script, message)


@pytest.mark.parametrize("name", WRONG_REGISTRIES)
def test_wrong_registry_fails_the_attempt(tmp_path: Path, name: str) -> None:
    script, message = WRONG_REGISTRIES[name]
    check_refused(tmp_path, f"{COPY}; {script}", message)


def check_refused(tmp_path: Path, script: str, message: str) -> None:
    """The attempt has failed with one clear error, and brings nothing but its log."""
    code, sandbox, _ = run(tmp_path, script)
    delta = sandbox.delta()
    assert (code, delta.status) == (ExitCode.WRONG_OUTPUTS, AttemptStatus.FAILED), delta.error
    assert delta.error is not None and message in delta.error
    assert delta.exit_code == 0 and delta.rows.dataset == []
    assert [entry.path for entry in sandbox.stage_out_list().files] == [names.TASK_LOG]
    sandbox.stage_out()


HARMLESS = {
    "hard link to an input": "ln {input:raw} {output:calexp}",
    "closes everything it was given": (
        f"{PYTHON} 'import os, sys; os.closerange(0, 1024); os.execvp(\"cp\", sys.argv[1:])' "
        "cp {input:raw} {output:calexp}"
    ),
    "forges what the wrapper has read and is to write": (
        f"{COPY}; {FORGED} echo '{{}}' > $f; done; rm -f registry.sqlite3-journal"
    ),
    "puts directories in the place of what is to be written": (
        f"{COPY}; {FORGED} rm -f $f; mkdir -p $f/more; done"
    ),
    "puts links in the place of what is to be written": (
        f"{COPY}; {FORGED} rm -f $f; ln -s ../outside/file $f; done"
    ),
    "leaves a daemon that writes on": (
        f"{COPY}; env -i $(command -v setsid) sh -c 'while :; do echo more >> $0; done' "
        "{output:calexp} > /dev/null 2>&1 < /dev/null & while [ $(wc -l < {output:calexp}) -lt 2 ]"
        "; do :; done; cp {input:raw} new; mv new {output:calexp}"
    ),
    "leaves a daemon that holds the registry": (
        f"{COPY}; (exec setsid {PYTHON} 'import sqlite3, sys, time; c = sqlite3.connect("
        'sys.argv[1]); c.execute("BEGIN EXCLUSIVE"); open("held", "w"); time.sleep(600)\' '
        "{registry}) & while [ ! -e held ]; do :; done"
    ),
    "leaves the registry in another journal mode": (
        f"{COPY}; {SQLITE} {{registry}} 'PRAGMA journal_mode = WAL; "
        'INSERT INTO metric VALUES ("{attempt_id}", "n", 1)\''
    ),
    "tells its wrapper to stop": f"{COPY}; trap '' TERM; kill -TERM $PPID; sleep 0.1",
    "takes its rights away": f"{COPY}; chmod 500 {{repo}} .",
    "takes the name of the sandbox for its own": f"{COPY}; mkdir -p quantum-exec repo2 .part-x",
}


@pytest.mark.parametrize("name", HARMLESS)
def test_success_though_the_task_behaves_oddly(tmp_path: Path, name: str) -> None:
    code, sandbox, stderr = run(tmp_path, HARMLESS[name])
    delta = sandbox.delta()
    assert (code, delta.status) == (0, AttemptStatus.SUCCESSFUL), delta.error or stderr
    (record,) = delta.rows.datastore_record
    assert record.checksum == checksum_of_file(sandbox.output)
    assert not marked_processes(tmp_path), "the wrapper ended before its task's processes"
    sandbox.stage_out()
    assert sandbox.store.get(record.object_key).startswith(RAW_CONTENT)


def test_empty_output_is_an_output(tmp_path: Path) -> None:
    code, sandbox, _ = run(tmp_path, ": > {output:calexp}")
    assert (code, sandbox.delta().rows.datastore_record[0].size_bytes) == (0, 0)
    sandbox.stage_out()


def test_task_that_kills_its_wrapper_leaves_no_delta_and_no_process(tmp_path: Path) -> None:
    code, sandbox, _ = run(tmp_path, f"{COPY}; setsid sleep 600 & kill -KILL $PPID; sleep 600")
    assert code == -signal.SIGKILL
    assert sandbox.stage_out_list().delta is None
    sandbox.stage_out()
    assert not list(sandbox.store.list_objects(names.control_prefix(sandbox.job.run)))


def test_task_that_stops_its_wrapper_holds_it_up_and_no_more(tmp_path: Path) -> None:
    sandbox = make_sandbox(tmp_path, "sh", "-ec", f"{COPY}; kill -STOP $PPID")
    sandbox.environment.update(mark(tmp_path))
    process = sandbox.start()
    status = psutil.Process(process.pid).status
    wait_until(lambda: status() == psutil.STATUS_STOPPED, "the wrapper is stopped")
    process.send_signal(signal.SIGCONT)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert sandbox.delta().status is AttemptStatus.SUCCESSFUL


def test_gigabytes_of_output_are_capped(tmp_path: Path) -> None:
    code, sandbox, _ = run(tmp_path, f"{COPY}; head -c 200000000 /dev/zero | tr '\\0' x; echo end")
    assert code == 0
    assert sandbox.delta().resources.scratch_bytes < 1 << 20  # type: ignore[operator]
    log = gzip.decompress((sandbox.directory / names.TASK_LOG).read_bytes())
    assert len(log) < 20 << 20 and log.endswith(b"xend\n")
    assert b"bytes of the log left out" in log


def test_task_that_ignores_sigterm_is_killed_after_its_grace(tmp_path: Path) -> None:
    sandbox = make_sandbox(tmp_path, "sh", "-c", "trap '' TERM; touch begun; sleep 600; sleep 600")
    sandbox.environment.update(mark(tmp_path))
    process = sandbox.start()
    wait_until((sandbox.directory / "begun").exists, "the task runs")
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    delta = sandbox.delta()
    assert (delta.status, delta.signal) == (AttemptStatus.ABORTED, signal.SIGKILL)


def test_files_beyond_the_limit_of_the_system_fail_the_attempt(tmp_path: Path) -> None:
    sandbox = make_sandbox(tmp_path, "sh", "-ec", "head -c 9000000 /dev/zero > {output:calexp}")
    limit = 1 << 20
    process = subprocess.Popen(
        [sys.executable, "-m", "executor", "run"],
        cwd=sandbox.directory,
        env={**os.environ, **mark(tmp_path)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert process.wait(timeout=60) == 128 + signal.SIGXFSZ
    assert sandbox.delta().status is AttemptStatus.FAILED
    sandbox.stage_out()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[bool]:
    """A sandbox on a disk of 4 MiB, where mounting is allowed."""
    (tmp_path / "sandbox").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(tmp_path / "sandbox")]
    is_mounted = subprocess.run(mount, capture_output=True).returncode == 0
    yield is_mounted
    if is_mounted:
        subprocess.run(["umount", "-l", str(tmp_path / "sandbox")], check=True)


@pytest.mark.parametrize("what", ["{output:calexp}", "other", "/dev/full"])
def test_full_disk_ends_in_a_failed_attempt(tmp_path: Path, small_disk: bool, what: str) -> None:
    code, sandbox, _ = run(
        tmp_path, f"cat /dev/zero > {what}" if small_disk else "head -c 9 /dev/zero > /dev/full"
    )
    delta = sandbox.delta()
    assert delta.status is AttemptStatus.FAILED
    is_full = small_disk and what != "/dev/full"
    assert code == (ExitCode.OVER_SCRATCH if is_full else 1)
    assert ("disk of the sandbox is full" in str(delta.error)) is is_full
    (entry,) = sandbox.stage_out_list().files
    sandbox.stage_out()
    assert sandbox.store.get(entry.key)


FORGERY = """
import os, signal
from pathlib import Path
from registry import names, staging
from transfer_plugins.checksums import checksum_of_file
run = os.environ["QUANTUM_EXEC_RUN"]
status, checksum = os.stat("job.json"), checksum_of_file(Path("job.json"))
entry = staging.StageOutFile(
    "job.json", f"{run}/forged", status.st_size, checksum, status.st_mtime_ns
)
with open(names.STAGE_OUT_FILE, "wb") as file:
    file.write(staging.write_stage_out_list(staging.StageOutList(run, [entry])))
os.kill(os.getppid(), signal.SIGKILL)
signal.pause()
"""


def set_command(graph_run: GraphRun, *command: str) -> list[str]:
    """Give the quantum in the middle another command; returns the old one."""
    task = graph_run.document["tasks"]["join"]
    old, task["command"] = task["command"], list(command)
    return list(old)


def test_list_of_a_task_that_killed_its_wrapper_is_not_uploaded(
    chain_run: GraphRun, reference: Reference
) -> None:
    good = set_command(chain_run, sys.executable, "-c", FORGERY)
    before = chain_run.keys()
    report = chain_run.run()
    assert report.code == ExitCode.FAILED
    assert "ended with SIGKILL and left no delta" in report.failures[0], report.failures
    assert sorted(chain_run.keys()) == sorted(before)
    set_command(chain_run, *good)
    assert chain_run.run().code == 0
    assert chain_run.result() == reference.result


def test_output_that_changed_after_it_was_recorded_is_not_uploaded(
    chain_run: GraphRun, reference: Reference
) -> None:
    attempt = HaltedAttempt(chain_run, "outputs recorded", is_by_uri=False)
    (output,) = chain_run.scratch.glob(f"*/join-*/repo/{RUN}/sum/*.txt")
    output.write_text("other")
    code, stderr = attempt.go_on()
    assert code == ExitCode.FAILED
    assert "sum_1.txt: expected" in stderr and "it changed after it was recorded" in stderr
    assert [d.task_label for d in chain_run.deltas()] == ["split"]
    assert chain_run.run().code == 0
    assert chain_run.result() == reference.result


def test_sandbox_from_which_a_task_took_all_rights_is_removed(chain_run: GraphRun) -> None:
    locked = "mkdir -p own/deep; touch own/deep/file; chmod 0 own/deep own; exit 3"
    set_command(chain_run, "sh", "-c", locked)
    report = chain_run.run()
    assert (report.code, report.counts["join"]) == (ExitCode.FAILED, (1, 0, 1, 0)), report
    assert list(chain_run.scratch.iterdir()) == []


OTHER_CASES = {
    *("empty output", "kills its wrapper", "forged list", "ignores SIGTERM", "prints gigabytes"),
    *("full disk", "file size limit", "changed output", "stops its wrapper"),
}
"""What the tests that are not parametrized by name are called in the documentation."""


def test_documentation_names_every_case() -> None:
    text = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    section = text.split("## What a task can do wrong, and what happens")[1].split("\n## ")[0]
    rows = [line.split(" | ") for line in section.splitlines() if line.startswith("| ")]
    told = {name for row in rows for name in re.findall("`([^`]+)`", row[-1])}
    assert told == {*WRONG_OUTPUTS, *WRONG_REGISTRIES, *HARMLESS} | OTHER_CASES
