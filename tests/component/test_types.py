"""Every value type in memory and flattened, against layouts worked out by hand from the specification."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

import pytest

from perdure.component.canonical.layout import flat, size_and_alignment
from perdure.component.engine import Engine
from perdure.component.instance import InstanceLimits
from perdure.component.types import Err, ListType, Ok, Some, Variant
from perdure.errors import GuestTrapped, TypeMismatch
from support.components import Running, load, run

# dump: what a list<T> is in memory; parse: the reverse. flat: the core values of a T; send: the reverse, to the host.
WAT = """
(component
  TYPES
  (import "take" (func $take (param "x" T)))
  LIBC
  (core func $take' (canon lower (func $take) MEMORY))
  (core module $M
    (import "" "memory" (memory 1))
    (import "host" "take" (func $take (param FLAT)))
    (func (export "dump") (param i32 i32) (result i32)
      (i32.store (i32.const 0) (local.get 0)) (i32.store (i32.const 4) (i32.mul (local.get 1) (i32.const SIZE)))
      (i32.const 0))
    (func (export "parse") (param i32 i32) (result i32)
      (memory.copy (i32.const 65536) (local.get 0) (local.get 1))
      (i32.store (i32.const 0) (i32.const 65536))
      (i32.store (i32.const 4) (i32.div_u (local.get 1) (i32.const SIZE)))
      (i32.const 0))
    (func (export "flat") (param FLAT) (result i32)
      STORES
      (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const COUNT)) (i32.const 0))
    (func (export "send") (param i32 i32)
      (local i32)
      (call $take LOADS)))
  (core instance $m (instantiate $M (with "" (instance $libc)) (with "host" (instance (export "take" (func $take'))))))
  (func (export "dump") (param "x" (list T)) (result (list u8)) (canon lift (core func $m "dump") MEMORY))
  (func (export "parse") (param "x" (list u8)) (result (list T)) (canon lift (core func $m "parse") MEMORY))
  (func (export "flat") (param "x" T) (result (list u64)) (canon lift (core func $m "flat") MEMORY))
  (func (export "send") (param "x" (list u64)) (canon lift (core func $m "send") MEMORY)))
"""
AS_I64 = {
    "i32": "(i64.extend_i32_u {})",
    "i64": "{}",
    "f32": "(i64.extend_i32_u (i32.reinterpret_f32 {}))",
    "f64": "(i64.reinterpret_f64 {})",
}
FROM_I64 = {
    "i32": "(i32.wrap_i64 {})",
    "i64": "{}",
    "f32": "(f32.reinterpret_i32 (i32.wrap_i64 {}))",
    "f64": "(f64.reinterpret_i64 {})",
}


@dataclass
class Probe:
    """A component over one type, and what its host was sent."""

    guest: Running
    sent: list[object]


async def probe(engine: Engine, t: str, size: int, cores: str) -> Probe:
    """`t`: the type in WAT; a record, variant, enum or flags is given a name, as the validator wants. `size` and
    `cores`: what the specification says; wrong ones do not validate or do not match."""
    named = t.split()[0] in ("(record", "(variant", "(enum", "(flags")
    types = f'(type $t {t}) (import "t" (type $t\' (eq $t)))' if named else ""
    flats = cores.split()
    stores = [
        f"(i64.store (i32.const {64 + 8 * n}) {AS_I64[core].format(f'(local.get {n})')})"
        for n, core in enumerate(flats)
    ]
    loads = [FROM_I64[core].format(f"(i64.load offset={8 * n} (local.get 0))") for n, core in enumerate(flats)]
    wat = WAT.replace("TYPES", types).replace(" T)", f" {chr(36) + 't' + chr(39) if named else t})")
    for name, text in (
        ("FLAT", cores),
        ("SIZE", str(size)),
        ("COUNT", str(len(flats))),
        ("STORES", "\n".join(stores)),
        ("LOADS", " ".join(loads)),
    ):
        wat = wat.replace(name, text)
    sent: list[object] = []
    return Probe(await run(engine, wat, take=lambda cx, value: sent.append(value)), sent)


def f32(value: float) -> int:
    return int(struct.unpack("<I", struct.pack("<f", value))[0])


def f64(value: float) -> int:
    return int(struct.unpack("<Q", struct.pack("<d", value))[0])


MANY = tuple(f"c{n}" for n in range(300))
ENUM_300 = f"(enum {' '.join(f'{chr(34)}{name}{chr(34)}' for name in MANY)})"
VARIANT_300 = (
    "(variant " + " ".join(f'(case "{name}" {("u8", "u32", "f64")[n % 3]})' for n, name in enumerate(MANY)) + ")"
)
MIXED = '(variant (case "a") (case "b" u64) (case "c" f32) (case "d" u8))'
JOINED = '(variant (case "i" u32) (case "f" f32))'
FLOATS = '(variant (case "s" f32) (case "d" f64))'


def flags(count: int) -> str:
    return "(flags " + " ".join(f'"f{n}"' for n in range(count)) + ")"


# type, size, flat core types, value, bytes, flat values
CASES: list[tuple[str, int, str, object, str, list[int]]] = [
    ("bool", 1, "i32", True, "01", [1]),
    ("u8", 1, "i32", 200, "c8", [200]),
    ("s8", 1, "i32", -2, "fe", [0xFFFFFFFE]),
    ("u16", 2, "i32", 0xFFFE, "feff", [0xFFFE]),
    ("s16", 2, "i32", -32768, "0080", [0xFFFF8000]),
    ("u32", 4, "i32", 0xFFFFFFFF, "ffffffff", [0xFFFFFFFF]),
    ("s32", 4, "i32", -1, "ffffffff", [0xFFFFFFFF]),
    ("u64", 8, "i64", (1 << 64) - 2, "feffffffffffffff", [(1 << 64) - 2]),
    ("s64", 8, "i64", -(1 << 63), "0000000000000080", [1 << 63]),
    ("f32", 4, "f32", 1.5, "0000c03f", [f32(1.5)]),
    ("f64", 8, "f64", -0.1, struct.pack("<d", -0.1).hex(), [f64(-0.1)]),
    ("char", 4, "i32", "🔑", "11f50100", [0x1F511]),
    ("(tuple u8 u32)", 8, "i32 i32", (1, 2), "0100000002000000", [1, 2]),
    (
        '(record (field "a" u8) (field "b" u64) (field "c" u16))',
        24,
        "i32 i64 i32",
        {"a": 1, "b": 2, "c": 3},
        "01" + "00" * 7 + "02" + "00" * 7 + "03" + "00" * 7,
        [1, 2, 3],
    ),
    (flags(3), 1, "i32", frozenset({"f0", "f2"}), "05", [5]),
    (flags(9), 2, "i32", frozenset({"f8"}), "0001", [256]),
    (flags(17), 4, "i32", frozenset({"f16", "f1"}), "02000100", [0x10002]),
    (flags(32), 4, "i32", frozenset({"f31"}), "00000080", [1 << 31]),
    ('(enum "x" "y" "z")', 1, "i32", "z", "02", [2]),
    (ENUM_300, 2, "i32", "c299", "2b01", [299]),
    (MIXED, 16, "i32 i64", Variant("a"), "00" * 16, [0, 0]),
    (MIXED, 16, "i32 i64", Variant("b", 1 << 40), "01" + "00" * 7 + "000000000001" + "0000", [1, 1 << 40]),
    (MIXED, 16, "i32 i64", Variant("c", 2.0), "02" + "00" * 7 + "00000040" + "00" * 4, [2, f32(2.0)]),
    (MIXED, 16, "i32 i64", Variant("d", 7), "03" + "00" * 7 + "07" + "00" * 7, [3, 7]),
    (JOINED, 8, "i32 i32", Variant("i", 5), "0000000005000000", [0, 5]),
    (JOINED, 8, "i32 i32", Variant("f", -1.0), "01000000000080bf", [1, f32(-1.0)]),
    (FLOATS, 16, "i32 i64", Variant("s", 0.5), "00" * 8 + "0000003f" + "00" * 4, [0, f32(0.5)]),
    (FLOATS, 16, "i32 i64", Variant("d", 0.5), "01" + "00" * 7 + "000000000000e03f", [1, f64(0.5)]),
    (VARIANT_300, 16, "i32 i64", Variant("c0", 9), "00" * 8 + "09" + "00" * 7, [0, 9]),
    (VARIANT_300, 16, "i32 i64", Variant("c299", 0.5), "2b01" + "00" * 6 + "000000000000e03f", [299, f64(0.5)]),
    ("(option u32)", 8, "i32 i32", None, "00" * 8, [0, 0]),
    ("(option u32)", 8, "i32 i32", 6, "0100000006000000", [1, 6]),
    ("(option (option u8))", 3, "i32 i32 i32", None, "000000", [0, 0, 0]),
    ("(option (option u8))", 3, "i32 i32 i32", Some(None), "010000", [1, 0, 0]),
    ("(option (option u8))", 3, "i32 i32 i32", Some(8), "010108", [1, 1, 8]),
    ("(result)", 1, "i32", Ok(), "00", [0]),
    ("(result (error u16))", 4, "i32 i32", Err(3), "01000300", [1, 3]),
    ("(result u64 (error f32))", 16, "i32 i64", Err(2.0), "01" + "00" * 7 + "00000040" + "00" * 4, [1, f32(2.0)]),
    ("(result u64 (error f32))", 16, "i32 i64", Ok(1), "00" * 8 + "01" + "00" * 7, [0, 1]),
    (
        "(tuple (option f64) u8)",
        24,
        "i32 f64 i32",
        (1.0, 3),
        "01" + "00" * 13 + "f03f" + "03" + "00" * 7,
        [1, f64(1.0), 3],
    ),
]


def _case_name(case: tuple[str, int, str, object, str, list[int]]) -> str:
    """The same in every process: a set's order is not."""
    value = sorted(case[3]) if isinstance(case[3], frozenset) else case[3]
    return f"{case[0][:40]} = {str(value)[:30]}"


@pytest.mark.parametrize("case", CASES, ids=_case_name)
async def test_a_value_in_memory_and_flattened(
    engine: Engine, case: tuple[str, int, str, object, str, list[int]]
) -> None:
    t, size, cores, value, data, flats = case
    probed = await probe(engine, t, size, cores)
    kind = probed.guest.exports["dump"].type.params[0][1]
    assert isinstance(kind, ListType)
    assert size_and_alignment(kind.element)[0] == size
    assert flat(kind.element) == tuple(cores.split())
    several = _listed(t)
    dumped = await probed.guest.call("dump", several([value, value]))
    assert isinstance(dumped, bytes)
    # What the ABI leaves open, paddings and absent payloads, is whatever memory held.
    written = bytes.fromhex(data)
    assert len(dumped) == 2 * size
    assert await probed.guest.call("parse", dumped) == several([value, value])
    assert await probed.guest.call("parse", written * 3) == several([value] * 3)
    assert _significant(dumped[:size], written) == written
    assert await probed.guest.call("flat", value) == flats
    await probed.guest.call("send", flats)
    assert probed.sent == [value]
    assert type(probed.sent[0]) is type(value)


def _listed(t: str) -> type:
    """What a list of the type is."""
    return bytes if t == "u8" else list


def _significant(dumped: bytes, written: bytes) -> bytes:
    """`dumped` where `written` is not zero: fresh memory is zero, so here the two are equal."""
    return bytes(a if b else 0 for a, b in zip(dumped, written, strict=True))


# type, size, cores, flat values or None, bytes or None, what is lifted
LENIENT: list[tuple[str, int, str, list[int] | None, str | None, object]] = [
    ("bool", 1, "i32", [256], "02", True),
    ("u8", 1, "i32", [0x1FF], None, 0xFF),
    ("s16", 2, "i32", [0xFFFF7FFF], None, 32767),
    (flags(3), 1, "i32", [0xFFFFFFFD], "fd", frozenset({"f0", "f2"})),
    (flags(32), 4, "i32", [0xFFFFFFFF], "ffffffff", frozenset(f"f{n}" for n in range(32))),
    (JOINED, 8, "i32 i32", None, "00ffffff05000000", Variant("i", 5)),
    (MIXED, 16, "i32 i64", [2, (0xDEAD << 32) | f32(1.0)], None, Variant("c", 1.0)),
    ("(option u32)", 8, "i32 i32", [0, 77], "0000000011111111", None),
]


@pytest.mark.parametrize("case", LENIENT, ids=lambda case: case[0][:40])
async def test_bits_that_do_not_count_are_ignored(
    engine: Engine, case: tuple[str, int, str, list[int] | None, str | None, object]
) -> None:
    t, size, cores, flats, data, value = case
    probed = await probe(engine, t, size, cores)
    if flats is not None:
        await probed.guest.call("send", flats)
        assert probed.sent == [value]
    if data is not None:
        assert await probed.guest.call("parse", bytes.fromhex(data)) == [value]


async def test_nans_are_made_canonical(engine: Engine) -> None:
    for t, size, core, odd, canonical in (
        ("f32", 4, "f32", 0x7FA00001, 0x7FC00000),
        ("f64", 8, "f64", 0xFFF8_0000_0000_0001, 0x7FF8_0000_0000_0000),
    ):
        probed = await probe(engine, t, size, core)
        await probed.guest.call("send", [odd])
        lifted = await probed.guest.call("parse", odd.to_bytes(size, "little"))
        assert isinstance(lifted, list)
        for value in (probed.sent[0], lifted[0], -math.nan):
            assert isinstance(value, float)
            assert math.isnan(value)
            assert await probed.guest.call("flat", value) == [canonical]


# type, size, cores, flat values, bytes (each None where it cannot be wrong that way), the rule
BAD: list[tuple[str, int, str, list[int] | None, str | None, str]] = [
    ("char", 4, "i32", [0xD800], "00d80000", "0xd800 is not a Unicode scalar value"),
    ("char", 4, "i32", [0x110000], "00001100", "0x110000 is not a Unicode scalar value"),
    ('(enum "x" "y" "z")', 1, "i32", [3], "03", "discriminant 3 of a type of 3 cases"),
    ('(enum "x" "y" "z")', 1, "i32", [256], None, "discriminant 256 of a type of 3 cases"),
    (ENUM_300, 2, "i32", [300], "2c01", "discriminant 300 of a type of 300 cases"),
    (MIXED, 16, "i32 i64", [4, 0], "04" + "00" * 15, "discriminant 4 of a type of 4 cases"),
    (MIXED, 16, "i32 i64", [0xFFFFFFFF, 0], None, "discriminant 4294967295 of a type of 4 cases"),
    (VARIANT_300, 16, "i32 i64", [300, 0], "2c01" + "00" * 14, "discriminant 300 of a type of 300 cases"),
    ("(option u32)", 8, "i32 i32", [2, 0], "02" + "00" * 7, "discriminant 2 of a type of 2 cases"),
    ("(result)", 1, "i32", [2], "02", "discriminant 2 of a type of 2 cases"),
]


@pytest.mark.parametrize("case", BAD, ids=lambda case: f"{case[0][:30]}: {case[5]}")
async def test_bits_that_mean_nothing_are_a_trap_that_names_the_rule(
    engine: Engine, case: tuple[str, int, str, list[int] | None, str | None, str]
) -> None:
    t, size, cores, flats, data, rule = case
    for name, argument in (("send", flats), ("parse", None if data is None else bytes.fromhex(data))):
        if argument is None:
            continue
        probed = await probe(engine, t, size, cores)
        with pytest.raises(GuestTrapped, match=rule) as caught:
            await probed.guest.call(name, argument)
        assert caught.value.trap == "canonical-abi"
        assert probed.sent == []


MISFITS: list[tuple[str, int, str, list[object]]] = [
    ("u8", 1, "i32", [256, -1, "1", None, 1.5]),
    ("s8", 1, "i32", [128, -129]),
    ("u16", 2, "i32", [65536]),
    ("s16", 2, "i32", [-32769]),
    ("u32", 4, "i32", [1 << 32, -1]),
    ("s32", 4, "i32", [1 << 31]),
    ("u64", 8, "i64", [1 << 64, -1]),
    ("s64", 8, "i64", [1 << 63]),
    ("f32", 4, "f32", ["x", 1e300]),
    ("char", 4, "i32", ["", "ab", 7]),
    (flags(3), 1, "i32", [{"f3"}, 5]),
    ('(enum "x" "y" "z")', 1, "i32", ["w", 0]),
    (MIXED, 16, "i32 i64", [Variant("e"), Variant("b", "x"), Variant("b", 1 << 64), "a"]),
    ("(result)", 1, "i32", [None, True]),
    ("(tuple u8 u32)", 8, "i32 i32", [(1,), 5]),
    ('(record (field "a" u8) (field "b" u64) (field "c" u16))', 24, "i32 i64 i32", [{"a": 1, "b": 2}, [1, 2, 3]]),
]


@pytest.mark.parametrize("case", MISFITS, ids=lambda case: case[0][:40])
async def test_what_does_not_fit_the_type_is_refused(engine: Engine, case: tuple[str, int, str, list[object]]) -> None:
    t, size, cores, values = case
    probed = await probe(engine, t, size, cores)
    for value in values:
        for name, argument in (("flat", value), ("dump", [value])):
            with pytest.raises(TypeMismatch) as refused:
                await probed.guest.call(name, argument)
            # A KeyError's text is the key alone.
            said = refused.value.detail.partition(": ")[2]
            assert not isinstance(refused.value.__cause__, KeyError) or said.startswith("a field is missing, or ")


# --- many parameters, spilled results, nested lists

WIDE = """
(component
  (import "sum" (func $sum SEVENTEEN (result (tuple u64 u64))))
  (import "nested" (func $nested (param "x" (list (list string))) (result (list (option (list u16))))))
  LIBC
  (core func $sum' (canon lower (func $sum) MEMORY))
  (core func $nested' (canon lower (func $nested) MEMORY))
  (core module $M
    (import "h" "sum" (func $sum (param i32 i32)))
    (import "h" "nested" (func $nested (param i32 i32 i32)))
    (func (export "sixteen") (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
      (i32.add (local.get 0) (i32.mul (local.get 15) (i32.const 1000))))
    (func (export "seventeen") (param i32) (result i32) (call $sum (local.get 0) (i32.const 16)) (i32.const 16))
    (func (export "nested") (param i32 i32) (result i32)
      (call $nested (local.get 0) (local.get 1) (i32.const 16)) (i32.const 16)))
  (core instance $m (instantiate $M (with "h" (instance
    (export "sum" (func $sum')) (export "nested" (func $nested'))))))
  (func (export "sixteen") SIXTEEN (result u32) (canon lift (core func $m "sixteen")))
  (func (export "seventeen") SEVENTEEN (result (tuple u64 u64)) (canon lift (core func $m "seventeen") MEMORY))
  (func (export "nested") (param "x" (list (list string))) (result (list (option (list u16))))
    (canon lift (core func $m "nested") MEMORY)))
"""


def wide() -> str:
    params = [f'(param "p{n}" {"u64" if n == 3 else "u8"})' for n in range(17)]
    sixteen = [f'(param "p{n}" u32)' for n in range(16)]
    return WIDE.replace("SEVENTEEN", " ".join(params)).replace("SIXTEEN", " ".join(sixteen))


async def test_parameters_and_results_that_do_not_fit_the_core_signature_go_through_memory(engine: Engine) -> None:
    seen: list[object] = []

    def total(cx: object, *args: int) -> tuple[int, int]:
        seen.append(args)
        return sum(args), args[3]

    guest = await run(engine, wide(), sum=total, nested=lambda cx, x: [])
    assert await guest.call("sixteen", *range(16)) == 15_000
    args = [*range(3), 1 << 40, *range(4, 17)]
    assert await guest.call("seventeen", *args) == (sum(args), 1 << 40)
    assert seen == [tuple(args)]
    with pytest.raises(TypeMismatch):
        await guest.call("seventeen", *args[:16])
    with pytest.raises(TypeMismatch):
        await guest.call("sixteen", *range(15))


@pytest.mark.usefixtures("allocator")
async def test_lists_within_lists(engine: Engine) -> None:
    guest = await run(
        engine, wide(), sum=lambda cx, *args: (0, 0), nested=lambda cx, x: [[len(s) for s in row] or None for row in x]
    )
    value = [["a", "", "ключ"], [], ["x" * 300]]
    assert await guest.call("nested", value) == [[1, 0, 4], None, [300]]


AMPLIFIED = """
(component
  (core module $M
    (memory (export "memory") 16)
    (func (export "make") (param i32 i32) (result i32)
      (local i32)
      ;; `rows` times the same `size` bytes.
      (loop $l
        (i32.store (i32.add (i32.const 1024) (i32.mul (local.get 2) (i32.const 8))) (i32.const 0))
        (i32.store (i32.add (i32.const 1028) (i32.mul (local.get 2) (i32.const 8))) (local.get 1))
        (br_if $l (i32.lt_u (local.tee 2 (i32.add (local.get 2) (i32.const 1))) (local.get 0))))
      (i32.store (i32.const 8) (i32.const 1024)) (i32.store (i32.const 12) (local.get 0)) (i32.const 8)))
  (core instance $m (instantiate $M))
  (func (export "make") (param "rows" u32) (param "size" u32) (result (list (list u8)))
    (canon lift (core func $m "make") (memory (core memory $m "memory")))))
"""


async def test_a_guest_cannot_make_the_host_take_more_than_its_share(engine: Engine) -> None:
    limits = InstanceLimits(lifted=1 << 20)
    guest = await run(engine, AMPLIFIED, limits=limits)
    for _ in range(3):
        made = await guest.call("make", 10, 90_000)
        assert isinstance(made, list)
        assert sum(map(len, made)) == 900_000
    with pytest.raises(GuestTrapped, match="more than 1048576 bytes of the host"):
        await guest.call("make", 10_000, 900_000)
    guest = await run(engine, AMPLIFIED)
    with pytest.raises(GuestTrapped, match="outside the memory"):
        await guest.call("make", 1, 17 << 16)


async def test_more_than_32_flags_do_not_validate(engine: Engine) -> None:
    from perdure.errors import ComponentError

    with pytest.raises(ComponentError):
        await load(engine, f"(component (type $t {flags(33)}))")
    assert (await load(engine, f"(component (type $t {flags(32)}))")).exports == ()
