# SPDX-License-Identifier: BSD-3-Clause
"""Ingested files are the inputs that a graph names: same ids, keys that workers read."""

from pathlib import Path

import pytest

from merger.file_ingest import FileIngest, ingest_files
from merger.merge import merge_run
from merger.source_table import SourceTable
from merger.verification import verify_run
from tests.fix_merge import MergeSite
from tests.local_graphs import RUN, GraphRun, key_of_raw, make_survey

N_EXPOSURES = 2


@pytest.mark.parametrize("is_first", [True, False])
def test_ingested_raws_are_inputs_of_a_graph(
    site: MergeSite, tmp_path: Path, is_first: bool
) -> None:
    survey = GraphRun(tmp_path, site.uri, make_survey(N_EXPOSURES))
    done = survey.run()
    assert done.code == 0, done.stderr

    def ingest() -> None:
        table = tmp_path / "raws.csv"
        uris = (f"{site.uri}/{key_of_raw(number)}" for number in range(N_EXPOSURES))
        table.write_text("uri,exposure\n" + "".join(f"{uri},{i}\n" for i, uri in enumerate(uris)))
        wanted = FileIngest("raw", "raw/all", ["exposure"], "File", site.store, measures=True)
        with SourceTable(str(table)) as source:
            assert ingest_files(site.registry, source, wanted).n_absolute == 0

    if is_first:
        ingest()
    merge_run(site.registry, site.store, RUN)
    if not is_first:
        ingest()
    read = site.rows(
        "SELECT d.data_id, i.object_key = r.object_key, i.size_bytes = r.size_bytes "
        "FROM quantum_input i JOIN dataset d USING (dataset_id) "
        "JOIN datastore_record r USING (dataset_id) WHERE d.dataset_type = 'raw' ORDER BY 1"
    )
    assert read == [({"exposure": number}, True, True) for number in range(N_EXPOSURES)]
    report = verify_run(site.registry, site.store, RUN)
    assert [finding for finding in report.findings if finding.is_difference] == []
