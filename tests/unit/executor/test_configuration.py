# SPDX-License-Identifier: BSD-3-Clause
"""The submit configuration."""

import sys
from pathlib import Path

import pytest

from executor.submit.configuration import (
    ConfigurationError,
    SubmitConfiguration,
    read_submit_configuration,
)
from executor.submit.requests import Requests

ROOT = Path(__file__).parents[3]


def read(tmp_path: Path, text: str) -> SubmitConfiguration:
    """Read a text as configuration."""
    path = tmp_path / "submit.yaml"
    path.write_text(text, "utf-8")
    return read_submit_configuration(path)


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}\n"])
def test_everything_has_a_default(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text) == read_submit_configuration(None) == SubmitConfiguration()


def test_example_shows_the_defaults(tmp_path: Path) -> None:
    example = read_submit_configuration(ROOT / "configs" / "submit.yaml")
    default = SubmitConfiguration()
    shown = {"retry_unless_exit", "pipetask"}
    for name in SubmitConfiguration.__struct_fields__:
        assert getattr(example, name) == getattr(default, name) or name in shown


def test_requests_of_a_task_go_before_the_others(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        "requestMemory: 1000\nnumberOfRetries: 3\nretryUnlessExit: 20\n"
        "pipetask: {coadd: {requestMemory: 8192, numberOfRetries: 0}}\n",
    )
    assert found.requests_of("isr") == Requests(1000, 1, 1024, 3, 20)
    assert found.requests_of("coadd") == Requests(8192, 1, 1024, 0, 20)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("requestMemry: 1", "unknown field `requestMemry`"),
        ("pipetask: {isr: {memory: 1}}", r"unknown field `memory` - at `\$.pipetask\[...\]`"),
        ("requestMemory: 2 GB", r"Expected `int`, got `str` - at `\$.requestMemory`"),
        ("requestMemory: 0", r">= 1 - at `\$.requestMemory`"),
        ("pipetask: {isr: {requestCpus: 0}}", r">= 1 - at `\$.pipetask\[...\].requestCpus`"),
        ("maxIdle: -1", r">= 1 - at `\$.maxIdle`"),
        ("maxStarts: 0", r">= 1 - at `\$.maxStarts`"),
        ("transferDeadline: 0", r">= 1 - at `\$.transferDeadline`"),
        ("numberOfRetries: -1", r">= 0 - at `\$.numberOfRetries`"),
        (
            "workerExecutable: bin/quantum-exec",
            "expected an absolute path, found 'bin/quantum-exec'",
        ),
        ("mergeConfig: ~/merge.yaml", "expected an absolute path, found '~/merge.yaml'"),
        ("- a list", "Expected `object.*`, got `array`"),
        ("a: [", "while parsing"),
        ("a: \x01", "special characters are not allowed|unacceptable character"),
    ],
)
def test_error_names_the_file_and_the_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith(f"submit configuration {tmp_path / 'submit.yaml'}: ")


def test_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        read_submit_configuration(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"submitPath: \xe9")
    with pytest.raises(ConfigurationError, match=r"latin\.yaml: "):
        read_submit_configuration(tmp_path / "latin.yaml")


def test_programs_are_those_beside_this_one(tmp_path: Path) -> None:
    default = SubmitConfiguration()
    beside = Path(sys.executable).parent
    assert default.worker_command() == str(beside / "quantum-exec")
    assert default.merge_command() == str(beside / "registry-merge")
    named = read(tmp_path, "workerExecutable: /opt/qe\nmergeExecutable: /opt/rm\n")
    assert (named.worker_command(), named.merge_command()) == ("/opt/qe", "/opt/rm")


def test_program_that_is_nowhere_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match=r"expected quantum-exec beside .* or on PATH"):
        SubmitConfiguration().worker_command()


def test_endpoint_of_the_command_line_goes_first() -> None:
    configured = SubmitConfiguration(s3_endpoint_url="http://a")
    assert configured.with_endpoint(None) is configured
    assert configured.with_endpoint("http://b").s3_endpoint_url == "http://b"
