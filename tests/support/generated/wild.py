"""Guests whose results and arguments are mostly right: laid out by the ABI, with wrong bytes here and there.

Wrong means: unused bits set, discriminants and characters out of range, text in no encoding, pointers that are not
aligned or lie outside memory, lengths that are too large, lists that overlap.
"""

from __future__ import annotations

from collections.abc import Sequence

from perdure.component.plan import StringEncoding
from perdure.component.types import (
    EnumType,
    FlagsType,
    ListType,
    OptionType,
    PrimType,
    RecordType,
    ResultType,
    TupleType,
    ValueType,
    VariantType,
)
from support.generated import abi
from support.generated.source import Source, one_in, pick
from support.generated.wat import Signature, TypeText, result_of

PAGE = 65536
_WILD = (PAGE - 1, PAGE, PAGE + 1, 3, 1, 0, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFF8, 1 << 28)


class Image:
    """One page of guest memory with values written into it. `faults`: one in how many parts is wrong; 0: none."""

    def __init__(self, source: Source, encoding: StringEncoding, faults: int) -> None:
        self.memory = bytearray(PAGE)
        self._s = source
        self._encoding = encoding
        self._faults = faults
        self._next = 1024

    def _wrong(self) -> bool:
        return self._faults > 0 and one_in(self._s, self._faults)

    def take(self, size: int, alignment: int) -> int:
        """Fresh space; when the page is full, space that is used already."""
        at = (self._next + alignment - 1) & -alignment
        if at + size > PAGE:
            at = 1024
        self._next = at + size
        return at

    def place(self, t: ValueType) -> int:
        """The address of a new value of type `t`."""
        s = abi.shape(t)
        at = self.take(abi.size(s), abi.alignment(s))
        self.write(t, at)
        return pick(self._s, _WILD) if self._wrong() else at

    def write(self, t: ValueType, at: int) -> None:
        s = abi.shape(t)
        match t:
            case PrimType("string") | ListType():
                for index, number in enumerate(self._sequence(t)):
                    self.memory[at + 4 * index : at + 4 * index + 4] = number.to_bytes(4, "little")
            case RecordType() | TupleType():
                assert isinstance(s, abi.Product)
                for place, part in zip(abi.places(s), _parts(t), strict=True):
                    self.write(part, at + place)
            case PrimType() | FlagsType():
                assert isinstance(s, abi.Leaf)
                self.memory[at : at + s.width] = self._leaf(t, s.width).to_bytes(s.width, "little")
            case _:
                assert isinstance(s, abi.Sum)
                index, case = self._case(t, s)
                width = abi.tag_width(s)
                self.memory[at : at + width] = (index & (1 << 8 * width) - 1).to_bytes(width, "little")
                if case is not None:
                    self.write(case, at + abi.payload_at(s))

    def flat(self, t: ValueType) -> list[int]:
        """Bits of the flat values, with rubbish where the ABI looks away."""
        s = abi.shape(t)
        match t:
            case PrimType("string") | ListType():
                return list(self._sequence(t))
            case RecordType() | TupleType():
                return [bits for part in _parts(t) for bits in self.flat(part)]
            case PrimType() | FlagsType():
                assert isinstance(s, abi.Leaf)
                width = int(s.core[1:]) // 8
                bits = self._leaf(t, s.width)
                # A character and a float use all of their bits; of the others the ABI reads the low ones.
                rubbish = self._s.integer(0, (1 << 8 * width) - 1) & -(1 << 8 * s.width)
                return [bits | rubbish if self._wrong() else bits]
            case _:
                assert isinstance(s, abi.Sum)
                index, case = self._case(t, s)
                slots = abi.cores(s)[1:]
                payload = [] if case is None else self.flat(case)
                have = [] if case is None else abi.cores(abi.shape(case))
                found = [index]
                for at, slot in enumerate(slots):
                    rubbish = self._s.integer(0, (1 << int(slot[1:])) - 1) if self._wrong() else 0
                    used = int(have[at][1:]) if at < len(have) else 0
                    low = payload[at] if at < len(have) else 0
                    found.append(low | rubbish >> used << used)
                return found

    def _leaf(self, t: ValueType, width: int) -> int:
        if isinstance(t, PrimType) and t.name == "char":
            if self._wrong():
                return pick(self._s, (0xD800, 0xDFFF, 0x110000, 0xFFFFFFFF))
            return self._s.integer(0, 0xD7FF)
        return self._s.integer(0, (1 << 8 * width) - 1)

    def _case(self, t: ValueType, s: abi.Sum) -> tuple[int, ValueType | None]:
        count = len(s.cases)
        index = self._s.integer(0, count - 1)
        if self._wrong():
            return pick(self._s, (count, count + 1, 0xFF, 0xFFFF, 0xFFFFFFFF)), None
        match t:
            case EnumType():
                return index, None
            case OptionType(some):
                return index, (None, some)[index]
            case ResultType(ok, err):
                return index, (ok, err)[index]
            case VariantType(cases):
                return index, cases[index][1]
        raise AssertionError(t)

    def _sequence(self, t: ValueType) -> tuple[int, int]:
        """(pointer, length) of a new string or list."""
        count = self._s.integer(0, 4)
        if isinstance(t, ListType):
            s = abi.shape(t.element)
            at = self.take(count * abi.size(s), abi.alignment(s))
            for index in range(count):
                self.write(t.element, at + index * abi.size(s))
        else:
            at, count = self._string(count)
        if self._wrong():
            at = pick(self._s, (*_WILD, at + 1, at + 2))
        if self._wrong():
            count = pick(self._s, (*_WILD, count + 1))
        return at, count

    def _string(self, count: int) -> tuple[int, int]:
        text = "".join(chr(self._s.integer(0x20, pick(self._s, (0x7E, 0xFF, 0xD7FF)))) for _ in range(count))
        data, tag = text.encode("utf-8"), 0
        units = len(data)
        if self._encoding == "utf16" or (self._encoding == "latin1+utf16" and any(ord(c) > 0xFF for c in text)):
            data = text.encode("utf-16-le")
            units, tag = len(data) // 2, 0x80000000 if self._encoding == "latin1+utf16" else 0
        elif self._encoding == "latin1+utf16":
            data = text.encode("latin-1")
            units = len(data)
        broken = bytearray(data)
        if broken and self._wrong():
            broken[self._s.integer(0, len(broken) - 1)] = pick(self._s, (0xFF, 0x80, 0xC0, 0xD8, 0xDC, 0xED))
        at = self.take(len(broken), 2)
        self.memory[at : at + len(broken)] = broken
        return at, units | tag


def _parts(t: RecordType | TupleType) -> tuple[ValueType, ...]:
    return t.items if isinstance(t, TupleType) else tuple(kind for _, kind in t.fields)


def wild_component(source: Source, params: Sequence[ValueType], encoding: StringEncoding, faults: int) -> str:
    """Exports `give`, which returns drawn bits as the result, and `send`, which passes drawn bits to the import `host`."""
    types = TypeText()
    listed = " ".join(f'(param "p{index}" {types.ref(kind)})' for index, kind in enumerate(params))
    result_type = result_of(params)
    result = types.ref(result_type)
    s = Signature(tuple(params))
    image = Image(source, encoding, faults)
    if s.returns_pointer:
        given, core = [image.place(result_type)], ["i32"]
    else:
        given, core = image.flat(result_type), s.result_cores
    if s.spilled:
        sent = [image.place(TupleType(tuple(params)))]
    else:
        sent = [bits for kind in params for bits in image.flat(kind)]
    page = "".join(f"\\{byte:02x}" for byte in image.memory.rstrip(b"\0"))
    options = f"(memory $memory) string-encoding={encoding}"
    return "\n".join(
        [
            "(component",
            *types.lines,
            f'  (import "host" (func $host {listed}))',
            f'  (core module $data (memory (export "memory") 1 1) (data (i32.const 0) "{page}"))',
            "  (core instance $data (instantiate $data))",
            '  (alias core export $data "memory" (core memory $memory))',
            f"  (core func $host-core (canon lower (func $host) {options}))",
            "  (core module $main",
            f'    (import "host" "call" (func $host{"".join(f" (param {c})" for c in s.cores)}))',
            f'    (func (export "give") (result {core[0]}) {_const(core[0], given[0])})',
            f'    (func (export "send") (call $host {" ".join(map(_const, s.cores, sent))})))',
            '  (core instance $m (instantiate $main (with "host" (instance (export "call" (func $host-core))))))',
            f'  (func (export "give") (result {result}) (canon lift (core func $m "give") {options}))',
            '  (func (export "send") (canon lift (core func $m "send"))))',
        ]
    )


def _const(core: str, bits: int) -> str:
    if core[0] == "i":
        return f"({core}.const {bits & (1 << int(core[1:])) - 1})"
    return f"({core}.reinterpret_i{core[1:]} (i{core[1:]}.const {bits}))"
