"""wasi:io/streams and wasi:io/error: streams over bytes, sources and sinks.

| stream | over | recorded |
|---|---|---|
| `InputStream` | bytes that the host has | nothing: reading them is no question of time |
| `SourceStream` | a `Source` outside, one chunk read ahead | each chunk |
| `OutputStream` | a `Sink` in the host's memory: standard output, a `Buffer` with a bound | nothing |

A sink takes what it is given at once, so that nothing is left to flush. A write beyond what `check-write` would allow
traps, as the interface says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Protocol

from perdure.component.traps import HostTrap
from perdure.component.types import Err, Ok, Variant
from perdure.wasi.polling import Pollable
from perdure.wasi.state import WasiContext, WasiState

CHUNK = 64 << 10
"""Bytes that are written, or taken from a source, at once."""
MAX_READ = 1 << 20
"""Bytes that one read of bytes gives at most; the interface lets a read give less than was asked for."""


@dataclass(frozen=True, slots=True)
class IoError:
    """The resource `error`. `code`: the HTTP error code behind it, if there is one."""

    text: str
    code: Variant | None = None


class StreamFailed(Exception):
    """An operation on a stream failed with this error; the stream is closed from then on."""

    def __init__(self, error: IoError) -> None:
        super().__init__(error.text)
        self.error = error


class Source(Protocol):
    """Bytes outside that can be read again from any place."""

    @property
    def name(self) -> str:
        """Tells it from others in the journal."""

    async def pull(self, offset: int, limit: int) -> bytes:
        """Up to `limit` bytes from `offset` on; none at the end. Raises `StreamFailed`. May be cancelled."""


class Sink(Protocol):
    """What an output stream writes to."""

    @property
    def room(self) -> int:
        """How many bytes it still takes."""

    def put(self, state: WasiState, data: bytes) -> None:
        """Raises `StreamFailed` where there is no room."""


class InputStream:
    """Over bytes. `live` until the guest drops it. `owned`: it is part of something that must outlive it."""

    def __init__(self, data: bytes = b"", *, owned: bool = False) -> None:
        self.live = True
        self.owned = owned
        self._data = data
        self._at = 0

    @property
    def left(self) -> bytes:
        return self._data[self._at :]

    @property
    def pollable(self) -> Pollable:
        return Pollable()

    def take(self, ctx: WasiContext, limit: int, *, waits: bool) -> object:
        """The result of a read, or a coroutine of it."""
        if self._at >= len(self._data):
            return Err(Variant("closed"))
        data = self._data[self._at : self._at + min(limit, MAX_READ)]
        self._at += len(data)
        return Ok(data)

    def close(self) -> None:
        """The guest has dropped it."""
        self.live = False


class SourceStream(InputStream):
    """Over a source. Implements `Awaited`: ready when a chunk is there, or the end, or an error."""

    def __init__(self, source: Source, offset: int = 0) -> None:
        super().__init__()
        self._source = source
        self._offset = offset
        self._ended = False
        self._error: IoError | None = None
        self._reading: asyncio.Task[bytes | str] | None = None

    @property
    def name(self) -> str:
        return f"{self._source.name}@{self._offset}"

    @property
    def settled(self) -> bool:
        return self._ended or self._error is not None or self._at < len(self._data)

    @property
    def pollable(self) -> Pollable:
        return Pollable(source=self)

    async def begin(self, state: WasiState) -> None:
        if not self.settled and not state.recorder.replaying and self._reading is None:
            self._reading = asyncio.create_task(self._pull())

    def ready(self) -> bool:
        return self.settled or (self._reading is not None and self._reading.done())

    async def wait(self) -> None:
        if self._reading is not None:
            await asyncio.wait([self._reading])

    async def observe(self, state: WasiState) -> None:
        if self.settled:
            return

        async def chunk() -> bytes | str:
            await self.begin(state)
            assert self._reading is not None
            return await self._reading

        found = await state.recorder.record_async("streams.pull", (self.name,), chunk)
        self._reading = None
        if isinstance(found, str):
            self._error = IoError(found)
            return
        assert isinstance(found, bytes)
        self._data, self._at = found, 0
        self._offset += len(found)
        self._ended = not found

    def take(self, ctx: WasiContext, limit: int, *, waits: bool) -> object:
        return self._take(ctx, limit, waits=waits)

    async def _take(self, ctx: WasiContext, limit: int, *, waits: bool) -> Ok | Err:
        state = ctx.wasi
        if not self.settled:
            if not waits:
                await self.begin(state)
                if not state.recorder.record("streams.ready", (self.name,), self.ready):
                    return Ok(b"")
            await self.observe(state)
        if self._error is not None and not self._ended:
            self._ended = True
            return _failed(StreamFailed(self._error))
        found = super().take(ctx, limit, waits=waits)
        assert isinstance(found, (Ok, Err))
        return found

    def close(self) -> None:
        super().close()
        if self._reading is not None:
            self._reading.cancel()

    async def _pull(self) -> bytes | str:
        try:
            return await self._source.pull(self._offset, CHUNK)
        except StreamFailed as failed:
            return failed.error.text


@dataclass(frozen=True, slots=True)
class Standard:
    """The sink of stdout or stderr, which is the host's log."""

    name: str

    @property
    def room(self) -> int:
        return CHUNK

    def put(self, state: WasiState, data: bytes) -> None:
        state.printed(self.name, data)


class Buffer:
    """A sink that keeps up to `limit` bytes; `what` names it in errors."""

    def __init__(self, limit: int, what: str) -> None:
        self._limit = limit
        self._what = what
        self._data = bytearray()

    def __len__(self) -> int:
        return len(self._data)

    @property
    def room(self) -> int:
        return self._limit - len(self._data)

    @property
    def data(self) -> bytes:
        return bytes(self._data)

    def put(self, state: WasiState, data: bytes) -> None:
        if len(data) > self.room:
            raise StreamFailed(IoError(f"{self._what} may have at most {self._limit:,} bytes"))
        self._data += data


class OutputStream:
    """Over a sink. `live` until the guest drops it; `closed` after an operation failed."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.live = True
        self.closed = False

    @property
    def permit(self) -> int:
        """Bytes the guest may write. Never 0: that a sink is full is told by the next write, not by waiting."""
        return max(1, min(CHUNK, self.sink.room))

    def put(self, state: WasiState, data: bytes) -> Ok | Err:
        if self.closed:
            return Err(Variant("closed"))
        try:
            self.sink.put(state, data)
        except StreamFailed as failed:
            self.closed = True
            return _failed(failed)
        return Ok()

    def close(self) -> Coroutine[object, object, None] | None:
        """The guest has dropped it, or its owner ended it. What is given must be awaited: its sink has something to
        do."""
        self.live = False
        return None


def _failed(failed: StreamFailed) -> Err:
    return Err(Variant("last-operation-failed", failed.error))


def drop(ctx: WasiContext, stream: InputStream | OutputStream) -> object:
    return stream.close()


def check_write(ctx: WasiContext, stream: OutputStream) -> Ok | Err:
    return Err(Variant("closed")) if stream.closed else Ok(stream.permit)


def write(ctx: WasiContext, stream: OutputStream, data: bytes) -> Ok | Err:
    if len(data) > stream.permit and not stream.closed:
        raise HostTrap(f"the guest wrote {len(data):,} bytes to a stream where check-write allows {stream.permit:,}")
    return stream.put(ctx.wasi, data)


def blocking_write(ctx: WasiContext, stream: OutputStream, data: bytes) -> Ok | Err:
    """`blocking-write-and-flush`, of as much as there is."""
    return stream.put(ctx.wasi, data)


def flush(ctx: WasiContext, stream: OutputStream) -> Ok | Err:
    return Err(Variant("closed")) if stream.closed else Ok()


def write_zeroes(ctx: WasiContext, stream: OutputStream, length: int) -> Ok | Err:
    if length > CHUNK:
        raise HostTrap(f"the guest wrote {length:,} zeroes to a stream where check-write allows {stream.permit:,}")
    return write(ctx, stream, bytes(length))


def splice(ctx: WasiContext, stream: OutputStream, source: InputStream, length: int) -> object:
    return _splice(ctx, stream, source, length, waits=False)


def blocking_splice(ctx: WasiContext, stream: OutputStream, source: InputStream, length: int) -> object:
    return _splice(ctx, stream, source, length, waits=True)


def _splice(ctx: WasiContext, stream: OutputStream, source: InputStream, length: int, *, waits: bool) -> object:
    if stream.closed:
        return Err(Variant("closed"))
    found = source.take(ctx, min(length, stream.permit), waits=waits)
    if isinstance(found, (Ok, Err)):
        return _spliced(ctx, stream, found)
    assert asyncio.iscoroutine(found)

    async def rest() -> Ok | Err:
        return _spliced(ctx, stream, await found)

    return rest()


def _spliced(ctx: WasiContext, stream: OutputStream, found: Ok | Err) -> Ok | Err:
    if isinstance(found, Err):
        return found
    assert isinstance(found.value, bytes)
    put = stream.put(ctx.wasi, found.value)
    return put if isinstance(put, Err) else Ok(len(found.value))


def read(ctx: WasiContext, stream: InputStream, length: int) -> object:
    return stream.take(ctx, length, waits=False)


def blocking_read(ctx: WasiContext, stream: InputStream, length: int) -> object:
    return stream.take(ctx, length, waits=True)


def skip(ctx: WasiContext, stream: InputStream, length: int) -> object:
    return _counted(stream.take(ctx, length, waits=False))


def blocking_skip(ctx: WasiContext, stream: InputStream, length: int) -> object:
    return _counted(stream.take(ctx, length, waits=True))


def _counted(found: object) -> object:
    if isinstance(found, Ok):
        assert isinstance(found.value, bytes)
        return Ok(len(found.value))
    if isinstance(found, Err):
        return found
    assert asyncio.iscoroutine(found)

    async def rest() -> object:
        return _counted(await found)

    return rest()


def subscribe_input(ctx: WasiContext, stream: InputStream) -> Pollable:
    return stream.pollable


def subscribe_output(ctx: WasiContext, stream: OutputStream) -> Pollable:
    return Pollable()


def to_debug_string(ctx: WasiContext, error: IoError) -> str:
    return error.text
