# SPDX-License-Identifier: BSD-3-Clause
"""Requests as an earlier run measured them: a piece of configuration with ``pipetask`` alone.

``registry-merge requests`` makes it, as a process: the submit side reads no database.
"""

import subprocess
import tempfile
from pathlib import Path

import msgspec

from executor.submit.configuration import SubmitConfiguration, read_submit_configuration
from executor.submit.configuration_error import ConfigurationError
from executor.submit.requests import Requests, merged


def with_measured_requests(
    configuration: SubmitConfiguration, *, run: str | None, file: Path | None
) -> SubmitConfiguration:
    """Return the configuration with requests of task labels as a file or an earlier run has them.

    What they set goes before what the configuration says of a label.

    Raises
    ------
    ConfigurationError
        If the registry cannot be asked, or the requests are none.
    """
    if file is not None:
        configuration = _with_file(configuration, file)
    if run is None:
        return configuration
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", prefix="requests-of-run-") as written:
        written.write(_requests_of_run(configuration, run))
        written.flush()
        return _with_file(configuration, Path(written.name))


def _requests_of_run(configuration: SubmitConfiguration, run: str) -> str:
    words = [configuration.merge_command(), "requests", run, "--yaml"]
    if configuration.merge_config:
        words += ["--config", configuration.merge_config]
    try:
        done = subprocess.run(words, capture_output=True, text=True)
    except OSError as error:
        raise ConfigurationError(f"mergeExecutable: cannot be run: {error}") from error
    if done.returncode != 0:
        told = " ".join(done.stderr.split()[-60:])
        raise ConfigurationError(
            f"requests of RUN {run!r}: registry-merge ended with {done.returncode}: {told}"
        )
    return done.stdout


def _with_file(configuration: SubmitConfiguration, file: Path) -> SubmitConfiguration:
    measured = read_submit_configuration(file)
    if not measured.pipetask:
        raise ConfigurationError(f"{file}: expected requests of task labels (pipetask), found none")
    pipetask = dict(configuration.pipetask)
    for label, requests in measured.pipetask.items():
        asked = merged([pipetask.get(label, Requests()), requests])
        most = asked.request_memory_max
        if most is not None and asked.request_memory is not None and most < asked.request_memory:
            # Measured: what the label's own section allows is less than what it took.
            asked = msgspec.structs.replace(asked, request_memory_max=asked.request_memory)
        pipetask[label] = asked
    return msgspec.structs.replace(configuration, pipetask=pipetask)
