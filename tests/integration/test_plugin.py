# SPDX-License-Identifier: BSD-3-Clause
"""The plugin as a process on a real S3 service: both schemes, in both directions."""

import gzip
import os
from pathlib import Path
from typing import Any

import pytest

from executor.quantum_run import run_quantum
from registry import names, staging
from registry.delta import read_delta
from registry.job import DataMode, Job, TaskCall, write_job
from tests.plugin_process import Ad, Answer, call_plugin
from tests.s3_proxy import Fault, S3Proxy
from tests.samples import (
    OTHER_QUANTUM_ID,
    QUANTUM_ID,
    RAW_CONTENT,
    RAW_KEY,
    RUN,
    make_input,
    make_job,
    make_output,
)
from transfer_plugins.checksums import checksum_of_bytes
from transfer_plugins.object_store import ObjectStore, open_store
from transfer_plugins.plugin_protocol import ENDPOINT_ATTRIBUTE
from transfer_plugins.stage_out import read_list

pytestmark = pytest.mark.usefixtures("plugin_command")

JOB_KEY = names.job_key(RUN, QUANTUM_ID)
SECRET = "s3cr3t-Key/of+the=tests"


@pytest.fixture
def store(datastore: str) -> ObjectStore:
    """A datastore with the raw exposure and the job that copies it."""
    store = open_store(datastore)
    store.put(RAW_KEY, RAW_CONTENT)
    put_job(store, make_job())
    return store


@pytest.fixture
def environment(s3_settings: dict[str, str]) -> dict[str, str]:
    """What the daemon's environment has, with a secret that can be looked for."""
    return {**s3_settings, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE"}


def put_job(store: ObjectStore, job: Job) -> None:
    """Publish a job."""
    store.put(names.job_key(job.run, job.quantum_id), write_job(job))


def url_of(store: ObjectStore, key: str, scheme: str = "qs3") -> str:
    """The URL by which HTCondor knows an object of a datastore."""
    return store.uri.replace("s3://", f"{scheme}://") + f"/{key}"


def stage_in(scratch: Path, store: ObjectStore, environment: dict[str, str], **o: Any) -> Answer:
    """Ask for the inputs of the job."""
    request = (url_of(store, JOB_KEY, "qs3job"), scratch / f"{QUANTUM_ID}.json")
    return call_plugin(scratch, [request], environment, **o)


def stage_out(scratch: Path, store: ObjectStore, environment: dict[str, str], **o: Any) -> Answer:
    """Ask for the upload of what the stage-out list names."""
    request = (url_of(store, JOB_KEY, "qs3job"), scratch / names.STAGE_OUT_FILE)
    return call_plugin(scratch, [request], environment, is_upload=True, **o)


def only(answer: Answer) -> Ad:
    """The only ad of an answer."""
    (ad,) = answer.ads
    return ad


def test_plain_objects_come_in(
    tmp_path: Path, store: ObjectStore, environment: dict[str, str]
) -> None:
    store.put("a b/é+%.txt", b"1234")
    urls = [url_of(store, RAW_KEY), url_of(store, "a%20b/%C3%A9+%25.txt"), url_of(store, RAW_KEY)]
    paths = [tmp_path / "é raw", tmp_path / "x", tmp_path / "new" / "y"]
    answer = call_plugin(tmp_path, list(zip(urls, paths, strict=True)), environment)
    assert answer.is_success(), answer
    assert [path.read_bytes() for path in paths] == [RAW_CONTENT, b"1234", RAW_CONTENT]
    assert [ad["TransferUrl"] for ad in answer.ads] == urls
    assert [ad["TransferFileName"] for ad in answer.ads] == [str(path) for path in paths]
    assert [ad["TransferTotalBytes"] for ad in answer.ads] == [
        len(RAW_CONTENT),
        4,
        len(RAW_CONTENT),
    ]
    assert {ad["TransferProtocol"] for ad in answer.ads} == {"qs3"}
    assert answer.stderr == ""


def test_plain_objects_go_out(
    tmp_path: Path, store: ObjectStore, environment: dict[str, str]
) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "x").write_bytes(b"12345")
    requests = [
        (url_of(store, "out/d"), tmp_path / "d"),
        (url_of(store, "out/d/x"), tmp_path / "d/x"),
    ]
    answer = call_plugin(tmp_path, requests, environment, is_upload=True)
    assert answer.is_success(), answer
    assert store.get("out/d/x") == b"12345"
    assert [ad["TransferTotalBytes"] for ad in answer.ads] == [0, 5]
    assert {ad["TransferType"] for ad in answer.ads} == {"upload"}


def test_first_failure_ends_the_call_with_an_ad_for_each(
    tmp_path: Path, store: ObjectStore, environment: dict[str, str]
) -> None:
    keys = [RAW_KEY, "no/such/object", RAW_KEY, "neither"]
    requests = [(url_of(store, key), tmp_path / str(n)) for n, key in enumerate(keys)]
    answer = call_plugin(tmp_path, requests, environment)
    assert answer.exit_code == 1
    assert [ad["TransferSuccess"] for ad in answer.ads] == [True, False, False, False]
    assert answer.ads[1]["TransferError"].startswith(f"{store.uri}/no/such/object: not found (")
    assert answer.ads[2]["TransferError"] == "not tried after the first that failed"
    assert "TransferError" not in answer.ads[0]
    assert sorted(p.name for p in tmp_path.iterdir()) == [".plugin.in", ".plugin.out", "0"]


def test_marker_stands_for_all_inputs(
    tmp_path: Path, store: ObjectStore, environment: dict[str, str]
) -> None:
    job = make_job(inputs=[make_input(checksum=checksum_of_bytes(RAW_CONTENT))])
    put_job(store, job)
    answer = stage_in(tmp_path, store, environment)
    assert answer.is_success(), answer
    ad = only(answer)
    assert ad["TransferProtocol"] == "qs3job"
    assert ad["TransferTotalBytes"] == len(write_job(job)) + len(RAW_CONTENT)
    assert ad["DeveloperData"]["FilesCount"] == 2
    assert (tmp_path / "repo" / make_input().path).read_bytes() == RAW_CONTENT
    assert read_list(tmp_path) == staging.StageOutList(RUN)


def test_marker_stands_for_all_outputs(
    tmp_path: Path, store: ObjectStore, environment: dict[str, str]
) -> None:
    assert stage_in(tmp_path, store, environment).is_success()
    assert run_quantum(tmp_path) == 0
    answer = stage_out(tmp_path, store, environment)
    assert answer.is_success(), answer
    (stored,) = store.list_objects(names.delta_prefix(RUN, QUANTUM_ID))
    delta = read_delta(store.get(stored.key), stored.key)
    assert store.get(delta.rows.datastore_record[0].object_key) == RAW_CONTENT
    assert gzip.decompress(store.get(str(delta.log_key))) == b""
    uploaded = [*read_list(tmp_path).files, read_list(tmp_path).delta]
    assert only(answer)["TransferTotalBytes"] == sum(f.size_bytes for f in uploaded if f)
    assert only(answer)["DeveloperData"]["FilesCount"] == 3


def test_in_direct_mode_only_control_objects_are_moved(
    tmp_path: Path, store: ObjectStore, environment: dict[str, str], s3_endpoint: str
) -> None:
    job = make_job(data_mode=DataMode.DIRECT, task=TaskCall(function="direct_task:copy"))
    put_job(store, job)
    job_ad = {ENDPOINT_ATTRIBUTE: s3_endpoint}
    ad = only(stage_in(tmp_path, store, environment, job_ad=job_ad))
    counts = (ad["TransferTotalBytes"], ad["DeveloperData"]["FilesCount"])
    assert counts == (len(write_job(job)), 1)
    source = "def copy(repo):\n    repo.put(repo.get('raw'), 'calexp')\n"
    (tmp_path / "direct_task.py").write_text(source)
    assert run_quantum(tmp_path) == 0
    answer = stage_out(tmp_path, store, environment)
    assert only(answer)["DeveloperData"]["FilesCount"] == 2
    (stored,) = store.list_objects(names.delta_prefix(RUN, QUANTUM_ID))
    (record,) = read_delta(store.get(stored.key), stored.key).rows.datastore_record
    assert store.get(record.object_key) == RAW_CONTENT


def test_delta_is_asked_for_only_after_all_other_answers(
    tmp_path: Path, store: ObjectStore, environment: dict[str, str], s3_endpoint: str
) -> None:
    outputs = [make_output(dataset_id=f"{n}", path=f"{RUN}/calexp/{n}.img") for n in range(12)]
    put_job(store, make_job(outputs=outputs))
    stage_in(tmp_path, store, environment)
    delta_key = names.delta_key(RUN, QUANTUM_ID, "a")
    write_files(tmp_path, [f"{RUN}/calexp/{n}" for n in range(12)], delta_key)
    with S3Proxy(s3_endpoint) as proxy:
        job_ad = {ENDPOINT_ATTRIBUTE: proxy.endpoint}
        assert stage_out(tmp_path, store, environment, job_ad=job_ad).is_success()
    seen = proxy.of("PUT")
    assert len(seen) == 13
    assert seen[-1].key.endswith(delta_key)
    assert seen[-1].n_ended == 12, "12 answers were given when the delta came"


def write_files(scratch: Path, keys: list[str], delta_key: str) -> None:
    """Files and a stage-out list that names them."""
    entries = []
    for number, key in enumerate([*keys, delta_key]):
        path = scratch / f"file{number}"
        path.write_bytes(b"x")
        mtime = path.stat().st_mtime_ns
        entries.append(staging.StageOutFile(path.name, key, 1, "sha256:00", mtime))
    text = staging.write_stage_out_list(staging.StageOutList(RUN, entries[:-1], entries[-1]))
    (scratch / names.STAGE_OUT_FILE).write_bytes(text)


@pytest.mark.parametrize("refused", [0, 5, 11])
def test_no_delta_when_another_upload_is_refused(
    tmp_path: Path, store: ObjectStore, environment: dict[str, str], s3_endpoint: str, refused: int
) -> None:
    write_files(tmp_path, [f"{RUN}/{n}x" for n in range(12)], names.delta_key(RUN, QUANTUM_ID, "a"))

    def refuse(method: str, key: str) -> Fault | None:
        return Fault(403, "AccessDenied") if key.endswith(f"/{refused}x") else None

    with S3Proxy(s3_endpoint, refuse) as proxy:
        job_ad = {ENDPOINT_ATTRIBUTE: proxy.endpoint}
        answer = stage_out(tmp_path, store, environment, job_ad=job_ad)
    assert (answer.exit_code, only(answer)["TransferSuccess"]) == (1, False)
    told = f"{store.uri}/{RUN}/{refused}x: S3 said AccessDenied: said no"
    assert only(answer)["TransferError"].startswith(told)
    assert not [seen for seen in proxy.of("PUT") if "deltas" in seen.key]
    assert SECRET not in str(answer)


def test_wrapper_that_was_killed_uploads_nothing(
    tmp_path: Path, store: ObjectStore, environment: dict[str, str]
) -> None:
    stage_in(tmp_path, store, environment)
    before = list(store.list_objects(""))
    answer = stage_out(tmp_path, store, environment)
    assert answer.is_success()
    assert only(answer)["TransferTotalBytes"] == 0
    assert list(store.list_objects("")) == before


@pytest.mark.parametrize(
    ("delta_key", "told"),
    [
        (names.delta_key(RUN, OTHER_QUANTUM_ID, "a"), f"expected a delta of quantum {QUANTUM_ID}"),
        (f"{RUN}/delta.json", f"expected a delta of quantum {QUANTUM_ID}"),
        (names.delta_key("u/other", QUANTUM_ID, "a"), f"expected keys below RUN '{RUN}'"),
    ],
)
def test_list_of_another_quantum_is_refused(
    tmp_path: Path, store: ObjectStore, environment: dict[str, str], delta_key: str, told: str
) -> None:
    write_files(tmp_path, [f"{RUN}/x"], delta_key)
    answer = stage_out(tmp_path, store, environment)
    assert answer.exit_code == 1
    assert told in only(answer)["TransferError"]
    assert RUN + "/x" not in [stored.key for stored in store.list_objects("")]


def test_missing_list_is_told(
    tmp_path: Path, store: ObjectStore, environment: dict[str, str]
) -> None:
    answer = stage_out(tmp_path, store, environment)
    assert answer.exit_code == 1
    assert "stage-out.json: expected a file, found none" in only(answer)["TransferError"]


@pytest.mark.parametrize("action", [stage_in, stage_out])
def test_job_under_another_key_is_refused(
    tmp_path: Path, store: ObjectStore, environment: dict[str, str], action: Any
) -> None:
    job = make_job(quantum_id=OTHER_QUANTUM_ID, run="u/other")
    store.put(JOB_KEY, write_job(job))
    write_files(tmp_path, [], names.delta_key("u/other", QUANTUM_ID, "a"))
    text = (tmp_path / names.STAGE_OUT_FILE).read_bytes().replace(RUN.encode(), b"u/other")
    (tmp_path / names.STAGE_OUT_FILE).write_bytes(text)
    answer = action(tmp_path, store, environment)
    assert answer.exit_code == 1
    assert "expected the URI of the job to end with '/u/other" in only(answer)["TransferError"]


def test_endpoint_of_the_job_goes_before_that_of_the_daemon(
    tmp_path: Path, store: ObjectStore, environment: dict[str, str], s3_endpoint: str
) -> None:
    environment["AWS_ENDPOINT_URL"] = "http://127.0.0.1:1"
    answer = stage_in(tmp_path, store, environment, job_ad={ENDPOINT_ATTRIBUTE: s3_endpoint})
    assert answer.is_success(), answer


def test_no_secret_in_ads_nor_in_standard_error(
    tmp_path: Path, store: ObjectStore, environment: dict[str, str], s3_endpoint: str
) -> None:
    with S3Proxy(s3_endpoint, lambda *_: Fault(403, "SignatureDoesNotMatch")) as proxy:
        job_ad = {ENDPOINT_ATTRIBUTE: proxy.endpoint}
        answers = [stage_in(tmp_path, store, environment, job_ad=job_ad)]
        requests = [(url_of(store, RAW_KEY), tmp_path / "x")]
        answers.append(call_plugin(tmp_path, requests, environment, job_ad=job_ad))
    for answer in answers:
        assert answer.exit_code == 1
        written = (tmp_path / ".plugin.out").read_text() + answer.stderr + str(answer.ads)
        assert not [secret for secret in (SECRET, "AKIAEXAMPLE") if secret in written]


def test_plugin_needs_nothing_but_its_scratch_directory(
    tmp_path: Path, store: ObjectStore, environment: dict[str, str]
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    environment.update(HOME="/nonexistent", TMPDIR="/nonexistent")
    assert stage_in(scratch, store, environment).is_success()
    assert os.listdir(tmp_path) == ["scratch"]
