"""Bodies: what a guest writes is buffered up to a bound, what it reads is there as a whole.

A stream is a child of its body, and must be dropped before it; a guest that does otherwise traps, as the interface
allows.
"""

from __future__ import annotations

from collections.abc import Callable

from perdure.component.traps import HostTrap
from perdure.component.types import Err, Ok, Variant
from perdure.wasi.http.fields import Fields
from perdure.wasi.http.messages import MAX_HELD
from perdure.wasi.polling import Pollable
from perdure.wasi.state import WasiContext, WasiState
from perdure.wasi.streams import Buffer, InputStream, IoError, OutputStream, StreamFailed


class Held:
    """How many bytes of bodies an instance holds: they are the host's memory, not the guest's."""

    def __init__(self) -> None:
        self.bytes = 0

    def take(self, size: int) -> None:
        self.bytes += size
        if self.bytes > MAX_HELD:
            raise HostTrap(f"the guest holds more than {MAX_HELD:,} bytes of HTTP bodies; drop what was read")


class BodySink(Buffer):
    """A body being written. `declared`: its Content-Length."""

    def __init__(self, limit: int, held: Held, declared: int | None) -> None:
        super().__init__(limit, "an HTTP body")
        self.declared = declared
        self._held = held

    def put(self, state: WasiState, data: bytes) -> None:
        if self.declared is not None and len(self) + len(data) > self.declared:
            code = Variant("HTTP-request-body-size", len(self) + len(data))
            raise StreamFailed(IoError(f"the body is longer than its Content-Length of {self.declared}", code))
        super().put(state, data)
        self._held.take(len(data))

    def release(self) -> bytes:
        """The bytes, which the instance does not hold any more."""
        data = self.data
        self._held.bytes -= len(data)
        self._data.clear()
        return data


class OutgoingBody:
    """`ended`: called once, with whether the guest finished it."""

    def __init__(self, sink: BodySink) -> None:
        self.sink = sink
        self.stream: OutputStream | None = None
        self.finished: bool | None = None
        self.ended: Callable[[bool], None] = lambda finished: None

    def end(self, *, finished: bool) -> None:
        if self.finished is None:
            self.finished = finished
            self.ended(finished)

    def give_up(self) -> None:
        """Nobody will send it."""
        self.sink.release()
        self.ended = self._let_go

    def _let_go(self, finished: bool) -> None:
        self.sink.release()


class BodyStream(InputStream):
    """Over a body that came. What was read to its end, or dropped, is not held any more."""

    def __init__(self, body: IncomingBody) -> None:
        super().__init__(body.data, owned=True)
        self._body = body

    def take(self, ctx: WasiContext, limit: int, *, waits: bool) -> object:
        found = super().take(ctx, limit, waits=waits)
        if self._at >= len(self._data):
            self._let_go()
        return found

    def close(self) -> None:
        super().close()
        self._let_go()

    def _let_go(self) -> None:
        self._data, self._at = b"", 0
        self._body.release()


class IncomingBody:
    """`data` is held until it was read, or the body is dropped."""

    def __init__(self, data: bytes, held: Held) -> None:
        self.data = data
        self.stream: InputStream | None = None
        self._held = held

    @property
    def spent(self) -> bool:
        """Nothing can be read of it any more."""
        return self.stream is not None and not self.data

    def release(self) -> None:
        self._held.bytes -= len(self.data)
        self.data = b""


class FutureTrailers:
    """Trailers are not kept: there are none."""

    def __init__(self) -> None:
        self.taken = False


def write(ctx: WasiContext, body: OutgoingBody) -> Ok | Err:
    if body.stream is not None:
        return Err()
    body.stream = OutputStream(body.sink)
    return Ok(body.stream)


def finish_outgoing(ctx: WasiContext, body: OutgoingBody, trailers: Fields | None) -> Ok | Err:
    _childless(body.stream, "outgoing-body")
    sink = body.sink
    failed: Variant | None = None
    if trailers is not None and trailers.entries:
        failed = Variant("internal-error", "Perdure does not send trailers")
    elif sink.declared is not None and len(sink) != sink.declared:
        failed = Variant("HTTP-request-body-size", len(sink))
    body.end(finished=failed is None)
    return Ok() if failed is None else Err(failed)


def drop_outgoing(ctx: WasiContext, body: OutgoingBody) -> None:
    _childless(body.stream, "outgoing-body")
    body.end(finished=False)


def stream(ctx: WasiContext, body: IncomingBody) -> Ok | Err:
    if body.stream is not None:
        return Err()
    body.stream = BodyStream(body)
    return Ok(body.stream)


def finish_incoming(ctx: WasiContext, body: IncomingBody) -> FutureTrailers:
    drop_incoming(ctx, body)
    return FutureTrailers()


def drop_incoming(ctx: WasiContext, body: IncomingBody) -> None:
    _childless(body.stream, "incoming-body")
    body.release()


def subscribe_trailers(ctx: WasiContext, trailers: FutureTrailers) -> Pollable:
    return Pollable()


def get_trailers(ctx: WasiContext, trailers: FutureTrailers) -> Ok | Err:
    """`option<result<result<option<trailers>, error-code>>>`: ready, and once."""
    if trailers.taken:
        return Err()
    trailers.taken = True
    return Ok(Ok(None))


def _childless(child: InputStream | OutputStream | None, what: str) -> None:
    if child is not None and child.live:
        raise HostTrap(f"the guest ended an {what} before it dropped its stream")
