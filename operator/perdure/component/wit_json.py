"""WIT values ↔ JSON values, by type. Strict: what does not fit is refused with the path of the parameter.

| WIT | JSON |
|---|---|
| integers, floats | number; floats also "NaN", "Infinity", "-Infinity" |
| char, string | string |
| list<u8> | base64 string (RFC 4648, padded); an array of numbers is accepted too |
| list, tuple | array |
| record | object |
| option | value or null; a nested option: null or {"some": …} |
| result | {"ok": …} or {"err": …}; null where the side has no type |
| variant | {"case": payload}; a case without payload: "case" |
| enum | string |
| flags | array of names |
"""

from __future__ import annotations

import base64
import binascii
import math
import struct
import sys
from typing import TypeAlias

from perdure.component.types import (
    BorrowType,
    EnumType,
    Err,
    FlagsType,
    FuncType,
    ListType,
    Ok,
    OptionType,
    OwnType,
    PrimType,
    RecordType,
    ResultType,
    Some,
    TupleType,
    ValueType,
    Variant,
    VariantType,
)
from perdure.component.wit_text import format_type
from perdure.errors import TypeMismatch

Json: TypeAlias = "None | bool | int | float | str | list[Json] | dict[str, Json]"

MAX_F64 = sys.float_info.max
BEYOND_F32 = 2.0**128 - 2.0**103
"""The least number that rounds to no finite 32-bit float."""
_SPECIAL = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def args_from_json(t: FuncType, body: object) -> list[object]:
    """Arguments in order, from an array (positional) or an object (by parameter name).

    Raises `TypeMismatch` that names the parameter.
    """
    names = [name for name, _ in t.params]
    if isinstance(body, dict):
        for name in body:
            if name not in names:
                raise TypeMismatch(
                    f"there is no parameter {name!r}; the parameters are {_listed(names)}", parameter=name
                )
        for name in names:
            if name not in body:
                raise TypeMismatch(f"the parameter {name!r} is missing", parameter=name)
        given = [body[name] for name in names]
    elif isinstance(body, list):
        if len(body) != len(names):
            culprit = names[len(body)] if len(body) < len(names) else f"[{len(names)}]"
            raise TypeMismatch(
                f"{len(body)} arguments were given, {len(names)} are wanted: {_listed(names)}", parameter=culprit
            )
        given = body
    else:
        raise TypeMismatch("the body must be an array of arguments or an object by parameter name", parameter="")
    return [from_json(kind, value, name) for (name, kind), value in zip(t.params, given, strict=True)]


def from_json(t: ValueType, value: object, path: str) -> object:  # noqa: C901 - one branch a type
    """The value of type `t`. Raises `TypeMismatch` with the path, e.g. `items[3].name`."""
    match t:
        case PrimType(name):
            return _primitive(name, value, path)
        case ListType(PrimType("u8")):
            return _bytes(value, path)
        case ListType(element):
            items = _array(value, path, t)
            return [from_json(element, item, f"{path}[{index}]") for index, item in enumerate(items)]
        case TupleType(kinds):
            items = _array(value, path, t)
            if len(items) != len(kinds):
                raise _mismatch(path, t, f"an array of {len(items)}")
            pairs = enumerate(zip(kinds, items, strict=True))
            return tuple(from_json(kind, item, f"{path}[{index}]") for index, (kind, item) in pairs)
        case RecordType(fields):
            return _record(fields, value, path, t)
        case OptionType(some):
            if value is None:
                return None
            if not isinstance(some, OptionType):
                return from_json(some, value, path)
            if not isinstance(value, dict) or set(value) != {"some"}:
                raise _mismatch(path, t, value, 'null or {"some": …}')
            return Some(from_json(some, value["some"], f"{path}.some"))
        case ResultType(ok, err):
            if isinstance(value, dict) and len(value) == 1:
                if "ok" in value:
                    return Ok(_side(ok, value["ok"], f"{path}.ok"))
                if "err" in value:
                    return Err(_side(err, value["err"], f"{path}.err"))
            raise _mismatch(path, t, value, '{"ok": …} or {"err": …}')
        case VariantType(cases):
            return _variant(dict(cases), value, path, t)
        case EnumType(names):
            if not isinstance(value, str) or value not in names:
                raise _mismatch(path, t, value, f"one of {_listed(names)}")
            return value
        case FlagsType(names):
            chosen = _array(value, path, t)
            for flag in chosen:
                if not isinstance(flag, str) or flag not in names:
                    raise _mismatch(path, t, flag, f"names among {_listed(names)}")
            return frozenset(chosen)
        case OwnType() | BorrowType():
            raise TypeMismatch(f"{path} is a handle ({format_type(t)}): it cannot be sent from outside", parameter=path)


def to_json(t: ValueType, value: object) -> Json:  # noqa: C901 - one branch a type
    """The JSON value of what a guest returned, or of what `from_json` made. Raises `TypeMismatch` for handles."""
    match t:
        case PrimType("f32" | "f64"):
            assert isinstance(value, float | int)
            if math.isnan(value):
                return "NaN"
            return ("Infinity" if value > 0 else "-Infinity") if math.isinf(value) else float(value)
        case PrimType():
            assert isinstance(value, bool | int | str)
            return value
        case ListType(PrimType("u8")):
            assert isinstance(value, bytes | bytearray)
            return base64.b64encode(value).decode("ascii")
        case ListType(element):
            assert isinstance(value, list)
            return [to_json(element, item) for item in value]
        case TupleType(kinds):
            assert isinstance(value, tuple)
            return [to_json(kind, item) for kind, item in zip(kinds, value, strict=True)]
        case RecordType(fields):
            assert isinstance(value, dict)
            return {name: to_json(kind, value[name]) for name, kind in fields}
        case OptionType(some):
            if value is None:
                return None
            if isinstance(value, Some):
                return {"some": to_json(some, value.value)}
            return to_json(some, value)
        case ResultType(ok, err):
            side, kind = ("ok", ok) if isinstance(value, Ok) else ("err", err)
            assert isinstance(value, Ok | Err)
            return {side: None if kind is None else to_json(kind, value.value)}
        case VariantType(cases):
            assert isinstance(value, Variant)
            payload = dict(cases)[value.case]
            return value.case if payload is None else {value.case: to_json(payload, value.value)}
        case EnumType():
            assert isinstance(value, str)
            return value
        case FlagsType(names):
            assert isinstance(value, frozenset)
            return [name for name in names if name in value]
        case OwnType() | BorrowType():
            raise TypeMismatch(f"a result of type {format_type(t)} is a handle: it cannot leave", parameter="")


def _primitive(name: str, value: object, path: str) -> object:
    t = PrimType(name)
    if name == "bool":
        if not isinstance(value, bool):
            raise _mismatch(path, t, value, "true or false")
        return value
    if name in ("char", "string"):
        if not isinstance(value, str) or (name == "char" and len(value) != 1):
            raise _mismatch(path, t, value, "a string of one character" if name == "char" else "a string")
        if any(0xD800 <= ord(char) <= 0xDFFF for char in value):
            raise _mismatch(path, t, "a lone surrogate", "valid Unicode")
        return value
    if name in ("f32", "f64"):
        return _float(t, value, path)
    if isinstance(value, bool) or not isinstance(value, int):
        raise _mismatch(path, t, value, "an integer")
    bits = int(name[1:])
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if name[0] == "s" else (0, (1 << bits) - 1)
    if not low <= value <= high:
        raise _mismatch(path, t, value, f"{low} to {high}")
    return value


def _float(t: PrimType, value: object, path: str) -> float:
    if isinstance(value, str) and value in _SPECIAL:
        return _SPECIAL[value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _mismatch(path, t, value, 'a number, "NaN", "Infinity" or "-Infinity"')
    # JSON's 1e400 is read as an infinity; it is a number out of range all the same.
    if abs(value) >= BEYOND_F32 if t.name == "f32" else abs(value) > MAX_F64:
        raise _mismatch(path, t, value, f"a number that fits {t.name}")
    # A 32-bit float is what the guest will see; the nearest one is taken, as WIT's own rounding does.
    return float(struct.unpack("<f", struct.pack("<f", value))[0]) if t.name == "f32" else float(value)


def _bytes(value: object, path: str) -> bytes:
    t = ListType(PrimType("u8"))
    if isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            raise _mismatch(path, t, "another string", "a base64 string or an array of numbers") from None
    if isinstance(value, list):
        for index, item in enumerate(value):
            _primitive("u8", item, f"{path}[{index}]")
        return bytes(value)
    raise _mismatch(path, t, value, "a base64 string or an array of numbers")


def _record(fields: tuple[tuple[str, ValueType], ...], value: object, path: str, t: RecordType) -> dict[str, object]:
    if not isinstance(value, dict):
        raise _mismatch(path, t, value, "an object")
    names = [name for name, _ in fields]
    for name in value:
        if name not in names:
            raise TypeMismatch(
                f"{path} has no field {name!r}; its fields are {_listed(names)}", parameter=f"{path}.{name}"
            )
    for name in names:
        if name not in value:
            raise TypeMismatch(f"the field {path}.{name} is missing", parameter=f"{path}.{name}")
    return {name: from_json(kind, value[name], f"{path}.{name}") for name, kind in fields}


def _variant(cases: dict[str, ValueType | None], value: object, path: str, t: VariantType) -> Variant:
    if isinstance(value, str) and value in cases and cases[value] is None:
        return Variant(value)
    if isinstance(value, dict) and len(value) == 1:
        (case, payload), *_ = value.items()
        kind = cases.get(case)
        if kind is not None:
            return Variant(case, from_json(kind, payload, f"{path}.{case}"))
    raise _mismatch(path, t, value, '{"case": payload}, or "case" for one without')


def _side(t: ValueType | None, value: object, path: str) -> object:
    if t is not None:
        return from_json(t, value, path)
    if value is not None:
        raise TypeMismatch(f"{path} carries no value: it must be null", parameter=path)
    return None


def _array(value: object, path: str, t: ValueType) -> list[object]:
    if not isinstance(value, list):
        raise _mismatch(path, t, value, "an array")
    return value


def _mismatch(path: str, t: ValueType, value: object, wanted: str = "") -> TypeMismatch:
    found = value if isinstance(value, str) and value.startswith(("an array", "a lone", "another")) else _kind(value)
    wish = wanted or format_type(t)
    return TypeMismatch(f"{path} must be {wish} ({format_type(t)}), not {found}", parameter=path)


def _kind(value: object) -> str:
    """What was sent, without its content: values may be secret."""
    if isinstance(value, bool):
        return "a boolean"
    names: list[tuple[type, str]] = [
        (int, "this number"),
        (float, "a number with a fraction"),
        (str, "this string"),
        (list, "an array"),
        (dict, "an object"),
    ]
    return next((name for kind, name in names if isinstance(value, kind)), "null")


def _listed(names: list[str] | tuple[str, ...]) -> str:
    return ", ".join(names) or "none"
