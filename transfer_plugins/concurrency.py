# SPDX-License-Identifier: BSD-3-Clause
"""Many transfers at once, ending with the first that fails."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

CONCURRENT_TRANSFERS = 16
"""Transfers under way at once; one more hardly helps one machine and harms a small service."""

A = TypeVar("A")
B = TypeVar("B")


def map_concurrently(
    function: Callable[[A], B], arguments: Iterable[A], threads: int = CONCURRENT_TRANSFERS
) -> list[B]:
    """Call a function on all arguments, in threads; results in the order of the arguments.

    The first error is raised at once: what was not begun is dropped, what is under way is not
    waited for. Leaving the interpreter still joins those threads, unless by ``os._exit``.
    """
    waiting = list(arguments)
    if len(waiting) < 2:
        return [function(argument) for argument in waiting]
    pool = ThreadPoolExecutor(min(threads, len(waiting)))
    try:
        return list(pool.map(function, waiting))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
