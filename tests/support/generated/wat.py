"""Components in WebAssembly text over drawn types.

`echo_component`: a guest that gives back what it is given, once by itself (`echo`) and once through an import of the
host (`relay`). Its core module is written from `abi.Shape`, not by the runtime's own layout code, so that a mistake
made in both directions shows all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from perdure.component.plan import StringEncoding
from perdure.component.types import (
    BorrowType,
    EnumType,
    FlagsType,
    ListType,
    OptionType,
    OwnType,
    PrimType,
    RecordType,
    ResultType,
    TupleType,
    ValueType,
    VariantType,
)
from support.generated import abi

ENCODINGS: tuple[StringEncoding, ...] = ("utf8", "utf16", "latin1+utf16")

HEAP, DUMPED_FROM = 64, 32
LIBC = """
  (core module $libc
    (memory (export "memory") 2)
    (global $next (mut i32) (i32.const 64))
    (func $take (param $align i32) (param $size i32) (result i32)
      (local $at i32) (local $end i32)
      (local.set $at (i32.and (i32.add (global.get $next) (i32.sub (local.get $align) (i32.const 1)))
                              (i32.sub (i32.const 0) (local.get $align))))
      (local.set $end (i32.add (local.get $at) (local.get $size)))
      (if (i32.gt_u (local.get $end) (i32.mul (memory.size) (i32.const 65536)))
        (then (if (i32.eq (i32.const -1)
                    (memory.grow (i32.add (i32.const 1) (i32.div_u (local.get $size) (i32.const 65536)))))
          (then (unreachable)))))
      (global.set $next (local.get $end))
      (local.get $at))
    (func (export "realloc") (param $old i32) (param $had i32) (param $align i32) (param $size i32) (result i32)
      (local $at i32)
      (if (i32.and (i32.ne (local.get $had) (i32.const 0)) (i32.le_u (local.get $size) (local.get $had)))
        (then (return (local.get $old))))
      (local.set $at (call $take (local.get $align) (local.get $size)))
      (memory.copy (local.get $at) (local.get $old) (local.get $had))
      (local.get $at))
    (func (export "post") (param i32) (i32.store (i32.const 32) (i32.add (i32.load (i32.const 32)) (i32.const 1))))
    (func (export "dump") (result i32)
      (i32.store (i32.const 8) (i32.const 32))
      (i32.store (i32.const 12) (i32.sub (global.get $next) (i32.const 32)))
      (i32.const 8)))
  (core instance $libc (instantiate $libc))
  (alias core export $libc "memory" (core memory $memory))
  (alias core export $libc "realloc" (core func $realloc))
"""
"""A bump allocator that can grow and shrink a block, and `dump`: the bytes from `DUMPED_FROM` to the end of
the heap, which begins at `HEAP`. Below it, the number of post-returns."""


@dataclass
class TypeText:
    """Type definitions, for types that the text format wants to be named, and references to them.

    A resource is referred to by its name as an identifier; whoever uses one defines it.
    """

    lines: list[str] = field(default_factory=list)
    exported: bool = False
    """Whether the types are named by exports; else by imports, which functions that are imported need."""
    _known: dict[ValueType, str] = field(default_factory=dict)

    def ref(self, t: ValueType) -> str:
        """How to write `t` where a value type is wanted; definitions it needs are in `lines` afterwards."""
        match t:
            case PrimType(name):
                return name
            case ListType(element):
                return f"(list {self.ref(element)})"
            case OptionType(some):
                return f"(option {self.ref(some)})"
            case TupleType(items):
                return f"(tuple {' '.join(self.ref(item) for item in items)})"
            case OwnType(resource) | BorrowType(resource):
                return f"({'own' if isinstance(t, OwnType) else 'borrow'} ${resource.name})"
            case ResultType(ok, err):
                sides = ["" if ok is None else f" {self.ref(ok)}", "" if err is None else f" (error {self.ref(err)})"]
                return f"(result{''.join(sides)})"
        if t not in self._known:
            self._known[t] = self._define(t)
        return self._known[t]

    def _define(self, t: ValueType) -> str:
        match t:
            case RecordType(fields):
                body = "record" + "".join(f' (field "{name}" {self.ref(kind)})' for name, kind in fields)
            case VariantType(cases):
                body = "variant" + "".join(
                    f' (case "{name}"{"" if kind is None else f" {self.ref(kind)}"})' for name, kind in cases
                )
            case EnumType(names):
                body = "enum " + " ".join(f'"{name}"' for name in names)
            case FlagsType(names):
                body = "flags " + " ".join(f'"{name}"' for name in names)
            case _:
                raise AssertionError(t)
        name = f"t{len(self.lines)}"
        named = (
            f'(export ${name} "{name}" (type ${name}-raw))'
            if self.exported
            else f'(import "{name}" (type ${name} (eq ${name}-raw)))'
        )
        self.lines.append(f"  (type ${name}-raw ({body}))\n  {named}")
        return f"${name}"


def result_of(params: Sequence[ValueType]) -> ValueType:
    """What an echo of the parameters returns: the parameter, or all of them as a tuple."""
    return params[0] if len(params) == 1 else TupleType(tuple(params))


@dataclass
class Signature:
    """A function's core side, from `abi`."""

    params: tuple[ValueType, ...]

    def __post_init__(self) -> None:
        self.whole = abi.Product(tuple(abi.shape(kind) for kind in self.params))
        self.result = abi.shape(result_of(self.params))
        flat = abi.cores(self.whole)
        self.spilled = len(flat) > 16
        self.cores = ["i32"] if self.spilled else flat
        self.result_cores = abi.cores(self.result)

    @property
    def returns_pointer(self) -> bool:
        return len(self.result_cores) > 1


def echo_component(params: Sequence[ValueType], encoding: StringEncoding) -> str:
    """Imports `host`, exports `echo`, `relay` (through `host`) and `dump`. All three take and return the same types."""
    types = TypeText()
    listed = " ".join(f'(param "p{index}" {types.ref(kind)})' for index, kind in enumerate(params))
    result = types.ref(result_of(params))
    signature = Signature(tuple(params))
    options = f"(memory $memory) (realloc $realloc) string-encoding={encoding}"
    lift = f'(post-return (core func $libc "post")) {options}' if signature.returns_pointer else options
    return "\n".join(
        [
            "(component",
            *types.lines,
            f'  (import "host" (func $host {listed} (result {result})))',
            LIBC,
            f"  (core func $host-core (canon lower (func $host) {options}))",
            _echo_module(signature),
            '  (core instance $m (instantiate $main (with "libc" (instance $libc))',
            '    (with "host" (instance (export "call" (func $host-core))))))',
            f'  (func (export "echo") {listed} (result {result}) (canon lift (core func $m "echo") {lift}))',
            f'  (func (export "relay") {listed} (result {result}) (canon lift (core func $m "relay") {lift}))',
            '  (func (export "dump") (result (list u8)) (canon lift (core func $libc "dump") (memory $memory))))',
        ]
    )


def _echo_module(s: Signature) -> str:
    params = "".join(f" (param {core})" for core in s.cores)
    arguments = " ".join(f"(local.get {index})" for index in range(len(s.cores)))
    result = f"(result {'i32' if s.returns_pointer else s.result_cores[0]})"
    space = f"(call $realloc (i32.const 0) (i32.const 0) (i32.const {abi.alignment(s.result)}) (i32.const {abi.size(s.result)}))"
    if s.returns_pointer:
        host = f"{params} (param i32)"
        relay = f"(local.set $out {space}) (call $host {arguments} (local.get $out)) (local.get $out)"
    else:
        host = f"{params} {result}"
        relay = f"(call $host {arguments})"
    if s.spilled or not s.returns_pointer:
        echo = "(local.get 0)"
    else:
        at = Code()
        at.store(s.whole, 0, [f"(local.get {index})" for index in range(len(s.cores))], list(s.cores))
        echo = f"(local.set $out {space})\n" + "\n".join(at.lines) + "\n(local.get $out)"
    return f"""  (core module $main
    (import "libc" "memory" (memory 1))
    (import "libc" "realloc" (func $realloc (param i32 i32 i32 i32) (result i32)))
    (import "host" "call" (func $host{host}))
    (func (export "echo"){params} {result} (local $out i32)
      {echo})
    (func (export "relay"){params} {result} (local $out i32)
      {relay}))"""


class Code:
    """Instructions that store flat values at offsets from the local `$out`."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def store(self, s: abi.Shape, at: int, values: list[str], have: list[str]) -> None:
        """`values`: one expression for each flat value; `have`: the core types they travel as."""
        match s:
            case abi.Leaf(width, core):
                value = _narrowed(values[0], have[0], core)
                narrow = "" if width == int(core[1:]) // 8 else str(width * 8)
                self.lines.append(f"({core}.store{narrow} offset={at} (local.get $out) {value})")
            case abi.Product(parts):
                for place, part in zip(abi.places(s), parts, strict=True):
                    count = len(abi.cores(part))
                    self.store(part, at + place, values[:count], have[:count])
                    values, have = values[count:], have[count:]
            case abi.Sum(cases):
                self.store(abi.Leaf(abi.tag_width(s), "i32"), at, values[:1], have[:1])
                tag = _narrowed(values[0], have[0], "i32")
                for index, case in enumerate(cases):
                    if case is not None:
                        self.lines.append(f"(if (i32.eq {tag} (i32.const {index})) (then")
                        # The case sees the slots as its own joined types: one narrowing after the other.
                        inner = abi.cores(s)[1:]
                        slots = [_narrowed(v, h, w) for v, h, w in zip(values[1:], have[1:], inner, strict=False)]
                        self.store(case, at + abi.payload_at(s), slots, inner)
                        self.lines.append("))")


def _narrowed(value: str, have: str, want: str) -> str:
    """Undo a join: the same bits as the narrower type."""
    if have == want:
        return value
    if have == "i64" and want == "i32":
        return f"(i32.wrap_i64 {value})"
    if have == "i64" and want == "f32":
        return f"(f32.reinterpret_i32 (i32.wrap_i64 {value}))"
    assert (have, want) in (("i32", "f32"), ("i64", "f64")), (have, want)
    return f"({want}.reinterpret_{have} {value})"
