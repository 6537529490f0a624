"""Reading core code instruction by instruction, and the rewriting of modules."""

from __future__ import annotations

import pytest
import wasmtime
from hypothesis import given, settings
from hypothesis import strategies as st
from wasmtime import wat2wasm

from perdure.component.coremodule import expose, function_bodies, read_module
from perdure.component.decode import decode_component
from perdure.component.engine import Engine
from perdure.component.instructions import (
    DATA_DROP,
    ELEM_DROP,
    MEMORY_INIT,
    TABLE_COPY,
    TABLE_FILL,
    TABLE_GROW,
    TABLE_INIT,
    TABLE_SET,
    Instruction,
    notable_instructions,
)
from perdure.component.link import link
from perdure.component.scan import Hazards, hazards
from perdure.errors import ComponentError
from support.guests import guest

FRAME = """(module
  (type $f (func)) (type $s (struct (field (mut i32)) (field i8))) (type $a (array (mut i32))) (type $b (array (mut funcref)))
  (memory $m 1) (memory $n 1) (memory $w i64 1)
  (table $t 2 funcref) (table $u 2 funcref) (table $x i64 1 funcref)
  (global $g (mut i32) (i32.const 0)) (tag $tag (param i32))
  (data $d "abc") (elem $e funcref (ref.func $callee))
  (func $callee (type $f))
  (func (param $i i32) (param $l i64) (param $f32 f32) (param $v v128) (param $r (ref null $f)) (param $any anyref)
    (local $s (ref null $s)) (local $a (ref null $a)) (local $b (ref null $b)) (local $x externref)
    BODY))"""
# One or more of each shape of immediates; every one ends the stack as it began.
SNIPPETS = [
    "nop",
    "(block (block (br_table 0 1 0 1 0 (local.get $i))))",
    "(block (br_table 0 (local.get $i)))",
    "(block (result i32) (i32.const -2147483648)) drop",
    "(block (param) (result i32 i64) (i32.const 1) (i64.const -9223372036854775808)) drop drop",
    "(loop (br_if 0 (i32.const 0)))",
    "(if (result funcref) (local.get $i) (then (ref.null func)) (else (ref.func $callee))) drop",
    "(block (result (ref null $f)) (local.get $r)) drop",
    "(drop (select (result (ref null $f)) (local.get $r) (local.get $r) (local.get $i)))",
    "(drop (select (local.get $i) (i32.const 5) (local.get $i)))",
    "(drop (f32.const nan:0x200000)) (drop (f64.const -0x1.fffffffffffffp+1023))",
    "(drop (i32.load offset=4294967295 align=1 (local.get $i)))",
    "(drop (i64.load8_s $n offset=128 (local.get $i)))",
    "(f32.store $w offset=1099511627776 (local.get $l) (local.get $f32))",
    "(drop (memory.grow $n (i32.const 0))) (drop (memory.size $w))",
    "(call $callee) (call_indirect $u (type $f) (i32.const 0))",
    "(call_ref $f (local.get $r))",
    "(block (br_on_null 0 (local.get $r)) drop)",
    "(block (result (ref $f)) (br_on_non_null 0 (local.get $r)) (ref.func $callee)) drop",
    "(drop (ref.is_null (ref.null extern))) (drop (ref.as_non_null (local.get $r)))",
    "(drop (table.get $u (i32.const 0))) (drop (table.size $x))",
    "(global.set $g (global.get $g))",
    "(memory.copy $m $n (i32.const 0) (i32.const 0) (i32.const 0)) (memory.fill $n (i32.const 0) (i32.const 0) (i32.const 0))",
    "(drop (i32.trunc_sat_f32_s (local.get $f32)))",
    "(i64.add128 (local.get $l) (local.get $l) (local.get $l) (local.get $l)) drop drop",
    "(i64.mul_wide_s (local.get $l) (local.get $l)) drop drop",
    "(drop (v128.const i8x16 38 0 252 9 252 13 38 1 11 11 11 252 17 252 12 252))",
    "(drop (i8x16.shuffle 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 31 (local.get $v) (local.get $v)))",
    "(drop (i8x16.extract_lane_u 15 (local.get $v))) (drop (f64x2.replace_lane 1 (local.get $v) (f64.const 0)))",
    "(drop (v128.load8_lane $n offset=300 7 (local.get $i) (local.get $v)))",
    "(v128.store64_lane offset=5 1 (local.get $i) (local.get $v))",
    "(drop (v128.load $w offset=9 (local.get $l))) (drop (v128.load32_zero (local.get $i)))",
    "(drop (i32x4.dot_i16x8_s (local.get $v) (local.get $v))) (drop (f64x2.promote_low_f32x4 (local.get $v)))",
    "(block $h (result i32) (block $l (result i32 exnref) (block $k (result exnref) (block $j (try_table (catch $tag $h) (catch_ref $tag $l) (catch_all $j) (catch_all_ref $k) (throw $tag (i32.const 1))) (return)) (return)) throw_ref) drop) drop",
    "(block (try_table (catch_all 0) nop))",
    "(local.set $s (struct.new $s (i32.const 1) (i32.const 2))) (struct.set $s 0 (local.get $s) (struct.get_s $s 1 (local.get $s)))",
    "(local.set $a (array.new_fixed $a 3 (i32.const 1) (i32.const 2) (i32.const 3))) (drop (array.len (local.get $a)))",
    "(array.copy $a $a (local.get $a) (i32.const 0) (local.get $a) (i32.const 0) (i32.const 0))",
    "(local.set $a (array.new_data $a $d (i32.const 0) (i32.const 0))) (array.fill $a (local.get $a) (i32.const 0) (i32.const 0) (i32.const 0))",
    "(array.init_elem $b $e (local.get $b) (i32.const 0) (i32.const 0) (i32.const 0))",
    "(drop (ref.test (ref null $s) (local.get $any))) (drop (ref.cast (ref null i31) (local.get $any)))",
    "(block (result anyref) (br_on_cast 0 anyref (ref null $s) (local.get $any))) drop",
    "(block (result anyref) (br_on_cast_fail 0 anyref (ref $a) (local.get $any))) drop",
    "(drop (i31.get_u (ref.i31 (local.get $i)))) (drop (any.convert_extern (local.get $x))) (drop (ref.eq (ref.null eq) (ref.null eq)))",
    "(drop (i32.extend8_s (i32.wrap_i64 (i64.extend32_s (local.get $l)))))",
    "(block $never (br_if $never (i32.const 1)) (return_call $callee))",
]  # fmt: skip
NOTABLE = [
    ("(table.set $u (i32.const 0) (ref.null func))", Instruction(TABLE_SET, (1,))),
    ("(table.fill $u (i32.const 0) (ref.null func) (i32.const 1))", Instruction(TABLE_FILL, (1,))),
    ("(drop (table.grow $x (ref.null func) (i64.const 1)))", Instruction(TABLE_GROW, (2,))),
    ("(table.copy $t $u (i32.const 0) (i32.const 0) (i32.const 1))", Instruction(TABLE_COPY, (0, 1))),
    ("(table.init $u $e (i32.const 0) (i32.const 0) (i32.const 1))", Instruction(TABLE_INIT, (0, 1))),
    ("(elem.drop $e)", Instruction(ELEM_DROP, (0,))),
    ("(memory.init $n $d (i32.const 0) (i32.const 0) (i32.const 1))", Instruction(MEMORY_INIT, (0, 1))),
    ("(data.drop $d)", Instruction(DATA_DROP, (0,))),
]


def found_in(body: str) -> list[Instruction]:
    module = bytes(wat2wasm(FRAME.replace("BODY", body)))
    *_, last = function_bodies(module)
    found = list(notable_instructions(last))
    assert last.left == 0
    return found


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_an_instruction_ends_where_the_next_begins(snippet: str) -> None:
    """What follows is seen, and nothing is seen within its immediates."""
    assert found_in(snippet) == []
    written, instruction = NOTABLE[0]
    assert found_in(f"{written} {snippet} {written}") == [instruction, instruction]


def test_the_instructions_tried_are_valid() -> None:
    body = " ".join([*SNIPPETS, *(written for written, _ in NOTABLE)])
    with Engine() as engine:
        wasmtime.Module.validate(engine.wasmtime, bytes(wat2wasm(FRAME.replace("BODY", body))))


@pytest.mark.parametrize(("written", "instruction"), NOTABLE, ids=[written[1:12] for written, _ in NOTABLE])
def test_what_matters_is_found_with_its_operands(written: str, instruction: Instruction) -> None:
    assert found_in(f"{SNIPPETS[1]} {written} {SNIPPETS[26]}") == [instruction]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(SNIPPETS) | st.sampled_from([written for written, _ in NOTABLE]), max_size=30))
def test_any_sequence_is_read(pieces: list[str]) -> None:
    wanted = [dict(NOTABLE)[piece] for piece in pieces if piece in dict(NOTABLE)]
    assert found_in(" ".join(pieces)) == wanted


@pytest.mark.parametrize(
    "code", [b"\xfe\x10\x02\x00", b"\x06\x40", b"\xfc\x12\x00", b"\xfd\x80\x02", b"\xe0\x00", b"\xff"]
)
def test_an_unknown_instruction_is_said_to_be_unknown(code: bytes) -> None:
    """E.g. atomics, legacy exceptions, `memory.discard`, relaxed SIMD, stack switching: none is enabled."""
    module = bytearray(wat2wasm("(module (func nop nop nop nop nop nop nop nop))"))
    at = module.index(b"\x01\x01\x01\x01")
    module[at : at + len(code)] = code
    (body,) = function_bodies(bytes(module))
    *_, last = notable_instructions(body)
    assert last.operands is None
    found = hazards([(bytes(module), read_module(bytes(module)))])
    assert found.refusal is not None and found.refusal[0] == "unknown-instruction"


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        ('(module (memory 1) (data $d "x") (func (memory.init $d (i32.const 0) (i32.const 0) (i32.const 1)) (data.drop $d)))', "segments-dropped"),
        ("(module (table 1 funcref) (elem $e funcref (ref.null func)) (func (table.init $e (i32.const 0) (i32.const 0) (i32.const 1)) (elem.drop $e)))", "segments-dropped"),
        ("(module (type (struct)))", "gc-objects"),
        ("(module (rec (type (func)) (type (sub (array i8)))))", "gc-objects"),
    ],
)  # fmt: skip
def test_what_can_never_be_captured_is_named(module: str, reason: str) -> None:
    data = bytes(wat2wasm(module))
    found = hazards([(data, read_module(data))])
    assert found.refusal is not None and found.refusal[0] == reason
    assert Hazards.from_text(found.to_text()) == found


@pytest.mark.parametrize(
    "module",
    [
        '(module (memory 1) (data $d "x") (func (memory.init $d (i32.const 0) (i32.const 0) (i32.const 1))))',
        '(module (memory 1) (data $d "x") (func (data.drop $d)))',
        "(module (type (func (param (ref null func)) (result i32))) (rec (type (func))))",
    ],
)
def test_what_leaves_no_trace_is_no_hazard(module: str) -> None:
    data = bytes(wat2wasm(module))
    assert hazards([(data, read_module(data))]) == Hazards()
    assert Hazards.from_text("[0, null, []]") is None and Hazards.from_text("{") is None


def test_the_real_guests_have_no_hazard() -> None:
    for name in ("kv-g1", "kv-g4", "state", "values"):
        plan = link(decode_component(guest(name).read_bytes()))
        assert hazards([(module, read_module(module)) for module in plan.modules]) == Hazards()


MODULES = [
    "(module)",
    "(module (memory 1))",
    "(module (global (mut i64) (i64.const 1)) (global i32 (i32.const 0)) (func))",
    '(module (import "a" "g" (global (mut i32))) (global (mut f32) (f32.const 1)) (export "g" (global 0)))',
    '(module (func $f) (start $f) (export "f" (func $f)) (data "x"))',
    "(module (table 3 funcref) (elem (i32.const 0) $f) (func $f) (start $f))",
    '(module (import "a" "f" (func $f)) (start $f))',
    "(module (global (mut funcref) (ref.null func)) (tag) (memory i64 1) (memory 2) (global (mut v128) (v128.const i64x2 1 2)))",
    '(module (global i32 (i32.add (i32.const 1) (i32.mul (i32.const 2) (i32.const 3)))) (@custom "x" "y") (memory 1) (@custom "z" "y"))',
    '(module (memory (export "\\01@m0") 1))',
    '(module (memory 1) (func (export "\\01@@") ))',
]  # fmt: skip


@pytest.mark.parametrize("text", MODULES)
def test_a_rewritten_module_is_valid_and_has_all_its_state_exported(text: str) -> None:
    data = bytes(wat2wasm(text))
    core = read_module(data)
    exposed = expose(data, core)
    with Engine() as engine:
        before, after = wasmtime.Module(engine.wasmtime, data), wasmtime.Module(engine.wasmtime, exposed)
        names = [one.name for one in after.exports]
        assert names[: len(before.exports)] == [one.name for one in before.exports]
        added = names[len(before.exports) :]
        everything = len(core.memories) + len(core.globals) + len(core.reference_globals) + len(core.tables)
        assert len(added) == everything + (core.start is not None)
        assert read_module(exposed).start is None


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(MODULES + [FRAME.replace("BODY", " ".join(SNIPPETS))]), st.data())
def test_damaged_modules_are_refused_by_name(text: str, data: st.DataObject) -> None:
    good = bytearray(wat2wasm(text))
    for _ in range(data.draw(st.integers(0, 3))):
        good[data.draw(st.integers(8, len(good) - 1)) if len(good) > 8 else 7] = data.draw(st.integers(0, 255))
    cut = bytes(good[: data.draw(st.integers(8, len(good)))])
    try:
        core = read_module(cut)
        expose(cut, core)
        hazards([(cut, core)])
    except ComponentError:
        return
