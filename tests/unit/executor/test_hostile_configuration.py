# SPDX-License-Identifier: BSD-3-Clause
"""Submit configurations that would write lines of their own, secrets, or a text without end."""

from pathlib import Path

import msgspec
import pytest

from executor.submit.configuration import (
    ConfigurationError,
    SubmitConfiguration,
    read_submit_configuration,
)
from executor.submit.dag import InitJob, write_dag
from executor.submit.nodes import Node
from executor.submit.requests import Requests
from tests.samples import RUN

NODES = [Node("isr_1", "isr", "jobs/1.json", ("1",))]
PROGRAMS = "workerExecutable: /opt/qe\nmergeExecutable: /opt/rm\n"


def nested(count: int, first: str, line: str) -> str:
    """Lines in which each names the one before nine times."""
    return first + "".join(line.format(n, n - 1) for n in range(1, count))


LISTS = nested(12, "a0: &a0 [x]\n", "a{0}: &a{0} [" + ", ".join(["*a{1}"] * 9) + "]\n")
MAPS = (
    nested(
        12,
        "a0: &a0 {{x: 1}}\n",
        "a{0}: &a{0} {{" + ", ".join(f"k{i}: *a{{1}}" for i in range(9)) + "}}\n",
    )
    .replace("{{", "{")
    .replace("}}", "}")
)
TEXTS = nested(12, "project: '{a11}'\na0: xxxxxxxxx\n", "a{0}: '" + "{{a{1}}}" * 9 + "'\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LISTS, "expected 100000 values at most, found more by aliases"),
        (MAPS, "expected 100000 values at most, found more by aliases"),
        ("environment: &a {A: *a}", "expected 100000 values at most"),
        (TEXTS, "project: expected 100000 characters at most"),
        ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
    ],
)
def test_short_file_stays_short(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "submit.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        read_submit_configuration(path)


def test_aliases_and_merge_keys_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "submit.yaml"
    path.write_text("pipetask: {fit: &big {requestMemory: 77}, isr: {<<: *big, requestCpus: 2}}\n")
    assert read_submit_configuration(path).requests_of("isr").request_memory == 77


def lines_of(directory: Path) -> dict[str, list[str]]:
    """Names of the lines of each submit description."""
    return {
        path.name: [line.partition(" = ")[0] for line in path.read_text().splitlines()]
        for path in directory.glob("*.sub")
    }


def written(directory: Path, text: str) -> dict[str, list[str]]:
    """Lines of the submit descriptions that a configuration leads to."""
    directory.mkdir()
    (directory / "submit.yaml").write_text(PROGRAMS + text)
    configuration = read_submit_configuration(directory / "submit.yaml")
    write_dag(directory, NODES, RUN, "s3://b/r", configuration, {}, init=InitJob("g"))
    return lines_of(directory)


HOSTILE = [
    "a\nqueue 9",
    "a\rqueue 9",
    'a"b',
    "a'b c",
    "a$(HOME)",
    "$ENV(HOME)",
    "50%",
    "a\\",
    "a;b",
    "{x",
    "…",
]
CONDOR = "computeSite: s\nsite: {s: {profile: {condor: {%s: %s}}}}\n"
PLACES = {
    "environment": "environment: {A: %s}\n",
    "attributes": "attributes: {+A: %s}\n",
    "requirements": CONDOR % ("requirements", "%s"),
    "rank": CONDOR % ("rank", "%s"),
    "description": CONDOR % ("description", "%s"),
    **{
        key: f"{key}: %s\n"
        for key in (
            *("accountingGroup", "accountingUser", "concurrencyLimit", "containerImage"),
            *("project", "campaign", "operator", "payloadName", "s3EndpointUrl", "output"),
            "mergeConfig",
        )
    },
}
GOOD = {
    "containerImage": "docker://a/b",
    "mergeConfig": "/etc/c",
}


@pytest.mark.parametrize("place", PLACES)
def test_no_value_adds_a_line(tmp_path: Path, place: str) -> None:
    """Refused, or the same lines as with a value that is harmless."""
    template = PLACES[place]
    text = template.replace("%s", GOOD.get(place, "good"))
    expected = written(tmp_path / "good", text)
    n_refused = 0
    for number, value in enumerate(HOSTILE):
        quoted = msgspec.json.encode(value).decode()
        try:
            found = written(tmp_path / str(number), template.replace("%s", quoted))
        except ConfigurationError:
            n_refused += 1
        else:
            assert found == expected, value
            assert value not in ("a\nqueue 9", "a\rqueue 9", "a$(HOME)", "$ENV(HOME)")
    assert n_refused >= 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("payloadName: a/../../b", "payloadName: expected a word without .* found 'a/../../b'"),
        ("operator: ..", "operator: expected a word"),
        ("output: ../a", "output: expected the name of a collection"),
        ("output: /a", "output: expected the name of a collection"),
        ("memoryMultiplier: 1e400", "memoryMultiplier: .* <= 1000"),
        ("requestMemory: 99999999999999999999", "requestMemory: .* <= 2147483647|int64|range"),
        ("priority: -99999999999", "priority: .* >= -2147483647"),
    ],
)
def test_name_or_number_out_of_its_bounds(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "submit.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        read_submit_configuration(path)


@pytest.mark.parametrize("label", ["../x", "a/b", "a b", "a\nJOB b c.sub", "..", "a.b"])
def test_label_is_no_path(tmp_path: Path, label: str) -> None:
    """Labels of graphs and clusters are checked before; here is the last guard."""
    nodes = [Node(f"{label}_1", label, "jobs/1.json", ("1",))]
    directory = tmp_path / "dag"
    directory.mkdir()
    asked = SubmitConfiguration(worker_executable="/a", merge_executable="/b")
    with pytest.raises(ConfigurationError, match="expected letters, digits, _ and - only"):
        write_dag(directory, nodes, RUN, "s3://b/r", asked, {})
    assert {path.parent for path in tmp_path.rglob("*.sub")} <= {directory}


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 2**70])
def test_number_that_class_ads_lack_is_refused(tmp_path: Path, value: float) -> None:
    own = {"isr": Requests(attributes={"A": value})}
    asked = SubmitConfiguration(worker_executable="/a", merge_executable="/b", pipetask=own)
    with pytest.raises(ConfigurationError, match="isr: A: expected a number that ClassAds have"):
        write_dag(tmp_path, NODES, RUN, "s3://b/r", asked, {})
