"""WIT values ↔ what CBOR holds, by type, as `wit_plain` has it, and:

| WIT | CBOR |
|---|---|
| floats | float, its NaN and infinities too; an integer is accepted |
| list<u8> | byte string; an array of numbers is accepted too |
"""

from __future__ import annotations

import math

from perdure.component.types import FuncType, ListType, PrimType, ValueType
from perdure.component.wit_plain import Plain, bytes_of_numbers, finite, mismatch, read, read_args, write

_BYTES = ListType(PrimType("u8"))


class _CborNotation:
    def read_float(self, t: PrimType, value: object, path: str) -> float:
        if isinstance(value, float) and not math.isfinite(value):
            return value
        return finite(t, value, path, "a number")

    def write_float(self, value: float) -> Plain:
        return value

    def read_bytes(self, value: object, path: str) -> bytes:
        if isinstance(value, bytes):
            return value
        if isinstance(value, list):
            return bytes_of_numbers(value, path)
        raise mismatch(path, _BYTES, value, "a byte string or an array of numbers")

    def write_bytes(self, value: bytes | bytearray) -> Plain:
        return bytes(value)


_CBOR = _CborNotation()


def args_from_cbor(t: FuncType, body: object) -> list[object]:
    """As `wit_json.args_from_json`."""
    return read_args(t, body, _CBOR)


def from_cbor(t: ValueType, value: object, path: str) -> object:
    """As `wit_json.from_json`."""
    return read(t, value, path, _CBOR)


def to_cbor(t: ValueType, value: object) -> Plain:
    """As `wit_json.to_json`."""
    return write(t, value, _CBOR)
