# SPDX-License-Identifier: BSD-3-Clause
"""Which sides stay: the rule of the merger against the plainest way to write it down."""

from dataclasses import replace
from itertools import permutations

from hypothesis import given, settings
from hypothesis import strategies as st

from merger.conflict_choice import choose, claims_of, refuse
from merger.conflict_policy import parse
from merger.conflict_records import Decision
from merger.dataset_conflicts import Side
from tests.conflict_model import Claim, stay
from tests.factories import attempt

Rules = dict[str, tuple[str, str | None]]


def make_side(number: int | None, dataset_id: int, place: int) -> Side:
    return Side(
        dataset_id=f"00000000-0000-0000-0000-00000000000{dataset_id}",
        run="r",
        dataset_type="image",
        data_id=f'{{"exposure":{place}}}',
        quantum_id=None,
        attempt_id=None if number is None else attempt(number),
        object_key="r/key",
        size_bytes=1,
        checksum="sha256:0",
        storage_class="Fits",
    )


def name_of(side: Side) -> str:
    return f"{side.dataset_id} {side.attempt_id or ''}"


def claim_of(side: Side) -> Claim:
    return Claim(side.attempt_id or "", side.dataset_id, side.keys[1], ())


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[Side], Rules]:
    """Sides that claim few ids and data IDs, and what was decided about some of these."""
    places = st.tuples(st.integers(0, 3), st.integers(0, 3))
    drawn = draw(st.lists(places, min_size=1, max_size=8))
    sides = [make_side(number, *place) for number, place in enumerate(drawn, 1)]
    if draw(st.booleans()):
        sides[0] = replace(sides[0], attempt_id=None)
    keys = sorted(claims_of(sides))
    rules: Rules = {}
    for key in draw(st.lists(st.sampled_from(keys), unique=True)):
        kind = draw(st.sampled_from(["keep", "replace", "chosen"]))
        chosen = draw(st.sampled_from(sides))
        rules[key] = (kind, name_of(chosen) if kind == "chosen" else None)
    return sides, rules


@given(cases())
@settings(max_examples=1000)
def test_choice_is_that_of_the_model(case: tuple[list[Side], Rules]) -> None:
    sides, rules = case
    decisions = {key: Decision(kind, chosen) for key, (kind, chosen) in rules.items()}
    kept = choose(claims_of(sides), decisions, {side: name_of(side) for side in sides})
    assert {claim_of(side) for side in kept} == stay({claim_of(side) for side in sides}, rules)


def test_sides_without_an_attempt_are_told_apart_by_content() -> None:
    """Whatever the order in which they are looked at."""
    sides = [replace(make_side(None, 1, 1), checksum=f"sha256:{n}") for n in range(3)]
    chosen = [choose(claims_of(order), {}, {}) for order in permutations(sides)]
    assert chosen == [{sides[0]}] * 6


def test_decisions_that_contradict_each_other() -> None:
    """Each side is first in one of two keys that both claim: what is decided goes first."""
    old, new = make_side(1, 1, 1), make_side(2, 1, 1)
    for key in old.keys:
        assert choose(claims_of([old, new]), {key: Decision("keep")}, {}) == {old}
    both = {old.keys[0]: Decision("keep"), old.keys[1]: Decision("replace")}
    assert choose(claims_of([old, new]), both, {}) == {new}


def test_older_attempt_is_not_refused() -> None:
    """Refused is who meets a side that was there, or an older one that is not refused itself."""
    first, second, third = make_side(1, 1, 1), make_side(2, 1, 2), make_side(3, 3, 2)
    refused = refuse([third, first, second], [], (), parse(["fail"]))
    assert [refusal.attempt_id for refusal in refused] == [attempt(2)]
    refused = refuse([third, second], [first], (), parse(["fail"]))
    assert [refusal.attempt_id for refusal in refused] == [attempt(2)]
    assert refuse([second], [first], {first.keys[0]}, parse(["fail"])) == []
