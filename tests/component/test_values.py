"""Every type of value through a real guest's memory and back: as it went in, and as wasmtime itself has it.

The guest (`tests/guests/values`) gives back what it was given.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator, Sequence

import pytest
import wasmtime
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perdure.component.component import Component
from perdure.component.engine import Engine, EngineConfig
from perdure.component.plan import ExportedFunc
from perdure.component.types import Err, Ok, Some, Variant
from perdure.component.wit_json import args_from_json, to_json
from perdure.errors import TypeMismatch
from perdure.wasi.resolver import WasiResolver
from support.guests import COMPILED, guest
from support.stock import StockComponent
from support.values import exact, values_of

INTERFACE = "perdure:values/echo"
FUNCTIONS = [
    "via-bool", "via-u8", "via-s8", "via-u16", "via-s16", "via-u32", "via-s32", "via-u64", "via-s64", "via-f32",
    "via-f64", "via-char", "via-string", "via-bytes", "via-numbers", "via-strings", "via-nested", "via-tuple",
    "via-option", "via-result", "via-no-payload", "via-colour", "via-access", "via-point", "via-shape",
    "via-everything", "via-many",
]  # fmt: skip
Call = Callable[[str, Sequence[object]], object]


class Guest:
    """One instance, called from outside an event loop."""

    def __init__(self, engine: Engine, runner: asyncio.Runner) -> None:
        component = runner.run(Component.load(engine, guest("values").read_bytes()))
        # The guest is pure: what Rust's library imports of WASI is never called.
        self._instance = runner.run(component.bind(WasiResolver()).instantiate(None))
        self._runner = runner
        self.functions = {func.name: func for func in component.exports}

    def call(self, name: str, args: Sequence[object]) -> object:
        return self._runner.run(self._instance.call(self.functions[name], args))

    def close(self) -> None:
        self._instance.close()


@pytest.fixture(scope="module")
def values() -> Iterator[Guest]:
    with Engine(EngineConfig(cache_dir=COMPILED)) as engine, asyncio.Runner() as runner:
        made = Guest(engine, runner)
        yield made
        made.close()


@pytest.fixture(scope="module")
def stock() -> StockComponent:
    return StockComponent(wasmtime.Engine(), guest("values").read_bytes(), {}, wasi=True)


def arguments(func: ExportedFunc) -> st.SearchStrategy[tuple[object, ...]]:
    return st.tuples(*(values_of(kind) for _, kind in func.type.params))


def returned(args: Sequence[object]) -> object:
    """What the guest gives back: its one argument, or all of them as a tuple."""
    return args[0] if len(args) == 1 else tuple(args)


def test_every_function_is_tried(values: Guest) -> None:
    assert sorted(values.functions) == sorted(FUNCTIONS)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_come_back_as_they_went(values: Guest, name: str) -> None:
    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(arguments(values.functions[name]))
    def check(args: tuple[object, ...]) -> None:
        assert exact(values.call(name, args)) == exact(returned(args))

    check()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_wasmtime_itself_says_the_same(values: Guest, stock: StockComponent, name: str) -> None:
    func = values.functions[name]

    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(arguments(func))
    def check(args: tuple[object, ...]) -> None:
        params = tuple(kind for _, kind in func.type.params)
        said = stock.call(name, params, func.type.result, args, interface=INTERFACE)
        assert exact(values.call(name, args)) == exact(said)

    check()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_survive_json(values: Guest, name: str) -> None:
    """As a journal keeps arguments and a caller gets results."""
    kind = values.functions[name].type
    result = kind.result
    assert result is not None

    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(arguments(values.functions[name]))
    def check(args: tuple[object, ...]) -> None:
        json = [to_json(t, value) for (_, t), value in zip(kind.params, args, strict=True)]
        back = args_from_json(kind, json)
        assert exact(back) == exact(list(args))
        assert to_json(result, values.call(name, back)) == (json[0] if len(json) == 1 else json)

    check()


def test_what_counts_as_the_same_is_exact() -> None:
    """The control of the tests above: values that Python finds equal, or nearly, are told apart."""
    pairs: list[tuple[object, object]] = [
        (0.0, -0.0), (1, True), (1, 1.0), ([1], (1,)), (None, Some(None)), (Ok(), Err()), (Ok(0), Ok(False)),
        (Variant("a"), Variant("b")), ({"a": 0.0}, {"a": -0.0}), (frozenset("a"), frozenset("ab")), (b"a", "a"),
    ]  # fmt: skip
    for one, other in pairs:
        assert exact(one) == exact(one) and exact(one) != exact(other)
    assert exact(math.nan) == exact(-math.nan)


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 1 << 20])
def test_long_values(values: Guest, size: int) -> None:
    """Longer than a page, so that the guest's memory grows while values are lowered into it."""
    assert values.call("via-bytes", [bytes(size)]) == bytes(size)
    assert values.call("via-string", ["я" * (size // 2)]) == "я" * (size // 2)
    assert values.call("via-numbers", [[size] * (size // 8)]) == [size] * (size // 8)
    assert values.call("via-strings", [["k"] * (size // 64)]) == ["k"] * (size // 64)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("via-u8", "a"), ("via-u8", 256), ("via-u8", -1), ("via-u16", 65_536), ("via-u32", 1 << 32), ("via-u64", 1 << 64),
        ("via-u64", -1), ("via-s8", 128), ("via-s16", -32_769), ("via-s32", 1 << 31), ("via-s64", 1 << 63),
        ("via-f32", 1e300), ("via-f64", "0"), ("via-char", "ab"), ("via-char", "\ud800"), ("via-string", "\udfff"),
        ("via-string", b"bytes"), ("via-bytes", "text"), ("via-numbers", [1 << 64]), ("via-tuple", (1, "a")),
        ("via-tuple", (1, "a", 0.5, 2)), ("via-result", "bare"), ("via-colour", "purple"), ("via-access", {"fly"}),
        ("via-point", {"x": 1, "y": 2.0}), ("via-shape", Variant("square")), ("via-shape", "empty"),
    ],
)  # fmt: skip
def test_a_value_that_does_not_fit_is_refused_and_the_guest_goes_on(values: Guest, name: str, value: object) -> None:
    with pytest.raises(TypeMismatch):
        values.call(name, [value])
    assert values.call("via-string", ["still here"]) == "still here"
