# SPDX-License-Identifier: BSD-3-Clause
"""Secrets in texts: all forms that people and programs write, and nothing else."""

import pytest

from registry.hidden_words import has_secret, without_secrets

SECRET = "hidden/W%40rd"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"postgresql://me:{SECRET}@h/x", "postgresql://me:…@h/x"),
        ("postgresql://me:a@b:hidden@h:5432/x", "postgresql://me:…@h:5432/x"),
        (f'endpoint URL: "http://AK:{SECRET}@h:1/b?x=y"', 'endpoint URL: "http://AK:…@h:1/b?x=y"'),
        (f"https://{SECRET.replace('/', '')}@h", "https://…@h"),
        (f"postgresql://me@h/x?password={SECRET}&a=b", "postgresql://me@h/x?password=…&a=b"),
        (f"host=h sslpassword = '{SECRET} \\' x' a=b", "host=h sslpassword = … a=b"),
        (f"PGPASSWORD={SECRET}", "PGPASSWORD=…"),
        (f"h/?Action=connect&X-Amz-Signature={SECRET}", "h/?Action=connect&X-Amz-Signature=…"),
    ],
)
def test_what_is_secret_is_left_out(text: str, shown: str) -> None:
    assert has_secret(text)
    assert without_secrets(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://me@h:5432/x?host=/tmp/@a",
        "postgresql://postgres:@/name?host=/tmp/socket",
        "http://127.0.0.1:9000/bucket/a@b",
        "s3://bucket/u:me/a@b",
        "file:///tmp/a:b@c",
        "u/me@site/run:1",
        "expected one from PGPASSWORD, ~/.pgpass, or a file",
    ],
)
def test_all_else_is_shown(text: str) -> None:
    assert not has_secret(text)
    assert without_secrets(text) == text
