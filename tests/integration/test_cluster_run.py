# SPDX-License-Identifier: BSD-3-Clause
"""Several quanta in one job: each committed by itself, some datasets left in the sandbox."""

import subprocess
from pathlib import Path

import pytest

from executor.exit_codes import ExitCode
from registry import names
from registry.attempt import AttemptStatus
from registry.errors import FormatError
from tests.cluster_jobs import CHAIN, RUN, ClusterRun, Spec, dataset_id, quantum_id
from tests.wrapper_process import COMMAND
from transfer_plugins.object_store import DirectoryObjectStore, ObjectStore, open_store
from transfer_plugins.stage_in import InputNotReadyError
from transfer_plugins.stage_out import read_list


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    """An empty datastore."""
    return open_store((tmp_path / "store").as_uri())


def make_run(store: ObjectStore, directory: Path, *specs: Spec) -> ClusterRun:
    """A published cluster."""
    return ClusterRun(store, directory, specs or CHAIN).publish()


def test_chain_is_run_and_what_nobody_needs_is_not_kept(store: ObjectStore, tmp_path: Path) -> None:
    chain = make_run(store, tmp_path / "sandbox")
    code, stderr = chain.whole()
    assert code == 0, stderr
    assert chain.done() == ["first", "second", "third"]
    assert chain.content("c") == b"raw\nfirst\nraw\nsecond\nthird\n"
    assert chain.datasets() == {"c"}
    made = {delta.task_label: delta for delta in chain.deltas()}
    first, second, third = (made[spec.label] for spec in CHAIN)
    not_kept = [delta.not_kept for delta in (first, second, third)]
    assert not_kept == [[dataset_id("a")], [dataset_id("b")], []]
    assert [r.dataset_id for r in first.rows.dataset] == [dataset_id("a")]
    assert first.rows.datastore_record == []
    read = {i.dataset_id: i for i in second.inputs}
    assert read[dataset_id("a")].attempt_id == first.attempt_id
    assert second.started > first.started
    assert all(d.resources.wall_s > 0 for d in (first, second, third))


def test_report_names_what_members_make(store: ObjectStore, tmp_path: Path) -> None:
    chain = make_run(store, tmp_path / "sandbox")
    staged = chain.stage_in()
    assert [r.from_members for r in staged.reports] == [[], [dataset_id("a")], [dataset_id("b")]]
    assert (staged.n_objects, staged.n_bytes) == (1, 4)
    lists = [read_list(chain.sandbox), *(read_list(chain.place(s.label)) for s in CHAIN)]
    assert all(found.delta is None and not found.files for found in lists)
    raws = [chain.place(label) / "repo/raw/raw.txt" for label in ("first", "second")]
    assert [p.read_bytes() for p in raws] == [b"raw\n"] * 2
    assert len({p.stat().st_ino for p in raws}) == 2


def test_failed_quantum_stops_only_those_that_read_from_it(
    store: ObjectStore, tmp_path: Path
) -> None:
    run = make_run(
        store,
        tmp_path / "sandbox",
        Spec("bad", "raw", "x", "exit 7"),
        Spec("blocked", "x", "y"),
        Spec("far", "y", "z"),
        Spec("good", "raw", "w"),
        Spec("worse", "raw", "v", "exit 8"),
    )
    code, stderr = run.whole()
    assert code == 7
    assert f"is blocked by quantum {quantum_id('bad')}" in stderr
    assert run.done() == ["good"]
    found = {d.task_label: d.status for d in run.deltas()}
    assert found == {
        **{"bad": AttemptStatus.FAILED, "worse": AttemptStatus.FAILED},
        **{"good": AttemptStatus.SUCCESSFUL},
    }


def test_unfinished_cluster_keeps_what_the_next_attempt_needs(
    store: ObjectStore, tmp_path: Path
) -> None:
    failing = [*CHAIN[:2], Spec("third", "b", "c", '[ -e "$GO" ]')]
    run = make_run(store, tmp_path / "sandbox", *failing)
    assert run.whole()[0] == 1
    assert run.done() == ["first", "second"]
    assert run.datasets() == {"b"}
    (tmp_path / "go").touch()
    again = ClusterRun(store, tmp_path / "again", failing, {"GO": str(tmp_path / "go")})
    staged = again.stage_in()
    assert [bool(r.successful_attempt) for r in staged.reports] == [True, True, False]
    assert again.run()[0] == 0
    again.stage_out()
    assert again.content("c") == b"raw\nfirst\nraw\nsecond\nthird\n"
    assert len(again.deltas()) == 4


def test_producer_that_did_not_keep_is_run_again(store: ObjectStore, tmp_path: Path) -> None:
    chain = make_run(store, tmp_path / "sandbox")
    assert chain.whole()[0] == 0
    (third,) = [d for d in chain.deltas() if d.task_label == "third"]
    store.delete(names.delta_key(RUN, third.quantum_id, third.attempt_id))
    again = ClusterRun(store, tmp_path / "again")
    staged = again.stage_in()
    assert [r.successful_attempt for r in staged.reports] == [None, None, None]
    assert again.run()[0] == 0
    again.stage_out()
    assert again.done() == ["first", "second", "third"]
    assert len(again.deltas()) == 5


def test_reader_outside_of_a_cluster_is_told(store: ObjectStore, tmp_path: Path) -> None:
    chain = make_run(store, tmp_path / "sandbox")
    assert chain.whole()[0] == 0
    done = subprocess.run(
        [*COMMAND, f"{store.uri}/{names.job_key(RUN, quantum_id('other'))}"],
        cwd=publish_other(chain, tmp_path),
        capture_output=True,
        text=True,
    )
    assert done.returncode == ExitCode.STAGE_IN_FAILED
    assert "did not keep it; run that quantum again, alone" in done.stderr


def publish_other(chain: ClusterRun, directory: Path) -> Path:
    """Publish a quantum that reads what the first made; returns an empty directory."""
    ClusterRun(chain.store, directory, [*CHAIN, Spec("other", "a", "o")]).publish()
    scratch = directory / "scratch"
    scratch.mkdir()
    return scratch


def test_everything_done_is_not_run_again(store: ObjectStore, tmp_path: Path) -> None:
    chain = make_run(store, tmp_path / "sandbox")
    chain.whole()
    again = ClusterRun(store, tmp_path / "again")
    assert again.stage_in().n_objects == 0
    assert again.run()[0] == 0
    again.stage_out()
    assert len(again.deltas()) == 3


def test_missing_optional_input_and_no_work(store: ObjectStore, tmp_path: Path) -> None:
    run = make_run(
        store,
        tmp_path / "sandbox",
        Spec("maybe", "raw", "x?"),
        Spec("without", "x?", "y"),
        Spec("idle", "raw", "z", f'rm -f "$QUANTUM_EXEC_REPO"/{RUN}/z/*; exit 79'),
        Spec("nothing", "z", "w"),
    )
    code, stderr = run.whole()
    assert code == 0, stderr
    deltas = {d.task_label: d for d in run.deltas()}
    assert run.content("y") == b"without\n"
    assert [deltas[label].no_work for label in ("without", "idle", "nothing")] == [
        *(False, True, True)
    ]


def test_run_by_uri_does_the_whole(store: ObjectStore, tmp_path: Path) -> None:
    chain = make_run(store, tmp_path / "unused")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    done = subprocess.run([*COMMAND, chain.uri], cwd=scratch, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert chain.done() == ["first", "second", "third"]
    assert [p.name.startswith("chain-") for p in scratch.iterdir()] == [True]


def test_cluster_that_is_not_staged_in_is_told(store: ObjectStore, tmp_path: Path) -> None:
    chain = make_run(store, tmp_path / "sandbox")
    chain.stage_in()
    (chain.place("second") / names.STAGE_IN_FILE).unlink()
    code, stderr = chain.run()
    assert code == ExitCode.SANDBOX_UNUSABLE
    assert "expected job.json and stage-in.json from stage-in, found none" in stderr


def test_cluster_and_jobs_must_agree(store: ObjectStore, tmp_path: Path) -> None:
    chain = make_run(store, tmp_path / "sandbox", *reversed(CHAIN))
    with pytest.raises(FormatError, match=f"expected quantum {quantum_id('second')} before"):
        chain.stage_in()
    other = ClusterRun(store, tmp_path / "other").publish()
    key = names.job_key(RUN, quantum_id("third"))
    store.put(key, store.get(names.job_key(RUN, quantum_id("second"))))
    with pytest.raises(FormatError, match=r"expected a job of RUN, graph and quantum .*, found"):
        other.stage_in()
    store.delete(key)
    with pytest.raises(FileNotFoundError, match=r"expected a job file of its quantum .* again"):
        other.stage_in()


def test_missing_producer_outside_is_told(store: ObjectStore, tmp_path: Path) -> None:
    make_run(store, tmp_path / "unused")
    part = ClusterRun(store, tmp_path / "sandbox")
    cluster = part.cluster
    del cluster.members[0]
    from transfer_plugins.stage_in_cluster import stage_in_cluster

    with pytest.raises(InputNotReadyError, match="expected a successful attempt of quantum"):
        stage_in_cluster(cluster, store, part.sandbox)


class Refusing(DirectoryObjectStore):
    """A datastore that takes no objects with some text in their keys."""

    refused = "/b/"

    def upload(self, path: Path, key: str, checksum: str) -> None:
        """Refuse some."""
        if self.refused in key:
            raise PermissionError(key)
        super().upload(path, key, checksum)


def test_upload_that_fails_stops_only_those_behind_it(tmp_path: Path) -> None:
    store = Refusing(tmp_path / "store")
    kept = [Spec(s.label, s.inputs, s.outputs) for s in CHAIN]
    run = make_run(store, tmp_path / "sandbox", *kept, Spec("apart", "raw", "z"))
    run.stage_in()
    assert run.run()[0] == 0
    with pytest.raises(PermissionError):
        run.stage_out()
    assert run.done() == ["first", "apart"]
    store.refused = "nothing"
    run.stage_out()
    assert run.done() == ["first", "second", "third", "apart"]
    run.stage_out()
    assert len(run.deltas()) == 4


def test_damaged_list_of_one_stops_only_those_behind_it(store: ObjectStore, tmp_path: Path) -> None:
    run = make_run(store, tmp_path / "sandbox", *CHAIN, Spec("apart", "raw", "z"))
    run.stage_in()
    assert run.run()[0] == 0
    (run.place("second") / names.STAGE_OUT_FILE).write_text("{")
    with pytest.raises(FormatError, match="stage-out list"):
        run.stage_out()
    assert run.done() == ["first", "apart"]
