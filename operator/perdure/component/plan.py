"""The link plan: what `link` makes of a decoded component and what `instance` executes.

A plan is flat and immutable: component-level nesting, aliases and instance arguments are resolved once per
component; running it is a loop over `steps`. Core items are named by where they come from (`CoreRef`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from perdure.component.types import FuncType, ResourceType

CoreKind: TypeAlias = Literal["func", "table", "memory", "global", "tag"]
StringEncoding: TypeAlias = Literal["utf8", "utf16", "latin1+utf16"]


@dataclass(frozen=True, slots=True)
class CoreExport:
    """Export `name` of the core instance made by step `instance`."""

    instance: int
    name: str
    kind: CoreKind


@dataclass(frozen=True, slots=True)
class CanonRef:
    """The core function made by `LinkPlan.canons[index]`."""

    index: int


CoreRef: TypeAlias = CoreExport | CanonRef


@dataclass(frozen=True, slots=True)
class CanonOptions:
    """`canonopt`s of Binary.md, with core indices resolved."""

    encoding: StringEncoding = "utf8"
    memory: CoreRef | None = None
    realloc: CoreRef | None = None
    post_return: CoreRef | None = None


@dataclass(frozen=True, slots=True, eq=False)
class HostImport:
    """A function the host must provide: e.g. ("wasi:io/streams@0.2.6", "[method]output-stream.write").

    `interface` is "" for a function imported at the world's top level. Compared by identity.
    """

    interface: str
    name: str
    type: FuncType


@dataclass(frozen=True, slots=True, eq=False)
class Lift:
    """`canon lift`: a component function over a core function of the given component instance.

    Compared by identity: each definition is one function.
    """

    core: CoreRef
    type: FuncType
    options: CanonOptions
    component_instance: int


@dataclass(frozen=True, slots=True)
class Lower:
    """`canon lower` of a host import, or of another component instance's lifted function."""

    func: HostImport | Lift
    options: CanonOptions
    component_instance: int


@dataclass(frozen=True, slots=True)
class ResourceBuiltin:
    """`resource.new`, `resource.rep` or `resource.drop` in the given component instance."""

    op: Literal["new", "rep", "drop"]
    resource: ResourceType
    component_instance: int


Canon: TypeAlias = Lower | ResourceBuiltin


@dataclass(frozen=True, slots=True)
class InstantiateModule:
    """Instantiate `LinkPlan.modules[module]` as core instance `instance`; imports in the module's own order."""

    instance: int
    module: int
    imports: tuple[CoreRef, ...]


@dataclass(frozen=True, slots=True)
class ExportedFunc:
    """An exported function. `interface` is "" for one exported at the world's top level, and dotted for one in an
    instance within an instance. `target` is a `HostImport` where the component hands on what it imports. `path`:
    `golem:examples/api.set`, or `set` at the top level."""

    interface: str
    name: str
    target: Lift | HostImport
    path: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", f"{self.interface}.{self.name}" if self.interface else self.name)

    @property
    def type(self) -> FuncType:
        return self.target.type


@dataclass(frozen=True, slots=True)
class LinkPlan:
    """Everything needed to instantiate a component again and again."""

    modules: tuple[bytes, ...]
    steps: tuple[InstantiateModule, ...]
    canons: tuple[Canon, ...]
    exports: tuple[ExportedFunc, ...]
    imports: tuple[HostImport, ...]
    resources: tuple[ResourceType, ...]
    parents: tuple[int | None, ...]
    """For each component instance, the one that instantiated it; None for the outermost."""
