"""Definitions → the component's `World`, and what stands in the way of running it.

A second reading beside `link.py`, of types alone: it keeps the names of types, and it goes on where linking has to
stop, so that a component which cannot be run can be shown all the same, with every reason.

Names of types (`Explainer.md`, "Import and Export Definitions"): whatever exports a type under a name makes an object
of its own, equal to the exported one and remembered as made from it. So `type a = b` and `use x.{b}` can be told.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

from perdure.component.decode import definitions as d
from perdure.component.deftypes import TypeResolver
from perdure.component.interfaces import Function, Interface, NamedType, TypeDefinition, TypeName, TypeNames, World
from perdure.component.scopes import ComponentClosure, InstanceItem, Item, Scope, TypeClosure, Unsupported, export_path
from perdure.component.types import (
    FuncType,
    ResourceType,
)
from perdure.errors import ComponentError, ComponentUnsupported

MAX_DEFINITIONS = 200_000
"""Definitions read, those of a nested component once for each instance of it."""
MAX_INSTANCES = 5_000
"""Instances made, imported and exported; one that is exported by several others counts for each."""
MAX_DEPTH = 100
"""Instances within instances, and types within types; a named type within another does not count."""
MAX_PARTS = 200_000
"""Types mentioned by all functions and definitions together, each as often as text or a schema would have it."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a component cannot be run. `feature` is a short stable name; `detail` is a sentence."""

    feature: str
    detail: str


@dataclass(frozen=True, slots=True)
class ImportUse:
    """Something the host must provide because the component's code refers to it. `type` None: a resource type."""

    interface: str
    name: str
    type: FuncType | None


@dataclass(frozen=True, slots=True)
class Reading:
    """`uses`: the imports that code refers to; an interface may be imported for its types alone."""

    world: World
    uses: tuple[ImportUse, ...]
    reasons: tuple[Reason, ...]


def read_world(definitions: Sequence[d.Definition]) -> Reading:
    """Raises `ComponentError` where an index or name does not resolve, `ComponentUnsupported` where there is no end."""
    reader = _WorldReader()
    try:
        exports = reader.instantiate(definitions, None, None)
    except (IndexError, KeyError, AttributeError, TypeError) as error:
        raise ComponentError(f"malformed component: an index or name does not resolve ({error})") from error
    return reader.reading(exports)


@dataclass(frozen=True, slots=True)
class _Func:
    """`interface` None: the component's own."""

    interface: str | None
    name: str
    type: FuncType | Unsupported


@dataclass(slots=True)
class _WorldReader:
    imported: InstanceItem = field(default_factory=dict)
    names: TypeNames = field(default_factory=TypeNames)
    uses: dict[tuple[str, str], ImportUse] = field(default_factory=dict)
    reasons: dict[str, Reason] = field(default_factory=dict)
    # What a named object was made from. Both stay alive, so that no id is given twice.
    origins: dict[int, tuple[object, object]] = field(default_factory=dict)
    # Knows how large a type without a name is, written out.
    types: TypeResolver = field(default_factory=TypeResolver)
    read: int = 0
    instances: int = 0
    depth: int = 0
    parts: int = 0

    def reading(self, exports: InstanceItem) -> Reading:
        imports = tuple(self._interfaces("", self.imported))
        world = World(imports, tuple(self._interfaces("", exports)), names=self.names)
        return Reading(world, tuple(self.uses.values()), tuple(self.reasons.values()))

    # --- definitions

    def instantiate(
        self, definitions: Sequence[d.Definition], up: Scope | None, args: InstanceItem | None
    ) -> InstanceItem:
        """Read one component; `args` None: the outermost one."""
        scope, exports = Scope(up, 0), cast("InstanceItem", {})
        self._deeper()
        for definition in definitions:
            match definition:
                case d.Import(name, kind):
                    if args is None:
                        item = self.imported[name] = self._extern(kind, scope, "", name)
                    elif kind.kind == "core module":
                        item = (kind.kind, None)
                    else:
                        item = args[name]
                    scope.add(*item)
                case d.Export(name, ref, kind):
                    if not ref.sort.startswith("core"):
                        item = exports[name] = self._exported(ref, kind, scope)
                        scope.add(*item)
                case _:
                    self._define(definition, scope)
        self.depth -= 1
        return exports

    def _define(self, definition: d.Definition, scope: Scope) -> None:
        self._another()
        match definition:
            case d.ComponentDef():
                scope.add("component", ComponentClosure(definition, scope))
            case d.Instantiate():
                scope.add("instance", self._instance(definition, scope))
            case d.Exports(items):
                scope.add("instance", {name: scope.item(ref) for name, ref in items})
            case d.AliasExport(sort, instance, name):
                exports = cast("InstanceItem", scope.space("instance")[instance])
                actual, value = exports[name]
                if actual != sort and not sort.startswith("core"):
                    raise ComponentError(f"malformed component: an alias of {name!r} as {sort}, which is {actual}")
                scope.add(sort, None if sort.startswith("core") else value)
            case d.AliasOuter(sort, count, index):
                if not sort.startswith("core"):
                    scope.add(sort, scope.outer(count).space(sort)[index])
            case d.TypeDef(d.ResourceDef()):
                scope.add("type", ResourceType(None, "resource", 0))
            case d.TypeDef(kind):
                scope.add("type", self.types.resolve(kind, scope))
            case d.CanonLift(_, _, index):
                found = scope.space("type")[index]
                scope.add("func", self._used(_Func(None, "", _func_type(found))))
            case d.CanonLower(index, _):
                self._used(cast("_Func", scope.space("func")[index]))
            case d.CanonResource(_, index):
                resource = scope.space("type")[index]
                if isinstance(resource, ResourceType) and resource.interface is not None:
                    use = ImportUse(resource.interface, resource.name, None)
                    self.uses.setdefault((use.interface, use.name), use)
            case _:
                pass

    def _instance(self, definition: d.Instantiate, scope: Scope) -> InstanceItem:
        closure = scope.space("component")[definition.component]
        given = {name: scope.item(ref) for name, ref in definition.args if not ref.sort.startswith("core")}
        if not isinstance(closure, ComponentClosure):
            return {}  # an imported component, which is refused
        return self.instantiate(closure.definition.definitions, closure.scope, given)

    def _used(self, func: _Func) -> _Func:
        """Code stands behind the function, or calls it."""
        if isinstance(func.type, Unsupported):
            self._refuse(func.type.feature)
        elif func.interface is not None:
            use = ImportUse(func.interface, func.name, func.type)
            self.uses.setdefault((use.interface, use.name), use)
        return func

    def _exported(self, ref: d.SortIndex, kind: d.ExternType | None, scope: Scope) -> Item:
        sort, value = scope.item(ref)
        said = scope.space("type")[kind.index] if kind is not None and kind.index >= 0 else None
        if sort == "type":
            return (sort, self._renamed(value))
        if sort == "func" and isinstance(said, FuncType):
            return (sort, dataclasses.replace(cast("_Func", value), type=said))
        return (sort, value)

    def _extern(self, kind: d.ExternType, scope: Scope, interface: str, name: str) -> Item:
        if kind.kind in ("component", "core module"):
            self._note(f"{kind.kind} imports", f"the component imports a {kind.kind} ({name})")
            return (kind.kind, None)
        found = scope.space("type")[kind.index] if kind.index >= 0 else None
        match kind.kind:
            case "func":
                return ("func", _Func(interface, name, _func_type(found)))
            case "type-eq":
                return ("type", self._renamed(found))
            case "type-sub-resource":
                return ("type", ResourceType(interface, name))
            case _:
                nested = f"{interface}.{name}" if interface else name
                return ("instance", self._imported_instance(found, nested))

    def _imported_instance(self, closure: object, interface: str) -> InstanceItem:
        if not isinstance(closure, TypeClosure):
            raise ComponentError("malformed component: an instance import without an instance type")
        scope, exports = Scope(closure.scope, 0), cast("InstanceItem", {})
        self._deeper()
        for declaration in closure.definition.declarations:
            if isinstance(declaration, d.ExportDecl):
                item = exports[declaration.name] = self._extern(declaration.type, scope, interface, declaration.name)
                scope.add(*item)
            else:
                self._define(declaration, scope)
        self.depth -= 1
        return exports

    def _count(self, t: object) -> None:
        self.parts += self.types.parts(t)
        if self.parts > MAX_PARTS:
            raise ComponentUnsupported(
                f"the component's functions mention more than {MAX_PARTS:,} types", feature="very large types"
            )

    def _another(self) -> None:
        self.read += 1
        if self.read > MAX_DEFINITIONS:
            raise ComponentUnsupported(
                f"the component has more than {MAX_DEFINITIONS} definitions, those of each instance counted",
                feature="unbounded instantiation",
            )

    def _deeper(self) -> None:
        self.instances += 1
        if self.instances > MAX_INSTANCES:
            raise ComponentUnsupported(
                f"the component has more than {MAX_INSTANCES} instances", feature="unbounded instantiation"
            )
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ComponentUnsupported(
                f"the component has more than {MAX_DEPTH} instances within each other",
                feature="unbounded instantiation",
            )

    def _renamed(self, found: object) -> object:
        """An object of its own for a type under a new name; a resource too, since only names matter here."""
        if found is None or isinstance(found, (FuncType, TypeClosure, Unsupported)):
            return found
        made = dataclasses.replace(found)  # type: ignore[type-var]
        self.origins[id(made)] = (made, found)
        return made

    def _refuse(self, feature: str) -> None:
        self._note(feature, f"the component uses {feature}, which Perdure does not support (WASI 0.3)")

    def _note(self, feature: str, detail: str) -> None:
        self.reasons.setdefault(detail, Reason(feature, detail))

    # --- interfaces

    def _interfaces(self, name: str, exports: InstanceItem) -> Iterator[Interface]:
        """The interfaces among `exports`, the inner ones first; what is left goes into one of this name."""
        self._deeper()
        for inner, (sort, value) in exports.items():
            self._another()
            if sort == "instance":
                yield from self._interfaces(export_path(name, inner), cast("InstanceItem", value))
        self.depth -= 1
        types = tuple(
            self._type_definition(TypeName(name, inner), value)
            for inner, (sort, value) in exports.items()
            if sort == "type" and not isinstance(value, (FuncType, TypeClosure))
        )
        functions = tuple(
            self._function(inner, cast("_Func", value)) for inner, (sort, value) in exports.items() if sort == "func"
        )
        if types or functions or name:
            yield Interface(name, types, functions)

    def _type_definition(self, name: TypeName, value: object) -> TypeDefinition:
        if value is None or isinstance(value, Unsupported):
            feature = value.feature if isinstance(value, Unsupported) else "a type that is not known"
            return TypeDefinition(name.name, None, unsupported=feature)
        t = cast("NamedType", value)
        known = self.names.of(t) or self._origin_of(t)
        self.names.give(t, name)
        # Functions of an exported interface may speak of the type that the named one was made from.
        for origin in self._origins(t):
            self.names.give(origin, name)
            self._count(origin)
        return TypeDefinition(name.name, t, None if known == name else known)

    def _function(self, name: str, func: _Func) -> Function:
        if isinstance(func.type, Unsupported):
            return Function(name, None, func.type.feature)
        self._count(func.type)
        return Function(name, func.type)

    def _origin_of(self, t: NamedType) -> TypeName | None:
        return next((known for origin in self._origins(t) if (known := self.names.of(origin)) is not None), None)

    def _origins(self, t: NamedType) -> Iterator[NamedType]:
        found = self.origins.get(id(t))
        while found is not None:
            yield cast("NamedType", found[1])
            found = self.origins.get(id(found[1]))


def _func_type(found: object) -> FuncType | Unsupported:
    if not isinstance(found, (FuncType, Unsupported)):
        raise ComponentError("malformed component: a function type was expected")
    return found
