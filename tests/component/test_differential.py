"""The runtime against wasmtime's own component runtime and against the specification, over drawn types and values.

The guest in the middle is written from an independent reading of the ABI (`support.generated.abi`), and the bytes
that each runtime wrote into its memory are compared as well: a mistake made in both directions cannot hide.
"""

from __future__ import annotations

import asyncio
import math
import struct
from collections.abc import Iterator

import pytest
import wasmtime
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from perdure.component.canonical import layout, lift, lower
from perdure.component.engine import Engine
from perdure.component.types import ListType, PrimType, TupleType, ValueType, Variant, VariantType
from perdure.errors import TypeMismatch
from support.generated import abi, executable_spec, wat
from support.generated.compare import echo_of_ours, echo_of_theirs, expected, wild_of_ours, wild_of_theirs
from support.generated.misfits import spoiled
from support.generated.ours import OurComponent
from support.generated.source import Drawn
from support.generated.values import canonical, signature, value, value_type
from support.generated.wild import wild_component

SETTINGS = settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=60)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine() as made:
        yield made


@pytest.fixture(scope="module")
def stock_engine() -> wasmtime.Engine:
    config = wasmtime.Config()
    config.cranelift_opt_level = "none"
    return wasmtime.Engine(config)


@SETTINGS
@given(st.data())
def test_values_go_through_as_with_wasmtime(engine: Engine, stock_engine: wasmtime.Engine, data: st.DataObject) -> None:
    source = Drawn(data)
    params = signature(source)
    encoding = wat.ENCODINGS[source.integer(0, 2)]
    calls = [tuple(value(source, kind) for kind in params) for _ in range(3)]
    suspends = source.integer(0, 1) == 1
    text = wat.echo_component(params, encoding)
    note(text)
    binary = bytes(wasmtime.wat2wasm(text))
    echoed, relayed, dumped = asyncio.run(echo_of_ours(engine, binary, params, calls, suspends=suspends))
    assert echoed == expected(params, calls)
    assert relayed == expected(params, calls)
    theirs = echo_of_theirs(stock_engine, binary, params, calls)
    assert theirs[:2] == (echoed, relayed)
    if encoding == "utf8":  # in the others wasmtime allocates for the worst case first, so that addresses differ
        assert theirs[2] == dumped


@SETTINGS
@given(st.data())
def test_wrong_bytes_trap_where_wasmtime_traps(
    engine: Engine, stock_engine: wasmtime.Engine, data: st.DataObject
) -> None:
    source = Drawn(data)
    params = signature(source)
    encoding = wat.ENCODINGS[source.integer(0, 2)]
    text = wild_component(source, params, encoding, faults=(5, 12, 40)[source.integer(0, 2)])
    note(text[:10_000])
    binary = bytes(wasmtime.wat2wasm(text))
    ours = asyncio.run(wild_of_ours(engine, binary, params))
    assert ours == wild_of_theirs(stock_engine, binary, params)


def test_a_mistake_made_both_ways_is_seen(
    engine: Engine, stock_engine: wasmtime.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison's own control: payloads one byte off, when they are stored and when they are loaded."""
    params = (VariantType((("a", PrimType("u8")), ("b", TupleType((PrimType("u8"),) * 20)))),)
    calls = [(Variant("a", 7),)]
    binary = bytes(wasmtime.wat2wasm(wat.echo_component(params, "utf8")))
    right = asyncio.run(echo_of_ours(engine, binary, params, calls, suspends=False))
    assert right == echo_of_theirs(stock_engine, binary, params, calls)
    for module in (lift, lower):
        monkeypatch.setattr(module, "payload_offset", lambda t: layout.payload_offset(t) + 1)
    wrong = asyncio.run(echo_of_ours(engine, binary, params, calls, suspends=False))
    assert wrong[:2] == right[:2]
    assert wrong[2] != right[2]


def test_every_nan_is_the_canonical_one_to_the_guest(engine: Engine) -> None:
    kind = TupleType((ListType(PrimType("f32")), ListType(PrimType("f64")), PrimType("f32"), PrimType("f64")))
    odd = struct.unpack("<d", (0xFFF4_0000_0000_0001).to_bytes(8, "little"))[0]
    binary = bytes(wasmtime.wat2wasm(wat.echo_component((kind,), "utf8")))
    odd_bytes, plain_bytes = (
        asyncio.run(_bytes_after_an_echo(engine, binary, ([nan, 1.0], [nan], nan, nan))) for nan in (odd, math.nan)
    )
    assert odd_bytes == plain_bytes


@settings(SETTINGS, max_examples=400)
@given(st.data())
def test_layout_is_what_the_specification_says(data: st.DataObject) -> None:
    kind = value_type(Drawn(data))
    shape = abi.shape(kind)
    assert layout.size_and_alignment(kind) == (abi.size(shape), abi.alignment(shape))
    assert layout.flat(kind) == tuple(abi.cores(shape))
    specification = executable_spec.load()
    if specification is not None:
        found = executable_spec.Specification(specification).layout(kind)
        assert (*layout.size_and_alignment(kind), layout.flat(kind)) == found


@pytest.mark.skipif(
    executable_spec.load() is None, reason=f"{executable_spec.VARIABLE} names no copy of definitions.py"
)
@SETTINGS
@given(st.data())
def test_stored_bytes_are_those_of_the_executable_specification(engine: Engine, data: st.DataObject) -> None:
    source = Drawn(data)
    kind = TupleType((value_type(source), *[PrimType("u8")] * 17))  # more than 16 flat values: spilled to memory
    given_value = value(source, kind)
    binary = bytes(wasmtime.wat2wasm(wat.echo_component((kind,), "utf8")))
    dumped = asyncio.run(_bytes_after_an_echo(engine, binary, given_value))
    module = executable_spec.load()
    assert module is not None
    stored = executable_spec.Specification(module).stored(kind, given_value, wat.HEAP, 1 << 20)
    assert dumped[wat.HEAP - wat.DUMPED_FROM :] == stored


async def _bytes_after_an_echo(engine: Engine, binary: bytes, v: object) -> bytes:
    component = await OurComponent.load(engine, binary, {"host": lambda _context, *args: args})
    instance = await component.instantiate()
    await component.call(instance, "echo", (v,))
    dumped = await component.call(instance, "dump", ())
    instance.close()
    assert isinstance(dumped, bytes)
    return dumped


@SETTINGS
@given(st.data())
def test_values_that_do_not_fit_never_reach_the_guest(engine: Engine, data: st.DataObject) -> None:
    source = Drawn(data)
    params = signature(source)
    right = tuple(value(source, kind) for kind in params)
    at = source.integer(0, len(params) - 1)
    wrong = tuple(
        spoiled(source, kind, v) if index == at else v
        for index, (kind, v) in enumerate(zip(params, right, strict=True))
    )
    note(f"{params}\n{wrong}")
    binary = bytes(wasmtime.wat2wasm(wat.echo_component(params, "utf8")))
    asyncio.run(_refused_then_echoed(engine, binary, params, wrong, right))


async def _refused_then_echoed(
    engine: Engine, binary: bytes, params: tuple[ValueType, ...], wrong: tuple[object, ...], right: tuple[object, ...]
) -> None:
    component = await OurComponent.load(engine, binary, {"host": lambda _context, *args: args})
    instance = await component.instantiate()
    with pytest.raises(TypeMismatch):
        await component.call(instance, "echo", wrong)
    assert instance.usable
    echoed = await component.call(instance, "echo", right)
    assert [canonical(wat.result_of(params), echoed)] == expected(params, [right])
    instance.close()
