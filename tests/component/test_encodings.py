"""Strings in utf8, utf16 and latin1+utf16, between host and component and between components."""

from __future__ import annotations

import itertools

import pytest

from perdure.component.engine import Engine
from perdure.errors import GuestTrapped, TypeMismatch
from support.components import run

ENCODINGS = ("utf8", "utf16", "latin1+utf16")
TEXTS = ("", "a", "plain ascii", "hällo", "ÿ" * 9, "ключ", "🔑", "mixed ä ж 🔑", "\u0100", "\x00", "x" * 2000 + "☃")

# A callee whose allocator notes each request: (old size, alignment, size), twelve bytes each from 8 upwards.
CALLEE = """
  (component $Callee
    (core module $M
      (memory (export "memory") 2)
      (global $next (mut i32) (i32.const 8192))
      (global $log (mut i32) (i32.const 8))
      (func (export "realloc") (param i32 i32 i32 i32) (result i32)
        (local $at i32)
        (i32.store (global.get $log) (local.get 1))
        (i32.store offset=4 (global.get $log) (local.get 2))
        (i32.store offset=8 (global.get $log) (local.get 3))
        (global.set $log (i32.add (global.get $log) (i32.const 12)))
        ;; Each answer is another place, aligned to 8, with what was there.
        (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
        (global.set $next (i32.add (local.get $at) (local.get 3)))
        (memory.copy (local.get $at) (local.get 0) (local.get 1))
        (local.get $at))
      (func (export "echo") (param i32 i32) (result i32)
        (i32.store (i32.const 0) (local.get 0)) (i32.store (i32.const 4) (local.get 1)) (i32.const 0))
      (func (export "units") (param i32 i32) (result i32) (local.get 1))
      (func (export "log") (result i32)
        (i32.store (i32.const 0) (i32.const 8))
        (i32.store (i32.const 4) (i32.div_u (i32.sub (global.get $log) (i32.const 8)) (i32.const 12)))
        (i32.const 0)))
    (core instance $m (instantiate $M))
    (func (export "echo") (param "text" string) (result string) (canon lift (core func $m "echo")
      string-encoding=CALLEE (memory (core memory $m "memory")) (realloc (core func $m "realloc"))))
    (func (export "units") (param "text" string) (result u32) (canon lift (core func $m "units")
      string-encoding=CALLEE (memory (core memory $m "memory")) (realloc (core func $m "realloc"))))
    (func (export "log") (result (list (tuple u32 u32 u32)))
      (canon lift (core func $m "log") (memory (core memory $m "memory")))))
"""
CALLED_BY_HOST = f"""
(component {CALLEE}
  (instance $callee (instantiate $Callee))
  (export "echo" (func $callee "echo"))
  (export "units" (func $callee "units"))
  (export "log" (func $callee "log")))
"""
# The caller passes on what it gets: as it is, or, from "wide", as utf16 with the tag of latin1+utf16.
CALLED_BY_COMPONENT = f"""
(component {CALLEE}
  (component $Caller
    (import "echo" (func $echo (param "text" string) (result string)))
    (import "units" (func $units (param "text" string) (result u32)))
    LIBC
    (core func $echo' (canon lower (func $echo) string-encoding=CALLER MEMORY))
    (core func $units' (canon lower (func $units) string-encoding=CALLER MEMORY))
    (core module $M
      (import "" "echo" (func $echo (param i32 i32 i32)))
      (import "" "units" (func $units (param i32 i32) (result i32)))
      (func (export "echo") (param i32 i32) (result i32)
        (call $echo (local.get 0) (local.get 1) (i32.const 8)) (i32.const 8))
      (func (export "units") (param i32 i32) (result i32) (call $units (local.get 0) (local.get 1)))
      (func (export "wide") (param i32 i32) (result i32)
        (call $units (local.get 0) (i32.or (i32.const 0x80000000) (local.get 1)))))
    (core instance $m (instantiate $M (with "" (instance (export "echo" (func $echo')) (export "units" (func $units'))))))
    (func (export "echo") (param "text" string) (result string)
      (canon lift (core func $m "echo") string-encoding=CALLER MEMORY))
    (func (export "units") (param "text" string) (result u32)
      (canon lift (core func $m "units") string-encoding=CALLER MEMORY))
    (func (export "wide") (param "text" string) (result u32)
      (canon lift (core func $m "wide") string-encoding=utf16 MEMORY)))
  (instance $callee (instantiate $Callee))
  (instance $caller (instantiate $Caller (with "echo" (func $callee "echo")) (with "units" (func $callee "units"))))
  (export "echo" (func $caller "echo"))
  (export "units" (func $caller "units"))
  (export "wide" (func $caller "wide"))
  (export "log" (func $callee "log")))
"""
TAG = 1 << 31


def units(encoding: str, text: str) -> int:
    """The code units, tag included, that a component of this encoding sees."""
    wide = len(text.encode("utf-16-le")) // 2
    if encoding == "utf8":
        return len(text.encode())
    if encoding == "utf16":
        return wide
    return len(text) if all(ord(char) < 256 for char in text) else wide | TAG


@pytest.mark.parametrize("callee", ENCODINGS)
@pytest.mark.usefixtures("allocator")
async def test_strings_of_the_host_take_one_allocation_of_their_size(engine: Engine, callee: str) -> None:
    component = await run(engine, CALLED_BY_HOST.replace("CALLEE", callee))
    expected = []
    for text in TEXTS:
        assert await component.call("echo", text) == text
        assert await component.call("units", text) == units(callee, text)
        count = units(callee, text)
        wide = callee == "utf16" or bool(count & TAG)
        size = (count & ~TAG) * (2 if wide else 1)
        expected += [(0, 1 if callee == "utf8" else 2, size)] * 2
    assert await component.call("log") == expected


@pytest.mark.parametrize(("caller", "callee"), list(itertools.product(ENCODINGS, ENCODINGS)))
async def test_strings_between_components_keep_their_text(engine: Engine, caller: str, callee: str) -> None:
    component = await run(engine, CALLED_BY_COMPONENT.replace("CALLER", caller).replace("CALLEE", callee))
    for text in TEXTS:
        assert await component.call("echo", text) == text
        assert await component.call("units", text) == units(callee, text)


# What "store_string_into_range" asks the callee's allocator for: (old size, alignment, size).
ALLOCATIONS = [
    ("utf8", "utf8", "hällo", [(0, 1, 6)]),
    ("utf8", "utf16", "hällo", [(0, 2, 12), (12, 2, 10)]),
    ("utf8", "utf16", "abc", [(0, 2, 6)]),
    ("utf8", "latin1+utf16", "abc", [(0, 2, 3)]),
    ("utf8", "latin1+utf16", "hällo", [(0, 2, 6), (6, 2, 5)]),
    ("utf8", "latin1+utf16", "жä", [(0, 2, 4), (4, 2, 8), (8, 2, 4)]),
    ("utf8", "latin1+utf16", "a🔑", [(0, 2, 5), (5, 2, 10), (10, 2, 6)]),
    ("utf16", "utf8", "abc", [(0, 1, 3)]),
    ("utf16", "utf8", "hällo", [(0, 1, 5), (5, 1, 15), (15, 1, 6)]),
    ("utf16", "utf8", "☃☃", [(0, 1, 2), (2, 1, 6)]),
    ("utf16", "utf16", "☃a", [(0, 2, 4)]),
    ("utf16", "latin1+utf16", "hällo", [(0, 2, 5)]),
    ("utf16", "latin1+utf16", "☃a", [(0, 2, 2), (2, 2, 4)]),
    ("latin1+utf16", "utf8", "abc", [(0, 1, 3)]),
    ("latin1+utf16", "utf8", "hä", [(0, 1, 2), (2, 1, 4), (4, 1, 3)]),
    ("latin1+utf16", "utf8", "ж", [(0, 1, 1), (1, 1, 3), (3, 1, 2)]),
    ("latin1+utf16", "utf16", "hä", [(0, 2, 4)]),
    ("latin1+utf16", "utf16", "ж", [(0, 2, 2)]),
    ("latin1+utf16", "latin1+utf16", "hä", [(0, 2, 2)]),
    ("latin1+utf16", "latin1+utf16", "ж", [(0, 2, 2)]),
]


@pytest.mark.parametrize(("caller", "callee", "text", "expected"), ALLOCATIONS)
@pytest.mark.usefixtures("allocator")
async def test_a_callee_sees_the_allocations_that_the_abi_prescribes(
    engine: Engine, caller: str, callee: str, text: str, expected: list[tuple[int, int, int]]
) -> None:
    component = await run(engine, CALLED_BY_COMPONENT.replace("CALLER", caller).replace("CALLEE", callee))
    assert await component.call("units", text) == units(callee, text)
    assert await component.call("log") == expected


async def test_a_wide_string_that_could_be_narrow_is_narrowed(engine: Engine) -> None:
    wat = CALLED_BY_COMPONENT.replace("CALLER", "latin1+utf16").replace("CALLEE", "latin1+utf16")
    component = await run(engine, wat)
    assert await component.call("wide", "hä") == 2
    assert await component.call("wide", "ж") == 1 | TAG
    assert await component.call("log") == [(0, 2, 4), (4, 2, 2), (0, 2, 2)]


RAW = """
(component
  LIBC
  (core module $M
    (import "" "memory" (memory 1))
    (func (export "at") (param i32 i32 i32 i32) (result i32)
      (i32.store (i32.const 0) (local.get 2)) (i32.store (i32.const 4) (local.get 3)) (i32.const 0)))
  (core instance $m (instantiate $M (with "" (instance $libc))))
  (func (export "at") (param "data" (list u8)) (param "pointer" u32) (param "units" u32) (result string)
    (canon lift (core func $m "at") string-encoding=ENCODING MEMORY)))
"""
AT = 4096
BAD = [
    ("utf8", b"\xff", AT, 1, "UTF-8"),
    ("utf8", b"\xc3", AT, 1, "UTF-8"),
    ("utf8", b"\xed\xa0\x80", AT, 3, "UTF-8"),
    ("utf8", b"\xc0\x80", AT, 2, "UTF-8"),
    ("utf8", b"\xf4\x90\x80\x80", AT, 4, "UTF-8"),
    ("utf8", b"", 4 * 65536 + 1, 0, "outside the memory"),
    ("utf8", b"", 4 * 65536 - 1, 2, "outside the memory"),
    ("utf8", b"", 0xFFFFFFFF, 0xFFFFFFFF, "the ABI allows"),
    ("utf16", b"\x00\xd8", AT, 1, "utf-16"),
    ("utf16", b"\x00\xdc", AT, 1, "utf-16"),
    ("utf16", b"a\0", AT + 1, 0, "not aligned to 2"),
    ("utf16", b"", AT, 1 << 27, "the ABI allows"),
    ("latin1+utf16", b"a", AT + 1, 1, "not aligned to 2"),
    ("latin1+utf16", b"\x00\xd8", AT, 1 | TAG, "utf-16"),
    ("latin1+utf16", b"", AT, 0xFFFFFFFF, "the ABI allows"),
]


@pytest.mark.parametrize(("encoding", "data", "pointer", "count", "rule"), BAD)
async def test_a_bad_string_is_a_trap_that_names_the_rule(
    engine: Engine, encoding: str, data: bytes, pointer: int, count: int, rule: str
) -> None:
    component = await run(engine, RAW.replace("ENCODING", encoding))
    good = "ä".encode("utf-8" if encoding == "utf8" else "utf-16-le" if encoding == "utf16" else "latin-1")
    length = len(good) // 2 if encoding == "utf16" else len(good)
    assert await component.call("at", good, AT, length) == "ä"
    component = await run(engine, RAW.replace("ENCODING", encoding))
    with pytest.raises(GuestTrapped, match=rule) as caught:
        await component.call("at", data, pointer, count)
    assert caught.value.trap == "canonical-abi"


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_a_string_of_the_host_with_a_lone_surrogate_is_a_misfit(engine: Engine, encoding: str) -> None:
    component = await run(engine, CALLED_BY_HOST.replace("CALLEE", encoding))
    with pytest.raises(TypeMismatch):
        await component.call("echo", "a\ud800")
    assert await component.call("echo", "a") == "a"
