"""Resources of generations G1 and G2: `error`, `incoming-value`, `outgoing-value`, and bodies that are streams.

An outgoing value takes its bytes at once or through a stream; `set` takes what was written up to then. One that fills a
cache's vacancy does so when its body is whole: written at once, or both it and its stream were dropped. What all
outgoing values of an instance hold is bounded, since it is the host's memory.
"""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine
from dataclasses import dataclass
from typing import Protocol

from perdure.component.traps import HostTrap
from perdure.component.types import Err, Ok
from perdure.keyvalue.bucket import BucketError, BucketFull, KeyValueContext
from perdure.keyvalue.shared import Shared
from perdure.keyvalue.writes import Written, written
from perdure.wasi.state import WasiState
from perdure.wasi.streams import InputStream, IoError, OutputStream, StreamFailed

MAX_HELD = 64 << 20
"""Bytes in all outgoing values of one instance."""


@dataclass(frozen=True, slots=True)
class ErrorValue:
    """The resource `error`."""

    text: str


def failed(error: BucketError) -> Err:
    """The first generations' own error."""
    return Err(ErrorValue(str(error)))


@dataclass(frozen=True, slots=True)
class IncomingValue:
    """The resource `incoming-value`."""

    data: bytes


class Fill(Protocol):
    """The vacancy that an outgoing value is for."""

    def fill(self, data: bytes) -> Awaitable[None] | None:
        """The body is whole: buffer it. What is given must be awaited: a gate is here. Raises BucketError."""

    def give_up(self) -> Awaitable[None] | None:
        """There will be no body. As `fill`."""


class OutgoingValue:
    """The resource `outgoing-value`, and the sink of its stream. `limit`: bytes that a stream may write.

    `begun`: a body was written, or is being. `dropped`: the guest let go of it.
    """

    def __init__(self, shared: Shared, number: int, limit: int, data: bytes = b"", fill: Fill | None = None) -> None:
        self.number = number
        self.limit = limit
        self.fill = fill
        self.begun = False
        self.dropped = False
        self.streams = 0
        self._shared = shared
        self._data = bytearray()
        self._hold(data)

    @property
    def data(self) -> bytes:
        return bytes(self._data)

    @property
    def room(self) -> int:
        return max(0, min(self.limit - len(self._data), MAX_HELD - self._shared.held))

    def put(self, state: WasiState, data: bytes) -> None:
        """See `wasi.streams.Sink`."""
        if len(data) > self.room:
            if len(self._data) + len(data) > self.limit:
                raise StreamFailed(IoError(f"a value may have at most {self.limit:,} bytes"))
            raise StreamFailed(IoError(_TOO_MUCH))
        self._hold(data)

    def write(self, data: bytes) -> Awaitable[None] | None:
        """The whole body at once. Gives and raises what `Fill.fill` does."""
        self._clear()
        self.begun = False
        if self._shared.held + len(data) > MAX_HELD:
            raise BucketError(_TOO_MUCH)
        gate = None if self.fill is None else self.fill.fill(data)
        self.fill = None
        self._hold(data)
        self.begun = True
        return gate

    def stream(self) -> BodyStream:
        """A stream for the body, from its beginning."""
        self._clear()
        self.begun = True
        return BodyStream(self)

    def ended(self) -> Awaitable[None] | None:
        """The guest let go of it, or of a stream; after the last of them the body is whole. As `Fill.fill`."""
        if not self.dropped or self.streams:
            return None
        fill, self.fill, data = self.fill, None, self.data
        self._clear()
        if fill is None:
            return None
        return fill.fill(data) if self.begun else fill.give_up()

    def _hold(self, data: bytes) -> None:
        self._data += data
        self._shared.held += len(data)

    def _clear(self) -> None:
        self._shared.held -= len(self._data)
        self._data.clear()


_TOO_MUCH = f"the outgoing values that an instance holds may have {MAX_HELD:,} bytes together"


class BodyStream(OutputStream):
    """Writes to an outgoing value. Where that is gone, and waits for nothing, there is nothing to write to."""

    def __init__(self, value: OutgoingValue) -> None:
        super().__init__(value)
        self.value = value
        value.streams += 1

    def put(self, state: WasiState, data: bytes) -> Ok | Err:
        if self.value.dropped and self.value.fill is None:
            self.closed = True
        return super().put(state, data)

    def close(self) -> Coroutine[object, object, None] | None:
        if not self.live:
            return None
        super().close()
        self.value.streams -= 1
        return _ended(self.value)


def trace(ctx: KeyValueContext, error: ErrorValue) -> str:
    return error.text


def new_outgoing_value(ctx: KeyValueContext, *former: object) -> OutgoingValue:
    """Static in most texts of the proposal, a method in some."""
    host = ctx.keyvalue
    return OutgoingValue(host.shared, host.shared.next(), host.largest_value)


def write_body(ctx: KeyValueContext, outgoing: OutgoingValue, data: bytes) -> Written:
    return written(lambda: outgoing.write(data), failed)


def write_body_async(ctx: KeyValueContext, outgoing: OutgoingValue) -> Ok:
    return Ok(outgoing.stream())


def consume_body(ctx: KeyValueContext, incoming: IncomingValue) -> Ok:
    return Ok(incoming.data)


def consume_body_async(ctx: KeyValueContext, incoming: IncomingValue) -> Ok:
    return Ok(InputStream(incoming.data))


def drop_outgoing(ctx: KeyValueContext, outgoing: OutgoingValue) -> object:
    outgoing.dropped = True
    return _ended(outgoing)


def taken(outgoing: OutgoingValue, *, given: bool) -> bytes:
    """The bytes to be set. `given`: the handle came as an `own`, and nobody else drops it."""
    if not given:
        return outgoing.data
    if outgoing.fill is not None:
        raise HostTrap("an outgoing-value that fills a cache's vacancy was given to set")
    data, outgoing.dropped = outgoing.data, True
    outgoing.ended()
    return data


def _ended(outgoing: OutgoingValue) -> Coroutine[object, object, None] | None:
    """A drop has no way to answer with an error. What a full cache has no room for is a value that it does not keep."""
    try:
        gate = outgoing.ended()
    except BucketFull:
        return None
    except BucketError as error:
        raise _unfilled(error) from error
    return None if gate is None else _passed(gate)


async def _passed(gate: Awaitable[None]) -> None:
    try:
        await gate
    except BucketFull:
        return
    except BucketError as error:
        raise _unfilled(error) from error


def _unfilled(error: BucketError) -> HostTrap:
    return HostTrap(f"a cache's vacancy could not be filled: {error}")
