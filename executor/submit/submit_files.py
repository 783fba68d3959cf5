# SPDX-License-Identifier: BSD-3-Clause
"""Submit descriptions: one for all jobs of a label, one for the init job, one for the merge.

What differs from job to job is in the VARS of the DAG file: ``job_file``, ``quantum_id``,
``quanta``, ``node_name``, ``memory`` and ``retry``. No secret is in any of these files, nor in the
job ads made of them, which every user of a pool can read.
"""

import getpass
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from executor.bundle.submission import bundled
from executor.formats import formats_text, submitted_formats
from executor.submit.configuration import ConfigurationError, SubmitConfiguration
from executor.submit.job_policy import memory_lines, policy_lines
from executor.submit.nodes import Node
from executor.submit.requests import Requests
from executor.submit.submit_text import (
    class_ad_string,
    class_ad_value,
    environment_text,
    safe_word,
    submit_text,
)
from registry import names
from transfer_plugins.plugin_protocol import (
    DEADLINE_ATTRIBUTE,
    ENDPOINT_ATTRIBUTE,
    JOB_SCHEME,
    LINK_LIFETIME_ATTRIBUTE,
    OBJECT_SCHEME,
)

RUN_ATTRIBUTE = "QuantumExecRun"
DATASTORE_ATTRIBUTE = "QuantumExecDatastore"
STATUS_FILE = "node-status.txt"
INIT_LABEL = "init"
INIT_ERRORS = "init.err"
MERGE_LABEL = "merge"

_S3_URI = re.compile(r"s3://(?P<place>[A-Za-z0-9.-]+(/[A-Za-z0-9_.+@-]+)*)\Z")
# Settings of the merge on the access point: addresses of files and services, never a secret.
_MERGE_VARIABLES = (
    *("HOME", "AWS_PROFILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE", "AWS_CA_BUNDLE"),
    *("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"),
    *("PGSERVICE", "PGSERVICEFILE", "PGPASSFILE", "PGSYSCONFDIR", "PGSSLMODE", "LSST_DB_AUTH"),
)


def control_url_prefix(datastore: str, run: str, scheme: str = JOB_SCHEME) -> str:
    """URL of our scheme for the control objects of a RUN; raises `ConfigurationError`."""
    found = _S3_URI.match(datastore)
    if not found:
        raise ConfigurationError(
            f"datastore: a pool needs s3://bucket/prefix of letters, digits and _ . + @ -, found "
            f"{datastore!r}"
        )
    return f"{scheme}://{found['place']}/{names.control_prefix(run)}"


@dataclass(frozen=True, slots=True)
class Submission:
    """What all submit descriptions of a DAG have in common."""

    run: str
    datastore: str
    configuration: SubmitConfiguration

    def run_attributes(self) -> dict[str, str]:
        """Attributes by which our commands and ``bps report`` know the jobs of a run."""
        told = self.configuration
        found = {
            RUN_ATTRIBUTE: self.run,
            DATASTORE_ATTRIBUTE: self.datastore,
            "bps_isjob": "True",
            "bps_run": self.run,
            "bps_project": told.project,
            "bps_campaign": told.campaign,
            "bps_payload": told.payload_name,
            "bps_operator": told.operator or getpass.getuser(),
            "bps_runsite": told.compute_site,
        }
        return {f"My.{name}": class_ad_string(v, name) for name, v in found.items() if v}

    def job_attributes(self, name: str, label: str, quanta: str) -> dict[str, str]:
        """… and those that tell the jobs of a run apart."""
        return {
            **self.run_attributes(),
            "My.bps_job_name": f'"{name}"',
            "My.bps_job_label": class_ad_string(label, "label"),
            "My.bps_job_quanta": f'"{quanta}"',
        }


def dag_attributes(submission: Submission, nodes: Iterable[Node]) -> dict[str, str]:
    """Return the attributes of the DAGMan job: how many jobs and quanta there are of each label."""
    jobs: dict[str, int] = {}
    quanta: Counter[str] = Counter()
    for node in nodes:
        jobs[node.label] = jobs.get(node.label, 0) + 1
        quanta.update(node.quanta_by_task())
    all_jobs = summary({INIT_LABEL: 1, **jobs, MERGE_LABEL: 1})
    return {
        **submission.run_attributes(),
        "My.bps_run_quanta": class_ad_string(summary(quanta), "labels"),
        "My.bps_job_summary": class_ad_string(all_jobs, "labels"),
        "My.bps_run_summary": class_ad_string(all_jobs, "labels"),
    }


def summary(counts: Mapping[str, int]) -> str:
    """Counts by label as BPS writes them: ``isr:3;coadd:1``."""
    return ";".join(f"{label}:{count}" for label, count in counts.items())


def quantum_submit_file(submission: Submission, label: str, requests: Requests) -> str:
    """Return the submit description that all jobs of a label share.

    One marker URL comes in and one goes out; HTCondor itself moves nothing else. Standard output
    and error are not asked for: the log of the task goes to S3.
    """
    configuration = submission.configuration
    url = f"{control_url_prefix(submission.datastore, submission.run)}$(job_file)"
    lines = {
        **_worker_lines(configuration, requests),
        "arguments": "run --log-level INFO",
        "transfer_input_files": url,
        "transfer_output_files": names.STAGE_OUT_FILE,
        "transfer_output_remaps": f'"{names.STAGE_OUT_FILE} = {url}"',
        **memory_lines(requests),
        "batch_name": submission.run,
        **submission.job_attributes("$(node_name)", label, "$(quanta)"),
        "My.QuantumExecTaskLabel": class_ad_string(label, "task label"),
        "My.QuantumExecQuantumId": '"$(quantum_id)"',
        f"My.{LINK_LIFETIME_ATTRIBUTE}": str(configuration.commit_link_lifetime),
        **_transfer_attributes(configuration),
        **policy_lines(configuration, requests),
        **_attributes(requests, label),
    }
    lines = bundled(lines, configuration, submission.datastore)
    return submit_text(lines | _own_lines(requests, lines))


def init_submit_file(submission: Submission, graph_id: str, requests: Requests) -> str:
    """Return the submit description of the job that all others wait for.

    Its standard output and error come to the access point: that is one small file for each RUN.
    """
    configuration = submission.configuration
    place = control_url_prefix(submission.datastore, submission.run, OBJECT_SCHEME)
    record = names.graph_record_key(submission.run, graph_id)
    prefix = names.control_prefix(submission.run)
    result = names.init_key(submission.run, graph_id)
    lines = {
        **_worker_lines(configuration, requests),
        "arguments": f"init {graph_id} --formats {formats_text(submitted_formats())}",
        "output": "init.out",
        "error": INIT_ERRORS,
        "transfer_input_files": place + record.removeprefix(prefix),
        "transfer_output_files": names.INIT_FILE,
        "transfer_output_remaps": f'"{names.INIT_FILE} = {place}{result.removeprefix(prefix)}"',
        **memory_lines(requests),
        "batch_name": submission.run,
        **submission.job_attributes(INIT_LABEL, INIT_LABEL, f"{INIT_LABEL}:1"),
        **_transfer_attributes(configuration),
        **policy_lines(configuration, requests, waits_for_person=False),
        **_attributes(requests, INIT_LABEL),
    }
    lines = bundled(lines, configuration, submission.datastore)
    return submit_text(lines | _own_lines(requests, lines))


def _worker_lines(configuration: SubmitConfiguration, requests: Requests) -> dict[str, str]:
    """Return what any job on an execution point needs: programs, place, requests."""
    optional = {
        "accounting_group": requests.accounting_group,
        "accounting_group_user": requests.accounting_user,
        # The singular would be an unused line: no limit at all.
        "concurrency_limits": requests.concurrency_limit,
    }
    lines = {
        "universe": "vanilla",
        "executable": safe_word(configuration.worker_command(), "worker executable"),
        "transfer_executable": "false",
        "should_transfer_files": "YES",
        "when_to_transfer_output": "ON_EXIT",
        "request_cpus": str(requests.request_cpus),
        "request_disk": f"{requests.request_disk}MB",
        **{key: _words(value, key) for key, value in optional.items() if value},
    }
    if requests.container_image:
        # The wrapper is then a path inside; the plugin stays outside, on the host.
        lines["container_image"] = safe_word(requests.container_image, "containerImage")
    if requests.environment:
        lines["environment"] = environment_text(requests.environment, "environment")
    if requests.priority is not None:
        lines["priority"] = str(requests.priority)
    if requests.preemptible is False:
        # By this attribute a machine that may go at any time tells of itself.
        lines["requirements"] = "TARGET.IsPreemptible =!= true"
    return lines


def _words(text: str, what: str) -> str:
    return ", ".join(safe_word(word, what) for word in text.replace(",", " ").split())


def _transfer_attributes(configuration: SubmitConfiguration) -> dict[str, str]:
    endpoint = configuration.s3_endpoint_url
    found = {f"My.{DEADLINE_ATTRIBUTE}": str(configuration.transfer_deadline)}
    if endpoint:
        found[f"My.{ENDPOINT_ATTRIBUTE}"] = f'"{safe_word(endpoint, "endpoint")}"'
    return found


def _attributes(requests: Requests, label: str) -> dict[str, str]:
    found = {"BpsPreemptible": requests.preemptible, **requests.attributes}
    return {
        f"My.{safe_word(name, 'attributes')}": class_ad_value(value, f"{label}: {name}")
        for name, value in found.items()
        if value is not None
    }


def _own_lines(requests: Requests, ours: Mapping[str, str]) -> dict[str, str]:
    """Return the lines of ``profile.condor``; requirements are joined to ours."""
    found = dict(requests.submit_lines)
    if "requirements" in found and "requirements" in ours:
        found["requirements"] = f"({ours['requirements']}) && ({found['requirements']})"
    return found


def merge_submit_file(submission: Submission, environment: Mapping[str, str]) -> str:
    """Return the submit description of the FINAL node.

    Local universe: it runs on the access point, the only place with a credential of the database.
    """
    configuration = submission.configuration
    # The file may be a minute old by then. What it calls done is done, and a delta lost if there is
    # none; of quanta that were done since, the merge only says that they may still come.
    words = ["merge", submission.datastore, submission.run, "--dag-status", STATUS_FILE]
    if configuration.merge_config:
        words += ["--config", configuration.merge_config]
    if configuration.s3_endpoint_url:
        words += ["--endpoint-url", configuration.s3_endpoint_url]
    if configuration.output:
        words += ["--output-chain", configuration.output]
    variables = [f"{n}={environment[n]}" for n in _MERGE_VARIABLES if environment.get(n)]
    found = " ".join(safe_word(v, "environment of the merge") for v in variables)
    lines = {
        "universe": "local",
        "executable": safe_word(configuration.merge_command(), "merge executable"),
        "arguments": " ".join(safe_word(word, "argument of registry-merge") for word in words),
        "environment": f'"{found}"',
        "output": "merge.out",
        "error": "merge.err",
        "batch_name": submission.run,
        **submission.job_attributes(MERGE_LABEL, MERGE_LABEL, f"{MERGE_LABEL}:1"),
    }
    return submit_text(lines)
