"""How a host saves the resources it provides. Resources that the guest defines need nothing: to their own component
they are 32-bit numbers."""

from __future__ import annotations

from typing import Protocol

from perdure.component.types import ResourceType
from perdure.errors import SnapshotError


class ResourceCodec(Protocol):
    """Given to `Snapshots.capture` and `Snapshots.restore`; e.g. a bucket becomes its name and is opened again."""

    def encode(self, resource: ResourceType, representation: object) -> bytes | None:
        """What `decode` needs to make an equal representation, in any process. None: this cannot be saved now, and
        the capture is refused."""

    def decode(self, context: object, resource: ResourceType, data: bytes) -> object:
        """The representation, for an instance with this host context. Raises `SnapshotError` if that cannot be."""


class NoHostResources:
    """The codec of a host that saves none: an instance, or a snapshot, with a handle of the host's is refused."""

    def encode(self, resource: ResourceType, representation: object) -> bytes | None:
        return None

    def decode(self, context: object, resource: ResourceType, data: bytes) -> object:
        raise SnapshotError(
            f"the snapshot has a resource of the host, {resource.interface} {resource.name}, and it is restored "
            "without a codec",
            reason="host-resource",
        )
