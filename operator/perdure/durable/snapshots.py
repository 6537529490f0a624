"""Snapshots of durable instances: the guest's state and what the engine keeps beside it, as a Store holds them.

A part is `b"PS" version crc32 payload`, the payload MessagePack of the component's digest, the clock that the guest
saw last, and a snapshot of `perdure.component.snapshot`, which has a checksum of its own. The first part of a chain is
whole, each other one the difference to the one before.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from perdure.component.component import BoundComponent
from perdure.component.instance import Instance, InstanceLimits
from perdure.component.snapshot import ResourceCodec, Snapshot, Snapshots
from perdure.component.types import ResourceType
from perdure.errors import Quarantined, SnapshotError, SnapshotRefused
from perdure.keyvalue.saving import KeyValueResources
from perdure.wasi.saving import WasiResources

_MAGIC = b"PS"
_VERSION = 1
_HEADER = struct.Struct("<2sBI")
WHOLE_UP_TO = 256 << 10
"""Bytes up to which every snapshot is whole: the state that a difference needs would take more memory than it saves."""


class Part(msgspec.Struct, frozen=True, array_like=True):
    """One part of a chain. `latest_ns`: what the instance's monotonic clock showed last. `numbers`: how many host
    resources were numbered (`perdure.keyvalue.shared`)."""

    component: str
    latest_ns: int
    guest: bytes
    numbers: int = 0


def encode_part(part: Part) -> bytes:
    payload = msgspec.msgpack.encode(part)
    return _HEADER.pack(_MAGIC, _VERSION, zlib.crc32(payload)) + payload


def decode_part(data: bytes) -> Part:
    """Raises `Quarantined` naming what is wrong with it."""
    if len(data) < _HEADER.size or data[:2] != _MAGIC:
        raise Quarantined("the snapshot is not one of Perdure")
    _, version, checksum = _HEADER.unpack_from(data)
    if version != _VERSION:
        raise Quarantined(f"the snapshot has format {version}; this host reads format {_VERSION}", lasting=False)
    payload = memoryview(data)[_HEADER.size :]
    if zlib.crc32(payload) != checksum:
        raise Quarantined("the snapshot is damaged: its checksum does not match")
    try:
        return msgspec.msgpack.decode(payload, type=Part)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Quarantined(f"the snapshot cannot be decoded: {error}") from error


class HostResources:
    """The codec for everything a guest of this host may hold."""

    def __init__(self) -> None:
        self._codecs: tuple[ResourceCodec, ...] = (WasiResources(), KeyValueResources())

    def encode(self, resource: ResourceType, representation: object) -> bytes | None:
        for number, codec in enumerate(self._codecs):
            saved = codec.encode(resource, representation)
            if saved is not None:
                return bytes([number]) + saved
        return None

    def decode(self, context: object, resource: ResourceType, data: bytes) -> object:
        if not data or data[0] >= len(self._codecs):
            raise SnapshotError(f"a saved {resource.name} of an unknown kind", reason="host-resource")
        return self._codecs[data[0]].decode(context, resource, data[1:])


@dataclass(slots=True)
class Taken:
    """A captured state, to be stored. `follows`: the sequence of the snapshot it is a difference to."""

    data: bytes
    snapshot: Snapshot
    follows: int | None


class SnapshotSupport:
    """Captures and restores instances of one component. `refusal`: why none of them can be, or None."""

    def __init__(self, bound: BoundComponent, snapshots: Snapshots | None, refusal: str | None) -> None:
        self.refusal = refusal
        self._digest = bound.component.digest
        self._snapshots = snapshots
        self._codec = HostResources()

    @classmethod
    async def prepare(cls, bound: BoundComponent) -> SnapshotSupport:
        try:
            return cls(bound, await Snapshots.prepare(bound), None)
        except SnapshotRefused as error:
            return cls(bound, None, error.detail)

    def capture(
        self, guest: Instance, latest_ns: int, numbers: int, parent: Snapshot | None, follows: int | None
    ) -> Taken:
        """Raises `SnapshotRefused`. Holds up the loop for milliseconds."""
        if self._snapshots is None:
            raise SnapshotRefused(self.refusal or "", reason="component")
        above = parent if follows is not None else None
        snapshot = self._snapshots.capture(guest, codec=self._codec, parent=above)
        data = encode_part(Part(self._digest, latest_ns, snapshot.data, numbers))
        return Taken(data, snapshot, follows if above is not None else None)

    async def restore(
        self, parts: Sequence[bytes], context: object, limits: InstanceLimits
    ) -> tuple[Instance, Snapshot, Part]:
        """The instance, its snapshot and the last part. Raises `Quarantined` in words that say what to do."""
        decoded = [decode_part(data) for data in parts]
        if self._snapshots is None:
            raise Quarantined(f"the instance has a snapshot, and this host cannot restore it: {self.refusal}")
        try:
            chain = [part.guest for part in decoded]
            guest, snapshot = await self._snapshots.restore(chain, context, codec=self._codec, limits=limits)
        except SnapshotError as error:
            raise Quarantined(
                f"the instance's snapshot cannot be restored ({error.reason}): {error.detail}. "
                "Run the host version that took it, or reset the instance"
            ) from error
        return guest, snapshot, decoded[-1]

    def close(self) -> None:
        """Free the initial image; idempotent."""
        if self._snapshots is not None:
            self._snapshots.close()
