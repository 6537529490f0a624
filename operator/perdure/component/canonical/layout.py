"""Sizes, alignments, offsets and flat core types (`CanonicalABI.md`: "Despecialization", "Type Predicates",
"Alignment", "Element Size", "Flattening"). Pure; for 32-bit memories."""

from __future__ import annotations

from functools import lru_cache

from perdure.component.types import (
    BorrowType,
    EnumType,
    FlagsType,
    FuncType,
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
from perdure.errors import ComponentUnsupported

MAX_FLAT_PARAMS = 16
MAX_FLAT_RESULTS = 1
"""Beyond these, values go through memory ("Flattening")."""

_PRIM_SIZE = {
    "bool": 1,
    "s8": 1,
    "u8": 1,
    "s16": 2,
    "u16": 2,
    "s32": 4,
    "u32": 4,
    "f32": 4,
    "char": 4,
    "s64": 8,
    "u64": 8,
    "f64": 8,
}


def align_to(offset: int, alignment: int) -> int:
    """`align_to` of "Element Size"."""
    return (offset + alignment - 1) & -alignment


@lru_cache(maxsize=4096)
def size_and_alignment(t: ValueType) -> tuple[int, int]:
    """(size, alignment) in bytes of a value in memory ("Element Size": elem_size; "Alignment").

    Raises `ComponentUnsupported` for more flags than the ABI allows.
    """
    match t:
        case PrimType("string") | ListType():
            return 8, 4
        case PrimType(name):
            return _PRIM_SIZE[name], _PRIM_SIZE[name]
        case RecordType() | TupleType():
            size, alignment = 0, 1
            for item in items_of(t):
                item_size, item_alignment = size_and_alignment(item)
                size = align_to(size, item_alignment) + item_size
                alignment = max(alignment, item_alignment)
            return align_to(size, alignment), alignment
        case FlagsType(names):
            if len(names) > 32:
                raise ComponentUnsupported("flags with more than 32 names", feature="flags over 32")
            size = 1 if len(names) <= 8 else 2 if len(names) <= 16 else 4
            return size, size
        case OwnType() | BorrowType():
            return 4, 4
        case VariantType() | EnumType() | OptionType() | ResultType():
            payloads = [size_and_alignment(case) for _, case in cases_of(t) if case is not None]
            discriminant = discriminant_size(t)
            alignment = max([discriminant, *(a for _, a in payloads)])
            size = max([0, *(s for s, _ in payloads)])
            return align_to(payload_offset(t) + size, alignment), alignment


def items_of(t: RecordType | TupleType) -> tuple[ValueType, ...]:
    """The field types of a record, or the items of a tuple."""
    return tuple(kind for _, kind in t.fields) if isinstance(t, RecordType) else t.items


def offsets_of(t: RecordType | TupleType) -> list[tuple[int, ValueType]]:
    """(offset, type) of each field ("Loading": load_record)."""
    offset, found = 0, []
    for item in items_of(t):
        size, alignment = size_and_alignment(item)
        offset = align_to(offset, alignment)
        found.append((offset, item))
        offset += size
    return found


@lru_cache(maxsize=4096)
def parts_of(t: ValueType) -> tuple[ValueType, ...]:
    """The types a type is made of, one level down."""
    match t:
        case RecordType() | TupleType():
            return items_of(t)
        case VariantType() | EnumType() | OptionType() | ResultType():
            return tuple(case for _, case in cases_of(t) if case is not None)
        case ListType(element):
            return (element,)
        case _:
            return ()


@lru_cache(maxsize=4096)
def has_sequences(t: ValueType) -> bool:
    """Whether a value of the type has strings or lists, which live in memory of their own."""
    return t == PrimType("string") or isinstance(t, ListType) or any(has_sequences(part) for part in parts_of(t))


@lru_cache(maxsize=4096)
def ends_in_bytes(t: ValueType) -> bool:
    """Whether a value of the type has at most one string or list, of numbers, and nothing is stored after it."""
    match t:
        case PrimType("string"):
            return True
        case ListType(PrimType(name)):
            return name not in ("string", "bool", "char")
        case ListType():
            return False
        case RecordType() | TupleType():
            *others, last = items_of(t)
            return ends_in_bytes(last) and not any(map(has_sequences, others))
        case _:
            return all(map(ends_in_bytes, parts_of(t)))


@lru_cache(maxsize=4096)
def has_borrows(t: ValueType) -> bool:
    """Whether a value of the type has borrowed handles ("Type Predicates": contains_borrow)."""
    return isinstance(t, BorrowType) or any(has_borrows(part) for part in parts_of(t))


@lru_cache(maxsize=4096)
def has_handles(t: ValueType) -> bool:
    """Whether a value of the type has handles, owned or borrowed."""
    return isinstance(t, (OwnType, BorrowType)) or any(has_handles(part) for part in parts_of(t))


@lru_cache(maxsize=4096)
def host_size(t: ValueType) -> int:
    """About how many bytes a Python value of the type takes in a list, what its own lists and strings hold apart."""
    match t:
        case PrimType("u8"):
            return 1
        case PrimType("bool") | EnumType():
            return 8
        case PrimType():
            return 64 if t.name in ("string", "char") else 40
        case FlagsType():
            return 256
        case VariantType() | OptionType() | ResultType():
            return 56 + max([0, *(host_size(part) for part in parts_of(t))])
        case _:
            return 64 + sum(16 + host_size(part) for part in parts_of(t))


CaseType = VariantType | EnumType | OptionType | ResultType


def cases_of(t: CaseType) -> tuple[tuple[str, ValueType | None], ...]:
    """Every sum type seen as a variant ("Despecialization")."""
    match t:
        case VariantType(cases):
            return cases
        case EnumType(names):
            return tuple((name, None) for name in names)
        case OptionType(some):
            return (("none", None), ("some", some))
        case ResultType(ok, err):
            return (("ok", ok), ("err", err))


def discriminant_size(t: CaseType) -> int:
    """In bytes ("Alignment": discriminant_type)."""
    count = len(cases_of(t))
    return 1 if count <= 256 else 2 if count <= 65536 else 4


def payload_offset(t: CaseType) -> int:
    """From the discriminant's place ("Loading": load_variant)."""
    alignments = [size_and_alignment(case)[1] for _, case in cases_of(t) if case is not None]
    return align_to(discriminant_size(t), max([1, *alignments]))


@lru_cache(maxsize=4096)
def flat(t: ValueType) -> tuple[str, ...]:
    """The core types that a value flattens to ("Flattening": flatten_type)."""
    match t:
        case PrimType("string") | ListType():
            return ("i32", "i32")
        case PrimType("s64" | "u64"):
            return ("i64",)
        case PrimType("f32" | "f64" as name):
            return (name,)
        case RecordType() | TupleType():
            return tuple(core for item in items_of(t) for core in flat(item))
        case VariantType() | EnumType() | OptionType() | ResultType():
            joined: list[str] = []
            for _, case in cases_of(t):
                for index, core in enumerate(flat(case) if case is not None else ()):
                    if index < len(joined):
                        joined[index] = _join(joined[index], core)
                    else:
                        joined.append(core)
            return ("i32", *joined)
        case _:
            return ("i32",)


def _join(a: str, b: str) -> str:
    """`join` of "Flattening"."""
    if a == b:
        return a
    return "i32" if {a, b} == {"i32", "f32"} else "i64"


def flat_params(t: FuncType) -> tuple[str, ...]:
    return tuple(core for _, kind in t.params for core in flat(kind))


def flat_result(t: FuncType) -> tuple[str, ...]:
    return flat(t.result) if t.result is not None else ()


def core_signature(t: FuncType, *, lowered: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(params, results) of the core function: of an import when `lowered`, of an export's core when not
    ("Flattening": flatten_functype)."""
    params, results = flat_params(t), flat_result(t)
    if len(params) > MAX_FLAT_PARAMS:
        params = ("i32",)
    if len(results) > MAX_FLAT_RESULTS:
        return ((*params, "i32"), ()) if lowered else (params, ("i32",))
    return params, results


def params_tuple(t: FuncType) -> TupleType:
    """The parameters as the tuple they are spilled to memory as."""
    return TupleType(tuple(kind for _, kind in t.params))
