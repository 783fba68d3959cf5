# SPDX-License-Identifier: BSD-3-Clause
"""Attempt ids: UUIDv7, ordered in time, and behind the attempt that they follow."""

import time
import uuid

import pytest

from registry.attempt import attempt_milliseconds, new_attempt_id, short_attempt

N_IDS = 2000


def test_attempt_id_is_a_uuid_of_version_7() -> None:
    made = uuid.UUID(new_attempt_id())
    assert (made.version, made.variant) == (7, uuid.RFC_4122)


def test_attempt_id_carries_the_time_in_milliseconds() -> None:
    before = time.time_ns() // 1_000_000
    made = attempt_milliseconds(new_attempt_id())
    assert before <= made <= time.time_ns() // 1_000_000


def test_ids_sort_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    for second in (1, 2, 1_800_000_000, 1_800_000_001, 5_000_000_000):
        monkeypatch.setattr(time, "time_ns", lambda second=second: second * 1_000_000_000)
        made.append(new_attempt_id())
    assert made == sorted(made)


def test_id_sorts_behind_the_one_it_follows_though_the_clock_is_slow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ahead = new_attempt_id()
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    followers = [new_attempt_id(after=ahead)]
    for _ in range(100):
        followers.append(new_attempt_id(after=followers[-1]))
    assert [ahead, *followers] == sorted({ahead, *followers})


def test_clock_that_is_right_is_kept() -> None:
    old = "00000000-0001-7000-8000-000000000000"
    assert attempt_milliseconds(new_attempt_id(after=old)) > 1_600_000_000_000


def test_id_after_the_last_possible_time_does_not_begin_anew() -> None:
    last = "ffffffff-ffff-7fff-bfff-ffffffffffff"
    assert new_attempt_id(after=last).startswith("ffffffff-ffff-7")


def test_ids_and_their_short_forms_are_unique() -> None:
    made = {new_attempt_id() for _ in range(N_IDS)}
    assert len(made) == len({short_attempt(attempt) for attempt in made}) == N_IDS


def test_short_form_sorts_as_the_id_does() -> None:
    made = [new_attempt_id()]
    for _ in range(100):
        made.append(new_attempt_id(after=made[-1]))
    short = [short_attempt(attempt) for attempt in made]
    assert short == sorted(short)
    assert all(len(text) == 20 and text.isalnum() for text in short)
