# SPDX-License-Identifier: BSD-3-Clause
"""Job files."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import FormatError, InvalidNameError, NewerFormatError, QuantumExecError
from registry.job import JOB_FORMAT, Job, TaskCall, read_job, write_job
from registry.model import DimensionRecord
from registry.typed_json import encode
from tests.samples import make_input, make_job, make_output
from tests.unit.registry.test_typed_json import JSON_VALUES

FACTS = st.dictionaries(st.text(), JSON_VALUES, max_size=3)


@given(
    st.builds(TaskCall, command=st.lists(st.text()), function=st.none(), config=FACTS),
    st.lists(st.builds(DimensionRecord, record=FACTS), max_size=2),
)
def test_round_trip(task: TaskCall, records: list[DimensionRecord]) -> None:
    job = make_job(task=task, dimension_records=records)
    assert read_job(write_job(job), "job") == job
    assert read_job(write_job(job).decode(), "job") == job


def test_inputs_of_a_producer_are_kept() -> None:
    made = make_input(producer=make_job().quantum_id, key=None, optional=True)
    job = make_job(inputs=[made, make_input(size_bytes=7, checksum="sha256:00")])
    assert read_job(write_job(job), "job").inputs == job.inputs


def test_newer_format_is_refused_with_what_to_do() -> None:
    newer = write_job(make_job(format=JOB_FORMAT + 1))
    with pytest.raises(NewerFormatError, match=r"job: .* found 3; upgrade quantum-exec"):
        read_job(newer, "job")


def test_newer_format_with_new_fields_is_refused_as_newer() -> None:
    newer = write_job(make_job(format=JOB_FORMAT + 1)).decode()
    with pytest.raises(NewerFormatError, match="upgrade quantum-exec"):
        read_job(newer.replace('"run"', '"priority":1,"run"', 1), "job")


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "a/../../x", "a//b"])
def test_path_outside_of_the_sandbox_is_refused(path: str) -> None:
    for job in (
        make_job(inputs=[make_input(path=path)]),
        make_job(outputs=[make_output(path=path)]),
    ):
        with pytest.raises(InvalidNameError, match=r"job: path of (raw|calexp): expected a key"):
            read_job(write_job(job), "job")


@pytest.mark.parametrize("task", [TaskCall(), TaskCall(command=["true"], function="m:f")])
def test_task_is_either_a_command_or_a_function(task: TaskCall) -> None:
    with pytest.raises(FormatError, match="job: expected either a command or a function"):
        read_job(write_job(make_job(task=task)), "job")


def test_unsafe_run_is_refused() -> None:
    with pytest.raises(InvalidNameError, match=r"RUN '\.\./x'"):
        read_job(write_job(make_job(run="../x")), "job")


@pytest.mark.parametrize("predicted", ["inputs", "outputs"])
def test_dataset_type_must_be_described(predicted: str) -> None:
    job = make_job(**{predicted: [replace(getattr(make_job(), predicted)[0], dataset_type="x")]})
    with pytest.raises(FormatError, match=r"job: expected one of .*'calexp', 'raw'.* found 'x'"):
        read_job(write_job(job), "job")


@given(st.integers(0, len(encode(make_job())) - 1), st.characters(codec="ascii"))
def test_a_damaged_job_is_refused_or_a_job(place: int, character: str) -> None:
    text = encode(make_job())
    damaged = text[:place] + character + text[place + 1 :]
    try:
        assert isinstance(read_job(damaged, "job"), Job)
    except QuantumExecError as error:
        assert str(error).startswith(("job", "RUN"))
