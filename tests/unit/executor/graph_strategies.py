# SPDX-License-Identifier: BSD-3-Clause
"""Random graph files for Hypothesis: valid ones, with everything that the form allows."""

import uuid
from typing import Any

from hypothesis import strategies as st

Document = dict[str, Any]

_TEXTS = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12),
    st.sampled_from(
        ["", "..", "a/b", "x" * 300, "1", "yes", "2026-01-01", "null", "é ü", "\u2028"]
    ),
)
_INTEGERS = st.integers(-(2**63) + 1, 2**63 - 1) | st.integers(-3, 3)
_IDS = st.uuids(version=4).map(str)
_PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=5,
)
_DIMENSIONS = {"exposure": "int", "band": "str", "field": "str", "detector": "int"}
_TYPES = {
    "raw": ["exposure", "detector"],
    "named": ["field"],
    "image": ["band", "exposure"],
    "summary": [],
}
_LABELS = ["first", "second", "third"]


def data_ids(names: list[str]) -> st.SearchStrategy[Document]:
    """Data IDs with these dimensions."""
    kinds = {"int": _INTEGERS, "str": _TEXTS}
    return st.fixed_dictionaries({name: kinds[_DIMENSIONS[name]] for name in names})


def _name_of(pair: tuple[str, Document]) -> str:
    """A dataset type or task with its data ID, in which the order of dimensions means nothing."""
    return repr((pair[0], sorted(pair[1].items())))


@st.composite
def graph_documents(draw: st.DrawFn) -> Document:
    """A graph file: each quantum reads what those before it made and what is from outside."""
    datasets = draw(
        st.lists(
            st.sampled_from(sorted(_TYPES)).flatmap(
                lambda name: st.tuples(st.just(name), data_ids(_TYPES[name]))
            ),
            max_size=12,
            unique_by=_name_of,
        )
    )
    n_outside = draw(st.integers(0, len(datasets)))
    known, left = datasets[:n_outside], datasets[n_outside:]
    named = draw(
        st.lists(
            st.tuples(
                st.sampled_from(_LABELS),
                st.lists(st.sampled_from(sorted(_DIMENSIONS)), unique=True).flatmap(data_ids),
            ),
            max_size=6,
            unique_by=_name_of,
        )
    )
    quanta = []
    for label, data_id in named:
        n_made = draw(st.integers(0, len(left)))
        made, left = left[:n_made], left[n_made:]
        read = draw(st.lists(st.sampled_from(known), unique_by=repr)) if known else []
        quanta.append(_quantum(draw, label, data_id, read, made))
        known = known + made
    return {
        **draw(headers()),
        "inputs": [_outside(draw, name, data_id) for name, data_id in datasets[:n_outside]],
        "quanta": draw(st.permutations(quanta)),
    }


@st.composite
def headers(draw: st.DrawFn) -> Document:
    """Everything but inputs and quanta."""
    resources = {
        "cpus": st.integers(1, 64),
        "memory_mib": st.integers(1, 10**6),
        "scratch_mib": st.integers(1, 10**6),
        "wall_s": st.floats(0.001, 1e6),
    }
    optional = st.lists(st.sampled_from(sorted(_TYPES)), unique=True)
    task = st.fixed_dictionaries(
        {"command": st.lists(_TEXTS.filter(bool), min_size=1, max_size=3)},
        optional={
            "config": st.dictionaries(_TEXTS, _PLAIN, max_size=3),
            "environment": st.dictionaries(_TEXTS, _TEXTS.filter(bool), max_size=2),
            "resources": st.fixed_dictionaries({}, optional=resources),
            "optional_inputs": optional,
            "optional_outputs": optional,
        },
    )
    records = st.lists(
        st.tuples(data_ids(["exposure"]), st.dictionaries(st.sampled_from("xyz"), _PLAIN)),
        unique_by=lambda pair: repr(pair[0]),
        max_size=3,
    )
    return {
        "quantum_graph": 1,
        "name": draw(_TEXTS.filter(bool)),
        "run": "u/tester/random",
        **draw(st.fixed_dictionaries({}, optional={"graph_id": _IDS})),
        "dimensions": _DIMENSIONS,
        "dataset_types": {
            name: {"dimensions": dimensions, "storage_class": "File", "extension": ".txt"}
            for name, dimensions in _TYPES.items()
        },
        "dimension_records": {"exposure": [{**key, **facts} for key, facts in draw(records)]},
        "tasks": {label: draw(task) for label in draw(st.permutations(_LABELS))},
    }


def _quantum(draw: st.DrawFn, label: str, data_id: Document, read: Any, made: Any) -> Document:
    both = {"inputs": _by_type(read), "outputs": _by_type(made)}
    document: Document = {"task": label, "data_id": data_id, **both}
    if draw(st.booleans()):
        document["quantum_id"] = draw(_IDS)
    names = [name for name, _ in made]
    if draw(st.booleans()) and names:
        name = draw(st.sampled_from(names))
        ids = draw(
            st.lists(_IDS | st.none(), min_size=names.count(name), max_size=names.count(name))
        )
        document["dataset_ids"] = {name: ids}
    return document


def _by_type(datasets: list[tuple[str, Document]]) -> dict[str, list[Document]]:
    found: dict[str, list[Document]] = {}
    for name, data_id in datasets:
        found.setdefault(name, []).append(data_id)
    return found


def _outside(draw: st.DrawFn, name: str, data_id: Document) -> Document:
    source = {"key": f"raw/{uuid.uuid5(uuid.NAMESPACE_OID, repr(data_id))}.txt"}
    if draw(st.booleans()):
        source = {"producer": draw(_IDS)}
    facts = {
        "size_bytes": st.integers(0, 2**63 - 1),
        "checksum": st.binary(min_size=32, max_size=32).map(lambda raw: f"sha256:{raw.hex()}"),
        "dataset_id": _IDS,
    }
    known = draw(st.fixed_dictionaries({}, optional=facts))
    run = draw(st.sampled_from(["raw/all", "u/tester/random", "u/other/run"]))
    return {"dataset_type": name, "data_id": data_id, "run": run, **source, **known}
