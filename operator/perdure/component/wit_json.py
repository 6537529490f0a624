"""WIT values ↔ JSON values, by type, as `wit_plain` has it, and:

| WIT | JSON |
|---|---|
| floats | number, or "NaN", "Infinity", "-Infinity" |
| list<u8> | base64 string (RFC 4648, padded); an array of numbers is accepted too |
"""

from __future__ import annotations

import base64
import binascii
import math
from typing import TypeAlias, cast

from perdure.component.types import FuncType, ListType, PrimType, ValueType
from perdure.component.wit_plain import bytes_of_numbers, finite, mismatch, read, read_args, write

Json: TypeAlias = "None | bool | int | float | str | list[Json] | dict[str, Json]"

_SPECIAL = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_BYTES = ListType(PrimType("u8"))


class _JsonNotation:
    def read_float(self, t: PrimType, value: object, path: str) -> float:
        if isinstance(value, str) and value in _SPECIAL:
            return _SPECIAL[value]
        # JSON's 1e400 is read as an infinity; it is a number out of range all the same.
        return finite(t, value, path, 'a number, "NaN", "Infinity" or "-Infinity"')

    def write_float(self, value: float) -> str | float:
        if math.isnan(value):
            return "NaN"
        return ("Infinity" if value > 0 else "-Infinity") if math.isinf(value) else value

    def read_bytes(self, value: object, path: str) -> bytes:
        wanted = "a base64 string or an array of numbers"
        if isinstance(value, str):
            try:
                return base64.b64decode(value, validate=True)
            except (binascii.Error, ValueError):
                raise mismatch(path, _BYTES, value, wanted, "another string") from None
        if isinstance(value, list):
            return bytes_of_numbers(value, path)
        raise mismatch(path, _BYTES, value, wanted)

    def write_bytes(self, value: bytes | bytearray) -> str:
        return base64.b64encode(value).decode("ascii")


_JSON = _JsonNotation()


def args_from_json(t: FuncType, body: object) -> list[object]:
    """Arguments in order, from an array (positional) or an object (by parameter name).

    Raises `TypeMismatch` that names the parameter.
    """
    return read_args(t, body, _JSON)


def from_json(t: ValueType, value: object, path: str) -> object:
    """The value of type `t`. Raises `TypeMismatch` with the path, e.g. `items[3].name`."""
    return read(t, value, path, _JSON)


def to_json(t: ValueType, value: object) -> Json:
    """The JSON value of what a guest returned, or of what `from_json` made. Raises `TypeMismatch` for handles."""
    return cast(Json, write(t, value, _JSON))
