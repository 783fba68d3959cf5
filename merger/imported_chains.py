# SPDX-License-Identifier: BSD-3-Clause
"""Chains of an SQLite file: tried before anything is imported, made when all of it is."""

from collections.abc import Collection

from psycopg import Cursor

from merger.central_registry import CentralRegistry
from merger.collection_chains import (
    ChainMode,
    Chains,
    change_members,
    ensure_run,
    read_chains,
)
from merger.sqlite_source import SqliteSourceError


class ImportedChains:
    """Chains with their members in search order.

    Parameters
    ----------
    where
        Names the file, for messages.

    Raises
    ------
    SqliteSourceError
        If chains contain each other.
    """

    def __init__(self, chains: Chains, where: str) -> None:
        self._chains = chains
        self._order = _ordered(chains, where)

    def check(self, registry: CentralRegistry, runs: Collection[str]) -> None:
        """Make them and take them back.

        Parameters
        ----------
        runs
            RUNs that will be there.

        Raises
        ------
        merger.collection_chains.CollectionError
            If a name is taken, or a member will not be there.
        """
        if not self._chains:
            return

        def check(cursor: Cursor) -> None:
            with cursor.connection.transaction(force_rollback=True):
                for run in runs:
                    ensure_run(cursor, run)
                self._make(cursor)

        registry.transact(check, alone=True)

    def make(self, registry: CentralRegistry) -> list[str]:
        """Make those that are not there; tells which ones are there with other members."""
        return registry.transact(self._make, alone=True) if self._chains else []

    def _make(self, cursor: Cursor) -> list[str]:
        there = read_chains(cursor)
        left = []
        for chain in self._order:
            members = self._chains[chain]
            if chain not in there:
                change_members(cursor, chain, members, ChainMode.REDEFINE)
            elif there[chain] != members:
                left.append(
                    f"chain {chain!r} is left as it is, {there[chain]}; the file has {members}"
                )
        return left


def _ordered(chains: Chains, where: str) -> list[str]:
    """Chains that others have as members come before these."""
    ordered: list[str] = []
    left = dict(chains)
    while left:
        ready = sorted(chain for chain in left if not left.keys() & set(left[chain]))
        if not ready:
            raise SqliteSourceError(
                f"{where}: expected chains that do not contain each other, found {sorted(left)}"
            )
        ordered += ready
        for chain in ready:
            del left[chain]
    return ordered
