# SPDX-License-Identifier: BSD-3-Clause
"""Faults: what is done to mergers, PostgreSQL and the network, in the middle of a transaction.

A fault waits in a trap until some merger sends COPY, or COMMIT behind it; the bytes are held while
the fault happens. One that nobody ran into is no fault, and is told as such.
"""

import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import psycopg

from tests.chaos.mergers import LEASE_S, Mergers, Slot
from tests.chaos.network import Mode, Network, Trap, Verdict, Wire, is_copy
from tests.own_postgres import OwnPostgres

_PATIENCE_S = 40
"""Seconds until a merger must have run into a trap; each start of one takes a second or two."""

IN_TRANSACTION = """
SELECT client_port FROM pg_stat_activity
WHERE datname = %s AND pid <> pg_backend_pid() AND xact_start IS NOT NULL AND state <> 'idle'
    AND client_port > 0
"""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a plan."""

    kind: str
    at: str
    """``copy``, ``commit``, ``read`` (of a delta), or ``moment`` (nothing is held meanwhile)."""
    nth: int
    """Which COPY it is."""
    seconds: float
    """How long it lasts, or for a moment how long to wait for it."""
    choice: bool
    """Whether held bytes are passed on; whether what was frozen is cut."""


@dataclass(slots=True)
class Struck:
    """What came of a fault."""

    fault: Fault
    is_hit: bool
    seconds: float
    n_kills: int = 0


@dataclass(slots=True)
class Scene:
    """Everything that a fault may touch."""

    network: Network
    server: OwnPostgres
    database: str
    mergers: Mergers
    rng: random.Random
    is_pooled: bool
    struck: list[Struck] = field(default_factory=list)
    n_kills: int = 0

    @property
    def databases(self) -> list[Wire]:
        """The wires to the database."""
        return [slot.database for slot in self.mergers.slots]

    @property
    def buckets(self) -> list[Wire]:
        """The wires to the bucket, if there is one."""
        return [slot.bucket for slot in self.mergers.slots if slot.bucket is not None]

    def slot_of(self, wire: Wire) -> Slot:
        """The merger that uses a wire."""
        return next(s for s in self.mergers.slots if wire in (s.database, s.bucket))

    def in_transaction(self, port: int | None = None, timeout_s: float = 1) -> Slot | None:
        """Wait until the server works for a merger, or waits for it in a transaction.

        Parameters
        ----------
        port
            Of the connection that it must be, unless a pooler stands between.
        """
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            with psycopg.connect(self.server.address(), autocommit=True) as connection:
                found = connection.execute(IN_TRANSACTION, (self.database,)).fetchall()
            ports = {client_port for (client_port,) in found}
            if ports and (self.is_pooled or port is None or port in ports):
                return self._slot_at(ports)
            time.sleep(0.01)
        return None

    def _slot_at(self, ports: set[int]) -> Slot:
        slots = self.mergers.slots
        found = [
            slot
            for slot in slots
            if any(one.server_side_port in ports for one in list(slot.database.connections))
        ]
        return self.rng.choice(found or slots)

    def kill(self, slot: Slot) -> None:
        """SIGKILL a merger."""
        self.n_kills += self.mergers.send(slot, signal.SIGKILL)

    def pause(self, seconds: float) -> None:
        """Let time pass; sometimes another merger is killed meanwhile."""
        if self.rng.random() < 0.25:
            time.sleep(seconds / 2)
            seconds /= 2
            self.kill(self.rng.choice(self.mergers.slots))
        time.sleep(seconds)


Action = Callable[[Scene, Slot, Trap, Fault], None]


def _kill(scene: Scene, slot: Slot, trap: Trap, fault: Fault) -> None:
    scene.kill(slot)
    trap.release(scene.network, Verdict.PASS if fault.choice else Verdict.LOSE)


def _stop(scene: Scene, slot: Slot, trap: Trap, fault: Fault) -> None:
    """A merger sleeps until its leases are over, then goes on where it was."""
    scene.mergers.send(slot, signal.SIGSTOP)
    trap.release(scene.network)
    time.sleep(LEASE_S + fault.seconds)
    scene.mergers.send(slot, signal.SIGCONT)


def _kill_reader(scene: Scene, slot: Slot, trap: Trap, fault: Fault) -> None:
    """The process that reads deltas for a merger is killed, as if memory had run out."""
    scene.n_kills += scene.mergers.kill_children(slot)
    trap.release(scene.network)


def _terminate(scene: Scene, slot: Slot, trap: Trap, fault: Fault) -> None:
    scene.mergers.send(slot, signal.SIGTERM)
    trap.release(scene.network)


def _restart(mode: str) -> Action:
    def restart(scene: Scene, slot: Slot, trap: Trap, fault: Fault) -> None:
        scene.server.stop(mode)
        trap.release(scene.network, Verdict.PASS if fault.choice else Verdict.LOSE)
        scene.pause(fault.seconds / 4)
        scene.server.start()

    return restart


def _cut(scene: Scene, slot: Slot, trap: Trap, fault: Fault) -> None:
    """All connections are reset, and for a while every new one."""
    scene.network.set_mode(scene.databases, Mode.DOWN)
    trap.release(scene.network, Verdict.LOSE)
    scene.pause(fault.seconds / 2)
    scene.network.set_mode(scene.databases, Mode.WHOLE)


def _freeze(scene: Scene, slot: Slot, trap: Trap, fault: Fault) -> None:
    """Nothing passes for a while; then everything, or all connections are reset."""
    scene.network.set_mode(scene.databases, Mode.FROZEN)
    trap.release(scene.network)
    scene.pause(fault.seconds)
    if fault.choice:
        scene.network.set_mode(scene.databases, Mode.DOWN)
    scene.network.set_mode(scene.databases, Mode.WHOLE)


def _lose_commit(scene: Scene, slot: Slot, trap: Trap, fault: Fault) -> None:
    trap.release(scene.network, Verdict.LOSE)


def _lose_answer(scene: Scene, slot: Slot, trap: Trap, fault: Fault) -> None:
    trap.release(scene.network, Verdict.LOSE_ANSWER)


def _bucket(mode: Mode) -> Action:
    def trouble(scene: Scene, slot: Slot, trap: Trap, fault: Fault) -> None:
        scene.network.set_mode(scene.buckets, mode)
        trap.release(scene.network)
        scene.pause(fault.seconds)
        scene.network.set_mode(scene.buckets, Mode.WHOLE)

    return trouble


KINDS: dict[str, tuple[tuple[str, ...], Action]] = {
    "merger killed": (("copy", "commit", "moment"), _kill),
    "reading process killed": (("copy", "commit"), _kill_reader),
    "merger stopped beyond its lease": (("copy", "commit"), _stop),
    "merger terminated": (("copy", "commit"), _terminate),
    "PostgreSQL restarted fast": (("copy", "commit"), _restart("fast")),
    "PostgreSQL restarted immediately": (("copy", "commit", "moment"), _restart("immediate")),
    "database cut off": (("copy", "commit"), _cut),
    "database frozen": (("copy", "commit"), _freeze),
    "COMMIT lost": (("commit",), _lose_commit),
    "answer to COMMIT lost": (("commit",), _lose_answer),
    "bucket says 503": (("read",), _bucket(Mode.UNAVAILABLE)),
    "bucket cut off": (("read",), _bucket(Mode.DOWN)),
    "bucket frozen": (("read",), _bucket(Mode.FROZEN)),
    "bucket slow": (("read",), _bucket(Mode.SLOW)),
}
"""Faults by name: where they may happen, and how."""


def plan_faults(seed: int, n_faults: int, *, has_bucket: bool) -> list[Fault]:
    """Choose the faults of a seed: every kind before any comes again."""
    rng = random.Random(f"faults {seed}")
    kinds = [kind for kind in KINDS if has_bucket or not kind.startswith("bucket")]
    planned: list[str] = []
    while len(planned) < n_faults:
        planned += rng.sample(kinds, len(kinds))
    return [
        Fault(
            kind=kind,
            at=rng.choice(KINDS[kind][0]),
            nth=rng.randrange(1, 9),
            seconds=rng.uniform(0.2, 1.5),
            choice=rng.random() < 0.5,
        )
        for kind in planned[:n_faults]
    ]


def make_trap(fault: Fault) -> Trap:
    """The trap in which a fault waits."""
    n_seen = 0

    def is_nth_copy(sent: bytes) -> bool:
        nonlocal n_seen
        n_seen += is_copy(sent)
        return n_seen >= fault.nth

    if fault.at == "read":
        return Trap(lambda sent: sent.startswith(b"GET ") and b"/deltas/" in sent, anywhere=True)
    if fault.at == "commit":
        return Trap(lambda sent: b"COMMIT\0" in sent)
    return Trap(is_nth_copy)


def strike(scene: Scene, fault: Fault) -> Struck:
    """Let a fault happen, and tell whether it met anybody."""
    began, n_kills = time.monotonic(), scene.n_kills
    trap = make_trap(fault)
    wires = scene.buckets if fault.at == "read" else scene.databases
    n_hit = sum(wire.n_hit for wire in wires)
    action = KINDS[fault.kind][1]
    if fault.at == "moment":
        time.sleep(fault.seconds)
        slot = scene.in_transaction(timeout_s=_PATIENCE_S)
        is_hit = slot is not None
        action(scene, slot or scene.rng.choice(scene.mergers.slots), trap, fault)
    else:
        scene.network.arm(trap, wires)
        if not trap.sprung.wait(_PATIENCE_S):
            scene.network.call(lambda: scene.network.disarm(trap))
            trap.release(scene.network)
            return Struck(fault, False, time.monotonic() - began)
        assert trap.connection is not None
        port = trap.connection.server_side_port
        is_hit = fault.at == "read" or scene.in_transaction(port) is not None
        action(scene, scene.slot_of(trap.connection.wire), trap, fault)
        if fault.at == "read":
            is_hit = sum(wire.n_hit for wire in wires) > n_hit
    return Struck(fault, is_hit, time.monotonic() - began, scene.n_kills - n_kills)
