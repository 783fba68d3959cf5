# SPDX-License-Identifier: BSD-3-Clause
"""The submit configuration."""

import re
import sys
from pathlib import Path

import msgspec
import pytest

from executor.submit import bps_keys
from executor.submit.configuration import (
    ConfigurationError,
    SubmitConfiguration,
    read_submit_configuration,
)
from executor.submit.requests import Requests
from registry.job import ResourceRequest

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
    shown = {"site", "pipetask", "cluster"}
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
        ("commitLinkLifetime: -1", "commitLinkLifetime: .* >= 0"),
        ("commitLinkLifetime: 604801", "commitLinkLifetime: .* <= 604800"),
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
        ("site: {a: {requestMemry: 1}}", r"site\.a\.requestMemry: .*did you mean requestMemory"),
        ("cluster: {c: {pipetask: a}}", r"cluster\.c\.pipetask: .*did you mean pipetasks"),
        ("cluster: {c: {dimensions: a}}", r"cluster\.c: expected key pipetasks, found none"),
        ("payload: {payloadNam: a}", r"payload\.payloadNam: .*did you mean payloadName"),
        ("concurrencyLimits: a", "concurrencyLimits: .*did you mean concurrencyLimit"),
        ("attributes: {+bps_run: a}", r"attributes\.\+bps_run: .*'bps_run', which is set for you"),
        ("attributes: {A: [1]}", "attributes: .*`str | int | float | bool`"),
        ("attributes: {+SingularityImage: a}", "expected the key containerImage in the place of"),
        (
            "site: {a: {profile: {condor: {accounting_group: g}}}}",
            r"condor\.accounting_group: expected the key accountingGroup in its place",
        ),
        ("memoryLimit: 1024", "memoryLimit: expected at least requestMemory, 2048; found 1024"),
        ("site: {a: {profile: {condr: {}}}}", r"site\.a\.profile\.condr: .*did you mean condor"),
        ("+Night: 1", r"\+Night: expected an attribute of the job below attributes"),
        ("requestDisk: -5", "requestDisk: .* >= 1: -5"),
        ("requestWalltime: -5", "requestWalltime: .* >= 1: -5"),
        ("priority: high", "priority: expected `int`, got `str`: 'high'"),
        ("preemptible: maybe", "preemptible: expected `bool`, got `str`: 'maybe'"),
        ("initTasks: isr", "initTasks: expected `array`, got `str`: 'isr'"),
        ("environment: {A: true}", "found True, which has to be in quotes"),
        ("pipetask: {isr: 7}", r"pipetask\.isr: expected keys, found 7"),
        ("submitPath: 'a/{outputRun}'", r"found \{outputRun\}, which BPS makes anew at every call"),
        ("submitPath: '{HOME}'", r"which no key defines; \$\{HOME\} is the variable"),
        ("submitPath: '{projct}'\nproject: a", r"did you mean \{project\}\?"),
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
    with pytest.raises(ConfigurationError, match="Is a directory"):
        read_submit_configuration(tmp_path)
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


def test_file_of_a_bps_user_is_taken(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("LOGNAME", "me")
    found = read_submit_configuration(ROOT / "configs" / "submit-bps.yaml")
    assert (found.output, found.payload_name, found.project) == ("u/me/pcheck", "pcheck", "dev")
    assert found.submit_path == "/home/me/submit/pcheck"
    isr = found.requests_of("isr")
    assert (isr.request_memory, isr.request_walltime, isr.request_memory_max) == (
        4096,
        3600,
        491520,
    )
    assert isr.attributes == {"Walltime": 7200}
    assert isr.submit_lines == {"requirements": '(GLIDEIN_NAME == "test")'}
    assert isr.environment == {"OMP_NUM_THREADS": "1"}
    assert isr.final_exit_codes() == [1, 2]
    [warning] = caplog.messages
    for told in (
        "finalJob (`registry-merge` ends every DAG)",
        "payload.dataQuery, payload.inCollection, pipelineYaml (the graph is made before)",
        "pipetask.pipetaskInit (jobs run `quantum-exec run`)",
        "wmsServiceClass (jobs go to HTCondor)",
    ):
        assert told in warning


def test_every_key_of_bps_without_effect_has_its_reason() -> None:
    keys = bps_keys.UNUSED_IN_CLUSTER | bps_keys.UNUSED_IN_SITE | bps_keys.UNUSED_IN_PAYLOAD
    known = {field.encode_name for field in msgspec.structs.fields(SubmitConfiguration)}
    assert not keys & known
    for key in keys:
        assert bps_keys.told([(key,)]).startswith(f"{key} (")


def test_profiles_of_other_services_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    read(tmp_path, "site: {here: {profile: {pegasus: {style: condor}, condor: {rank: Memory}}}}")
    [warning] = caplog.messages
    assert warning.endswith("no effect here: site.here.profile.pegasus (jobs go to HTCondor)")


def test_levels_go_before_each_other(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        "computeSite: here\nrequestCpus: 1\nrequestDisk: 1\nrequestMemory: 1\nmaxJobs: 9\n"
        "environment: {A: top, B: top}\n"
        "site: {here: {requestCpus: 2, requestDisk: 2, requestMemory: 2, environment: {B: site}},\n"
        "       there: {requestCpus: 7}}\n"
        "pipetask: {isr: {requestMemory: 4, environment: {C: isr}, maxJobs: 3}}\n",
    )
    isr = found.requests_of("isr", ResourceRequest(memory_mib=3, scratch_mib=3))
    assert (isr.request_cpus, isr.request_disk, isr.request_memory) == (2, 3, 4)
    assert isr.environment == {"A": "top", "B": "site", "C": "isr"}
    assert (isr.max_jobs, found.requests_of("coadd").max_jobs, found.max_jobs) == (3, None, 9)


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("requestWalltime: 1:30:00", "request_walltime", 5400),
        ("requestWalltime: 01:00:05", "request_walltime", 3605),
        ("requestWalltime: '90'", "request_walltime", 90),
        ("retryUnlessExit: 3", "retry_unless_exit", 3),
        ("memoryLimit: 4096", "request_memory_max", 4096),
        ("memoryLimit: 4096\nrequestMemoryMax: 3000", "request_memory_max", 3000),
        ("nodeset: big", "attributes", {"JobNodeset": "big"}),
        ("nodeset: big", "submit_lines", {"requirements": '(Target.Nodeset == "big")'}),
        ("attributes: {+A: x, B: true}", "attributes", {"A": "x", "B": True}),
        ("environment: {A: 1}", "environment", {"A": "1"}),
        ("environment: {TOKEN_FILE: /a}", "environment", {"TOKEN_FILE": "/a"}),
        ("project: '{mine}'\nmine: dev", "project", "dev"),
        ("payload: {payloadName: night}", "payload_name", "night"),
        ("submitPath: '${E_TEST}/{mine}'\nmine: a", "submit_path", "/e/a"),
        ("submitPath: '{mine}/b'\nmine: '${E_TEXT}'", "submit_path", "/${E_TEST}/{x}/b"),
        ("initTasks: [a]", "init_tasks", ["a"]),
        ("submitPath:", "submit_path", "submit"),
    ],
)
def test_value_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, name: str, value: object
) -> None:
    monkeypatch.setenv("E_TEST", "/e")
    monkeypatch.setenv("E_TEXT", "/${E_TEST}/{x}")
    assert getattr(read(tmp_path, text), name) == value


def test_file_goes_before_what_it_includes(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text(
        "maxIdle: 1\nmaxStarts: 1\npipetask: {isr: {requestCpus: 2, requestMemory: 2}}\n"
    )
    (tmp_path / "other.yaml").write_text("maxStarts: 2\ntransferDeadline: 2\n")
    found = read(
        tmp_path,
        "includeConfigs: [site.yaml, other.yaml]\nmaxIdle: 3\npipetask: {isr: {requestCpus: 3}}\n",
    )
    assert (found.max_idle, found.max_starts, found.transfer_deadline) == (3, 2, 2)
    assert found.pipetask["isr"] == Requests(request_cpus=3, request_memory=2)
    (tmp_path / "site.yaml").write_text("maxIdel: 1\n")
    with pytest.raises(ConfigurationError, match=r"site\.yaml: maxIdel: .*maxIdle\?"):
        read(tmp_path, "includeConfigs: [site.yaml]\n")


def rows_of_keys() -> dict[str, str]:
    """Key and default of each row of the table in the docs."""
    text = (ROOT / "docs" / "pool.md").read_text("utf-8").split("## Configuration")[1]
    rows = re.findall(r"^\| `(\w+)` \| ([^|]*) \|", text.split("\n## ")[0], re.MULTILINE)
    return dict(rows)


def test_every_key_is_in_the_table_of_the_docs() -> None:
    fields = {f.encode_name: f for f in msgspec.structs.fields(SubmitConfiguration)}
    del fields["submitLines"]
    rows = rows_of_keys()
    default = SubmitConfiguration()
    assert set(fields) - set(rows) == set()
    for key in set(rows) & set(fields):
        value = getattr(default, fields[key].name)
        shown = "" if value in (None, "", [], {}) else f"{value:g}" if value == 2 else str(value)
        assert rows[key].strip("` ") == shown, key
