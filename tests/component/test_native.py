"""The boundary in C: that it is there, does what the one through ctypes does, keeps nothing, and goes on where it left."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Awaitable, Callable

import pytest

from fuzz.campaign import TESTS
from perdure.component import boundary
from perdure.component.engine import Engine, EngineConfig
from perdure.component.host import HostTrap
from perdure.errors import GuestTrapped, InvocationTimeout, ResultMismatch, TypeMismatch
from support.components import LIBC, MEMORY, Running, run
from support.guests import ROOT

PURE = os.environ.get("PERDURE_PURE") == "1"

# `work N` spins N thousand times. `f` hands its text to the host and gives back what the host gave; `mode` says which of
# allocator (1), function (2) and clean-up (4) take longer than a slice, or trap (8).
GUEST = """
(component
  (import "host" (func $host (param "text" string) (result string)))
  (core module $Libc
    (memory (export "memory") 16)
    (global $mode (export "mode") (mut i32) (i32.const 0))
    (global $next (mut i32) (i32.const 4096))
    (func $spin (export "spin") (param $bit i32) (local $n i32)
      (if (i32.and (global.get $mode) (local.get $bit)) (then
        (local.set $n (i32.const 60000000))
        (loop $l (local.set $n (i32.sub (local.get $n) (i32.const 1))) (br_if $l (local.get $n))))))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (call $spin (i32.const 1))
      (global.set $next (i32.and (i32.add (global.get $next) (i32.const 64)) (i32.const 0x7ffff)))
      (i32.add (global.get $next) (i32.const 4096))))
  (core instance $libc (instantiate $Libc))
  (core func $host' (canon lower (func $host) (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
  (core module $M
    (import "" "host" (func $host (param i32 i32 i32)))
    (import "libc" "memory" (memory 16))
    (import "libc" "mode" (global $mode (mut i32)))
    (import "libc" "spin" (func $spin (param i32)))
    (func (export "nop"))
    (func (export "mode") (param i32) (global.set $mode (local.get 0)))
    (func (export "add") (param i32 i64 f32 f64) (result f64)
      (f64.add (f64.add (f64.convert_i32_s (local.get 0)) (f64.convert_i64_s (local.get 1)))
        (f64.add (f64.promote_f32 (local.get 2)) (local.get 3))))
    (func (export "f") (param i32 i32) (result i32)
      (call $spin (i32.const 2))
      (if (i32.and (global.get $mode) (i32.const 8)) (then unreachable))
      (call $host (local.get 0) (local.get 1) (i32.const 16)) (i32.const 16))
    (func (export "clean") (param i32) (call $spin (i32.const 4))))
  (core instance $m (instantiate $M (with "libc" (instance $libc)) (with "" (instance (export "host" (func $host'))))))
  (func (export "nop") (canon lift (core func $m "nop")))
  (func (export "mode") (param "mode" u32) (canon lift (core func $m "mode")))
  (func (export "add") (param "a" s32) (param "b" s64) (param "c" f32) (param "d" f64) (result f64)
    (canon lift (core func $m "add")))
  (func (export "f") (param "text" string) (result string) (canon lift (core func $m "f")
    (memory (core memory $libc "memory")) (realloc (core func $libc "realloc")) (post-return (core func $m "clean")))))
"""

LISTS = f"""(component {LIBC}
  (core module $M (import "libc" "memory" (memory 4))
    (func (export "f") (param i32 i32) (result i32) (local.get 1)))
  (core instance $m (instantiate $M (with "libc" (instance $libc))))
  (func (export "f") (param "words" (list string)) (result u32) (canon lift (core func $m "f") {MEMORY})))
"""


async def later(cx: object, text: str) -> str:
    await asyncio.sleep(0)
    return f"<{text}>"


def test_the_implementation_is_the_one_that_was_asked_for() -> None:
    """A build without the extension fails here, rather than test the other one twice."""
    assert boundary.NATIVE is not PURE


@pytest.mark.skipif(PURE, reason="about the extension")
def test_an_extension_for_other_structs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(boundary._STRUCTS, "raw", 24)
    with pytest.raises(ImportError, match="other structs of wasmtime"):
        boundary._extension()


@pytest.mark.parametrize("flag", [None, "1"])
def test_the_version_says_which_it_is(flag: str | None) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PERDURE_PURE"}
    done = subprocess.run(
        [sys.executable, "-m", "perdure", "--version"], env=environment | ({"PERDURE_PURE": flag} if flag else {}),
        cwd=ROOT / "operator", capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ("without" if flag else "with its extension module)") in done.stdout


@pytest.mark.parametrize("waits", [False, True], ids=["prompt", "waiting"])
@pytest.mark.parametrize("mode", [0, 1, 2, 4, 7])
async def test_a_call_goes_on_wherever_its_slice_ends(mode: int, waits: bool) -> None:
    """In its allocator, in the function, in its clean-up; the first call goes by steps, later ones the short way."""
    # Short slices where one is to end, long ones where none is.
    with Engine(EngineConfig(epoch_tick=0.001 if mode else 0.1)) as engine:
        await _goes_on(engine, mode, waits=waits)


async def _goes_on(engine: Engine, mode: int, *, waits: bool) -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    running = await run(engine, GUEST, host=later if waits else lambda cx, text: f"<{text}>")
    counting = asyncio.ensure_future(count())
    await asyncio.sleep(0)
    await running.call("mode", mode)
    for text in ("ä", "", "three", "x" * 40):
        before = turns
        assert await running.call("f", text) == f"<{text}>"
        assert turns > before if mode or waits else turns == before
        assert running.instance.depth == 0 and running.instance.usable and running.instance.may_leave
    counting.cancel()


@pytest.mark.parametrize("mode", [1, 2, 4])
async def test_a_call_that_goes_on_may_be_cancelled_or_run_out_of_time(engine: Engine, mode: int) -> None:
    for ending in ("cancelled", "late"):
        running = await run(engine, GUEST, host=later)
        assert await running.call("f", "a") == "<a>"
        await running.call("mode", mode)
        if ending == "late":
            with pytest.raises(InvocationTimeout):
                await running.call("f", "b", seconds=-1)
        else:
            task = asyncio.ensure_future(running.call("f", "b"))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert not running.instance.usable and running.instance.depth == 0 and running.instance.coroutine is None
        with pytest.raises(RuntimeError, match="not usable"):
            await running.call("nop")
        running.instance.close()


async def test_many_allocations_let_the_loop_turn() -> None:
    """Each is prompt; together they take longer than the loop may be held."""
    with Engine(EngineConfig(epoch_tick=0.0005)) as engine:
        running = await run(engine, LISTS)
        assert await running.call("f", ["a"]) == 1
        turned = asyncio.Event()
        asyncio.get_running_loop().call_soon(turned.set)
        assert await running.call("f", ["a"] * 10_000) == 10_000
        assert turned.is_set()


@pytest.mark.parametrize("first", [False, True], ids=["short way", "by steps"])
async def test_errors_are_the_same_either_way(engine: Engine, first: bool) -> None:
    def host(cx: object, text: str) -> object:
        match text:
            case "host":
                raise HostTrap("no")
            case "error":
                raise LookupError("mine")
            case "misfit":
                return 5
        return text

    async def started() -> Running:
        running = await run(engine, GUEST, host=host)
        if not first:
            await running.call("f", "x")
        return running

    running = await started()
    for wrong in ([5], [], ["a", "b"], [None]):
        with pytest.raises(TypeMismatch, match="do not fit f"):
            await running.call("f", *wrong)
    with pytest.raises(TypeMismatch):
        await running.call("nop", 1)
    with pytest.raises(TypeMismatch):
        await running.call("add", 1 << 31, 0, 0.0, 0.0)
    assert await running.call("add", -1, -2, 0.5, 0.25) == -2.25
    assert await running.call("f", "still") == "still"

    await running.call("mode", 8)
    with pytest.raises(GuestTrapped) as caught:
        await running.call("f", "trap")
    assert caught.value.trap == "unreachable" and caught.value.frames
    for text, kind in (("host", GuestTrapped), ("error", LookupError), ("misfit", ResultMismatch)):
        running = await started()
        with pytest.raises(kind) as failed:
            await running.call("f", text)
        if isinstance(failed.value, ResultMismatch):
            assert failed.value.function == "host" and isinstance(failed.value.__cause__, AttributeError)
        assert not running.instance.usable and running.instance.failure is None


async def test_a_busy_instance_refuses(engine: Engine) -> None:
    running = await run(engine, GUEST, host=later)
    await running.call("f", "x")
    task = asyncio.ensure_future(running.call("f", "y"))
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="is running a call"):
        await running.call("nop")
    assert await task == "<y>"
    await running.call("nop")


def test_threads_run_guests_at_once_each_with_its_engine() -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        async def calls() -> None:
            with Engine() as engine:
                running = await run(engine, GUEST, host=later)
                await running.call("mode", 2)
                for turn in range(10):
                    assert await running.call("f", f"{number} {turn}") == f"<{number} {turn}>"

        try:
            asyncio.run(calls())
        except BaseException as error:  # noqa: BLE001 - reported by the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures and not any(thread.is_alive() for thread in threads)


async def _kept(operation: Callable[[], Awaitable[object]], rounds: int) -> tuple[int, int]:
    """(bytes, references to None) that `rounds` runs leave behind: the least of several times, since caches fill up."""
    found = []
    # What other tests keep is not gone through each time.
    gc.freeze()
    tracemalloc.start()
    try:
        for _ in range(6):
            gc.collect()
            before, none = tracemalloc.get_traced_memory()[0], sys.getrefcount(None)
            for _ in range(rounds):
                await operation()
            gc.collect()
            found.append((tracemalloc.get_traced_memory()[0] - before, abs(sys.getrefcount(None) - none)))
    finally:
        tracemalloc.stop()
    return min(size for size, _ in found), min(references for _, references in found)


@pytest.mark.parametrize("what", ["nop", "f", "waiting", "turns", "misfit", "trap", "error", "cancelled"])
async def test_nothing_is_kept(engine: Engine, what: str) -> None:
    """Memory and references after hundreds of calls on each way, those of errors too, are those before."""

    def host(cx: object, text: str) -> object:
        if text == "error":
            raise LookupError(text)
        return later(cx, text) if text in ("waiting", "turns", "cancelled") else text

    made = await run(engine, GUEST, host=host)

    async def one() -> None:
        running = made
        if what in ("trap", "error", "cancelled"):
            running = Running(await made.instance.bound.instantiate(None), made.exports)
            await running.call("f", "x")
        match what:
            case "nop":
                await running.call("nop")
            case "misfit":
                with pytest.raises(TypeMismatch):
                    await running.call("f", 5)
            case "cancelled":
                task = asyncio.ensure_future(running.call("f", what))
                await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            case "trap" | "error":
                await running.call("mode", 8 if what == "trap" else 0)
                with pytest.raises((GuestTrapped, LookupError)):
                    await running.call("f", what)
            case _:
                await running.call("f", what)
        if running is not made:
            running.instance.close()

    await made.call("f", "first")
    rounds = 150
    size, references = await _kept(one, rounds)
    assert size < rounds * 40, f"{size} bytes more"
    assert references < rounds // 4, f"{references} references to None more"


@pytest.mark.skipif(PURE, reason="compares both")
@pytest.mark.timeout(300)
def test_both_implementations_meet_hostile_guests_alike() -> None:
    """The same seeded guests, which break every rule of the ABI they can: the same outcomes, one by one."""
    program = """
import json, sys
from fuzz import hostile
from fuzz.harness import source_of
from fuzz.hostile import HostileFuzzer
from perdure.component import boundary
chance = hostile.one_in
hostile.one_in = lambda source, number: chance(source, number) and number != 4  # no sessions side by side
fuzzer = HostileFuzzer()
found = []
for number in range(150):
    source = source_of(11, number)
    found.append(fuzzer.run(number, source))
fuzzer.close()
json.dump([boundary.NATIVE, found], sys.stdout)
"""
    outcomes = []
    for flag in ("0", "1"):
        environment = os.environ | {
            "PERDURE_PURE": flag,
            "PYTHONPATH": os.pathsep.join((str(TESTS), str(ROOT / "operator"))),
        }
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=TESTS, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        native, found = json.loads(done.stdout)
        assert native is (flag == "0")
        outcomes.append(found)
    # Some calls are cancelled after a while or run into their time, wherever they are then.
    timed = {"cancelled", "timeout", "at its start: timeout"}
    compared = [(one, other) for one, other in zip(*outcomes, strict=True) if not timed & {*one, *other}]
    assert len(compared) > 100
    assert all(one == other for one, other in compared)
    assert {name for case in outcomes[0] for name in case} >= {"value", "trapped: canonical-abi"}
