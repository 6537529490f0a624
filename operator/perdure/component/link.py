"""Definitions → a flat `LinkPlan`: nesting, aliases and instance arguments are resolved once per component.

Follows component-model `Explainer.md` ("Instance Definitions", "Alias Definitions", "Import and Export
Definitions"). The input has been through wasmtime's validator; an index that is wrong all the same is a
`ComponentError`, never a crash.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import cast

from perdure.component.coremodule import module_imports
from perdure.component.decode import definitions as d
from perdure.component.deftypes import resolve_type
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
)
from perdure.component.types import FuncType, ResourceType
from perdure.errors import ComponentError, ComponentUnsupported

# Definitions run once for each instance made of them, so that a small component can ask for any amount of work.
MAX_INSTANCES = 1_000
MAX_NESTING = 64
MAX_DEFINITIONS = 1_000_000


def link(definitions: Sequence[d.Definition]) -> LinkPlan:
    """The plan of a whole component. Raises `ComponentError` and `ComponentUnsupported`."""
    linker = _Linker()
    try:
        exports = linker.instantiate(definitions, None, None)
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
        self._instances = 0
        self._entered = self._depth = self._work = 0

    @contextmanager
    def _one_instance(self, definitions: int) -> Iterator[None]:
        """Bounds instances (component, core and imported ones), their nesting and the definitions they run."""
        self._entered += 1
        self._depth += 1
        self._work += definitions
        for name, value, limit in (
            ("instances", self._entered, MAX_INSTANCES),
            ("instances within one another", self._depth, MAX_NESTING),
            ("definitions in its instances", self._work, MAX_DEFINITIONS),
        ):
            if value > limit:
                raise ComponentUnsupported(f"the component has more than {limit:,} {name}", feature=f"{limit} {name}")
        yield
        self._depth -= 1

    def plan(self, exports: InstanceItem) -> LinkPlan:
        return LinkPlan(
            modules=tuple(self._modules),
            steps=tuple(self._steps),
            canons=tuple(self._canons),
            exports=tuple(_exported(exports)),
            imports=tuple(self._host_imports.values()),
            resources=tuple(self._resources),
            component_instances=self._instances,
        )

    def instantiate(
        self, definitions: Sequence[d.Definition], up: Scope | None, args: InstanceItem | None
    ) -> InstanceItem:
        """Run one component's definitions; `args` None: the outermost one, whose imports are the host's."""
        scope = Scope(up, self._instances)
        self._instances += 1
        exports: InstanceItem = {}
        with self._one_instance(len(definitions)):
            for definition in definitions:
                match definition:
                    case d.Import(name, kind):
                        item = args[name] if args is not None else self._extern(kind, scope, "", name)
                        scope.add(*item)
                    case d.Export(name, ref):
                        item = scope.item(ref)
                        scope.add(*item)
                        exports[name] = item
                    case _:
                        self._define(definition, scope)
        return exports

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
                scope.add("instance", self.instantiate(closure.definition.definitions, closure.scope, given))
            case d.Exports(items):
                scope.add("instance", {name: scope.item(ref) for name, ref in items})
            case d.AliasExport() | d.AliasCoreExport() | d.AliasOuter():
                self._alias(definition, scope)
            case d.TypeDef(kind):
                resolved = resolve_type(kind, scope)
                if isinstance(resolved, ResourceType):
                    self._resources.append(resolved)
                scope.add("type", resolved)
            case d.CanonLift() | d.CanonLower() | d.CanonResource():
                self._canon(definition, scope)
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
        with self._one_instance(len(self._imports_of[index])):
            for module_name, name, kind in self._imports_of[index]:
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
                scope.add(sort, cast("InstanceItem", scope.space("instance")[index])[name][1])
            case d.AliasCoreExport(sort, index, name):
                source = cast("CoreInstanceItem", scope.space("core instance")[index])
                scope.add(sort, self._core_export(source, sort, name))
            case d.AliasOuter(sort, count, index):
                outer: Scope | None = scope
                while count and outer is not None:
                    outer, count = outer.up, count - 1
                if outer is None:
                    raise ComponentError("malformed component: an outer alias beyond the outermost component")
                scope.add(sort, outer.space(sort)[index])

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
                    self._host_imports.setdefault((target.interface, target.name), target)
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
                return ("instance", self._imported_instance(found, name))
            case "component" | "core module":
                raise ComponentUnsupported(
                    f"the component imports a {kind.kind} ({name})", feature=f"{kind.kind} imports"
                )

    def _imported_instance(self, closure: object, interface: str) -> InstanceItem:
        if not isinstance(closure, TypeClosure):
            raise ComponentError("malformed component: an instance import without an instance type")
        scope = Scope(closure.scope, -1)
        exports: InstanceItem = {}
        with self._one_instance(len(closure.definition.declarations)):
            for declaration in closure.definition.declarations:
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


def _options(raw: d.RawOptions, scope: Scope) -> CanonOptions:
    def core(sort: str, index: int | None) -> CoreRef | None:
        return None if index is None else cast("CoreRef", scope.space(sort)[index])

    return CanonOptions(
        raw.encoding,
        core("core memory", raw.memory),
        core("core func", raw.realloc),
        core("core func", raw.post_return),
    )


def _exported(exports: InstanceItem) -> list[ExportedFunc]:
    found = []
    for name, (sort, value) in exports.items():
        if sort == "func" and isinstance(value, Lift):
            found.append(ExportedFunc("", name, value))
        elif sort == "instance":
            for inner, (inner_sort, func) in cast("InstanceItem", value).items():
                if inner_sort == "func" and isinstance(func, Lift):
                    found.append(ExportedFunc(name, inner, func))
    return found


def _unsupported(found: Unsupported) -> ComponentUnsupported:
    return ComponentUnsupported(
        f"the component uses {found.feature}, which Perdure does not support (WASI 0.3)",
        feature=found.feature,
    )
