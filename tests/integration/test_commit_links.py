# SPDX-License-Identifier: BSD-3-Clause
"""Presigned URLs: what they let do, how long, and that no message shows one."""

import stat
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path

import classad2
import pytest

from executor.stopped_commit import StoppedCommit, commit_stopped, take_links
from registry import names, staging
from registry.hidden_words import has_secret, without_secrets
from registry.job import DataMode
from tests.fix_bundle import BARE_PYTHON
from tests.https_front import Authority, HttpsFront
from tests.samples import ATTEMPT_ID, QUANTUM_ID, RUN, make_job
from transfer_plugins.commit_links import write_commit_links
from transfer_plugins.object_store import open_store
from transfer_plugins.plugin_protocol import LINK_LIFETIME_ATTRIBUTE, read_settings
from transfer_plugins.s3_object_store import S3ObjectStore


def store_of(datastore: str) -> S3ObjectStore:
    """The datastore, which is in S3."""
    store = open_store(datastore)
    assert isinstance(store, S3ObjectStore)
    return store


@pytest.mark.parametrize("key", ["x", "a/b.txt", "odd/a+b@c=d e%20,~.txt"])
def test_link_writes_its_key(datastore: str, key: str) -> None:
    store = store_of(datastore)
    url = store.presigned_put(key, 600)
    headers = {"Content-Type": "binary/octet-stream"}
    request = urllib.request.Request(url, b"content", headers, method="PUT")
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 200
    assert store.get(key) == b"content"


def test_link_expires_and_its_signature_is_a_secret(datastore: str) -> None:
    url = store_of(datastore).presigned_put("x", 600)
    words = urllib.parse.parse_qs(urllib.parse.urlsplit(url).query)
    assert words["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
    assert words["X-Amz-Expires"] == ["600"]
    assert has_secret(url)
    assert words["X-Amz-Signature"][0] not in without_secrets(f"PUT {url} failed")


def test_links_are_those_of_one_attempt(datastore: str, tmp_path: Path) -> None:
    job = make_job()
    write_commit_links(job, ATTEMPT_ID, store_of(datastore), tmp_path, 600)
    assert stat.S_IMODE((tmp_path / names.COMMIT_LINKS).stat().st_mode) == 0o600
    keys = set(take_links(tmp_path).links)
    control = {
        names.log_key(RUN, QUANTUM_ID, ATTEMPT_ID),
        names.delta_key(RUN, QUANTUM_ID, ATTEMPT_ID),
    }
    output = names.dataset_key(job.outputs[0].path, ".img", ATTEMPT_ID)
    assert keys == {output, *control}
    assert not (tmp_path / names.COMMIT_LINKS).exists()
    direct = make_job(data_mode=DataMode.DIRECT)
    write_commit_links(direct, ATTEMPT_ID, store_of(datastore), tmp_path, 600)
    assert set(take_links(tmp_path).links) == control


def test_damaged_links_are_as_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / names.COMMIT_LINKS).write_text('{"links":{"x":"http://h/?X-Amz-Signature=abc')
    assert take_links(tmp_path) == staging.CommitLinks()
    assert "damaged" in caplog.text
    assert "abc" not in caplog.text


def test_message_of_a_failed_upload_shows_no_link(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "f").write_bytes(b"x")
    found = (tmp_path / "f").stat()
    entry = staging.StageOutFile("f", "k", 1, "sha256:0", found.st_mtime_ns)
    url = "nonsense://h/k?X-Amz-Signature=abcdef"
    commit = StoppedCommit(
        *("a", tmp_path, staging.StageOutList(RUN, [], entry)), staging.CommitLinks({"k": url})
    )
    assert commit_stopped([commit], time.monotonic() - 44) == set()
    assert "attempt a is not committed" in caplog.text
    assert "abcdef" not in caplog.text


@pytest.mark.parametrize(
    ("value", "expected"),
    [(60, 60), (0, 0), (-1, 86_400), (10**9, 7 * 86_400), ("x", 86_400), (None, 86_400)],
)
def test_lifetime_is_an_attribute_of_the_job(
    tmp_path: Path, value: int | str | None, expected: int
) -> None:
    ad = {} if value is None else {LINK_LIFETIME_ATTRIBUTE: value}
    (tmp_path / "ad").write_text(classad2.ClassAd(ad).printOld())
    settings = read_settings({"_CONDOR_JOB_AD": str(tmp_path / "ad")})
    assert settings.link_lifetime_s == expected


def test_wrapper_trusts_whom_the_plugin_trusts(
    datastore: str,
    front: HttpsFront,
    authority: Authority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the file that ``~/.aws/config`` names; nothing is sent to whom another one signed."""
    (tmp_path / "config").write_text(f"[default]\nca_bundle = {authority.path}\n")
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    https = open_store(datastore, endpoint_url=front.url)
    write_commit_links(make_job(), ATTEMPT_ID, https, tmp_path, 600)
    links = take_links(tmp_path)
    assert links.ca_bundle == str(authority.path)
    (tmp_path / "f").write_bytes(b"x")
    key = names.delta_key(RUN, QUANTUM_ID, ATTEMPT_ID)
    found = (tmp_path / "f").stat()
    entry = staging.StageOutFile("f", key, 1, "sha256:0", found.st_mtime_ns)
    whole = staging.StageOutList(RUN, [], entry)
    # Of the 45 s that a stopped job has, some are left.
    others = staging.CommitLinks(links.links, None)
    refused = StoppedCommit("a", tmp_path, whole, others)
    assert commit_stopped([refused], time.monotonic() - 40) == set()
    assert commit_stopped([StoppedCommit("a", tmp_path, whole, links)], time.monotonic()) == {"a"}
    assert store_of(datastore).get(key) == b"x"


def test_authorities_come_with_the_programs(bundle: Path, tmp_path: Path) -> None:
    """On a machine that knows none of its own."""
    archive = bundle / names.WORKER_ARCHIVE
    source = (
        f"import sys; sys.path[:0] = [{str(archive)!r}, {str(archive / 'packages')!r}]\n"
        "from executor.stopped_commit import _trusting\n"
        "print(_trusting(None).cert_store_stats()['x509_ca'])"
    )
    nothing = {"SSL_CERT_FILE": str(tmp_path / "none"), "SSL_CERT_DIR": str(tmp_path)}
    done = subprocess.run(
        [*BARE_PYTHON, "-c", source], env=nothing, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) > 50
