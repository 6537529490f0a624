"""Random component types and values of them, and a form of values in which equality means sameness."""

from __future__ import annotations

import math
import struct

from perdure.component.handles import GuestResource
from perdure.component.types import (
    BorrowType,
    EnumType,
    Err,
    FlagsType,
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
from support.generated.source import Source, one_in, pick

NUMBERS = ("u8", "u16", "u32", "u64", "s8", "s16", "s32", "s64", "f32", "f64")
LEAVES = ("u32", "bool", "string", "char", *NUMBERS)
_ODD_NAMES = ("self", "none", "class-1", "HTTP-ok", "a1-b2", "x", "value", "is-it", "RAW", "cx")
_MAX_DEPTH = 5
_CHARS = (
    (0x20, 0x7E),
    (0x00, 0x7F),
    (0x80, 0xFF),
    (0x100, 0x7FF),
    (0x800, 0xD7FF),
    (0xE000, 0xFFFF),
    (0x10000, 0x10FFFF),
)


def _names(s: Source, count: int) -> tuple[str, ...]:
    """Distinct names; sometimes words that mean something elsewhere."""
    names = [f"n{index}" for index in range(count)]
    if one_in(s, 4):
        start = s.integer(0, len(_ODD_NAMES) - 1)
        odd = (_ODD_NAMES * 2)[start : start + min(count, len(_ODD_NAMES))]
        names[: len(odd)] = odd
    return tuple(names)


class _Budget:
    """Bounds the number of parts of one type. `handles`: handle types that may be drawn as well."""

    def __init__(self, parts: int, handles: tuple[ValueType, ...] = ()) -> None:
        self.parts = parts
        self.handles = handles

    def width(self, s: Source, low: int, high: int) -> int:
        count = s.integer(low, max(low, min(high, self.parts)))
        self.parts -= count
        return count


def value_type(s: Source, parts: int = 24, handles: tuple[ValueType, ...] = ()) -> ValueType:
    """A type of at most about `parts` parts (names of enums and flags not counted)."""
    return _type(s, 0, _Budget(parts, handles))


def signature(s: Source, handles: tuple[ValueType, ...] = ()) -> tuple[ValueType, ...]:
    """Parameter types of a function: one or several, at times so many that they are spilled to memory."""
    if one_in(s, 3):
        return (value_type(s, handles=handles),)
    budget = _Budget(40 if one_in(s, 3) else 16, handles)
    return tuple(_type(s, 1, budget) for _ in range(s.integer(1, 20 if one_in(s, 4) else 5)))


def _type(s: Source, depth: int, budget: _Budget) -> ValueType:
    if depth >= _MAX_DEPTH or budget.parts <= 0 or one_in(s, 3):
        if budget.handles and one_in(s, 3):
            return pick(s, budget.handles)
        return PrimType(pick(s, LEAVES))
    kind = s.integer(0, 9)
    if kind == 0:
        return TupleType(tuple(_type(s, depth + 1, budget) for _ in range(budget.width(s, 1, 5))))
    if kind == 1:
        return ListType(_type(s, depth + 1, budget))
    if kind == 2:
        return OptionType(_type(s, depth + 1, budget))
    if kind == 3:
        sides = [None if one_in(s, 4) else _type(s, depth + 1, budget) for _ in range(2)]
        return ResultType(sides[0], sides[1])
    if kind == 4:
        count = budget.width(s, 1, 5)
        return RecordType(tuple((name, _type(s, depth + 1, budget)) for name in _names(s, count)))
    if kind == 5:
        return _variant(s, depth, budget)
    if kind == 6:
        return EnumType(_names(s, s.integer(250, 300) if one_in(s, 12) else s.integer(1, 6)))
    if kind == 7:
        return FlagsType(_names(s, pick(s, (1, 3, 7, 8, 9, 16, 17, 31, 32))))
    if kind == 8:
        return ListType(PrimType("u8"))
    # Payloads of unlike core types share one slot: the joins of "Flattening".
    leaves = [PrimType(pick(s, NUMBERS)) for _ in range(budget.width(s, 2, 5))]
    return VariantType(tuple(zip(_names(s, len(leaves)), leaves, strict=True)))


def _variant(s: Source, depth: int, budget: _Budget) -> VariantType:
    count = budget.width(s, 1, 5)
    cases = [None if one_in(s, 4) else _type(s, depth + 1, budget) for _ in range(count)]
    if one_in(s, 15):
        cases = [*cases, *[None] * 256]
    return VariantType(tuple(zip(_names(s, len(cases)), cases, strict=True)))


# --- values


def value(s: Source, t: ValueType) -> object:
    """A value of type `t`, in the runtime's own representation."""
    match t:
        case PrimType(name):
            return _leaf(s, name)
        case ListType(PrimType("u8")):
            return bytes(s.integer(0, 255) for _ in range(_length(s)))
        case ListType(element):
            return [value(s, element) for _ in range(_length(s))]
        case TupleType(items):
            return tuple(value(s, item) for item in items)
        case RecordType(fields):
            return {name: value(s, kind) for name, kind in fields}
        case VariantType(cases):
            name, kind = pick(s, cases)
            return Variant(name, None if kind is None else value(s, kind))
        case EnumType(names):
            return pick(s, names)
        case FlagsType(names):
            bits = s.integer(0, (1 << len(names)) - 1)
            return frozenset(name for index, name in enumerate(names) if bits >> index & 1)
        case OptionType(some):
            if one_in(s, 3):
                return None
            inner = value(s, some)
            return Some(inner) if isinstance(some, OptionType) else inner
        case ResultType(ok, err):
            make, side = (Ok, ok) if s.integer(0, 1) == 0 else (Err, err)
            return make(None if side is None else value(s, side))
        case OwnType(resource) | BorrowType(resource):
            # A host's resource is any object; of a guest's, the host holds the representation.
            number = s.integer(0, 9)
            return (
                f"host resource {number}" if resource.interface is not None else GuestResource(resource, number, None)
            )
    raise AssertionError(t)


def _length(s: Source) -> int:
    return s.integer(0, 40) if one_in(s, 8) else s.integer(0, 3)


def _leaf(s: Source, name: str) -> object:
    if name == "bool":
        return s.integer(0, 1) == 1
    if name == "char":
        return _char(s)
    if name == "string":
        return "".join(_char(s) for _ in range(_length(s)))
    if name in ("f32", "f64"):
        return _float(s, name)
    bits = int(name[1:])
    low, high = (0, (1 << bits) - 1) if name[0] == "u" else (-(1 << bits - 1), (1 << bits - 1) - 1)
    return pick(s, (low, high, 1)) if one_in(s, 3) else s.integer(low, high)


def _char(s: Source) -> str:
    low, high = pick(s, _CHARS)
    return chr(s.integer(low, high))


def _float(s: Source, name: str) -> float:
    special = (0.0, -0.0, 1.0, math.nan, math.inf, -math.inf, 5e-324 if name == "f64" else 1e-45)
    if one_in(s, 2):
        number = pick(s, special)
    elif name == "f64":
        number = struct.unpack("<d", s.integer(0, 2**64 - 1).to_bytes(8, "little"))[0]
    else:
        number = struct.unpack("<f", s.integer(0, 2**32 - 1).to_bytes(4, "little"))[0]
    if math.isnan(number):
        return math.nan  # wasmtime keeps the payload of a NaN, this runtime makes it canonical
    return struct.unpack("<f", struct.pack("<f", number))[0] if name == "f32" else number


# --- sameness


def canonical(t: ValueType, v: object) -> object:
    """`v` with its floats as bit patterns (every NaN the same one), so that `==` means the same value.

    Asserts on the way that each part has the documented Python type: no int where a bool is due, no list for bytes.
    """
    match t:
        case PrimType("f32" | "f64" as name):
            assert type(v) is float, (t, v)
            number = math.nan if math.isnan(v) else v
            return (name, struct.pack("<d", number))
        case PrimType(name):
            assert type(v) is {"bool": bool, "char": str, "string": str}.get(name, int), (t, v)
            return v
        case ListType(PrimType("u8")):
            assert type(v) is bytes, (t, v)
            return v
        case ListType(element):
            assert type(v) is list, (t, v)
            return [canonical(element, item) for item in v]
        case TupleType(items):
            assert type(v) is tuple and len(v) == len(items), (t, v)
            return tuple(canonical(kind, item) for kind, item in zip(items, v, strict=True))
        case RecordType(fields):
            assert type(v) is dict and list(v) == [name for name, _ in fields], (t, v)
            return {name: canonical(kind, v[name]) for name, kind in fields}
        case VariantType(cases):
            assert type(v) is Variant, (t, v)
            return (v.case, _payload(dict(cases)[v.case], v.value))
        case EnumType(names):
            assert type(v) is str and v in names, (t, v)
            return v
        case FlagsType(names):
            assert type(v) is frozenset and v <= set(names), (t, v)
            return v
        case OptionType(some):
            if v is None:
                return None
            if isinstance(some, OptionType):
                assert type(v) is Some, (t, v)
                return ("some", canonical(some, v.value))
            return ("some", canonical(some, v))
        case ResultType(ok, err):
            assert type(v) in (Ok, Err), (t, v)
            assert isinstance(v, Ok | Err)
            return (type(v), _payload(ok if isinstance(v, Ok) else err, v.value))
        case OwnType(resource) | BorrowType(resource):
            assert (type(v) is GuestResource) is (resource.interface is None), (t, v)
            return v
    raise AssertionError(t)


def _payload(t: ValueType | None, v: object) -> object:
    if t is None:
        assert v is None
        return None
    return canonical(t, v)
