"""WIT values ↔ plain values: numbers, text, lists and maps, by type. Strict: what does not fit is refused with the
path of the parameter.

| WIT | plain |
|---|---|
| integers, bool | as they are |
| floats, list<u8> | as the notation has them |
| char, string | text |
| list, tuple | list |
| record | map by field |
| option | value or None; a nested option: None or {"some": …} |
| result | {"ok": …} or {"err": …}; None where the side has no type |
| variant | {"case": payload}; a case without payload: "case" |
| enum | text |
| flags | list of names |
"""

from __future__ import annotations

import struct
import sys
from typing import Protocol, TypeAlias

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

Plain: TypeAlias = "None | bool | int | float | str | bytes | list[Plain] | dict[str, Plain]"

MAX_F64 = sys.float_info.max
BEYOND_F32 = 2.0**128 - 2.0**103
"""The least number that rounds to no finite 32-bit float."""
_SHOWN = 64


class Notation(Protocol):
    """In what formats differ. Those that read raise `TypeMismatch` with the path."""

    def read_float(self, t: PrimType, value: object, path: str) -> float: ...

    def write_float(self, value: float) -> Plain: ...

    def read_bytes(self, value: object, path: str) -> bytes: ...

    def write_bytes(self, value: bytes | bytearray) -> Plain: ...


def read_args(t: FuncType, body: object, notation: Notation) -> list[object]:
    """Arguments in order, from a list (positional) or a map (by parameter name).

    Raises `TypeMismatch` that names the parameter.
    """
    names = [name for name, _ in t.params]
    if isinstance(body, dict):
        for name in body:
            if name not in names:
                raise TypeMismatch(
                    f"there is no parameter {_shown(name)}; the parameters are {_listed(names)}", parameter=name
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
    return [read(kind, value, name, notation) for (name, kind), value in zip(t.params, given, strict=True)]


def read(t: ValueType, value: object, path: str, notation: Notation) -> object:  # noqa: C901 - one branch a type
    """The value of type `t`. Raises `TypeMismatch` with the path, e.g. `items[3].name`."""
    match t:
        case PrimType("f32" | "f64"):
            return notation.read_float(t, value, path)
        case PrimType(name):
            return _primitive(name, value, path)
        case ListType(PrimType("u8")):
            return notation.read_bytes(value, path)
        case ListType(element):
            items = _array(value, path, t)
            return [read(element, item, f"{path}[{index}]", notation) for index, item in enumerate(items)]
        case TupleType(kinds):
            items = _array(value, path, t)
            if len(items) != len(kinds):
                raise mismatch(path, t, value, f"an array of {len(kinds)}", f"one of {len(items)}")
            pairs = enumerate(zip(kinds, items, strict=True))
            return tuple(read(kind, item, f"{path}[{index}]", notation) for index, (kind, item) in pairs)
        case RecordType(fields):
            return _record(fields, value, path, t, notation)
        case OptionType(some):
            if value is None:
                return None
            if not isinstance(some, OptionType):
                return read(some, value, path, notation)
            if not isinstance(value, dict) or set(value) != {"some"}:
                raise mismatch(path, t, value, 'null or {"some": …}')
            return Some(read(some, value["some"], f"{path}.some", notation))
        case ResultType(ok, err):
            if isinstance(value, dict) and len(value) == 1:
                if "ok" in value:
                    return Ok(_side(ok, value["ok"], f"{path}.ok", notation))
                if "err" in value:
                    return Err(_side(err, value["err"], f"{path}.err", notation))
            raise mismatch(path, t, value, '{"ok": …} or {"err": …}')
        case VariantType(cases):
            return _variant(dict(cases), value, path, t, notation)
        case EnumType(names):
            if not isinstance(value, str) or value not in names:
                raise mismatch(path, t, value, f"one of {_listed(names)}")
            return value
        case FlagsType(names):
            chosen = _array(value, path, t)
            for index, flag in enumerate(chosen):
                if not isinstance(flag, str) or flag not in names:
                    raise mismatch(f"{path}[{index}]", t, flag, f"one of {_listed(names)}")
            return frozenset(chosen)
        case OwnType() | BorrowType():
            raise TypeMismatch(f"{path} is a handle ({format_type(t)}): it cannot be sent from outside", parameter=path)


def write(t: ValueType, value: object, notation: Notation) -> Plain:
    """The plain value of what a guest returned, or of what `read` made. Raises `TypeMismatch` for handles."""
    match t:
        case PrimType("f32" | "f64"):
            assert isinstance(value, float | int)
            return notation.write_float(float(value))
        case PrimType():
            assert isinstance(value, bool | int | str)
            return value
        case ListType(PrimType("u8")):
            assert isinstance(value, bytes | bytearray)
            return notation.write_bytes(value)
        case ListType(element):
            assert isinstance(value, list)
            return [write(element, item, notation) for item in value]
        case TupleType(kinds):
            assert isinstance(value, tuple)
            return [write(kind, item, notation) for kind, item in zip(kinds, value, strict=True)]
        case RecordType(fields):
            assert isinstance(value, dict)
            return {name: write(kind, value[name], notation) for name, kind in fields}
        case OptionType(some):
            if value is None:
                return None
            if isinstance(value, Some):
                return {"some": write(some, value.value, notation)}
            return write(some, value, notation)
        case ResultType(ok, err):
            side, kind = ("ok", ok) if isinstance(value, Ok) else ("err", err)
            assert isinstance(value, Ok | Err)
            return {side: None if kind is None else write(kind, value.value, notation)}
        case VariantType(cases):
            assert isinstance(value, Variant)
            payload = dict(cases)[value.case]
            return value.case if payload is None else {value.case: write(payload, value.value, notation)}
        case EnumType():
            assert isinstance(value, str)
            return value
        case FlagsType(names):
            assert isinstance(value, frozenset)
            return [name for name in names if name in value]
        case OwnType() | BorrowType():
            raise TypeMismatch(f"a result of type {format_type(t)} is a handle: it cannot leave", parameter="")


def finite(t: PrimType, value: object, path: str, wanted: str) -> float:
    """A float that is neither infinite nor NaN, given as any number. `wanted`: what is right, for words."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise mismatch(path, t, value, wanted)
    if abs(value) >= BEYOND_F32 if t.name == "f32" else abs(value) > MAX_F64:
        raise mismatch(path, t, value, f"a number that fits {t.name}")
    # A 32-bit float is what the guest will see; the nearest one is taken, as WIT's own rounding does.
    return float(struct.unpack("<f", struct.pack("<f", value))[0]) if t.name == "f32" else float(value)


def bytes_of_numbers(value: list[object], path: str) -> bytes:
    """A list<u8> given as numbers. Raises `TypeMismatch`."""
    for index, item in enumerate(value):
        _primitive("u8", item, f"{path}[{index}]")
    return bytes(value)  # type: ignore[arg-type]  # each is a number by now


def mismatch(path: str, t: ValueType, value: object, wanted: str, found: str = "") -> TypeMismatch:
    """`found`: words for the value, which is not told itself; without them its kind is."""
    return TypeMismatch(f"{path} must be {wanted} ({format_type(t)}), not {found or _kind(value)}", parameter=path)


def _primitive(name: str, value: object, path: str) -> object:
    t = PrimType(name)
    if name == "bool":
        if not isinstance(value, bool):
            raise mismatch(path, t, value, "true or false")
        return value
    if name in ("char", "string"):
        if not isinstance(value, str) or (name == "char" and len(value) != 1):
            raise mismatch(path, t, value, "a string of one character" if name == "char" else "a string")
        if any(0xD800 <= ord(char) <= 0xDFFF for char in value):
            raise mismatch(path, t, value, "valid Unicode", "a lone surrogate")
        return value
    if isinstance(value, bool) or not isinstance(value, int):
        raise mismatch(path, t, value, "an integer")
    bits = int(name[1:])
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if name[0] == "s" else (0, (1 << bits) - 1)
    if not low <= value <= high:
        raise mismatch(path, t, value, f"{low} to {high}")
    return value


def _record(
    fields: tuple[tuple[str, ValueType], ...], value: object, path: str, t: RecordType, notation: Notation
) -> dict[str, object]:
    if not isinstance(value, dict):
        raise mismatch(path, t, value, "an object")
    names = [name for name, _ in fields]
    for name in value:
        if name not in names:
            raise TypeMismatch(
                f"{path} has no field {_shown(name)}; its fields are {_listed(names)}", parameter=f"{path}.{name}"
            )
    for name in names:
        if name not in value:
            raise TypeMismatch(f"the field {path}.{name} is missing", parameter=f"{path}.{name}")
    return {name: read(kind, value[name], f"{path}.{name}", notation) for name, kind in fields}


def _variant(
    cases: dict[str, ValueType | None], value: object, path: str, t: VariantType, notation: Notation
) -> Variant:
    if isinstance(value, str) and value in cases and cases[value] is None:
        return Variant(value)
    if isinstance(value, dict) and len(value) == 1:
        (case, payload), *_ = value.items()
        kind = cases.get(case)
        if kind is not None:
            return Variant(case, read(kind, payload, f"{path}.{case}", notation))
    raise mismatch(path, t, value, '{"case": payload}, or "case" for one without')


def _side(t: ValueType | None, value: object, path: str, notation: Notation) -> object:
    if t is not None:
        return read(t, value, path, notation)
    if value is not None:
        raise TypeMismatch(f"{path} carries no value: it must be null", parameter=path)
    return None


def _array(value: object, path: str, t: ValueType) -> list[object]:
    if not isinstance(value, list):
        raise mismatch(path, t, value, "an array")
    return value


def _kind(value: object) -> str:
    """What was sent, without its content: values may be secret."""
    if isinstance(value, bool):
        return "a boolean"
    names: list[tuple[type, str]] = [
        (int, "this number"),
        (float, "a number with a fraction"),
        (str, "this string"),
        (bytes, "a byte string"),
        (list, "an array"),
        (dict, "an object"),
    ]
    return next((name for kind, name in names if isinstance(value, kind)), "null")


def _shown(name: str) -> str:
    return repr(name if len(name) <= _SHOWN else f"{name[:_SHOWN]}…")


def _listed(names: list[str] | tuple[str, ...]) -> str:
    return ", ".join(names) or "none"
