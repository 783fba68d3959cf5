# SPDX-License-Identifier: BSD-3-Clause
"""``shell`` and ``rerun`` that are asked for what is not there."""

from pathlib import Path

import pytest

from executor.exit_codes import ExitCode
from registry import names
from registry.attempt import AttemptStatus
from registry.model import derived_id
from tests.local_graphs import RUN, GraphRun, make_survey
from tests.refusals import call, check_refused, files_below

UNKNOWN = derived_id("unknown")
USAGE = ExitCode.USAGE


@pytest.fixture(scope="module")
def graph_run(tmp_path_factory: pytest.TempPathFactory) -> GraphRun:
    """A graph that was run, and of which one quantum failed."""
    directory = tmp_path_factory.mktemp("survey")
    found = GraphRun(directory, (directory / "store").as_uri(), make_survey(2))
    found.fail("fit", exposure=1)
    assert found.run().code == ExitCode.FAILED
    return found


def check(graph_run: GraphRun, cwd: Path, words: list[str], code: int, *texts: str) -> None:
    """Call a command; it is refused and changes nothing, neither here nor in the datastore."""
    before, stored = files_below(cwd), graph_run.keys()
    done = call(cwd, *words, "--datastore", graph_run.datastore)
    check_refused(done, code, *texts)
    assert files_below(cwd) == before
    assert graph_run.keys() == stored


@pytest.mark.parametrize("command", ["shell", "rerun"])
@pytest.mark.parametrize(
    ("words", "texts"),
    [
        (["u/nobody", "--quantum", UNKNOWN], ["RUN 'u/nobody'", "file://"]),
        (["u/nobody", "--task", "fit"], ["RUN 'u/nobody'", "file://"]),
        (["u/../x", "--quantum", UNKNOWN], ["RUN 'u/../x'"]),
        ([RUN, "--quantum", UNKNOWN], [UNKNOWN, RUN]),
        ([RUN, "--quantum", "../../x"], ["../../x"]),
        ([RUN, "--quantum", ""], []),
        ([RUN, "--task", "nope"], [RUN]),
        ([RUN, "--data-id", "nonsense"], ["found 'nonsense'"]),
        ([RUN, "--data-id", "exposure=1,exposure=2"], ["exposure=1,exposure=2"]),
        ([RUN, "--data-id", "exposure=77"], [RUN]),
        ([RUN], ["--quantum"]),
        ([], ["run"]),
        ([RUN, "--quantum", UNKNOWN, "--nonsense"], ["--nonsense"]),
    ],
)
def test_what_is_not_there(
    graph_run: GraphRun, tmp_path: Path, command: str, words: list[str], texts: list[str]
) -> None:
    check(graph_run, tmp_path, [command, *words], USAGE, *texts)


FAILED = ["shell", RUN, "--task", "fit", "--data-id", "exposure=1"]


@pytest.mark.parametrize("attempt", ["x", UNKNOWN, ""])
def test_attempt_that_is_not_there(graph_run: GraphRun, tmp_path: Path, attempt: str) -> None:
    (known,) = [d.attempt_id for d in graph_run.deltas() if d.status is AttemptStatus.FAILED]
    check(graph_run, tmp_path, [*FAILED, "--attempt", attempt], USAGE, known, f"found {attempt!r}")


def test_several_quanta(graph_run: GraphRun, tmp_path: Path) -> None:
    words = ["shell", RUN, "--task", "fit"]
    check(graph_run, tmp_path, words, USAGE, "found 2", "fit (exposure=0)", "fit (exposure=1)")


def test_log_of_a_quantum_without_attempt(graph_run: GraphRun, tmp_path: Path) -> None:
    words = ["shell", RUN, "--task", "coadd", "--log"]
    check(graph_run, tmp_path, words, USAGE, "(coadd, )", "expected an attempt with a log")


@pytest.mark.parametrize(
    ("named", "text"),
    [
        ("full", "expected an empty or a new directory, found 'kept' in it"),
        ("file", "expected a directory to write in"),
        ("file/below", "expected a directory to write in"),
    ],
)
def test_sandbox(graph_run: GraphRun, tmp_path: Path, named: str, text: str) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "kept").touch()
    (tmp_path / "file").touch()
    words = [*FAILED, "--sandbox", named]
    check(graph_run, tmp_path, words, ExitCode.SANDBOX_UNUSABLE, named, text)


def test_program_that_is_not_there(graph_run: GraphRun, tmp_path: Path) -> None:
    """The sandbox is kept, and named."""
    words = [*FAILED, "--datastore", graph_run.datastore, "--", "no-such-program"]
    done = call(tmp_path, *words)
    (sandbox,) = tmp_path.iterdir()
    check_refused(done, ExitCode.FAILED, str(sandbox), "'no-such-program'")


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\0", None])
def test_damaged_delta_of_the_attempt(
    graph_run: GraphRun, tmp_path: Path, content: bytes | None
) -> None:
    """Named it is an error; the newest one that can be read is taken otherwise."""
    (delta,) = [d for d in graph_run.deltas() if d.status is AttemptStatus.FAILED]
    key = names.delta_key(RUN, delta.quantum_id, UNKNOWN)
    whole = graph_run.store.get(names.delta_key(RUN, delta.quantum_id, delta.attempt_id))
    graph_run.store.put(key, whole if content is None else content)
    try:
        words = [*FAILED, "--attempt", UNKNOWN]
        check(graph_run, tmp_path, words, ExitCode.FAILED, f"delta {key!r}")
    finally:
        graph_run.store.delete(key)


def test_damaged_log(graph_run: GraphRun, tmp_path: Path) -> None:
    (delta,) = [d for d in graph_run.deltas() if d.status is AttemptStatus.FAILED]
    key = str(delta.log_key)
    whole = graph_run.store.get(key)
    graph_run.store.put(key, whole[:-5])
    try:
        check(graph_run, tmp_path, [*FAILED, "--log"], ExitCode.FAILED, key, "expected gzip")
    finally:
        graph_run.store.put(key, whole)


def test_input_that_has_changed(graph_run: GraphRun, tmp_path: Path) -> None:
    (delta,) = [d for d in graph_run.deltas() if d.status is AttemptStatus.FAILED]
    (read,) = delta.inputs
    whole = graph_run.store.get(read.key)
    code = ExitCode.DATASTORE_UNAVAILABLE
    try:
        graph_run.store.put(read.key, b"other")
        check(graph_run, tmp_path, FAILED, code, read.key, f"expected {read.checksum}")
        graph_run.store.delete(read.key)
        done = call(tmp_path, *FAILED, "--datastore", graph_run.datastore)
        check_refused(done, code, f"{read.key}: not found")
    finally:
        graph_run.store.put(read.key, whole)
    assert files_below(tmp_path) == set()
