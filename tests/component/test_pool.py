"""Instances kept ready: as fresh as others, and none where the start needs its host."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import pytest
from wasmtime import wat2wasm

from perdure.component import pool as pool_module
from perdure.component.component import BoundComponent, Component
from perdure.component.engine import Engine
from perdure.component.host import HostFunction, HostResource
from perdure.component.instance import InstanceLimits
from perdure.component.pool import InstancePool
from perdure.component.types import FuncType

GUEST = """
(component
  (import "ask" (func $ask (result u32)))
  (core func $lowered (canon lower (func $ask)))
  (core module $m
    (import "h" "ask" (func $ask (result i32)))
    (global $n (mut i32) (i32.const 0))
    (func (export "count") (result i32)
      (global.set $n (i32.add (global.get $n) (call $ask)))
      (global.get $n))
    START)
  (core instance $i (instantiate $m (with "h" (instance (export "ask" (func $lowered))))))
  (func (export "count") (result u32) (canon lift (core func $i "count"))))
"""


class Resolver:
    """`ask` answers what its context says."""

    def function(self, interface: str, name: str, type: FuncType) -> HostFunction | None:  # noqa: A002
        return lambda ctx: ctx.step

    def resource(self, interface: str, name: str) -> HostResource | None:
        return None


class Context:
    def __init__(self, step: int) -> None:
        self.step = step


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine() as made:
        yield made


async def bind(engine: Engine, start: str = "") -> BoundComponent:
    return (await Component.load(engine, bytes(wat2wasm(GUEST.replace("START", start))))).bind(Resolver())


async def filled(pool: InstancePool, size: int) -> None:
    async with asyncio.timeout(60):
        while pool.statistics().ready < size:
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def running(pool: InstancePool, size: int) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(pool.run())
    try:
        await filled(pool, size)
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])
        pool.close()


async def test_each_caller_gets_a_fresh_instance_of_its_own(engine: Engine) -> None:
    bound = await bind(engine)
    (count,) = bound.component.exports
    pool = InstancePool(bound, InstanceLimits(), size=2)
    async with running(pool, 2):
        assert pool.statistics().ready == 2
        for step in (1, 10, 100, 1000):
            instance = await pool.instantiate(Context(step))
            assert [await instance.call(count, []) for _ in range(2)] == [step, 2 * step]
            instance.close()
            await filled(pool, 2)
        found = pool.statistics()
        assert (found.ready, found.taken, found.missed) == (2, 4, 0)
    assert pool.statistics().ready == 0


async def test_more_than_are_ready_are_made_for_their_callers(engine: Engine) -> None:
    bound = await bind(engine)
    (count,) = bound.component.exports
    pool = InstancePool(bound, InstanceLimits(), size=1)
    async with running(pool, 1):
        instances = await asyncio.gather(*(pool.instantiate(Context(step)) for step in range(3)))
        assert [await one.call(count, []) for one in instances] == [0, 1, 2]
        assert pool.statistics().missed == 2


async def test_a_component_that_calls_its_host_at_the_start_is_started_for_its_caller(engine: Engine) -> None:
    bound = await bind(engine, "(func $s (drop (call $ask))) (start $s)")
    (count,) = bound.component.exports
    pool = InstancePool(bound, InstanceLimits(), size=2)
    async with running(pool, 0) as task:
        await asyncio.wait([task], timeout=60)
        assert task.done() and task.exception() is None
        instance = await pool.instantiate(Context(7))
        assert await instance.call(count, []) == 7
        assert pool.statistics().missed == 1


@pytest.mark.parametrize("wrong", ["subscript", "error", "time"])
async def test_a_start_that_fails_for_nobody_ends_the_pool_and_nothing_else(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    """What is wrong with it, its callers get to see; whoever runs the pool beside other tasks goes on."""

    async def ask(ctx: object) -> int:
        match ctx, wrong:
            case dict(), _:
                return int(ctx["step"])
            case _, "time":
                await asyncio.sleep(60)
            case _, "error":
                raise LookupError("nobody")
        return len(ctx)  # type: ignore[arg-type]

    monkeypatch.setattr(Resolver, "function", lambda self, interface, name, type: ask)  # noqa: A006
    monkeypatch.setattr(pool_module, "_START_SECONDS", 0.02)
    bound = await bind(engine, "(func $start (drop (call $ask))) (start $start)")
    pool = InstancePool(bound, InstanceLimits(), size=2)
    async with asyncio.timeout(20):
        await pool.run()
    assert pool.statistics().ready == 0
    instance = await pool.instantiate({"step": 3})
    assert await instance.call(bound.component.exports[0], []) == 3
    instance.close()
