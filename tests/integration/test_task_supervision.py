# SPDX-License-Identifier: BSD-3-Clause
"""What the wrapper sees to while a task runs: limits, log, processes, versions, its own log."""

import gzip
import json
import sys
from pathlib import Path

import pytest

from executor.exit_codes import ExitCode
from executor.submit.earlier_memory import grown_memory, over_in_delta
from executor.submit.requests import Requests
from executor.task_log import HEAD_BYTES, TAIL_BYTES
from registry import names
from registry.attempt import AttemptStatus
from registry.job import ResourceRequest, TaskCall
from registry.version import VERSION
from tests.processes import has_ended, wait_until
from tests.samples import make_job
from tests.wrapper_process import Sandbox, make_sandbox
from transfer_plugins.stage_in import stage_in

COPY = "cp {input:raw} {output:calexp}"
HOLD = "x = bytearray(200_000_000); import time; time.sleep(600)"
FILL = "open('big', 'wb').write(b'x' * 30_000_000); import time; time.sleep(600)"


def sandbox_with(tmp_path: Path, request: ResourceRequest, *command: str) -> Sandbox:
    """A staged-in sandbox of a quantum that asked for resources."""
    sandbox = make_sandbox(tmp_path, *command)
    job = make_job(task=TaskCall(command=list(command), resources=request))
    stage_in(job, sandbox.store, sandbox.directory)
    return sandbox


@pytest.mark.parametrize(
    ("request_", "code", "expected", "message"),
    [
        (
            ResourceRequest(wall_s=0.5),
            "import time; time.sleep(600)",
            ExitCode.OVER_WALL_TIME,
            "wall time: expected at most 0.5 s, as asked for; found",
        ),
        (
            ResourceRequest(memory_mib=100),
            HOLD,
            ExitCode.OVER_MEMORY,
            "memory: expected at most 100 MiB, as asked for or granted; found ",
        ),
        (
            ResourceRequest(scratch_mib=10),
            FILL,
            ExitCode.OVER_SCRATCH,
            "scratch space: expected at most 10 MiB, as asked for or granted; found ",
        ),
    ],
    ids=["wall", "memory", "scratch"],
)
def test_task_over_a_limit_is_ended(
    tmp_path: Path, request_: ResourceRequest, code: str, expected: ExitCode, message: str
) -> None:
    sandbox = sandbox_with(tmp_path, request_, sys.executable, "-c", code)
    assert sandbox.run()[0] == expected
    delta = sandbox.delta()
    assert delta.status is AttemptStatus.FAILED
    assert delta.error is not None and delta.error.startswith(message)
    assert delta.requested == request_


def test_a_slot_may_give_more_than_was_asked_for(tmp_path: Path) -> None:
    code = "x = bytearray(100_000_000); import time; time.sleep(0.3)"
    request = ResourceRequest(memory_mib=50, scratch_mib=1)
    task = ["sh", "-c", f"{sys.executable} -c '{code}' && {COPY}"]
    sandbox = sandbox_with(tmp_path, request, *task)
    ad = tmp_path / "machine.ad"
    ad.write_text('Machine = "w7"\nMemory = 4096\nDisk = 2000000\nTotalMemory = 1\n')
    sandbox.environment["_CONDOR_MACHINE_AD"] = str(ad)
    assert sandbox.run()[0] == 0
    assert sandbox.delta().requested == request
    ad.write_text("Memory = 10\nDisk = 20\n")
    assert sandbox_with(tmp_path, request, *task).run()[0] == ExitCode.OVER_MEMORY


def test_wall_time_of_the_job_goes_before_that_of_the_graph(tmp_path: Path) -> None:
    request = ResourceRequest(wall_s=600)
    sandbox = sandbox_with(tmp_path, request, "sleep", "600")
    ad = tmp_path / "job.ad"
    ad.write_text("ClusterId = 1\nQuantumExecWallTime = 1\nQuantumExecWallTimeOther = 7\n")
    sandbox.environment["_CONDOR_JOB_AD"] = str(ad)
    assert sandbox.run()[0] == ExitCode.OVER_WALL_TIME
    delta = sandbox.delta()
    assert "wall time: expected at most 1 s, as asked for" in str(delta.error)
    assert delta.requested == request
    assert sandbox.log() == ""


@pytest.mark.parametrize(("held_mib", "expected"), [(183, ExitCode.OVER_MEMORY), (20, 137)])
def test_task_that_sigkill_ends_near_its_limit_went_over_it(
    tmp_path: Path, held_mib: int, expected: ExitCode
) -> None:
    """No sample saw it over 200 MiB; what it had at its end decides."""
    code = f"x = bytearray(b'x') * ({held_mib} << 20); import os; os.kill(os.getpid(), 9)"
    request = ResourceRequest(memory_mib=200)
    sandbox = sandbox_with(tmp_path, request, sys.executable, "-c", code)
    assert sandbox.run()[0] == expected
    told = "killed by SIGKILL, near its limit of memory" in str(sandbox.delta().error)
    assert told == (expected == ExitCode.OVER_MEMORY)
    over = over_in_delta(sandbox.delta())
    assert (over is not None) == told
    assert over is None or (over.asked_mib == 200 and 183 < over.used_mib < 230)


def test_memory_is_that_of_the_whole_tree(tmp_path: Path) -> None:
    worker = "x = bytearray(60_000_000); import sys; sys.stdout.write('y'); sys.stdin.read()"
    code = (
        "import subprocess as s, sys, time\n"
        f"each = [s.Popen([sys.executable, '-c', {worker!r}], stdin=s.PIPE) for _ in range(3)]\n"
        "time.sleep(600)"
    )
    request = ResourceRequest(memory_mib=150)
    sandbox = sandbox_with(tmp_path, request, sys.executable, "-c", code)
    assert sandbox.run()[0] == ExitCode.OVER_MEMORY
    assert sandbox.delta().resources.max_rss_bytes > 150 * 1024 * 1024
    # The next attempt, also after a restart, begins with more.
    over = over_in_delta(sandbox.delta())
    assert over is not None
    assert grown_memory(over, Requests(request_memory=150, memory_multiplier=2)) > 2 * 150
    assert "in 4 processes" in str(sandbox.delta().error)


def test_what_was_used_is_told(tmp_path: Path) -> None:
    code = "import os; open('x', 'wb').write(os.urandom(5_000_000)); open('x', 'rb').read()"
    sandbox = make_sandbox(tmp_path, "sh", "-c", f'"{sys.executable}" -c "{code}" && {COPY}')
    assert sandbox.run()[0] == 0
    used = sandbox.delta().resources
    assert used.read_bytes is not None and 5_000_000 <= used.read_bytes < 60_000_000
    assert used.write_bytes is not None and 5_000_000 <= used.write_bytes < 6_000_000
    assert used.scratch_bytes is not None and 5_000_000 <= used.scratch_bytes < 6_000_000
    assert sandbox.delta().requested == ResourceRequest()


def test_a_long_log_keeps_its_beginning_and_its_end(tmp_path: Path) -> None:
    lines = 3_000_000
    task = f"seq -w {lines}; {COPY}"
    sandbox = make_sandbox(tmp_path, "sh", "-c", task)
    assert sandbox.run()[0] == 0
    log = sandbox.log()
    assert log.startswith("0000001\n0000002\n") and log.endswith(f"\n{lines}\n")
    left_out = 8 * lines - HEAD_BYTES - TAIL_BYTES
    assert f"\n[quantum-exec: {left_out} bytes of the log left out]\n" in log
    assert len(log) < HEAD_BYTES + TAIL_BYTES + 100


def test_the_log_can_be_followed(tmp_path: Path) -> None:
    task = "echo begun; touch begun; while [ ! -e go ]; do sleep 0.01; done; " + COPY
    sandbox = make_sandbox(tmp_path, "sh", "-c", task)
    wrapper = sandbox.start()
    log = sandbox.directory / names.TASK_LOG

    def is_told() -> bool:
        with log.open("rb") as file, gzip.GzipFile(fileobj=file) as text:
            return text.read(6) == b"begun\n"

    wait_until(lambda: log.exists() and log.stat().st_size > 10 and is_told(), "the log is there")
    (sandbox.directory / "go").touch()
    wrapper.communicate(timeout=30)
    assert wrapper.returncode == 0


DAEMON = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.closerange(0, 100)
        open("daemon", "w").write(str(os.getpid()))
        os.rename("daemon", "pid")
        time.sleep(600)
    os._exit(0)
while not os.path.exists("pid"):
    time.sleep(0.01)
"""


def test_daemons_are_ended_with_the_task(tmp_path: Path) -> None:
    task = ["sh", "-c", f"{sys.executable} -c '{DAEMON}' && {COPY}"]
    sandbox = make_sandbox(tmp_path, *task)
    assert sandbox.run()[0] == 0
    assert has_ended(int((sandbox.directory / "pid").read_text()))
    ended = [e for e in sandbox.delta().wrapper_log if e.event == "processes_ended"]
    assert len(ended) == 1


@pytest.mark.parametrize("daemon", [False, True])
def test_a_killed_wrapper_leaves_nothing_running(tmp_path: Path, daemon: bool) -> None:
    child = f"{sys.executable} -c '{DAEMON}'" if daemon else "sleep 600 & echo $! > pid"
    sandbox = make_sandbox(tmp_path, "sh", "-c", f"{child}; touch ready; sleep 600; true")
    wrapper = sandbox.start()
    wait_until((sandbox.directory / "ready").exists, "the task is at work")
    left = int((sandbox.directory / "pid").read_text())
    assert not has_ended(left)
    wrapper.kill()
    wrapper.communicate(timeout=30)
    wait_until(lambda: has_ended(left), "the task's child is gone")


def test_versions_of_what_ran(tmp_path: Path) -> None:
    told = json.dumps({"sextractor": "2.28", "python": "forged"})
    task = ["sh", "-c", f"echo '{told}' > $QUANTUM_EXEC_VERSIONS; {COPY}"]
    sandbox = make_sandbox(tmp_path, *task)
    assert sandbox.run()[0] == 0
    found = sandbox.delta().versions
    assert (found["sextractor"], found["quantum-exec"]) == ("2.28", VERSION)
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["system"].startswith("Linux ")


@pytest.mark.parametrize(
    "task",
    [
        "echo '[1]' > {}",
        "mkdir {}",
        "ln -s /etc/hostname {}",
        "mkfifo {}",
        "head -c 99999 /dev/zero > {}",
    ],
)
def test_versions_that_are_none_are_left_out(tmp_path: Path, task: str) -> None:
    command = task.format("$QUANTUM_EXEC_VERSIONS")
    sandbox = make_sandbox(tmp_path, "sh", "-c", f"{command}; {COPY}")
    assert sandbox.run()[0] == 0
    assert set(sandbox.delta().versions) == {"quantum-exec", "python", "system"}
    assert "versions_left_out" in [entry.event for entry in sandbox.delta().wrapper_log]


def test_the_wrapper_tells_its_steps(tmp_path: Path) -> None:
    sandbox = make_sandbox(tmp_path)
    assert sandbox.run()[0] == 0
    steps = sandbox.delta().wrapper_log
    events = ["staged_in", "registry_seeded", "task_started", "task_ended", "outputs_recorded"]
    assert [step.event for step in steps] == events
    assert [step.elapsed_s for step in steps] == sorted(step.elapsed_s for step in steps)
    assert steps[0].facts["n_inputs"] == 1 and steps[3].facts == {"exit_code": 0}


def test_file_that_is_not_declared(tmp_path: Path) -> None:
    sandbox = make_sandbox(tmp_path, "sh", "-c", f"{COPY}; echo x > {{repo}}/extra.txt")
    assert sandbox.run()[0] == ExitCode.WRONG_OUTPUTS
    assert "found 'repo/extra.txt'; declare them in the graph" in str(sandbox.delta().error)


@pytest.mark.parametrize("name", [names.DELTA_FILE, names.TASK_LOG, f"{names.STAGE_OUT_FILE}.part"])
@pytest.mark.parametrize("trap", ["ln -sf ../outside", "rm -f {0}; mkdir -p", "rm -f {0}; mkfifo"])
def test_traps_in_place_of_the_wrappers_files(tmp_path: Path, name: str, trap: str) -> None:
    (tmp_path / "outside").write_text("mine")
    sandbox = make_sandbox(tmp_path, "sh", "-c", f"{trap.format(name)} {name}; {COPY}")
    assert sandbox.run()[0] == 0
    assert len(sandbox.delta().rows.dataset) == 1
    assert (tmp_path / "outside").read_text() == "mine"


@pytest.mark.parametrize(
    "trap",
    ["ln -s ../other", "mkdir", "mkfifo"],
)
def test_traps_in_place_of_the_registry(tmp_path: Path, trap: str) -> None:
    task = ["sh", "-c", f"cp {{registry}} ../other; rm {{registry}}; {trap} {{registry}}; {COPY}"]
    sandbox = make_sandbox(tmp_path, *task)
    assert sandbox.run()[0] == ExitCode.WRONG_OUTPUTS
    assert "expected a regular file, found a directory, a link" in str(sandbox.delta().error)


def test_view_that_never_ends(tmp_path: Path) -> None:
    view = (
        "DROP TABLE metric; CREATE VIEW metric AS WITH RECURSIVE n(a) AS "
        "(SELECT 1 UNION ALL SELECT a + 1 FROM n) "
        "SELECT a AS attempt_id, a AS name, a AS value FROM n"
    )
    code = f"import sqlite3, sys; sqlite3.connect(sys.argv[1]).executescript({view!r})"
    sandbox = make_sandbox(
        tmp_path, "sh", "-c", f'"$@" && {COPY}', "-", sys.executable, "-c", code, "{registry}"
    )
    assert sandbox.run()[0] == ExitCode.WRONG_OUTPUTS
    assert "expected tables only, found view 'metric'" in str(sandbox.delta().error)


def test_sandbox_that_the_task_made_read_only(tmp_path: Path) -> None:
    sandbox = make_sandbox(tmp_path, "sh", "-c", f"{COPY}; chmod 500 .")
    assert sandbox.run()[0] == 0
    assert sandbox.delta().status is AttemptStatus.SUCCESSFUL
