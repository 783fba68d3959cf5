# SPDX-License-Identifier: BSD-3-Clause
"""Many transfers at once."""

import sys
import threading

import pytest

from transfer_plugins.concurrency import map_concurrently

TIMEOUT_S = 30


def test_results_come_in_the_order_of_the_arguments() -> None:
    second_is_done = threading.Event()

    def square(number: int) -> int:
        if number == 0:
            assert second_is_done.wait(TIMEOUT_S)
        elif number == 1:
            second_is_done.set()
        return number * number

    assert map_concurrently(square, range(40)) == [n * n for n in range(40)]
    assert map_concurrently(square, []) == []
    assert map_concurrently(square, [7]) == [49]


def test_as_many_are_under_way_as_are_allowed() -> None:
    together = threading.Barrier(4)
    map_concurrently(lambda number: together.wait(TIMEOUT_S), range(8), threads=4)


def test_first_error_is_raised_and_drops_what_was_not_begun() -> None:
    begun, ended = [], []
    failed, never = threading.Event(), threading.Event()

    def transfer(number: int) -> None:
        begun.append(number)
        if number == 1:
            failed.set()
            raise LookupError("object 1")
        assert failed.wait(TIMEOUT_S)
        if number > 1:
            never.wait(0.05)
        ended.append(number)

    with pytest.raises(LookupError, match="object 1"):
        map_concurrently(transfer, range(1000), threads=2)
    # A thread may begin one more, or a few, in the moment before the failure is known.
    assert sorted(begun[:2]) == [0, 1]
    assert len(begun) <= 20
    assert len(ended) == len(begun) - 1, "what is under way ends; it is not abandoned"


def test_error_of_a_later_argument_is_raised_as_itself() -> None:
    """A thread that took the argument before may come to it only when the error is known."""

    def transfer(number: int) -> None:
        if number == 1:
            raise LookupError("object 1")

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(300):
            with pytest.raises(LookupError, match="object 1"):
                map_concurrently(transfer, range(4))
    finally:
        sys.setswitchinterval(interval)


def test_interruption_does_not_wait() -> None:
    release = threading.Event()

    def transfer(number: int) -> None:
        if number == 0:
            raise KeyboardInterrupt
        release.wait(TIMEOUT_S)

    with pytest.raises(KeyboardInterrupt):
        map_concurrently(transfer, range(10), threads=2)
    assert not release.is_set()
    release.set()
