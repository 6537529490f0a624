"""What the decoder yields: definitions as they stand in the binary, with indices not yet resolved.

Names follow the grammar of component-model `Binary.md`; the sections are in the docstrings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from perdure.component.plan import StringEncoding

Sort: TypeAlias = Literal[
    "func",
    "value",
    "type",
    "component",
    "instance",
    "core func",
    "core table",
    "core memory",
    "core global",
    "core tag",
    "core type",
    "core module",
    "core instance",
]


@dataclass(frozen=True, slots=True)
class PrimRef:
    """A primitive value type written in place."""

    name: str


@dataclass(frozen=True, slots=True)
class TypeIndex:
    """A value type by index."""

    index: int


ValRef: TypeAlias = PrimRef | TypeIndex


@dataclass(frozen=True, slots=True)
class SortIndex:
    sort: Sort
    index: int


# --- types (section 7)


@dataclass(frozen=True, slots=True)
class PrimDef:
    name: str


@dataclass(frozen=True, slots=True)
class RecordDef:
    fields: tuple[tuple[str, ValRef], ...]


@dataclass(frozen=True, slots=True)
class VariantDef:
    cases: tuple[tuple[str, ValRef | None], ...]


@dataclass(frozen=True, slots=True)
class ListDef:
    element: ValRef


@dataclass(frozen=True, slots=True)
class TupleDef:
    items: tuple[ValRef, ...]


@dataclass(frozen=True, slots=True)
class NamesDef:
    """`flags` or `enum`."""

    kind: Literal["flags", "enum"]
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OptionDef:
    some: ValRef


@dataclass(frozen=True, slots=True)
class ResultDef:
    ok: ValRef | None
    err: ValRef | None


@dataclass(frozen=True, slots=True)
class HandleDef:
    kind: Literal["own", "borrow"]
    resource: int


@dataclass(frozen=True, slots=True)
class FuncDef:
    params: tuple[tuple[str, ValRef], ...]
    result: ValRef | None


@dataclass(frozen=True, slots=True)
class ResourceDef:
    destructor: int | None


@dataclass(frozen=True, slots=True)
class UnsupportedDef:
    """A type of a later WASI: legal to declare, refused where something uses it."""

    feature: str


@dataclass(frozen=True, slots=True)
class InstanceTypeDef:
    declarations: tuple[Definition, ...]


@dataclass(frozen=True, slots=True)
class ComponentTypeDef:
    declarations: tuple[Definition, ...]


DefType: TypeAlias = (
    PrimDef
    | RecordDef
    | VariantDef
    | ListDef
    | TupleDef
    | NamesDef
    | OptionDef
    | ResultDef
    | HandleDef
    | FuncDef
    | ResourceDef
    | UnsupportedDef
    | InstanceTypeDef
    | ComponentTypeDef
)


# --- extern descriptions


@dataclass(frozen=True, slots=True)
class ExternType:
    """`kind` type-eq carries the index of the type it equals; type-sub-resource has index -1."""

    kind: Literal["core module", "func", "type-eq", "type-sub-resource", "component", "instance"]
    index: int = -1


# --- definitions in order


@dataclass(frozen=True, slots=True)
class CoreModuleDef:
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class CoreInstantiate:
    module: int
    args: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class CoreExports:
    items: tuple[tuple[str, SortIndex], ...]


@dataclass(frozen=True, slots=True)
class CoreTypeDef:
    """A core type's place in its index space; its content is the validator's business."""


@dataclass(frozen=True, slots=True)
class ComponentDef:
    definitions: tuple[Definition, ...]


@dataclass(frozen=True, slots=True)
class Instantiate:
    component: int
    args: tuple[tuple[str, SortIndex], ...]


@dataclass(frozen=True, slots=True)
class Exports:
    items: tuple[tuple[str, SortIndex], ...]


@dataclass(frozen=True, slots=True)
class AliasExport:
    sort: Sort
    instance: int
    name: str


@dataclass(frozen=True, slots=True)
class AliasCoreExport:
    sort: Sort
    instance: int
    name: str


@dataclass(frozen=True, slots=True)
class AliasOuter:
    sort: Sort
    count: int
    index: int


@dataclass(frozen=True, slots=True)
class TypeDef:
    type: DefType


@dataclass(frozen=True, slots=True)
class RawOptions:
    """`canonopt`s with core indices not yet resolved."""

    encoding: StringEncoding = "utf8"
    memory: int | None = None
    realloc: int | None = None
    post_return: int | None = None


@dataclass(frozen=True, slots=True)
class CanonLift:
    core_func: int
    options: RawOptions
    type: int


@dataclass(frozen=True, slots=True)
class CanonLower:
    func: int
    options: RawOptions


@dataclass(frozen=True, slots=True)
class CanonResource:
    op: Literal["new", "drop", "rep"]
    resource: int


@dataclass(frozen=True, slots=True)
class CanonLater:
    """A built-in of a later WASI: decoded only to look at what follows it, never linked."""

    feature: str


@dataclass(frozen=True, slots=True)
class Import:
    name: str
    type: ExternType


@dataclass(frozen=True, slots=True)
class Export:
    """`type`: what the item is said to be, if that is said; a function's type then is in terms of exported types."""

    name: str
    item: SortIndex
    type: ExternType | None = None


@dataclass(frozen=True, slots=True)
class Custom:
    """A custom section that says something of the component to people (`custom.py`); linking passes it by."""

    name: str
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ExportDecl:
    """An export within an instance or component type."""

    name: str
    type: ExternType


Definition: TypeAlias = (
    CoreModuleDef
    | CoreInstantiate
    | CoreExports
    | CoreTypeDef
    | ComponentDef
    | Instantiate
    | Exports
    | AliasExport
    | AliasCoreExport
    | AliasOuter
    | TypeDef
    | CanonLift
    | CanonLower
    | CanonResource
    | CanonLater
    | Import
    | Export
    | ExportDecl
    | Custom
)


def core_modules(definitions: Iterable[Definition]) -> Iterator[bytes]:
    """Those of the component and of the components within it, instantiated or not."""
    for definition in definitions:
        if isinstance(definition, CoreModuleDef):
            yield definition.data
        elif isinstance(definition, ComponentDef):
            yield from core_modules(definition.definitions)
