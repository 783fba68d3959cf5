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
    assert found.requests_of("isr") == Requests(1000, 1, 1024, 3, 20, memory_multiplier=2)
    assert found.requests_of("coadd") == Requests(8192, 1, 1024, 0, 20, memory_multiplier=2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("requestMemry: 1", "requestMemry: .*did you mean requestMemory?"),
        ("frobnicate: 1", "frobnicate: expected a key that is known, .*; one of .*requestCpus"),
        ("pipetask: {isr: {requestMem: 1}}", r"pipetask\.isr\.requestMem: .*requestMemory\?"),
        ("requestMemory: 2 GB", "requestMemory: expected `int`, got `str`: '2 GB'"),
        ("requestMemory: 0", "requestMemory: .* >= 1: 0"),
        ("requestMemory: 010", "requestMemory: expected `int`, got `str`: '010'"),
        ("pipetask: {isr: {requestCpus: 0}}", r"pipetask\.isr\.requestCpus: .* >= 1: 0"),
        ("maxIdle: -1", "maxIdle: .* >= 1"),
        ("maxStarts: 0", "maxStarts: .* >= 1"),
        ("transferDeadline: 0", "transferDeadline: .* >= 1"),
        ("numberOfRetries: -1", "numberOfRetries: .* >= 0"),
        ("memoryMultiplier: 0.5", "memoryMultiplier: .* >= 1"),
        ("requestMemoryMax: 1024", "requestMemoryMax: expected at least requestMemory, 2048"),
        ("requestWalltime: 1:30", "requestWalltime: expected seconds or H:M:S, found '1:30'"),
        ("retryUnlessExit: [0]", "retryUnlessExit: expected codes from 1 to 255, found 0"),
        ("retryUnlessExit: [one]", "retryUnlessExit: .*`int`"),
        ("workerExecutable: bin/qe", "workerExecutable: expected an absolute path, found 'bin/qe'"),
        ("mergeConfig: ~/merge.yaml", "mergeConfig: .*absolute path, found '~/merge.yaml'"),
        ("containerImage: image.sif", "containerImage: .*absolute path, found 'image.sif'"),
        ("accountingGroup: a b", "accountingGroup: expected the name of a group, found 'a b'"),
        ("project: 'a b'", "project: expected a word without spaces"),
        ("s3EndpointUrl: http://u:p@host", "s3EndpointUrl: expected an address without a secret"),
        ("environment: {DB_PASSWORD: x}", r"environment\.DB_PASSWORD: expected no secret"),
        ("environment: {URL: 'pg://u:p@h/d'}", r"environment\.URL: expected no secret"),
        ("environment: {A-B: x}", "expected the name of a variable, found 'A-B'"),
        ("environment: {A: [1]}", "expected text or a number"),
        ("attributes: {+Owner: me}", "expected an attribute of your own, found 'Owner'"),
        ("attributes: {'+A B': 1}", "expected the name of an attribute"),
        ("site: {a: {profile: {condor: {executable: x}}}}", r"condor\.executable: .*by us"),
        ("site: {a: {profile: {condor: {getenv: true}}}}", r"condor\.getenv: expected \+Name"),
        ("computeSite: ab\nsite: {abc: {}}", "computeSite: .*did you mean abc?"),
        ("submitPath: ${NO_SUCH_VARIABLE}", r"submitPath: .*\$\{NO_SUCH_VARIABLE\}"),
        ("submitPath: '{nothing}'", r"found \{nothing\}, which no key defines"),
        ("submitPath: '{a}'\na: '{b}'\nb: '{a}'", "which is defined by itself"),
        ("submitPath: <ENV:HOME>", "which BPS alone knows"),
        ("maxIdle: 1\nmaxIdle: 2", "expected each key once, found 'maxIdle' twice"),
        ("1: 2", "expected a key that is text, found '1'"),
        ("pipetask: [isr]", "pipetask: expected keys, found"),
        ("- a list", "expected keys, found a list"),
        ("a: [", "while parsing"),
        ("a: \x01", "special characters are not allowed|unacceptable character"),
        ("includeConfigs: none.yaml", r"none\.yaml: .*No such file"),
        ("includeConfigs: submit.yaml", "includes itself"),
    ],
)
def test_error_names_the_file_and_the_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith(f"submit configuration {tmp_path}/")


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
