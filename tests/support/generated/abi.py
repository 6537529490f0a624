"""Sizes, alignments and flat types, worked out a second time from `CanonicalABI.md`, to hold `canonical.layout` against.

It goes another way than the runtime on purpose: every specialised type is first turned into a record or a variant
("Despecialization"), and memory is a string of placed leaves instead of a sum of sizes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

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


@dataclass(frozen=True)
class Leaf:
    """Bytes that are stored at once: width, and the core type they travel as."""

    width: int
    core: str


@dataclass(frozen=True)
class Product:
    parts: tuple[Shape, ...]


@dataclass(frozen=True)
class Sum:
    cases: tuple[Shape | None, ...]


Shape = Leaf | Product | Sum
_POINTER_AND_LENGTH = Product((Leaf(4, "i32"), Leaf(4, "i32")))


def shape(t: ValueType) -> Shape:
    """The type as the ABI sees it."""
    match t:
        case PrimType("string") | ListType():
            return _POINTER_AND_LENGTH
        case PrimType("bool"):
            return Leaf(1, "i32")
        case PrimType("char") | OwnType() | BorrowType():
            return Leaf(4, "i32")
        case PrimType(name):
            bytes_ = int(name[1:]) // 8
            return Leaf(bytes_, name if name[0] == "f" else "i64" if bytes_ == 8 else "i32")
        case RecordType(fields):
            return Product(tuple(shape(kind) for _, kind in fields))
        case TupleType(items):
            return Product(tuple(shape(item) for item in items))
        case FlagsType(names):
            return Leaf(next(width for width in (1, 2, 4) if len(names) <= width * 8), "i32")
        case EnumType(names):
            return Sum((None,) * len(names))
        case OptionType(some):
            return Sum((None, shape(some)))
        case ResultType(ok, err):
            return Sum(tuple(None if side is None else shape(side) for side in (ok, err)))
        case VariantType(cases):
            return Sum(tuple(None if kind is None else shape(kind) for _, kind in cases))
    raise AssertionError(t)


def tag_width(s: Sum) -> int:
    """Bytes of the discriminant."""
    last = len(s.cases) - 1
    return 1 if last < 0x100 else 2 if last < 0x10000 else 4


def alignment(s: Shape) -> int:
    match s:
        case Leaf(width):
            return width
        case Product(parts):
            return max(alignment(part) for part in parts)
        case Sum(cases):
            return max([tag_width(s), *(alignment(case) for case in cases if case is not None)])


def payload_at(s: Sum) -> int:
    """Where the payload of every case begins."""
    at = tag_width(s)
    while any(at % alignment(case) for case in s.cases if case is not None):
        at += 1
    return at


def places(s: Product) -> list[int]:
    """Where each part begins."""
    at, found = 0, []
    for part in s.parts:
        while at % alignment(part):
            at += 1
        found.append(at)
        at += size(part)
    return found


def size(s: Shape) -> int:
    match s:
        case Leaf(width):
            return width
        case Product(parts):
            end = max(at + size(part) for at, part in zip(places(s), parts, strict=True))
        case Sum(cases):
            end = payload_at(s) + max([0, *(size(case) for case in cases if case is not None)])
        case _:
            assert_never(s)
    while end % alignment(s):
        end += 1
    return end


def cores(s: Shape) -> list[str]:
    """The core types of a flat value."""
    match s:
        case Leaf(_, core):
            return [core]
        case Product(parts):
            return [core for part in parts for core in cores(part)]
        case Sum(cases):
            columns: list[set[str]] = []
            for case in cases:
                for index, core in enumerate([] if case is None else cores(case)):
                    if index == len(columns):
                        columns.append(set())
                    columns[index].add(core)
            return ["i32", *(_join(column) for column in columns)]
    raise AssertionError(s)


def _join(column: set[str]) -> str:
    if len(column) == 1:
        return next(iter(column))
    return "i32" if column == {"i32", "f32"} else "i64"
