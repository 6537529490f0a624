"""One component under both runtimes: what comes out, in the form that `values.canonical` gives."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import wasmtime

from perdure.component.engine import Engine
from perdure.component.types import ListType, PrimType, ValueType
from perdure.errors import GuestTrapped
from support.generated.ours import OurComponent
from support.generated.values import canonical
from support.generated.wat import result_of
from support.stock import StockComponent

BYTES = ListType(PrimType("u8"))
TRAPPED = "trapped"
Calls = Sequence[tuple[object, ...]]


def expected(params: tuple[ValueType, ...], calls: Calls) -> list[object]:
    """What an echo of each call must give."""
    return [canonical(result_of(params), _packed(call)) for call in calls]


async def echo_of_ours(
    engine: Engine, binary: bytes, params: tuple[ValueType, ...], calls: Calls, *, suspends: bool
) -> tuple[list[object], list[object], bytes]:
    """(echoed, relayed, dump) of an `echo_component`. `suspends`: the host function is a coroutine."""
    result = result_of(params)

    async def slow(_context: object, *args: object) -> object:
        await asyncio.sleep(0)
        return _packed(args)

    host = slow if suspends else lambda _context, *args: _packed(args)
    component = await OurComponent.load(engine, binary, {"host": host})
    instance = await component.instantiate()
    try:
        echoed = [canonical(result, await component.call(instance, "echo", call)) for call in calls]
        relayed = [canonical(result, await component.call(instance, "relay", call)) for call in calls]
        dumped = await component.call(instance, "dump", ())
        assert isinstance(dumped, bytes)
        return echoed, relayed, dumped
    finally:
        instance.close()


def echo_of_theirs(
    engine: wasmtime.Engine, binary: bytes, params: tuple[ValueType, ...], calls: Calls
) -> tuple[list[object], list[object], bytes]:
    """The same under wasmtime."""
    result = result_of(params)
    host = (params, result, lambda *args: _packed(args))
    component = StockComponent(engine, binary, {"host": host})
    echoed = [canonical(result, component.call("echo", params, result, call)) for call in calls]
    relayed = [canonical(result, component.call("relay", params, result, call)) for call in calls]
    dumped = component.call("dump", (), BYTES, ())
    assert isinstance(dumped, bytes)
    return echoed, relayed, dumped


async def wild_of_ours(engine: Engine, binary: bytes, params: tuple[ValueType, ...]) -> list[object]:
    """What `give` returns and what `send` makes the host see, of a `wild_component`; or that it trapped."""
    seen: list[object] = []
    component = await OurComponent.load(engine, binary, {"host": lambda _context, *args: seen.append(_packed(args))})
    found: list[object] = []
    for name in ("give", "send"):
        instance = await component.instantiate()
        try:
            given = await component.call(instance, name, ())
            found.append(canonical(result_of(params), given if name == "give" else seen.pop()))
        except GuestTrapped:
            found.append(TRAPPED)
        finally:
            instance.close()
    assert not seen
    return found


def wild_of_theirs(engine: wasmtime.Engine, binary: bytes, params: tuple[ValueType, ...]) -> list[object]:
    """The same under wasmtime."""
    seen: list[object] = []
    result = result_of(params)
    found: list[object] = []
    for name in ("give", "send"):
        host = (params, None, lambda *args: seen.append(_packed(args)))
        component = StockComponent(engine, binary, {"host": host})
        try:
            given = component.call(name, (), result if name == "give" else None, ())
            found.append(canonical(result, given if name == "give" else seen.pop()))
        except (wasmtime.WasmtimeError, wasmtime.Trap):
            found.append(TRAPPED)
    return found


def _packed(args: tuple[object, ...]) -> object:
    return args[0] if len(args) == 1 else args
