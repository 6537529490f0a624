"""Components composed of components that call each other."""

from __future__ import annotations

import asyncio
import re

import pytest

from perdure.component.engine import Engine
from perdure.component.instance import MAX_CALL_DEPTH
from perdure.component.link import MAX_DEPTH
from perdure.errors import ComponentError, ComponentUnsupported, GuestTrapped, InvocationTimeout
from support.components import load, run

CHAIN = """
(component
  (import "ask" (func $ask (param "text" string) (result string)))
  (component $Inner
    (import "ask" (func $ask (param "text" string) (result string)))
    LIBC
    (core func $ask' (canon lower (func $ask) MEMORY))
    (core module $M
      (import "" "ask" (func $ask (param i32 i32 i32)))
      (func (export "say") (param i32 i32) (result i32)
        (call $ask (local.get 0) (local.get 1) (i32.const 8)) (i32.const 8))
      (func $spin (export "spin") (loop $l (br $l)))
      (func $innermost (export "fail") (unreachable)))
    (core instance $m (instantiate $M (with "" (instance (export "ask" (func $ask'))))))
    (func (export "say") (param "text" string) (result string) (canon lift (core func $m "say") MEMORY))
    (func (export "spin") (canon lift (core func $m "spin")))
    (func (export "fail") (canon lift (core func $m "fail"))))
  (component $Outer
    (import "say" (func $say (param "text" string) (result string)))
    (import "spin" (func $spin))
    (import "fail" (func $fail))
    LIBC
    (core func $say' (canon lower (func $say) string-encoding=utf16 MEMORY))
    (core func $spin' (canon lower (func $spin)))
    (core func $fail' (canon lower (func $fail)))
    (core module $M
      (import "" "say" (func $say (param i32 i32 i32)))
      (import "" "spin" (func $spin))
      (import "" "fail" (func $fail))
      (func (export "say") (param i32 i32) (result i32)
        (call $say (local.get 0) (local.get 1) (i32.const 8)) (i32.const 8))
      (func (export "spin") (call $spin))
      (func $outermost (export "fail") (call $fail)))
    (core instance $m (instantiate $M (with "" (instance
      (export "say" (func $say')) (export "spin" (func $spin')) (export "fail" (func $fail'))))))
    (func (export "say") (param "text" string) (result string)
      (canon lift (core func $m "say") string-encoding=utf16 MEMORY))
    (func (export "spin") (canon lift (core func $m "spin")))
    (func (export "fail") (canon lift (core func $m "fail"))))
  (instance $inner (instantiate $Inner (with "ask" (func $ask))))
  (instance $outer (instantiate $Outer
    (with "say" (func $inner "say")) (with "spin" (func $inner "spin")) (with "fail" (func $inner "fail"))))
  (export "say" (func $outer "say"))
  (export "spin" (func $outer "spin"))
  (export "fail" (func $outer "fail")))
"""


@pytest.mark.usefixtures("allocator")
async def test_a_call_goes_through_two_components_and_back(engine: Engine) -> None:
    asked: list[object] = []

    def ask(cx: object, text: str) -> str:
        asked.append((type(text), text))
        return text.upper()

    chain = await run(engine, CHAIN, ask=ask)
    for text in ("", "hällo", "ключ 🔑"):
        assert await chain.call("say", text) == text.upper()
    assert asked[-1] == (str, "ключ 🔑")


@pytest.mark.usefixtures("allocator")
async def test_the_innermost_may_wait_for_the_host_while_others_run(engine: Engine) -> None:
    running, all_wait = 0, asyncio.Event()

    async def ask(cx: object, text: str) -> str:
        nonlocal running
        running += 1
        if running == 20:
            all_wait.set()
        await all_wait.wait()
        return text + "!"

    chains = [await run(engine, CHAIN, ask=ask) for _ in range(20)]
    results = await asyncio.gather(*(chain.call("say", f"n{n}") for n, chain in enumerate(chains)))
    assert results == [f"n{n}!" for n in range(20)]
    assert await chains[0].call("say", "again") == "again!"


async def test_a_cancelled_call_leaves_nothing_behind(engine: Engine) -> None:
    closed, asked = [], asyncio.Event()

    async def ask(cx: object, text: str) -> str:
        try:
            asked.set()
            await asyncio.sleep(60)
        finally:
            closed.append(text)
        return text

    chain = await run(engine, CHAIN, ask=ask)
    task = asyncio.ensure_future(chain.call("say", "x"))
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert closed == ["x"]
    assert not chain.instance.usable
    assert not chain.instance.suspended
    chain.instance.close()


async def test_a_spinning_callee_lets_others_run_and_is_stopped(engine: Engine) -> None:
    spinning = await run(engine, CHAIN, ask=lambda cx, text: text)
    other = await run(engine, CHAIN, ask=lambda cx, text: text)
    task = asyncio.create_task(spinning.call("spin", seconds=60))
    await asyncio.sleep(0)  # into the guest
    assert await other.call("say", "x") == "x"
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(InvocationTimeout):
        await (await run(engine, CHAIN, ask=lambda cx, text: text)).call("spin", seconds=0.3)


async def test_a_trap_of_the_callee_ends_the_whole_call_with_both_sides_frames(engine: Engine) -> None:
    chain = await run(engine, CHAIN, ask=lambda cx, text: text)
    with pytest.raises(GuestTrapped) as caught:
        await chain.call("fail")
    assert caught.value.trap == "unreachable"
    frames = " ".join(caught.value.frames)
    assert "innermost" in frames
    assert "outermost" in frames
    assert not chain.instance.usable


async def test_a_host_exception_arrives_unchanged(engine: Engine) -> None:
    class Odd(Exception):
        pass

    async def late(cx: object, text: str) -> str:
        await asyncio.sleep(0)
        raise Odd

    def at_once(cx: object, text: str) -> str:
        raise Odd

    for ask in (late, at_once):
        chain = await run(engine, CHAIN, ask=ask)
        with pytest.raises(Odd):
            await chain.call("say", "x")


# --- who may be entered

REENTRY = """
(component
  (core module $Shim
    (table (export "t") 1 funcref)
    (func (export "f") (call_indirect (i32.const 0))))
  (core module $Fix (import "" "t" (table 1 funcref)) (import "" "f" (func $f)) (elem (i32.const 0) func $f))
  (component $Child
    (import "f" (func $f))
    (core func $f' (canon lower (func $f)))
    (core module $M (import "" "f" (func $f)) (func (export "g") (call $f)))
    (core instance $m (instantiate $M (with "" (instance (export "f" (func $f'))))))
    (func (export "g") (canon lift (core func $m "g"))))
  (core instance $shim (instantiate $Shim))
  (core module $Leaf (func (export "leaf")))
  (core instance $leaf (instantiate $Leaf))
  (func $leaf (canon lift (core func $leaf "leaf")))
  (func $indirect (canon lift (core func $shim "f")))
  (instance $a (instantiate $Child (with "f" (func TARGET))))
  (instance $b (instantiate $Child (with "f" (func $a "g"))))
  (core func $back (canon lower (func BACK)))
  (core instance (instantiate $Fix (with "" (instance (export "t" (table $shim "t")) (export "f" (func $back))))))
  (export "go" (func ENTRY)))
"""


@pytest.mark.parametrize(
    ("target", "back", "entry", "traps"),
    [
        # The host calls B, B calls A, A calls what the parent lifts: the parent is entered already, by B's call.
        ("$leaf", "$leaf", '$b "g"', False),
        # The parent calls A, and A calls back into the parent.
        ("$leaf", '$a "g"', "$indirect", False),
        # The parent calls A, A calls the parent, the parent calls A again.
        ("$indirect", '$a "g"', "$indirect", True),
        # B calls A, A calls the parent, the parent calls B again.
        ("$indirect", '$b "g"', '$b "g"', True),
    ],
)
async def test_a_component_instance_is_not_entered_twice(
    engine: Engine, target: str, back: str, entry: str, traps: bool
) -> None:
    wat = REENTRY.replace("TARGET", target).replace("BACK", back).replace("ENTRY", entry)
    composed = await run(engine, wat)
    if not traps:
        assert await composed.call("go") is None
        assert await composed.call("go") is None
        return
    with pytest.raises(GuestTrapped, match="cannot be entered"):
        await composed.call("go")


RECURSIVE = """
(component
  (core module $Shim
    (table (export "t") 1 funcref)
    (func (export "f") (param i32) (result i32) (call_indirect (param i32) (result i32) (local.get 0) (i32.const 0))))
  (core module $M
    (import "" "f" (func $f (param i32) (result i32)))
    (func (export "f") (param i32) (result i32)
      (if (result i32) (local.get 0)
        (then (i32.add (i32.const 1) (call $f (i32.sub (local.get 0) (i32.const 1)))))
        (else (i32.const 0)))))
  (core module $Fix
    (import "" "t" (table 1 funcref)) (import "" "f" (func $f (param i32) (result i32)))
    (elem (i32.const 0) func $f))
  (core instance $shim (instantiate $Shim))
  (core instance $m (instantiate $M (with "" (instance $shim))))
  (func $f (export "f") (param "n" u32) (result u32) (canon lift (core func $m "f")))
  (core func $f' (canon lower (func $f)))
  (core instance (instantiate $Fix (with "" (instance (export "t" (table $shim "t")) (export "f" (func $f')))))))
"""


async def test_a_component_may_call_itself_but_not_without_end(engine: Engine) -> None:
    recursive = await run(engine, RECURSIVE)
    assert await recursive.call("f", MAX_CALL_DEPTH - 1) == MAX_CALL_DEPTH - 1
    with pytest.raises(GuestTrapped, match="nested deeper"):
        await recursive.call("f", MAX_CALL_DEPTH)
    assert await (await run(engine, RECURSIVE)).call("f", 5) == 5


# --- what links

STRUCTURE = """
(component
  (component $Empty)
  (type $n u32)
  (type $pair (record (field "a" u8) (field "b" u64)))
  (export $pair' "pair" (type $pair))
  (core module $Adder
    (import "" "base" (global $base i32))
    (func (export "add") (param i32 i64) (result i32)
      (i32.add (global.get $base) (i32.add (local.get 0) (i32.wrap_i64 (local.get 1))))))
  (component $Inner
    ;; A type, a core module and a component of the outermost component, from two levels further in.
    (component $Sum2
      (alias outer 2 $Adder (core module $A))
      (core module $Base (global (export "base") i32 (i32.const 1000)))
      (core instance $base (instantiate $Base))
      (core instance $adder (instantiate $A (with "" (instance $base))))
      (alias outer 2 $n (type $n))
      (func (export "sum") (param "a" $n) (param "b" u64) (result u32) (canon lift (core func $adder "add"))))
    (alias outer 1 $Empty (component $E))
    (instance (instantiate $E))
    (instance $sum (instantiate $Sum2))
    (export "sum" (func $sum "sum")))
  (instance $inner (instantiate $Inner))
  (export "sum2" (func $inner "sum"))
  (component $Sum
    ;; A core module and a type are imported.
    (import "adder" (core module $Adder (import "" "base" (global i32))
      (export "add" (func (param i32 i64) (result i32)))))
    (import "pair" (type $given (eq $pair)))
    (core module $Base (global (export "base") i32 (i32.const 100)))
    (core instance $base (instantiate $Base))
    (core instance $adder (instantiate $Adder (with "" (instance $base))))
    (func (export "sum") (param "p" $given) (result u32) (canon lift (core func $adder "add")))
    (export "base" (core module $Base)))
  (instance $sum (instantiate $Sum (with "adder" (core module $Adder)) (with "pair" (type $pair'))))
  ;; A core module that the nested component exports is instantiated out here.
  (core instance $base (instantiate (module $sum "base")))
  (core module $Two
    (import "" "base" (global $base i32))
    (memory (export "one") 1)
    (memory (export "two") 2)
    (func (export "size") (result i32) (i32.add (global.get $base) (memory.size 1))))
  (core instance $two (instantiate $Two (with "" (instance $base))))
  (func (export "size") (result u32) (canon lift (core func $two "size")))
  (export "sum" (func $sum "sum"))
  (instance $api (export "sum" (func $sum "sum")))
  (export "api" (instance $api)))
"""


async def test_modules_types_and_functions_go_in_and_out_of_nested_components(engine: Engine) -> None:
    structure = await run(engine, STRUCTURE)
    assert await structure.call("sum", {"a": 7, "b": 30}) == 137
    assert await structure.call("api.sum", {"a": 0, "b": 1}) == 101
    assert await structure.call("sum2", 1, 2) == 1003
    assert await structure.call("size") == 102


START = """
(component
  (component $Counter
    (core module $M (global $n (mut i32) (i32.const 0))
      (func (export "add") (param i32) (global.set $n (i32.add (global.get $n) (local.get 0))))
      (func (export "get") (result i32) (global.get $n)))
    (core instance $m (instantiate $M))
    (func (export "add") (param "n" u32) (canon lift (core func $m "add")))
    (func (export "get") (result u32) (canon lift (core func $m "get"))))
  (component $User
    (import "add" (func $add (param "n" u32)))
    (core func $add' (canon lower (func $add)))
    (core module $M (import "" "add" (func $add (param i32))) (func $start (call $add (i32.const 21))) (start $start))
    (core instance (instantiate $M (with "" (instance (export "add" (func $add')))))))
  (instance $one (instantiate $Counter))
  (instance $two (instantiate $Counter))
  (instance (instantiate $User (with "add" (func $one "add"))))
  (instance (instantiate $User (with "add" (func $one "add"))))
  (export "one" (func $one "get"))
  (export "two" (func $two "get")))
"""


async def test_start_functions_may_call_what_exists_already(engine: Engine) -> None:
    composed = await run(engine, START)
    assert await composed.call("one") == 42
    assert await composed.call("two") == 0


async def test_an_imported_function_may_be_exported_again(engine: Engine) -> None:
    wat = '(component (import "f" (func $f (param "n" u32) (result u32))) (export "g" (func $f)))'

    async def slow(cx: object, n: int) -> int:
        await asyncio.sleep(0)
        return n + 2

    assert await (await run(engine, wat, f=lambda cx, n: n + 1)).call("g", 1) == 2
    assert await (await run(engine, wat, f=slow)).call("g", 1) == 3
    with pytest.raises(ComponentUnsupported, match="does not provide: f"):
        await run(engine, wat)


# --- what does not

REFUSED = {
    '(component (import "m" (core module)))': "core module imports",
    '(component (import "c" (component)))': "component imports",
    '(component (type $f (stream u8)) (import "f" (func (param "s" $f))) (export "g" (func 0)))': r"stream<T>",
    "(component (core func (canon context.get i32 0)))": "context.get",
}


@pytest.mark.parametrize(("wat", "feature"), REFUSED.items())
async def test_what_is_not_supported_is_refused_by_name(engine: Engine, wat: str, feature: str) -> None:
    with pytest.raises(ComponentUnsupported) as caught:
        await load(engine, wat)
    assert re.search(feature, caught.value.feature)


async def test_a_component_that_unfolds_without_end_is_refused(engine: Engine) -> None:
    levels = ["(component $c0 (core module $m) (core instance (instantiate $m)))"]
    levels += [f"(component $c{n} {f'(instance (instantiate $c{n - 1}))' * 4})" for n in range(1, 18)]
    with pytest.raises(ComponentUnsupported, match="more than"):
        await load(engine, f"(component {' '.join(levels)} (instance (instantiate $c17)))")
    wide = ["(type $t0 (instance))"]
    for n in range(1, 18):
        four = [f'(export "{name}" (instance (type $t{n - 1})))' for name in "abcd"]
        wide.append(f"(type $t{n} (instance {' '.join(four)}))")
    with pytest.raises(ComponentUnsupported, match="more than"):
        await load(engine, f'(component {" ".join(wide)} (import "i" (instance (type $t17))))')
    wide = ["(instance $i0)"]
    wide += [
        f'(instance $i{n} (export "a" (instance $i{n - 1})) (export "b" (instance $i{n - 1})))' for n in range(1, 40)
    ]
    with pytest.raises(ComponentUnsupported, match="more than"):
        await load(engine, f'(component {" ".join(wide)} (export "i" (instance $i39)))')
    deep = ["(component $c0)"] + [f"(component $c{n} (instance (instantiate $c{n - 1})))" for n in range(1, 150)]
    with pytest.raises(ComponentUnsupported, match=f"more than {MAX_DEPTH}"):
        await load(engine, f"(component {' '.join(deep)} (instance (instantiate $c149)))")
    fine = f"(component {' '.join(deep[:90])} (instance (instantiate $c89)))"
    assert (await load(engine, fine)).plan.parents[1:3] == (0, 1)


async def test_a_type_that_unfolds_without_end_is_refused(engine: Engine) -> None:
    doubled = ["(type $t0 (tuple u8 u8))"] + [f"(type $t{n} (tuple $t{n - 1} $t{n - 1}))" for n in range(1, 18)]
    with pytest.raises(ComponentUnsupported, match="parts"):
        await load(engine, f"(component {' '.join(doubled)})")
    lists = ["(type $t0 (list u8))"] + [f"(type $t{n} (list $t{n - 1}))" for n in range(1, 30)]
    with pytest.raises(ComponentUnsupported, match="nested deeper"):
        await load(engine, f"(component {' '.join(lists)})")
    assert (
        await load(engine, f"(component {' '.join(doubled[:8])} {' '.join(lists[:8]).replace('$t', '$l')})")
    ).exports == ()


async def test_an_import_that_nothing_is_given_for_is_malformed(engine: Engine) -> None:
    with pytest.raises(ComponentError, match="missing import named `f`"):
        await load(engine, '(component (component $c (import "f" (func))) (instance (instantiate $c)))')
