# SPDX-License-Identifier: BSD-3-Clause
"""A stopped wrapper, without credentials, commits what it has before its job is killed."""

import json
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from executor.exit_codes import code_of_signal
from registry import names
from registry.attempt import AttemptStatus
from tests.cluster_jobs import RUN, ClusterRun, Spec
from tests.plugin_process import call_plugin
from tests.processes import wait_until
from tests.s3_proxy import HANG, Fault, S3Proxy
from transfer_plugins.object_store import ObjectStore, open_store
from transfer_plugins.plugin_protocol import ENDPOINT_ATTRIBUTE

SPECS = (
    Spec("first", "raw", "a"),
    Spec(
        "second", "a raw", "b", 'ls -a > files; [ -n "$GO" ] || { touch ../../begun; sleep 600; }'
    ),
    Spec("third", "b", "c"),
)
# What the wrapper of a pool has not got.
NO_S3 = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_ENDPOINT_URL": "http://[::1]:1"}


@pytest.fixture
def proxy(s3_endpoint: str) -> Iterator[S3Proxy]:
    """A proxy that counts, and fails as a test says."""
    with S3Proxy(s3_endpoint) as proxy:
        yield proxy


@pytest.fixture
def store(datastore: str, proxy: S3Proxy) -> ObjectStore:
    """A datastore in S3, behind the proxy."""
    return open_store(datastore, endpoint_url=proxy.endpoint)


def staged(store: ObjectStore, directory: Path, *specs: Spec) -> ClusterRun:
    """A cluster that is staged in with links, and whose wrapper knows nothing of S3."""
    run = ClusterRun(store, directory / "sandbox", specs or SPECS, dict(NO_S3)).publish()
    run.stage_in(link_lifetime_s=600)
    return run


def stop(run: ClusterRun) -> tuple[int, str]:
    """Start the wrapper, stop it when the long task runs; returns exit code and standard error."""
    process = run.start()
    begun = run.sandbox / "begun"
    wait_until(lambda: begun.exists() or process.poll() is not None, "the task runs")
    assert process.poll() is None, process.communicate()
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=100)
    assert "Signature" not in stderr
    return process.returncode, stderr


def test_finished_quantum_is_committed_and_not_run_again(
    store: ObjectStore, tmp_path: Path
) -> None:
    run = staged(store, tmp_path)
    code, stderr = stop(run)
    assert code == code_of_signal(signal.SIGTERM)
    assert run.done() == ["first"], stderr
    found = [(d.task_label, d.status) for d in run.deltas()]
    assert found == [("first", AttemptStatus.SUCCESSFUL), ("second", AttemptStatus.ABORTED)]
    assert run.content("a") == b"raw\nfirst\n"
    assert len(list(store.list_objects(names.log_prefix(RUN)))) == 2
    # If HTCondor lets the plugin upload after all, nothing changes.
    run.stage_out()
    assert [(d.task_label, d.status) for d in run.deltas()] == found
    again = ClusterRun(store, tmp_path / "again", SPECS, {"GO": "yes"})
    again.whole()
    assert again.done() == ["first", "second", "third"]
    assert [d.task_label for d in again.deltas()].count("first") == 1


def test_order_of_a_commit(store: ObjectStore, proxy: S3Proxy, tmp_path: Path) -> None:
    run = staged(store, tmp_path)
    before = len(proxy.of("PUT"))
    stop(run)
    keys = [seen.key for seen in proxy.of("PUT")[before:]]
    kinds = [next(k for k in ("/a/", "logs", "deltas") if k in key) for key in keys]
    assert (sorted(kinds[:2]), kinds[2:]) == (["/a/", "logs"], ["deltas", "logs", "deltas"])


def test_links_are_private_and_gone_before_a_task_begins(
    store: ObjectStore, tmp_path: Path
) -> None:
    run = staged(store, tmp_path)
    paths = [run.place(spec.label) / names.COMMIT_LINKS for spec in SPECS]
    assert [stat.S_IMODE(path.stat().st_mode) for path in paths] == [0o600] * 3
    keys = json.loads(paths[0].read_text())["links"]
    attempt = run.report("first").attempt_id
    assert len(keys) == 3
    assert all(attempt in key or key.startswith(f"{RUN}/a/") for key in keys)
    stop(run)
    assert not any(path.exists() for path in paths)
    assert names.COMMIT_LINKS not in (run.place("second") / "files").read_text()


def test_no_links_for_files_and_where_they_are_not_wanted(
    store: ObjectStore, tmp_path: Path
) -> None:
    files = open_store((tmp_path / "store").as_uri())
    for number, (place, lifetime_s) in enumerate([(files, 600), (store, 0)]):
        run = ClusterRun(place, tmp_path / str(number)).publish()
        run.stage_in(link_lifetime_s=lifetime_s)
        assert not list(tmp_path.joinpath(str(number)).rglob(names.COMMIT_LINKS))


@pytest.mark.parametrize("refused", ["/a/", "deltas"])
def test_refused_link_leaves_nothing_half_written(
    store: ObjectStore, proxy: S3Proxy, tmp_path: Path, refused: str
) -> None:
    run = staged(store, tmp_path)
    fault = Fault(403, "AccessDenied")
    proxy.rule = lambda method, key: fault if method == "PUT" and refused in key else None
    code, stderr = stop(run)
    assert code == code_of_signal(signal.SIGTERM)
    assert run.done() == []
    assert "is not committed: HTTP Error 403" in stderr
    # Of the second no delta either: it read what the first made.
    assert run.deltas() == []


def test_passing_trouble_is_tried_again(store: ObjectStore, proxy: S3Proxy, tmp_path: Path) -> None:
    run = staged(store, tmp_path)
    refusals = iter([Fault(503, "SlowDown")] * 2)
    proxy.rule = lambda method, key: next(refusals, None) if method == "PUT" else None
    stop(run)
    assert len(run.deltas()) == 2


def test_answer_that_is_no_http_is_tried_again(
    store: ObjectStore, proxy: S3Proxy, tmp_path: Path
) -> None:
    """A proxy on the way that is dying must not end the other commits."""
    run = staged(store, tmp_path)
    garbled = iter([Fault(is_garbled=True)] * 2)
    proxy.rule = lambda method, key: next(garbled, None) if method == "PUT" else None
    code, stderr = stop(run)
    assert code == code_of_signal(signal.SIGTERM)
    assert len(run.deltas()) == 2, stderr


def test_silent_service_does_not_hold_the_job(
    store: ObjectStore, proxy: S3Proxy, tmp_path: Path
) -> None:
    run = staged(store, tmp_path)
    (tmp_path / "job.ad").write_text("ClusterId = 1\nJobMaxVacateTime = 5\n")
    run.environment["_CONDOR_JOB_AD"] = str(tmp_path / "job.ad")
    proxy.rule = lambda method, key: HANG if method == "PUT" else None
    code, stderr = stop(run)
    assert code == code_of_signal(signal.SIGTERM)
    assert "is not committed" in stderr
    proxy.rule = lambda method, key: None
    assert run.deltas() == []


def test_single_quantum_is_recorded_as_aborted(
    store: ObjectStore, proxy: S3Proxy, tmp_path: Path, s3_settings: dict[str, str]
) -> None:
    """Through the plugin, as HTCondor calls it."""
    run = ClusterRun(
        store, tmp_path / "sandbox", [Spec("long", "raw", "a", "touch begun; sleep 600")]
    )
    run.publish()
    key = names.job_key(RUN, run.cluster.members[0].quantum_id)
    url = f"{store.uri.replace('s3:', 'qs3job:')}/{key}"
    answer = call_plugin(
        *(run.sandbox, [(url, run.sandbox / "x.json")], s3_settings),
        job_ad={ENDPOINT_ATTRIBUTE: proxy.endpoint},
    )
    assert answer.is_success(), answer
    run.environment = {**NO_S3}
    assert stop(run)[0] == code_of_signal(signal.SIGTERM)
    assert [d.status for d in run.deltas()] == [AttemptStatus.ABORTED]


def test_shared_input_is_fetched_once(store: ObjectStore, proxy: S3Proxy, tmp_path: Path) -> None:
    specs = [Spec(f"reader{n}", "raw", f"x{n}") for n in range(4)]
    run = staged(store, tmp_path, *specs)
    assert len([seen for seen in proxy.of("GET") if seen.key.endswith("raw.txt")]) == 1
    assert run.run()[0] == 0
    run.stage_out()
    assert len(run.done()) == 4
