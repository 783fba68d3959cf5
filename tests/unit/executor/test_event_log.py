# SPDX-License-Identifier: BSD-3-Clause
"""The event log: read as HTCondor's own reader does, in whatever pieces it comes."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.submit.event_log import EventLog, parse_event
from tests.recorded_logs import NAMES, RECORDED

CONTENT = (RECORDED / "failures" / "run.dag.nodes.log").read_bytes()

# A process of its own: the bindings look for a configuration of HTCondor when they are imported.
HTCONDORS_READER = """
import sys, warnings
warnings.simplefilter("ignore")
import htcondor2
for event in htcondor2.JobEventLog(sys.argv[1]).events(stop_after=0):
    print(int(event.type), f"{event.cluster}.{event.proc}", int(event.timestamp))
"""


def told(path: Path) -> list[tuple[int, str, float]]:
    """The events of a log, without their texts."""
    return [(event.number, event.job, event.time_s) for event in EventLog(path).events()]


@pytest.mark.parametrize("name", NAMES)
def test_events_are_those_of_htcondors_reader(name: str) -> None:
    for path in (RECORDED / name).glob("*.log"):
        done = subprocess.run(
            [sys.executable, "-c", HTCONDORS_READER, path],
            capture_output=True,
            text=True,
            check=True,
            env={"CONDOR_CONFIG": "ONLY_ENV"},
        )
        words = [line.split() for line in done.stdout.splitlines()]
        assert [(int(n), job, float(time)) for n, job, time in words] == told(path)


@given(st.lists(st.integers(0, len(CONTENT)), max_size=5))
def test_log_that_grows_in_pieces_is_read_the_same(cuts: list[int]) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "log"
        path.write_bytes(CONTENT)
        whole = told(path)
        log, found = EventLog(path), []
        for end in [*sorted(cuts), len(CONTENT)]:
            path.write_bytes(CONTENT[:end])
            assert not log.is_another()
            found += [(event.number, event.job, event.time_s) for event in log.events()]
        assert found == whole
        assert log.n_unreadable == 0


@given(st.integers(0, len(CONTENT)), st.binary(max_size=40))
def test_damage_costs_no_more_than_the_events_it_hits(place: int, junk: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "log"
        path.write_bytes(CONTENT)
        n_whole = len(told(path))
        path.write_bytes(CONTENT[:place] + junk + CONTENT[place + len(junk) :])
        assert len(told(path)) >= n_whole - 40 // 4


def test_event_behind_one_that_was_cut_off_is_read() -> None:
    cut = "006 (001.000.000) 2026-01-01 00:00:00 Image size\n\t77  -\n"
    found = parse_event(cut + "001 (002.000.000) 2026-01-01 00:00:01 Job executing on host: x")
    assert found is not None
    assert (found.number, found.job) == (1, "2.0")


@pytest.mark.parametrize("text", ["", "junk", "001 (1.0.0) 2026-13-01 00:00:00 x", "x\n\0\n"])
def test_what_is_no_event_is_none(text: str) -> None:
    assert parse_event(text) is None


@pytest.mark.parametrize(
    "time", ["01/02 03:04:05", "2026-01-02T03:04:05.123Z", "2026-01-02 03:04:05.123"]
)
def test_every_form_of_time_is_read(time: str) -> None:
    assert parse_event(f"001 (002.000.000) {time} Job executing on host: x") is not None


def test_replaced_log_is_read_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = EventLog(path)
    assert list(log.events()) == []
    path.write_bytes(CONTENT)
    assert len(list(log.events())) > 10
    path.write_bytes((RECORDED / "rescue" / "run.dag.nodes.log").read_bytes())
    assert log.is_another()
    assert next(e.job for e in log.events()) == "16.0"
