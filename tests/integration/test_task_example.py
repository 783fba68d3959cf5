# SPDX-License-Identifier: BSD-3-Clause
"""The function that docs/graph-file.md shows does what stands there."""

import json
import re
from pathlib import Path

from registry.delta import MetricRow
from registry.job import TaskCall
from registry.model import DatasetType, DimensionRecord
from tests.samples import CALEXP_ID, DATA_ID, RAW_CONTENT, RUN, make_input, make_output
from tests.wrapper_process import make_function_sandbox

DOCUMENT = Path(__file__).parents[2] / "docs" / "graph-file.md"
FIND_SOURCES = """
def find_sources(image, threshold):
    return [pixel for pixel in image if pixel > threshold]

"""


def test_it_runs(tmp_path: Path) -> None:
    (shown,) = re.findall(r"```python\n(def [^`]*)```", DOCUMENT.read_text())
    (function,) = re.findall(r'`function: "my_package.detection:(\w+)"`', DOCUMENT.read_text())
    dimensions = list(DATA_ID)
    sandbox = make_function_sandbox(
        tmp_path,
        FIND_SOURCES + shown,
        task=TaskCall(function=f"tasks:{function}", config={"threshold": 100}),
        dataset_types=[
            DatasetType("calexp", dimensions, "File", ".img"),
            DatasetType("catalog", dimensions, "Json", ".json"),
        ],
        inputs=[make_input(dataset_type="calexp")],
        outputs=[make_output(dataset_type="catalog", path=f"{RUN}/catalog.json")],
    )
    code, _ = sandbox.run()
    assert code == 0, sandbox.log()
    rows = sandbox.delta().rows
    assert [row.dataset_id for row in rows.dataset] == [CALEXP_ID]
    expected = [pixel for pixel in RAW_CONTENT if pixel > 100]
    assert json.loads((sandbox.directory / "repo" / RUN / "catalog.json").read_bytes()) == expected
    assert rows.metric == [MetricRow("n_sources", len(expected))]
    facts: dict[str, object] = {"seeing": 0.8, "airmass": 1.25}
    assert rows.dimension_record == [DimensionRecord("detection", DATA_ID, facts)]
