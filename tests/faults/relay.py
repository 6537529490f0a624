"""A relay between a host and a store that does harm to one exchange at a time. Bounded: it holds one chunk a way.

A chunk is what one read gives, which for a request is what the client wrote at once. `arm` waits for the next upward
chunk that is as large as asked for and holds `needle`, and treats it, or the bytes of its reply, as the `Harm` says.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class Harm:
    """`way` "up": the request, "down": its reply. `how`:

    - `cut`: `count` bytes pass, then the connection ends; `reset`: the same, with an RST;
    - `swallow`: `count` bytes pass and nothing more, but the connection stays open;
    - `late`: the chunk arrives after `seconds`, even if the host has given it up meanwhile.
    """

    way: str
    how: str
    count: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.way}-{self.how}" + (f"-{self.seconds:g}s" if self.how == "late" else f"-{self.count}")


@dataclass(eq=False)
class _Pair:
    """One connection: the host's end and the server's."""

    host: asyncio.StreamWriter
    server: asyncio.StreamWriter
    harm: Harm | None = None
    passed: int = 0


class Relay:
    """Made by `relay`. `struck`: set when the armed harm has come about, `held`: when a late
    request waits. `request`, `reply`: sizes of the last exchange
    that matched, where it was let through whole."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self._target = target
        self._armed: tuple[Harm | None, bytes, int] | None = None
        self._measured: _Pair | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.held = asyncio.Event()
        self.struck = asyncio.Event()
        self.request = self.reply = 0

    def arm(self, harm: Harm | None, needle: bytes = b"", least: int = 1) -> None:
        """None: only measure."""
        self._armed = (harm, needle, least)
        self._measured = None
        self.held.clear()
        self.struck.clear()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            upper_reader, upper = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        pair = _Pair(writer, upper)
        try:
            await asyncio.gather(self._up(reader, pair), self._down(upper_reader, pair))
        except OSError:
            pass
        finally:
            for end in (writer, upper):
                end.close()

    async def _up(self, reader: asyncio.StreamReader, pair: _Pair) -> None:
        while data := await reader.read(_CHUNK):
            harm = self._match(data, pair)
            if harm is None or harm.way == "down":
                if pair.harm is not None and pair.harm.how == "swallow" and pair.harm.way == "up":
                    continue
                pair.server.write(data)
                await pair.server.drain()
            elif harm.how == "late":
                self.held.set()
                await asyncio.sleep(harm.seconds)
                pair.server.write(data)
                self.struck.set()
            else:
                pair.server.write(data[: harm.count])
                await pair.server.drain()
                await self._end(pair, harm)
        pair.server.write_eof()

    async def _down(self, reader: asyncio.StreamReader, pair: _Pair) -> None:
        while data := await reader.read(_CHUNK):
            if self._measured is pair:
                self.reply, self._measured = len(data), None
            harm = pair.harm
            if harm is not None and harm.way == "down":
                if harm.how == "late":
                    await asyncio.sleep(harm.seconds)
                    pair.harm = None
                    self.struck.set()
                elif pair.passed + len(data) > harm.count:
                    pair.host.write(data[: harm.count - pair.passed])
                    pair.passed = harm.count
                    await self._end(pair, harm)
                    continue
                else:
                    pair.passed += len(data)
            if not pair.host.is_closing():
                pair.host.write(data)
                with contextlib.suppress(OSError):
                    await pair.host.drain()
        pair.host.close()

    def _match(self, data: bytes, pair: _Pair) -> Harm | None:
        if self._armed is None:
            return None
        harm, needle, least = self._armed
        if len(data) < least or needle not in data:
            return None
        self._armed = None
        self.request, self.reply, self._measured = len(data), 0, pair
        pair.harm, pair.passed = harm, 0
        return harm

    async def _end(self, pair: _Pair, harm: Harm) -> None:
        # What was let through arrives before the end does.
        await asyncio.sleep(0.005)
        self.struck.set()
        if harm.how == "swallow":
            return
        for end in (pair.host, pair.server):
            if harm.how == "reset":
                _reset_on_close(end)
            end.transport.abort()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _reset_on_close(end: asyncio.StreamWriter) -> None:
    connection = end.get_extra_info("socket")
    if connection is not None:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@asynccontextmanager
async def relay(target: int) -> AsyncIterator[Relay]:
    """To a port of this machine."""
    made = Relay(target)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        await made.close()
        await server.wait_closed()
