# SPDX-License-Identifier: BSD-3-Clause
"""What a rerun did, for people and as JSON, and the exit code that says it in a number."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from executor.exit_codes import ExitCode, code_of_signal
from executor.submit import progress
from executor.submit.dag_report import DagEnd
from executor.submit.local_runner import LocalRun
from executor.submit.output_comparison import ComparedOutput, Verdict
from executor.submit.rerun import Rerun
from registry.attempt import AttemptStatus
from registry.delta import Delta
from registry.graph_record import PredictedQuantum
from registry.model import format_data_id


@dataclass
class RerunReport:
    """A rerun and what came of it.

    Exactly one of ``local`` and ``dag`` is given, or none if nothing was run. ``deltas`` are the
    newest known of its quanta, by id; ``compared`` is None if nothing was to be compared.
    ``consumers`` read outputs of attempts that are, or would be, replaced.
    """

    run: str
    rerun: Rerun
    local: LocalRun | None = None
    dag: DagEnd | None = None
    deltas: dict[str, Delta] = field(default_factory=dict)
    compared: list[ComparedOutput] | None = None
    consumers: Sequence[PredictedQuantum] = ()
    is_dry: bool = False

    @property
    def is_finished(self) -> bool:
        """Whether the quanta were run, and it is known how they ended."""
        return self.local is not None or (self.dag is not None and self.dag.exit_code is not None)

    @property
    def exit_code(self) -> int:
        """0 if all was successful and nothing differs; else the first reason why not."""
        if self.local is not None:
            code = self._local_code(self.local)
        else:
            code = (self.dag.exit_code or 0) if self.dag else 0
        if not code and any(c.verdict is not Verdict.SAME for c in self.compared or []):
            return ExitCode.OUTPUTS_DIFFER
        return code

    def _local_code(self, local: LocalRun) -> int:
        if local.stopped_by is not None:
            return code_of_signal(local.stopped_by)
        failed = local.failed()
        if not failed and not local.blocked:
            return ExitCode.SUCCESS
        if len(self.rerun.plan.quanta) == 1 and failed:
            return local.ended[failed[0]].exit_code or ExitCode.FAILED
        return ExitCode.FAILED

    def not_replaced(self) -> dict[str, str]:
        """Attempts that still count because no new one succeeded, by quantum id."""
        if not self.is_finished:
            return {}
        return {
            quantum_id: old
            for quantum_id, old in self.rerun.replaced.items()
            if not (found := self.deltas.get(quantum_id))
            or found.attempt_id <= old
            or found.status is not AttemptStatus.SUCCESSFUL
        }

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``; for one quantum its members are at the top as well."""
        quanta = [self._quantum_dict(q) for q in self.rerun.plan.quanta.values()]
        found: dict[str, Any] = {
            "run": self.run,
            "into": self.rerun.plan.run if self.rerun.originals else None,
            "dry_run": self.is_dry,
            "n_left_out": self.rerun.n_left_out,
            "again": sorted(self.rerun.again),
            "quanta": quanta,
            "consumers": [_quantum_id_dict(q) for q in self.consumers],
            "not_replaced": self.not_replaced(),
            "compared": None if self.compared is None else [c.as_dict() for c in self.compared],
        }
        if len(quanta) == 1:
            found.update(quanta[0])
        dag = self.dag.as_dict() if self.dag else {}
        return {**found, **dag, "again": found["again"], "exit_code": self.exit_code}

    def _quantum_dict(self, quantum: PredictedQuantum) -> dict[str, Any]:
        delta = self.deltas.get(quantum.quantum_id)
        end = self.local.ended.get(quantum.quantum_id) if self.local else None
        return {
            **_quantum_id_dict(quantum),
            "attempt_id": delta.attempt_id if delta else None,
            "status": delta.status if delta else None,
            "exit_code": end.exit_code if end else None,
            "error": end.error if end else None,
            "log_key": delta.log_key if delta else None,
            "replaces": self.rerun.replaced.get(quantum.quantum_id),
            "original": self.rerun.originals.get(quantum.quantum_id),
        }

    def tell(self, console: Console, errors: Console) -> None:
        """Say it to a person; failures on standard error."""
        for line in self._lines():
            console.print(line, highlight=False, markup=False, soft_wrap=True)
        if self.local is not None:
            summaries = progress.summarize(self.rerun.plan, self.local)
            console.print(progress.task_table(summaries))
            for line in progress.failure_lines(self.rerun.plan, self.local):
                errors.print(line, highlight=False, markup=False, soft_wrap=True)
        if self.compared is not None:
            console.print(comparison_table(self.compared))
        for quantum_id, attempt_id in self.not_replaced().items():
            text = f"quantum {quantum_id}: not replaced, attempt {attempt_id} still counts"
            errors.print(text, highlight=False, soft_wrap=True)

    def _lines(self) -> Iterator[str]:
        plan = self.rerun.plan
        if self.rerun.originals:
            yield f"scratch RUN {plan.run}"
        if self.rerun.n_left_out:
            yield f"{self.rerun.n_left_out} quanta are left out, they were successful already"
        if self.rerun.again:
            yield (
                f"{len(self.rerun.again)} more quanta are run again: what they made was not kept, "
                "and others read it"
            )
        if self.is_dry:
            yield f"{len(plan.quanta)} quanta would be run:"
            yield from (f"  {_told(quantum)}" for quantum in plan.quanta.values())
        elif len(plan.quanta) == 1 and self.local is not None:
            (quantum_id,) = plan.quanta
            delta = self.deltas.get(quantum_id)
            is_told = f"attempt {delta.attempt_id} is {delta.status}" if delta else "not committed"
            yield f"quantum {quantum_id}: {is_told}"
        if self.dag:
            yield from self.dag.lines()
        if self.consumers:
            yield f"{len(self.consumers)} quanta read outputs of replaced attempts:"
            yield from (f"  {_told(quantum)}" for quantum in self.consumers)


def _told(quantum: PredictedQuantum) -> str:
    return f"{quantum.task_label} ({format_data_id(quantum.data_id)}), quantum {quantum.quantum_id}"


def _quantum_id_dict(quantum: PredictedQuantum) -> dict[str, Any]:
    return {
        "quantum_id": quantum.quantum_id,
        "task_label": quantum.task_label,
        "data_id": quantum.data_id,
    }


def comparison_table(compared: Sequence[ComparedOutput]) -> Table:
    """One row for each dataset: is it the same, and if not, what differs."""
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
    for heading in ("dataset type", "data ID", "outputs", "what differs"):
        table.add_column(heading)
    for found in compared:
        colour = "green" if found.verdict is Verdict.SAME else "red"
        table.add_row(
            found.dataset_type,
            escape(format_data_id(found.data_id)),
            f"[{colour}]{found.verdict}[/{colour}]",
            escape("\n".join(found.differences)),
        )
    return table
