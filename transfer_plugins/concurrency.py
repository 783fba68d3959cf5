# SPDX-License-Identifier: BSD-3-Clause
"""Many transfers at once, ending with the first that fails."""

from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import TypeVar

CONCURRENT_TRANSFERS = 16
"""Transfers under way at once; one more hardly helps one machine and harms a small service."""

A = TypeVar("A")
B = TypeVar("B")


def map_concurrently(
    function: Callable[[A], B], arguments: Iterable[A], threads: int = CONCURRENT_TRANSFERS
) -> list[B]:
    """Call a function on all arguments, in threads; results in the order of the arguments.

    The first error drops what was not begun and is raised when what is under way has ended. An
    interruption (`KeyboardInterrupt` and its like) waits for nothing.
    """
    waiting = list(arguments)
    if len(waiting) < 2:
        return [function(argument) for argument in waiting]
    errors: list[BaseException] = []

    def call(argument: A) -> B:
        if errors:
            raise CancelledError
        try:
            return function(argument)
        except BaseException as error:
            errors.append(error)
            raise

    pool = ThreadPoolExecutor(min(threads, len(waiting)))
    try:
        results = list(pool.map(call, waiting))
    except Exception as seen:
        pool.shutdown(wait=True, cancel_futures=True)
        # A thread may have taken an earlier argument and come to it after the error of a later one.
        raise (errors[0] if errors else seen) from None
    except BaseException as interruption:
        errors.append(interruption)
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()
    return results
