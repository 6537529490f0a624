"""Generating code that lowers: Python values → guest memory or flat core values.

component-model `CanonicalABI.md`: "Storing", "Flat Lowering". A value that does not fit its type raises one of `MISFIT`
in the generated code; the caller names it.

Code that needs guest memory is a generator (`Lowering`): it yields the arguments of the guest's `realloc` and is sent
the pointer. So whoever runs it decides how `realloc` is called, and time may pass meanwhile: what is written next is
bounded by what was asked for, whatever became of the value. A generator costs more than most values; where there is
but one thing to allocate, and nothing to store after it, the code returns that (`Placement`) instead.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Generator
from typing import TypeAlias

from perdure.component.canonical.emitter import Emitter
from perdure.component.canonical.layout import (
    discriminant_size,
    flat,
    items_of,
    offsets_of,
    payload_offset,
    size_and_alignment,
)
from perdure.component.canonical.lift import FORMAT, UNSIGNED
from perdure.component.memory import Memory
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

MISFIT = (KeyError, TypeError, ValueError, OverflowError, AttributeError, IndexError, struct.error)
MAX_MEMORY = (1 << 32) - 1
Lowering: TypeAlias = Generator[tuple[int, int, int, int], int, None]
"""Yields `(old pointer, old size, alignment, size)` for `realloc`; is sent its answer, which it does not trust."""

Placement: TypeAlias = "tuple[Memory, int, int, bytes, int, int]"
"""`(memory, alignment, size, data, address, length)`: `data`, a buffer of `size` bytes, goes into new guest memory; the
pointer to it and `length` go to `address`."""


def store(e: Emitter, t: ValueType, value: str, address: str) -> None:
    """Emit the writing of `value` to an absolute, checked address ("Storing": store)."""
    match t:
        case PrimType("bool"):
            e.emit(f"RAW[{address}] = BITS[{value}]")
        case PrimType("char"):
            e.emit(f"{e.writer('I')}(RAW, {address}, char_code({value}))")
        case PrimType("string") | ListType() if e.placing:
            _place(e, t, value, address)
        case PrimType("string") | ListType():
            pointer, length = _sequence(e, t, value)
            e.emit(f"{e.writer('II')}(RAW, {address}, {pointer}, {length})")
        case PrimType(name):
            e.emit(f"{e.writer(FORMAT[name])}(RAW, {address}, {_number(e, name, value)})")
        case RecordType() | TupleType():
            base, whole = e.let(address, "a"), e.let(value)
            for (offset, item), part in zip(offsets_of(t), _parts(e, t, whole), strict=True):
                store(e, item, part, f"{base} + {offset}")
        case FlagsType():
            form = UNSIGNED[size_and_alignment(t)[0]]
            e.emit(f"{e.writer(form)}(RAW, {address}, {_flags(e, t, value)})")
        case OwnType() | BorrowType():
            e.emit(f"{e.writer('I')}(RAW, {address}, {_handle(e, t, value)})")
        case EnumType(names):
            form = UNSIGNED[discriminant_size(t)]
            positions = e.constant({name: index for index, name in enumerate(names)}, "enum")
            e.emit(f"{e.writer(form)}(RAW, {address}, {positions}[{value}])")
        case VariantType() | OptionType() | ResultType():
            base = e.let(address, "a")
            form = UNSIGNED[discriminant_size(t)]
            offset = payload_offset(t)

            def arm(index: int, case: ValueType | None, payload: str) -> None:
                e.emit(f"RAW[{base}] = {index}" if form == "B" else f"{e.writer(form)}(RAW, {base}, {index})")
                if case is not None:
                    store(e, case, payload, f"{base} + {offset}")

            _match(e, t, value, arm)


def lower_flat(e: Emitter, t: ValueType, value: str) -> list[str]:
    """Emit what is needed and return expressions of the flat core values (ints unsigned)
    ("Flat Lowering": lower_flat)."""
    match t:
        case PrimType("bool"):
            return [f"BITS[{value}]"]
        case PrimType("char"):
            return [f"char_code({value})"]
        case PrimType("string") | ListType():
            return list(_sequence(e, t, value))
        case PrimType("f32" | "f64" as name):
            return [_number(e, name, value)]
        case PrimType(name):
            return [_checked_integer(e, name, value)]
        case RecordType() | TupleType():
            whole = e.let(value)
            parts = zip(items_of(t), _parts(e, t, whole), strict=True)
            return [core for item, part in parts for core in lower_flat(e, item, part)]
        case FlagsType():
            return [_flags(e, t, value)]
        case OwnType() | BorrowType():
            return [e.let(_handle(e, t, value))]
        case EnumType(names):
            positions = e.constant({name: index for index, name in enumerate(names)}, "enum")
            return [f"{positions}[{value}]"]
        case VariantType() | OptionType() | ResultType():
            joined = flat(t)
            slots = [e.name("f") for _ in joined]

            def arm(index: int, case: ValueType | None, payload: str) -> None:
                e.emit(f"{slots[0]} = {index}")
                cores = lower_flat(e, case, payload) if case is not None else []
                wanted = flat(case) if case is not None else ()
                for at, slot in enumerate(slots[1:]):
                    if at < len(cores):
                        e.emit(f"{slot} = {_widen(wanted[at], joined[at + 1], cores[at])}")
                    else:
                        e.emit(f"{slot} = 0")

            _match(e, t, value, arm)
            return slots


def _widen(have: str, want: str, value: str) -> str:
    """Join a payload into the variant's common core type ("Flat Lowering": lower_flat_variant)."""
    if have == want or (have, want) == ("i32", "i64"):
        return value
    return f"bits_of_{have}({value})"


def _checked_integer(e: Emitter, name: str, value: str) -> str:
    """The value as an unsigned core integer; out of its own type's range it raises."""
    number = e.let(value)
    bits = int(name[1:])
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if name[0] == "s" else (0, (1 << bits) - 1)
    with e.block(f"if not {low} <= {number} <= {high}:"):
        e.emit(f"raise OverflowError(f'{{{number}!r}} is not in the range of {name}')")
    return number if low == 0 else f"({number} & {0xFFFFFFFFFFFFFFFF if bits == 64 else 0xFFFFFFFF:#x})"


def _number(e: Emitter, name: str, value: str) -> str:
    """A NaN goes to the guest as the canonical one, which "Storing" (maybe_scramble_nan32, maybe_scramble_nan64) leaves
    open: replay is exact."""
    if name in ("f32", "f64"):
        number = e.let(value)
        return f"({number} if {number} == {number} else NAN)"
    return value


def _parts(e: Emitter, t: RecordType | TupleType, whole: str) -> list[str]:
    if isinstance(t, RecordType):
        return [f"{whole}[{name!r}]" for name, _ in t.fields]
    with e.block(f"if len({whole}) != {len(t.items)}:"):
        e.emit(f"raise ValueError(f'{{len({whole})}} items for a tuple of {len(t.items)}')")
    return [f"{whole}[{index}]" for index in range(len(t.items))]


def _flags(e: Emitter, t: FlagsType, value: str) -> str:
    return f"flag_bits({e.constant({name: index for index, name in enumerate(t.names)}, 'flags')}, {value})"


def _handle(e: Emitter, t: OwnType | BorrowType, value: str) -> str:
    resource = e.constant(t.resource, "resource")
    return f"cx.{'lower_own' if isinstance(t, OwnType) else 'lower_borrow'}({value}, {resource})"


def _match(
    e: Emitter,
    t: VariantType | OptionType | ResultType,
    value: str,
    arm: Callable[[int, ValueType | None, str], None],
) -> None:
    """The case that a value is of ("Storing": match_case)."""
    whole = e.let(value)
    if isinstance(t, OptionType):
        with e.block(f"if {whole} is None:"):
            arm(0, None, "None")
        with e.block("else:"):
            arm(1, t.some, f"{whole}.value" if isinstance(t.some, OptionType) else whole)
        return
    if isinstance(t, ResultType):
        with e.block(f"if type({whole}) is Ok:"):
            arm(0, t.ok, f"{whole}.value")
        with e.block(f"elif type({whole}) is Err:"):
            arm(1, t.err, f"{whole}.value")
        with e.block("else:"):
            e.emit(f"raise TypeError(f'{{{whole}!r}} is neither Ok nor Err')")
        return
    positions = e.constant({name: index for index, (name, _) in enumerate(t.cases)}, "cases")
    chosen = e.let(f"{positions}[{whole}.case]", "d")
    e.switch(chosen, len(t.cases), lambda index: arm(index, t.cases[index][1], f"{whole}.value"))


def _sequence(e: Emitter, t: ValueType, value: str) -> tuple[str, str]:
    """Names of a copy's pointer and length ("Storing": store_string_into_range, store_list_into_range). Where the
    guest's allocator put it is checked by `cx.mem.at`."""
    if not isinstance(t, ListType):
        return _string(e, value)
    pointer = e.name("p")
    size, alignment = size_and_alignment(t.element)
    items, length, extent = _measured(e, value, size)
    e.emit(f"{pointer} = yield 0, 0, {alignment}, {extent}")
    start = e.let(f"mem.at({pointer}, {extent}, {alignment})", "a")
    match t.element:
        case PrimType("u8"):
            e.emit(f"RAW[{start} : {start} + {length}] = {items}")
        case PrimType(name) if name in FORMAT:
            if name in ("f32", "f64"):
                items = f"[x if x == x else NAN for x in {items}]"
            e.emit(f"pack_into(f'<{{{length}}}{FORMAT[name]}', RAW, {start}, *{items})")
        case _:
            item, at = e.name("item"), e.name("i")
            with e.block(f"for {item}, {at} in zip({items}, range({start}, {start} + {extent}, {size})):"):
                store(e, t.element, item, at)
    return pointer, length


def _measured(e: Emitter, value: str, size: int) -> tuple[str, str, str]:
    """(list, length, size in bytes) of a list of elements of `size` bytes."""
    items, length = e.let(value), e.name("n")
    e.emit(f"{length} = len({items})")
    with e.block(f"if {length} > {MAX_MEMORY // size}:"):
        e.emit(f"raise ValueError(f'{{{length}}} items of {size} bytes do not fit a 32-bit memory')")
    return items, length, length if size == 1 else f"{length} * {size}"


def _place(e: Emitter, t: ValueType, value: str, address: str) -> None:
    if not isinstance(t, ListType):
        data, alignment, units = e.name("b"), e.name("l"), e.name("n")
        e.emit(f"{data}, {alignment}, {units} = encode(cx.encoding, {value})")
        e.emit(f"return mem, {alignment}, len({data}), {data}, {address}, {units}")
        return
    size, boundary = size_and_alignment(t.element)
    assert isinstance(t.element, PrimType)
    given = e.let(value)
    if t.element == PrimType("u8"):
        # It goes to the guest later, where nobody could say any more whose it is.
        with e.block(f"if type({given}) is not bytes:"):
            e.emit(f"{given} = copied({given})")
    items, length, extent = _measured(e, given, size)
    if t.element != PrimType("u8"):
        if t.element.name in ("f32", "f64"):
            items = f"[x if x == x else NAN for x in {items}]"
        items = e.let(f"pack(f'<{{{length}}}{FORMAT[t.element.name]}', *{items})", "b")
    e.emit(f"return mem, {boundary}, {extent}, {items}, {address}, {length}")


def _string(e: Emitter, value: str) -> tuple[str, str]:
    text, data, alignment, units = e.let(value), e.name("b"), e.name("l"), e.name("n")
    pointer = e.name("p")
    e.emit(f"{data}, {alignment}, {units} = encode(cx.encoding, {text})")
    with e.block(f"if type({text}) is GuestString:"):
        e.emit(f"{pointer} = yield from cx.transcoding_space({text}, {data}, {alignment})")
    with e.block("else:"):
        e.emit(f"{pointer} = yield 0, 0, {alignment}, len({data})")
    start = e.let(f"mem.at({pointer}, len({data}), {alignment})", "a")
    e.emit(f"RAW[{start} : {start} + len({data})] = {data}")
    return pointer, units
