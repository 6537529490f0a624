"""What a snapshot cannot hold is detected and refused by name; what looks like it but leaves no trace is not."""

from __future__ import annotations

import asyncio
import struct

import pytest
from wasmtime import wat2wasm

from perdure.component.instance import InstanceLimits
from perdure.component.types import ResourceType
from perdure.errors import GuestTrapped, SnapshotError, SnapshotRefused
from support.small_components import component, small

TABLE = """
  (type $f (func (result i32)))
  (table $t 4 8 funcref) (elem (table $t) (i32.const 0) func $one $two) (elem $more funcref (ref.func $two))
  (func $one (result i32) (i32.const 1)) (func $two (result i32) (i32.const 2))
  (global $g (mut i32) (i32.const 0))
  (func (export "at") (param i32) (result i32) (call_indirect $t (type $f) (local.get 0)))
  (func (export "step") (result i32) (global.set $g (i32.add (global.get $g) (i32.const 1))) (global.get $g))
"""


@pytest.mark.parametrize(
    "change",
    [
        "(table.set $t (i32.const 0) (ref.func $two))",
        "(table.set $t (i32.const 1) (ref.null func))",
        "(table.fill $t (i32.const 2) (ref.func $one) (i32.const 2))",
        "(drop (table.grow $t (ref.null func) (i32.const 1)))",
        "(table.copy $t $t (i32.const 0) (i32.const 1) (i32.const 1))",
        "(table.init $t $more (i32.const 3) (i32.const 0) (i32.const 1))",
    ],
)
async def test_a_table_that_was_changed_is_refused_and_one_that_was_not_is_captured(change: str) -> None:
    async with small(component(f'(module {TABLE} (func (export "change") {change}))')) as guest:
        snapshots = await guest.snapshots()
        instance = await guest.instance()
        assert await guest.call(instance, "step") == 1
        taken = snapshots.capture(instance)
        restored, _ = await snapshots.restore([taken.data], None)
        assert await guest.call(restored, "step") == 2 and await guest.call(restored, "at", 1) == 2
        snapshots.capture(restored)
        for one in (instance, restored):
            await guest.call(one, "change")
            with pytest.raises(SnapshotRefused, match="table of core instance 0") as refused:
                snapshots.capture(one)
            assert refused.value.reason == "tables-changed"
            await guest.call(one, "step")  # It goes on all the same.


async def test_a_table_that_is_as_it_was_again_is_captured() -> None:
    back = "(table.set $t (i32.const 0) (ref.func $two)) (table.set $t (i32.const 0) (ref.func $one))"
    async with small(component(f'(module {TABLE} (func (export "change") {back}))')) as guest:
        snapshots, instance = await guest.snapshots(), await guest.instance()
        await guest.call(instance, "change")
        snapshots.capture(instance)


async def test_a_table_that_a_start_function_changes_is_refused() -> None:
    start = "(func $s (table.set $t (i32.const 0) (ref.func $two))) (start $s)"
    async with small(component(f"(module {TABLE} {start})")) as guest:
        snapshots, instance = await guest.snapshots(), await guest.instance()
        assert await guest.call(instance, "at", 0) == 2
        with pytest.raises(SnapshotRefused) as refused:
            snapshots.capture(instance)
        assert refused.value.reason == "tables-changed"


async def test_a_table_that_later_modules_fill_by_segments_is_no_hazard() -> None:
    """As wit-component's shim and fix-up modules do, here in a component whose code could change tables too."""
    before = """
      (core module $shim (table (export "t") 2 funcref) (type $f (func (result i32)))
        (func (export "at") (param i32) (result i32) (call_indirect (type $f) (local.get 0))))
      (core module $fix (import "" "t" (table 2 funcref)) (elem (i32.const 0) $f) (func $f (result i32) (i32.const 7)))
      (core instance $s (instantiate $shim))
      (core instance (instantiate $fix (with "" (instance (export "t" (table $s "t"))))))"""
    module = f"""(module (import "s" "at" (func $far (param i32) (result i32))) {TABLE}
      (func (export "relay") (result i32) (call $far (i32.const 0)))
      (func (export "change") (table.set $t (i32.const 0) (ref.null func))))"""
    data = component(module, before=before, imports='(with "s" (instance (export "at" (func $s "at"))))')
    async with small(data) as guest:
        snapshots, instance = await guest.snapshots(), await guest.instance()
        assert await guest.call(instance, "relay") == 7
        restored, _ = await snapshots.restore([snapshots.capture(instance).data], None)
        assert await guest.call(restored, "relay") == 7


@pytest.mark.parametrize(
    ("kind", "value", "captured"),
    [
        ("funcref", "(ref.func $f)", False),
        ("funcref", "(ref.null func)", True),
        ("externref", "(ref.null extern)", True),
        ("anyref", "(ref.i31 (i32.const 4))", False),
    ],
)
async def test_a_global_that_holds_a_reference_is_watched(kind: str, value: str, captured: bool) -> None:
    null = {"funcref": "func", "externref": "extern", "anyref": "any"}[kind]
    module = f"""(module (global $g (mut {kind}) (ref.null {null})) (func $f) (elem declare func $f)
      (func (export "change") (global.set $g {value})))"""
    async with small(component(module)) as guest:
        snapshots, instance = await guest.snapshots(), await guest.instance()
        snapshots.capture(instance)
        await guest.call(instance, "change")
        if captured:
            snapshots.capture(instance)
            return
        with pytest.raises(SnapshotRefused, match="global of core instance 0"):
            snapshots.capture(instance)


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        ('(module (memory 1) (data $d "x") (func (memory.init $d (i32.const 0) (i32.const 0) (i32.const 1)) (data.drop $d)))', "segments-dropped"),
        ("(module (type $s (struct (field (mut i32)))) (global (mut (ref null $s)) (ref.null $s)))", "gc-objects"),
    ],
)  # fmt: skip
async def test_components_that_can_never_be_captured_are_refused_at_once(module: str, reason: str) -> None:
    async with small(component(module)) as guest:
        await guest.instance()
        with pytest.raises(SnapshotRefused, match="instances of this component") as refused:
            await guest.snapshots()
        assert refused.value.reason == reason


async def test_segments_that_need_what_a_start_function_does_are_refused() -> None:
    """The second module's data lies in memory that the first one's start function has grown."""
    before = """(core module $a (memory (export "m") 1) (func $s (drop (memory.grow (i32.const 1)))) (start $s))
      (core instance $x (instantiate $a))"""
    module = '(module (import "x" "m" (memory 1)) (data (i32.const 65536) "late") (func (export "f")))'
    async with small(component(module, before=before, imports='(with "x" (instance $x))')) as guest:
        await guest.instance()
        with pytest.raises(SnapshotRefused) as refused:
            await guest.snapshots()
        assert refused.value.reason == "start-dependent"


START = """(module (import "h" "ask" (func $ask (result i32)))
  (memory 1) (data (i32.const 8) "data") (global $g (mut i32) (i32.const 0))
  (func $s (global.set $g (call $ask)) (i32.store (i32.const 0) (call $ask)) (drop (memory.grow (i32.const 2))))
  (start $s)
  (func (export "told") (result i32) (i32.add (global.get $g) (i32.load (i32.const 0)))))"""


async def test_a_start_function_that_traps_ends_the_instance_as_ever() -> None:
    async with small(component("(module (func $s unreachable) (start $s))")) as guest:
        with pytest.raises(GuestTrapped, match="unreachable"):
            await guest.instance()
        await guest.snapshots()


async def test_restoring_runs_no_start_function() -> None:
    asked = []

    def ask(context: object) -> int:
        asked.append(context)
        return len(asked)

    data = component(
        START,
        before='(import "ask" (func $ask (result u32))) (core func $lowered (canon lower (func $ask)))',
        imports='(with "h" (instance (export "ask" (func $lowered))))',
    )
    async with small(data, ask=ask) as guest:
        snapshots = await guest.snapshots()
        assert asked == []
        instance = await guest.instance()
        assert len(asked) == 2 and await guest.call(instance, "told") == 3
        taken = snapshots.capture(instance)
        restored, _ = await snapshots.restore([taken.data], None)
        assert await guest.call(restored, "told") == 3 and len(asked) == 2
        assert snapshots.capture(restored).data == taken.data
        assert taken.state.memories[0].size == 3 << 16


async def test_a_start_function_may_be_the_hosts_and_may_wait() -> None:
    asked = []

    async def ask(context: object) -> None:
        await asyncio.sleep(0.001)
        asked.append(context)

    data = component(
        '(module (import "h" "ask" (func $ask)) (start $ask) (func (export "f") (result i32) (i32.const 3)))',
        before='(import "ask" (func $ask)) (core func $lowered (canon lower (func $ask)))',
        imports='(with "h" (instance (export "ask" (func $lowered))))',
    )
    async with small(data, ask=ask) as guest:
        snapshots, instance = await guest.snapshots(), await guest.instance()
        assert asked == [None] and await guest.call(instance, "f") == 3
        await snapshots.restore([snapshots.capture(instance).data], None)
        assert asked == [None]


HIDDEN = """(module
  (global $a (mut i32) (i32.const 1)) (global $b (mut i64) (i64.const 2)) (global $c (mut f32) (f32.const 3))
  (global $d (mut f64) (f64.const 4)) (global $v (mut v128) (v128.const i64x2 5 6)) (global $still i32 (i32.const 9))
  (memory $m 1) (memory $n 1 3) (memory $w i64 1) (memory $z 0)
  (func (export "set") (param i32) (param i64) (param f32) (param f64)
    (global.set $a (local.get 0)) (global.set $b (local.get 1)) (global.set $c (f32.reinterpret_i32 (i32.const 0x7fa00001)))
    (global.set $d (local.get 3)) (global.set $v (i64x2.splat (local.get 1)))
    (i64.store $n offset=4000 (i32.const 0) (local.get 1)) (i64.store $w offset=70 (i64.const 0) (local.get 1))
    (drop (memory.grow $n (i32.const 1))) (i32.store $n (i32.const 131064) (local.get 0))
    (drop (memory.grow $z (i32.const 1))) (i32.store8 $z (i32.const 65535) (local.get 0)))
  (func (export "bits") (result i32) (i32.reinterpret_f32 (global.get $c)))
  (func (export "sum") (result i64)
    (i64.add (i64.add (global.get $b) (i64x2.extract_lane 1 (global.get $v)))
             (i64.add (i64.load $n offset=4000 (i32.const 0)) (i64.load $w offset=70 (i64.const 0)))))
  (func (export "last") (result i32) (i32.load $n (i32.const 131064))))"""


async def test_state_that_is_not_exported_is_reached_in_every_type() -> None:
    async with small(component(HIDDEN)) as guest:
        snapshots, instance = await guest.snapshots(), await guest.instance()
        first = snapshots.capture(instance)
        assert all(not memory.pages for memory in first.state.memories)
        await guest.call(instance, "set", 11, 1 << 40, 0.5, -0.25)
        taken = snapshots.capture(instance, parent=first)
        assert [sorted(memory.pages) for memory in taken.state.memories] == [[], [0, 31], [0], [15]]
        kept = [taken.state.globals[at : at + 16] for at in range(0, len(taken.state.globals), 16)]
        assert kept[0] == struct.pack("<I12x", 11) and kept[3] == struct.pack("<d8x", -0.25)
        assert kept[2] == struct.pack("<I12x", 0x7FA00001), "the payload of a NaN is kept"
        assert kept[4] == struct.pack("<QQ", 1 << 40, 1 << 40) and len(kept) == 5
        restored, _ = await snapshots.restore([first.data, taken.data], None)
        assert await guest.call(restored, "bits") == 0x7FA00001 and await guest.call(restored, "last") == 11
        assert await guest.call(restored, "sum") == 4 << 40


async def test_a_page_that_is_as_it_was_at_first_is_taken_back_by_a_delta() -> None:
    module = '(module (memory 1) (data (i32.const 5000) "abc") (func (export "put") (param i32) (i32.store8 (i32.const 5000) (local.get 0))))'
    async with small(component(module)) as guest:
        snapshots, instance = await guest.snapshots(), await guest.instance()
        await guest.call(instance, "put", 0)
        changed = snapshots.capture(instance)
        await guest.call(instance, "put", ord("a"))
        back = snapshots.capture(instance, parent=changed)
        assert changed.state.memories[0].pages and not back.state.memories[0].pages
        restored, joined = await snapshots.restore([changed.data, back.data], None)
        assert snapshots.capture(restored).data == snapshots.capture(instance).data
        assert snapshots.merge([changed.data, back.data]).data == snapshots.capture(instance).data
        await guest.call(restored, "put", 7)
        further = snapshots.capture(restored, parent=joined)
        again, _ = await snapshots.restore([changed.data, back.data, further.data], None)
        assert snapshots.capture(again).data == snapshots.capture(restored).data


async def test_one_module_in_two_places_has_two_states() -> None:
    before = """(core module $c (global $g (mut i32) (i32.const 0)) (memory 1)
        (func (export "step") (result i32) (global.set $g (i32.add (global.get $g) (i32.const 1)))
          (i32.store (i32.const 0) (global.get $g)) (i32.load (i32.const 0))))
      (core instance $x (instantiate $c)) (core instance $y (instantiate $c))"""
    module = """(module (import "x" "step" (func $x (result i32))) (import "y" "step" (func $y (result i32)))
      (func (export "x") (result i32) (call $x)) (func (export "y") (result i32) (call $y)))"""
    async with small(
        component(module, before=before, imports='(with "x" (instance $x)) (with "y" (instance $y))')
    ) as guest:
        snapshots, instance = await guest.snapshots(), await guest.instance()
        assert [await guest.call(instance, name) for name in "xxxy"] == [1, 2, 3, 1]
        restored, _ = await snapshots.restore([snapshots.capture(instance).data], None, limits=InstanceLimits())
        assert [await guest.call(restored, name) for name in "xy"] == [4, 2]


HELD = """(component
  (import "files" (instance $files (export "file" (type $f (sub resource))) (export "open" (func (result (own $f))))))
  (alias export $files "open" (func $open))
  (core func $open' (canon lower (func $open)))
  (core module $M (import "" "open" (func $open (result i32)))
    (memory 4) (func (export "open") (result i32) (call $open)))
  (core instance $m (instantiate $M (with "" (instance (export "open" (func $open'))))))
  (func (export "open") (result u32) (canon lift (core func $m "open"))))"""


async def test_a_resource_of_the_host_is_not_opened_without_a_codec() -> None:
    class Codec:
        def encode(self, resource: ResourceType, representation: object) -> bytes:
            return b"file"

        def decode(self, context: object, resource: ResourceType, data: bytes) -> object:
            return data

    async with small(bytes(wat2wasm(HELD)), open=lambda cx: "file") as guest:
        snapshots, instance = await guest.snapshots(), await guest.instance()
        assert await guest.call(instance, "open") == 1
        taken = snapshots.capture(instance, codec=Codec())
        with pytest.raises(SnapshotError, match="files file.*without a codec") as refused:
            await snapshots.restore([taken.data], None)
        assert refused.value.reason == "host-resource"
        again, _ = await snapshots.restore([taken.data], None, codec=Codec())
        assert await guest.call(again, "open") == 2


async def test_limits_are_those_of_the_instance_that_is_restored() -> None:
    memories = " ".join(["(memory 1)"] * 40)
    text = component(f'(module {memories} (table 2000 funcref) (func (export "f") (result i32) (i32.const 3)))')
    limits = InstanceLimits(memories=40)
    async with small(text) as guest:
        snapshots = await guest.snapshots()
        instance = await guest.bound.instantiate(None, limits=limits)
        taken = snapshots.capture(instance)
        again, _ = await snapshots.restore([taken.data], None, limits=limits)
        assert await guest.call(again, "f") == 3
        for less in (InstanceLimits(), InstanceLimits(memories=40, memory=1000), InstanceLimits(memories=40, tables=0)):
            with pytest.raises(SnapshotError, match="limits do not allow") as refused:
                await snapshots.restore([taken.data], None, limits=less)
            assert refused.value.reason == "limit"


async def test_snapshots_of_one_component_are_of_no_other() -> None:
    """The other one's state is numbered alike: nothing but its digest tells them apart."""
    one, other = (component(f'(module (memory 1) (func (export "{name}")))') for name in ("one", "other"))
    async with small(one) as guest, small(other) as stranger:
        snapshots, theirs = await guest.snapshots(), await stranger.snapshots()
        instance, strange = await guest.instance(), await stranger.instance()
        with pytest.raises(ValueError, match=f"instance: it is of component {stranger.bound.component.digest}"):
            snapshots.capture(strange)
        with pytest.raises(ValueError, match="parent: a snapshot of another component"):
            snapshots.capture(instance, parent=theirs.capture(strange))
        snapshots.capture(instance, parent=snapshots.capture(instance))


async def test_nothing_is_read_of_an_initial_image_that_was_freed() -> None:
    async with small(
        component(f'(module (memory 1) {TABLE} (func (export "f") (i32.store (i32.const 0) (i32.const 9))))')
    ) as guest:
        snapshots, instance = await guest.snapshots(), await guest.instance()
        taken = snapshots.capture(instance)
        snapshots.close()
        snapshots.close()
        with pytest.raises(RuntimeError, match="closed"):
            snapshots.capture(instance)
        with pytest.raises(RuntimeError, match="closed"):
            snapshots.merge([taken.data])
        with pytest.raises(RuntimeError, match="closed"):
            await snapshots.restore([taken.data], None)
