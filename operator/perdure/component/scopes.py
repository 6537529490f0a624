"""Index spaces while a component is linked. Internal to linking."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from perdure.component.decode import definitions as d
from perdure.component.plan import CoreRef, HostImport, Lift
from perdure.component.types import FuncType, ResourceType, ValueType
from perdure.errors import ComponentError, ComponentUnsupported

MAX_PATH = 4_096
"""Characters of an exported instance's path: paths are written out, one for each place that an instance is found at."""


def export_path(outer: str, name: str) -> str:
    """The path of an instance exported by the one at `outer` ("": the component). Raises `ComponentUnsupported`."""
    path = f"{outer}.{name}" if outer else name
    if len(path) > MAX_PATH:
        raise ComponentUnsupported(
            f"the component exports an instance under a name of more than {MAX_PATH} characters: {path[:60]}…",
            feature="long names",
        )
    return path


@dataclass(frozen=True, slots=True)
class Unsupported:
    """A type that uses a later WASI's feature: harmless until a function needs it."""

    feature: str


@dataclass(frozen=True, slots=True)
class TypeClosure:
    """An instance or component type with the scope its outer aliases refer to."""

    definition: d.InstanceTypeDef | d.ComponentTypeDef
    scope: Scope


@dataclass(frozen=True, slots=True)
class ComponentClosure:
    """A nested component with the scope it was defined in."""

    definition: d.ComponentDef
    scope: Scope


@dataclass(frozen=True, slots=True)
class CoreInstanceRef:
    """The core instance that step `number` makes."""

    number: int


TypeItem: TypeAlias = ValueType | FuncType | ResourceType | TypeClosure | Unsupported | None
CoreInstanceItem: TypeAlias = "CoreInstanceRef | dict[str, CoreRef]"
Item: TypeAlias = "tuple[str, object]"
InstanceItem: TypeAlias = dict[str, Item]
FuncItem: TypeAlias = HostImport | Lift


@dataclass(eq=False, slots=True)
class Scope:
    """The index spaces of one component instance (or type) being built. `up`: the enclosing one."""

    up: Scope | None
    instance: int
    spaces: dict[str, list[object]] = field(default_factory=dict)

    def space(self, sort: str) -> list[object]:
        return self.spaces.setdefault(sort, [])

    def outer(self, count: int) -> Scope:
        """The scope `count` levels further out. Raises `ComponentError` where there is none."""
        found, left = self, count
        while left:
            if found.up is None:
                raise ComponentError("malformed component: an outer alias beyond the outermost component")
            found, left = found.up, left - 1
        return found

    def add(self, sort: str, value: object) -> None:
        self.space(sort).append(value)

    def item(self, ref: d.SortIndex) -> Item:
        return (ref.sort, self.space(ref.sort)[ref.index])
