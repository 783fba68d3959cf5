# SPDX-License-Identifier: BSD-3-Clause
"""Cluster file: written and read back, and what is refused."""

from dataclasses import replace

import pytest

from registry.errors import FormatError, InvalidNameError, NewerFormatError
from registry.model import derived_id
from registry.quantum_cluster import (
    MAX_MEMBERS,
    QUANTUM_CLUSTER_FORMAT,
    ClusterMember,
    QuantumCluster,
    read_quantum_cluster,
    write_quantum_cluster,
)

FIRST, SECOND = derived_id("quantum", 0), derived_id("quantum", 1)
CLUSTER = QuantumCluster(
    QUANTUM_CLUSTER_FORMAT,
    derived_id("graph"),
    "u/tester/night1",
    derived_id("cluster"),
    "visits",
    [ClusterMember(FIRST, [derived_id("output")]), ClusterMember(SECOND)],
)


def read(cluster: QuantumCluster) -> QuantumCluster:
    """Write a cluster and read it back."""
    return read_quantum_cluster(write_quantum_cluster(cluster), "cluster file 'x'")


def test_cluster_is_read_as_it_was_written() -> None:
    assert read(CLUSTER) == CLUSTER


def test_newer_format_waits_for_an_upgrade() -> None:
    with pytest.raises(NewerFormatError, match=r"expected format 1 .*; upgrade quantum-exec on"):
        read(replace(CLUSTER, format=QUANTUM_CLUSTER_FORMAT + 1))


@pytest.mark.parametrize("found", ["../jobs", "x", "", FIRST.upper(), f"{FIRST}\n", f"{FIRST}/.."])
def test_id_that_is_no_uuid_is_refused(found: str) -> None:
    for cluster in (
        replace(CLUSTER, members=[ClusterMember(found)]),
        replace(CLUSTER, cluster_id=found),
    ):
        with pytest.raises(FormatError, match="cluster file 'x': expected a UUID as id, found"):
            read(cluster)


def test_run_outside_the_datastore_is_refused() -> None:
    with pytest.raises(InvalidNameError, match=r"RUN '\.\./x'"):
        read(replace(CLUSTER, run="../x"))


@pytest.mark.parametrize("number", [0, MAX_MEMBERS + 1])
def test_number_of_members_is_bounded(number: int) -> None:
    members = [ClusterMember(derived_id("quantum", n)) for n in range(number)]
    with pytest.raises(FormatError, match=f"expected 1 to {MAX_MEMBERS} quanta, found {number}"):
        read(replace(CLUSTER, members=members))


def test_quantum_twice_is_refused() -> None:
    with pytest.raises(FormatError, match=f"expected each quantum once, found .*{FIRST}"):
        read(replace(CLUSTER, members=[ClusterMember(FIRST), ClusterMember(FIRST)]))


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"format":1}', b"\xff"])
def test_damaged_file_is_refused(text: bytes) -> None:
    with pytest.raises(FormatError, match="cluster file 'x'"):
        read_quantum_cluster(text, "cluster file 'x'")
