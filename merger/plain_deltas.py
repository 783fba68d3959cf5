# SPDX-License-Identifier: BSD-3-Clause
"""The quick look: which deltas are plainly good, found for some hundred at once.

`delta_checks.check_delta` says what is good, and why something is not; it takes several times as
long. Whatever a quick look is not sure of goes there, so it may be narrower than the rules and
never wider; a test holds it to that.
"""

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from merger.delta_checks import BadDelta, BadDeltaError, GoodDelta, ReadDeltas, check_delta
from merger.packed_ids import pack_ids, with_place
from merger.predictions import PredictedGraph, Predictions
from registry import delta as delta_format
from registry import names
from registry.attempt import AttemptStatus
from registry.delta import Delta
from registry.errors import NewerFormatError
from registry.structs import bounded_delta_decoder

Contents = Sequence[tuple[str, bytes]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]

_HEAD = b'{"checksum":"sha256:'
_BODY = len(_HEAD) + 64 + 2
_decode = bounded_delta_decoder().decode
_encode = msgspec.json.Encoder().encode

# What `names.check_key` refuses: an empty, '.' or '..' part, a control character.
_ODD_KEY = r"(^|/)\.{0,2}(/|$)|[\x00-\x1f]"


def check_deltas(contents: Contents, predictions: Predictions) -> ReadDeltas:
    """Verify, decode and check deltas; the same as `check_delta` of each, and faster.

    Parameters
    ----------
    contents
        Key and bytes of each.
    """
    found = ReadDeltas()
    newest = delta_format.DELTA_FORMAT
    decoded = [_decode_plain(key, content, predictions.run, newest) for key, content in contents]
    looked_at = [good for good in decoded if good is not None]
    plain: set[str] = set()
    for graph_id in {good.delta.graph_id for good in looked_at} & predictions.graphs.keys():
        of_graph = [good for good in looked_at if good.delta.graph_id == graph_id]
        is_plain = _look(of_graph, predictions.run, predictions.graphs[graph_id])
        plain.update(good.key for good, is_one in zip(of_graph, is_plain, strict=True) if is_one)
    for (key, content), good in zip(contents, decoded, strict=True):
        if good is not None and key in plain:
            found.good.append(good)
        else:
            _check_slowly(found, key, content, predictions)
    return found


def _check_slowly(found: ReadDeltas, key: str, content: bytes, predictions: Predictions) -> None:
    try:
        found.good.append(check_delta(content, key, predictions))
    except BadDeltaError as error:
        found.bad.append(BadDelta(key, error.reason, str(error)))
    except NewerFormatError:
        found.newer.append(key)


def _decode_plain(key: str, content: bytes, run: str, newest: int) -> GoodDelta | None:
    """Verify and decode a delta of the newest format; None if anything is odd about it."""
    body = memoryview(content)[_BODY:]
    digest = hashlib.sha256(body).hexdigest()
    if not content.startswith(b'%b%b","format":%d,' % (_HEAD, digest.encode(), newest)):
        return None
    try:
        delta = _decode(b"".join((b"{", body)))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if delta.run != run or delta.format != newest or not _is_plain(delta):
        return None
    if key != names.delta_key(run, delta.quantum_id, delta.attempt_id):
        return None
    return GoodDelta(key, f"sha256:{digest}", delta)


def _is_plain(delta: Delta) -> bool:
    """Whether a delta does not contradict itself, as far as it can be told of it alone."""
    rows = delta.rows
    ids = [row.dataset_id for row in rows.dataset]
    if ids:
        if delta.status is not AttemptStatus.SUCCESSFUL or not _are_distinct(ids):
            return False
        if not _are_distinct([row.dataset_type for row in rows.dataset]):
            return False
    if delta.not_kept:
        not_kept = set(delta.not_kept)
        if len(not_kept) != len(delta.not_kept) or not not_kept.issubset(ids):
            return False
        ids = [dataset_id for dataset_id in ids if dataset_id not in not_kept]
    if ids != [record.dataset_id for record in rows.datastore_record]:
        return False
    if not _are_distinct([read.dataset_id for read in delta.inputs]):
        return False
    if len(rows.dimension_record) > 1 or not _are_distinct([m.name for m in rows.metric]):
        return False
    try:
        times = datetime.fromisoformat(delta.started), datetime.fromisoformat(delta.finished)
    except ValueError:
        return False
    return times[0].tzinfo is not None and times[1].tzinfo is not None


def _are_distinct(values: list[str]) -> bool:
    return len(values) < 2 or len(set(values)) == len(values)


def _look(goods: Sequence[GoodDelta], run: str, graph: PredictedGraph) -> Iterable[bool]:
    """Compare deltas of one graph with what it predicts, and their keys with the RUN."""
    deltas = [good.delta for good in goods]
    n_rows = [len(delta.rows.dataset) for delta in deltas]
    owners = np.repeat(np.arange(len(deltas)), n_rows)
    rows = [row for delta in deltas for row in delta.rows.dataset]
    try:
        quanta = pack_ids([delta.quantum_id for delta in deltas])
        pack_ids([delta.attempt_id for delta in deltas])
        ids = pack_ids([row.dataset_id for row in rows])
    except ValueError:
        return [False] * len(deltas)
    is_plain, places = _look_at_quanta(deltas, graph, quanta)
    predicted = with_place(*graph.quanta.outputs_at(places)[::-1])
    is_odd = ~np.isin(with_place(owners, ids), predicted)
    types = np.array([row.dataset_type in graph.dataset_types for row in rows], bool)
    is_plain[owners[is_odd | ~types]] = False
    n_records = [len(delta.rows.datastore_record) for delta in deltas]
    is_plain[np.repeat(np.arange(len(deltas)), n_records)[_are_keys_odd(deltas, run)]] = False
    plain: list[bool] = is_plain.tolist()
    return plain


def _look_at_quanta(
    deltas: Sequence[Delta], graph: PredictedGraph, quanta: Any
) -> tuple[Mask, "np.ndarray[Any, np.dtype[np.int64]]"]:
    """Tell which deltas have task and data ID of their quantum, and where the quanta are."""
    places = graph.quanta.find(quanta)
    is_plain = places >= 0
    places[~is_plain] = 0
    if not len(graph.quanta.ids):
        return is_plain, places[:0]
    numbers = {label: number for number, label in enumerate(graph.quanta.labels)}
    labels = np.array([numbers.get(delta.task_label, -1) for delta in deltas])
    is_plain &= labels == graph.quanta.label_places[places]
    data_ids = graph.quanta.data_ids.take(pa.array(places)).to_pylist()
    is_plain &= [
        _encode(delta.data_id) == data_id for delta, data_id in zip(deltas, data_ids, strict=True)
    ]
    return is_plain, places


def _are_keys_odd(deltas: Sequence[Delta], run: str) -> Mask:
    """Tell which objects of datasets do not have a key below the RUN."""
    keys = pa.array(
        [record.object_key for delta in deltas for record in delta.rows.datastore_record],
        pa.string(),
    )
    is_odd = pc.or_(
        pc.or_(
            pc.match_substring_regex(keys, _ODD_KEY),
            pc.invert(pc.starts_with(keys, f"{run}/")),
        ),
        pc.starts_with(keys, names.control_prefix(run)),
    )
    found: Mask = is_odd.to_numpy(zero_copy_only=False)
    return found
