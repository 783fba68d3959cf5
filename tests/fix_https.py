# SPDX-License-Identifier: BSD-3-Clause
"""The S3 server of the session by HTTPS, with a certificate of an authority of our own."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.https_front import Authority, HttpsFront


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Who signs the certificate of the S3 service."""
    return Authority(tmp_path_factory.mktemp("tls") / "site.pem")


@pytest.fixture(scope="session")
def front(authority: Authority, s3_endpoint: str) -> Iterator[HttpsFront]:
    """The S3 service, by HTTPS."""
    port = urlsplit(s3_endpoint).port
    assert port is not None
    front = HttpsFront(port, authority.sign(authority.path.with_name("server.pem")))
    yield front
    front.close()
