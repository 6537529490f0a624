"""wasi:io: streams over bytes, sources and sinks, pollables over all of them, and what replay makes of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from perdure.component.host import HostFunction, RefusedFunction
from perdure.component.traps import HostTrap
from perdure.component.types import BorrowType, Err, FuncType, Ok, PrimType, ResourceType, ValueType, Variant
from perdure.durable.observer import Hooks
from perdure.durable.recorder import JournalRecorder
from perdure.errors import ReplayDiverged
from perdure.wasi import polling, streams
from perdure.wasi.polling import Pollable
from perdure.wasi.resolver import WasiResolver
from perdure.wasi.saving import WasiResources
from perdure.wasi.state import WasiState
from perdure.wasi.streams import Buffer, InputStream, IoError, OutputStream, SourceStream, Standard, StreamFailed

CLOSED = Err(Variant("closed"))


@dataclass(frozen=True)
class Context:
    wasi: WasiState


class Slow:
    """A source that has something once it is `open`, and fails past `bad`."""

    name = "slow"

    def __init__(self, data: bytes, *, bad: int | None = None, is_open: bool = True) -> None:
        self.data = data
        self.bad = bad
        self.open = asyncio.Event()
        self.pulls = 0
        if is_open:
            self.open.set()

    async def pull(self, offset: int, limit: int) -> bytes:
        self.pulls += 1
        await self.open.wait()
        await asyncio.sleep(0)
        if self.bad is not None and offset >= self.bad:
            raise StreamFailed(IoError("the disk is gone"))
        return self.data[offset : offset + min(limit, 4)]


def context() -> tuple[Context, JournalRecorder]:
    recorder = JournalRecorder(Hooks())
    recorder.live()
    return Context(WasiState(recorder, time.time_ns, time.monotonic_ns, lambda size: bytes(size))), recorder


async def value(found: object) -> object:
    return await found if asyncio.iscoroutine(found) else found


async def twice(guest: Callable[[Context, Slow], Awaitable[object]], *sources: Slow) -> object:
    """Run it live and on replay; both must be the same, and replay must ask nothing of the source."""
    ctx, recorder = context()
    live = await guest(ctx, sources[0])
    again, replayed = context()
    replayed.replay(recorder.take(), "the test")
    assert await guest(again, sources[1]) == live
    replayed.finish_replay()
    assert sources[1].pulls == 0
    return live


async def test_bytes() -> None:
    ctx, recorder = context()
    stream = InputStream(b"abcdef")
    assert streams.read(ctx, stream, 2) == Ok(b"ab")
    assert streams.skip(ctx, stream, 1) == Ok(1)
    assert streams.blocking_read(ctx, stream, 1 << 63) == Ok(b"def")
    assert streams.read(ctx, stream, 1) == CLOSED
    assert streams.blocking_skip(ctx, stream, 1) == CLOSED
    assert polling.ready(ctx, streams.subscribe_input(ctx, stream)) is True
    assert recorder.events == [], "bytes that are here are no question of time"


async def test_a_buffer_has_a_bound() -> None:
    ctx, _ = context()
    stream = OutputStream(Buffer(5, "a body"))
    assert streams.check_write(ctx, stream) == Ok(5)
    assert streams.write(ctx, stream, b"abc") == Ok()
    assert streams.check_write(ctx, stream) == Ok(2)
    assert streams.blocking_write(ctx, stream, b"de") == Ok()
    # Full, and not stuck: the next write says so.
    assert streams.check_write(ctx, stream) == Ok(1)
    failed = streams.write(ctx, stream, b"f")
    assert isinstance(failed, Err) and isinstance(failed.value, Variant)
    assert failed.value == Variant("last-operation-failed", IoError("a body may have at most 5 bytes"))
    assert streams.check_write(ctx, stream) == CLOSED
    assert streams.write(ctx, stream, b"") == CLOSED
    assert streams.flush(ctx, stream) == CLOSED
    assert isinstance(stream.sink, Buffer) and stream.sink.data == b"abcde"


async def test_more_than_was_allowed_traps() -> None:
    ctx, _ = context()
    stream = OutputStream(Buffer(1 << 20, "a body"))
    assert streams.check_write(ctx, stream) == Ok(64 << 10)
    with pytest.raises(HostTrap, match=r"check-write allows 65,536"):
        streams.write(ctx, stream, bytes((64 << 10) + 1))
    with pytest.raises(HostTrap):
        streams.write_zeroes(ctx, stream, 1 << 62)
    assert streams.write_zeroes(ctx, stream, 3) == Ok()
    assert isinstance(stream.sink, Buffer) and stream.sink.data == bytes(3)


async def test_splice_takes_what_there_is_room_for() -> None:
    ctx, _ = context()
    source, sink = InputStream(b"abcdef"), OutputStream(Buffer(4, "a body"))
    assert streams.splice(ctx, sink, source, 100) == Ok(4)
    assert source.left == b"ef"
    assert isinstance(streams.blocking_splice(ctx, sink, source, 100), Err)
    assert streams.splice(ctx, OutputStream(Buffer(4, "")), InputStream(), 1) == CLOSED


async def test_a_source_is_read_as_it_comes_and_replayed() -> None:
    async def guest(ctx: Context, source: Slow) -> object:
        stream = SourceStream(source)
        found = [await value(streams.read(ctx, stream, 3))]
        source.open.set()
        found += [await value(streams.blocking_read(ctx, stream, 3)) for _ in range(4)]
        sink = OutputStream(Buffer(100, ""))
        return [*found, await value(streams.blocking_splice(ctx, sink, stream, 9))]

    # The first read does not wait; chunks have four bytes here.
    expected = [Ok(b""), Ok(b"012"), Ok(b"3"), Ok(b"456"), Ok(b"7"), Ok(2)]
    assert await twice(guest, Slow(b"0123456789", is_open=False), Slow(b"others")) == expected


async def test_a_source_that_fails() -> None:
    async def guest(ctx: Context, source: Slow) -> object:
        stream = SourceStream(source)
        return [await value(streams.blocking_read(ctx, stream, 9)) for _ in range(3)]

    found = await twice(guest, Slow(b"01234567", bad=4), Slow(b""))
    assert found == [Ok(b"0123"), Err(Variant("last-operation-failed", IoError("the disk is gone"))), CLOSED]


async def test_poll_over_clocks_and_streams() -> None:
    async def guest(ctx: Context, source: Slow) -> object:
        stream = SourceStream(source)
        at = ctx.wasi.recorder.record("now", (), lambda: time.time_ns() + 3600 * 10**9)
        assert isinstance(at, int)
        later = Pollable(at)
        waiting = streams.subscribe_input(ctx, stream)
        found: list[object] = [await value(polling.ready(ctx, waiting))]
        source.open.set()
        found.append(await polling.poll(ctx, [waiting, later, waiting]))
        found.append(await polling.poll(ctx, [waiting]))
        # It is ready, so that a read which does not wait has it.
        found.append(await value(streams.read(ctx, stream, 100)))
        found.append(await polling.poll(ctx, [later, streams.subscribe_input(ctx, stream)]))
        await polling.block(ctx, waiting)
        found.append(await value(streams.read(ctx, stream, 100)))
        return found

    found = await twice(guest, Slow(b"01234567", is_open=False), Slow(b"01234567"))
    assert found == [False, [0, 2], [0], Ok(b"0123"), [1], Ok(b"4567")]


async def test_a_clock_ends_a_wait_for_a_source() -> None:
    async def guest(ctx: Context, source: Slow) -> object:
        at = ctx.wasi.recorder.record("now", (), lambda: time.time_ns() + 10_000_000)
        assert isinstance(at, int)
        stream = SourceStream(source)
        found = await polling.poll(ctx, [stream.pollable, Pollable(at)])
        streams.drop(ctx, stream)
        return found

    assert await twice(guest, Slow(b"x", is_open=False), Slow(b"x")) == [1]


async def test_another_order_of_reads_is_noticed() -> None:
    ctx, recorder = context()
    await value(streams.blocking_read(ctx, SourceStream(Slow(b"0123")), 4))
    again, replayed = context()
    replayed.replay(recorder.take(), "the test")
    with pytest.raises(ReplayDiverged):
        await polling.poll(again, [SourceStream(Slow(b"0123")).pollable])


RESOURCE = ResourceType("wasi:io/streams@0.2.0", "input-stream")


@pytest.mark.parametrize(
    "resource",
    [InputStream(b"left over"), InputStream(), OutputStream(Standard("stderr")), Pollable(7), IoError("words")],
    ids=lambda resource: type(resource).__name__,
)
def test_what_snapshots_keep(resource: object) -> None:
    codec = WasiResources()
    saved = codec.encode(RESOURCE, resource)
    assert saved is not None
    again = codec.decode(None, RESOURCE, saved)
    assert type(again) is type(resource) and codec.encode(RESOURCE, again) == saved


def test_half_a_stream_is_kept_from_there() -> None:
    ctx, _ = context()
    stream = InputStream(b"abc def")
    streams.read(ctx, stream, 2)
    saved = WasiResources().encode(RESOURCE, stream)
    assert saved == b"input c def"
    again = WasiResources().decode(None, RESOURCE, saved)
    assert isinstance(again, InputStream) and again.left == b"c def"


@pytest.mark.parametrize(
    "resource",
    [
        SourceStream(Slow(b"")),
        InputStream(b"part", owned=True),
        InputStream(bytes(2 << 20)),
        OutputStream(Buffer(9, "")),
        Pollable(source=SourceStream(Slow(b""))),
        IoError("words", Variant("connection-refused")),
    ],
)
def test_what_snapshots_refuse(resource: object) -> None:
    assert WasiResources().encode(RESOURCE, resource) is None


def resolved(interface: str, name: str, *params: str) -> HostFunction | None:
    kinds: list[tuple[str, ValueType]] = [("self", BorrowType(RESOURCE))]
    kinds += [(param, PrimType("u64")) for param in params]
    return WasiResolver().function(interface, name, FuncType(tuple(kinds), None))


def test_the_interfaces_of_2023_where_they_agree() -> None:
    early = "wasi:io/streams@0.2.0-rc-2023-11-10"
    assert resolved(early, "[method]input-stream.read", "len") is streams.read
    assert isinstance(resolved(early, "[method]input-stream.read", "len", "more"), RefusedFunction)
    assert isinstance(resolved(early, "[method]output-stream.forward", "src"), RefusedFunction)
    assert resolved("wasi:io/streams@0.2.9", "[method]input-stream.read", "len") is streams.read
    assert resolved("wasi:io/streams@0.3.0", "[method]input-stream.read", "len") is None
