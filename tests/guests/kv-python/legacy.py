"""What generations 1 and 2 have in common: values and errors are resources."""

from __future__ import annotations

from types import TracebackType

from componentize_py_types import Err
from wit_world.imports.streams import StreamError_Closed
from wit_world.imports.types import Bucket, IncomingValue, OutgoingValue

SMALL = 4096
"""Bytes that are written and read at once; larger values go through streams, in pieces."""
_PIECE = 1 << 16


class Errors:
    """The error's own words. A class, because `contextlib` sets attributes of the exception that passes through it, and
    an `Err` allows none to be set."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(error, Err) and not isinstance(error.value, str):
            with error.value as told:
                words = told.trace()
            raise Err(words) from error


def opened(name: str) -> Bucket:
    with Errors():
        return Bucket.open_bucket(name)


def body(value: IncomingValue) -> bytes:
    with value:
        size = value.size() if hasattr(value, "size") else value.incoming_value_size()
        return value.incoming_value_consume_sync() if size <= SMALL else _read(value)


def _read(value: IncomingValue) -> bytes:
    pieces = []
    with value.incoming_value_consume_async() as stream:
        while True:
            try:
                pieces.append(stream.blocking_read(_PIECE))
            except Err as error:
                if not isinstance(error.value, StreamError_Closed):
                    raise
                return b"".join(pieces)


def _write(value: OutgoingValue, data: bytes) -> None:
    with value.outgoing_value_write_body_async() as stream:
        for at in range(0, len(data), SMALL):
            stream.blocking_write_and_flush(data[at : at + SMALL])


class Outgoing:
    """Values to be written; freed at the end."""

    def __init__(self, *values: bytes) -> None:
        self.made = [OutgoingValue.new_outgoing_value() for _ in values]
        for one, value in zip(self.made, values, strict=True):
            if len(value) <= SMALL:
                one.outgoing_value_write_body_sync(value)
            else:
                _write(one, value)

    def __enter__(self) -> list[OutgoingValue]:
        return self.made

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for one in self.made:
            one.__exit__(None, None, None)
