# SPDX-License-Identifier: BSD-3-Clause
"""What a pool says to a submission before it is queued: rights, slots, plugin, containers."""

import getpass
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from executor.submit.arrangement import Arrangement, requests_left
from executor.submit.checks import Finding
from executor.submit.configuration import SubmitConfiguration
from executor.submit.pool_queue import PoolError, bindings
from executor.submit.requests import Requests
from registry.job import ResourceRequest
from transfer_plugins.plugin_protocol import JOB_SCHEME

_NOBODY = ("unauthenticated", "unmapped", "condor", "condor_pool", "anonymous")
_CONTAINER_ABILITIES = ("HasContainer", "HasDockerURL", "HasSIF", "HasSandboxImage")
_PROJECTION = [
    *("SlotType", "PartitionableSlot", "TotalSlotMemory", "TotalSlotCpus", "TotalSlotDisk"),
    *("Memory", "Cpus", "Disk", "HasFileTransferPluginMethods", *_CONTAINER_ABILITIES),
]


@dataclass(frozen=True, slots=True)
class Slot:
    """What a job can have of an execution point at most: MiB, cores, MiB."""

    memory_mib: int
    cpus: int
    disk_mib: int
    has_plugin: bool
    container_abilities: frozenset[str] = frozenset()

    def fits(self, requests: Requests) -> bool:
        """Whether a first attempt can ever run here."""
        return (
            (requests.request_memory or 0) <= self.memory_mib
            and (requests.request_cpus or 0) <= self.cpus
            and (requests.request_disk or 0) <= self.disk_mib
            and self.container_abilities.issuperset(_needed_abilities(requests))
        )


def _needed_abilities(requests: Requests) -> frozenset[str]:
    """What ``condor_submit`` itself asks of a slot for an image of this form."""
    image = requests.container_image
    if not image:
        return frozenset()
    if image.startswith("docker://"):
        return frozenset({"HasContainer", "HasDockerURL"})
    return frozenset({"HasContainer", "HasSIF" if image.endswith(".sif") else "HasSandboxImage"})


def check_rights() -> None:
    """Ask the schedd who we are to it, and whether we may submit.

    HTCondor gives WRITE to all that have DAEMON or ADMINISTRATOR: where ``ALLOW_DAEMON = *``, an
    ``ALLOW_WRITE`` refuses nobody, neither here nor to ``condor_submit``.

    Raises
    ------
    PoolError
        If there is no schedd, or it lets us not submit.
    """
    htcondor2 = bindings()
    failures = (htcondor2.HTCondorException, OSError, RuntimeError, ValueError)
    try:
        location = htcondor2.Collector().locate(htcondor2.DaemonType.Schedd)
        if location is None:
            raise ValueError("no schedd is known here")
        user, may_submit = _rights_at(location, failures)
    except failures as error:
        raise PoolError(
            f"schedd: expected one that can be reached and lets {getpass.getuser()} submit "
            f"(CONDOR_CONFIG says where the pool is), found: {error}"
        ) from error
    if not may_submit:
        raise PoolError(
            f"schedd: expected the right to submit, found that {user} has none; the pool's "
            "administrator has to give it (ALLOW_WRITE, DENY_WRITE)"
        )
    if user.partition("@")[0] in _NOBODY:
        raise PoolError(
            f"schedd: expected to be known as {getpass.getuser()}, found {user}, who may not own "
            "jobs; the pool's administrator has to let this account submit (ALLOW_WRITE)"
        )


def _rights_at(location: Any, failures: tuple[type[Exception], ...]) -> tuple[str, bool]:
    """Who we are to a schedd, and whether it lets us submit."""
    ping = bindings().ping
    try:
        found = ping(location, "WRITE")
        may_submit = bool(found.get("AuthorizationSucceeded", True))
    except failures:
        # A refusal is "Failed to start command.", as if nobody were there; who answers to READ is.
        found = ping(location, "READ")
        may_submit = False
    return str(found.get("MyRemoteUserName", "unauthenticated")), may_submit


def slots_of_pool() -> list[Slot]:
    """The slots of the pool, those that are parts of others left out.

    Raises
    ------
    PoolError
        If the collector cannot be asked.
    """
    htcondor2 = bindings()
    try:
        ads = htcondor2.Collector().query(
            htcondor2.AdType.Startd, constraint='SlotType =!= "Dynamic"', projection=_PROJECTION
        )
    except (htcondor2.HTCondorException, OSError, RuntimeError) as error:
        raise PoolError(f"collector: cannot be asked for the slots of the pool: {error}") from error
    return [slot_of_ad(ad) for ad in ads]


def slot_of_ad(ad: Mapping[str, Any]) -> Slot:
    """Return what an execution point tells of one of its slots."""

    def most(name: str) -> int:
        found = ad.get(f"TotalSlot{name}")
        return int(ad.get(name, 0) if found is None else found)

    methods = str(ad.get("HasFileTransferPluginMethods", "")).lower().split(",")
    return Slot(
        *(most("Memory"), most("Cpus"), most("Disk") // 1024, JOB_SCHEME in methods),
        frozenset(name for name in _CONTAINER_ABILITIES if ad.get(name) is True),
    )


def suited_to_pool(
    arrangement: Arrangement, resources: Mapping[str, ResourceRequest], *, is_elastic: bool
) -> tuple[Arrangement, list[Finding]]:
    """Return jobs whose memory ends at the pool's largest slot, and what is wrong with the others.

    Parameters
    ----------
    is_elastic
        As in `check_slots`.

    Raises
    ------
    PoolError
    """
    slots, configuration = slots_of_pool(), arrangement.configuration
    requests = requests_left(arrangement, resources)
    findings = list(check_slots(slots, requests, configuration, is_elastic=is_elastic))
    limited = with_largest_slot(configuration, slots, requests)
    if not is_elastic:
        limited, lowered = with_lower_maxima(limited, slots, requests)
        findings += lowered
    return replace(arrangement, configuration=limited), findings


def check_slots(
    slots: list[Slot],
    requests: Mapping[str, Requests],
    configuration: SubmitConfiguration,
    *,
    is_elastic: bool = False,
) -> Iterator[Finding]:
    """Compare what jobs ask for with what the pool has.

    Parameters
    ----------
    is_elastic
        Slots may come that are not there now: nothing is an error.
    """
    if not slots:
        yield Finding(
            "pool: found no slots, so requests were not checked; jobs wait until there are some",
            is_error=False,
        )
        return
    if not configuration.bundle:
        with_plugin = [slot for slot in slots if slot.has_plugin]
        if not with_plugin:
            yield Finding(
                f"pool: expected a slot with the transfer plugin ({JOB_SCHEME} in "
                "HasFileTransferPluginMethods), found none; configure FILETRANSFER_PLUGINS on "
                "execution points (configs/htcondor), or set bundle",
                is_error=not is_elastic,
            )
        slots = with_plugin or slots
    for label, asked in requests.items():
        if not any(slot.fits(asked) for slot in slots):
            yield Finding(_told(label, asked, slots), is_error=not is_elastic)


def _told(label: str, asked: Requests, slots: list[Slot]) -> str:
    needed = _needed_abilities(asked)
    able = [slot for slot in slots if slot.container_abilities >= needed]
    if not able:
        return (
            f"pool: {label}: expected a slot that can run containerImage {asked.container_image} "
            f"({', '.join(sorted(needed))}), found none; have a container runtime installed on "
            "execution points, or --ignore-slots if such slots will come"
        )
    largest = max(able, key=lambda slot: (slot.memory_mib, slot.cpus, slot.disk_mib))
    over = {
        "requestMemory": (asked.request_memory or 0, max(s.memory_mib for s in able), " MiB"),
        "requestCpus": (asked.request_cpus or 0, max(s.cpus for s in able), ""),
        "requestDisk": (asked.request_disk or 0, max(s.disk_mib for s in able), " MiB"),
    }
    told = [
        f"{key} {wanted}{unit} where the largest slot has {there}{unit}"
        for key, (wanted, there, unit) in over.items()
        if wanted > there
    ]
    alone = (
        f"requestMemory {asked.request_memory} MiB, requestCpus {asked.request_cpus} and "
        f"requestDisk {asked.request_disk} MiB, which no slot has together (the one with most "
        f"memory: {largest.memory_mib} MiB, {largest.cpus}, {largest.disk_mib} MiB)"
    )
    return (
        f"pool: {label}: expected requests that a slot of the pool can meet, found "
        f"{', '.join(told) or alone}; lower them, or --ignore-slots if such slots will come"
    )


def with_largest_slot(
    configuration: SubmitConfiguration, slots: list[Slot], requests: Mapping[str, Requests]
) -> SubmitConfiguration:
    """The same, with the largest slot as the maximum of requests that would grow without one."""
    largest = max((slot.memory_mib for slot in slots), default=0)
    first = max((r.request_memory or 0 for r in requests.values()), default=0)
    if configuration.request_memory_max is not None or largest < first:
        return configuration
    return msgspec.structs.replace(configuration, request_memory_max=largest)


def with_lower_maxima(
    configuration: SubmitConfiguration, slots: list[Slot], requests: Mapping[str, Requests]
) -> tuple[SubmitConfiguration, list[Finding]]:
    """The same, where a request would grow beyond what any slot has, and then wait for ever.

    Returns
    -------
    configuration
        With lower maxima of the labels that this is true of.
    findings
        A warning that names these labels.
    """
    pipetask, cluster = dict(configuration.pipetask), dict(configuration.cluster)
    lowered = []
    for label, asked in requests.items():
        most = max((slot.memory_mib for slot in slots if slot.fits(asked)), default=None)
        maximum = asked.request_memory_max or configuration.request_memory_max
        if most is None or maximum is None or maximum <= most:
            continue
        if label in cluster:
            cluster[label] = msgspec.structs.replace(cluster[label], request_memory_max=most)
        else:
            own = pipetask.get(label, Requests())
            pipetask[label] = msgspec.structs.replace(own, request_memory_max=most)
        if asked.request_memory_max is not None:
            lowered.append(f"{label} ({maximum} MiB where a slot has {most})")
    told = (
        "pool: requestMemoryMax is more than any slot has that can run "
        f"{', '.join(lowered)}; requests grow to that slot only, further with --ignore-slots"
    )
    return (
        msgspec.structs.replace(configuration, pipetask=pipetask, cluster=cluster),
        [Finding(told, is_error=False)] if lowered else [],
    )
