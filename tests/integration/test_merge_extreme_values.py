# SPDX-License-Identifier: BSD-3-Clause
"""Extreme values of a delta: in the central registry as they were, or in the quarantine."""

import dataclasses
import hashlib
import sys
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from merger.delta_checks import Reason
from registry.attempt import AttemptStatus
from registry.delta import DeltaError, LogEntry, MetricRow, ResourceUse, read_delta
from registry.job import ResourceRequest
from registry.model import DimensionRecord
from tests import dumps, factories
from tests.fix_merge import MergeSite

SMILE = "\N{GRINNING FACE}"
# The entries of an index are compressed, so only what cannot be is too long for one.
INCOMPRESSIBLE = hashlib.shake_128(b"").hexdigest(3000)

KEPT: dict[str, dict[str, Any]] = {
    "numbers": {
        "metric": [
            MetricRow(f"m{place}", value)
            for place, value in enumerate((1e308, -sys.float_info.max, 5e-324, -0.0, 2.0**53 + 2))
        ],
        "resources": ResourceUse(1e308, 1e308, 1e308, *[2**63 - 1] * 4),
        "requested": ResourceRequest(2**63 - 1, 2**31, 0, 1e308),
    },
    "names of metrics": {
        "metric": [
            MetricRow(name, 1.0)
            for name in ("", " ", SMILE * 500, "a" * 100_000, 'x"\\\n\t', "A\u0308", "\u00c4")
        ]
    },
    "versions": {
        "versions": {f"{SMILE * 196}{number:03}": SMILE * 200 for number in range(200)},
    },
    "odd versions": {"versions": {"": "", " ": "\u202e", "a": "\\u0041\n", "\ufeff": "\U0010ffff"}},
    "wrapper log": {"wrapper_log": [LogEntry(1e308, SMILE * 200, {"\0": "\0"})] * 200},
    "texts": {"host": SMILE * 50_000, "log_key": "a" * 100_000},
    "dimension records": {
        "dimension_record": [
            DimensionRecord("d", {"d": SMILE * 300}, {"n": [1e308, 10**300, None, {"": "'\"--"}]})
        ]
    },
}

REFUSED: dict[str, dict[str, Any]] = {
    "metric too long for the index": {"metric": [MetricRow(INCOMPRESSIBLE, 1.0)]},
    "metric with NUL": {"metric": [MetricRow("\0", 1.0)]},
    "key of a dimension record": {
        "dimension_record": [DimensionRecord("d", {"d": INCOMPRESSIBLE}, {})]
    },
    "read_bytes": {"resources": ResourceUse(0.0, 0.0, 0.0, 0, read_bytes=2**63)},
    "write_bytes": {"resources": ResourceUse(0.0, 0.0, 0.0, 0, write_bytes=-(2**63) - 1)},
    "scratch_bytes": {"resources": ResourceUse(0.0, 0.0, 0.0, 0, scratch_bytes=10**30)},
    "max_rss_bytes": {"resources": ResourceUse(0.0, 0.0, 0.0, 2**63)},
}


@pytest.mark.parametrize("case", KEPT)
def test_extreme_value_arrives_as_it_was(site: MergeSite, case: str) -> None:
    delta = site.delta(0, 1, **KEPT[case])
    site.put(delta, site.delta(1, 2))
    report = site.merge()
    assert (report.counts.n_deltas, report.quarantined) == (2, [])
    use = delta.resources
    row = (use.read_bytes, use.write_bytes, use.scratch_bytes, delta.versions, delta.host)
    columns = "read_bytes, write_bytes, scratch_bytes, versions, host"
    found = site.rows(f"SELECT {columns} FROM attempt WHERE attempt_id = %s", delta.attempt_id)
    assert found == [row]
    assert delta.requested is not None
    ((requested,),) = site.rows(
        "SELECT requested FROM attempt WHERE attempt_id = %s", delta.attempt_id
    )
    assert float(requested.pop("wall_s")) == delta.requested.wall_s
    assert requested | {"wall_s": delta.requested.wall_s} == dataclasses.asdict(delta.requested)
    metrics = site.rows("SELECT name, value FROM metric WHERE attempt_id = %s", delta.attempt_id)
    assert sorted(metrics) == sorted((m.name, m.value) for m in delta.rows.metric)
    assert site.differences() == []


@pytest.mark.parametrize("case", REFUSED)
def test_extreme_value_is_refused_and_nothing_else(site: MergeSite, case: str) -> None:
    site.put(site.delta(1, 2))
    (key,) = site.put(site.delta(0, 1, **REFUSED[case]))
    report = site.merge()
    assert [(bad.key, bad.reason) for bad in report.quarantined] == [
        (key, Reason.REFUSED_BY_DATABASE)
    ]
    assert report.counts.n_deltas == 1
    assert [finding.kind for finding in site.differences()] == ["delta_bad"]


def test_many_refused_deltas_cost_little_more_than_one(
    site: MergeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are found together, and the messages are those of deltas merged one by one."""
    graph = factories.make_graph(60, name="wide")
    factories.publish(site.store, graph)
    cases = list(REFUSED.values())
    bad = [factories.make_delta(graph, n, n, **cases[n % len(cases)]) for n in range(0, 60, 2)]
    site.put(*bad, *(factories.make_delta(graph, n, n) for n in range(1, 60, 2)))
    transactions = []
    transact = site.registry.transact

    def count(work: Any, *, alone: bool = False) -> Any:
        transactions.append(alone)
        return transact(work, alone=alone)

    with monkeypatch.context() as counting:
        counting.setattr(site.registry, "transact", count)
        report = site.merge()
    assert (report.counts.n_deltas, len(report.quarantined)) == (30, 30)
    # By halves it would take more than two for each of the 30.
    assert len(transactions) < 20
    found = site.rows("SELECT delta_key, reason, message FROM quarantine ORDER BY 1")
    dumps.empty(site.address)
    site.merge(batch_size=1)
    assert site.rows("SELECT delta_key, reason, message FROM quarantine ORDER BY 1") == found


numbers = st.integers(-(2**70), 2**70)
seconds = st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.builds(ResourceUse, seconds, seconds, seconds, *[numbers] * 4),
    st.none() | st.builds(ResourceRequest, numbers, numbers, numbers, st.none() | seconds),
    st.dictionaries(st.text(max_size=210), st.text(max_size=210), max_size=4),
    st.lists(st.builds(MetricRow, st.text(), seconds), max_size=3, unique_by=lambda m: m.name),
)
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_any_value_is_merged_or_quarantined(
    site: MergeSite,
    resources: ResourceUse,
    requested: ResourceRequest | None,
    versions: dict[str, str],
    metrics: list[MetricRow],
) -> None:
    """Whatever it is, verify finds what was merged equal, and the other attempt is merged."""
    dumps.empty(site.address)
    changes = {"resources": resources, "requested": requested, "versions": versions}
    failed = site.delta(0, 1, status=AttemptStatus.FAILED, metric=metrics, **changes)
    (key,) = site.put(failed)
    site.put(site.delta(1, 2))
    report = site.merge()
    assert report.counts.n_deltas + len(report.quarantined) == 2
    try:
        read_delta(site.store.get(key), key)
    except DeltaError:
        assert [bad.reason for bad in report.quarantined] == [Reason.BAD_ROWS]
    expected = ["delta_bad"] * len(report.quarantined)
    assert [finding.kind for finding in site.differences()] == expected
    assert site.rows("SELECT count(*) FROM quantum WHERE status = 'successful'") == [(1,)]
