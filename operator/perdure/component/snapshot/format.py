"""The envelope of a snapshot: what it belongs to, compressed content, and a checksum over both.

    0    8  magic            the first bytes of every version
    8    4  format version
    12   4  kind             0 full, 1 delta
    16  32  component        SHA-256 of its bytes
    48  32  layout           `StateLayout.digest`: the numbering of memories, globals and resources
    80  32  initial image    SHA-256: what the content, in the end, is a difference to
    112 32  parent           the checksum of the snapshot a delta follows; zeros for a full one
    144  8  bytes of content, uncompressed
    152     content          one Zstandard frame
    -32 32  checksum         SHA-256 of all before it; also the snapshot's identity

Numbers are little-endian. A reader refuses by name whatever does not match before it decompresses anything.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

import zstandard

from perdure.errors import SnapshotError

FORMAT_VERSION = 1
MAGIC = b"\x89wasmst\n"
NO_PARENT = bytes(32)
_HEADER = struct.Struct("<8sII32s32s32s32sQ")
_CHECKSUM = 32
_LEVEL = 1
_FULL, _DELTA = 0, 1


@dataclass(frozen=True, slots=True)
class Header:
    """Digests are 32 bytes each. `parent` None: a full snapshot. `size`: bytes of content, uncompressed."""

    component: bytes
    layout: bytes
    initial: bytes
    parent: bytes | None
    size: int


@dataclass(frozen=True, slots=True)
class Envelope:
    """A snapshot whose checksum is right; the content is still compressed."""

    header: Header
    checksum: bytes
    frame: bytes

    def content(self, most: int) -> bytes:
        """Decompress at most `most` bytes. Raises `SnapshotError`."""
        size = self.header.size
        if size > most:
            raise SnapshotError(
                f"the snapshot's content has {size:,} bytes; the limits of the instance allow {most:,}", reason="limit"
            )
        try:
            parameters = zstandard.get_frame_parameters(self.frame)
            if parameters.content_size != size:
                raise SnapshotError("the snapshot's content has another size than its header says", reason="malformed")
            return zstandard.ZstdDecompressor().decompress(self.frame)
        except zstandard.ZstdError as error:
            raise SnapshotError(f"the snapshot cannot be decompressed: {error}", reason="malformed") from error


def seal(component: bytes, layout: bytes, initial: bytes, parent: bytes | None, content: bytes) -> tuple[bytes, bytes]:
    """(the snapshot, its checksum)."""
    kind = _FULL if parent is None else _DELTA
    header = _HEADER.pack(MAGIC, FORMAT_VERSION, kind, component, layout, initial, parent or NO_PARENT, len(content))
    frame = zstandard.ZstdCompressor(level=_LEVEL, write_content_size=True).compress(content)
    checksum = hashlib.sha256(header + frame).digest()
    return header + frame + checksum, checksum


def open_envelope(data: bytes) -> Envelope:
    """Read and check a snapshot, without the component it belongs to. Raises `SnapshotError`."""
    if data[: len(MAGIC)] != MAGIC[: len(data)]:
        raise SnapshotError("these bytes are not a snapshot", reason="not-a-snapshot")
    if len(data) < _HEADER.size + _CHECKSUM:
        raise SnapshotError(f"the snapshot is cut short: it has {len(data)} bytes", reason="truncated")
    _, version, kind, *_, parent, _ = _HEADER.unpack_from(data)
    if version != FORMAT_VERSION:
        raise SnapshotError(
            f"the snapshot has format version {version}; this version reads {FORMAT_VERSION}", reason="format-version"
        )
    checksum = data[-_CHECKSUM:]
    if hashlib.sha256(data[:-_CHECKSUM]).digest() != checksum:
        raise SnapshotError("the snapshot is damaged or cut short: its checksum is wrong", reason="checksum")
    if kind not in (_FULL, _DELTA) or (kind == _FULL and parent != NO_PARENT):
        raise SnapshotError(f"the snapshot is malformed: kind {kind}", reason="malformed")
    return Envelope(read_header(data), checksum, data[_HEADER.size : -_CHECKSUM])


def read_header(data: bytes) -> Header:
    """That of a snapshot whose envelope was checked."""
    _, _, kind, component, layout, initial, parent, size = _HEADER.unpack_from(data)
    return Header(component, layout, initial, parent if kind == _DELTA else None, size)
