"""Saving the resources of WASI that a guest holds between calls, for snapshots.

Standard streams are their names, files that were not read from (mounts, above all) their paths, streams over bytes
what is left of them, errors their words, pollables the instants they are ready at. What belongs to something that is
under way (a source, a buffer, a file that is read, an HTTP exchange) cannot be saved: the capture is refused by its
name, and the journal is kept instead. All else that an instance's WASI state consists of is in `WasiState`, and is its
host's to keep.
"""

from __future__ import annotations

from typing import cast

import msgspec

from perdure.component.types import ResourceType
from perdure.errors import SnapshotError
from perdure.wasi.files.descriptors import Descriptor
from perdure.wasi.http import saving as http
from perdure.wasi.http.context import HttpContext
from perdure.wasi.http.exchanges import Exchange
from perdure.wasi.polling import Pollable
from perdure.wasi.streams import InputStream, IoError, OutputStream, SourceStream, Standard

MAX_INPUT = 1 << 20
"""Bytes of a stream that a snapshot takes in."""


class WasiResources:
    """Implements `perdure.component.snapshot.ResourceCodec`."""

    def encode(self, resource: ResourceType, representation: object) -> bytes | None:
        match representation:
            case OutputStream(sink=Standard(name)):
                return b"output " + name.encode()
            case SourceStream():
                return None
            case InputStream(owned=False) if len(representation.left) <= MAX_INPUT:
                return b"input " + representation.left if representation.left else b"input"
            case Pollable(ready_at, None):
                return b"pollable %d" % ready_at
            case Descriptor(content=None):
                return b"file " + msgspec.msgpack.encode(
                    (representation.mount, representation.path, representation.kind)
                )
            case Pollable(ready_at=0, source=Exchange(settled=True)):
                return b"pollable 0"
            case IoError(text, None):
                return b"error " + text.encode()
            case _:
                saved = http.encode(representation)
                return None if saved is None else b"http " + saved

    def decode(self, context: object, resource: ResourceType, data: bytes) -> object:
        try:
            made = self._decoded(context, data)
        except (msgspec.DecodeError, TypeError, ValueError) as error:
            raise SnapshotError(f"a saved {resource.name} cannot be read: {error}", reason="host-resource") from error
        if made is None:
            raise SnapshotError(f"a saved {resource.name} that is not known here", reason="host-resource")
        return made

    def _decoded(self, context: object, data: bytes) -> object | None:
        kind, _, rest = data.partition(b" ")
        if kind == b"output" and rest in (b"stdout", b"stderr"):
            return OutputStream(Standard(rest.decode()))
        if kind == b"input":
            return InputStream(rest)
        if kind == b"pollable" and rest.isdigit():
            return Pollable(int(rest))
        if kind == b"http":
            return http.decode(cast("HttpContext", context), rest)
        if kind == b"file":
            return Descriptor(*msgspec.msgpack.decode(rest, type=tuple[str, str, str]))
        if kind == b"error":
            return IoError(rest.decode())
        return None
