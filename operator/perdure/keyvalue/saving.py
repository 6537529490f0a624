"""Saving the resources of wasi:keyvalue that a guest holds between calls, for snapshots.

A bucket is its name, and opened again; values and errors are their bytes. An outgoing value and its stream are saved
with the number of what both stand for, and become one again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, cast

import msgspec

from perdure.component.types import ResourceType
from perdure.errors import SnapshotError
from perdure.keyvalue.atomics import Cas
from perdure.keyvalue.bucket import Bucket
from perdure.keyvalue.shared import Shared
from perdure.keyvalue.store import OpenBucket
from perdure.keyvalue.values import BodyStream, ErrorValue, IncomingValue, OutgoingValue


class _Reopens(Protocol):
    @property
    def shared(self) -> Shared: ...

    @property
    def largest_value(self) -> int: ...

    def reopen(self, name: str) -> Bucket:
        """A bucket that was open."""


class _Context(Protocol):
    @property
    def keyvalue(self) -> _Reopens: ...


class KeyValueResources:
    """Implements `perdure.component.snapshot.ResourceCodec`; the context's host must be able to `reopen`."""

    def encode(self, resource: ResourceType, representation: object) -> bytes | None:
        match representation:
            case OpenBucket(bucket, cursors):
                saved: list[object] = ["store", bucket.name, cursors]
            case Cas(bucket, key, current):
                saved = ["cas", bucket.name, key, current]
            case OutgoingValue():
                saved = ["value", *_outgoing(representation)]
            case BodyStream(value=value):
                saved = ["body", representation.closed, *_outgoing(value)]
            case IncomingValue(data):
                saved = ["incoming", data]
            case ErrorValue(text):
                saved = ["error", text]
            case _ if isinstance(getattr(representation, "name", None), str) and hasattr(representation, "get_many"):
                saved = ["bucket", cast("Bucket", representation).name]
            case _:
                return None
        return msgspec.msgpack.encode(saved)

    def decode(self, context: object, resource: ResourceType, data: bytes) -> object:
        host = cast("_Context", context).keyvalue
        try:
            match msgspec.msgpack.decode(data):
                case ["store", str(name), list(cursors)]:
                    return OpenBucket(host.reopen(name), [str(cursor) for cursor in cursors])
                case ["cas", str(name), str(key), bytes() | None as current]:
                    return Cas(host.reopen(name), key, current)
                case ["bucket", str(name)]:
                    return host.reopen(name)
                case ["outgoing", bytes(value)]:
                    # As snapshots had it before bodies could be streams.
                    return OutgoingValue(host.shared, host.shared.next(), host.largest_value, value)
                case ["value", *state]:
                    return _restored(host, state)
                case ["body", bool(closed), *state]:
                    stream = BodyStream(_restored(host, state))
                    stream.closed = closed
                    return stream
                case ["incoming", bytes(value)]:
                    return IncomingValue(value)
                case ["error", str(text)]:
                    return ErrorValue(text)
        except msgspec.DecodeError as error:
            raise SnapshotError(f"a saved {resource.name} cannot be read: {error}", reason="host-resource") from error
        raise SnapshotError(f"a saved {resource.name} that is not known here", reason="host-resource")


def _outgoing(value: OutgoingValue) -> list[object]:
    return [value.number, value.limit, value.data, value.begun, value.dropped]


def _restored(host: _Reopens, state: Sequence[object]) -> OutgoingValue:
    match state:
        case [int(number), int(limit), bytes(data), bool(begun), bool(dropped)]:
            return host.shared.restored(
                number, OutgoingValue, lambda: _made(host, number, limit, data, begun=begun, dropped=dropped)
            )
    raise SnapshotError("a saved outgoing-value that is not known here", reason="host-resource")


def _made(host: _Reopens, number: int, limit: int, data: bytes, *, begun: bool, dropped: bool) -> OutgoingValue:
    value = OutgoingValue(host.shared, number, limit, data)
    value.begun, value.dropped = begun, dropped
    return value
