# SPDX-License-Identifier: BSD-3-Clause
"""A real S3 server (moto's, in a thread): one per session, a fresh root per test."""

import itertools
import socket
from collections.abc import Iterator

import boto3
import pytest

BUCKET = "quantum-exec-tests"
_numbers = itertools.count(1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """Address of the S3 server of this session, with one bucket."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=_free_port(), verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    client.create_bucket(Bucket=BUCKET)
    client.close()
    yield endpoint
    server.stop()


@pytest.fixture(scope="session")
def s3_settings(s3_endpoint: str) -> dict[str, str]:
    """Environment that leads boto3 to the server; not set in this process."""
    return {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "secret-of-the-tests",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": s3_endpoint,
    }


@pytest.fixture
def s3_environment(s3_settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The same, set in this process, and nothing else that boto3 would follow."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    for name, value in s3_settings.items():
        monkeypatch.setenv(name, value)
    return s3_settings


@pytest.fixture
def datastore(s3_environment: dict[str, str]) -> str:
    """URI of an empty datastore of its own in the test bucket."""
    return f"s3://{BUCKET}/test-{next(_numbers)}"
