"""WIT values and JSON: what goes through unchanged, and what is refused by name."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.component.types import (
    EnumType,
    FlagsType,
    FuncType,
    ListType,
    OptionType,
    PrimType,
    RecordType,
    ResultType,
    TupleType,
    ValueType,
    VariantType,
)
from perdure.component.wit_json import args_from_json, from_json, to_json
from perdure.errors import TypeMismatch

U8, U32, S64, STRING, F64 = (PrimType(name) for name in ("u8", "u32", "s64", "string", "f64"))
NAMES = ("a", "b-c", "d")

types: st.SearchStrategy[ValueType] = st.recursive(
    st.sampled_from([PrimType(n) for n in ("bool", "s8", "u8", "s16", "u64", "s64", "f64", "char", "string")])
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
        case PrimType("f64"):
            return st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from(["NaN", "Infinity", "-Infinity"])
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


@given(types.flatmap(lambda t: st.tuples(st.just(t), json_of(t))))
def test_every_value_survives_the_round_trip(pair: tuple[ValueType, object]) -> None:
    t, value = pair
    once = to_json(t, from_json(t, value, "v"))
    assert to_json(t, from_json(t, once, "v")) == once
    json.dumps(once, allow_nan=False)


@pytest.mark.parametrize(
    ("t", "value", "path"),
    [
        (U8, 256, "v"), (U8, -1, "v"), (U8, True, "v"), (U8, "1", "v"), (U8, 1.0, "v"), (S64, 1 << 63, "v"),
        (STRING, 1, "v"), (STRING, "\ud800", "v"), (PrimType("char"), "ab", "v"), (PrimType("bool"), 1, "v"),
        (F64, "nan", "v"), (F64, True, "v"), (ListType(U8), "*", "v"), (ListType(U8), [1, 300], "v[1]"),
        (ListType(STRING), ["a", 3], "v[1]"), (TupleType((U8, U8)), [1], "v"),
        (RecordType((("a", U8),)), {"a": 1, "b": 2}, "v.b"), (RecordType((("a", U8),)), {}, "v.a"),
        (OptionType(OptionType(U8)), 1, "v"), (ResultType(None, U8), {"ok": 1}, "v.ok"),
        (VariantType((("x", U8),)), "x", "v"), (EnumType(NAMES), "z", "v"), (FlagsType(NAMES), ["z"], "v"),
    ],
)  # fmt: skip
def test_misfits_name_their_path(t: ValueType, value: object, path: str) -> None:
    with pytest.raises(TypeMismatch) as caught:
        from_json(t, value, "v")
    assert caught.value.parameter == path


def test_arguments() -> None:
    func = FuncType((("bucket", STRING), ("n", U32)), None)
    assert args_from_json(func, ["b", 1]) == ["b", 1]
    assert args_from_json(func, {"n": 1, "bucket": "b"}) == ["b", 1]
    for wrong, parameter in ((["b"], "n"), (["b", 1, 2], "[2]"), ({"bucket": "b"}, "n"), ({"x": 1}, "x"), (3, "")):
        with pytest.raises(TypeMismatch) as caught:
            args_from_json(func, wrong)
        assert caught.value.parameter == parameter


def test_special_floats() -> None:
    assert math.isnan(from_json(F64, "NaN", "v"))  # type: ignore[arg-type]
    assert to_json(F64, -math.inf) == "-Infinity"
