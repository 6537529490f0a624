"""Saving the resources of wasi:keyvalue that a guest holds between calls, for snapshots.

A bucket is its name, and opened again; values and errors are their bytes. An outgoing value and its stream are saved
with the number of what both stand for, and become one again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, cast

import msgspec

from perdure.component.types import Err, Ok, ResourceType
from perdure.errors import SnapshotError
from perdure.keyvalue.atomics import Cas
from perdure.keyvalue.bucket import Bucket, Cache, Claim
from perdure.keyvalue.cache import Future, Rendezvous, Vacancy, VacancyFill
from perdure.keyvalue.shared import Shared
from perdure.keyvalue.store import OpenBucket
from perdure.keyvalue.values import BodyStream, ErrorValue, IncomingValue, OutgoingValue
from perdure.wasi.polling import Pollable


class _Reopens(Protocol):
    @property
    def shared(self) -> Shared: ...

    @property
    def largest_value(self) -> int: ...

    def reopen(self, name: str) -> Bucket:
        """A bucket that was open."""

    def reopen_cache(self, name: str) -> Cache:
        """The same of a cache's."""


class _Context(Protocol):
    @property
    def keyvalue(self) -> _Reopens: ...


class KeyValueResources:
    """Implements `perdure.component.snapshot.ResourceCodec`; the context's host must be able to `reopen`."""

    def encode(self, resource: ResourceType, representation: object) -> bytes | None:
        match representation:
            case OpenBucket(bucket, cursors, forgotten):
                saved: list[object] = ["store", bucket.name, cursors, forgotten]
            case Cas(bucket, key, current):
                saved = ["cas", bucket.name, key, current]
            case OutgoingValue():
                saved = ["value", *_outgoing(representation)]
            case BodyStream(value=value):
                saved = ["body", representation.closed, *_outgoing(value)]
            case Future(Ok(IncomingValue(data))):
                saved = ["future", True, data]
            case Future(Ok(value)):
                saved = ["future", True, value]
            case Future(Err(ErrorValue(text))):
                saved = ["future", False, text]
            case Rendezvous():
                saved = ["rendezvous", *_rendezvous(representation)]
            case Pollable(ready_at=0, source=Rendezvous() as source):
                saved = ["pollable", *_rendezvous(source)]
            case Vacancy(cache, key, Claim(marker), used):
                saved = ["vacancy", cache.bucket.name, key, marker, used]
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
            saved = msgspec.msgpack.decode(data)
            match saved:
                case ["store", str(name), list(cursors), *rest]:
                    # Earlier snapshots have all cursors.
                    forgotten = rest[0] if rest and isinstance(rest[0], int) else 0
                    return OpenBucket(host.reopen(name), [str(cursor) for cursor in cursors], forgotten)
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
                case [str(), *_] if (made := _of_cache(host, saved)) is not None:
                    return made
        except msgspec.DecodeError as error:
            raise SnapshotError(f"a saved {resource.name} cannot be read: {error}", reason="host-resource") from error
        raise SnapshotError(f"a saved {resource.name} that is not known here", reason="host-resource")


def _outgoing(value: OutgoingValue) -> list[object]:
    fill = value.fill
    filled = (
        [fill.cache.bucket.name, fill.key, fill.claim.marker, fill.ttl_ms] if isinstance(fill, VacancyFill) else None
    )
    return [value.number, value.limit, value.data, value.begun, value.dropped, filled]


def _restored(host: _Reopens, state: Sequence[object]) -> OutgoingValue:
    match state:
        case [int(number), int(limit), bytes(data), bool(begun), bool(dropped), filled]:

            def make() -> OutgoingValue:
                value = OutgoingValue(host.shared, number, limit, data, _fill(host, filled))
                value.begun, value.dropped = begun, dropped
                return value

            return host.shared.restored(number, OutgoingValue, make)
    raise SnapshotError("a saved outgoing-value that is not known here", reason="host-resource")


def _fill(host: _Reopens, state: object) -> VacancyFill | None:
    match state:
        case None:
            return None
        case [str(name), str(key), bytes(marker), int() | None as ttl_ms]:
            return VacancyFill(host.reopen_cache(name), key, Claim(marker), ttl_ms)
    raise SnapshotError("a saved outgoing-value that is not known here", reason="host-resource")


def _rendezvous(future: Rendezvous) -> list[object]:
    found = future.found
    state: object = [found.marker] if isinstance(found, Claim) else found
    return [future.number, future.cache.bucket.name, future.key, state]


def _met(host: _Reopens, state: Sequence[object]) -> Rendezvous:
    match state:
        case [int(number), str(name), str(key), found]:

            def make() -> Rendezvous:
                future = Rendezvous(number, host.reopen_cache(name), key)
                match found:
                    case None | bytes() | str():
                        future.found = found
                    case [bytes(marker)]:
                        future.found = Claim(marker)
                return future

            return host.shared.restored(number, Rendezvous, make)
    raise SnapshotError("a saved future that is not known here", reason="host-resource")


def _of_cache(host: _Reopens, saved: Sequence[object]) -> object | None:
    match saved:
        case ["future", True, None | bool() as value]:
            return Future(Ok(value))
        case ["future", True, bytes(value)]:
            return Future(Ok(IncomingValue(value)))
        case ["future", False, str(text)]:
            return Future(Err(ErrorValue(text)))
        case ["rendezvous", *state]:
            return _met(host, state)
        case ["pollable", *state]:
            return Pollable(source=_met(host, state))
        case ["vacancy", str(name), str(key), bytes(marker), bool(used)]:
            return Vacancy(host.reopen_cache(name), key, Claim(marker), used)
    return None
