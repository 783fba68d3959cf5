# SPDX-License-Identifier: BSD-3-Clause
"""The quick look at many deltas finds what the slow one finds of each."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from merger import plain_deltas
from merger.delta_checks import BadDelta, BadDeltaError, ReadDeltas, check_delta
from merger.plain_deltas import check_deltas
from merger.predictions import Predictions, read_predictions
from registry import names
from registry.delta import delta_body, write_delta
from registry.errors import NewerFormatError
from registry.model import DimensionRecord
from tests import factories
from tests.changed_json import Place, at, changed_delta, places
from tests.factories import framed
from transfer_plugins.object_store import DirectoryObjectStore

GRAPH = factories.make_graph(4)
RECORD = DimensionRecord("exposure", {"exposure": 0}, {"airmass": 1.25})
DELTAS = [factories.make_delta(GRAPH, n, n, dimension_record=[RECORD]) for n in range(4)]
DELTAS[3] = factories.without_record(DELTAS[3], DELTAS[3].rows.dataset[0].dataset_id)
CONTENTS = [(names.delta_key(d.run, d.quantum_id, d.attempt_id), write_delta(d)) for d in DELTAS]
BODY = json.loads(delta_body(CONTENTS[1][1]))
OTHER = json.loads(delta_body(CONTENTS[2][1]))


@pytest.fixture(scope="module")
def predictions(tmp_path_factory: pytest.TempPathFactory) -> Predictions:
    store = DirectoryObjectStore(tmp_path_factory.mktemp("store"))
    factories.publish(store, GRAPH)
    return read_predictions(store, GRAPH.run)


def one_by_one(contents: list[tuple[str, bytes]], predictions: Predictions) -> ReadDeltas:
    found = ReadDeltas()
    for key, content in contents:
        try:
            found.good.append(check_delta(content, key, predictions))
        except BadDeltaError as error:
            found.bad.append(BadDelta(key, error.reason, str(error)))
        except NewerFormatError:
            found.newer.append(key)
    return found


def shown(found: ReadDeltas) -> object:
    goods = [(good.key, good.checksum, msgspec.to_builtins(good.delta)) for good in found.good]
    return goods, found.bad, found.newer


PLACES = places(BODY)
ODD_KEYS = [f"{GRAPH.run}/{rest}" for rest in ("", "/a", "./a", "a/..", "a\n", "quantum-exec/a")]
values: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from([at(BODY, place) for place in PLACES]),
    st.sampled_from([at(OTHER, place) for place in places(OTHER)]),
    st.sampled_from([None, True, 0, -1, 2**63, 1.5, "", "\0", [], {}, "x" * 201, [{}], [1, 1]]),
    st.sampled_from([*ODD_KEYS, "2026-01-02", "2026-01-02T03:04:05", "2026-01-02T03:04:05Z"]),
    st.integers(199, 202).map(lambda number: {str(n): "x" for n in range(number)}),
    st.integers(199, 202).map(lambda n: [{"elapsed_s": 0, "event": "e", "facts": {}}] * n),
    st.text(max_size=3).map(lambda text: {"n": text, "x" * 201: 1}),
)
TEXTS = ("rows", "datastore_record", 0, "object_key")


@given(st.sampled_from(PLACES), values)
@settings(max_examples=1500, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(("rows", "dataset"), OTHER["rows"]["dataset"])
@example(("rows", "dataset"), BODY["rows"]["dataset"][::-1])
@example(("rows", "metric"), BODY["rows"]["metric"] * 2)
@example(("rows", "dimension_record"), BODY["rows"]["dimension_record"] * 2)
@example(("inputs",), BODY["inputs"] * 2)
@example(("not_kept",), [BODY["rows"]["dataset"][0]["dataset_id"]])
@example(("not_kept",), [OTHER["rows"]["dataset"][0]["dataset_id"]])
@example(("graph_id",), OTHER["quantum_id"])
@example(TEXTS, ODD_KEYS[2])
@example(TEXTS, ODD_KEYS[4])
@example(TEXTS, f"{GRAPH.run}x/a")
@example(("versions",), {"x" * 201: "1"})
@example(("wrapper_log", 0, "facts"), {"x": "y" * 201})
@example(("data_id",), {"detector": 1, "exposure": 1})
def test_same_as_one_by_one(predictions: Predictions, place: Place, value: object) -> None:
    contents = [CONTENTS[0], (CONTENTS[1][0], changed_delta(BODY, place, value)), *CONTENTS[2:]]
    expected = one_by_one(contents, predictions)
    assert shown(check_deltas(contents, predictions)) == shown(expected)


@given(st.integers(0, len(CONTENTS[1][1]) - 1), st.binary(max_size=3), st.integers(0, 3))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_same_for_any_damage(
    predictions: Predictions, place: int, inserted: bytes, n_removed: int
) -> None:
    key, content = CONTENTS[1]
    damaged = content[:place] + inserted + content[place + n_removed :]
    contents = [CONTENTS[0], (key, damaged), *CONTENTS[2:]]
    expected = one_by_one(contents, predictions)
    assert shown(check_deltas(contents, predictions)) == shown(expected)


def test_same_for_other_keys_and_formats(predictions: Predictions) -> None:
    (first, content), (second, other), *_ = CONTENTS
    newer = content.replace(b'"format":3', b'"format":4').partition(b",")[2]
    contents = [
        *((first, other), (second, factories.in_format(1, DELTAS[1]))),
        *((first, framed(newer)), ("elsewhere", content), (second, b"")),
    ]
    expected = one_by_one(contents, predictions)
    assert (len(expected.good), len(expected.bad), len(expected.newer)) == (1, 3, 1)
    assert shown(check_deltas(contents, predictions)) == shown(expected)


def test_good_deltas_are_looked_at_once(
    predictions: Predictions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plain_deltas, "check_delta", None)
    assert [good.key for good in check_deltas(CONTENTS, predictions).good] == [
        key for key, _ in CONTENTS
    ]
    assert check_deltas([], predictions).n_keys == 0
