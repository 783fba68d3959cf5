# SPDX-License-Identifier: BSD-3-Clause
"""What goes wrong between a job and its bucket: in the plugin, beside it, in the S3 service."""

import stat
from collections.abc import Iterable
from pathlib import Path

from executor.submit.configuration import SubmitConfiguration
from executor.submit.job_policy import memory_lines, policy_lines
from executor.submit.requests import Requests
from executor.submit.submit_text import submit_text
from tests.pool.submission import BIN
from tests.s3_proxy import HANG, Fault

# Stands before the real plugin and does what a file named after the quantum says.
_FAULTY_PLUGIN = """#!/bin/sh
[ "$1" = -classad ] && exec {plugin} -classad
url=$(sed -n 's/.*Url *= *"\\([^"]*\\)".*/\\1/p' "$2" | head -n 1)
fault={faults}/$(basename "$url" .json)
case "$(cat "$fault" 2> /dev/null) $*" in
once*) rm "$fault"; exit 1 ;;
always*) exit 1 ;;
hang*) rm "$fault"; exec sleep 1000 ;;
silent*-upload*) exit 0 ;;
killed*-upload*) kill -KILL $$ ;;
keyless*)
    unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY
    AWS_EC2_METADATA_DISABLED=true exec {plugin} "$@" ;;
esac
exec {plugin} "$@"
"""

# A plugin of the pool for a scheme of its own.
_OTHER_PLUGIN = """#!/bin/sh
echo 'MultipleFileSupport = true'
echo 'PluginVersion = "1"'
echo 'PluginType = "FileTransfer"'
echo 'SupportedMethods = "spoilt"'
"""


def write_faulty_plugin(path: Path, faults: Path) -> None:
    """Write the real plugin behind a script that can be told to fail."""
    _write_program(path, _FAULTY_PLUGIN.format(plugin=BIN / "quantum_exec_plugin", faults=faults))


def write_other_plugin(path: Path) -> None:
    """Write a plugin that tells of the scheme ``spoilt``, while it can be executed."""
    _write_program(path, _OTHER_PLUGIN)


def _write_program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


class FaultyBucket:
    """The rule of a proxy: refuses some quanta's requests, and answers one of another not at all.

    Parameters
    ----------
    quanta
        Ids of quanta by what is done to them: ``unread``, ``unwritten`` or ``unanswered``.
    """

    def __init__(self) -> None:
        self.quanta: dict[str, str] = {}

    def __call__(self, method: str, key: str) -> Fault | None:
        """What is done to a request."""
        denied = Fault(403, "AccessDenied")
        if method == "GET" and key.endswith(f"/jobs/{self.quanta.get('unread')}.json"):
            return denied
        if method == "PUT" and f"/logs/{self.quanta.get('unwritten')}." in key:
            return denied
        if method == "GET" and key.endswith(f"/jobs/{self.quanta.get('unanswered')}.json"):
            del self.quanta["unanswered"]
            return HANG
        return None


def lonely_job(lines: Iterable[str], configuration: SubmitConfiguration) -> str:
    """Submit description of a job without a DAG that has the policy of an init job."""
    requests = Requests(request_memory=32, memory_multiplier=1)
    policy = policy_lines(configuration, requests, waits_for_person=False)
    head = {
        "executable": "/bin/true",
        "transfer_executable": "false",
        "should_transfer_files": "YES",
        "request_disk": "1MB",
        "memory": "32",
        "retry": "0",
    }
    return "\n".join([*lines, submit_text({**head, **memory_lines(requests), **policy})])
