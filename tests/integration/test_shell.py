# SPDX-License-Identifier: BSD-3-Clause
"""``quantum-exec shell``: a quantum's sandbox opened again, from what is in the datastore."""

import json
import os
import pty
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

from executor.exit_codes import ExitCode
from registry import names
from registry.attempt import AttemptStatus
from tests.local_graphs import RUN, GraphRun, make_survey

FIT = f"repo/{RUN}/fit/fit_1.txt"
TOLD = "fit of exposure 1 does not converge"


def command(failed_survey: GraphRun, *options: str) -> list[str]:
    """The command line."""
    words = ["shell", RUN, "--datastore", failed_survey.datastore, *options]
    return [sys.executable, "-m", "executor", *words]


def shell(failed_survey: GraphRun, *options: str, **environment: str) -> Any:
    """Run the command without a terminal."""
    return subprocess.run(
        command(failed_survey, *options),
        cwd=failed_survey.directory,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def of_failed(failed_survey: GraphRun) -> list[str]:
    """The options that name the quantum that failed."""
    (found,) = {d.quantum_id for d in failed_survey.deltas() if d.status is AttemptStatus.FAILED}
    return ["--quantum", found]


def test_failed_task_fails_by_hand_as_it_did(failed_survey: GraphRun) -> None:
    before = failed_survey.keys()
    done = shell(failed_survey, *of_failed(failed_survey), "--", "./run-task")
    assert done.returncode == 3
    assert done.stdout == ""
    assert done.stderr.startswith(f"{TOLD}\noutputs:\n  missing:    {FIT}  fit (exposure=1)\n")
    assert "registry: rows added: none\n" in done.stderr
    assert failed_survey.keys() == before


def test_what_is_made_by_hand_is_told_and_not_committed(failed_survey: GraphRun) -> None:
    before = failed_survey.keys()
    metric = (
        "INSERT INTO metric VALUES ('$QUANTUM_EXEC_ATTEMPT_ID', 'n_stars', 3); "
        "INSERT INTO metric VALUES ('$QUANTUM_EXEC_ATTEMPT_ID', 'zero', 0)"
    )
    script = (
        f'echo mended > {FIT}; echo > repo/new; "{sys.executable}" -c "'
        "import os, sqlite3; c = sqlite3.connect(os.environ['QUANTUM_EXEC_REGISTRY']); "
        f'c.executescript(\\"{metric}\\")"'
    )
    done = shell(failed_survey, *of_failed(failed_survey), "--json", "--", "sh", "-ec", script)
    report = json.loads(done.stdout)
    assert (done.returncode, report["exit_code"]) == (0, 0), done.stderr
    assert report["outputs"] == [FIT]
    assert (report["missing_outputs"], report["unexpected_files"]) == ([], ["repo/new"])
    assert (report["added_rows"], report["registry_error"]) == ({"metric": 2}, None)
    assert failed_survey.keys() == before


def test_registry_that_would_fail_the_attempt_is_told(failed_survey: GraphRun) -> None:
    code = "import sqlite3; c = sqlite3.connect('registry.sqlite3'); c.execute('DROP TABLE metric')"
    done = shell(failed_survey, *of_failed(failed_survey), "--", sys.executable, "-c", code)
    assert done.returncode == 0
    assert "registry: would fail the attempt: " in done.stderr
    assert "metric" in done.stderr


def test_every_call_of_the_script_begins_afresh(failed_survey: GraphRun) -> None:
    failed_survey.mend()
    failed_survey.prepare()
    failed_survey.run()
    quantum = next(d for d in failed_survey.counting().values() if d.task_label == "fit")
    script = "./run-task; echo junk > registry.sqlite3; echo junk > repo/u/tester/survey/fit/*;"
    found = shell(
        failed_survey, "--quantum", quantum.quantum_id, "--", "sh", "-c", script + "./run-task"
    )
    assert found.returncode == 0, found.stderr
    assert "registry: rows added: none" in found.stderr
    assert "  made:       repo/" in found.stderr


def test_sandbox_has_what_the_wrapper_would_have(failed_survey: GraphRun) -> None:
    done = shell(failed_survey, *of_failed(failed_survey), "--sandbox", "opened", "--json")
    report = json.loads(done.stdout)
    sandbox = failed_survey.directory / "opened"
    assert report["sandbox"] == str(sandbox)
    assert (report["exit_code"], report["status"]) == (None, "failed")
    assert TOLD in report["error"]
    (delta,) = [d for d in failed_survey.deltas() if d.status is AttemptStatus.FAILED]
    assert (report["attempt_id"], report["log_key"]) == (delta.attempt_id, delta.log_key)
    with sqlite3.connect(sandbox / names.PRIVATE_REGISTRY) as registry:
        rows = registry.execute("SELECT dataset_id, attempt_id FROM dataset").fetchall()
    registry.close()
    assert rows == [(i.dataset_id, i.attempt_id) for i in delta.inputs]
    assert (sandbox / "repo" / RUN / "isr" / "isr_1.txt").read_text() == "raw 1\nisr\n"
    assert not (sandbox / names.STAGE_OUT_FILE).exists()


def test_attempt_is_new_and_known_to_nobody(failed_survey: GraphRun) -> None:
    done = shell(
        failed_survey, *of_failed(failed_survey), "--", "printenv", "QUANTUM_EXEC_ATTEMPT_ID"
    )
    attempts = {delta.attempt_id for delta in failed_survey.deltas()}
    assert done.stdout.strip() > max(attempts)


def test_inputs_are_those_that_the_attempt_read(failed_survey: GraphRun) -> None:
    """Also when a newer attempt has made others since, or none counts any more."""
    options = of_failed(failed_survey)
    (isr,) = [
        d for d in failed_survey.deltas() if d.task_label == "isr" and d.data_id == {"exposure": 1}
    ]
    failed_survey.store.delete(names.delta_key(RUN, isr.quantum_id, isr.attempt_id))
    done = shell(failed_survey, *options, "--", "cat", f"repo/{RUN}/isr/isr_1.txt")
    assert (done.returncode, done.stdout) == (0, "raw 1\nisr\n"), done.stderr


def test_named_attempt_is_taken(failed_survey: GraphRun) -> None:
    failed_survey.run()
    first, second = sorted(
        d.attempt_id for d in failed_survey.deltas() if d.status is AttemptStatus.FAILED
    )
    options = of_failed(failed_survey)
    for chosen, expected in ((["--attempt", first], first), ([], second)):
        done = shell(failed_survey, *options, *chosen, "--json")
        assert json.loads(done.stdout)["attempt_id"] == expected


def test_quantum_without_attempt_is_staged_in_as_it_would_be(failed_survey: GraphRun) -> None:
    options = of_failed(failed_survey)
    for delta in failed_survey.deltas():
        if delta.quantum_id == options[1]:
            failed_survey.store.delete(names.delta_key(RUN, delta.quantum_id, delta.attempt_id))
    done = shell(failed_survey, *options, "--json")
    report = json.loads(done.stdout)
    assert (report["attempt_id"], report["error"]) == (None, None)
    assert (Path(report["sandbox"]) / "repo" / RUN / "isr" / "isr_1.txt").exists()


def test_quantum_whose_input_is_missing_is_told(failed_survey: GraphRun) -> None:
    done = shell(failed_survey, "--task", "coadd")
    assert done.returncode == ExitCode.STAGE_IN_FAILED
    assert "expected a successful attempt of quantum" in done.stderr
    assert not list(failed_survey.directory.glob("coadd-*"))


def test_quantum_is_found_by_task_and_data_id(failed_survey: GraphRun) -> None:
    done = shell(failed_survey, "--task", "fit", "--data-id", "exposure=1", "--json")
    assert json.loads(done.stdout)["quantum_id"] == of_failed(failed_survey)[1]


def test_alone_it_prints_the_path_only(failed_survey: GraphRun) -> None:
    done = shell(failed_survey, *of_failed(failed_survey))
    (sandbox,) = failed_survey.directory.glob("fit-*")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{sandbox}\n", "")


def test_log_is_printed(failed_survey: GraphRun) -> None:
    done = shell(failed_survey, *of_failed(failed_survey), "--log")
    assert (done.returncode, done.stdout) == (0, f"{TOLD}\n")
    assert not list(failed_survey.directory.glob("fit-*"))


def test_function_runs_by_hand(tmp_path: Path) -> None:
    document = make_survey(1)
    document["tasks"]["isr"] = {"function": "tasks:isr", "config": {"word": "it's\nhere"}}
    failed_survey = GraphRun(tmp_path, (tmp_path / "store").as_uri(), document)
    lines = ["print(repo.config['word'])", "repo.metric('n', 1)", "raise OSError"]
    code = "\n    ".join(["def isr(repo):", *lines]) + "\n"
    (tmp_path / "tasks.py").write_text(code)
    failed_survey.run()
    done = shell(failed_survey, "--task", "isr", "--", "./run-task")
    assert (done.returncode, done.stdout) == (1, "it's\nhere\n")
    assert "registry: rows added: metric 1" in done.stderr


def test_terminal_gets_a_banner_and_a_shell(failed_survey: GraphRun) -> None:
    parent, child = pty.openpty()
    process = subprocess.Popen(
        command(failed_survey, *of_failed(failed_survey)),
        cwd=failed_survey.directory,
        env={**os.environ, "SHELL": "/bin/sh"},
        **dict.fromkeys(("stdin", "stdout", "stderr"), child),  # type: ignore[call-overload]
        start_new_session=True,
    )
    os.close(child)
    os.write(parent, b"./run-task; echo code=$?; exit 7\n")
    told = read_terminal(parent)
    assert process.wait(60) == 0, told
    for text in (
        "task:     fit (exposure=1)",
        "error:    the task ended with exit code 3",
        TOLD,
        "Nothing is committed",
        "code=3",
        "missing:    repo/",
        "sandbox: ",
    ):
        assert text in told


def read_terminal(parent: int) -> str:
    """What is written on a terminal until nobody has it open any more."""
    told = b""
    try:
        while read := os.read(parent, 65536):
            told += read
    except OSError:  # Linux says EIO when the other end is closed
        pass
    os.close(parent)
    return told.decode()


SECRETS = {
    "PGPASSWORD": "pg-secret",
    "PGHOST": "db.example",
    "REGISTRY_MERGE_DATABASE": "postgresql://u:db-secret@db.example/x",
    "AWS_SECRET_ACCESS_KEY": "aws-secret",
    "AWS_SESSION_TOKEN": "aws-token",
}


def test_no_secret_is_in_the_sandbox_nor_reaches_the_task(failed_survey: GraphRun) -> None:
    """Not even if the start-up files of a shell set it again."""
    script = "set -e; env; export PGPASSWORD=pg-secret; ./run-task"
    failed_survey.document["tasks"]["fit"]["command"] = ["sh", "-c", "env; exit 3"]
    failed_survey.run()
    done = shell(failed_survey, *of_failed(failed_survey), "--", "sh", "-c", script, **SECRETS)
    assert "QUANTUM_EXEC_RUN" in done.stdout
    (sandbox,) = failed_survey.directory.glob("fit-*")
    files = "".join(
        path.read_bytes().decode(errors="replace") for path in sandbox.rglob("*") if path.is_file()
    )
    for told in (done.stdout, done.stderr, files):
        assert not [text for text in SECRETS.values() if text in told]


def test_quantum_of_direct_mode_is_opened_with_files(tmp_path: Path, datastore: str) -> None:
    """The script reads and writes the sandbox then, and not the datastore."""
    document = make_survey(1)
    document["tasks"]["isr"] = {"function": "tasks:isr"}
    failed_survey = GraphRun(tmp_path, datastore, document)
    (tmp_path / "tasks.py").write_text(
        "import os\ndef isr(repo):\n    repo.put(repo.get('raw') + b'isr', 'isr')\n"
        "    assert 'FAIL' in os.environ\n"
    )
    failed_survey.run("--data", "direct")
    before = failed_survey.keys()
    done = shell(failed_survey, "--task", "isr", "--", "./run-task", FAIL="not")
    assert done.returncode == 0, done.stderr
    assert f"  made:       repo/{RUN}/isr/isr_0.txt" in done.stderr
    assert failed_survey.keys() == before


LIST_ENVIRONMENT = """
import os, sys
print([os.environ.get(name) for name in ("a.b", "QUOTED")], sys.argv[1])
open(sys.argv[2], "wb").write(open(sys.argv[1], "rb").read())
"""


def test_script_quotes_whatever_it_holds(tmp_path: Path) -> None:
    document = make_survey(1)
    quoted = 'it\'s\n"$HOME" `id` \\ \N{SNOWMAN}'
    document["tasks"]["isr"] = {
        "command": [sys.executable, "-c", LIST_ENVIRONMENT, "{input:raw}", "{output:isr}"],
        "environment": {"a.b": "x y", "QUOTED": quoted},
    }
    failed_survey = GraphRun(tmp_path, (tmp_path / "store").as_uri(), document)
    assert failed_survey.run("-j", "1").counts["isr"] == (1, 1, 0, 0)
    sandbox = 'it\'s a "sandbox" of $HOME;\n\N{SNOWMAN}'
    done = shell(failed_survey, "--task", "isr", "--sandbox", sandbox, "--", "./run-task")
    assert done.returncode == 0, done.stderr
    raw = tmp_path / sandbox / "repo" / "raw" / "all" / "raw" / "raw_0.txt"
    assert done.stdout == f"{['x y', quoted]} {raw}\n"
    (made,) = (tmp_path / sandbox / "repo" / RUN / "isr").iterdir()
    assert made.read_bytes() == raw.read_bytes()


def test_quantum_without_its_input_can_be_opened(tmp_path: Path) -> None:
    """Its attempt was no work; by hand the script says what it lacks."""
    document = make_survey(1)
    document["tasks"]["isr"]["command"] = ["sh", "-c", "exit 79"]
    failed_survey = GraphRun(tmp_path, (tmp_path / "store").as_uri(), document)
    assert failed_survey.run().code == 0
    done = shell(failed_survey, "--task", "fit", "--json", "--", "./run-task")
    assert done.returncode == ExitCode.INVALID_QUANTUM
    assert "run-task: task fit: expected one dataset for {input:isr}, found 0" in done.stderr
    report = json.loads(done.stdout)
    (fit,) = [d for d in failed_survey.deltas() if d.task_label == "fit"]
    assert (report["attempt_id"], fit.no_work) == (fit.attempt_id, True)
    assert len(report["missing_inputs"]) == 1
    assert report["exit_code"] == ExitCode.INVALID_QUANTUM
