"""Guests that do what they should not, in WebAssembly text.

Every choice a guest makes comes from a generator within it, which the export `seed` sets: one compiled guest has any
number of behaviours, and a case is (guest, seed). It chooses what `realloc` and its functions return, what memory
holds, and, each time it is entered (from an export, `realloc`, post-return or a destructor), whether to trap, spin,
exhaust the stack, grow memory, call imports with wild arguments, or use handles it does not have.
"""

from __future__ import annotations

from dataclasses import dataclass

from perdure.component.types import BorrowType, OwnType, ResourceType, ValueType
from support.generated import abi
from support.generated.source import Source, one_in, pick
from support.generated.values import signature, value_type
from support.generated.wat import ENCODINGS, TypeText

EXPORTS = IMPORTS = 3

_HOST = ResourceType("host", "held")
_GUEST = ResourceType(None, "made")
_MODULE = """
  (core module $guest
    (memory (export "memory") 1)
    (table $table (export "table") {slots} funcref)
    (global $state (mut i64) (i64.const 88172645463325252))
    (global $spice (mut i32) (i32.const 0))
    (global $next (mut i32) (i32.const 16384))
    (global $last (mut i32) (i32.const 0))
    (func $random (result i64)
      (global.set $state (i64.xor (global.get $state) (i64.shl (global.get $state) (i64.const 13))))
      (global.set $state (i64.xor (global.get $state) (i64.shr_u (global.get $state) (i64.const 7))))
      (global.set $state (i64.xor (global.get $state) (i64.shl (global.get $state) (i64.const 17))))
      (i64.mul (global.get $state) (i64.const 2685821657736338717)))
    (func $some (param $bits i64) (result i32)
      (i32.wrap_i64 (i64.and (i64.shr_u (call $random) (i64.const 20)) (local.get $bits))))
    (func $end (result i32) (i32.mul (memory.size) (i32.const 65536)))
    ;; A number of the kinds that break things: small, aligned, odd, at the end of memory, beyond it, negative.
    (func $wild (result i32) (local $r i32)
      (local.set $r (call $some (i64.const 0xffffffff)))
      (block $15 (block $14 (block $13 (block $12 (block $11 (block $10 (block $9 (block $8 (block $7 (block $6
        (block $4 (block $0
          (br_table $0 $0 $0 $0 $4 $4 $6 $7 $8 $9 $10 $11 $12 $13 $14 $15
            (i32.and (call $some (i64.const 15)) (i32.const 15))))
        (return (i32.and (local.get $r) (i32.const 7))))
        (return (i32.and (local.get $r) (i32.const 0xfff8))))
        (return (i32.and (local.get $r) (i32.const 0xffff))))
        (return (i32.sub (call $end) (i32.and (local.get $r) (i32.const 15)))))
        (return (i32.add (call $end) (i32.and (local.get $r) (i32.const 15)))))
        (return (i32.const 0x80000000)))
        (return (i32.sub (i32.const -1) (i32.and (local.get $r) (i32.const 15)))))
        (return (i32.const 0x7fffffff)))
        (return (local.get $r)))
        (return (global.get $last)))
        (return (i32.const 0x10000000)))
      (i32.and (local.get $r) (i32.const 255)))
    ;; Mostly a small number or an aligned address, so that what is laid out of it is often almost right.
    (func $likely (result i32) (local $r i32)
      (local.set $r (call $some (i64.const 31)))
      (if (i32.eqz (local.get $r)) (then (return (call $wild))))
      (if (i32.lt_u (local.get $r) (i32.const 6)) (then (return (call $some (i64.const 0x3ff8)))))
      (if (i32.lt_u (local.get $r) (i32.const 12)) (then (return (call $some (i64.const 3)))))
      (call $some (i64.const 1)))
    ;; Pointer and length, over and over: every list is long, and its elements are the same list.
    (func $mirror (local $at i32)
      (loop $more
        (i32.store offset=4 (local.get $at) (i32.const 0x7ff))
        (br_if $more (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8))) (i32.const 16384)))))
    ;; Mostly an aligned address of the filled part of memory.
    (func $place (result i32)
      (if (result i32) (call $some (i64.const 7))
        (then (i32.and (call $some (i64.const 0x3ff8)) (i32.const 0x3ff8)))
        (else (call $wild))))
    (func $fill (param $at i32) (param $words i32)
      (loop $more
        (i32.store (local.get $at) (call $likely))
        (local.set $at (i32.add (local.get $at) (i32.const 4)))
        (br_if $more (local.tee $words (i32.sub (local.get $words) (i32.const 1))))))
    (func $deep (param i64) (result i64) (i64.add (call $deep (local.get 0)) (i64.const 1)))
    (func $dive (param $levels i32) (result i64)
      (if (result i64) (local.get $levels)
        (then (i64.add (call $dive (i32.sub (local.get $levels) (i32.const 1))) (i64.const 1)))
        (else (call $import0) (i64.const 0))))
{callers}
    (func $act (local $what i32)
      (if (i32.ge_u (call $some (i64.const 255)) (global.get $spice)) (then (return)))
      (local.set $what (call $some (i64.const 15)))
      (if (i32.eq (local.get $what) (i32.const 0)) (then (unreachable)))
      (if (i32.eq (local.get $what) (i32.const 1)) (then
        (if (i32.eqz (call $some (i64.const 15))) (then (loop $for_ever (br $for_ever))))))
      (if (i32.eq (local.get $what) (i32.const 2)) (then (drop (call $deep (i64.const 0)))))
      (if (i32.eq (local.get $what) (i32.const 3)) (then (call $import0)))
      (if (i32.eq (local.get $what) (i32.const 4)) (then (call $import1)))
      (if (i32.eq (local.get $what) (i32.const 5)) (then (call $import2)))
      (if (i32.eq (local.get $what) (i32.const 6)) (then (drop (call $dive (call $some (i64.const 0x7fff))))))
      (if (i32.eq (local.get $what) (i32.const 7)) (then
        (call_indirect (param i32) (call $wild) (i32.const 3))))
      (if (i32.eq (local.get $what) (i32.const 8)) (then
        (call_indirect (param i32) (call $wild) (i32.const 4))))
      (if (i32.eq (local.get $what) (i32.const 9)) (then
        (global.set $last (call_indirect (param i32) (result i32) (call $wild) (i32.const 5)))))
      (if (i32.eq (local.get $what) (i32.const 10)) (then
        (drop (call_indirect (param i32) (result i32) (call $wild) (i32.const 6)))))
      (if (i32.eq (local.get $what) (i32.const 11)) (then (drop (memory.grow (call $some (i64.const 3))))))
      (if (i32.eq (local.get $what) (i32.const 12)) (then (call $fill (call $some (i64.const 0x7fff)) (i32.const 64))))
      (if (i32.eq (local.get $what) (i32.const 13)) (then (drop (i32.load (call $end)))))
      (if (i32.eq (local.get $what) (i32.const 14)) (then
        (call_indirect (param i32) (global.get $last) (i32.add (i32.const 3) (call $some (i64.const 1))))))
      (if (i32.eq (local.get $what) (i32.const 15)) (then
        (drop (table.grow $table (ref.null func) (call $wild))))))
    (func (export "realloc") (param $old i32) (param $had i32) (param $align i32) (param $size i32) (result i32)
      (local $at i32)
      (call $act)
      (if (i32.and (i32.ne (global.get $spice) (i32.const 0)) (i32.eqz (call $some (i64.const 31))))
        (then (return (call $wild))))
      (local.set $at (i32.and (i32.add (global.get $next) (i32.sub (local.get $align) (i32.const 1)))
                              (i32.sub (i32.const 0) (local.get $align))))
      (global.set $next (i32.add (local.get $at) (local.get $size)))
      (if (i32.gt_u (global.get $next) (i32.const 60000)) (then (global.set $next (i32.const 16384))))
      (global.set $last (local.get $at))
      (local.get $at))
    (func (export "begin") (local $entropy i64)
      (local.set $entropy (call_indirect (result i64) (i32.const 7)))
      (global.set $state (i64.or (local.get $entropy) (i64.const 1)))
      (if (i64.eqz (i64.and (local.get $entropy) (i64.const 7))) (then
        (global.set $spice (i32.const 128))
        (call $act) (call $act) (call $act) (call $act))))
    (func (export "dtor") (param i32) (call $act))
    (func (export "seed") (param i64 i32)
      (global.set $state (i64.or (local.get 0) (i64.const 1)))
      (call $fill (i32.const 0) (i32.const 4096))
      (if (i32.eqz (call $some (i64.const 15))) (then (call $mirror)))
      (drop (call_indirect (param i32) (result i32) (i32.const 7) (i32.const 5)))
      (drop (call_indirect (param i32) (result i32) (i32.const 9) (i32.const 5)))
      (global.set $spice (local.get 1)))
{functions})
"""
_WILD = {
    "i32": "(call $likely)",
    "i64": "(call $random)",
    "f32": "(f32.reinterpret_i32 (i32.wrap_i64 (call $random)))",
    "f64": "(f64.reinterpret_i64 (call $random))",
}


@dataclass(frozen=True)
class _Function:
    params: tuple[ValueType, ...]
    result: ValueType | None

    def core(self, *, lowered: bool) -> tuple[list[str], list[str], bool]:
        """(params, results, whether the result is a pointer) of the core function."""
        params = [core for kind in self.params for core in abi.cores(abi.shape(kind))]
        params = ["i32"] if len(params) > 16 else params
        results = [] if self.result is None else abi.cores(abi.shape(self.result))
        if len(results) <= 1:
            return params, results, False
        return ([*params, "i32"], [], True) if lowered else (params, ["i32"], True)

    def text(self, types: TypeText) -> str:
        listed = " ".join(f'(param "p{index}" {types.ref(kind)})' for index, kind in enumerate(self.params))
        return listed if self.result is None else f"{listed} (result {types.ref(self.result)})"


def _function(s: Source, taken: tuple[ValueType, ...], given: tuple[ValueType, ...]) -> _Function:
    if one_in(s, 2):
        taken = given = ()  # so that what is behind the handles is reached as well
    result = None if one_in(s, 6) else value_type(s, handles=given)
    return _Function(signature(s, handles=taken), result)


def hostile_component(s: Source) -> str:
    """Imports `entropy`, `import0…2` and the resource `held`; its start function may misbehave as well; exports `export0…2`, `seed` and the resource `made`."""
    types = TypeText()
    encoding = pick(s, ENCODINGS)
    imports = [_function(s, (OwnType(_HOST), BorrowType(_HOST)), (OwnType(_HOST),)) for _ in range(IMPORTS)]
    # A host hands in what it was given; most guests are not asked for resources of their own.
    own = (OwnType(_GUEST), BorrowType(_GUEST)) if one_in(s, 4) else ()
    exports = [
        _function(s, (OwnType(_HOST), BorrowType(_HOST), *own), (OwnType(_HOST), OwnType(_GUEST)))
        for _ in range(EXPORTS)
    ]
    imported = [f'  (import "import{n}" (func $import{n} {one.text(types)}))' for n, one in enumerate(imports)]
    types.exported, shared = True, len(types.lines)
    exported = [one.text(types) for one in exports]
    options = f'(memory $memory) (realloc (core func $guest "realloc")) string-encoding={encoding}'
    elements = [
        *(f"(core func $core{n} (canon lower (func $import{n}) {options}))" for n in range(IMPORTS)),
        "(core func $core3 (canon resource.drop $held))",
        "(core func $core4 (canon resource.drop $made-here))",
        "(core func $core5 (canon resource.new $made-here))",
        "(core func $core6 (canon resource.rep $made-here))",
        "(core func $core7 (canon lower (func $entropy)))",
    ]
    kinds = [
        *(_signature(*one.core(lowered=True)[:2]) for one in imports),
        *["(param i32)"] * 2,
        *["(param i32) (result i32)"] * 2,
        "(result i64)",
    ]
    slots = len(kinds)
    given = " ".join(f'(export "f{n}" (func $core{n}))' for n in range(slots))
    return "\n".join(
        [
            "(component",
            '  (import "held" (type $held (sub resource)))',
            '  (import "entropy" (func $entropy (result u64)))',
            *types.lines[:shared],
            *imported,
            _MODULE.format(
                slots=slots,
                callers="\n".join(_caller(n, one) for n, one in enumerate(imports)),
                functions="\n".join(_exporter(n, one) for n, one in enumerate(exports)),
            ),
            "  (core instance $guest (instantiate $guest))",
            '  (alias core export $guest "memory" (core memory $memory))',
            '  (type $made-here (resource (rep i32) (dtor (core func $guest "dtor"))))',
            '  (export $made "made" (type $made-here))',
            *types.lines[shared:],
            *(f"  {element}" for element in elements),
            "  (core module $fix",
            f'    (import "" "table" (table {slots} funcref))',
            '    (import "" "begin" (func $begin)) (start $begin)',
            *(f'    (import "" "f{n}" (func $f{n} {kind}))' for n, kind in enumerate(kinds)),
            f"    (elem (i32.const 0) func {' '.join(f'$f{n}' for n in range(slots))}))",
            f'  (core instance (instantiate $fix (with "" (instance (export "table" (table $guest "table")) (export "begin" (func $guest "begin")) {given}))))',
            *(_lift(n, one, text, options) for n, (one, text) in enumerate(zip(exports, exported, strict=True))),
            '  (func (export "seed") (param "state" u64) (param "spice" u32) (canon lift (core func $guest "seed"))))',
        ]
    )


def _signature(params: list[str], results: list[str]) -> str:
    return " ".join([*(f"(param {core})" for core in params), *(f"(result {core})" for core in results)])


def _caller(number: int, one: _Function) -> str:
    params, results, _ = one.core(lowered=True)
    arguments = " ".join("(call $place)" if len(params) == 1 and core == "i32" else _WILD[core] for core in params)
    call = f"(call_indirect {_signature(params, results)} {arguments} (i32.const {number}))"
    return f"    (func $import{number} {f'(drop {call})' if results else call})"


def _exporter(number: int, one: _Function) -> str:
    params, results, pointer = one.core(lowered=False)
    value = "" if not results else "(call $place)" if pointer else _WILD[results[0]]
    more = f"(if (i32.eqz (call $some (i64.const 1))) (then (call $import{number % IMPORTS})))"
    post = f'    (func (export "post{number}") {_signature(results, [])} (call $act))'
    return f'    (func (export "export{number}") {_signature(params, results)} (call $act) {more} {value})\n{post}'


def _lift(number: int, one: _Function, text: str, options: str) -> str:
    post = f'(post-return (core func $guest "post{number}"))'
    return (
        f'  (func (export "export{number}") {text} (canon lift (core func $guest "export{number}") {options} {post}))'
    )
