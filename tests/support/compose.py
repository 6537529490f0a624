"""Putting two components into one, as composition tools do: the second imports what the first exports.

Written out by the binary format (component-model `Binary.md`), for guests whose only other import is one function.
"""

from __future__ import annotations


def composed(provider: bytes, user: bytes, *, function: str, given: str, exported: str) -> bytes:
    """`provider` imports a function `function: func(name: string) -> u32` of the host; `user` imports the instance
    `given`, which `provider` exports; the whole exports `user`'s instance `exported`."""
    string, u32 = 0x73, 0x79
    func_type = b"\x40" + _vector([_name("name") + bytes([string])]) + b"\x00" + bytes([u32])
    func, instance = b"\x01", b"\x05"
    parts = [
        _section(7, _vector([func_type])),
        _section(10, _vector([b"\x00" + _name(function) + func + _u32(0)])),
        _section(4, provider),
        _section(4, user),
        _section(5, _vector([b"\x00" + _u32(0) + _vector([_name(function) + func + _u32(0)])])),
        _section(6, _vector([instance + b"\x00" + _u32(0) + _name(given)])),
        _section(5, _vector([b"\x00" + _u32(1) + _vector([_name(given) + instance + _u32(1)])])),
        _section(6, _vector([instance + b"\x00" + _u32(2) + _name(exported)])),
        _section(11, _vector([b"\x00" + _name(exported) + instance + _u32(3) + b"\x00"])),
    ]
    return b"\0asm\x0d\0\x01\0" + b"".join(parts)


def _u32(value: int) -> bytes:
    """Unsigned LEB128."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _name(text: str) -> bytes:
    return _u32(len(text.encode())) + text.encode()


def _vector(items: list[bytes]) -> bytes:
    return _u32(len(items)) + b"".join(items)


def _section(number: int, body: bytes) -> bytes:
    return bytes([number]) + _u32(len(body)) + body
