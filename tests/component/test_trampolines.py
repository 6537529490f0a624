"""Trampolines: their binary, and a guest's allocator under way on the guest's own fiber."""

from __future__ import annotations

import asyncio
import ctypes
import gc
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import wasmtime
from wasmtime import wat2wasm

from perdure.component.canonical.layout import ends_in_bytes
from perdure.component.decode import decode_component
from perdure.component.engine import Engine
from perdure.component.link import link
from perdure.component.plan import CanonRef, CoreExport, Lower
from perdure.component.trampolines import Group, trampoline_groups
from perdure.component.types import Err, ListType, OptionType, PrimType, ResultType, TupleType
from perdure.errors import ComponentError, GuestTrapped, InvocationTimeout, NoSuchFunction, ResultMismatch
from support.components import Running, run

HOLD = """(func $hold
  (if (i32.eqz (i32.load (i32.const 0))) (then (i32.store (i32.const 0) (i32.const 1))))
  (loop $l (br_if $l (i32.eq (i32.load (i32.const 0)) (i32.const 1)))))"""
"""An allocator that calls it waits, busily, until the test lets it go on: see `Held`."""

# The allocator notes what it is asked for, in memory from 64 on, and runs BODY.
GUEST = """
(component
  (import "words" (func $words (result (list string))))
  (import "call" (func $call))
  (core func $call' (canon lower (func $call)))
  (core module $Libc
    (import "" "call" (func $call))
    (memory (export "memory") 4)
    (global $next (mut i32) (i32.const 4096))
    (global $note (mut i32) (i32.const 64))
    (func $spin (loop $l (br $l)))
    HOLD
    (func (export "realloc") (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
      BODY
      (i32.store16 (global.get $note) (local.get $align))
      (i32.store16 offset=2 (global.get $note) (local.get $size))
      (global.set $note (i32.add (global.get $note) (i32.const 4)))
      (global.set $next (i32.add (global.get $next) (i32.const 64)))
      (i32.add (global.get $next) (i32.add (local.get $old) (local.get $old_size)))))
  (core instance $libc (instantiate $Libc (with "" (instance (export "call" (func $call'))))))
  (core func $words' (canon lower (func $words) (memory (core memory $libc "memory"))
    (realloc (core func $libc "realloc"))))
  (core module $M
    (import "" "words" (func $words (param i32)))
    (import "libc" "memory" (memory 4))
    (func (export "get") (result i32) (call $words (i32.const 16)) (i32.const 16))
    (func (export "asked") (result i32)
      (i32.store (i32.const 24) (i32.const 64)) (i32.store (i32.const 28) (i32.const 8)) (i32.const 24)))
  (core instance $m (instantiate $M (with "libc" (instance $libc))
    (with "" (instance (export "words" (func $words'))))))
  (func (export "get") (result (list string))
    (canon lift (core func $m "get") (memory (core memory $libc "memory"))))
  (func (export "asked") (result (list u16))
    (canon lift (core func $m "asked") (memory (core memory $libc "memory")))))
""".replace("HOLD", HOLD)
WORDS = ["ä", "", "three"]


class Held:
    """A guest whose allocator waits at its first call; `canon`: the number of the import whose result needs it."""

    def __init__(self, running: Running, canon: int) -> None:
        self._instance = running.instance
        self._canon = canon

    def _word(self) -> ctypes.c_int32:
        context = self._instance.contexts[self._canon]
        return ctypes.c_int32(0) if context is None else ctypes.c_int32.from_address(context.mem.at(0, 4, 4))

    async def reached(self) -> None:
        async with asyncio.timeout(20):
            while self._word().value == 0:
                await asyncio.sleep(0)

    def release(self) -> None:
        self._word().value = 2


def plan_of(wat: str) -> tuple[Group, ...]:
    return trampoline_groups(link(decode_component(bytes(wat2wasm(wat)))))


async def guest(engine: Engine, body: str, *, later: bool = False, words: Sequence[object] = WORDS) -> Running:
    """`later`: the host function is a coroutine that waits."""

    async def answer() -> Sequence[object]:
        await asyncio.sleep(0)
        return words

    def get(cx: object) -> object:
        return answer() if later else words

    return await run(engine, GUEST.replace("BODY", body), words=get, call=lambda cx: None)


def test_groups_are_made_when_what_they_call_exists() -> None:
    first, second = plan_of(GUEST.replace("BODY", ""))
    assert (first.instance, first.before, first.canons, first.reallocs) == (2, 0, (0,), ())
    assert (second.instance, second.before, second.canons) == (3, 1, (1,))
    assert second.reallocs == (CoreExport(0, "realloc", "func"),)


def test_a_group_is_a_module_without_state() -> None:
    engine = wasmtime.Engine()
    first, second = (wasmtime.Module(engine, group.binary) for group in plan_of(GUEST.replace("BODY", "")))

    def described(module: wasmtime.Module) -> dict[str, tuple[list[str], list[str]]]:
        found = {}
        for one in module.imports:
            kind = one.type
            assert isinstance(kind, wasmtime.FuncType)
            found[f"{one.module}.{one.name}"] = ([str(p) for p in kind.params], [str(r) for r in kind.results])
        return found

    i32 = "i32"
    assert described(first) == {
        "host.wait": ([], []),
        "host.next": ([i32], [i32]),
        "host.begin 0": ([], [i32]),
    }
    assert described(second) == {
        "host.wait": ([], []),
        "host.next i32 i32 i32 i32": ([i32], [i32] * 5),
        "host.begin 1": ([i32], [i32] * 5),
        "guest.0": ([i32] * 4, [i32]),
    }
    assert [(one.name, type(one.type)) for one in second.exports] == [("1", wasmtime.FuncType)]


@pytest.mark.parametrize("kind", ["s8", "u64", "f32", "f64"])
async def test_a_flat_result_of_any_core_type_passes(engine: Engine, kind: str) -> None:
    value = {"s8": -5, "u64": (1 << 64) - 1, "f32": 0.5, "f64": -1e300}[kind]
    core = {"s8": "i32", "u64": "i64"}.get(kind, kind)

    async def later(cx: object, given: object) -> object:
        await asyncio.sleep(0)
        return given

    for answer in (lambda cx, given: given, later):
        running = await run(
            engine,
            f"""(component
              (import "f" (func $f (param "x" {kind}) (result {kind})))
              (core func $f' (canon lower (func $f)))
              (core module $M
                (import "" "f" (func $f (param {core}) (result {core})))
                (func (export "f") (param {core}) (result {core}) (call $f (local.get 0))))
              (core instance $m (instantiate $M (with "" (instance (export "f" (func $f'))))))
              (func (export "f") (param "x" {kind}) (result {kind}) (canon lift (core func $m "f"))))""",
            f=answer,
        )
        assert await running.call("f", value) == value


@pytest.mark.parametrize("later", [False, True])
async def test_the_allocator_is_asked_in_the_order_of_the_abi(engine: Engine, later: bool) -> None:
    running = await guest(engine, "", later=later)
    assert await running.call("get") == WORDS
    assert await running.call("asked") == [4, 24, 1, 2, 1, 0, 1, 5]
    assert running.instance.may_leave
    assert await running.call("get") == WORDS


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize(
    ("body", "trap", "match"),
    [
        ("(return (i32.const -8))", "canonical-abi", "outside the memory"),
        ("(return (i32.const 262143))", "canonical-abi", "aligned"),
        ("(return (i32.const 262140))", "canonical-abi", "outside the memory"),
        ("(call $call)", "canonical-abi", "may not leave"),
        ("(unreachable)", "unreachable", "unreachable"),
        ("(drop (i32.load (i32.const -4)))", "memory-out-of-bounds", "out of bounds"),
    ],
)
async def test_an_allocator_that_means_harm_traps(
    engine: Engine, later: bool, body: str, trap: str, match: str
) -> None:
    running = await guest(engine, body, later=later)
    with pytest.raises(GuestTrapped, match=match) as caught:
        await running.call("get")
    assert caught.value.trap == trap
    assert not running.instance.usable


@pytest.mark.parametrize("later", [False, True])
async def test_a_slow_allocator_lets_the_loop_turn(engine: Engine, later: bool) -> None:
    running = await guest(engine, "(call $hold)", later=later)
    held = Held(running, 1)
    call = asyncio.ensure_future(running.call("get"))
    await held.reached()
    for _ in range(3):
        await asyncio.sleep(0)
    assert not call.done()
    held.release()
    assert await call == WORDS


async def test_a_value_that_changes_while_the_allocator_runs_stays_within_what_was_asked_for(engine: Engine) -> None:
    words = ["one", "two"]
    running = await guest(engine, "(call $hold)", words=words)
    held = Held(running, 1)
    call = asyncio.ensure_future(running.call("get"))
    await held.reached()
    words += ["three"] * 100_000
    held.release()
    assert await call == ["one", "two"]


@pytest.mark.parametrize("later", [False, True])
async def test_a_call_is_cut_short_while_the_allocator_runs(engine: Engine, later: bool) -> None:
    running = await guest(engine, "(call $spin)", later=later)
    with pytest.raises(InvocationTimeout):
        await running.call("get", seconds=0.1)
    assert not running.instance.usable

    running = await guest(engine, "(call $spin)", later=later)
    call = asyncio.ensure_future(running.call("get"))
    await asyncio.sleep(0.05)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    running.instance.close()
    gc.collect()
    # The engine goes on with other instances.
    assert await (await guest(engine, "")).call("get") == WORDS


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("words", [["one", 2], None])
async def test_a_result_that_does_not_fit_reaches_the_caller(
    engine: Engine, words: Sequence[object], later: bool
) -> None:
    running = await guest(engine, "", words=words, later=later)
    with pytest.raises(ResultMismatch, match="the host function words gave") as failed:
        await running.call("get")
    assert isinstance(failed.value.__cause__, (AttributeError, TypeError))
    assert not running.instance.usable


ANSWERS = """(component
  (import "a:b/c" (instance $host
    (export "bytes" (func (result (list u8)))) (export "shorts" (func (result (list u16))))
    (export "number" (func (result u8))) (export "pair" (func (result (tuple u8 u8))))
    (export "text" (func (result string))) (export "nothing" (func))))
  LIBC
  (core func $bytes (canon lower (func $host "bytes") MEMORY))
  (core func $shorts (canon lower (func $host "shorts") MEMORY))
  (core func $number (canon lower (func $host "number")))
  (core func $pair (canon lower (func $host "pair") MEMORY))
  (core func $text (canon lower (func $host "text") MEMORY))
  (core func $nothing (canon lower (func $host "nothing")))
  (core module $M
    (import "" "bytes" (func $bytes (param i32)))
    (import "" "shorts" (func $shorts (param i32)))
    (import "" "number" (func $number (result i32)))
    (import "" "pair" (func $pair (param i32)))
    (import "" "text" (func $text (param i32)))
    (import "" "nothing" (func $nothing))
    (import "" "memory" (memory 1))
    (func (export "bytes") (result i32) (call $bytes (i32.const 16)) (i32.load (i32.const 20)))
    (func (export "shorts") (result i32) (call $shorts (i32.const 16)) (i32.load (i32.const 20)))
    (func (export "number") (result i32) (call $number))
    (func (export "pair") (result i32) (call $pair (i32.const 16)) (i32.load8_u (i32.const 16)))
    (func (export "text") (result i32) (call $text (i32.const 16)) (i32.load (i32.const 20)))
    (func (export "nothing") (result i32) (call $nothing) (i32.const 1)))
  (core instance $m (instantiate $M (with "" (instance (export "bytes" (func $bytes))
    (export "shorts" (func $shorts)) (export "number" (func $number)) (export "pair" (func $pair))
    (export "text" (func $text)) (export "nothing" (func $nothing)) (export "memory" (memory $libc "memory"))))))
  EXPORTS)"""
ANSWERS = ANSWERS.replace(
    "EXPORTS",
    "".join(
        f'(func (export "{name}") (result u32) (canon lift (core func $m "{name}")))'
        for name in ("bytes", "shorts", "number", "pair", "text", "nothing")
    ),
)


async def answering(engine: Engine, function: Callable[..., object]) -> Running:
    """A guest over `function`, whatever it is called; of what has a length it gives that."""
    return await run(
        engine,
        ANSWERS,
        bytes=function,
        shorts=function,
        number=function,
        pair=function,
        text=function,
        nothing=function,
    )


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("bytes", b"abc", 3), ("bytes", bytearray(b"abc"), 3), ("bytes", memoryview(b"abcd")[::2], 2),
        ("bytes", "abc", None), ("bytes", [1, 2], None), ("bytes", None, None), ("bytes", 3, None),
        ("shorts", [1, 2], 2), ("shorts", [1, 1 << 16], None),
        ("shorts", ["a"], None), ("number", 7, 7), ("number", 256, None), ("number", "7", None), ("pair", (1, 2), 1),
        ("pair", (1,), None), ("pair", None, None), ("text", "ab", 2), ("text", b"ab", None), ("nothing", 5, 1),
    ],
)  # fmt: skip
async def test_whose_result_does_not_fit_is_told(
    engine: Engine, name: str, value: object, found: int | None, later: bool
) -> None:
    async def answer() -> object:
        await asyncio.sleep(0)
        return value

    running = await answering(engine, lambda cx: answer() if later else value)
    for _ in range(2):
        if found is not None:
            assert await running.call(name) == found
            continue
        with pytest.raises(ResultMismatch, match=rf"the host function a:b/c\.{name} gave") as failed:
            await running.call(name)
        assert failed.value.__cause__ is not None and failed.value.function == f"a:b/c.{name}"
        assert not running.instance.usable
        return


async def test_a_host_function_s_own_error_is_its_own(engine: Engine) -> None:
    def refuse(cx: object) -> object:
        raise TypeError("mine")

    for name in ("bytes", "shorts", "number", "pair", "text", "nothing"):
        running = await answering(engine, refuse)
        with pytest.raises(TypeError, match="mine"):
            await running.call(name)


async def test_a_function_of_another_component(engine: Engine) -> None:
    running, other = await guest(engine, ""), await answering(engine, lambda cx: 1)
    with pytest.raises(NoSuchFunction, match="exports no number"):
        await running.instance.call(other.exports["number"], [])
    handed_on = await run(engine, '(component (import "g" (func $g)) (export "h" (func $g)))', g=lambda cx: None)
    assert await handed_on.call("h") is None
    with pytest.raises(NoSuchFunction, match="exports no h"):
        await running.instance.call(handed_on.exports["h"], [])
    assert await running.call("get") == WORDS
    assert await other.call("number") == 1


async def test_a_lowered_function_may_be_lifted_and_may_be_an_allocator(engine: Engine) -> None:
    wat = """(component
      (import "alloc" (func $alloc (param "a" u32) (param "b" u32) (param "c" u32) (param "d" u32) (result u32)))
      (import "text" (func $text (result string)))
      (core func $alloc' (canon lower (func $alloc)))
      (core module $Libc (memory (export "memory") 1))
      (core instance $libc (instantiate $Libc))
      (core func $text' (canon lower (func $text) (memory (core memory $libc "memory")) (realloc (core func $alloc'))))
      (core module $M
        (import "" "text" (func $text (param i32)))
        (func (export "text") (result i32) (call $text (i32.const 16)) (i32.const 16)))
      (core instance $m (instantiate $M (with "" (instance (export "text" (func $text'))))))
      (func (export "text") (result string)
        (canon lift (core func $m "text") (memory (core memory $libc "memory"))))
      (func (export "alloc") (param "a" u32) (param "b" u32) (param "c" u32) (param "d" u32) (result u32)
        (canon lift (core func $alloc'))))"""
    groups = plan_of(wat)
    assert [(group.before, group.canons, group.reallocs) for group in groups] == [(1, (0, 1), ())]
    running = await run(engine, wat, alloc=lambda cx, *args: sum(args), text=lambda cx: "text")
    assert await running.call("alloc", 1, 2, 3, 4) == 10
    # It is a function of the host, and the guest may not leave while it allocates.
    with pytest.raises(GuestTrapped, match="may not leave"):
        await running.call("text")


def test_an_allocator_made_earlier_is_imported() -> None:
    wat = """(component
      (import "alloc" (func $alloc (param "a" u32) (param "b" u32) (param "c" u32) (param "d" u32) (result u32)))
      (import "text" (func $text (result string)))
      (core func $alloc' (canon lower (func $alloc)))
      (core module $Libc (import "" "a" (func (param i32 i32 i32 i32) (result i32))) (memory (export "memory") 1))
      (core instance $libc (instantiate $Libc (with "" (instance (export "a" (func $alloc'))))))
      (core func $text' (canon lower (func $text) (memory (core memory $libc "memory")) (realloc (core func $alloc'))))
      (core module $M (import "" "text" (func $text (param i32))))
      (core instance $m (instantiate $M (with "" (instance (export "text" (func $text')))))))"""
    assert [(group.before, group.canons, group.reallocs) for group in plan_of(wat)] == [
        (0, (0,), ()),
        (1, (1,), (CanonRef(0),)),
    ]


def test_a_function_that_lacks_its_allocator_is_refused() -> None:
    plan = link(decode_component(bytes(wat2wasm(GUEST.replace("BODY", "")))))
    (_, lower) = plan.canons
    assert isinstance(lower, Lower)
    broken = replace(lower, options=replace(lower.options, realloc=None))
    with pytest.raises(ComponentError, match="without the realloc"):
        trampoline_groups(replace(plan, canons=(plan.canons[0], broken)))


RESULTS = {
    "string": "ä" * 9,
    "(list u8)": b"bytes",
    "(list u64)": [1, (1 << 64) - 1],
    "(list f64)": [0.5, -0.0],
    "(list bool)": [True, False],
    "(option (list s16))": [-1, 2],
    "(option string)": None,
    "(result (list u8) (error string))": Err("no"),
    "(tuple u8 u64 string)": (1, 2, "three"),
    "(tuple string u8 (list u8))": ("one", 2, b"three"),
    "(tuple (list u8) u64)": (b"one", 2),
    "(list string)": ["", "two"],
}


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("kind", list(RESULTS))
async def test_results_of_every_shape_arrive(engine: Engine, kind: str, later: bool) -> None:
    value = RESULTS[kind]

    async def answer() -> object:
        await asyncio.sleep(0)
        return value

    running = await returning(engine, kind, lambda cx: answer() if later else value)
    for _ in range(2):
        assert await running.call("f") == value
    assert running.instance.lowering is None


def test_what_is_stored_last_is_placed() -> None:
    u8, text = PrimType("u8"), PrimType("string")
    for placed in (
        text,
        ListType(u8),
        OptionType(ListType(u8)),
        TupleType((u8, text)),
        ResultType(text, ListType(u8)),
        u8,
    ):
        assert ends_in_bytes(placed), placed
    for other in (ListType(text), TupleType((text, u8)), TupleType((text, text)), OptionType(TupleType((text, u8)))):
        assert not ends_in_bytes(other), other


@pytest.mark.parametrize("kind", ["(list u8)", "(tuple (list u8) u8)"])
async def test_bytes_that_change_while_the_allocator_runs(engine: Engine, kind: str) -> None:
    """They are as they were, or refused where they are not all that there is."""
    value = bytearray(b"bytes")
    whole = kind == "(list u8)"
    running = await returning(engine, kind, lambda cx: value if whole else (value, 1), body="(call $hold)")
    held = Held(running, 0)
    call = asyncio.ensure_future(running.call("f"))
    await held.reached()
    value += b"more" * 1000
    held.release()
    if whole:
        assert await call == b"bytes"
        return
    with pytest.raises(ResultMismatch) as failed:
        await call
    assert "different structures" in str(failed.value.__cause__) and not running.instance.usable


async def returning(engine: Engine, kind: str, function: Callable[..., object], *, body: str = "") -> Running:
    """A guest whose export `f` gives what the host function gives it; its allocator runs `body`."""
    wat = f"""(component
      (import "f" (func $f (result {kind})))
      (core module $Libc
        (memory (export "memory") 4)
        (global $next (mut i32) (i32.const 4096))
        {HOLD}
        (func (export "realloc") (param i32 i32 i32 i32) (result i32)
          {body}
          (global.set $next (i32.add (global.get $next) (i32.const 64)))
          (global.get $next)))
      (core instance $libc (instantiate $Libc))
      (core func $f' (canon lower (func $f) MEMORY))
      (core module $M
        (import "" "f" (func $f (param i32)))
        (func (export "f") (result i32) (call $f (i32.const 16)) (i32.const 16)))
      (core instance $m (instantiate $M (with "" (instance (export "f" (func $f'))))))
      (func (export "f") (result {kind}) (canon lift (core func $m "f") MEMORY)))"""
    return await run(engine, wat, f=function)


THROWS = """
(component
  (import "text" (func $text (result string)))
  (core module $Libc (memory (export "memory") 1) (tag $t (export "t"))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (throw $t)))
  (core instance $libc (instantiate $Libc))
  (core func $text' (canon lower (func $text) MEMORY))
  (core module $M (import "" "text" (func $text (param i32))) (import "libc" "t" (tag $t))
    (func (export "caught") (result i32)
      (block $c (try_table (catch_all $c) (call $text (i32.const 16)))) (i32.const 9))
    (func (export "thrown") (result i32) (throw $t))
    (func (export "nop")))
  (core instance $m (instantiate $M (with "libc" (instance $libc)) (with "" (instance (export "text" (func $text'))))))
  (func (export "nop") (canon lift (core func $m "nop")))
  (func (export "caught") (result u32) (canon lift (core func $m "caught")))
  (func (export "thrown") (result u32) (canon lift (core func $m "thrown"))))
"""


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("first", [True, False], ids=["by steps", "short way"])
async def test_an_exception_that_leaves_the_allocator_is_a_trap(engine: Engine, later: bool, first: bool) -> None:
    """The guest may catch it, since its allocator runs on its own fiber; it gets no further than its call's end."""

    async def text(cx: object) -> str:
        await asyncio.sleep(0)
        return "text"

    for name, said in (("caught", "an exception left realloc"), ("thrown", "thrown Wasm exception")):
        running = await run(engine, THROWS, text=text if later else lambda cx: "text")
        if not first:
            await running.call("nop")
        with pytest.raises(GuestTrapped, match=said):
            await running.call(name)
        assert not running.instance.usable
