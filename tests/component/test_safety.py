"""Guests that mean harm, by every way into them: none aborts the process, blocks the loop or gets at the host."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from perdure.component.engine import Engine
from perdure.component.instance import InstanceLimits
from perdure.errors import ComponentUnsupported, GuestTrapped, InvocationTimeout
from support.components import Running, load, run

# Each way into the guest runs BODY of one function; `call` is a host function that may wait.
WAYS = """
(component
  (import "call" (func $call))
  (import "text" (func $text (result string)))
  (core func $call' (canon lower (func $call)))
  (core module $M
    (import "" "call" (func $call))
    (memory (export "memory") 1)
    (func $deep (call $deep))
    (func $spin (loop $l (br $l)))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) REALLOC (i32.const 1024))
    (func (export "run") (param i32 i32) (result i32) RUN (i32.const 8))
    (func (export "post") (param i32) POST)
    (func (export "dtor") (param i32) DTOR))
  (core instance $m (instantiate $M (with "" (instance (export "call" (func $call'))))))
  (core func $text' (canon lower (func $text) (memory (core memory $m "memory")) (realloc (core func $m "realloc"))))
  (type $r (resource (rep i32) (dtor (core func $m "dtor"))))
  (core func $new (canon resource.new $r))
  (core func $drop (canon resource.drop $r))
  (core module $N
    (import "" "text" (func $text (param i32)))
    (import "" "new" (func $new (param i32) (result i32)))
    (import "" "drop" (func $drop (param i32)))
    (import "" "call" (func $call))
    (func $deep (call $deep))
    (func $spin (loop $l (br $l)))
    (func $start START)
    (start $start)
    (func (export "fetch") (call $text (i32.const 16)))
    (func (export "drop") (call $drop (call $new (i32.const 1)))))
  (core instance $n (instantiate $N (with "" (instance
    (export "text" (func $text')) (export "new" (func $new)) (export "drop" (func $drop))
    (export "call" (func $call'))))))
  (func (export "run") (param "text" string) (result string) (canon lift (core func $m "run")
    (memory (core memory $m "memory")) (realloc (core func $m "realloc")) (post-return (core func $m "post"))))
  (func (export "fetch") (canon lift (core func $n "fetch")))
  (func (export "drop") (canon lift (core func $n "drop"))))
"""
WORDS = ("REALLOC", "RUN", "POST", "DTOR", "START")
# The function whose body it is → the call that reaches it; None: instantiating does.
REACHED_BY: dict[str, str | None] = {
    "REALLOC": "run",
    "RUN": "run",
    "POST": "run",
    "DTOR": "drop",
    "START": None,
    "FETCH": "fetch",
}


async def wait(cx: object) -> None:
    await asyncio.sleep(0.01)


async def ways(engine: Engine, word: str, body: str) -> Running:
    """`body` is what stands at the place `word`; nothing at the others."""
    wat = WAYS.replace(word, body)
    for other in WORDS:
        wat = wat.replace(other, "")

    async def text(cx: object) -> str:
        await asyncio.sleep(0)
        return "text"

    return await run(engine, wat, call=wait, text=text)


async def reach(engine: Engine, word: str, body: str, *, seconds: float = 20) -> Running:
    """Have the guest run `body` at the place `word`."""
    reached_by = REACHED_BY[word]
    place = "REALLOC" if word == "FETCH" else word
    if reached_by is None:
        async with asyncio.timeout(seconds):
            return await ways(engine, place, body)
    guest = await ways(engine, place, body)
    await guest.call(reached_by, *(["text"] if reached_by == "run" else []), seconds=seconds)
    return guest


@pytest.mark.parametrize("word", list(REACHED_BY))
async def test_the_places_are_reached_and_harmless_ones_pass(engine: Engine, word: str) -> None:
    guest = await reach(engine, word, "")
    assert guest.instance.usable


@pytest.mark.parametrize("word", ["RUN", "DTOR", "START"])
async def test_where_a_guest_may_call_out_it_may_wait(engine: Engine, word: str) -> None:
    guest = await reach(engine, word, "(call $call)")
    assert guest.instance.usable


@pytest.mark.parametrize("word", ["REALLOC", "POST", "FETCH"])
async def test_where_a_guest_may_not_call_out_it_traps(engine: Engine, word: str) -> None:
    with pytest.raises(GuestTrapped, match="may not leave") as caught:
        await reach(engine, word, "(call $call)")
    assert caught.value.trap == "canonical-abi"
    assert caught.value.frames


@pytest.mark.parametrize("word", list(REACHED_BY))
@pytest.mark.parametrize(("body", "trap"), [("(call $deep)", "stack-overflow"), ("(unreachable)", "unreachable")])
async def test_traps_are_typed_wherever_they_happen(engine: Engine, word: str, body: str, trap: str) -> None:
    with pytest.raises(GuestTrapped) as caught:
        await reach(engine, word, body)
    assert caught.value.trap == trap
    assert caught.value.frames


@pytest.mark.parametrize("word", [word for word in REACHED_BY if word != "START"])
async def test_a_guest_that_spins_is_stopped_wherever_it_does_and_lets_others_run(engine: Engine, word: str) -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.ensure_future(count())
    try:
        with pytest.raises(InvocationTimeout):
            await reach(engine, word, "(call $spin)", seconds=0.3)
    finally:
        counting.cancel()
    assert turns >= 3


async def test_a_start_function_that_spins_is_stopped(engine: Engine) -> None:
    with pytest.raises(TimeoutError):
        await reach(engine, "START", "(call $spin)", seconds=0.3)


# A core function of the canonical options may itself be a lowered import.
DIRECT = """
(component
  (import "four" (func $four (param "a" u32) (param "b" u32) (param "c" u32) (param "d" u32) (result u32)))
  (import "one" (func $one (param "a" u32)))
  (core func $four' (canon lower (func $four)))
  (core func $one' (canon lower (func $one)))
  (core module $M
    (memory (export "memory") 1)
    (func (export "take") (param i32 i32) (result i32) (i32.const 64))
    (func (export "give") (result i32) (i32.const 64)))
  (core instance $m (instantiate $M))
  (type $r (resource (rep i32) (dtor (core func $one'))))
  (core func $new (canon resource.new $r))
  (core func $drop (canon resource.drop $r))
  (core module $N
    (import "" "new" (func $new (param i32) (result i32)))
    (import "" "drop" (func $drop (param i32)))
    (func (export "drop") (call $drop (call $new (i32.const 7)))))
  (core instance $n (instantiate $N (with "" (instance (export "new" (func $new)) (export "drop" (func $drop))))))
  (func (export "drop") (canon lift (core func $n "drop")))
  (func (export "direct") (param "a" u32) (canon lift (core func $one')))
  (func (export "take") (param "text" string) (result string)
    (canon lift (core func $m "take") (memory (core memory $m "memory")) (realloc (core func $four'))))
  (func (export "give") (result string)
    (canon lift (core func $m "give") (memory (core memory $m "memory")) (post-return (core func $one')))))
"""


@pytest.mark.parametrize("slow", [False, True])
async def test_a_lowered_import_may_stand_for_a_core_function(engine: Engine, slow: bool) -> None:
    seen = []

    async def later(cx: object, *args: int) -> int:
        await asyncio.sleep(0)
        seen.append(args)
        return 1024

    def at_once(cx: object, *args: int) -> int:
        seen.append(args)
        return 1024

    function: Callable[..., object] = later if slow else at_once
    direct = await run(engine, DIRECT, four=function, one=function)
    await direct.call("drop")
    await direct.call("direct", 9)
    assert seen == [(7,), (9,)]
    for name, args in (("take", ["x"]), ("give", [])):
        direct = await run(engine, DIRECT, four=function, one=function)
        with pytest.raises(GuestTrapped, match="may not leave"):
            await direct.call(name, *args)
    assert seen == [(7,), (9,)]


# What a guest says where a result is to be written.
RETURN = """
(component
  (import "pair" (func $pair (result (tuple u32 u64))))
  LIBC
  (core func $pair' (canon lower (func $pair) MEMORY))
  (core module $M (import "" "pair" (func $pair (param i32))) (func (export "go") (param i32) (call $pair (local.get 0))))
  (core instance $m (instantiate $M (with "" (instance (export "pair" (func $pair'))))))
  (func (export "go") (param "at" u32) (canon lift (core func $m "go"))))
"""


async def test_a_return_pointer_is_checked(engine: Engine) -> None:
    pages = 4 * 65536
    for pointer, rule in (
        (4, "not aligned to 8"),
        (pages - 8, "outside the memory"),
        (0xFFFFFFF8, "outside the memory"),
    ):
        guest = await run(engine, RETURN, pair=lambda cx: (1, 2))
        await guest.call("go", pages - 16)
        with pytest.raises(GuestTrapped, match=rule):
            await guest.call("go", pointer)


# What is lowered once, although the allocator is asked again and again.
ONCE = """
(component
  (import "api" (instance $api
    (export "file" (type $file (sub resource)))
    (export "open" (func (result (tuple (own $file) string (own $file) (list string) (option (own $file))))))))
  (alias export $api "file" (type $file))
  LIBC
  (core func $open (canon lower (func $api "open") MEMORY))
  (core func $drop (canon resource.drop $file))
  (core module $M
    (import "" "open" (func $open (param i32)))
    (import "" "drop" (func $drop (param i32)))
    (import "libc" "memory" (memory 1))
    (func (export "go") (result i32)
      (call $open (i32.const 16))
      ;; The three handles and the lengths of the string and the list.
      (i32.store (i32.const 128) (i32.load (i32.const 16)))
      (i32.store (i32.const 132) (i32.load (i32.const 28)))
      (i32.store (i32.const 136) (i32.load (i32.const 44)))
      (i32.store (i32.const 140) (i32.load (i32.const 24)))
      (i32.store (i32.const 144) (i32.load (i32.const 36)))
      (call $drop (i32.load (i32.const 28)))
      (i32.store (i32.const 0) (i32.const 128)) (i32.store (i32.const 4) (i32.const 5)) (i32.const 0)))
  (core instance $m (instantiate $M
    (with "" (instance (export "open" (func $open)) (export "drop" (func $drop)))) (with "libc" (instance $libc))))
  (func (export "go") (result (list u32)) (canon lift (core func $m "go") MEMORY)))
"""


@pytest.mark.usefixtures("allocator")
@pytest.mark.parametrize("waits", [False, True])
async def test_lowering_that_starts_anew_does_nothing_twice(engine: Engine, waits: bool) -> None:
    dropped = []
    value = ("first", "text", "second", ["a", "bc"], "third")

    async def later(cx: object) -> object:
        await asyncio.sleep(0)
        return value

    function: Callable[..., object] = later if waits else lambda cx: value
    guest = await run(engine, ONCE, open=function, drops={"file": lambda cx, file: dropped.append(file)})
    assert await guest.call("go") == [1, 2, 3, 4, 2]
    assert len(guest.instance.tables[0]) == 2
    assert dropped == ["second"]


# --- limits

GREEDY = """
(component
  (core module $M
    (table (export "t") 1 funcref)
    (memory (export "m") 1)
    (func (export "memory") (param i32) (result i32) (memory.grow (local.get 0)))
    (func (export "table") (param i32) (result i32) (table.grow (ref.null func) (local.get 0))))
  (core instance $m (instantiate $M))
  (func (export "memory") (param "n" u32) (result s32) (canon lift (core func $m "memory")))
  (func (export "table") (param "n" u32) (result s32) (canon lift (core func $m "table"))))
"""


async def test_memories_and_tables_grow_to_their_limits_only(engine: Engine) -> None:
    greedy = await run(engine, GREEDY, limits=InstanceLimits(memory=8 << 16, table_elements=100))
    assert await greedy.call("memory", 7) == 1
    assert await greedy.call("memory", 1) == -1
    assert await greedy.call("table", 99) == 1
    assert await greedy.call("table", 1) == -1


async def test_there_are_only_so_many_memories(engine: Engine) -> None:
    module = f"(core module $m {'(memory 1)' * 5}) (core instance (instantiate $m))"
    component = await load(engine, f"(component {module})")

    class Nothing:
        def function(self, *args: object) -> None: ...
        def resource(self, *args: object) -> None: ...

    bound = component.bind(Nothing())
    assert (await bound.instantiate(None, limits=InstanceLimits(memories=5))).usable
    with pytest.raises(GuestTrapped, match="memory count too high") as caught:
        await bound.instantiate(None, limits=InstanceLimits(memories=4))
    assert caught.value.trap == "limit-exceeded"
    with pytest.raises(GuestTrapped, match="exceeds memory limits") as caught:
        await bound.instantiate(None, limits=InstanceLimits(memory=1024))
    assert caught.value.trap == "limit-exceeded"


@pytest.mark.parametrize(
    ("module", "feature"),
    [
        ("(memory 1 1 shared)", "threads"),
        ("(func (param v128 v128) (result v128) (i8x16.relaxed_swizzle (local.get 0) (local.get 1)))", "relaxed SIMD"),
    ],
)
async def test_what_would_make_replay_inexact_is_refused_by_name(engine: Engine, module: str, feature: str) -> None:
    with pytest.raises(ComponentUnsupported) as caught:
        await load(engine, f"(component (core module {module}))")
    assert caught.value.feature == feature
