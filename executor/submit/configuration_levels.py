# SPDX-License-Identifier: BSD-3-Clause
"""One level of a submit configuration: what BPS writes in other forms, brought to one form.

``profile.condor`` and ``nodeset`` become attributes and lines of the submit description,
``memoryLimit`` a maximum, H:M:S seconds. Nothing may undo what submit descriptions need for
transfer and for keeping secrets: lines are taken from a list, attributes of HTCondor are not.
"""

import re
from collections.abc import Mapping
from typing import Any

from executor.submit.configuration_source import Place, Source
from registry.hidden_words import has_secret

LEVEL_KEYS = frozenset({"profile", "nodeset", "memoryLimit"})
"""Keys of a level that are no fields of `executor.submit.requests.Requests`."""

SUBMIT_LINES = frozenset(
    {
        *("requirements", "rank", "nice_user", "job_machine_attrs", "description"),
        *("job_machine_attrs_history_length", "require_gpus", "gpus_minimum_memory"),
        *("gpus_minimum_capability", "gpus_maximum_capability", "cuda_version"),
        *("keep_claim_idle", "notification", "notify_user", "concurrency_limits_expr"),
        *("container_target_dir", "docker_network_type", "want_io_proxy", "starter_debug"),
    }
)
"""Lines of a submit description that ``profile.condor`` may have, beside ``request_<resource>``."""

_KEYS_OF_LINES = {
    "accounting_group": "accountingGroup",
    "accounting_group_user": "accountingUser",
    "concurrency_limits": "concurrencyLimit",
    "container_image": "containerImage",
    "docker_image": "containerImage",
    "environment": "environment",
    "job_priority": "priority",
    "max_retries": "numberOfRetries",
    "priority": "priority",
    "request_cpus": "requestCpus",
    "request_disk": "requestDisk",
    "request_memory": "requestMemory",
    "retry_request_memory": "memoryMultiplier",
    "retry_until": "retryUnlessExit",
    "singularityimage": "containerImage",
    "allowed_execute_duration": "requestWalltime",
}
"""Keys of ours for lines and attributes that may not be written directly, in lower case."""

_REQUEST_LINE = re.compile(r"request_(?!cpus\Z|memory\Z|disk\Z)[a-z][a-z0-9_]*\Z")
# $(…) and $ENV(…) are put in at submission, a secret of the environment, too.
_OF_MACHINE = re.compile(r"(?<!\$)\$\$(?=[(\[])")
_ATTRIBUTE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
# Set by us or by HTCondor: identity, transfer, environment, policy.
_OURS = re.compile(
    r"((QuantumExec|bps_|DAG|Transfer|Periodic|OnExit|X509|OAuth|Request|Encrypt|DontEncrypt"
    r"|StageIn|StageOut|ShouldTransfer|WhenToTransfer|Hold|Num(Job|Shadow|Holds|Restarts|Starts)"
    r"|Acct|Accounting|Concurrency|Container|Docker|Singularity|Allowed|Want|Spool|LeaveJob|Auth"
    r"|Job(Universe|Status|Prio|Lease|Batch|Submission|Max|CurrentStart|RunCount|Notification)"
    r"|Output(Destination|Remaps)|JobAdInformation|Remote|Orig|Last|Entered).*"
    r"|Owner|OsUser|User|Cmd|Args|Arguments|Env|Environment|Iwd|In|Out|Err|UserLog|Requirements"
    r"|Rank|ClusterId|ProcId|NTDomain|MyType|TargetType|NiceUser|My|Target)\Z",
    re.IGNORECASE,
)
_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_SECRET_NAME = re.compile(
    r"(SECRET|PASSWORD|PASSWD|PASSPHRASE|TOKEN|PRIVATE_KEY|ACCESS_KEY|API_?KEY)", re.IGNORECASE
)
_ADDRESS_NAME = re.compile(r"_(FILE|PATH|DIR|URL|URI)\Z", re.IGNORECASE)
_HOURS = re.compile(r"(\d+):([0-5]?\d):([0-5]?\d)\Z")


def plain_level(place: Place, tree: Mapping[str, Any], source: Source) -> dict[str, Any]:
    """Bring a level to the keys that `executor.submit.requests.Requests` has.

    Raises
    ------
    ConfigurationError
        If a line or an attribute would undo what the job needs, or a variable is a secret.
    """
    found = dict(tree)
    attributes = {
        _attribute((*place, "attributes", str(name)), str(name), source): value
        for name, value in _section((*place, "attributes"), found.get("attributes"), source).items()
    }
    lines: dict[str, str] = {}
    _take_profile(place, found.pop("profile", None), attributes, lines, source)
    _take_nodeset(place, found.pop("nodeset", None), attributes, lines, source)
    _take_memory_limit(found)
    found["requestWalltime"] = _seconds((*place, "requestWalltime"), tree, source)
    found["environment"] = _environment((*place, "environment"), tree, source)
    return {**found, "attributes": attributes, "submitLines": lines}


def _section(place: Place, value: object, source: Source) -> dict[str, Any]:
    if not isinstance(value, dict | None):
        raise source.error(place, f"expected keys, found {value!r}")
    return value or {}


def _take_profile(
    place: Place,
    profile: object,
    attributes: dict[str, Any],
    lines: dict[str, str],
    source: Source,
) -> None:
    condor = _section((*place, "profile"), profile, source).get("condor")
    at = (*place, "profile", "condor")
    for key, value in _section(at, condor, source).items():
        if key.startswith("+"):
            attributes[_attribute((*at, key), key, source)] = value
            continue
        name = key.lower()
        if name in _KEYS_OF_LINES:
            raise source.error((*at, key), f"expected the key {_KEYS_OF_LINES[name]} in its place")
        if name not in SUBMIT_LINES and not _REQUEST_LINE.match(name):
            raise source.error(
                (*at, key),
                f"expected +Name for an attribute or one of {', '.join(sorted(SUBMIT_LINES))}, "
                f"request_<resource>; found {key!r}, which is set by us or could break transfer",
            )
        text = str(value)
        if not isinstance(value, str | int | float) or "\n" in text or "\r" in text:
            raise source.error((*at, key), f"expected one line, found {value!r}")
        if "$" in _OF_MACHINE.sub("", text):
            raise source.error(
                (*at, key), f"expected no macro but $$(…), which a machine answers; found {text!r}"
            )
        lines[name] = text.lower() if isinstance(value, bool) else text


def _take_nodeset(
    place: Place,
    nodeset: object,
    attributes: dict[str, Any],
    lines: dict[str, str],
    source: Source,
) -> None:
    if nodeset is None:
        return
    if not isinstance(nodeset, str) or not re.fullmatch(r"[A-Za-z0-9_.-]+", nodeset):
        raise source.error((*place, "nodeset"), f"expected a word, found {nodeset!r}")
    attributes["JobNodeset"] = nodeset
    clause = f'(Target.Nodeset == "{nodeset}")'
    before = lines.get("requirements")
    lines["requirements"] = f"({before}) && {clause}" if before else clause


def _take_memory_limit(found: dict[str, Any]) -> None:
    """``memoryLimit`` of BPS is a maximum of every job's maximum."""
    limit = found.pop("memoryLimit", None)
    if limit is None:
        return
    maximum = found.get("requestMemoryMax")
    both = isinstance(limit, int) and isinstance(maximum, int)
    found["requestMemoryMax"] = min(limit, maximum) if both else limit


def _attribute(place: Place, name: str, source: Source) -> str:
    plain = name.removeprefix("+")
    if not _ATTRIBUTE.match(plain):
        raise source.error(place, f"expected the name of an attribute, found {name!r}")
    if _OURS.match(plain):
        key = _KEYS_OF_LINES.get(plain.lower())
        if key is not None:
            raise source.error(place, f"expected the key {key} in the place of {plain!r}")
        raise source.error(
            place, f"expected an attribute of your own, found {plain!r}, which is set for you"
        )
    return plain


def _seconds(place: Place, tree: Mapping[str, Any], source: Source) -> object:
    value = tree.get("requestWalltime")
    if not isinstance(value, str):
        return value
    if value.isdecimal():
        return int(value)
    parts = _HOURS.match(value)
    if not parts:
        raise source.error(place, f"expected seconds or H:M:S, found {value!r}")
    hours, minutes, seconds = (int(part) for part in parts.groups())
    return 3600 * hours + 60 * minutes + seconds


def _environment(place: Place, tree: Mapping[str, Any], source: Source) -> dict[str, str]:
    found = {}
    for name, value in _section(place, tree.get("environment"), source).items():
        at = (*place, name)
        if not _ENVIRONMENT_NAME.match(name):
            raise source.error(at, f"expected the name of a variable, found {name!r}")
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            advice = ", which has to be in quotes" if isinstance(value, bool) else ""
            raise source.error(at, f"expected text or a number, found {value!r}{advice}")
        is_secret = _SECRET_NAME.search(name) and not _ADDRESS_NAME.search(name)
        if is_secret or has_secret(str(value)):
            raise source.error(
                at,
                "expected no secret, because every user of a pool can read a job's environment; "
                "docs/security.md says how workers get credentials",
            )
        if any(not c.isprintable() for c in str(value)):
            raise source.error(at, "expected one line of printable characters")
        found[name] = str(value)
    return found
