"""JSON Schemas accept what `from_json` accepts, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from perdure.component.interfaces import Interface, TypeDefinition, TypeName, World
from perdure.component.types import (
    FuncType,
    ListType,
    OptionType,
    OwnType,
    PrimType,
    RecordType,
    ResourceType,
    ResultType,
    TupleType,
    ValueType,
    VariantType,
)
from perdure.component.wit_json import args_from_json, from_json, to_json
from perdure.component.wit_schema import Schemas, has_handles, schema_of
from perdure.errors import TypeMismatch
from support.json_values import json_of, types

U8, STRING, F32, F64 = (PrimType(name) for name in ("u8", "string", "f32", "f64"))

# Integral floats are left out: a schema cannot tell 1.0 from 1.
anything: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**65), 2**65)
    | st.floats(allow_nan=False, allow_infinity=False).filter(lambda number: not number.is_integer())
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), max_size=4)
    | st.sampled_from(["NaN", "Infinity", "-Infinity", "a", "b-c", "x", "y", "AAAA", "AA==", "AAA", "A==="]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b-c", "d", "x", "y", "ok", "err", "some"]), inner, max_size=2)
    ),
    max_leaves=6,
)


def accepted(t: ValueType, value: object) -> bool:
    try:
        from_json(t, value, "v")
    except TypeMismatch:
        return False
    return True


def validator(schema: dict[str, Any]) -> Draft202012Validator:
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


@settings(deadline=None)
@given(types.flatmap(lambda t: st.tuples(st.just(t), json_of(t))))
def test_what_goes_in_and_what_comes_out_fits(pair: tuple[ValueType, object]) -> None:
    t, value = pair
    checks = validator(schema_of(t))
    assert checks.is_valid(value)
    assert checks.is_valid(to_json(t, from_json(t, value, "v")))


def spoiled(value: Any, other: Any, choice: st.DataObject) -> Any:
    """`value` with something in it replaced, added or left out."""
    if isinstance(value, list) and value and choice.draw(st.booleans()):
        at = choice.draw(st.integers(0, len(value) - 1))
        return [*value[:at], spoiled(value[at], other, choice), *value[at + 1 :]]
    if isinstance(value, dict) and value and choice.draw(st.booleans()):
        key = choice.draw(st.sampled_from(sorted(value)))
        return {**value, key: spoiled(value[key], other, choice)}
    if isinstance(value, list):
        return choice.draw(st.sampled_from([[*value, other], value[:-1], other]))
    if isinstance(value, dict):
        less = dict(list(value.items())[1:])
        return choice.draw(st.sampled_from([{**value, "extra": other}, less, other]))
    return other


@settings(max_examples=400, deadline=None)
@given(types.flatmap(lambda t: st.tuples(st.just(t), json_of(t))), anything, st.data())
def test_schema_and_codec_refuse_the_same(pair: tuple[ValueType, object], other: object, choice: st.DataObject) -> None:
    t, value = pair
    if isinstance(other, float) and other.is_integer():
        return
    wrong = spoiled(value, other, choice)
    assert validator(schema_of(t)).is_valid(wrong) == accepted(t, wrong), (t, wrong)


@pytest.mark.parametrize(
    ("t", "value", "fits"),
    [
        (U8, 255, True), (U8, 256, False), (U8, True, False), (U8, "1", False),
        (PrimType("s64"), -(2**63), True), (PrimType("u64"), 2**64, False),
        (F32, 3.4028234663852886e38, True), (F32, 3.40282347e38, True), (F32, 3.5e38, False), (F32, "NaN", True),
        (F64, 1.7976931348623157e308, True), (F64, float("inf"), False), (F64, 10**309, False), (F64, "nan", False),
        (PrimType("char"), "🔑", True), (PrimType("char"), "", False), (PrimType("char"), "ab", False),
        (ListType(U8), "", True), (ListType(U8), "AA==", True), (ListType(U8), "AB==", True), (ListType(U8), "AA=", False),
        (ListType(U8), "A===", False), (ListType(U8), "AA==AA", False), (ListType(U8), "A A=", False),
        (ListType(U8), [0, 255], True), (ListType(U8), [256], False),
        (OptionType(OptionType(U8)), {"some": None}, True), (OptionType(OptionType(U8)), 1, False),
        (ResultType(None, U8), {"ok": None}, True), (ResultType(None, U8), {"ok": None, "err": 1}, False),
        (VariantType((("x", U8), ("y", None))), "x", False), (VariantType((("x", U8), ("y", None))), {"y": None}, False),
        (TupleType((U8, STRING)), [1], False), (TupleType((U8, STRING)), [1, "a", 2], False),
        (OwnType(ResourceType("a:b/c", "r")), 1, False), (OwnType(ResourceType("a:b/c", "r")), None, False),
    ],
)  # fmt: skip
def test_bounds(t: ValueType, value: object, fits: bool) -> None:
    assert validator(schema_of(t)).is_valid(value) is fits
    assert accepted(t, value) is fits


@settings(deadline=None)
@given(st.lists(types.flatmap(lambda t: st.tuples(st.just(t), json_of(t))), max_size=3), st.booleans(), anything)
def test_arguments_in_order_and_by_name(pairs: list[tuple[ValueType, object]], by_name: bool, other: object) -> None:
    func = FuncType(tuple((f"p{index}", t) for index, (t, _) in enumerate(pairs)), None)
    checks = validator(Schemas(World()).arguments(func))
    values = [value for _, value in pairs]
    body: Any = {f"p{index}": value for index, value in enumerate(values)} if by_name else values
    assert checks.is_valid(body)
    args_from_json(func, body)
    for wrong in (other, [*values, None], {**{f"p{index}": value for index, value in enumerate(values)}, "q": 1}):
        try:
            args_from_json(func, wrong)
            fits = True
        except TypeMismatch:
            fits = False
        assert checks.is_valid(wrong) == fits


def named_world() -> tuple[World, RecordType]:
    """`a:b/c` defines `point` and the same structure as `size`; `a:b/d` uses `point`."""
    point, size = RecordType((("x", U8),)), RecordType((("x", U8),))
    used = RecordType((("x", U8),))
    world = World(
        exports=(
            Interface(
                "a:b/c",
                (
                    TypeDefinition("point", point, docs="A place.", items={"x": "How far."}),
                    TypeDefinition("size", size),
                ),
            ),
            Interface("a:b/d", (TypeDefinition("dot", used, same_as=TypeName("a:b/c", "point")),)),
        )
    )
    for t, name in (
        (point, TypeName("a:b/c", "point")),
        (size, TypeName("a:b/c", "size")),
        (used, TypeName("a:b/d", "dot")),
    ):
        world.names.give(t, name)
    return world, RecordType((("at", point), ("by", size), ("to", used)))


def test_named_types_are_defined_once_and_keep_their_docs() -> None:
    world, t = named_world()
    schema: Any = schema_of(t, world)
    assert set(schema["$defs"]) == {"a.b.c.point", "a.b.c.size"}
    assert schema["$defs"]["a.b.c.point"]["description"] == "A place."
    assert schema["$defs"]["a.b.c.point"]["properties"]["x"]["description"] == "How far."
    assert [schema["properties"][field]["$ref"] for field in ("at", "by", "to")] == [
        "#/$defs/a.b.c.point", "#/$defs/a.b.c.size", "#/$defs/a.b.c.point"
    ]  # fmt: skip
    checks = validator(schema)
    assert checks.is_valid({"at": {"x": 1}, "by": {"x": 2}, "to": {"x": 3}})
    assert not checks.is_valid({"at": {"x": 1}, "by": {"x": 2}, "to": {"x": 256}})
    # The same structure without the names: nothing is shared, nothing is defined.
    assert "$defs" not in schema_of(t)


def test_keys_that_would_collide_are_told_apart() -> None:
    first, second = RecordType((("x", U8),)), RecordType((("y", U8),))
    world = World()
    world.names.give(first, TypeName("a:b/c", "t"))
    world.names.give(second, TypeName("a/b:c", "t"))
    schema: Any = schema_of(TupleType((first, second)), world)
    assert set(schema["$defs"]) == {"a.b.c.t", "a.b.c.t-2"}


def test_handles_are_found_wherever_they_are() -> None:
    handle = OwnType(ResourceType("a:b/c", "r"))
    for t in (handle, ListType(handle), OptionType(handle), TupleType((U8, handle)), RecordType((("r", handle),)),
              VariantType((("x", None), ("y", handle))), ResultType(None, handle)):  # fmt: skip
        assert has_handles(t)
        assert not validator(schema_of(RecordType((("only", t),)))).is_valid({"only": 1})
    assert not has_handles(RecordType((("a", ListType(U8)),)))
