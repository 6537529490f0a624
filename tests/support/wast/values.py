"""Constants of a script, as `wasm-tools json-from-wast` writes them, to the runtime's values."""

from __future__ import annotations

import math
import struct
from typing import Any

from perdure.component.types import (
    Err,
    FuncType,
    ListType,
    Ok,
    OptionType,
    PrimType,
    RecordType,
    ResultType,
    Some,
    TupleType,
    ValueType,
    Variant,
    VariantType,
)

Const = dict[str, Any]


class Misfit(Exception):
    """A constant is not of the function's type."""


def arguments(t: FuncType, constants: list[Const]) -> list[object]:
    if len(constants) != len(t.params):
        raise Misfit(f"{len(constants)} arguments for {len(t.params)} parameters")
    return [value(kind, constant) for (_, kind), constant in zip(t.params, constants, strict=True)]


def value(t: ValueType, constant: Const) -> object:
    """The Python value of a constant."""
    kind: str = constant["type"]
    given: Any = constant.get("value")
    match t, kind:
        case PrimType("f32"), "f32":
            return struct.unpack("<f", struct.pack("<I", int(given)))[0]
        case PrimType("f64"), "f64":
            return struct.unpack("<d", struct.pack("<Q", int(given)))[0]
        case PrimType("bool" | "char" | "string"), "bool" | "char" | "string":
            return given
        case PrimType(), _ if kind == t.name:
            return int(given)
        case ListType(element), "list":
            items = [value(element, item) for item in given]
            return bytes(items) if element == PrimType("u8") else items  # type: ignore[arg-type]
        case RecordType(fields), "record":
            return {name: value(inner, item) for (name, inner), (_, item) in zip(fields, given, strict=True)}
        case TupleType(items), "tuple":
            return tuple(value(inner, item) for inner, item in zip(items, given, strict=True))
        case VariantType(cases), "variant":
            case_type = dict(cases).get(given["case"])
            return Variant(given["case"], payload(case_type, given.get("payload")))
        case OptionType(some), "option":
            if given is None:
                return None
            inner = value(some, given)
            return Some(inner) if isinstance(some, OptionType) else inner
        case ResultType(ok, err), "result":
            if "Ok" in given:
                return Ok(payload(ok, given["Ok"]))
            return Err(payload(err, given["Err"]))
        case _, "enum":
            return given
        case _, "flags":
            return frozenset(given)
    raise Misfit(f"a constant of type {kind} for {t}")


def payload(t: ValueType | None, constant: Const | None) -> object:
    if (t is None) != (constant is None):
        raise Misfit("a payload where none is expected, or none where one is")
    return None if t is None or constant is None else value(t, constant)


def same(expected: object, actual: object) -> bool:
    """Equality, NaN being equal to itself and zeros having signs."""
    if isinstance(expected, float) and isinstance(actual, float):
        if math.isnan(expected) or math.isnan(actual):
            return math.isnan(expected) and math.isnan(actual)
        return expected == actual and math.copysign(1, expected) == math.copysign(1, actual)
    if isinstance(expected, (list, tuple)) and type(expected) is type(actual):
        assert isinstance(actual, (list, tuple))
        return len(expected) == len(actual) and all(map(same, expected, actual))
    if isinstance(expected, dict) and isinstance(actual, dict):
        return expected.keys() == actual.keys() and all(same(expected[key], actual[key]) for key in expected)
    if isinstance(expected, Variant) and isinstance(actual, Variant):
        return expected.case == actual.case and same(expected.value, actual.value)
    if isinstance(expected, (Ok, Err, Some)) and type(expected) is type(actual):
        return same(expected.value, actual.value)
    return type(expected) is type(actual) and expected == actual
