# SPDX-License-Identifier: BSD-3-Clause
"""Collections: RUNs, and CHAINED collections, which are what their members are, in this order.

A chain may have chains as members. Chains change in a transaction that is alone in the registry,
and RUNs begin in one that shares it, so no name is ever taken twice and no change is lost.
"""

import enum
import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from psycopg import Cursor

from merger import outside_statements, statements
from merger.central_registry import CentralRegistry
from registry.errors import QuantumExecError
from registry.names import check_run

Chains = Mapping[str, Sequence[str]]
"""Members of each chain, in search order."""


class CollectionError(QuantumExecError):
    """A collection cannot be made or changed in this way."""

    error_type = "collection"


class ChainMode(enum.StrEnum):
    """What becomes of the members that a chain has (the modes of ``butler collection-chain``)."""

    REDEFINE = "redefine"
    """The chain has these members and no others."""
    PREPEND = "prepend"
    """They come first; one that is there already moves."""
    APPEND = "append"
    """They come last; one that is there already moves."""
    REMOVE = "remove"
    """They leave the chain; without any it is gone."""
    DELETE = "delete"
    """There is no such chain any more; its members stay."""


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection; a RUN has datasets, a chain has members."""

    name: str
    kind: str
    n_datasets: int | None
    members: list[str] = field(default_factory=list)


def ensure_run(cursor: Cursor, run: str) -> int:
    """Ensure a RUN, within a transaction of a merge; returns how many rows that made.

    Raises
    ------
    registry.errors.InvalidNameError
    CollectionError
        If a chain has this name.
    """
    check_run(run)
    if cursor.execute(outside_statements.HAS_CHAIN, (run,)).fetchone() == (True,):
        raise CollectionError(
            f"collection {run!r}: expected a RUN, found a chain; use another name, or take the "
            f"chain away: registry-merge collections chain {run} --mode delete"
        )
    return cursor.execute(statements.ENSURE_RUN, (run,)).rowcount


def list_collections(registry: CentralRegistry, pattern: str = "*") -> list[Collection]:
    """Return the collections whose names match a pattern (``*``, ``?``, ``[…]``), by name."""

    def read(cursor: Cursor) -> list[Collection]:
        runs = cursor.execute(outside_statements.READ_RUNS).fetchall()
        found = [Collection(run, "RUN", n_datasets) for run, n_datasets in runs]
        chains = read_chains(cursor)
        return found + [Collection(c, "CHAINED", None, members) for c, members in chains.items()]

    found = registry.read_snapshot(read)
    return sorted((c for c in found if fnmatch.fnmatchcase(c.name, pattern)), key=lambda c: c.name)


def show_chain(registry: CentralRegistry, chain: str) -> list[str]:
    """Return the RUNs of a chain in search order, each once.

    Raises
    ------
    CollectionError
        If there is no such chain.
    """
    chains = registry.read_snapshot(read_chains)
    if chain not in chains:
        raise CollectionError(
            f"chain {chain!r}: expected a chain, found none of this name; see registry-merge "
            "collections list"
        )
    return list(dict.fromkeys(_flattened(chains, chain)))


def change_chain(
    registry: CentralRegistry,
    chain: str,
    children: Sequence[str],
    mode: ChainMode,
    *,
    is_dry: bool = False,
) -> list[str]:
    """Change the members of a chain; it is made if need be. Changes at once come one by one.

    Returns
    -------
    list of str
        The members as they are now, in search order.

    Raises
    ------
    registry.errors.InvalidNameError
    CollectionError
        If a RUN has the name of the chain, a child is named twice, is not there or contains the
        chain, or if there is nothing to remove.
    """

    def change(cursor: Cursor) -> list[str]:
        with cursor.connection.transaction(force_rollback=is_dry):
            return change_members(cursor, chain, children, mode)

    return registry.transact(change, alone=True)


def change_members(
    cursor: Cursor, chain: str, children: Sequence[str], mode: ChainMode
) -> list[str]:
    """Change the members of a chain, in a transaction alone; as `change_chain`."""
    check_run(chain)
    _check_children(chain, children, mode)
    chains = read_chains(cursor)
    members = _changed(chains, chain, children, mode)
    if mode not in (ChainMode.REMOVE, ChainMode.DELETE):
        _check_links(cursor, chains, chain, children)
    if not members:
        _check_unused(chains, chain)
    cursor.execute(outside_statements.DELETE_CHAIN, (chain,))
    cursor.execute(outside_statements.INSERT_CHAIN, (chain, members))
    return members


def prepend_run(registry: CentralRegistry, chain: str, run: str) -> list[str]:
    """Let a chain search a RUN first, as LSST's ``--update-output-chain`` does after a merge.

    To be called when the RUN is merged; may be repeated, and then moves the RUN to the front
    again. Nothing is written if it is there. Two at once both end up in the chain.

    Returns
    -------
    list of str
        The members as they are now.

    Raises
    ------
    CollectionError, registry.errors.InvalidNameError
        As `change_chain`.
    """
    members = registry.read_snapshot(read_chains).get(chain, [])
    if members[:1] == [run]:
        return members
    return change_chain(registry, chain, [run], ChainMode.PREPEND)


def read_chains(cursor: Cursor) -> dict[str, list[str]]:
    """Return the members of every chain, in search order."""
    chains: dict[str, list[str]] = {}
    for chain, child in cursor.execute(outside_statements.READ_CHAINS):
        chains.setdefault(chain, []).append(child)
    return chains


def _check_children(chain: str, children: Sequence[str], mode: ChainMode) -> None:
    if twice := sorted({child for child in children if children.count(child) > 1}):
        raise CollectionError(f"chain {chain!r}: expected each child once, found twice {twice}")
    if mode is ChainMode.DELETE and children:
        raise CollectionError(
            f"chain {chain!r}: expected no children with --mode delete, found {list(children)}; "
            "--mode remove takes them out of the chain"
        )
    if mode is not ChainMode.DELETE and not children:
        raise CollectionError(
            f"chain {chain!r}: expected at least one child, found none; --mode delete takes the "
            "chain away"
        )


def _changed(chains: Chains, chain: str, children: Sequence[str], mode: ChainMode) -> list[str]:
    before = list(chains.get(chain, ()))
    if mode in (ChainMode.REMOVE, ChainMode.DELETE) and not before:
        raise CollectionError(f"chain {chain!r}: expected a chain, found none of this name")
    others = [member for member in before if member not in children]
    if mode is ChainMode.REMOVE:
        if absent := sorted(set(children) - set(before)):
            raise CollectionError(
                f"chain {chain!r}: expected children to remove among {before}, found {absent}"
            )
        return others
    if mode is ChainMode.PREPEND:
        return [*children, *others]
    if mode is ChainMode.APPEND:
        return [*others, *children]
    return list(children)


def _check_links(cursor: Cursor, chains: Chains, chain: str, children: Sequence[str]) -> None:
    """Let a chain have no RUN's name, no child that is not there, and not itself among them."""
    if _has_run(cursor, chain):
        raise CollectionError(f"chain {chain!r}: expected a free name, found a RUN of this name")
    for child in children:
        # Asked first: a chain that is its own child need not exist.
        if child == chain or chain in _below(chains, child):
            raise CollectionError(
                f"chain {chain!r}: expected children that do not contain it, found {child!r}"
            )
        if child not in chains and not _has_run(cursor, child):
            raise CollectionError(
                f"chain {chain!r}: expected children that exist, found neither RUN nor chain "
                f"{child!r}"
            )


def _check_unused(chains: Chains, chain: str) -> None:
    """Let no chain have a member that is gone; a chain without members is none."""
    if holders := sorted(c for c, members in chains.items() if chain in members):
        raise CollectionError(
            f"chain {chain!r}: expected no chain that contains it, found {holders}; take it out "
            "of these first"
        )


def _has_run(cursor: Cursor, name: str) -> bool:
    return cursor.execute(outside_statements.HAS_RUN, (name,)).fetchone() == (True,)


def _below(chains: Chains, name: str) -> set[str]:
    """All members of a chain, and theirs."""
    found: set[str] = set()
    left = [name]
    while left:
        new = set(chains.get(left.pop(), ())) - found
        found |= new
        left += new
    return found


def _flattened(chains: Chains, name: str) -> Iterable[str]:
    for child in chains[name]:
        if child in chains:
            yield from _flattened(chains, child)
        else:
            yield child
