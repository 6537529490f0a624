"""Resources of generations G1 and G2: `error`, `incoming-value`, `outgoing-value`, and bodies that are streams.

An outgoing value takes its bytes at once or through a stream; `set` takes what was written up to then. One that fills a
cache's vacancy does so when its body is whole: written at once, or both it and its stream were dropped. What all
outgoing values of an instance hold is bounded, since it is the host's memory.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Protocol

from perdure.component.traps import HostTrap
from perdure.component.types import Err, Ok
from perdure.keyvalue.bucket import BucketError, KeyValueContext
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

    def fill(self, data: bytes) -> None:
        """The body is whole: buffer it. Raises BucketError."""

    def give_up(self) -> None:
        """There will be no body."""


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

    def write(self, data: bytes) -> None:
        """The whole body at once. Raises BucketError."""
        self._clear()
        self.begun = False
        if self._shared.held + len(data) > MAX_HELD:
            raise BucketError(_TOO_MUCH)
        if self.fill is not None:
            self.fill.fill(data)
            self.fill = None
        self._hold(data)
        self.begun = True

    def stream(self) -> BodyStream:
        """A stream for the body, from its beginning."""
        self._clear()
        self.begun = True
        return BodyStream(self)

    def ended(self) -> None:
        """The guest let go of it, or of a stream; after the last of them the body is whole. Raises BucketError."""
        if not self.dropped or self.streams:
            return
        fill, self.fill, data = self.fill, None, self.data
        self._clear()
        if fill is not None and self.begun:
            fill.fill(data)
        elif fill is not None:
            fill.give_up()

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

    def close(self) -> None:
        if self.live:
            super().close()
            self.value.streams -= 1
            _ended(self.value)


def trace(ctx: KeyValueContext, error: ErrorValue) -> str:
    return error.text


def new_outgoing_value(ctx: KeyValueContext, *former: object) -> OutgoingValue:
    """Static in most texts of the proposal, a method in some."""
    host = ctx.keyvalue
    return OutgoingValue(host.shared, host.shared.next(), host.largest_value)


def write_body(ctx: KeyValueContext, outgoing: OutgoingValue, data: bytes) -> Written:
    def write() -> Awaitable[None] | None:
        fills = outgoing.fill is not None
        outgoing.write(data)
        return ctx.keyvalue.after_write() if fills else None

    return written(write, failed)


def write_body_async(ctx: KeyValueContext, outgoing: OutgoingValue) -> Ok:
    return Ok(outgoing.stream())


def consume_body(ctx: KeyValueContext, incoming: IncomingValue) -> Ok:
    return Ok(incoming.data)


def consume_body_async(ctx: KeyValueContext, incoming: IncomingValue) -> Ok:
    return Ok(InputStream(incoming.data))


def drop_outgoing(ctx: KeyValueContext, outgoing: OutgoingValue) -> object:
    outgoing.dropped = True
    fills = outgoing.fill is not None
    _ended(outgoing)
    return ctx.keyvalue.after_write() if fills and outgoing.fill is None else None


def taken(outgoing: OutgoingValue, *, given: bool) -> bytes:
    """The bytes to be set. `given`: the handle came as an `own`, and nobody else drops it."""
    data = outgoing.data
    if given:
        outgoing.dropped = True
        _ended(outgoing)
    return data


def _ended(outgoing: OutgoingValue) -> None:
    """A drop has no way to answer with an error."""
    try:
        outgoing.ended()
    except BucketError as error:
        raise HostTrap(f"a cache's vacancy could not be filled: {error}") from error
