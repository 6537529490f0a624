"""Values of any WIT type: strategies that make them, and what makes two of them the same."""

from __future__ import annotations

import math
import struct

from hypothesis import strategies as st

from perdure.component.types import (
    EnumType,
    Err,
    FlagsType,
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

# NUL, the borders of UTF-8's lengths and of the surrogates, and the last code point.
_EDGES = "\0\x7f\x80\u07ff\u0800\ud7ff\ue000\ufeff\uffff\U00010000\U0010ffff"
_CHARS = st.sampled_from(_EDGES) | st.characters(exclude_categories=["Cs"])
_SIZE = 6


def values_of(t: ValueType) -> st.SearchStrategy[object]:
    """Small values of type `t`, as `perdure.component.types` has them."""
    match t:
        case PrimType("bool"):
            return st.booleans()
        case PrimType("char"):
            return _CHARS
        case PrimType("string"):
            return st.text(_CHARS, max_size=_SIZE)
        case PrimType("f32" | "f64" as name):
            return st.floats(width=32 if name == "f32" else 64)
        case PrimType(name):
            bits = int(name[1:])
            low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if name[0] == "s" else (0, (1 << bits) - 1)
            return st.sampled_from([low, high]) | st.integers(low, high)
        case ListType(PrimType("u8")):
            return st.binary(max_size=_SIZE)
        case ListType(element):
            return st.lists(values_of(element), max_size=_SIZE)
        case TupleType(items):
            return st.tuples(*map(values_of, items))
        case RecordType(fields):
            return st.fixed_dictionaries({name: values_of(kind) for name, kind in fields})
        case OptionType(some):
            present = values_of(some)
            return st.none() | (present.map(Some) if isinstance(some, OptionType) else present)
        case ResultType(ok, err):
            return _side(ok).map(Ok) | _side(err).map(Err)
        case VariantType(cases):
            return st.one_of([_side(kind).map(lambda value, name=name: Variant(name, value)) for name, kind in cases])  # type: ignore[misc]
        case EnumType(names):
            return st.sampled_from(names)
        case FlagsType(names):
            return st.frozensets(st.sampled_from(names))
    raise AssertionError(f"handles are not values: {t}")


def _side(t: ValueType | None) -> st.SearchStrategy[object]:
    return st.none() if t is None else values_of(t)


def exact(value: object) -> object:
    """Equal for two values exactly when they are the same: -0.0 is not 0.0, 1 is neither 1.0 nor True, and every NaN
    is one and the same, as the component model has it."""
    match value:
        case float():
            return ("float", "NaN" if math.isnan(value) else struct.pack("<d", value))
        case list() | tuple():
            return (type(value).__name__, *map(exact, value))
        case dict():
            return ("record", *sorted((name, exact(item)) for name, item in value.items()))
        case Some(inner) | Ok(inner) | Err(inner):
            return (type(value).__name__, exact(inner))
        case Variant(case, inner):
            return ("variant", case, exact(inner))
        case _:
            return (type(value).__name__, value)
