"""Coroutines of the host: what waits, what does not, and a slice that ends in the midst of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from perdure.component.engine import Engine, EngineConfig
from perdure.errors import InvocationTimeout
from support.components import Running, run

GUEST = """
(component
  (import "next" (func $next (param "at" u32) (result u32)))
  (core func $next' (canon lower (func $next)))
  (core module $M
    (import "" "next" (func $next (param i32) (result i32)))
    (func (export "sum") (param $times i32) (result i32) (local $sum i32)
      (loop $again
        (local.set $sum (i32.add (local.get $sum) (call $next (local.get $times))))
        (br_if $again (local.tee $times (i32.sub (local.get $times) (i32.const 1)))))
      (local.get $sum)))
  (core instance $m (instantiate $M (with "" (instance (export "next" (func $next'))))))
  (func (export "sum") (param "times" u32) (result u32) (canon lift (core func $m "sum"))))
"""


async def start(engine: Engine, function: Callable[[object, int], object]) -> Running:
    return await run(engine, GUEST, next=function)


async def test_a_slice_may_end_at_any_moment_of_a_wait() -> None:
    """Also between the host's answer that it waits and the guest's own waiting: slices are as short as they can be."""

    async def waits(cx: object, at: int) -> int:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_result, 1)
        return await future

    with Engine(EngineConfig(epoch_tick=0.00002)) as engine:
        running = await start(engine, waits)
        assert await running.call("sum", 3000) == 3000
        running.instance.close()


async def test_a_coroutine_that_does_not_wait_takes_no_turn(engine: Engine) -> None:
    turns = 0

    def turned() -> None:
        nonlocal turns
        turns += 1

    async def ready(cx: object, at: int) -> int:
        return at

    async def waits(cx: object, at: int) -> int:
        await asyncio.sleep(0)
        return at

    for function, expected in ((ready, 0), (waits, 1)):
        running = await start(engine, function)
        turns = 0
        asyncio.get_running_loop().call_soon(turned)
        assert await running.call("sum", 3) == 6
        assert turns == expected
        await asyncio.sleep(0)


async def test_a_coroutine_has_its_own_timeouts_and_turns(engine: Engine) -> None:
    async def waits(cx: object, at: int) -> int:
        for _ in range(at):
            await asyncio.sleep(0)
        try:
            async with asyncio.timeout(0.001):
                await asyncio.sleep(10)
        except TimeoutError:
            return asyncio.current_task() is task
        raise AssertionError

    running = await start(engine, waits)
    task = asyncio.ensure_future(running.call("sum", 4))
    assert await task == 4


@pytest.mark.parametrize("steps", [0, 1, 5])
async def test_a_coroutine_that_waits_sees_how_the_call_ends(engine: Engine, steps: int) -> None:
    seen: list[str] = []
    begun = asyncio.Event()

    async def waits(cx: object, at: int) -> int:
        try:
            for _ in range(steps):
                await asyncio.sleep(0)
            begun.set()
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise
        return 0

    running = await start(engine, waits)
    with pytest.raises(InvocationTimeout):
        await running.call("sum", 1, seconds=0.3)
    begun.clear()
    again = await start(engine, waits)
    task = asyncio.ensure_future(again.call("sum", 1))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["cancelled"] * 2
    for one in (running.instance, again.instance):
        assert one.coroutine is None and not one.usable and one.depth == 0


@pytest.mark.parametrize("later", [False, True])
async def test_what_a_coroutine_raises_is_raised(engine: Engine, later: bool) -> None:
    async def fails(cx: object, at: int) -> int:
        if later:
            await asyncio.sleep(0)
        raise LookupError("not there")

    running = await start(engine, fails)
    with pytest.raises(LookupError, match="not there"):
        await running.call("sum", 1)
    assert not running.instance.usable


async def test_a_coroutine_may_call_another_guest(engine: Engine) -> None:
    """Its first step runs on the caller's fiber, and the other guest is suspended there."""

    async def waits(cx: object, at: int) -> int:
        await asyncio.sleep(0)
        return at

    inner = await start(engine, waits)

    async def calls(cx: object, at: int) -> int:
        value = await inner.call("sum", at)
        assert isinstance(value, int)
        return value

    outer = await start(engine, calls)
    assert await outer.call("sum", 3) == 1 + 3 + 6
    assert outer.instance.usable and inner.instance.usable
