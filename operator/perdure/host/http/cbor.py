"""CBOR (RFC 8949): the part that WIT values need, and nothing else. Pure.

Read: integers, byte strings, text, arrays, maps with text as keys, floats of all sizes, true, false and null, with
definite and indefinite lengths. Refused by name: tags, so that nothing is made of a body but these plain values;
`undefined` and other simple values; keys that are no text or come twice; nesting beyond `MAX_DEPTH`; whatever follows
the first item. A claimed length takes no memory before its bytes are there.

Written: definite lengths, the shortest heads, floats of 64 bits.
"""

from __future__ import annotations

import math
import struct

from perdure.component.wit_plain import Plain

MAX_DEPTH = 128
_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG = range(7)
_INDEFINITE = 31
_BREAK = 0xFF
_SIMPLE: dict[int, Plain] = {20: False, 21: True, 22: None}
_FLOATS = {25: ">e", 26: ">f", 27: ">d"}
_NAN = b"\xf9\x7e\x00"


def decode(data: bytes) -> Plain:
    """The one item that `data` is. Raises `ValueError` with what is wrong, and where; never with its content."""
    reader = _Reader(data)
    value = reader.item(0)
    if reader.at != len(data):
        raise ValueError(f"{len(data) - reader.at} bytes follow the first item")
    return value


def encode(value: Plain) -> bytes:
    """`value` as CBOR; its integers have at most 64 bits."""
    out = bytearray()
    _write(value, out)
    return bytes(out)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.at = 0
        self._data = data

    def item(self, depth: int) -> Plain:
        begun = self.at
        major, info = self._head()
        if major == _UNSIGNED:
            return self._number(info, begun)
        if major == _NEGATIVE:
            return -1 - self._number(info, begun)
        if major == _BYTES:
            return self._string(major, info, begun)
        if major == _TEXT:
            return _text(self._string(major, info, begun), begun)
        if major == _ARRAY:
            return self._array(info, begun, depth + 1)
        if major == _MAP:
            return self._map(info, begun, depth + 1)
        if major == _TAG:
            raise ValueError(f"a tag at byte {begun}: send plain values, without tags")
        return self._other(info, begun)

    def _head(self) -> tuple[int, int]:
        if self.at >= len(self._data):
            raise ValueError(f"it ends at byte {self.at}, where an item is wanted")
        first = self._data[self.at]
        self.at += 1
        return first >> 5, first & 31

    def _number(self, info: int, begun: int) -> int:
        """What a head says after its type."""
        if info < 24:
            return info
        if info > 27:
            raise ValueError(f"the head of the item at byte {begun} is not well formed")
        return int.from_bytes(self._take(1 << (info - 24), begun), "big")

    def _take(self, size: int, begun: int) -> bytes:
        left = len(self._data) - self.at
        if size > left:
            raise ValueError(f"the item at byte {begun} claims {size:,} bytes where {left:,} are left")
        data = self._data[self.at : self.at + size]
        self.at += size
        return data

    def _string(self, major: int, info: int, begun: int) -> bytes:
        if info != _INDEFINITE:
            return self._take(self._number(info, begun), begun)
        chunks = bytearray()
        while not self._ended():
            at = self.at
            kind, size = self._head()
            if kind != major or size == _INDEFINITE:
                raise ValueError(f"the chunk at byte {at} is of another kind than its string")
            chunk = self._take(self._number(size, at), at)
            if major == _TEXT:
                _text(chunk, at)
            chunks += chunk
        return bytes(chunks)

    def _array(self, info: int, begun: int, depth: int) -> list[Plain]:
        if info == _INDEFINITE:
            _require_depth(depth, begun)
            items: list[Plain] = []
            while not self._ended():
                items.append(self.item(depth))
            return items
        size = self._count(info, begun, depth, least=1)
        return [self.item(depth) for _ in range(size)]

    def _map(self, info: int, begun: int, depth: int) -> dict[str, Plain]:
        found: dict[str, Plain] = {}
        if info == _INDEFINITE:
            _require_depth(depth, begun)
            while not self._ended():
                self._pair(found, depth)
        else:
            for _ in range(self._count(info, begun, depth, least=2)):
                self._pair(found, depth)
        return found

    def _pair(self, found: dict[str, Plain], depth: int) -> None:
        begun = self.at
        major, info = self._head()
        if major != _TEXT:
            # Nothing else is ever a name; keys of other kinds can be made to fall together in a dict.
            raise ValueError(f"the key at byte {begun} is not text")
        key = _text(self._string(major, info, begun), begun)
        if key in found:
            raise ValueError(f"the key at byte {begun} is there twice")
        found[key] = self.item(depth)

    def _count(self, info: int, begun: int, depth: int, *, least: int) -> int:
        """Of items, each of which takes `least` bytes."""
        _require_depth(depth, begun)
        count = self._number(info, begun)
        left = len(self._data) - self.at
        if count * least > left:
            raise ValueError(f"the item at byte {begun} claims {count:,} items where {left:,} bytes are left")
        return count

    def _ended(self) -> bool:
        if self.at < len(self._data) and self._data[self.at] == _BREAK:
            self.at += 1
            return True
        return False

    def _other(self, info: int, begun: int) -> Plain:
        if info in _SIMPLE:
            return _SIMPLE[info]
        if info in _FLOATS:
            (value,) = struct.unpack(_FLOATS[info], self._take(1 << (info - 24), begun))
            assert isinstance(value, float)
            return value
        if info == _INDEFINITE:
            raise ValueError(f"a break at byte {begun}, where an item is wanted")
        raise ValueError(f"the item at byte {begun} is none of true, false, null and a float")


def _require_depth(depth: int, begun: int) -> None:
    if depth > MAX_DEPTH:
        raise ValueError(f"the item at byte {begun} is nested deeper than {MAX_DEPTH}")


def _text(data: bytes, begun: int) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ValueError(f"the text at byte {begun} is not UTF-8") from None


def _write(value: Plain, out: bytearray) -> None:
    match value:
        case None:
            out.append(0xF6)
        case bool():
            out.append(0xF5 if value else 0xF4)
        case int():
            _write_head(*((_UNSIGNED, value) if value >= 0 else (_NEGATIVE, -1 - value)), out)
        case float():
            out += _NAN if math.isnan(value) else b"\xfb" + struct.pack(">d", value)
        case str():
            data = value.encode()
            _write_head(_TEXT, len(data), out)
            out += data
        case bytes():
            _write_head(_BYTES, len(value), out)
            out += value
        case list():
            _write_head(_ARRAY, len(value), out)
            for item in value:
                _write(item, out)
        case dict():
            _write_head(_MAP, len(value), out)
            for key, item in value.items():
                _write(key, out)
                _write(item, out)


def _write_head(major: int, number: int, out: bytearray) -> None:
    if number < 24:
        out.append(major << 5 | number)
        return
    step = next(step for step in range(4) if number < 1 << (8 << step))
    out.append(major << 5 | 24 + step)
    out += number.to_bytes(1 << step, "big")
