"""Where core instructions begin and end (core specification, "Binary Format: Instructions").

Only lengths are decoded, of every instruction that the proposals enabled in `engine.Engine` allow: numeric, SIMD,
bulk memory, reference types, tail calls, multi-memory, memory64, typed function references, GC, exceptions and wide
arithmetic. An instruction that is not known here is said to be so; it is never guessed. The bytes have been through
wasmtime's validator.

Most instructions have immediates of a fixed shape, so each is one alternative of a regular expression and runs of them
are walked at the speed of `re`; those with counted immediates (`br_table`, `try_table`) are walked here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from perdure.component.decode.reader import Reader

_END = 0x0B
_BR_TABLE = 0x0E
_TRY_TABLE = 0x1F

TABLE_SET = 0x26
MEMORY_INIT, DATA_DROP = 0xFC08, 0xFC09
TABLE_INIT, ELEM_DROP, TABLE_COPY, TABLE_GROW, TABLE_FILL = 0xFC0C, 0xFC0D, 0xFC0E, 0xFC0F, 0xFC11

_OPERANDS = {
    TABLE_SET: 1,
    MEMORY_INIT: 2,
    DATA_DROP: 1,
    TABLE_INIT: 2,
    ELEM_DROP: 1,
    TABLE_COPY: 2,
    TABLE_GROW: 1,
    TABLE_FILL: 1,
}


def _bytes(*ranges: int | tuple[int, int]) -> bytes:
    """A character class."""
    spans = [(one, one) if isinstance(one, int) else one for one in ranges]
    return b"[" + b"".join(b"\\x%02x-\\x%02x" % span for span in spans) + b"]"


_LEB = rb"[\x80-\xff]*+[\x00-\x7f]"
# Abstract heap types and indices; 0x62 and 0x65 begin forms of proposals that are off.
_HEAP = rb"(?![\x62\x65])" + _LEB
_TYPE = rb"(?:[\x63\x64]" + _HEAP + rb"|[\x69-\x7f])"
# Empty, a value type, or the index of a function type.
_BLOCK = rb"(?:\x40|" + _TYPE + rb"|[\x00-\x3f]|[\x80-\xff]" + _LEB + rb")"
# Alignment, then a memory's index where bit 6 is set, then the offset.
_MEMARG = (
    rb"(?:[\x00-\x3f]|[\x80-\xbf]" + _LEB + rb"|[\x40-\x7f]" + _LEB + rb"|[\xc0-\xff]" + _LEB + _LEB + rb")" + _LEB
)
_SHAPES = (
    # What has no immediates; `end` is among them.
    _bytes((0x00, 0x01), 0x05, 0x0A, _END, 0x0F, (0x1A, 0x1B), (0x45, 0xC4), 0xD1, (0xD3, 0xD4)),
    _bytes(0x08, (0x0C, 0x0D), 0x10, 0x12, (0x14, 0x15), (0x20, 0x25), (0x3F, 0x42), 0xD2, (0xD5, 0xD6)) + _LEB,
    _bytes((0x28, 0x3E)) + _MEMARG,
    _bytes((0x02, 0x04)) + _BLOCK,
    _bytes(0x11, 0x13) + _LEB + _LEB,
    rb"\x43.{4}",
    rb"\x44.{8}",
    rb"\xd0" + _HEAP,
    rb"\x1c\x01" + _TYPE,
    # GC
    rb"\xfb" + _bytes((0x00, 0x01), (0x06, 0x07), (0x0B, 0x0E), 0x10) + _LEB,
    rb"\xfb" + _bytes((0x02, 0x05), (0x08, 0x0A), (0x11, 0x13)) + _LEB + _LEB,
    rb"\xfb" + _bytes(0x0F, (0x1A, 0x1E)),
    rb"\xfb" + _bytes((0x14, 0x17)) + _HEAP,
    rb"\xfb" + _bytes((0x18, 0x19)) + rb"." + _LEB + _HEAP + _HEAP,
    # Saturating conversions, bulk memory, `table.size`, wide arithmetic
    rb"\xfc" + _bytes((0x00, 0x07), (0x13, 0x16)),
    rb"\xfc\x0a" + _LEB + _LEB,
    rb"\xfc" + _bytes(0x0B, 0x10) + _LEB,
    # SIMD
    rb"\xfd" + _bytes((0x00, 0x0B), (0x5C, 0x5D)) + _MEMARG,
    rb"\xfd" + _bytes((0x54, 0x5B)) + _MEMARG + rb".",
    rb"\xfd" + _bytes((0x0C, 0x0D)) + rb".{16}",
    rb"\xfd" + _bytes((0x15, 0x22)) + rb".",
    rb"\xfd" + _bytes((0x0E, 0x14), (0x23, 0x53), (0x5E, 0x7F)),
    rb"\xfd[\x80-\xff]\x01",
)
_ONE = re.compile(b"|".join(_SHAPES), re.DOTALL)
_RUN = re.compile(b"(?:" + b"|".join(_SHAPES) + b")*+", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Instruction:
    """One that changes a table, reads or drops a segment: `operands` are its indices as written.

    `opcode` is prefixed with its prefix byte. `operands` None: not known here, and nothing after it was read.
    """

    opcode: int
    operands: tuple[int, ...] | None


def skip_expression(r: Reader) -> None:
    """Walk over a constant expression, `end` included. Raises `ComponentError`."""
    while True:
        found = _ONE.match(r.data, r.position, r.end)
        if found is None:
            raise r.fail("an instruction that a constant expression cannot have")
        opcode = r.data[r.position]
        r.position = found.end()
        if opcode == _END:
            return


def notable_instructions(r: Reader) -> Iterator[Instruction]:
    """Those of a function's body (locals first) that `Instruction` is for; others are walked over."""
    for _ in range(r.u32()):
        r.u32()
        skip_value_type(r)
    while True:
        found = _RUN.match(r.data, r.position, r.end)
        assert found is not None
        r.position = found.end()
        if not r.left:
            return
        opcode = r.byte()
        if opcode == _BR_TABLE:
            for _ in range(r.u32() + 1):
                r.u32()
        elif opcode == _TRY_TABLE:
            _skip_try_table(r)
        else:
            if opcode == 0xFC:
                opcode = 0xFC00 + r.u32()
            count = _OPERANDS.get(opcode)
            if count is None:
                yield Instruction(opcode, None)
                return
            yield Instruction(opcode, tuple(r.u32() for _ in range(count)))


def skip_value_type(r: Reader) -> int:
    """Walk over a value or reference type; its first byte."""
    code = r.byte()
    if code in (0x63, 0x64):
        r.signed(5)
    return code


def _skip_try_table(r: Reader) -> None:
    code = r.peek()
    if code in (0x63, 0x64):
        skip_value_type(r)
    else:
        r.signed(5)
    for _ in range(r.u32()):
        kind = r.byte()
        if kind > 3:
            raise r.fail(f"unknown catch clause {kind:#x}")
        if kind < 2:
            r.u32()
        r.u32()
