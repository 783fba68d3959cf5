# SPDX-License-Identifier: BSD-3-Clause
"""A plugin that is told to stop, or is out of time, while the S3 service gives no answer."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry import names, staging
from registry.job import write_job
from tests.plugin_process import PluginCall
from tests.processes import wait_until
from tests.s3_proxy import HANG, S3Proxy
from tests.samples import QUANTUM_ID, RAW_CONTENT, RAW_KEY, RUN, make_input, make_job
from transfer_plugins.object_store import ObjectStore, open_store
from transfer_plugins.plugin_protocol import DEADLINE_ATTRIBUTE, ENDPOINT_ATTRIBUTE
from transfer_plugins.stage_in import stage_in

# HTCondor waits for at least 10 s between SIGTERM and SIGKILL.
PATIENCE_S = 8


@pytest.fixture
def store(datastore: str) -> ObjectStore:
    """A datastore with a job of five inputs."""
    store = open_store(datastore)
    inputs = [make_input(key=f"raw/{n}", path=f"raw/{n}", dataset_id=f"{n}") for n in range(5)]
    for predicted in inputs:
        store.put(f"{predicted.key}", RAW_CONTENT)
    store.put(RAW_KEY, RAW_CONTENT)
    store.put(names.job_key(RUN, QUANTUM_ID), write_job(make_job(inputs=inputs)))
    return store


@pytest.fixture
def proxy(s3_endpoint: str) -> Iterator[S3Proxy]:
    """An S3 service that never answers when it is asked for, or given, a dataset or a log."""
    with S3Proxy(s3_endpoint, lambda _, key: HANG if "/raw/" in key else None) as proxy:
        yield proxy


def plugin_url(store: ObjectStore, key: str, scheme: str) -> str:
    """The URL by which HTCondor knows an object of a datastore."""
    return store.uri.replace("s3://", f"{scheme}://") + f"/{key}"


def started(
    scratch: Path,
    store: ObjectStore,
    proxy: S3Proxy,
    environment: dict[str, str],
    direction: str,
    deadline_s: int = 600,
) -> PluginCall:
    """A plugin that is in the middle of a transfer, with another one waiting."""
    requests = [(plugin_url(store, RAW_KEY, "qs3"), scratch / "a.raw")]
    if direction == "job":
        job_key = names.job_key(RUN, QUANTUM_ID)
        requests = [(plugin_url(store, job_key, "qs3job"), scratch / "job.json")]
    requests.append((plugin_url(store, RAW_KEY, "qs3"), scratch / "b.raw"))
    (scratch / "a.raw").write_bytes(b"x")
    call = PluginCall(
        scratch,
        requests,
        environment,
        is_upload=direction == "upload",
        job_ad={ENDPOINT_ATTRIBUTE: proxy.endpoint, DEADLINE_ATTRIBUTE: deadline_s},
    )
    methods = "PUT" if direction == "upload" else "GET HEAD"
    # On a slow machine a short deadline passes before the first request.
    wait_until(
        lambda: proxy.has_seen(methods, "/raw/") or call.process.poll() is not None, "a transfer"
    )
    return call


@pytest.mark.parametrize("direction", ["download", "upload", "job"])
def test_sigterm_in_mid_transfer_ends_in_ads(
    tmp_path: Path,
    store: ObjectStore,
    proxy: S3Proxy,
    s3_settings: dict[str, str],
    direction: str,
) -> None:
    call = started(tmp_path, store, proxy, s3_settings, direction)
    call.process.send_signal(signal.SIGTERM)
    answer = call.answer(PATIENCE_S)
    assert answer.exit_code == 1
    assert [ad["TransferSuccess"] for ad in answer.ads] == [False, False]
    assert "stopped by SIGTERM" in answer.ads[0]["TransferError"]
    assert answer.ads[1]["TransferError"]
    assert not (tmp_path / "b.raw").exists()


@pytest.mark.parametrize("direction", ["download", "upload", "job"])
def test_deadline_of_the_job_ends_in_ads(
    tmp_path: Path,
    store: ObjectStore,
    proxy: S3Proxy,
    s3_settings: dict[str, str],
    direction: str,
) -> None:
    before = time.monotonic()
    call = started(tmp_path, store, proxy, s3_settings, direction, deadline_s=2)
    answer = call.answer(PATIENCE_S)
    assert time.monotonic() - before > 2
    assert answer.exit_code == 1
    assert [ad["TransferSuccess"] for ad in answer.ads] == [False, False]
    assert "out of time after 2 s" in answer.ads[0]["TransferError"]


def test_what_was_transferred_before_is_told_as_success(
    tmp_path: Path, store: ObjectStore, proxy: S3Proxy, s3_settings: dict[str, str]
) -> None:
    store.put("quick", b"1234")
    requests = [
        (plugin_url(store, "quick", "qs3"), tmp_path / "quick"),
        (plugin_url(store, RAW_KEY, "qs3"), tmp_path / "slow"),
    ]
    call = PluginCall(tmp_path, requests, s3_settings, job_ad={ENDPOINT_ATTRIBUTE: proxy.endpoint})
    proxy.wait_for("GET HEAD", "/raw/")
    call.process.send_signal(signal.SIGTERM)
    answer = call.answer(PATIENCE_S)
    assert [ad["TransferSuccess"] for ad in answer.ads] == [True, False]
    assert answer.ads[0]["TransferTotalBytes"] == 4


def test_no_delta_is_uploaded_after_a_stop(
    tmp_path: Path, store: ObjectStore, proxy: S3Proxy, s3_settings: dict[str, str]
) -> None:
    stage_in(make_job(inputs=[]), store, tmp_path)
    (tmp_path / "x").write_bytes(b"x")
    found = (tmp_path / "x").stat()
    entries = [
        staging.StageOutFile("x", key, 1, "sha256:00", found.st_mtime_ns)
        for key in (f"{RUN}/raw/x", names.delta_key(RUN, QUANTUM_ID, "0"))
    ]
    stage_out_list = staging.StageOutList(RUN, entries[:1], entries[1])
    (tmp_path / names.STAGE_OUT_FILE).write_bytes(staging.write_stage_out_list(stage_out_list))
    url = plugin_url(store, names.job_key(RUN, QUANTUM_ID), "qs3job")
    call = PluginCall(
        *(tmp_path, [(url, tmp_path / names.STAGE_OUT_FILE)], s3_settings),
        is_upload=True,
        job_ad={ENDPOINT_ATTRIBUTE: proxy.endpoint},
    )
    proxy.wait_for("PUT", "/raw/x")
    call.process.send_signal(signal.SIGTERM)
    answer = call.answer(PATIENCE_S)
    assert (answer.exit_code, len(answer.ads)) == (1, 1)
    assert not [seen for seen in proxy.of("PUT") if "deltas" in seen.key]
