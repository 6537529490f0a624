"""Strategies: WIT types, and JSON values that fit them."""

from __future__ import annotations

from hypothesis import strategies as st

from perdure.component.types import (
    EnumType,
    FlagsType,
    ListType,
    OptionType,
    PrimType,
    RecordType,
    ResultType,
    TupleType,
    ValueType,
    VariantType,
)

NAMES = ("a", "b-c", "d")

types: st.SearchStrategy[ValueType] = st.recursive(
    st.sampled_from([PrimType(n) for n in ("bool", "s8", "u8", "s16", "u64", "s64", "f32", "f64", "char", "string")])
    | st.just(EnumType(NAMES))
    | st.just(FlagsType(NAMES)),
    lambda inner: st.one_of(
        inner.map(ListType),
        inner.map(OptionType),
        st.lists(inner, min_size=1, max_size=3).map(lambda items: TupleType(tuple(items))),
        st.lists(inner, min_size=1, max_size=3).map(
            lambda items: RecordType(tuple((NAMES[i], item) for i, item in enumerate(items)))
        ),
        st.tuples(st.none() | inner, st.none() | inner).map(lambda pair: ResultType(*pair)),
        (st.none() | inner).map(lambda kind: VariantType((("x", kind), ("y", None)))),
    ),
    max_leaves=6,
)


def json_of(t: ValueType) -> st.SearchStrategy[object]:
    match t:
        case PrimType("bool"):
            return st.booleans()
        case PrimType("f32" | "f64" as name):
            finite = st.floats(width=32 if name == "f32" else 64, allow_nan=False, allow_infinity=False)
            return finite | st.sampled_from(["NaN", "Infinity", "-Infinity"])
        case PrimType("char"):
            return st.characters(exclude_categories=["Cs"])
        case PrimType("string"):
            return st.text(st.characters(exclude_categories=["Cs"]))
        case PrimType(name):
            bits = int(name[1:])
            return (
                st.integers(0, (1 << bits) - 1)
                if name[0] == "u"
                else st.integers(-(1 << bits - 1), (1 << bits - 1) - 1)
            )
        case ListType(PrimType("u8")):
            return st.lists(st.integers(0, 255))
        case ListType(element):
            return st.lists(json_of(element), max_size=3)
        case OptionType(some):
            present = json_of(some)
            return st.none() | (present.map(lambda v: {"some": v}) if isinstance(some, OptionType) else present)
        case TupleType(items):
            return st.tuples(*map(json_of, items)).map(list)
        case RecordType(fields):
            return st.fixed_dictionaries({name: json_of(kind) for name, kind in fields})
        case ResultType(ok, err):
            sides = [("ok", ok), ("err", err)]
            return st.one_of(*[(json_of(k) if k else st.none()).map(lambda v, n=n: {n: v}) for n, k in sides])  # type: ignore[misc]
        case VariantType(cases):
            kind = dict(cases)["x"]
            return st.just("y") | (json_of(kind).map(lambda v: {"x": v}) if kind else st.just("x"))
        case EnumType(names):
            return st.sampled_from(names)
        case FlagsType(names):
            return st.lists(st.sampled_from(names), unique=True)
        case _:
            raise AssertionError(t)
