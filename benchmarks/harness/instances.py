"""What instances cost beyond their calls: to make them, to keep many of them waiting, and side by side."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from harness.report import Table, progress
from harness.rounds import ratio, spread
from perdure.component import capi
from perdure.component.component import Component
from perdure.component.engine import Engine, EngineConfig
from perdure.component.host import HostFunction, HostResource
from perdure.component.instance import Instance, InstanceLimits
from perdure.component.pool import InstancePool
from perdure.component.types import FuncType
from support.state_guests import World, loaded, state_guest

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

_OF_WASMTIME = ("linker_instantiate", "future_poll", "linker_define", "export_get")
_WORKER_SECONDS = 60.0
"""How long a worker may take to start."""
_PAGE = os.sysconf("SC_PAGE_SIZE")


class One:
    """A component's one import."""

    def __init__(self, function: HostFunction) -> None:
        self._function = function

    def function(self, interface: str, name: str, type: FuncType) -> HostFunction | None:  # noqa: A002
        return self._function

    def resource(self, interface: str, name: str) -> HostResource | None:
        return None


@contextmanager
def _within_wasmtime() -> Iterator[list[float]]:
    """Seconds spent in the calls that instantiate, in one item that grows."""
    total = [0.0]
    own = {name: getattr(capi, name) for name in _OF_WASMTIME}

    def timed(function: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object) -> object:
            begun = time.perf_counter()
            try:
                return function(*args)
            finally:
                total[0] += time.perf_counter() - begun

        return call

    for name, function in own.items():
        setattr(capi, name, timed(function))
    try:
        yield total
    finally:
        for name, function in own.items():
            setattr(capi, name, function)


async def instantiation(languages: Sequence[str], times: int) -> Table:
    """A new instance, without one at hand and from a pool."""
    table = Table(
        "A new instance",
        ("guest", "instantiate, ms", "of which wasmtime, ms", "all ÷ wasmtime", "from the pool, µs"),
        note="wasmtime: within its C functions, and what start functions call. Medians (least–greatest).",
    )
    for language in languages:
        progress(f"instantiation, {language}")
        async with loaded(state_guest(language)) as guest:
            all_, own = [], []
            for _ in range(times):
                with _within_wasmtime() as within:
                    all_.append(await _seconds(guest.instance))
                own.append(within[0])
            pooled = await _pooled(InstancePool(guest.bound, InstanceLimits(), size=1), times)
            table.rows.append(
                {
                    "guest": language,
                    "instantiate, ms": spread([one * 1e3 for one in all_]),
                    "of which wasmtime, ms": spread([one * 1e3 for one in own]),
                    "all ÷ wasmtime": ratio(all_, own),
                    "from the pool, µs": spread([one * 1e6 for one in pooled]) if pooled else "not possible",
                }
            )
    return table


async def _seconds(make: Callable[[], Awaitable[Instance]]) -> float:
    begun = time.perf_counter()
    instance = await make()
    elapsed = time.perf_counter() - begun
    instance.close()
    return elapsed


async def _pooled(pool: InstancePool, times: int) -> list[float]:
    """Empty where the component cannot be kept ready."""
    filling = asyncio.ensure_future(pool.run())
    found: list[float] = []
    try:
        while len(found) < times:
            while not pool.statistics().ready:
                if filling.done():
                    return []
                await asyncio.sleep(0)
            found.append(await _seconds(lambda: pool.instantiate(World())))
    finally:
        filling.cancel()
        pool.close()
    return found


async def suspended(path: Path, count: int) -> Table:
    """Instances that all wait in a host call at once."""
    progress(f"{count:,} suspended instances")
    waiting, woken = asyncio.Event(), asyncio.Event()
    arrived = 0

    async def get(context: object, key: str) -> bytes:
        nonlocal arrived
        arrived += 1
        if arrived == count:
            waiting.set()
        await woken.wait()
        return key.encode()

    with Engine(EngineConfig(memory_reservation=64 << 20)) as engine:
        bound = (await Component.load(engine, path.read_bytes())).bind(One(get))
        (call,) = (func for func in bound.component.exports if func.name == "get")
        before, begun = _resident(), time.perf_counter()
        instances = [await bound.instantiate(None, limits=InstanceLimits(memory=8 << 20)) for _ in range(count)]
        made = time.perf_counter()
        calls = [asyncio.ensure_future(instance.call(call, ["key"])) for instance in instances]
        await waiting.wait()
        held, at = _resident(), time.perf_counter()
        woken.set()
        answers = await asyncio.gather(*calls)
        ended = time.perf_counter()
        if answers != [3] * count:
            raise RuntimeError("a suspended instance gave a wrong answer")
        for instance in instances:
            instance.close()
    return Table(
        "Rust instances suspended in a host call, in one process",
        ("instances", "resident kB each", "make µs", "call and suspend µs", "resume and finish µs"),
        [
            {
                "instances": count,
                "resident kB each": (held - before) / count / 1e3,
                "make µs": (made - begun) / count * 1e6,
                "call and suspend µs": (at - made) / count * 1e6,
                "resume and finish µs": (ended - at) / count * 1e6,
            }
        ],
    )


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * _PAGE


def scaling(path: Path, rounds: int, seconds: float) -> Table:
    """Host calls in one process, and in two at once: an engine belongs to one thread, so processes are what scales."""
    progress("one process and two")
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe() for _ in range(2)]
    workers = [context.Process(target=_worker, args=(theirs, path), daemon=True) for _, theirs in pipes]
    for worker in workers:
        worker.start()
    for _, theirs in pipes:
        theirs.close()
    ours = [pipe for pipe, _ in pipes]
    try:
        alone, both = [], []
        for _ in range(rounds):
            alone.append(_calls_a_second(ours[:1], seconds))
            both.append(_calls_a_second(ours, seconds))
    finally:
        for pipe in ours:
            pipe.send(None)
        for worker in workers:
            worker.join(10)
    return Table(
        "Host calls of 10 B, a second",
        ("one process", "two processes", "two ÷ one"),
        [{"one process": spread(alone), "two processes": spread(both), "two ÷ one": ratio(both, alone)}],
    )


def _calls_a_second(pipes: Sequence[Connection], seconds: float) -> float:
    for pipe in pipes:
        pipe.send(seconds)
    if not all(pipe.poll(seconds + _WORKER_SECONDS) for pipe in pipes):
        raise RuntimeError("a worker process does not answer")
    return sum(float(pipe.recv()) for pipe in pipes)


def _worker(pipe: Connection, path: Path) -> None:
    asyncio.run(_work(pipe, path))


async def _work(pipe: Connection, path: Path) -> None:
    with Engine() as engine:
        bound = (await Component.load(engine, path.read_bytes())).bind(One(lambda context, key: bytes(10)))
        (call,) = (func for func in bound.component.exports if func.name == "get-many-times")
        instance = await bound.instantiate(None)
        while (seconds := pipe.recv()) is not None:
            calls, begun = 0, time.perf_counter()
            while time.perf_counter() - begun < seconds:
                await instance.call(call, [1000, "colour"])
                calls += 1000
            pipe.send(calls / (time.perf_counter() - begun))
        instance.close()
