"""Writing component binaries byte by byte, right or wrong."""

from __future__ import annotations

from collections.abc import Iterable

HEADER = b"\0asm\x0d\0\x01\0"
CORE_HEADER = b"\0asm\x01\0\0\0"


def leb(number: int, width: int = 0) -> bytes:
    """Unsigned LEB128; padded to `width` bytes when that is longer."""
    out = bytearray()
    while True:
        byte = number & 0x7F
        number >>= 7
        if number or len(out) + 1 < width:
            out.append(byte | 0x80)
        else:
            out.append(byte)
            return bytes(out)


def read_leb(data: bytes, at: int) -> tuple[int, int]:
    """(number, where it ends). Tolerant: stops at the end of the data and after ten bytes."""
    number = shift = 0
    for _ in range(10):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            break
    return number, at


def name(text: str) -> bytes:
    data = text.encode()
    return leb(len(data)) + data


def extern(text: str) -> bytes:
    """An import's or export's name."""
    return b"\0" + name(text)


def vec(items: Iterable[bytes]) -> bytes:
    listed = list(items)
    return leb(len(listed)) + b"".join(listed)


def section(kind: int, body: bytes) -> bytes:
    return bytes([kind]) + leb(len(body)) + body


def component(*sections: bytes) -> bytes:
    return HEADER + b"".join(sections)


def types(*items: bytes) -> bytes:
    return section(7, vec(items))


def core_module(*sections: bytes) -> bytes:
    return section(1, CORE_HEADER + b"".join(sections))
