"""What mutations start from: the example, what was built from it, and components written by hand or drawn."""

from __future__ import annotations

import os
from pathlib import Path

from wasmtime import wat2wasm

from fuzz.binary import CORE_HEADER, HEADER, leb, read_leb
from support.generated.source import Seeded
from support.generated.values import signature
from support.generated.wat import ENCODINGS, echo_component
from support.hosts import EXAMPLE

_HAND = (
    # An imported interface with a resource, its functions lowered, handles dropped.
    """(component
      (import "a:b/store@1.2.3" (instance $store
        (export "bucket" (type $bucket (sub resource)))
        (export "[static]bucket.open" (func (param "name" string) (result (own $bucket))))
        (export "[method]bucket.get" (func (param "self" (borrow $bucket)) (param "key" string) (result (option (list u8)))))))
      (core module $libc (memory (export "m") 1) (func (export "r") (param i32 i32 i32 i32) (result i32) (i32.const 64)))
      (core instance $libc (instantiate $libc))
      (alias export $store "[static]bucket.open" (func $open))
      (alias export $store "[method]bucket.get" (func $get))
      (alias export $store "bucket" (type $bucket))
      (core func $open-core (canon lower (func $open) (memory (core memory $libc "m")) (realloc (core func $libc "r"))))
      (core func $get-core (canon lower (func $get) (memory (core memory $libc "m")) (realloc (core func $libc "r"))))
      (core func $drop (canon resource.drop $bucket))
      (core module $main
        (import "h" "open" (func $open (param i32 i32) (result i32)))
        (import "h" "get" (func $get (param i32 i32 i32 i32)))
        (import "h" "drop" (func $drop (param i32)))
        (func (export "run") (result i32) (local $b i32)
          (local.set $b (call $open (i32.const 0) (i32.const 0)))
          (call $get (local.get $b) (i32.const 0) (i32.const 0) (i32.const 16))
          (call $drop (local.get $b)) (i32.const 16)))
      (core instance $main (instantiate $main (with "h" (instance
        (export "open" (func $open-core)) (export "get" (func $get-core)) (export "drop" (func $drop))))))
      (func (export "run") (result u32) (canon lift (core func $main "run"))))""",
    # A resource of the guest's own with a destructor, exported.
    """(component
      (core module $d (func (export "dtor") (param i32)))
      (core instance $d (instantiate $d))
      (type $r' (resource (rep i32) (dtor (core func $d "dtor"))))
      (export $r "r" (type $r'))
      (core func $new (canon resource.new $r'))
      (core func $rep (canon resource.rep $r'))
      (core module $m (import "" "new" (func $new (param i32) (result i32))) (import "" "rep" (func $rep (param i32) (result i32)))
        (func (export "make") (param i32) (result i32) (call $new (local.get 0)))
        (func (export "read") (param i32) (result i32) (local.get 0)))
      (core instance $m (instantiate $m (with "" (instance (export "new" (func $new)) (export "rep" (func $rep))))))
      (func (export "[constructor]r") (param "x" u32) (result (own $r)) (canon lift (core func $m "make")))
      (func (export "[method]r.read") (param "self" (borrow $r)) (result u32) (canon lift (core func $m "read"))))""",
    # Nested components, given functions and types as arguments, with outer aliases and an exported instance.
    """(component
      (type $t (record (field "a" u8) (field "b" string)))
      (import "t" (type $u (eq $t)))
      (core module $m (memory (export "m") 1) (func (export "f") (param i32 i32 i32) (result i32) (i32.const 8)))
      (core instance $i (instantiate $m))
      (func $f (param "x" $u) (result string)
        (canon lift (core func $i "f") (memory (core memory $i "m")) (realloc (core func $r "r"))))
      (component $shim
        (alias outer 1 $t (type $outer))
        (import "t" (type $t (eq $outer)))
        (import "f" (func $f (param "x" $t) (result string)))
        (export $t2 "t" (type $t))
        (export "f" (func $f) (func (param "x" $t2) (result string))))
      (instance $s (instantiate $shim (with "t" (type $u)) (with "f" (func $f))))
      (export "a:b/c@0.1.0" (instance $s)))""".replace(
        "(core instance $i (instantiate $m))",
        '(core instance $i (instantiate $m)) (core module $rm (func (export "r") (param i32 i32 i32 i32) (result i32) (i32.const 0))) (core instance $r (instantiate $rm))',
    ),
    # A start function, tables, globals, two memories.
    """(component
      (core module $m (memory (export "m") 1) (memory 1) (table (export "t") 2 funcref) (global (export "g") (mut i64) (i64.const 7))
        (func $s (global.set 0 (i64.const 1))) (start $s) (elem (i32.const 0) func $s)
        (func (export "f") (param i64 f32 f64 i32) (result i64) (global.get 0)))
      (core instance $i (instantiate $m))
      (core module $n (import "a" "g" (global (mut i64))) (import "a" "t" (table 2 funcref)) (import "a" "m" (memory 1)))
      (core instance (instantiate $n (with "a" (instance $i))))
      (func (export "f") (param "a" u64) (param "b" f32) (param "c" f64) (param "d" char) (result s64) (canon lift (core func $i "f"))))""",
    # Core imports and types of later proposals: tags, typed references, 64-bit tables and memories.
    """(component
      (core module $a (type $f (func)) (tag (export "t") (param i32)) (global (export "g") (ref null $f) (ref.null $f))
        (table (export "b") i64 1 (ref null $f)) (memory (export "m") i64 1))
      (core instance $a (instantiate $a))
      (core module $b (type $f (func)) (import "a" "t" (tag (param i32))) (import "a" "g" (global (ref null $f)))
        (import "a" "b" (table i64 1 (ref null $f))) (import "a" "m" (memory i64 1)))
      (core instance (instantiate $b (with "a" (instance $a))))
      (core type (module (type (func)) (import "a" "b" (tag (type 0))) (export "c" (global (ref func)))))
      (core type (func (param (ref null extern)) (result i32)))
      (import "f" (func async (param "a" u8))) (type (stream u8)) (type (future)))""",
    # A core module's imports in groups.
    """(component
      (core module $a (memory (export "m") 1) (func (export "f")) (func (export "g")))
      (core instance $a (instantiate $a))
      (core module $b (import "a" (item "f") (item "g") (func)))
      (core instance (instantiate $b (with "a" (instance $a))))
      (core module $c (import "a" (item "m" (memory 1)) (item "f" (func))))
      (core instance (instantiate $c (with "a" (instance $a)))))""",
    # An interface of every kind of type.
    """(component
      (import "x:y/types" (instance
        (type $e' (enum "a" "b")) (export "e" (type $e (eq $e')))
        (type $v' (variant (case "n") (case "s" string) (case "l" (list $e)))) (export "v" (type $v (eq $v')))
        (type $fl' (flags "x" "y")) (export "fl" (type $fl (eq $fl')))
        (export "r" (type $r (sub resource)))
        (export "f" (func (param "v" $v) (param "f" $fl) (result (result (own $r) (error (tuple u8 $e))))))))
      (type $c (component (import "a" (func)) (export "b" (func (result u8)))))
      (core type (module (import "a" "b" (func (param i32))) (export "c" (memory 1)))))""",
)


def skeleton(data: bytes) -> bytes:
    """A component whose core modules have lost their code, data and custom sections. It decodes; it is not valid."""
    out, at = bytearray(HEADER), 8
    while at < len(data):
        kind = data[at]
        size, body = read_leb(data, at + 1)
        part = data[body : body + size]
        at = body + size
        if kind == 0:
            continue
        if kind == 1:
            part = CORE_HEADER + b"".join(whole for kind, whole in _sections(part) if kind in (1, 2, 3, 4, 5, 7))
        elif kind == 4:
            part = skeleton(part)
        out += bytes([kind]) + leb(len(part)) + part
    return bytes(out)


def _sections(module: bytes) -> list[tuple[int, bytes]]:
    at, found = 8, []
    while at < len(module):
        size, body = read_leb(module, at + 1)
        found.append((module[at], module[at : body + size]))
        at = body + size
    return found


def corpus() -> list[bytes]:
    """Small components first. `PERDURE_GUESTS`: a directory with more (the tests' guests, when they are built)."""
    found = [bytes(wat2wasm(text)) for text in _HAND]
    for number in range(16):
        source = Seeded(number)
        found.append(bytes(wat2wasm(echo_component(signature(source), ENCODINGS[number % 3]))))
    real = [EXAMPLE, *sorted(Path(os.environ.get("PERDURE_GUESTS", "/nonexistent")).glob("*.wasm"))]
    found += [skeleton(path.read_bytes()) for path in real]
    return [*found, EXAMPLE.read_bytes()]
