"""Bounds on what code is generated for: types far beyond those that people write are refused by name.

Code is generated for every part of a type, and types may share parts, so that a few bytes of a component can stand for
millions of parts; Python, for its part, compiles no more than 20 loops and 100 indentations within one another.
"""

from __future__ import annotations

from collections.abc import Iterable

from perdure.component.canonical.layout import CaseType, cases_of, items_of
from perdure.component.types import (
    EnumType,
    FlagsType,
    FuncType,
    ListType,
    OptionType,
    RecordType,
    ResultType,
    TupleType,
    ValueType,
    VariantType,
)
from perdure.errors import ComponentUnsupported

MAX_PARTS = 30_000
MAX_DEPTH = 64
MAX_LISTS = 16


class _Measures:
    """(parts, depth, lists within one another) of types, each measured once however often it is shared."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[int, int, int]] = {}

    def of(self, t: ValueType | None) -> tuple[int, int, int]:
        if t is None:
            return 0, 0, 0
        found = self._known.get(id(t))
        if found is None:
            found = self._known[id(t)] = self._measure(t)
        return found

    def _measure(self, t: ValueType) -> tuple[int, int, int]:
        match t:
            case ListType(element):
                parts, depth, lists = self.of(element)
                return parts + 1, depth + 1, lists + 1
            case RecordType() | TupleType():
                inner = [self.of(item) for item in items_of(t)]
            case VariantType() | OptionType() | ResultType():
                inner = self._cases(t)
            case FlagsType(names) | EnumType(names):
                return 1 + len(names) // 8, 1, 0
            case _:
                return 1, 1, 0
        parts = 1 + sum(count for count, _, _ in inner)
        return parts, 1 + max(depth for _, depth, _ in inner), max(lists for _, _, lists in inner)

    def _cases(self, t: CaseType) -> list[tuple[int, int, int]]:
        return [(count + 1, depth, lists) for count, depth, lists in (self.of(case) for _, case in cases_of(t))]


def check_complexity(functions: Iterable[FuncType]) -> None:
    """All functions of a component, imported and exported. Raises `ComponentUnsupported`."""
    measures, total = _Measures(), 0
    for function in functions:
        for kind in (*(kind for _, kind in function.params), function.result):
            parts, depth, lists = measures.of(kind)
            total += parts
            if depth > MAX_DEPTH or lists > MAX_LISTS:
                most = f"{MAX_DEPTH} types, or {MAX_LISTS} lists, within one another"
                raise ComponentUnsupported(f"a function of the component has more than {most}", feature="deep types")
        if total > MAX_PARTS:
            raise ComponentUnsupported(
                f"the types of the component's functions have more than {MAX_PARTS:,} parts", feature="large types"
            )
