"""How instances, engines and calls end: in whatever order, nothing of a guest is used after it is gone."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import pytest

from fuzz.campaign import TESTS
from perdure.component.engine import Engine
from perdure.component.handles import GuestResource
from perdure.component.snapshot import Snapshots
from perdure.errors import TypeMismatch
from support.components import Running, run
from support.guests import ROOT

INNER = """
    (import "wait" (func $wait (result u32)))
    (core func $wait' (canon lower (func $wait)))
    (core module $M
      (import "" "wait" (func $wait (result i32)))
      (func (export "wait") (result i32) (call $wait))
      (func (export "spin") (loop $l (br $l))))
    (core instance $m (instantiate $M (with "" (instance (export "wait" (func $wait'))))))
    (func (export "wait") (result u32) (canon lift (core func $m "wait")))
    (func (export "spin") (canon lift (core func $m "spin")))
"""
ALONE = f"(component {INNER})"
WITHIN = f"""(component
  (import "wait" (func $wait (result u32)))
  (component $Inner {INNER})
  (instance $a (instantiate $Inner (with "wait" (func $wait))))
  (instance $b (instantiate $Inner (with "wait" (func $a "wait"))))
  (export "wait" (func $b "wait")) (export "spin" (func $b "spin")))"""
SHAPES = pytest.mark.parametrize("wat", [ALONE, WITHIN], ids=["alone", "within"])


async def for_ever(cx: object) -> int:
    await asyncio.sleep(3600)
    return 0


@SHAPES
@pytest.mark.parametrize("name", ["wait", "spin"])
async def test_an_instance_is_not_closed_while_it_runs_a_call(engine: Engine, wat: str, name: str) -> None:
    running = await run(engine, wat, wait=for_ever)
    task = asyncio.ensure_future(running.call(name))
    async with asyncio.timeout(20):
        while not running.instance.busy:
            await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="is running a call"):
        running.instance.close()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    running.instance.close()
    running.instance.close()
    with pytest.raises(RuntimeError, match="not usable"):
        await running.call(name)


def python(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own, which may die."""
    path = os.pathsep.join((str(TESTS), str(ROOT / "operator")))
    return subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": path} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("pure", ["0", "1"], ids=["native", "pure"])
def test_the_collector_may_take_a_call_that_nobody_ended(pure: str) -> None:
    """Calls that wait or spin, alone and within each other, with their instances and their event loop: whichever part
    of them is finalised first."""
    program = f"""
import asyncio, gc, logging
from component.test_endings import ALONE, WITHIN, for_ever
from perdure.component.engine import Engine
from support.components import run

async def begin(engine):
    made = [await run(engine, wat, wait=for_ever) for wat in ({ALONE!r}, {WITHIN!r}) for _ in range(16)]
    for number, running in enumerate(made):
        call = running.call("wait" if number % 2 else "spin")
        if number % 4 < 2:
            call.send(None)
            running.instance.whole = running, call
        else:
            asyncio.ensure_future(call)
    await asyncio.sleep(0.01)

logging.disable()  # tasks say that they were destroyed
gc.disable()
with Engine() as engine:
    loop = asyncio.new_event_loop()
    loop.run_until_complete(begin(engine))
    loop.close()
    del loop
    gc.collect()
print("over")
"""
    done = python(program, PERDURE_PURE=pure)
    assert (done.returncode, done.stdout, done.stderr) == (0, "over\n", "")


def test_address_space_that_is_used_up_is_a_trap_of_its_kind() -> None:
    """Of memories, and of the stacks of fibers; what was freed can be used again."""
    program = f"""
import asyncio, contextlib, resource
from component.test_endings import ALONE, for_ever
from perdure.component.engine import Engine, EngineConfig
from perdure.errors import GuestTrapped
from support.components import Running, run

async def main():
    memory = "(component (core module $M (memory 1)) (core instance (instantiate $M)))"
    with Engine() as large, Engine(EngineConfig(memory_reservation=1 << 20)) as small:
        first, waiting = await run(large, memory), await run(small, {ALONE!r}, wait=for_ever)
        size = int(open("/proc/self/statm").read().split()[0]) * 4096 + (64 << 20)
        resource.setrlimit(resource.RLIMIT_AS, (size, resource.RLIM_INFINITY))
        try:
            await first.instance.bound.instantiate(None)
        except GuestTrapped as error:
            print(error.trap)
        others, tasks = [], []
        try:
            while not tasks or not tasks[-1].done():
                made = Running(await waiting.instance.bound.instantiate(None), waiting.exports)
                others.append(made.instance)
                tasks.append(asyncio.ensure_future(made.call("wait")))
                await asyncio.sleep(0)
            tasks[-1].result()
        except GuestTrapped as error:
            print(error.trap)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for instance in others:
            instance.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(waiting.call("wait"), 0.01)
            print("?")
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        await first.instance.bound.instantiate(None)

asyncio.run(main())
"""
    done = python(program)
    assert (done.returncode, done.stdout, done.stderr) == (0, "out-of-memory\nout-of-memory\n", "")


async def test_no_guest_runs_on_an_engine_that_is_closed() -> None:
    """Nothing would end its slices any more: one that spins would hold the event loop for ever."""
    engine = Engine()
    fresh, called, waiting = [await run(engine, ALONE, wait=later) for _ in range(3)]
    assert await called.call("wait") == 1
    task = asyncio.ensure_future(waiting.call("wait"))
    await asyncio.sleep(0)
    engine.close()
    engine.close()
    with pytest.raises(RuntimeError, match="the engine is closed"):
        await task
    for running in (fresh, called):
        with pytest.raises(RuntimeError, match="the engine is closed"):
            await running.call("spin")
        assert running.instance.depth == 0
        running.instance.close()
    with pytest.raises(RuntimeError, match="the engine is closed"):
        await fresh.instance.bound.instantiate(None)


async def later(cx: object) -> int:
    await asyncio.sleep(0)
    return 1


HANDLES = """
(component
  (import "files" (instance $files (export "file" (type $f (sub resource)))))
  (alias export $files "file" (type $file))
  (import "wait" (func $wait (result u32)))
  LIBC
  (core func $wait' (canon lower (func $wait)))
  (type $counter (resource (rep i32)))
  (export $counter' "counter" (type $counter))
  (core func $new (canon resource.new $counter))
  (core func $rep (canon resource.rep $counter))
  (core func $close (canon resource.drop $file))
  (core module $M
    (import "" "new" (func $new (param i32) (result i32)))
    (import "" "rep" (func $rep (param i32) (result i32)))
    (import "" "close" (func $close (param i32)))
    (import "" "wait" (func $wait (result i32)))
    (func (export "wait") (result i32) (call $wait))
    (func (export "make") (param i32) (result i32) (call $new (local.get 0)))
    (func (export "take") (param i32 i32 i32 i32) (result i32) (call $rep (local.get 0)))
    (func (export "lend") (param i32 i32 i32 i32) (result i32) (call $close (local.get 0)) (local.get 0)))
  (core instance $m (instantiate $M (with "" (instance (export "new" (func $new)) (export "rep" (func $rep))
    (export "close" (func $close)) (export "wait" (func $wait'))))))
  (func (export "wait") (result u32) (canon lift (core func $m "wait")))
  (func (export "make") (param "n" u32) (result (own $counter')) (canon lift (core func $m "make")))
  (func (export "take") (param "c" (own $counter')) (param "words" (list string)) (param "n" u8) (result u32)
    (canon lift (core func $m "take") MEMORY))
  (func (export "lend") (param "f" (borrow $file)) (param "words" (list string)) (param "n" u8) (result u32)
    (canon lift (core func $m "lend") MEMORY)))
"""


@pytest.mark.usefixtures("allocator")
@pytest.mark.parametrize("first", [True, False], ids=["by steps", "short way"])
async def test_arguments_that_do_not_fit_take_nothing_away(engine: Engine, first: bool) -> None:
    """What was lent or given away before the misfit was met is the host's again, and the guest's tables are as before."""
    running = await run(engine, HANDLES, wait=later)
    if not first:
        await running.call("take", await running.call("make", 1), [], 1)
        await running.call("lend", "f", [], 1)
    made = await running.call("make", 7)
    (table,) = running.instance.tables
    before, snapshots = table.saved(), await Snapshots.prepare(running.instance.bound)
    for words, number in ((["a"], 300), (["a", 5], 3), (None, 3)):
        with pytest.raises(TypeMismatch, match="do not fit take"):
            await running.call("take", made, words, number)
        with pytest.raises(TypeMismatch, match="do not fit lend"):
            await running.call("lend", "file", words, number)
        assert table.saved() == before
        snapshots.capture(running.instance)
    await running.call("lend", "file", ["a"], 3)
    assert len(table) == len(before[2])
    assert await running.call("take", made, ["a"], 3) == 7
    after = table.saved()
    for arguments in ((), (made,), (made, ["a"], 3, 4), (made, ["a"], 3)):
        with pytest.raises(TypeMismatch):
            await running.call("take", *arguments)
        # Nor is anything taken back that an earlier call was given.
        assert table.saved() == after and isinstance(made, GuestResource) and not made.live


async def test_a_drop_that_cannot_be_now_can_be_later(engine: Engine) -> None:
    running = await run(engine, HANDLES, wait=later)
    made = await running.call("make", 7)
    assert isinstance(made, GuestResource)
    task = asyncio.ensure_future(running.call("wait"))
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="is running a call"):
        await running.instance.drop(made)
    assert await task == 1 and made.live
    await running.instance.drop(made)
    assert not made.live


async def test_a_misfit_after_a_slice_has_ended_is_one_all_the_same(engine: Engine) -> None:
    """Where the allocator takes longer than a slice, the generators go on with what was begun."""
    running: Running = await run(engine, SLOW, wait=later)
    assert await running.call("count", ["a", "b"]) == 2
    with pytest.raises(TypeMismatch, match="do not fit count"):
        await running.call("count", ["a", "b", 5])
    assert await running.call("count", ["a"]) == 1


SLOW = """
(component
  (core module $M
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (local $n i32)
      (local.set $n (i32.const 30000000))
      (loop $l (local.set $n (i32.sub (local.get $n) (i32.const 1))) (br_if $l (local.get $n)))
      (i32.const 1024))
    (func (export "count") (param i32 i32) (result i32) (local.get 1)))
  (core instance $m (instantiate $M))
  (func (export "count") (param "words" (list string)) (result u32) (canon lift (core func $m "count")
    (memory (core memory $m "memory")) (realloc (core func $m "realloc")))))
"""
