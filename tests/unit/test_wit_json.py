"""WIT values and JSON: what goes through unchanged, and what is refused by name."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
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
from support.json_values import NAMES, json_of, types

U8, U32, S64, STRING, F64 = (PrimType(name) for name in ("u8", "u32", "s64", "string", "f64"))


@settings(deadline=None)
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
        (VariantType((("x", U8),)), "x", "v"), (EnumType(NAMES), "z", "v"), (FlagsType(NAMES), ["z"], "v[0]"),
    ],
)  # fmt: skip
def test_misfits_name_their_path(t: ValueType, value: object, path: str) -> None:
    with pytest.raises(TypeMismatch) as caught:
        from_json(t, value, "v")
    assert caught.value.parameter == path


@pytest.mark.parametrize("value", ["secret", "another secret", "an array of secret", "a lone secret"])
def test_values_are_not_told(value: str) -> None:
    for t in (U8, F64, PrimType("char"), ListType(U8), TupleType((U8,)), EnumType(NAMES), FlagsType(NAMES)):
        for sent in (value, [value, value]):
            with pytest.raises(TypeMismatch) as caught:
                from_json(t, sent, "v")
            assert "secret" not in caught.value.detail


def test_how_long_a_tuple_is() -> None:
    with pytest.raises(TypeMismatch, match=r"v must be an array of 2 \(tuple<u8, u8>\), not one of 1"):
        from_json(TupleType((U8, U8)), [1], "v")


def test_arguments() -> None:
    func = FuncType((("bucket", STRING), ("n", U32)), None)
    assert args_from_json(func, ["b", 1]) == ["b", 1]
    assert args_from_json(func, {"n": 1, "bucket": "b"}) == ["b", 1]
    for wrong, parameter in ((["b"], "n"), (["b", 1, 2], "[2]"), ({"bucket": "b"}, "n"), ({"x": 1}, "x"), (3, "")):
        with pytest.raises(TypeMismatch) as caught:
            args_from_json(func, wrong)
        assert caught.value.parameter == parameter


def test_special_floats() -> None:
    found = from_json(F64, "NaN", "v")
    assert isinstance(found, float) and math.isnan(found)
    assert to_json(F64, -math.inf) == "-Infinity"
