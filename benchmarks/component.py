"""Perdure's component runtime against wasmtime-py's own component API, and what it adds to wasmtime.

Both run the same Rust component (tests/guests/bench) in this process and this run; what the guest itself does is in
both figures. A host call's cost is taken over many calls made within one export call. Times of crossings are processor
time, others by the clock. The last table has each goal, and whether this run met it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import wasmtime
from wasmtime import component as stock

from harness.instances import instantiation, scaling, suspended
from harness.report import Cell, Options, Table, main, progress
from harness.rounds import Samples, Spread, calibrated, interleave, ratio, spread
from perdure.component.component import Component
from perdure.component.engine import Engine
from perdure.component.host import HostFunction, HostResource
from perdure.component.instance import Instance
from perdure.component.types import FuncType
from support.guests import guest

SIZES = {"10 B": 10, "1 kB": 1_000, "100 kB": 100_000, "1 MB": 1_000_000}
QUICK_SIZES = {"10 B": 10}
KEY = "colour"
SOURCE = "perdure:bench/source"
ROUNDS = 5
FASTER = "theirs ÷ ours"
SLOWER = "× plain function"
COLUMNS = ("what", "Perdure µs", "wasmtime.component µs", FASTER)
WAIT_COLUMNS = ("what", "µs a call", SLOWER)
NOP, SMALL, TURN = "export nop", "host call, 10 B returned", "coroutine that waits one turn of the loop"
Operations: TypeAlias = "Callable[[int], Awaitable[None]]"
"""Carries out so many operations. The loop is within, so that the harness costs neither side a call."""
GOALS = ((SMALL, FASTER, "≥", 20.0), (NOP, FASTER, "≥", 10.0), (TURN, SLOWER, "≤", 4.0))
"""(row, column, how, bound)."""


class Source:
    """The component's one import, from a function of ours."""

    def __init__(self, get: Callable[[object, str], object]) -> None:
        self._get = get

    def function(self, interface: str, name: str, type: FuncType) -> HostFunction | None:  # noqa: A002
        return self._get if (interface, name) == (SOURCE, "get") else None

    def resource(self, interface: str, name: str) -> HostResource | None:
        return None


class Ours:
    """An instance under Perdure's runtime."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._functions = {func.name: func for func in instance.bound.component.exports}

    @classmethod
    async def start(cls, component: Component, get: Callable[[object, str], object]) -> Ours:
        return cls(await component.bind(Source(get)).instantiate(None))

    async def call(self, name: str, *args: object) -> object:
        return await self._instance.call(self._functions[name], args)

    def calls(self, name: str, *args: object) -> Operations:
        instance, function = self._instance, self._functions[name]

        async def run(count: int) -> None:
            for _ in range(count):
                await instance.call(function, args)

        return run

    def close(self) -> None:
        self._instance.close()


class Theirs:
    """An instance under wasmtime-py's component API, as its documentation shows it."""

    def __init__(self, path: Path, get: Callable[[object, str], object]) -> None:
        engine = wasmtime.Engine()
        component = stock.Component.from_file(engine, str(path))
        self._store = wasmtime.Store(engine)
        linker = stock.Linker(engine)
        with linker.root() as root, root.add_instance(SOURCE) as source:
            source.add_func("get", get)
        instance = linker.instantiate(self._store, component)
        self._functions: dict[str, stock.Func] = {}
        for name in ("nop", "echo", "get", "get-many-times"):
            found = instance.get_func(self._store, name)
            assert found is not None, name
            self._functions[name] = found

    async def call(self, name: str, *args: object) -> object:
        function = self._functions[name]
        result = function(self._store, *args)
        function.post_return(self._store)
        return result

    def calls(self, name: str, *args: object) -> Operations:
        store, function = self._store, self._functions[name]

        async def run(count: int) -> None:
            for _ in range(count):
                function(store, *args)
                function.post_return(store)

        return run


def within(call: Callable[..., Awaitable[object]], size: int) -> Operations:
    """Each operation is one host call; all in one export call."""

    async def run(count: int) -> None:
        total = await call("get-many-times", count, KEY)
        if total != count * size:
            raise RuntimeError(f"{count} host calls gave {total} bytes in all, not {count * size}")

    return run


async def against_stock(component: Component, path: Path, rounds: int, sizes: Mapping[str, int]) -> Table:
    """Exports, then imports, at each size."""
    table = Table(
        "Crossings with a Rust guest",
        COLUMNS,
        note="Medians of rounds with (least–greatest). Each line is an interleaved comparison of its own.",
    )
    payload = b""
    ours = await Ours.start(component, lambda context, key: payload)
    theirs = Theirs(path, lambda store, key: payload)
    try:
        table.rows.append(await line(NOP, ours.calls("nop"), theirs.calls("nop"), rounds))
        for label, size in sizes.items():
            data = bytes(size)
            table.rows.append(
                await line(
                    f"export echo, {label} in and out", ours.calls("echo", data), theirs.calls("echo", data), rounds
                )
            )
        for label, size in sizes.items():
            payload = bytes(size)
            table.rows.append(
                await line(f"host call, {label} returned", within(ours.call, size), within(theirs.call, size), rounds)
            )
    finally:
        ours.close()
    return table


async def line(what: str, ours: Operations, theirs: Operations, rounds: int) -> Mapping[str, Cell]:
    progress(what)
    contenders = [await calibrated("ours", ours), await calibrated("theirs", theirs)]
    found = await interleave(contenders, rounds, clock=time.process_time)
    return {
        "what": what,
        "Perdure µs": microseconds(found["ours"]),
        "wasmtime.component µs": microseconds(found["theirs"]),
        FASTER: ratio(found["theirs"].seconds, found["ours"].seconds),
    }


async def waiting(component: Component, rounds: int) -> Table:
    """A host function that answers at once, against those for which the guest's fiber is suspended."""
    value = bytes(SIZES["10 B"])
    turn = asyncio.sleep

    def plain(context: object, key: str) -> bytes:
        return value

    async def ready(context: object, key: str) -> bytes:
        return value

    async def waits(context: object, key: str) -> bytes:
        await turn(0)
        return value

    async def awaits_future(context: object, key: str) -> bytes:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bytes] = loop.create_future()
        loop.call_soon(future.set_result, value)
        return await future

    async def bare(count: int) -> None:
        for _ in range(count):
            await awaits_future(None, KEY)

    functions: dict[str, Callable[[object, str], object | Coroutine[object, object, object]]] = {
        "plain function": plain,
        "coroutine that does not wait": ready,
        TURN: waits,
        "coroutine that waits for a future": awaits_future,
    }
    instances = {name: await Ours.start(component, function) for name, function in functions.items()}
    progress("waiting host calls")
    contenders = [await calibrated(name, within(one.call, len(value))) for name, one in instances.items()]
    contenders.append(await calibrated("(the same future, awaited without a guest)", bare))
    found = await interleave(contenders, rounds, clock=time.process_time)
    for one in instances.values():
        one.close()
    base = found["plain function"]
    return Table(
        "A host call that waits, 10 B returned",
        WAIT_COLUMNS,
        [
            {
                "what": name,
                "µs a call": microseconds(samples),
                SLOWER: None if samples is base else ratio(samples.seconds, base.seconds),
            }
            for name, samples in found.items()
        ],
    )


def microseconds(samples: Samples) -> Cell:
    values: Sequence[float] = [seconds * 1e6 for seconds in samples.seconds]
    return spread(values)


def goals(tables: Sequence[Table]) -> Table:
    """Each goal, with what was measured in this run."""
    found = {(row.get("what"), name): cell for table in tables for row in table.rows for name, cell in row.items()}
    made = Table("Goals", ("what", "measure", "goal", "found", "met"))
    for what, measure, how, bound in GOALS:
        cell = found[what, measure]
        assert isinstance(cell, Spread)
        met = cell.median >= bound if how == "≥" else cell.median <= bound
        row: dict[str, Cell] = {
            "what": what,
            "measure": measure,
            "goal": f"{how} {bound:g}",
            "found": cell,
            "met": "yes" if met else "no",
        }
        made.rows.append(row)
    return made


async def benchmark(options: Options) -> list[Table]:
    rounds = options.rounds or (3 if options.quick else ROUNDS)
    path = guest("bench")
    with Engine() as engine:
        component = await Component.load(engine, path.read_bytes())
        sizes = QUICK_SIZES if options.quick else SIZES
        tables = [await against_stock(component, path, rounds, sizes), await waiting(component, rounds)]
    tables.append(await instantiation(("rust",) if options.quick else ("rust", "python"), 3 if options.quick else 40))
    tables.append(await suspended(path, 20 if options.quick else 5_000))
    tables.append(scaling(path, 3, 0.02 if options.quick else 1.0))
    return [*tables, goals(tables)]


if __name__ == "__main__":
    main(__doc__, benchmark, has_quick=True)
