# SPDX-License-Identifier: BSD-3-Clause
"""Whatever a delta says: what counts for a worker is nothing that the merger quarantines."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from merger.delta_checks import BadDeltaError, check_delta
from merger.predictions import Predictions, read_predictions
from registry import names
from registry.delta import delta_body, read_delta, write_delta
from registry.errors import FormatError
from registry.model import DimensionRecord
from tests import factories
from tests.changed_json import Place, at, changed_delta, places
from transfer_plugins.deltas import IsTrusted, trusting
from transfer_plugins.object_store import DirectoryObjectStore

GRAPH = factories.make_graph()
DELTA = factories.make_delta(
    GRAPH, dimension_record=[DimensionRecord("exposure", {"exposure": 0}, {"airmass": 1.25})]
)
KEY = names.delta_key(DELTA.run, DELTA.quantum_id, DELTA.attempt_id)
BODY = json.loads(delta_body(write_delta(DELTA)))
OTHER = json.loads(delta_body(write_delta(factories.make_delta(GRAPH, 1))))

Sides = tuple[Predictions, IsTrusted]


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Sides:
    """What the merger knows, and what a worker knows that has the job."""
    store = DirectoryObjectStore(tmp_path_factory.mktemp("store"))
    factories.publish(store, GRAPH)
    job = factories.make_job(GRAPH)
    return read_predictions(store, GRAPH.run), trusting(store, job, GRAPH.run, job.graph_id)


def counts(content: bytes, is_trusted: IsTrusted) -> bool:
    try:
        return is_trusted(read_delta(content, KEY))
    except FormatError:
        return False


def is_merged(content: bytes, predictions: Predictions) -> bool:
    try:
        check_delta(content, KEY, predictions)
    except (BadDeltaError, FormatError):
        return False
    return True


PLACES = places(BODY)
# What stands elsewhere in this delta, or in that of another quantum, is the likeliest forgery.
values: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from([at(BODY, place) for place in PLACES]),
    st.sampled_from([at(OTHER, place) for place in places(OTHER)]),
    st.sampled_from([None, True, 0, -1, 2**63, 1.5, "", "\0", [], {}, "x" * 201, [{}], [1, 1]]),
)


@given(st.sampled_from(PLACES), values)
@settings(max_examples=1500, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(("rows", "dataset"), OTHER["rows"]["dataset"])
@example(("graph_id",), OTHER["quantum_id"])
def test_what_counts_is_merged(sides: Sides, place: Place, value: object) -> None:
    predictions, is_trusted = sides
    content = changed_delta(BODY, place, value)
    if counts(content, is_trusted):
        assert is_merged(content, predictions)


@given(st.sampled_from(PLACES), values)
@settings(max_examples=1500, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_merged_counts_unless_an_output_is_another(
    sides: Sides, place: Place, value: object
) -> None:
    """The merger does not know types, data IDs and paths of single outputs; a job does."""
    predictions, is_trusted = sides
    content = changed_delta(BODY, place, value)
    if is_merged(content, predictions) and place[0] != "rows":
        assert counts(content, is_trusted)


def test_delta_itself_counts_and_is_merged(sides: Sides) -> None:
    predictions, is_trusted = sides
    for content in (write_delta(DELTA), factories.in_format(1, DELTA)):
        assert counts(content, is_trusted)
        assert is_merged(content, predictions)
