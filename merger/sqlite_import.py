# SPDX-License-Identifier: BSD-3-Clause
"""``import``: an SQLite registry, private, of a repository or a Butler, into the central one.

Everything is read and checked first; nothing is imported from a file with a bad row. Datasets of
attempts that the ledger of the file has come in with them, by the rules of a merge; all others
come from outside, by those of `outside_entries`. At the end the rows of the file are counted in
the central registry.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from psycopg import Cursor

from merger import outside_statements
from merger.butler_file import ButlerFile, is_butler
from merger.careful_way import CarefulBatch, RowsRefusedError, insert_alone
from merger.central_registry import CentralRegistry
from merger.conflict_policy import DEFER_ALL, ConflictPolicies
from merger.conflict_records import ConflictsRefusedError
from merger.delta_checks import GoodDelta
from merger.exit_codes import ExitCode, lowest
from merger.imported_chains import ImportedChains
from merger.merge_counts import MergeCounts
from merger.outside_entries import EntryCounts, OutsideEntries, OutsideEntryError, insert_records
from merger.progress import Progress
from merger.registry_file import RegistryFile
from merger.sqlite_source import SqliteSource, SqliteSourceError
from registry.names import check_run

IMPORTED = (
    *("run", "dataset_type", "dimension_record", "dataset", "datastore_record"),
    *("merged_attempt", "quantum", "attempt", "quantum_input", "metric", "collection_chain"),
)
"""Tables whose rows are imported. The others hold what a merge finds again, or who is merging."""


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What is to be imported of a file, and how."""

    renames: Mapping[str, str] = field(default_factory=dict)
    """New names of RUNs, by the name in the file."""
    only_runs: Collection[str] = ()
    """Names in the file; all if empty."""
    policies: ConflictPolicies = DEFER_ALL
    is_dry: bool = False


@dataclass(slots=True)
class TableCount:
    """Rows of a table: in the file, left out on purpose, and found in the central registry."""

    n_source: int
    n_left_out: int = 0
    n_present: int = 0

    @property
    def is_equal(self) -> bool:
        """Whether all that was to be imported is there."""
        return self.n_source - self.n_left_out == self.n_present


@dataclass(slots=True)
class ImportReport:
    """What an import found and did."""

    source: str
    kind: str
    is_dry: bool = False
    tables: dict[str, TableCount] = field(default_factory=dict)
    entries: EntryCounts = field(default_factory=EntryCounts)
    merged: MergeCounts = field(default_factory=MergeCounts)
    n_dimension_conflicts: int = 0
    chains_left: list[str] = field(default_factory=list)
    """Chains that are there with other members."""
    notes: list[str] = field(default_factory=list)

    @property
    def differs(self) -> bool:
        """Whether chains were left, or rows are missing that neither policy nor ledger kept out."""
        ledger = self.tables.get("merged_attempt", TableCount(0))
        n_merged_before = ledger.n_source - ledger.n_left_out - self.merged.n_deltas
        is_explained = self.entries.n_refused or self.entries.n_of_attempts or n_merged_before
        equal = [count.is_equal for count in self.tables.values()]
        return bool(self.chains_left) or not (all(equal) or is_explained)

    @property
    def exit_code(self) -> ExitCode:
        """The lowest code that applies."""
        n_conflicts = self.merged.n_conflicts + self.n_dimension_conflicts + self.entries.n_open
        return lowest(
            {
                ExitCode.CONFLICTS: n_conflicts,
                ExitCode.DIFFERENCES: self.differs and not self.is_dry,
                self.entries.exit_code: True,
            }
        )


def import_registry(
    registry: CentralRegistry,
    source: SqliteSource,
    options: ImportOptions,
    progress: Progress | None = None,
) -> ImportReport:
    """Import an SQLite registry; may be repeated, killed, or run twice at once.

    Raises
    ------
    sqlite_source.SqliteSourceError
        If the file cannot be read or holds what the central registry cannot.
    registry.errors.QuantumExecError
        If a name is taken, or a dataset type defined otherwise; what was imported stays.
    """
    for name in options.renames.values():
        check_run(name)
    kind = ButlerFile if is_butler(source) else RegistryFile
    file = kind(source, options.renames, options.only_runs)
    file.check()
    return _Import(registry, file, options, progress or Progress()).run()


class _MadeDatasets:
    """What a merge has to know of the graph: here what the central registry has of a quantum."""

    def __init__(self, cursor: Cursor, run: str) -> None:
        self._cursor = cursor
        self.run = run

    def outputs_of(self, quantum_ids: Collection[str]) -> list[str]:
        """Ids of all datasets that these quanta have made."""
        self._cursor.execute(outside_statements.READ_MADE, (self.run, list(quantum_ids)))
        return [dataset_id for (dataset_id,) in self._cursor.fetchall()]


class _Import:
    def __init__(
        self,
        registry: CentralRegistry,
        file: RegistryFile | ButlerFile,
        options: ImportOptions,
        progress: Progress,
    ) -> None:
        self._registry, self._file, self._options = registry, file, options
        self._progress = progress
        self.report = ImportReport(str(file.source.path), file.kind, options.is_dry)
        self._entries = OutsideEntries(registry, policies=options.policies, is_dry=options.is_dry)

    def run(self) -> ImportReport:
        """Import everything that others refer to before them."""
        file, report = self._file, self.report
        for name in IMPORTED:
            if n_source := file.count(name):
                report.tables[name] = TableCount(n_source, n_source - file.count_wanted(name))
        self._progress.start(file.count_wanted("dataset") + file.count_wanted("merged_attempt"))
        chains = ImportedChains(file.chains(), file.source.where)
        chains.check(self._registry, file.runs())
        types = list(file.dataset_types())
        self._entries.ensure(file.runs(), types)
        policies, is_dry = self._options.policies, self._options.is_dry
        for records in file.dimension_records():
            conflicts = insert_records(self._registry, records, policies, is_dry=is_dry)
            report.n_dimension_conflicts += conflicts.n_open
        if not is_dry:
            self._merge_all()
        self._entries.insert_all(file.outside_batches(), self._progress)
        self._entries.insert_all(file.lost_sides(), self._progress)
        if not is_dry:
            report.chains_left = chains.make(self._registry)
        report.entries = self._entries.counts
        if report.entries.n_of_attempts and not is_dry:
            statement, runs = outside_statements.DELETE_FORGOTTEN_RUNS, list(file.runs())
            self._registry.transact(lambda cursor: cursor.execute(statement, (runs,)), alone=True)
        report.notes += self._entries.refusals + report.chains_left + file.notes()
        if number := report.entries.n_of_attempts:
            report.notes.append(
                f"{number} datasets skipped: their attempts are merged, were forgotten, or a newer "
                "one counts"
            )
        self._count_all()
        return report

    def _merge_all(self) -> None:
        for deltas in self._file.deltas():
            for run, some in groupby(sorted(deltas, key=lambda d: d.delta.run), _run_of):
                self._merge(run, list(some))
            self._progress.advance(len(deltas))

    def _merge(self, run: str, deltas: Sequence[GoodDelta]) -> None:
        """Merge attempts of one RUN; policy ``fail`` and PostgreSQL may refuse some."""

        def merge(cursor: Cursor) -> MergeCounts:
            made = _MadeDatasets(cursor, run)
            batch = CarefulBatch.of(deltas)
            return insert_alone(cursor, batch, made, self._options.policies)  # type: ignore[arg-type]

        try:
            self.report.merged.add(self._registry.transact(merge, alone=True))
        except ConflictsRefusedError as error:
            refused = {refusal.attempt_id for refusal in error.refusals}
            self.report.entries.n_refused += len(refused)
            self.report.notes += [refusal.message for refusal in error.refusals]
            left = [good for good in deltas if good.delta.attempt_id not in refused]
            if left:
                self._merge(run, left)
        except RowsRefusedError as error:
            raise OutsideEntryError(f"{self._file.source.where}, RUN {run!r}: {error}") from error

    def _count_all(self) -> None:
        """Count the rows of the file in the central registry, by their keys."""
        for name, count in self.report.tables.items():
            for keys in self._file.keys(name):
                columns = list(map(list, zip(*keys, strict=True)))
                count.n_present += self._registry.read_snapshot(
                    lambda cursor, name=name, columns=columns: _count(cursor, name, columns)  # type: ignore[misc]
                )
            if name != "collection_chain" and not count.is_equal and not self._options.is_dry:
                self.report.notes.append(
                    f"table {name!r}: {count.n_source - count.n_left_out} rows of the file were to "
                    f"be imported, {count.n_present} of their keys are in the central registry"
                )


def _run_of(good: GoodDelta) -> str:
    return good.delta.run


def _count(cursor: Cursor, name: str, columns: Sequence[Sequence[object]]) -> int:
    cursor.execute(outside_statements.COUNT_PRESENT[name], columns)
    ((number,),) = cursor.fetchall()
    return int(number)


def parse_renames(texts: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Read ``OLD=NEW``; raises `SqliteSourceError` if one has another form."""
    for text in texts:
        old, is_one, new = text.partition("=")
        if not (old and is_one and new):
            raise SqliteSourceError(f"--run: expected OLD=NEW, found {text!r}")
        yield old, new
