"""Resources: of the host, of a component, between components; who may use, lend, give away and drop them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from perdure.component.engine import Engine
from perdure.component.handles import GuestResource
from perdure.errors import GuestTrapped, TypeMismatch
from support.components import Running, run

# --- defined by the component, used by the host

COUNTER = """
(component
  (import "dropped" (func $dropped (param "rep" u32)))
  (core func $dropped' (canon lower (func $dropped)))
  (core module $Dtor
    (import "" "dropped" (func $dropped (param i32)))
    (func (export "dtor") (param i32) (call $dropped (local.get 0))))
  (core instance $dtor (instantiate $Dtor (with "" (instance (export "dropped" (func $dropped'))))))
  (type $counter (resource (rep i32) (dtor (core func $dtor "dtor"))))
  (export $counter' "counter" (type $counter))
  (core func $new (canon resource.new $counter))
  (core func $rep (canon resource.rep $counter))
  (core func $drop (canon resource.drop $counter))
  (core module $M
    (import "" "new" (func $new (param i32) (result i32)))
    (import "" "rep" (func $rep (param i32) (result i32)))
    (import "" "drop" (func $drop (param i32)))
    (func (export "make") (param i32) (result i32) (call $new (local.get 0)))
    (func (export "value") (param i32) (result i32) (local.get 0))
    (func (export "take") (param i32) (result i32) (call $rep (local.get 0)))
    (func (export "swallow") (param i32) (call $drop (local.get 0)))
    (func (export "drop-index") (param i32) (call $drop (local.get 0)))
    (func (export "rep-index") (param i32) (result i32) (call $rep (local.get 0))))
  (core instance $m (instantiate $M (with "" (instance
    (export "new" (func $new)) (export "rep" (func $rep)) (export "drop" (func $drop))))))
  (func (export "make") (param "n" u32) (result (own $counter')) (canon lift (core func $m "make")))
  (func (export "value") (param "c" (borrow $counter')) (result u32) (canon lift (core func $m "value")))
  (func (export "take") (param "c" (own $counter')) (result u32) (canon lift (core func $m "take")))
  (func (export "swallow") (param "c" (own $counter')) (canon lift (core func $m "swallow")))
  (func (export "drop-index") (param "n" u32) (canon lift (core func $m "drop-index")))
  (func (export "rep-index") (param "n" u32) (result u32) (canon lift (core func $m "rep-index"))))
"""


async def counter(engine: Engine, log: list[object] | None = None) -> Running:
    return await run(engine, COUNTER, dropped=lambda cx, rep: (log or []).append(rep))


async def test_the_host_holds_lends_gives_and_drops_a_guests_resource(engine: Engine) -> None:
    log: list[object] = [0]
    component = await counter(engine, log)
    made = await component.call("make", 7)
    assert isinstance(made, GuestResource)
    assert await component.call("value", made) == 7
    assert await component.call("value", made) == 7
    assert await component.call("take", made) == 7
    with pytest.raises(TypeMismatch, match="given away"):
        await component.call("value", made)
    other = await component.call("make", 9)
    assert isinstance(other, GuestResource)
    await component.instance.drop(other)
    assert log == [0, 9]
    for again in (other, made):
        with pytest.raises(ValueError, match="dropped or given away"):
            await component.instance.drop(again)
    await component.call("swallow", await component.call("make", 11))
    assert log == [0, 9, 11]


async def test_a_resource_belongs_to_its_instance(engine: Engine) -> None:
    one, two = await counter(engine), await counter(engine)
    made = await one.call("make", 1)
    assert isinstance(made, GuestResource)
    with pytest.raises(TypeMismatch, match="another instance"):
        await two.call("value", made)
    with pytest.raises(ValueError, match="another instance"):
        await two.instance.drop(made)
    with pytest.raises(TypeMismatch):
        await one.call("value", 1)
    assert await one.call("value", made) == 1


async def test_handles_are_numbers_of_the_guest_that_must_exist(engine: Engine) -> None:
    component = await counter(engine)
    await component.call("take", await component.call("make", 5))
    assert await component.call("rep-index", 1) == 5
    await component.call("drop-index", 1)
    with pytest.raises(GuestTrapped, match="unknown handle index 1"):
        await component.call("drop-index", 1)
    for index in (0, 2, 0xFFFFFFFF):
        component = await counter(engine)
        with pytest.raises(GuestTrapped, match=f"unknown handle index {index}"):
            await component.call("rep-index", index)


async def test_a_destructor_may_wait_for_the_host(engine: Engine) -> None:
    log = []

    async def dropped(cx: object, rep: int) -> None:
        await asyncio.sleep(0.01)
        log.append(rep)

    component = await run(engine, COUNTER, dropped=dropped)
    first = await component.call("make", 1)
    assert isinstance(first, GuestResource)
    turns = asyncio.ensure_future(asyncio.sleep(0))
    await component.instance.drop(first)
    assert turns.done()
    await component.call("swallow", await component.call("make", 2))
    assert log == [1, 2]


# --- defined by the host

FILES = """
(component
  (import "api" (instance $api
    (export "file" (type $file (sub resource)))
    (export "open" (func (param "n" u32) (result (own $file))))
    (export "look" (func (param "a" (borrow $file)) (param "b" (borrow $file)) (result u32)))
    (export "keep" (func (param "f" (own $file))))
    (export "both" (func (param "a" (borrow $file)) (param "f" (own $file))))))
  (alias export $api "file" (type $file))
  (export $file' "file" (type $file))
  (core func $open (canon lower (func $api "open")))
  (core func $look (canon lower (func $api "look")))
  (core func $keep (canon lower (func $api "keep")))
  (core func $both (canon lower (func $api "both")))
  (core func $drop (canon resource.drop $file))
  (core module $M
    (import "" "open" (func $open (param i32) (result i32)))
    (import "" "look" (func $look (param i32 i32) (result i32)))
    (import "" "keep" (func $keep (param i32)))
    (import "" "both" (func $both (param i32 i32)))
    (import "" "drop" (func $drop (param i32)))
    (func (export "open") (param i32) (result i32) (call $open (local.get 0)))
    (func (export "look") (param i32 i32) (result i32) (call $look (local.get 0) (local.get 1)))
    (func (export "keep") (param i32) (call $keep (local.get 0)))
    (func (export "both") (param i32 i32) (call $both (local.get 0) (local.get 1)))
    (func (export "drop") (param i32) (call $drop (local.get 0)))
    (func (export "index") (param i32) (result i32) (local.get 0))
    (func (export "look-and-drop") (param i32) (result i32)
      (local $n i32)
      (local.set $n (call $look (local.get 0) (local.get 0)))
      (call $drop (local.get 0))
      (local.get $n))
    (func (export "forget") (param i32))
    (func (export "give-borrowed") (param i32) (call $keep (local.get 0))))
  (core instance $m (instantiate $M (with "" (instance
    (export "open" (func $open)) (export "look" (func $look)) (export "keep" (func $keep))
    (export "both" (func $both)) (export "drop" (func $drop))))))
  (func (export "open") (param "n" u32) (result u32) (canon lift (core func $m "open")))
  (func (export "open-out") (param "n" u32) (result (own $file')) (canon lift (core func $m "open")))
  (func (export "look") (param "a" u32) (param "b" u32) (result u32) (canon lift (core func $m "look")))
  (func (export "keep") (param "n" u32) (canon lift (core func $m "keep")))
  (func (export "both") (param "a" u32) (param "n" u32) (canon lift (core func $m "both")))
  (func (export "drop") (param "n" u32) (canon lift (core func $m "drop")))
  (func (export "index") (param "f" (own $file')) (result u32) (canon lift (core func $m "index")))
  (func (export "look-and-drop") (param "f" (borrow $file')) (result u32) (canon lift (core func $m "look-and-drop")))
  (func (export "forget") (param "f" (borrow $file')) (canon lift (core func $m "forget")))
  (func (export "give-borrowed") (param "f" (borrow $file')) (canon lift (core func $m "give-borrowed"))))
"""


class Store:
    """Files of the host by number."""

    def __init__(self, *, slow: bool = False) -> None:
        self.dropped: list[object] = []
        self.kept: list[object] = []
        self.slow = slow

    async def _look(self, a: str, b: str) -> int:
        await asyncio.sleep(0)
        return len(a + b)

    def look(self, cx: object, a: str, b: str) -> object:
        return self._look(a, b) if self.slow else len(a + b)

    async def running(self, engine: Engine) -> Running:
        return await run(
            engine,
            FILES,
            drops={"file": lambda cx, file: self.dropped.append(file)},
            open=lambda cx, n: "f" * n,
            look=self.look,
            keep=lambda cx, file: self.kept.append(file),
            both=lambda cx, a, file: self.kept.append(file),
        )


@pytest.mark.parametrize("slow", [False, True])
async def test_a_guest_opens_lends_keeps_and_drops_a_hosts_resource(engine: Engine, slow: bool) -> None:
    store = Store(slow=slow)
    guest = await store.running(engine)
    assert [await guest.call("open", 3), await guest.call("open", 4)] == [1, 2]
    assert await guest.call("look", 1, 2) == 7
    assert await guest.call("look", 2, 2) == 8
    await guest.call("keep", 1)
    await guest.call("drop", 2)
    assert (store.kept, store.dropped) == (["fff"], ["ffff"])
    assert await guest.call("open", 1) == 2
    assert await guest.call("open-out", 5) == "fffff"
    assert await guest.call("index", "given") == 1
    assert await guest.call("look", 1, 2) == 6


async def test_what_is_lent_to_a_call_cannot_be_given_to_it(engine: Engine) -> None:
    guest = await Store().running(engine)
    await guest.call("open", 1)
    await guest.call("open", 2)
    await guest.call("both", 1, 2)
    with pytest.raises(GuestTrapped, match="lent to a running call"):
        await guest.call("both", 1, 1)


async def test_a_borrowed_handle_ends_with_its_call(engine: Engine) -> None:
    store = Store()
    guest = await store.running(engine)
    assert await guest.call("look-and-drop", "abc") == 6
    assert store.dropped == []
    with pytest.raises(GuestTrapped, match="1 borrowed handles were not dropped"):
        await guest.call("forget", "abc")
    guest = await store.running(engine)
    with pytest.raises(GuestTrapped, match="borrowed: it cannot be given away"):
        await guest.call("give-borrowed", "abc")
    assert store.kept == []


async def test_a_hosts_destructor_may_wait_and_may_fail(engine: Engine) -> None:
    dropped = []

    async def slow(cx: object, file: str) -> None:
        await asyncio.sleep(0)
        dropped.append(file)

    def bad(cx: object, file: str) -> None:
        raise OSError(file)

    async def guest_of(drop: Callable[..., object]) -> Running:
        def none(cx: object, *args: object) -> int:
            return 0

        return await run(
            engine, FILES, drops={"file": drop}, open=lambda cx, n: "f" * n, look=none, keep=none, both=none
        )

    guest = await guest_of(slow)
    await guest.call("open", 2)
    await guest.call("drop", 1)
    assert dropped == ["ff"]
    guest = await guest_of(bad)
    await guest.call("open", 2)
    with pytest.raises(OSError, match="ff"):
        await guest.call("drop", 1)


# --- from one component to another

# $Maker defines the resource. $User holds and lends it. $Third only ever borrows it.
SHARED = """
(component
  (import "dropped" (func $dropped (param "rep" u32)))
  (component $Maker
    (import "dropped" (func $dropped (param "rep" u32)))
    (core func $dropped' (canon lower (func $dropped)))
    (core module $Dtor (import "" "d" (func $d (param i32))) (func (export "dtor") (param i32) (call $d (local.get 0))))
    (core instance $dtor (instantiate $Dtor (with "" (instance (export "d" (func $dropped'))))))
    (type $thing (resource (rep i32) (dtor (core func $dtor "dtor"))))
    (export $thing' "thing" (type $thing))
    (core func $new (canon resource.new $thing))
    (core func $rep (canon resource.rep $thing))
    (core module $M
      (import "" "new" (func $new (param i32) (result i32)))
      (import "" "rep" (func $rep (param i32) (result i32)))
      (func (export "make") (param i32) (result i32) (call $new (local.get 0)))
      (func (export "value") (param i32) (result i32) (local.get 0))
      (func (export "take-back") (param i32) (result i32) (call $rep (local.get 0))))
    (core instance $m (instantiate $M (with "" (instance (export "new" (func $new)) (export "rep" (func $rep))))))
    (func (export "make") (param "n" u32) (result (own $thing')) (canon lift (core func $m "make")))
    (func (export "value") (param "t" (borrow $thing')) (result u32) (canon lift (core func $m "value")))
    (func (export "take-back") (param "t" (own $thing')) (result u32) (canon lift (core func $m "take-back"))))
  (component $Third
    (import "thing" (type $thing (sub resource)))
    (import "value" (func $value (param "t" (borrow $thing)) (result u32)))
    (import "take-back" (func $take-back (param "t" (own $thing)) (result u32)))
    (core func $value' (canon lower (func $value)))
    (core func $take-back' (canon lower (func $take-back)))
    (core func $drop (canon resource.drop $thing))
    (core module $M
      (import "" "value" (func $value (param i32) (result i32)))
      (import "" "take-back" (func $take-back (param i32) (result i32)))
      (import "" "drop" (func $drop (param i32)))
      (func (export "look") (param i32) (result i32)
        (call $value (local.get 0)) (call $drop (local.get 0)))
      (func (export "look-and-forget") (param i32) (result i32) (call $value (local.get 0)))
      (func (export "steal") (param i32) (result i32) (call $take-back (local.get 0))))
    (core instance $m (instantiate $M (with "" (instance
      (export "value" (func $value')) (export "take-back" (func $take-back')) (export "drop" (func $drop))))))
    (func (export "look") (param "t" (borrow $thing)) (result u32) (canon lift (core func $m "look")))
    (func (export "look-and-forget") (param "t" (borrow $thing)) (result u32)
      (canon lift (core func $m "look-and-forget")))
    (func (export "steal") (param "t" (borrow $thing)) (result u32) (canon lift (core func $m "steal"))))
  (component $User
    (import "thing" (type $thing (sub resource)))
    (import "make" (func $make (param "n" u32) (result (own $thing))))
    (import "value" (func $value (param "t" (borrow $thing)) (result u32)))
    (import "take-back" (func $take-back (param "t" (own $thing)) (result u32)))
    (import "look" (func $look (param "t" (borrow $thing)) (result u32)))
    (import "look-and-forget" (func $forget (param "t" (borrow $thing)) (result u32)))
    (import "steal" (func $steal (param "t" (borrow $thing)) (result u32)))
    (core func $make' (canon lower (func $make)))
    (core func $value' (canon lower (func $value)))
    (core func $take-back' (canon lower (func $take-back)))
    (core func $look' (canon lower (func $look)))
    (core func $forget' (canon lower (func $forget)))
    (core func $steal' (canon lower (func $steal)))
    (core func $drop (canon resource.drop $thing))
    (core module $M
      (import "" "make" (func $make (param i32) (result i32)))
      (import "" "value" (func $value (param i32) (result i32)))
      (import "" "take-back" (func $take-back (param i32) (result i32)))
      (import "" "look" (func $look (param i32) (result i32)))
      (import "" "forget" (func $forget (param i32) (result i32)))
      (import "" "steal" (func $steal (param i32) (result i32)))
      (import "" "drop" (func $drop (param i32)))
      (func (export "make") (param i32) (result i32) (call $make (local.get 0)))
      (func (export "value") (param i32) (result i32) (call $value (local.get 0)))
      (func (export "take-back") (param i32) (result i32) (call $take-back (local.get 0)))
      (func (export "look") (param i32) (result i32) (call $look (local.get 0)))
      (func (export "forget") (param i32) (result i32) (call $forget (local.get 0)))
      (func (export "steal") (param i32) (result i32) (call $steal (local.get 0)))
      (func (export "drop") (param i32) (call $drop (local.get 0))))
    (core instance $m (instantiate $M (with "" (instance
      (export "make" (func $make')) (export "value" (func $value')) (export "take-back" (func $take-back'))
      (export "look" (func $look')) (export "forget" (func $forget')) (export "steal" (func $steal'))
      (export "drop" (func $drop))))))
    (func (export "make") (param "n" u32) (result u32) (canon lift (core func $m "make")))
    (func (export "value") (param "n" u32) (result u32) (canon lift (core func $m "value")))
    (func (export "take-back") (param "n" u32) (result u32) (canon lift (core func $m "take-back")))
    (func (export "look") (param "n" u32) (result u32) (canon lift (core func $m "look")))
    (func (export "forget") (param "n" u32) (result u32) (canon lift (core func $m "forget")))
    (func (export "steal") (param "n" u32) (result u32) (canon lift (core func $m "steal")))
    (func (export "drop") (param "n" u32) (canon lift (core func $m "drop"))))
  (instance $maker (instantiate $Maker (with "dropped" (func $dropped))))
  (alias export $maker "thing" (type $thing))
  (instance $third (instantiate $Third (with "thing" (type $thing))
    (with "value" (func $maker "value")) (with "take-back" (func $maker "take-back"))))
  (instance $user (instantiate $User (with "thing" (type $thing))
    (with "make" (func $maker "make")) (with "value" (func $maker "value"))
    (with "take-back" (func $maker "take-back")) (with "look" (func $third "look"))
    (with "look-and-forget" (func $third "look-and-forget")) (with "steal" (func $third "steal"))))
  (export "make" (func $user "make"))
  (export "value" (func $user "value"))
  (export "take-back" (func $user "take-back"))
  (export "look" (func $user "look"))
  (export "forget" (func $user "forget"))
  (export "steal" (func $user "steal"))
  (export "drop" (func $user "drop")))
"""


async def test_a_resource_moves_between_components_and_is_dropped_where_it_was_made(engine: Engine) -> None:
    log: list[object] = []

    async def dropped(cx: object, rep: int) -> None:
        await asyncio.sleep(0)
        log.append(rep)

    shared = await run(engine, SHARED, dropped=dropped)
    assert await shared.call("make", 100) == 1
    assert await shared.call("make", 200) == 2
    assert await shared.call("value", 1) == 100
    assert await shared.call("look", 2) == 200
    assert await shared.call("look", 2) == 200
    assert await shared.call("take-back", 1) == 100
    assert log == []
    await shared.call("drop", 2)
    assert log == [200]
    with pytest.raises(GuestTrapped, match="unknown handle index 1"):
        await shared.call("value", 1)


@pytest.mark.parametrize(
    ("name", "rule"),
    [("forget", "1 borrowed handles were not dropped"), ("steal", "borrowed: it cannot be given away")],
)
async def test_a_component_that_borrows_must_give_back(engine: Engine, name: str, rule: str) -> None:
    log: list[object] = []
    shared = await run(engine, SHARED, dropped=lambda cx, rep: log.append(rep))
    assert await shared.call("make", 100) == 1
    with pytest.raises(GuestTrapped, match=rule):
        await shared.call(name, 1)
    assert log == []


# The parent lends what it owns to a child, which calls back into the parent.
LENT = """
(component
  (core module $Shim
    (table (export "t") 1 funcref)
    (func (export "f") (param i32) (call_indirect (param i32) (local.get 0) (i32.const 0))))
  (core module $Fix
    (import "" "t" (table 1 funcref)) (import "" "f" (func $f (param i32))) (elem (i32.const 0) func $f))
  (core instance $shim (instantiate $Shim))
  (type $thing (resource (rep i32)))
  (core func $new (canon resource.new $thing))
  (core func $drop (canon resource.drop $thing))
  (func $back (param "n" u32) (canon lift (core func $shim "f")))
  (component $Child
    (import "thing" (type $thing (sub resource)))
    (import "back" (func $back (param "n" u32)))
    (core func $back' (canon lower (func $back)))
    (core func $drop (canon resource.drop $thing))
    (core module $M
      (import "" "back" (func $back (param i32)))
      (import "" "drop" (func $drop (param i32)))
      (func (export "borrow") (param i32 i32) (call $drop (local.get 0)) (call $back (local.get 1))))
    (core instance $m (instantiate $M (with "" (instance (export "back" (func $back')) (export "drop" (func $drop))))))
    (func (export "borrow") (param "t" (borrow $thing)) (param "n" u32) (canon lift (core func $m "borrow"))))
  (instance $child (instantiate $Child (with "thing" (type $thing)) (with "back" (func $back))))
  (core func $borrow (canon lower (func $child "borrow")))
  (core module $M
    (import "" "new" (func $new (param i32) (result i32)))
    (import "" "drop" (func $drop (param i32)))
    (import "" "borrow" (func $borrow (param i32 i32)))
    (func (export "go") (param i32)
      (local $t i32)
      (local.set $t (call $new (i32.const 7)))
      (drop (call $new (i32.const 8)))
      (call $borrow (local.get $t) (local.get 0))
      (call $drop (local.get $t))))
  (core instance $m (instantiate $M (with "" (instance
    (export "new" (func $new)) (export "drop" (func $drop)) (export "borrow" (func $borrow))))))
  (core instance (instantiate $Fix (with "" (instance (export "t" (table $shim "t")) (export "f" (func $drop))))))
  (func (export "go") (param "n" u32) (canon lift (core func $m "go"))))
"""


async def test_what_is_lent_cannot_be_dropped_until_the_call_is_over(engine: Engine) -> None:
    assert await (await run(engine, LENT)).call("go", 2) is None
    with pytest.raises(GuestTrapped, match="handle 1 is lent to a running call"):
        await (await run(engine, LENT)).call("go", 1)


# $Keeper holds what $Maker made. $Maker's "poke" reaches the parent, which has $Keeper let go.
POKED = """
(component
  (core module $Shim (table (export "t") 1 funcref) (func (export "f") (call_indirect (i32.const 0))))
  (core module $Fix (import "" "t" (table 1 funcref)) (import "" "f" (func $f)) (elem (i32.const 0) func $f))
  (core instance $shim (instantiate $Shim))
  (func $shimmed (canon lift (core func $shim "f")))
  (component $Maker
    (import "poke" (func $poke))
    (core func $poke' (canon lower (func $poke)))
    (type $thing (resource (rep i32)))
    (export $thing' "thing" (type $thing))
    (core func $new (canon resource.new $thing))
    (core module $M
      (import "" "poke" (func $poke))
      (import "" "new" (func $new (param i32) (result i32)))
      (func (export "poke") (call $poke))
      (func (export "make") (result i32) (call $new (i32.const 1))))
    (core instance $m (instantiate $M (with "" (instance (export "poke" (func $poke')) (export "new" (func $new))))))
    (func (export "poke") (canon lift (core func $m "poke")))
    (func (export "make") (result (own $thing')) (canon lift (core func $m "make"))))
  (component $Keeper
    (import "thing" (type $thing (sub resource)))
    (import "make" (func $make (result (own $thing))))
    (core func $make' (canon lower (func $make)))
    (core func $drop (canon resource.drop $thing))
    (core module $M
      (import "" "make" (func $make (result i32)))
      (import "" "drop" (func $drop (param i32)))
      (global $kept (mut i32) (i32.const 0))
      (func (export "keep") (global.set $kept (call $make)))
      (func (export "let-go") (call $drop (global.get $kept))))
    (core instance $m (instantiate $M (with "" (instance (export "make" (func $make')) (export "drop" (func $drop))))))
    (func (export "keep") (canon lift (core func $m "keep")))
    (func (export "let-go") (canon lift (core func $m "let-go"))))
  (instance $maker (instantiate $Maker (with "poke" (func $shimmed))))
  (alias export $maker "thing" (type $thing))
  (instance $keeper (instantiate $Keeper (with "thing" (type $thing)) (with "make" (func $maker "make"))))
  (core func $let-go (canon lower (func $keeper "let-go")))
  (core instance (instantiate $Fix (with "" (instance (export "t" (table $shim "t")) (export "f" (func $let-go))))))
  (export "keep" (func $keeper "keep"))
  (export "let-go" (func $keeper "let-go"))
  (export "poke" (func $maker "poke")))
"""


async def test_dropping_does_not_enter_a_component_that_runs_a_call(engine: Engine) -> None:
    poked = await run(engine, POKED)
    await poked.call("keep")
    await poked.call("let-go")
    await poked.call("keep")
    with pytest.raises(GuestTrapped, match="cannot be entered"):
        await poked.call("poke")


TWICE = """
(component
  (component $Maker
    (type $thing (resource (rep i32)))
    (core func $new (canon resource.new $thing))
    (core func $rep (canon resource.rep $thing))
    (core module $M
      (import "" "new" (func $new (param i32) (result i32)))
      (import "" "rep" (func $rep (param i32) (result i32)))
      (func (export "make") (param i32) (result i32) (call $new (local.get 0)))
      (func (export "rep") (param i32) (result i32) (call $rep (local.get 0))))
    (core instance $m (instantiate $M (with "" (instance (export "new" (func $new)) (export "rep" (func $rep))))))
    (func (export "make") (param "n" u32) (result u32) (canon lift (core func $m "make")))
    (func (export "rep") (param "n" u32) (result u32) (canon lift (core func $m "rep"))))
  (instance $one (instantiate $Maker))
  (instance $two (instantiate $Maker))
  (export "make-one" (func $one "make"))
  (export "rep-one" (func $one "rep"))
  (export "make-two" (func $two "make"))
  (export "rep-two" (func $two "rep")))
"""


async def test_each_instance_of_a_component_has_its_own_type_and_table(engine: Engine) -> None:
    twice = await run(engine, TWICE)
    assert len({id(resource) for resource in twice.instance.bound.component.plan.resources}) == 2
    assert await twice.call("make-one", 5) == 1
    assert await twice.call("make-two", 6) == 1
    assert [await twice.call("rep-one", 1), await twice.call("rep-two", 1)] == [5, 6]
    assert await twice.call("make-one", 7) == 2
    assert await twice.call("rep-one", 2) == 7
    with pytest.raises(GuestTrapped, match="unknown handle index 2"):
        await twice.call("rep-two", 2)
