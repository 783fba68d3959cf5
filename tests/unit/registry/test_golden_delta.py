# SPDX-License-Identifier: BSD-3-Clause
"""Formats as they were released: these bytes stay readable for ever; the newest is written so."""

from dataclasses import replace
from pathlib import Path

from registry.attempt import AttemptStatus
from registry.delta import (
    AddedRows,
    DatasetRow,
    DatastoreRow,
    Delta,
    LogEntry,
    MetricRow,
    ReadInput,
    ResourceUse,
    read_delta,
    write_delta,
)
from registry.job import ResourceRequest
from registry.model import DimensionRecord

GOLDEN = Path(__file__).parents[2] / "golden"

RUN = "u/observer/night-2026.01"
QUANTUM_ID = "5b0b9d43-6e0f-5d0c-9a55-3f2a1c7d8e90"
ATTEMPT_ID = "019b7d2f-1a2b-7c3d-8e4f-5a6b7c8d9e0f"
KEY = f"{RUN}/quantum-exec/deltas/{QUANTUM_ID}.{ATTEMPT_ID}.json"
DATASET_ID = "0e6a3f21-94c8-5b7e-8d12-6f5a4b3c2d10"
DATA_ID: dict[str, str | int] = {"instrument": "Kamera-Ä", "exposure": 1228, "detector": 49}

# Written out, and not made by a factory: this must not change with anything.
DELTA_1 = Delta(
    format=1,
    graph_id="a3c1f0e2-7b64-5e1f-b0d9-2c4e6a8f1b3d",
    run=RUN,
    quantum_id=QUANTUM_ID,
    task_label="calibrate",
    data_id=DATA_ID,
    attempt_id=ATTEMPT_ID,
    status=AttemptStatus.SUCCESSFUL,
    no_work=False,
    started="2026-01-02T03:04:05.678901+00:00",
    finished="2026-01-02T03:05:06.000001+00:00",
    host="worker-7.example",
    resources=ResourceUse(60.321099, 55.5, 1.75, 1288490188),
    exit_code=0,
    signal=None,
    error=None,
    log_key=f"{RUN}/quantum-exec/logs/{QUANTUM_ID}.{ATTEMPT_ID}.log",
    inputs=[
        ReadInput(
            "c4d5e6f7-0812-5a3b-8c4d-5e6f70819203",
            "019b7d2e-0000-7abc-9def-0123456789ab",
            f"{RUN}/postisr/postisr_1228_49.019b7d2e0000456789ab.fits",
            33592320,
            "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        ),
        ReadInput(
            "d5e6f708-1923-5b4c-9d5e-6f7081920314",
            None,
            "raw/all/raw 1228 [49].fits",
            0,
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        ),
    ],
    rows=AddedRows(
        dataset=[DatasetRow(DATASET_ID, "calexp", DATA_ID)],
        datastore_record=[
            DatastoreRow(
                DATASET_ID,
                f"{RUN}/calexp/Kamera-%C3%84/1228/calexp_49.019b7d2f1a2b7c8d9e0f.fits",
                2**53 + 1,
                "sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
                "Fits",
            )
        ],
        dimension_record=[
            DimensionRecord(
                "calibration",
                {"exposure": 1228, "detector": 49},
                {"zero_point": 27.0625, "flags": ["ok", None, True], "note": 'µ "5"\n\\ 😀'},
            )
        ],
        metric=[MetricRow("n_stars", 1234.0), MetricRow("seeing", 0.1)],
    ),
)


DELTA_2 = replace(
    DELTA_1,
    format=2,
    log_key=f"{RUN}/quantum-exec/logs/{QUANTUM_ID}.{ATTEMPT_ID}.log.gz",
    resources=ResourceUse(60.321099, 55.5, 1.75, 1288490188, 2**40 + 1, 33592320, 67184640),
    requested=ResourceRequest(cpus=4, memory_mib=2048, scratch_mib=None, wall_s=3600.5),
    versions={
        "python": "3.13.1",
        "quantum-exec": "0.1.0",
        "platform": "Linux-6.12 \u00e4 \U0001f600",
    },
    wrapper_log=[
        LogEntry(0.0, "stage_in", {}),
        LogEntry(0.25, "staged_in", {"n_inputs": 2, "bytes": 33592320, "slowest": None}),
        LogEntry(60.5, "task_ended", {"exit_code": 0, "signals": [15, 9], "within": True}),
    ],
)

NOT_KEPT_ID = "1f7b4032-a5d9-5c8f-9e23-706b5c4d3e21"

DELTA_3 = replace(
    DELTA_2,
    format=3,
    rows=replace(
        DELTA_2.rows,
        dataset=[*DELTA_2.rows.dataset, DatasetRow(NOT_KEPT_ID, "postisr", DATA_ID)],
    ),
    not_kept=[NOT_KEPT_ID],
)


def test_format_1_is_read_as_ever() -> None:
    assert read_delta((GOLDEN / "delta-format-1.json").read_bytes(), KEY) == DELTA_1


def test_format_2_is_read_as_ever() -> None:
    assert read_delta((GOLDEN / "delta-format-2.json").read_bytes(), KEY) == DELTA_2


def test_format_3_is_read_as_ever() -> None:
    assert read_delta((GOLDEN / "delta-format-3.json").read_bytes(), KEY) == DELTA_3


def test_format_3_is_written_as_ever() -> None:
    assert write_delta(DELTA_3) == (GOLDEN / "delta-format-3.json").read_bytes()
