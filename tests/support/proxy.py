"""A TCP proxy that cuts its connections after a number of bytes, in either direction."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from support.servers import free_port


@dataclass
class CuttingProxy:
    """`upward`, `downward`: how many bytes more may pass to the server and back; None: any number. At the last one
    every connection is cut. While `open` is cleared nothing passes, and nothing is cut. `seen`: how many passed, upward and downward."""

    target: int
    port: int = field(default_factory=free_port)
    upward: int | None = None
    downward: int | None = None
    seen: list[int] = field(default_factory=lambda: [0, 0])
    open: asyncio.Event = field(default_factory=asyncio.Event)
    writers: set[asyncio.StreamWriter] = field(default_factory=set)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.open.set()

    def let_through(self) -> None:
        self.upward = self.downward = None

    def cut(self) -> None:
        for writer in self.writers:
            writer.transport.abort()
        self.writers.clear()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        try:
            upper_reader, upper = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        self.writers |= {writer, upper}
        with contextlib.suppress(OSError):
            await asyncio.gather(self._pump(reader, upper, "upward"), self._pump(upper_reader, writer, "downward"))
        for end in (writer, upper):
            self.writers.discard(end)
            end.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: str) -> None:
        while data := await reader.read(65536):
            await self.open.wait()
            allowed = getattr(self, way)
            part = data if allowed is None else data[:allowed]
            self.seen[way == "downward"] += len(part)
            writer.write(part)
            await writer.drain()
            if allowed is not None:
                setattr(self, way, allowed - len(part))
                if allowed <= len(data):
                    # What was let through arrives before the end.
                    await asyncio.sleep(0.02)
                    self.cut()
                    return
        writer.close()


@contextlib.asynccontextmanager
async def cutting_proxy(target: int) -> AsyncIterator[CuttingProxy]:
    proxy = CuttingProxy(target)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", proxy.port)
    try:
        yield proxy
    finally:
        server.close()
        proxy.open.set()
        proxy.cut()
        await asyncio.gather(*proxy.tasks)
        await server.wait_closed()
