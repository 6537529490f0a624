"""Definitions → a flat `LinkPlan`: nesting, aliases and instance arguments are resolved once per component.

Follows component-model `Explainer.md` ("Instance Definitions", "Alias Definitions", "Import and Export
Definitions"). wasmtime's validator has accepted the component, but does not see what it unfolds to: a component that
unfolds without end is refused at `MAX_DEFINITIONS`. What does not resolve is a `ComponentError` even so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar, cast, get_args

from perdure.component.coremodule import module_imports
from perdure.component.decode import definitions as d
from perdure.component.deftypes import TypeResolver
from perdure.component.plan import (
    Canon,
    CanonOptions,
    CanonRef,
    CoreExport,
    CoreKind,
    CoreRef,
    ExportedFunc,
    HostImport,
    InstantiateModule,
    Lift,
    LinkPlan,
    Lower,
    ResourceBuiltin,
)
from perdure.component.scopes import (
    ComponentClosure,
    CoreInstanceItem,
    CoreInstanceRef,
    FuncItem,
    InstanceItem,
    Item,
    Scope,
    TypeClosure,
    Unsupported,
    export_path,
)
from perdure.component.types import FuncType, ResourceType
from perdure.errors import ComponentError, ComponentUnsupported

T = TypeVar("T")

MAX_DEFINITIONS = 200_000
"""Definitions carried out, those of a nested component once for each instance of it."""
MAX_INSTANCES = 5_000
"""Instances made, imported and exported; one that is exported by several others counts for each."""
MAX_DEPTH = 100
"""Instances within instances."""
_CORE_EXPORTS = frozenset(f"core {kind}" for kind in get_args(CoreKind))


def link(definitions: Sequence[d.Definition]) -> LinkPlan:
    """The plan of a whole component. Raises `ComponentError` and `ComponentUnsupported`."""
    linker = _Linker()
    try:
        exports = linker.instantiate(definitions, None, None, None)
    except (IndexError, KeyError, AttributeError) as error:
        raise ComponentError(f"malformed component: an index or name does not resolve ({error})") from error
    return linker.plan(exports)


class _Linker:
    def __init__(self) -> None:
        self._modules: list[bytes] = []
        self._module_of: dict[int, int] = {}
        self._imports_of: list[tuple[tuple[str, str, str], ...]] = []
        self._steps: list[InstantiateModule] = []
        self._canons: list[Canon] = []
        self._host_imports: dict[tuple[str, str], HostImport] = {}
        self._resources: list[ResourceType] = []
        self._parents: list[int | None] = []
        self._types = TypeResolver()
        self._unfolded = 0
        self._carried_out = 0
        self._depth = 0

    def plan(self, exports: InstanceItem) -> LinkPlan:
        return LinkPlan(
            modules=tuple(self._modules),
            steps=tuple(self._steps),
            canons=tuple(self._canons),
            exports=tuple(self._exported(exports, "")),
            imports=tuple(self._host_imports.values()),
            resources=tuple(self._resources),
            parents=tuple(self._parents),
        )

    def instantiate(
        self, definitions: Sequence[d.Definition], up: Scope | None, args: InstanceItem | None, parent: int | None
    ) -> InstanceItem:
        """Carry out one component's definitions; `args` None: the outermost one, whose imports are the host's.
        `up`: the scope it is defined in; `parent`: the component instance that instantiates it."""
        scope = Scope(up, len(self._parents))
        self._parents.append(parent)
        exports: InstanceItem = {}
        for definition in self._carried(definitions):
            match definition:
                case d.Import(name, kind):
                    if args is not None and name not in args:
                        raise ComponentError(f"malformed component: nothing is given for the import {name!r}")
                    item = args[name] if args is not None else self._extern(kind, scope, "", name)
                    scope.add(*item)
                case d.Export(name, ref):
                    item = scope.item(ref)
                    scope.add(*item)
                    exports[name] = item
                case _:
                    self._define(definition, scope)
        return exports

    def _carried(self, definitions: Iterable[T]) -> Iterator[T]:
        """Each definition, or export, of an instance, within bounds."""
        self._unfolded += 1
        self._bounded(self._unfolded, MAX_INSTANCES, "instances")
        self._depth += 1
        self._bounded(self._depth, MAX_DEPTH, "instances within each other")
        for definition in definitions:
            self._carried_out += 1
            self._bounded(self._carried_out, MAX_DEFINITIONS, "definitions, those of each instance counted")
            yield definition
        self._depth -= 1

    def _bounded(self, count: int, most: int, what: str) -> None:
        if count > most:
            raise ComponentUnsupported(f"the component has more than {most} {what}", feature="unbounded instantiation")

    def _define(self, definition: d.Definition, scope: Scope) -> None:
        match definition:
            case d.CoreModuleDef():
                scope.add("core module", self._module(definition))
            case d.CoreInstantiate(module, core_args):
                scope.add("core instance", self._instantiate_module(module, core_args, scope))
            case d.CoreExports(core_items):
                scope.add("core instance", {name: cast("CoreRef", scope.item(ref)[1]) for name, ref in core_items})
            case d.CoreTypeDef():
                scope.add("core type", None)
            case d.ComponentDef():
                scope.add("component", ComponentClosure(definition, scope))
            case d.Instantiate(component, component_args):
                closure = cast("ComponentClosure", scope.space("component")[component])
                given = {name: scope.item(ref) for name, ref in component_args}
                made = self.instantiate(closure.definition.definitions, closure.scope, given, scope.instance)
                scope.add("instance", made)
            case d.Exports(items):
                scope.add("instance", {name: scope.item(ref) for name, ref in items})
            case d.AliasExport() | d.AliasCoreExport() | d.AliasOuter():
                self._alias(definition, scope)
            case d.TypeDef(kind):
                resolved = self._types.resolve(kind, scope)
                if isinstance(resolved, ResourceType):
                    self._resources.append(resolved)
                scope.add("type", resolved)
            case d.CanonLift() | d.CanonLower() | d.CanonResource():
                self._canon(definition, scope)
            case d.Custom():
                pass
            case d.CanonLater():
                raise _unsupported(Unsupported(definition.feature))
            case d.Import() | d.Export() | d.ExportDecl():
                raise ComponentError("malformed component: an import or export in the wrong place")

    # --- core level

    def _module(self, definition: d.CoreModuleDef) -> int:
        index = self._module_of.get(id(definition))
        if index is None:
            index = self._module_of[id(definition)] = len(self._modules)
            self._modules.append(definition.data)
            self._imports_of.append(module_imports(definition.data))
        return index

    def _instantiate_module(self, module: int, args: Sequence[tuple[str, int]], scope: Scope) -> CoreInstanceRef:
        index = cast("int", scope.space("core module")[module])
        if not isinstance(index, int):
            raise ComponentUnsupported("the component imports core modules", feature="core module imports")
        given = {name: cast("CoreInstanceItem", scope.space("core instance")[at]) for name, at in args}
        imports: list[CoreRef] = []
        for module_name, name, kind in self._carried(self._imports_of[index]):
            source = given[module_name]
            if isinstance(source, CoreInstanceRef):
                imports.append(CoreExport(source.number, name, cast("CoreKind", kind)))
            else:
                imports.append(source[name])
        number = len(self._steps)
        self._steps.append(InstantiateModule(number, index, tuple(imports)))
        return CoreInstanceRef(number)

    def _core_export(self, source: CoreInstanceItem, sort: str, name: str) -> CoreRef:
        if isinstance(source, CoreInstanceRef):
            return CoreExport(source.number, name, cast("CoreKind", sort.removeprefix("core ")))
        return source[name]

    # --- component level

    def _alias(self, definition: d.AliasExport | d.AliasCoreExport | d.AliasOuter, scope: Scope) -> None:
        match definition:
            case d.AliasExport(sort, index, name):
                found, item = cast("InstanceItem", scope.space("instance")[index])[name]
                if found != sort:
                    raise ComponentError(f"malformed component: an alias of {name!r} as {sort}, which is {found}")
                scope.add(sort, item)
            case d.AliasCoreExport(sort, index, name):
                if sort not in _CORE_EXPORTS:
                    raise ComponentError(f"malformed component: an alias of a core export as {sort}")
                source = cast("CoreInstanceItem", scope.space("core instance")[index])
                scope.add(sort, self._core_export(source, sort, name))
            case d.AliasOuter(sort, count, index):
                scope.add(sort, scope.outer(count).space(sort)[index])

    def _canon(self, definition: d.CanonLift | d.CanonLower | d.CanonResource, scope: Scope) -> None:
        canon: Canon
        match definition:
            case d.CanonLift(core_func, options, type_index):
                kind = self._func_type(scope.space("type")[type_index])
                core = cast("CoreRef", scope.space("core func")[core_func])
                scope.add("func", Lift(core, kind, _options(options, scope), scope.instance))
                return
            case d.CanonLower(func, options):
                target = cast("FuncItem | Unsupported", scope.space("func")[func])
                if isinstance(target, Unsupported):
                    raise _unsupported(target)
                if isinstance(target, HostImport):
                    self._import(target)
                canon = Lower(target, _options(options, scope), scope.instance)
            case d.CanonResource(op, index):
                resource = scope.space("type")[index]
                if not isinstance(resource, ResourceType):
                    raise ComponentError("malformed component: a resource built-in of something else")
                canon = ResourceBuiltin(op, resource, scope.instance)
        self._canons.append(canon)
        scope.add("core func", CanonRef(len(self._canons) - 1))

    def _extern(self, kind: d.ExternType, scope: Scope, interface: str, name: str) -> Item:
        """What the host must provide for an import, made from its type."""
        if kind.kind in ("component", "core module"):
            raise ComponentUnsupported(f"the component imports a {kind.kind} ({name})", feature=f"{kind.kind} imports")
        found = scope.space("type")[kind.index] if kind.index >= 0 else None
        match kind.kind:
            case "func":
                if isinstance(found, Unsupported):
                    return ("func", found)
                return ("func", HostImport(interface, name, self._func_type(found)))
            case "type-eq":
                return ("type", found)
            case "type-sub-resource":
                resource = ResourceType(interface, name)
                self._resources.append(resource)
                return ("type", resource)
            case "instance":
                return ("instance", self._imported_instance(found, export_path(interface, name)))
            case _:
                raise ComponentError(f"malformed component: an import of a {kind.kind}")

    def _imported_instance(self, closure: object, interface: str) -> InstanceItem:
        if not isinstance(closure, TypeClosure):
            raise ComponentError("malformed component: an instance import without an instance type")
        scope = Scope(closure.scope, -1)
        exports: InstanceItem = {}
        for declaration in self._carried(closure.definition.declarations):
            if isinstance(declaration, d.ExportDecl):
                item = self._extern(declaration.type, scope, interface, declaration.name)
                scope.add(*item)
                exports[declaration.name] = item
            else:
                self._define(declaration, scope)
        return exports

    def _func_type(self, found: object) -> FuncType:
        if isinstance(found, Unsupported):
            raise _unsupported(found)
        if not isinstance(found, FuncType):
            raise ComponentError("malformed component: a function type was expected")
        return found

    def _import(self, target: HostImport) -> None:
        self._host_imports.setdefault((target.interface, target.name), target)

    def _exported(self, exports: InstanceItem, interface: str) -> list[ExportedFunc]:
        """The functions among a component's exports, those in exported instances included."""
        found = []
        for name, (sort, value) in self._carried(exports.items()):
            if sort == "func":
                if isinstance(value, Unsupported):
                    raise _unsupported(value)
                if isinstance(value, HostImport):
                    self._import(value)
                found.append(ExportedFunc(interface, name, cast("FuncItem", value)))
            elif sort == "instance":
                inner = cast("InstanceItem", value)
                found += self._exported(inner, export_path(interface, name))
        return found


def _options(raw: d.RawOptions, scope: Scope) -> CanonOptions:
    def core(sort: str, index: int | None) -> CoreRef | None:
        return None if index is None else cast("CoreRef", scope.space(sort)[index])

    return CanonOptions(
        raw.encoding,
        core("core memory", raw.memory),
        core("core func", raw.realloc),
        core("core func", raw.post_return),
    )


def _unsupported(found: Unsupported) -> ComponentUnsupported:
    return ComponentUnsupported(
        f"the component uses {found.feature}, which Perdure does not support (WASI 0.3)",
        feature=found.feature,
    )
