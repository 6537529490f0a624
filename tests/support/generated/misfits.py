"""Values with one part that does not fit its type."""

from __future__ import annotations

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


class CannotSpoil(Exception):
    """Every value fits: a handle of the host's."""


def spoiled(s: Source, t: ValueType, v: object) -> object:
    """A copy of `v` in which one part does not fit `t`: this one, or a part of it where it has parts.

    Raises `CannotSpoil`.
    """
    match t, v:
        case PrimType(name), _:
            return _leaf(s, name)
        case EnumType(), _:
            return pick(s, ("no-such-case", 0, None))
        case FlagsType(), _:
            return pick(s, (frozenset({"no-such-flag"}), 3, None))
        case ListType(PrimType("u8")), bytes():
            return pick(s, (None, [1, 256], "text", 7))
        case ListType(element), list() if v and not one_in(s, 3):
            at = s.integer(0, len(v) - 1)
            return [spoiled(s, element, item) if index == at else item for index, item in enumerate(v)]
        case ListType(), _:
            return pick(s, (None, 7))
        case RecordType(fields), dict() if not one_in(s, 3):
            spoilt, inner = pick(s, fields)
            return {name: spoiled(s, inner, item) if name == spoilt else item for name, item in v.items()}
        case RecordType(fields), dict():
            return pick(s, (None, dict(list(v.items())[:-1])))
        case TupleType(items), tuple() if not one_in(s, 3):
            at = s.integer(0, len(items) - 1)
            return tuple(
                spoiled(s, kind, item) if at == index else item
                for index, (kind, item) in enumerate(zip(items, v, strict=True))
            )
        case TupleType(), tuple():
            return pick(s, (None, v[:-1]))
        case VariantType(cases), Variant(case, payload):
            of_case = dict(cases)[case]
            return Variant("no-such-case") if of_case is None else Variant(case, spoiled(s, of_case, payload))
        case OptionType(some), _:
            if isinstance(v, Some):
                return Some(spoiled(s, some, v.value))
            if isinstance(some, OwnType | BorrowType):
                raise CannotSpoil
            made = object() if v is None else spoiled(s, some, v)
            return object() if made is None else made
        case ResultType(ok, err), Ok(payload) | Err(payload):
            side = ok if isinstance(v, Ok) else err
            return pick(s, (None, 7)) if side is None else type(v)(spoiled(s, side, payload))
        case OwnType(resource) | BorrowType(resource), _:
            if resource.interface is not None:
                raise CannotSpoil
            return pick(s, ("text", None, 7))
    raise AssertionError(t)


def _leaf(s: Source, name: str) -> object:
    if name == "bool":
        return pick(s, ("false", 2, None))
    if name == "char":
        return pick(s, ("", "ab", "\ud800", 65, None))
    if name == "string":
        return pick(s, ("\udc00", b"bytes", 7, None))
    if name in ("f32", "f64"):
        return pick(s, ("1.0", None))
    bits = int(name[1:])
    low, high = (0, (1 << bits) - 1) if name[0] == "u" else (-(1 << bits - 1), (1 << bits - 1) - 1)
    return pick(s, (low - 1, high + 1, "1", 1.5, None))
