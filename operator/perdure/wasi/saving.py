"""Saving the resources of WASI that a guest holds between calls, for snapshots.

Streams are their names, pollables the instants they are ready at. All else that an instance's WASI state consists of
is in `WasiState`, and is its host's to keep.
"""

from __future__ import annotations

from perdure.component.types import ResourceType
from perdure.errors import SnapshotError
from perdure.wasi.polling import Pollable
from perdure.wasi.streams import InputStream, OutputStream


class WasiResources:
    """Implements `perdure.component.snapshot.ResourceCodec`."""

    def encode(self, resource: ResourceType, representation: object) -> bytes | None:
        match representation:
            case OutputStream(name):
                return b"output " + name.encode()
            case InputStream():
                return b"input"
            case Pollable(ready_at):
                return b"pollable %d" % ready_at
            case _:
                return None

    def decode(self, context: object, resource: ResourceType, data: bytes) -> object:
        kind, _, rest = data.partition(b" ")
        if kind == b"output" and rest in (b"stdout", b"stderr"):
            return OutputStream(rest.decode())
        if kind == b"input" and not rest:
            return InputStream()
        if kind == b"pollable" and rest.isdigit():
            return Pollable(int(rest))
        raise SnapshotError(f"a saved {resource.name} that is not known here", reason="host-resource")
