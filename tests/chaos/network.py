# SPDX-License-Identifier: BSD-3-Clause
"""The network between mergers and their servers: TCP proxies that cut, freeze, slow and wait.

All wires run in one thread with one event loop; what others ask of them is done there.
"""

import asyncio
import enum
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

_CHUNK_BYTES = 1 << 16
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with which closing a socket sends RST."""

_SLOW_DOWN_BODY = b"<Error><Code>SlowDown</Code><Message>said no</Message></Error>"
SLOW_DOWN = (
    b"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(_SLOW_DOWN_BODY), _SLOW_DOWN_BODY)
)


def is_copy(sent: bytes) -> bool:
    """Whether a client begins to COPY rows; staging a listing to ask what is left brings none."""
    return b"COPY " in sent and b"listed" not in sent


class Mode(enum.Enum):
    """What a wire does to everything that passes."""

    WHOLE = "passes everything on"
    FROZEN = "accepts connections and passes nothing"
    DOWN = "resets every connection"
    SLOW = "passes little, late"
    UNAVAILABLE = "answers each request with 503"


class Verdict(enum.Enum):
    """What becomes of bytes that a trap held."""

    PASS = "they are passed on"
    LOSE = "they are lost, and the connection with them"
    LOSE_ANSWER = "they are passed on, and the connection is lost before an answer comes back"


class Trap:
    """Holds the first connection whose client sends something, until it is told what to do.

    Parameters
    ----------
    is_met
        Is asked about every piece that clients send, on connections that sent COPY since the last
        COMMIT (or always, with ``anywhere``).
    """

    def __init__(self, is_met: Callable[[bytes], bool], *, anywhere: bool = False) -> None:
        self.is_met = is_met
        self.anywhere = anywhere
        self.sprung = threading.Event()
        self.connection: Connection | None = None
        self._verdict: asyncio.Future[Verdict] | None = None

    async def spring(self, connection: "Connection") -> Verdict:
        """Wait for the verdict; called in the loop of the network."""
        self.connection = connection
        self._verdict = asyncio.get_running_loop().create_future()
        self.sprung.set()
        return await self._verdict

    def release(self, network: "Network", verdict: Verdict = Verdict.PASS) -> None:
        """Say what becomes of what was held; may be called if nothing was."""

        def tell() -> None:
            if self._verdict is not None and not self._verdict.done():
                self._verdict.set_result(verdict)

        network.call(tell)


class Connection:
    """One client's connection, and ours to the server."""

    def __init__(self, wire: "Wire", client: asyncio.StreamWriter) -> None:
        self.wire = wire
        self._client = client
        self._server: asyncio.StreamWriter | None = None
        self.server_side_port = 0
        self.is_copying = False
        self._swallows = False

    async def serve(self, from_client: asyncio.StreamReader) -> None:
        """Pass bytes on both ways until either side ends."""
        await self.wire.flow()
        try:
            from_server, self._server = await asyncio.open_connection(*self.wire.target)
        except OSError:
            self.reset()
            return
        self.server_side_port = self._server.get_extra_info("sockname")[1]
        pumps = {
            asyncio.create_task(self._pump(from_client, self._server, self._look)),
            asyncio.create_task(self._pump(from_server, self._client, self._look_back)),
        }
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self.close()

    async def _pump(
        self,
        source: asyncio.StreamReader,
        target: asyncio.StreamWriter,
        look: Callable[[bytes], Coroutine[Any, Any, bytes | None]],
    ) -> None:
        with suppress(OSError):
            while received := await source.read(_CHUNK_BYTES):
                passed = await look(received)
                if passed is None:
                    return
                await self.wire.flow()
                target.write(passed)
                await target.drain()

    async def _look(self, received: bytes) -> bytes | None:
        """See what a client sends; returns what is passed on, or None to end the connection."""
        wire = self.wire
        wire.n_sent += 1
        if wire.mode is Mode.UNAVAILABLE:
            wire.n_hit += 1
            self._client.write(SLOW_DOWN)
            await self._client.drain()
            return None
        if is_copy(received):
            self.is_copying = True
        trap = wire.trap
        if trap is not None and (trap.anywhere or self.is_copying) and trap.is_met(received):
            wire.disarm(trap)
            verdict = await trap.spring(self)
            if verdict is Verdict.LOSE:
                self.reset()
                return None
            self._swallows = verdict is Verdict.LOSE_ANSWER
        if b"COMMIT\0" in received:
            self.is_copying = False
        return received

    async def _look_back(self, received: bytes) -> bytes | None:
        """See what a server answers."""
        if self._swallows:
            if b"COMMIT\0" not in received:
                return b""
            self.wire.n_answers_lost += 1
            self.reset()
            return None
        if self.wire.mode is Mode.SLOW:
            self.wire.n_hit += 1
            await asyncio.sleep(0.1)
        return received

    def reset(self) -> None:
        """End both sides at once, with RST to the client."""
        found = self._client.get_extra_info("socket")
        if found is not None:
            with suppress(OSError):
                found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        for side in (self._client, self._server):
            if side is not None:
                side.transport.abort()

    def close(self) -> None:
        """End both sides, what is under way first."""
        for side in (self._client, self._server):
            if side is not None:
                side.close()


class Wire:
    """Listens on a port of its own and passes everything on to a server."""

    def __init__(self, network: "Network", target: tuple[str, int]) -> None:
        self.target = target
        self.mode = Mode.WHOLE
        self.trap: Trap | None = None
        self.connections: set[Connection] = set()
        self.n_sent = self.n_hit = self.n_answers_lost = 0
        self.port = 0
        self._network = network
        self._flowing = asyncio.Event()
        self._flowing.set()

    async def listen(self) -> None:
        """Begin to accept."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(self, writer)
        if self.mode is Mode.DOWN:
            self.n_hit += 1
            connection.reset()
            return
        self.connections.add(connection)
        try:
            await connection.serve(reader)
        except (OSError, asyncio.CancelledError):
            connection.reset()
        finally:
            self.connections.discard(connection)

    async def flow(self) -> None:
        """Wait until the wire is not frozen."""
        if not self._flowing.is_set():
            self.n_hit += 1
            await self._flowing.wait()

    def set_mode(self, mode: Mode) -> None:
        """Change what the wire does; called in the loop of the network."""
        self.mode = mode
        if mode is Mode.FROZEN:
            self._flowing.clear()
        else:
            self._flowing.set()
        if mode is Mode.DOWN:
            self.n_hit += len(self.connections)
            for connection in list(self.connections):
                connection.reset()

    def disarm(self, trap: Trap) -> None:
        """Take a trap away, here and wherever else it was set."""
        self._network.disarm(trap)


class Network:
    """All wires, in a thread of their own."""

    def __init__(self) -> None:
        self.wires: list[Wire] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="network", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine in the loop and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def call(self, work: Callable[[], None]) -> None:
        """Call a function in the loop and wait for it."""

        async def calling() -> None:
            work()

        self.run(calling())

    def wire(self, port: int) -> Wire:
        """Lay a wire to a port of this machine."""

        async def lay() -> Wire:
            wire = Wire(self, ("127.0.0.1", port))
            await wire.listen()
            self.wires.append(wire)
            return wire

        return self.run(lay())  # type: ignore[no-any-return]

    def set_mode(self, wires: list[Wire], mode: Mode) -> None:
        """Change what some wires do."""

        def setting() -> None:
            for wire in wires:
                wire.set_mode(mode)

        self.call(setting)

    def arm(self, trap: Trap, wires: list[Wire]) -> None:
        """Set a trap on some wires, for the first connection that meets it."""

        def setting() -> None:
            for wire in wires:
                wire.trap = trap

        self.call(setting)

    def disarm(self, trap: Trap) -> None:
        """Take a trap away wherever it is still set."""
        for wire in self.wires:
            if wire.trap is trap:
                wire.trap = None
