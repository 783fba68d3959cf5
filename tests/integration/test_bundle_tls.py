# SPDX-License-Identifier: BSD-3-Clause
"""The plugin of a bundle and S3 over HTTPS: which authorities it trusts, and what it says else."""

import zipfile
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from executor.bundle.bundle_record import PLUGIN_FILE
from tests.fix_bundle import BARE_PYTHON
from tests.https_front import Authority, HttpsFront
from tests.plugin_process import Answer, call_plugin
from transfer_plugins.object_store import open_store
from transfer_plugins.plugin_protocol import ENDPOINT_ATTRIBUTE

CONTENT = b"over TLS"


@pytest.fixture
def key(datastore: str) -> str:
    """An object as the plugin is asked for it."""
    open_store(datastore).put("a/object", CONTENT)
    return f"qs3{datastore.removeprefix('s3')}/a/object"


def fetch(
    bundle: Path, key: str, front: HttpsFront, settings: dict[str, str], scratch: Path
) -> Answer:
    """Ask the bundle's plugin for an object; the job ad names the service."""
    environment = {k: v for k, v in settings.items() if k != "AWS_ENDPOINT_URL"}
    return call_plugin(
        *(scratch, [(key, scratch / "object")], environment),
        job_ad={ENDPOINT_ATTRIBUTE: front.url},
        command=[*BARE_PYTHON, bundle / PLUGIN_FILE],
    )


def with_certificates(bundle: Path, directory: Path, certificates: Path) -> Path:
    """A bundle whose botocore trusts other authorities than those it comes with."""
    directory.mkdir()
    with (
        zipfile.ZipFile(bundle / PLUGIN_FILE) as source,
        zipfile.ZipFile(directory / PLUGIN_FILE, "w") as target,
    ):
        for name in source.namelist():
            is_theirs = name == "packages/botocore/cacert.pem"
            target.writestr(name, certificates.read_bytes() if is_theirs else source.read(name))
    return directory


def test_certificates_in_the_archive_are_used(
    bundle: Path,
    key: str,
    front: HttpsFront,
    authority: Authority,
    s3_settings: dict[str, str],
    tmp_path: Path,
) -> None:
    other = with_certificates(bundle, tmp_path / "bundle", authority.path)
    answer = fetch(other, key, front, s3_settings, tmp_path)
    assert answer.is_success(), answer
    assert (tmp_path / "object").read_bytes() == CONTENT


def test_authority_of_the_site_is_trusted(
    bundle: Path,
    key: str,
    front: HttpsFront,
    authority: Authority,
    s3_settings: dict[str, str],
    tmp_path: Path,
) -> None:
    settings = {**s3_settings, "AWS_CA_BUNDLE": str(authority.path)}
    answer = fetch(bundle, key, front, settings, tmp_path)
    assert answer.is_success(), answer
    assert (tmp_path / "object").read_bytes() == CONTENT


@pytest.mark.parametrize("trusted", ["nothing said", "another.pem", "nowhere.pem", "empty.pem"])
def test_unknown_authority_is_refused(
    bundle: Path,
    key: str,
    front: HttpsFront,
    s3_settings: dict[str, str],
    tmp_path: Path,
    trusted: str,
) -> None:
    Authority(tmp_path / "another.pem")
    (tmp_path / "empty.pem").touch()
    settings, told = dict(s3_settings), "None"
    if trusted != "nothing said":
        settings["AWS_CA_BUNDLE"] = told = str(tmp_path / trusted)
    answer = fetch(bundle, key, front, settings, tmp_path)
    assert answer.exit_code == 1
    [ad] = answer.ads
    assert "expected AWS_CA_BUNDLE, or ca_bundle in ~/.aws/config" in ad["TransferError"]
    assert told in ad["TransferError"]
    assert ad["TransferErrorData"][0]["Retryable"] is False
    assert not (tmp_path / "object").exists()


def test_certificate_of_another_address_is_refused(
    bundle: Path, key: str, s3_endpoint: str, s3_settings: dict[str, str], tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "site.pem")
    port = urlsplit(s3_endpoint).port
    assert port is not None
    front = HttpsFront(port, authority.sign(tmp_path / "server.pem", "192.0.2.1"))
    settings = {**s3_settings, "AWS_CA_BUNDLE": str(authority.path)}
    answer = fetch(bundle, key, front, settings, tmp_path)
    front.close()
    assert answer.exit_code == 1
    assert "doesn't match '192.0.2.1'" in answer.ads[0]["TransferError"]
