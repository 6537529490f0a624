"""Generating code that lifts: guest memory or flat core values → Python values.

component-model `CanonicalABI.md`: "Loading", "Flat Lifting". In the generated source `cx` is a
`context.CallContext`, `RAW` the address space, and every address comes from `cx.mem`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from perdure.component.canonical.emitter import Emitter
from perdure.component.canonical.layout import (
    CaseType,
    cases_of,
    discriminant_size,
    flat,
    host_size,
    items_of,
    offsets_of,
    payload_offset,
    size_and_alignment,
)
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

FORMAT = {
    "s8": "b",
    "u8": "B",
    "s16": "h",
    "u16": "H",
    "s32": "i",
    "u32": "I",
    "s64": "q",
    "u64": "Q",
    "f32": "f",
    "f64": "d",
}
UNSIGNED = {1: "B", 2: "H", 4: "I"}


def load(e: Emitter, t: ValueType, address: str) -> str:
    """An expression for the value at an absolute, checked address ("Loading": load)."""
    match t:
        case PrimType("bool"):
            return f"RAW[{address}] != 0"
        case PrimType("u8"):
            return f"RAW[{address}]"
        case PrimType("char"):
            return f"checked_char({e.reader('I')}(RAW, {address})[0])"
        case PrimType("string") | ListType():
            pointer, length = e.name("p"), e.name("n")
            e.emit(f"{pointer}, {length} = {e.reader('II')}(RAW, {address})")
            return _sequence(e, t, pointer, length)
        case PrimType(name):
            value = f"{e.reader(FORMAT[name])}(RAW, {address})[0]"
            return _canonical_nan(e, value) if name in ("f32", "f64") else value
        case RecordType() | TupleType():
            base = e.let(address, "a")
            values = [e.let(load(e, item, f"{base} + {offset}")) for offset, item in offsets_of(t)]
            return _assembled(t, values)
        case FlagsType(names):
            form = UNSIGNED[size_and_alignment(t)[0]]
            return f"flag_names({names!r}, {e.reader(form)}(RAW, {address})[0])"
        case OwnType() | BorrowType():
            return _handle(e, t, f"{e.reader('I')}(RAW, {address})[0]")
        case VariantType() | EnumType() | OptionType() | ResultType():
            base = e.let(address, "a")
            form = UNSIGNED[discriminant_size(t)]
            discriminant = e.let(f"{e.reader(form)}(RAW, {base})[0]", "d")
            offset = payload_offset(t)
            return _sum(e, t, discriminant, lambda case: load(e, case, f"{base} + {offset}"))


def lift_flat(e: Emitter, t: ValueType, values: Iterator[str]) -> str:
    """An expression for the value whose flat core values (unsigned ints, floats) are the next of `values`
    ("Flat Lifting": lift_flat)."""
    match t:
        case PrimType("bool"):
            return f"{next(values)} != 0"
        case PrimType("u8" | "u16" as name):
            return f"{next(values)} & {0xFF if name == 'u8' else 0xFFFF:#x}"
        case PrimType("s8" | "s16" | "s32" | "s64" as name):
            sign = 1 << (int(name[1:]) - 1)
            return f"(({next(values)} & {2 * sign - 1:#x}) ^ {sign:#x}) - {sign:#x}"
        case PrimType("char"):
            return f"checked_char({next(values)})"
        case PrimType("string") | ListType():
            return _sequence(e, t, next(values), next(values))
        case PrimType("f32" | "f64"):
            return _canonical_nan(e, next(values))
        case PrimType():
            return next(values)
        case RecordType() | TupleType():
            return _assembled(t, [e.let(lift_flat(e, item, values)) for item in items_of(t)])
        case FlagsType(names):
            return f"flag_names({names!r}, {next(values)})"
        case OwnType() | BorrowType():
            return _handle(e, t, next(values))
        case VariantType() | EnumType() | OptionType() | ResultType():
            discriminant = next(values)
            joined = flat(t)[1:]
            payload = [next(values) for _ in joined]

            def lift_case(case: ValueType) -> str:
                narrowed = [_narrow(have, want, v) for have, want, v in zip(joined, flat(case), payload, strict=False)]
                return lift_flat(e, case, iter(narrowed))

            return _sum(e, t, discriminant, lift_case)


def _narrow(have: str, want: str, value: str) -> str:
    """Undo the join of a variant's payloads ("Flat Lifting": lift_flat_variant)."""
    match have, want:
        case ("i32", "f32"):
            return f"f32_of_bits({value})"
        case ("i64", "i32"):
            return f"({value} & 0xffffffff)"
        case ("i64", "f32"):
            return f"f32_of_bits({value})"
        case ("i64", "f64"):
            return f"f64_of_bits({value})"
        case _:
            return value


def _canonical_nan(e: Emitter, value: str) -> str:
    """Each NaN becomes one and the same ("Loading": canonicalize_nan32, canonicalize_nan64)."""
    number = e.let(value)
    return f"{number} if {number} == {number} else NAN"


def _assembled(t: RecordType | TupleType, values: list[str]) -> str:
    if isinstance(t, RecordType):
        return "{" + ", ".join(f"{name!r}: {v}" for (name, _), v in zip(t.fields, values, strict=True)) + "}"
    return "(" + "".join(f"{v}, " for v in values) + ")"


def _handle(e: Emitter, t: OwnType | BorrowType, index: str) -> str:
    resource = e.constant(t.resource, "resource")
    return f"cx.{'lift_own' if isinstance(t, OwnType) else 'lift_borrow'}({index}, {resource})"


def _sum(e: Emitter, t: CaseType, discriminant: str, payload: Callable[[ValueType], str]) -> str:
    """A trap for a discriminant without a case ("Loading": load_variant; "Flat Lifting": lift_flat_variant)."""
    cases = cases_of(t)
    kind = type(t).__name__.removesuffix("Type").lower()
    with e.block(f"if {discriminant} >= {len(cases)}:"):
        e.emit(f"raise AbiTrap(f'discriminant {{{discriminant}}} of a type of {len(cases)} cases ({kind})')")
    if isinstance(t, EnumType):
        return f"{e.constant(t.names, 'names')}[{discriminant}]"
    result = e.name("r")

    def arm(index: int) -> None:
        name, case = cases[index]
        value = payload(case) if case is not None else "None"
        e.emit(f"{result} = {_case_value(t, name, value)}")

    e.switch(discriminant, len(cases), arm)
    return result


def _case_value(t: CaseType, name: str, value: str) -> str:
    if isinstance(t, OptionType):
        return value if name == "none" or not isinstance(t.some, OptionType) else f"Some({value})"
    if isinstance(t, ResultType):
        return f"{'Ok' if name == 'ok' else 'Err'}({value})"
    return f"Variant({name!r}, {value})"


def _sequence(e: Emitter, t: ValueType, pointer: str, length: str) -> str:
    """A string or list by its pointer and length ("Loading": load_string_from_range, load_list_from_range). `span`
    checks its alignment, its bounds and its size."""
    if not isinstance(t, ListType):
        return f"cx.lift_string({pointer}, {length})"
    size, alignment = size_and_alignment(t.element)
    start = e.let(f"mem.span({pointer}, {length}, {size}, {alignment}, {host_size(t.element)})", "a")
    end = f"{start} + {length} * {size}"
    match t.element:
        case PrimType("u8"):
            return f"RAW[{start} : {end}].tobytes()"
        case PrimType("bool"):
            return f"[b != 0 for b in RAW[{start} : {end}]]"
        case PrimType("f32" | "f64" as name):
            return f"[x if x == x else NAN for x in RAW[{start} : {end}].cast({FORMAT[name]!r})]"
        case PrimType(name) if name in FORMAT:
            return f"RAW[{start} : {end}].cast({FORMAT[name]!r}).tolist()"
    items, at = e.name("items"), e.name("i")
    e.emit(f"{items} = []")
    with e.block(f"for {at} in range({start}, {end}, {size}):"):
        e.emit(f"{items}.append({load(e, t.element, at)})")
    return items
