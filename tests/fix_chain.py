# SPDX-License-Identifier: BSD-3-Clause
"""Three quanta in a row: an undisturbed run of them, and a datastore where the first has run."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from registry import names
from tests.chain_graph import make_run, quantum_id
from tests.halted_processes import marked_processes
from tests.local_graphs import RUN, GraphRun
from tests.run_outcome import Content, named_by_verify, registry_content, registry_merge

if TYPE_CHECKING:
    from tests.fix_postgres import PostgresServer


@dataclass(frozen=True, slots=True)
class Reference:
    """What an undisturbed run made, and a datastore in which only the first quantum has run."""

    begun: Path
    result: set[tuple[str, str, str]]
    content: Content


@pytest.fixture(scope="session")
def reference(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: "PostgresServer"
) -> Iterator[Reference]:
    """The undisturbed run."""
    directory = tmp_path_factory.mktemp("undisturbed")
    alone = make_run(directory)
    assert alone.run("-j", "1").code == 0
    postgres_server.execute("CREATE DATABASE {} TEMPLATE {}", "undisturbed", "registry_template")
    address = postgres_server.address("undisturbed")
    registry_merge("merge", address, alone.store, RUN)
    content = registry_content(address)
    assert all(content[table] for table in ("metric", "dimension_source", "quantum_input"))
    assert named_by_verify(address, alone.store, RUN) == {}
    begun = directory / "begun"
    shutil.copytree(directory / "store", begun)
    for kind in ("sum", "difference", "plot"):
        shutil.rmtree(begun / RUN / kind)
    first = quantum_id("split")
    for path in (begun / names.control_prefix(RUN)).glob("[dl]*s/*"):
        if not path.name.startswith(first):
            path.unlink()
    yield Reference(begun, alone.result(), content)
    postgres_server.execute("DROP DATABASE {} WITH (FORCE)", "undisturbed")


@pytest.fixture
def chain_run(tmp_path: Path, reference: Reference) -> Iterator[GraphRun]:
    """The graph where its first quantum has run; nothing of it is left after the test."""
    shutil.copytree(reference.begun, tmp_path / "store")
    made = make_run(tmp_path)
    yield made
    for process in marked_processes(tmp_path):
        process.kill()
