# SPDX-License-Identifier: BSD-3-Clause
"""Forget: take out what a RUN or some quanta put into the registry, in one transaction.

The ledger keeps the attempts, marked, so that no merge that is running or comes later brings them
back; `let_back` takes the marks away. What somebody else brought as well stays, and who had lost a
conflict against a forgotten attempt comes back: the registry is then as if the forgotten deltas
had never been. Datasets from outside belong to no quantum and stay, unless all of a RUN is to go.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from psycopg import Cursor

from merger import forgetting_statements as statements
from merger.central_registry import CentralRegistry
from merger.dataset_conflicts import retire_sides, settle_keys
from merger.dimension_conflicts import settle_dimensions
from merger.settings_error import SettingsError


class NothingToForgetError(SettingsError, LookupError):
    """The central registry never had the RUN, or nothing of a quantum."""

    error_type = "nothing_to_forget"


@dataclass(slots=True)
class ForgetReport:
    """What was taken out; of a dry run what would be."""

    run: str
    n_attempts: int = 0
    n_quanta: int = 0
    n_datasets: int = 0
    n_dimension_records: int = 0
    n_quarantined: int = 0
    n_from_outside: int = 0
    """Datasets of the RUN that no merged attempt made: they stay, and so does the RUN."""
    n_outside_gone: int = 0
    """The same, taken out."""
    is_run_gone: bool = False
    n_chains: int = 0
    """Chains that the RUN was a member of."""


def forget(
    registry: CentralRegistry,
    run: str,
    quantum_ids: Collection[str] | None = None,
    *,
    is_dry: bool = False,
    outside: bool = False,
) -> ForgetReport:
    """Take out what a RUN, or these quanta of it, put in.

    May be repeated, killed, or run beside merges. Deltas that were not merged yet are no concern
    of it: they are merged as ever.

    Parameters
    ----------
    outside
        Take out, too, what was ingested or imported into the RUN; of whole RUNs only.

    Raises
    ------
    NothingToForgetError
    registry.errors.QuantumExecError
        If the registry cannot be used.
    """
    done: list[ForgetReport] = []

    def work(cursor: Cursor) -> ForgetReport:
        try:
            with cursor.connection.transaction(force_rollback=is_dry):
                report = _forget(cursor, run, quantum_ids, outside=outside)
        except NothingToForgetError:
            if not done:
                raise
            return done[-1]
        # After a connection that was lost during COMMIT there may be nothing left to do.
        if report.n_attempts or report.n_outside_gone or not done:
            done.append(report)
        return done[-1]

    return registry.transact(work, alone=True)


def let_back(
    registry: CentralRegistry, run: str, quantum_ids: Collection[str] | None = None
) -> int:
    """Let forgotten attempts of a RUN, or of these quanta, be merged again.

    Returns
    -------
    int
        Number of attempts.
    """
    wanted = {"run": run, "quantum_ids": None if quantum_ids is None else list(quantum_ids)}
    return registry.transact(
        lambda cursor: cursor.execute(statements.DELETE_FORGOTTEN, wanted).rowcount
    )


def _forget(
    cursor: Cursor, run: str, quantum_ids: Collection[str] | None, *, outside: bool
) -> ForgetReport:
    wanted = {"run": run, "quantum_ids": None if quantum_ids is None else list(quantum_ids)}
    _check_known(cursor, wanted)
    cursor.execute(statements.STAGE_FORGOTTEN)
    report = ForgetReport(run)
    report.n_attempts = cursor.execute(statements.FILL_FORGOTTEN, wanted).rowcount
    cursor.execute(statements.ANALYZE_FORGOTTEN)
    cursor.execute(statements.MARK_FORGOTTEN)
    report.n_datasets = _forget_datasets(cursor, run)
    report.n_dimension_records = _forget_dimensions(cursor)
    cursor.execute(statements.DELETE_INPUTS)
    cursor.execute(statements.DELETE_METRICS)
    cursor.execute(statements.DELETE_ATTEMPTS)
    report.n_quanta = cursor.execute(statements.DELETE_QUANTA).rowcount
    if quantum_ids is None:
        if outside:
            report.n_outside_gone = _forget_outside(cursor, run)
        _forget_run(cursor, run, report)
    return report


def _check_known(cursor: Cursor, wanted: Mapping[str, object]) -> None:
    run = wanted["run"]
    if cursor.execute(statements.KNOWS_RUN, wanted).fetchone() != (True,):
        raise NothingToForgetError(
            f"RUN {run!r}: expected a RUN of the central registry, found none of this name; "
            "check the name"
        )
    if wanted["quantum_ids"] is None:
        return
    unknown = [q for (q,) in cursor.execute(statements.READ_UNKNOWN_QUANTA, wanted).fetchall()]
    if unknown:
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        raise NothingToForgetError(
            f"quantum {unknown[0]!r}{more}: expected a merged attempt of it in RUN {run!r}, found "
            "none; nothing was taken out"
        )


def _forget_datasets(cursor: Cursor, run: str) -> int:
    """Return the number of datasets that made no way for another side."""
    cursor.execute(statements.READ_CONFLICTING_ATTEMPTS)
    n_retired = retire_sides(cursor, {attempt_id for (attempt_id,) in cursor.fetchall()})
    return n_retired + cursor.execute(statements.DELETE_DATASETS, (run,)).rowcount


def _forget_outside(cursor: Cursor, run: str) -> int:
    """Return the number of datasets; who had lost a conflict against them comes back."""
    n_datasets = cursor.execute(statements.DELETE_FROM_OUTSIDE, (run,)).rowcount
    cursor.execute(statements.DELETE_OUTSIDE_SIDES, (run,))
    settle_keys(cursor, sorted({key for (key,) in cursor.fetchall()}))
    return n_datasets


def _forget_dimensions(cursor: Cursor) -> int:
    cursor.execute(statements.DELETE_SOURCES)
    cursor.execute(statements.MARK_GONE)
    cursor.execute(statements.ANALYZE_RECORDS)
    contended = set(cursor.execute(statements.DELETE_DIMENSION_SIDES).fetchall())
    n_gone = cursor.execute(statements.DELETE_DIMENSIONS).rowcount
    contended |= set(cursor.execute(statements.READ_CONTENDED_DIMENSIONS).fetchall())
    settle_dimensions(cursor, sorted(contended))
    return n_gone


def _forget_run(cursor: Cursor, run: str, report: ForgetReport) -> None:
    report.n_quarantined = cursor.execute(statements.DELETE_QUARANTINE, (run,)).rowcount
    cursor.execute(statements.COUNT_FROM_OUTSIDE, (run,))
    (report.n_from_outside,) = cursor.fetchone() or (0,)
    report.is_run_gone = cursor.execute(statements.DELETE_RUN, (run,)).rowcount == 1
    if report.is_run_gone:
        report.n_chains = cursor.execute(statements.DELETE_FROM_CHAINS, (run,)).rowcount
