# SPDX-License-Identifier: BSD-3-Clause
"""Requests against the slots of a pool, whose ads are those of a real one.

``tests/slot_ads`` is what ``condor_status -json`` told of an execution point with a partitionable
slot (4 cores, 4096 MiB, can run .sif images) and a static one (2 cores, 8192 MiB).
"""

import json
from pathlib import Path

import msgspec
import pytest

from executor.submit.cluster_configuration import ClusterRequest
from executor.submit.configuration import SubmitConfiguration
from executor.submit.pool_slots import (
    Slot,
    check_slots,
    slot_of_ad,
    with_largest_slot,
    with_lower_maxima,
)
from executor.submit.requests import Requests

ADS = Path(__file__).parents[2] / "slot_ads" / "condor-23.9.6.json"
SLOTS = [slot_of_ad(ad) for ad in json.loads(ADS.read_text())]
CONFIGURATION = SubmitConfiguration()


def found(
    requests: dict[str, object], slots: list[Slot] = SLOTS, is_elastic: bool = False
) -> list[tuple[bool, str]]:
    """What is said of the requests of one label."""
    asked = {"isr": msgspec.convert(requests, Requests)}
    told = check_slots(slots, asked, CONFIGURATION, is_elastic=is_elastic)
    return [(finding.is_error, finding.message) for finding in told]


def test_slots_are_read_from_their_ads() -> None:
    shared, alone = SLOTS
    assert (shared.memory_mib, shared.cpus, shared.disk_mib) == (4096, 4, 9765)
    assert (alone.memory_mib, alone.cpus, alone.disk_mib) == (8192, 2, 19531)
    assert shared.has_plugin and alone.has_plugin
    assert shared.container_abilities == {"HasContainer", "HasSIF"}
    assert not alone.container_abilities


@pytest.mark.parametrize(
    "requests",
    [
        {"requestMemory": 8192, "requestCpus": 2, "requestDisk": 19531},
        {"requestMemory": 4096, "requestCpus": 4},
        {"containerImage": "/images/a.sif", "requestMemory": 4096},
        {},
    ],
)
def test_what_a_slot_has_is_met(requests: dict[str, object]) -> None:
    assert found(requests) == []


@pytest.mark.parametrize(
    ("requests", "text"),
    [
        ({"requestMemory": 8193}, "requestMemory 8193 MiB where the largest slot has 8192 MiB;"),
        ({"requestCpus": 5}, "requestCpus 5 where the largest slot has 4;"),
        ({"requestDisk": 20000}, "requestDisk 20000 MiB where the largest slot has 19531 MiB;"),
        (
            {"requestMemory": 9000, "requestCpus": 8},
            "requestMemory 9000 MiB where the largest slot has 8192 MiB, requestCpus 8 where",
        ),
        (
            {"requestMemory": 8192, "requestCpus": 4, "requestDisk": 1},
            "requestMemory 8192 MiB, requestCpus 4 and requestDisk 1 MiB, which no slot has "
            "together (the one with most memory: 8192 MiB, 2, 19531 MiB)",
        ),
        ({"containerImage": "/a.sif", "requestMemory": 5000}, "the largest slot has 4096 MiB"),
        ({"containerImage": "docker://a/b:1"}, "docker://a/b:1 (HasContainer, HasDockerURL)"),
        ({"containerImage": "oras://a/b:1"}, "oras://a/b:1 (HasContainer, HasSandboxImage)"),
        ({"containerImage": "/images/a"}, "found none; have a container runtime installed"),
    ],
)
def test_what_no_slot_has_is_told_with_label_and_numbers(
    requests: dict[str, object], text: str
) -> None:
    [(is_error, message)] = found(requests)
    assert is_error
    assert message.startswith("pool: isr: expected ")
    assert text in message
    assert "--ignore-slots" in message
    assert found(requests, is_elastic=True) == [(False, message)]


def test_pool_without_slots_is_a_warning() -> None:
    [(is_error, message)] = found({"requestMemory": 10**9}, [])
    assert not is_error
    assert "found no slots" in message


def test_slots_without_the_plugin_do_not_count() -> None:
    poor = Slot(65536, 64, 10**6, has_plugin=False)
    [(is_error, message)] = found({"requestMemory": 10_000}, [*SLOTS, poor])
    assert is_error and "the largest slot has 8192 MiB" in message
    [(is_error, message)] = found({}, [poor])
    assert is_error and "expected a slot with the transfer plugin" in message


def test_memory_grows_to_the_largest_slot_by_default() -> None:
    requests = {"isr": CONFIGURATION.requests_of("isr")}
    limited = with_largest_slot(CONFIGURATION, SLOTS, requests)
    assert limited.requests_of("isr").request_memory_max == 8192
    assert with_largest_slot(CONFIGURATION, [], requests) == CONFIGURATION
    own = msgspec.structs.replace(CONFIGURATION, request_memory_max=4000)
    assert with_largest_slot(own, SLOTS, requests) == own


def test_memory_does_not_grow_beyond_the_slots_that_can_run_a_job() -> None:
    """``memoryLimit: 491520`` stands in every BPS file; an idle job would wait for it for ever."""
    asked = {
        "isr": Requests(request_memory_max=491_520),
        "coadd": Requests(request_cpus=4, request_memory_max=6000),
        "fit": Requests(request_memory_max=5000),
        "wide": Requests(request_cpus=4),
    }
    configuration = msgspec.structs.replace(CONFIGURATION, pipetask=asked)
    requests = {label: configuration.requests_of(label) for label in asked}
    limited = with_largest_slot(configuration, SLOTS, requests)
    limited, [warning] = with_lower_maxima(limited, SLOTS, requests)
    most = {label: limited.requests_of(label).request_memory_max for label in asked}
    assert most == {"isr": 8192, "coadd": 4096, "fit": 5000, "wide": 4096}
    assert not warning.is_error
    assert "isr (491520 MiB where a slot has 8192)" in warning.message
    assert "coadd (6000 MiB where a slot has 4096)" in warning.message
    assert "wide" not in warning.message


def test_memory_of_a_cluster_does_not_grow_beyond_the_slots_either() -> None:
    own = {"chain": ClusterRequest(pipetasks="isr", request_cpus=3, request_memory_max=9000)}
    configuration = msgspec.structs.replace(CONFIGURATION, cluster=own)
    requests = {"chain": configuration.requests_of("chain")}
    limited, [warning] = with_lower_maxima(configuration, SLOTS, requests)
    assert limited.requests_of("chain").request_memory_max == 4096
    assert limited.cluster["chain"].pipetasks == "isr"
    assert "chain (9000 MiB where a slot has 4096)" in warning.message


def test_what_no_slot_meets_keeps_its_maximum() -> None:
    """It is refused, or queued with ``--ignore-slots`` for slots that are not known yet."""
    requests = {"isr": Requests(request_memory=9000, request_memory_max=20_000)}
    assert with_lower_maxima(CONFIGURATION, SLOTS, requests) == (CONFIGURATION, [])
    assert with_lower_maxima(CONFIGURATION, [], requests) == (CONFIGURATION, [])
