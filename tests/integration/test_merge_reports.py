# SPDX-License-Identifier: BSD-3-Clause
"""What a merge shows at its end, for people and for programs."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from merger.cli import app
from merger.dag_status import NodeStatus
from merger.exit_codes import ExitCode
from tests import factories
from tests.dag_files import write_dag_status
from tests.fix_merge import MergeSite

RUN = factories.RUN
OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"


def merge(site: MergeSite, *options: str, columns: int = 80) -> tuple[int, str]:
    """Run ``merge``; returns exit code and standard output."""
    words = ["merge", site.uri, RUN, "--database", site.address, *options]
    done = CliRunner(env={"COLUMNS": str(columns)}).invoke(app, words, catch_exceptions=False)
    return done.exit_code, done.stdout


def read(site: MergeSite, *options: str) -> dict[str, Any]:
    """Run ``merge --json``."""
    code, stdout = merge(site, "--json", *options)
    (line,) = stdout.splitlines()
    found: dict[str, Any] = json.loads(line)
    assert found["exit_code"] == code
    return found


@pytest.fixture
def troubled(site: MergeSite, tmp_path: Path) -> MergeSite:
    """Deltas that conflict, a bad one, one of a newer format, a superseded one."""
    second = factories.make_graph(1, name="second")
    factories.publish(site.store, second)
    site.put(site.delta(0, 1), site.delta(0, 2), factories.make_delta(second, 0, 3))
    factories.put_delta(site.store, site.delta(1, 4), b"junk")
    factories.put_delta(site.store, site.delta(1, 5), factories.framed(b'"format":99,"x":1}'))
    return site


def documented_keys() -> set[str]:
    """The keys of the table in the documents."""
    text = OPERATIONS.read_text()
    (table,) = re.findall(r"Keys of `merge`:\n\n(.*?)\n\n", text, re.DOTALL)
    rows = [line.split("|")[1] for line in table.splitlines()[2:]]
    return {key for row in rows for key in re.findall(r"`(\w+)`", row)}


def test_documented_keys_are_those_of_the_command(troubled: MergeSite, tmp_path: Path) -> None:
    dag = tmp_path / "node-status.txt"
    write_dag_status(dag, troubled.graph, [NodeStatus.DONE] * 3)
    assert set(read(troubled, "--dag-status", str(dag))) == documented_keys()
    without = set(read(troubled))
    assert documented_keys() - without == {
        *("n_quanta_predicted", "n_quanta_merged", "n_unfinished", "unfinished")
    }


def test_documented_keys_of_a_dry_run(troubled: MergeSite) -> None:
    text = OPERATIONS.read_text()
    (paragraph,) = re.findall(r"\nWith `--dry-run`: (.*?)A command that", text, re.DOTALL)
    assert set(read(troubled, "--dry-run")) == set(re.findall(r"`(\w+)`", paragraph))


def test_numbers(troubled: MergeSite) -> None:
    found = read(troubled)
    assert found["exit_code"] == ExitCode.CONFLICTS
    wanted = {
        **{"n_deltas_listed": 5, "n_deltas_merged_before": 0, "n_deltas_merged": 3},
        **{"n_superseded": 1, "n_conflicts": 2, "n_quarantined": 1, "n_newer_format": 1},
    }
    assert {key: found[key] for key in wanted} == wanted
    for table in ("attempt", "merged_attempt", "quantum_input"):
        assert found["rows"][table] == 3, table
    assert found["n_rows"] == sum(found["rows"].values())
    assert set(found["seconds"]) >= {"list", "ledger", "read", "insert"}


def test_people_see_tables_of_80_columns_and_what_to_do(troubled: MergeSite) -> None:
    code, shown = merge(troubled)
    assert code == ExitCode.CONFLICTS
    tables = [line for line in shown.splitlines() if line[:1] in "┏┃┡│└├"]
    assert tables and max(map(len, tables)) <= 80
    assert re.search(r"│ merged now +│ +3 │", shown)
    assert re.search(r"│ dataset +│ +\d+ │ insert +│ +\d+\.\d\d │", shown)
    behind = f"--database {shlex.quote(troubled.address)}"
    lines = shown.splitlines()
    assert f"conflicts: registry-merge conflicts list {RUN} {behind}" in lines
    assert f"quarantine: registry-merge quarantine list {RUN} {behind}" in lines
    again = f"registry-merge merge {troubled.uri} {RUN} {behind}"
    assert f"newer format: upgrade quantum-exec here, then {again}" in lines


def test_the_commands_that_it_tells_work(troubled: MergeSite) -> None:
    _, shown = merge(troubled)
    for command in re.findall(r"^(?:conflicts|quarantine): registry-merge (.*)$", shown, re.M):
        done = CliRunner().invoke(app, shlex.split(command), catch_exceptions=False)
        assert done.exit_code == ExitCode.OK, done.stdout


def test_refused_deltas(troubled: MergeSite) -> None:
    found = read(troubled, "--on-conflict", "fail")
    assert (found["n_refused"], found["n_conflicts"]) == (1, 0)
    assert "refused" in merge(troubled, "--on-conflict", "fail")[1]
    settled = read(troubled, "--on-conflict", "catalog=keep", "--on-conflict", "replace")
    assert (settled["n_refused"], settled["n_conflicts_settled"]) == (0, 2)


def test_chain_comes_with_the_end(site: MergeSite, tmp_path: Path) -> None:
    site.put(site.delta(0, 1))
    config = tmp_path / "merge.yaml"
    config.write_text("output_chain: u/tester/all\non_conflict: keep\nconnections: 2\n")
    assert read(site, "--config", str(config))["exit_code"] == ExitCode.OK
    assert read(site, "--output-chain", "u/tester/other")["exit_code"] == ExitCode.OK
    assert site.rows("SELECT chain, child FROM collection_chain ORDER BY chain") == [
        ("u/tester/all", RUN),
        ("u/tester/other", RUN),
    ]


def test_chain_that_cannot_be_made_takes_no_report_away(site: MergeSite) -> None:
    site.put(site.delta(0, 1))
    words = ["merge", site.uri, RUN, "--database", site.address, "--output-chain", RUN]
    done = CliRunner().invoke(app, [*words, "--json"])
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["exit_code"], found["n_deltas_merged"]) == (done.exit_code, 1)
    assert done.exit_code == ExitCode.ERROR
    assert found["error"]["message"] in done.stderr
    shown = CliRunner().invoke(app, words)
    assert "merged before" in shown.stdout and found["error"]["message"] in shown.stderr


def test_dry_run_knows_open_conflicts(troubled: MergeSite) -> None:
    read(troubled)
    dry, again = read(troubled, "--dry-run"), read(troubled)
    assert dry["n_conflicts_open"] == again["n_conflicts_open"] > 0
    assert dry["exit_code"] == again["exit_code"] == ExitCode.CONFLICTS
