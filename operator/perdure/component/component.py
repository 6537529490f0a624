"""A loaded component and its binding to a host: compile once, resolve imports once, instantiate many times."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable

import wasmtime
from wasmtime.component import Component as StockComponent

from perdure.component import capi, fiber
from perdure.component.cache import CompiledCache
from perdure.component.canonical.functions import ExportCode, export_code, import_code
from perdure.component.coremodule import REWRITING, CoreModule, expose, module_imports, read_module
from perdure.component.decode import decode_component
from perdure.component.engine import Engine
from perdure.component.host import HostResource, ImportResolver
from perdure.component.imports import CoreImport, HostCall, ResourceCall
from perdure.component.instance import Instance, InstanceLimits
from perdure.component.link import link
from perdure.component.plan import Canon, ExportedFunc, HostImport, LinkPlan, ResourceBuiltin
from perdure.component.scan import Hazards, hazards
from perdure.component.state import StateLayout, state_layout
from perdure.errors import ComponentError, ComponentUnsupported


class Component:
    """Compiled and linked, not yet bound. Made by `load`."""

    def __init__(
        self,
        engine: Engine,
        digest: str,
        size: int,
        plan: LinkPlan,
        layout: StateLayout,
        modules: list[wasmtime.Module],
    ) -> None:
        self.engine = engine
        self.digest = digest
        self.size = size
        self.plan = plan
        self.layout = layout
        self.exports: tuple[ExportedFunc, ...] = plan.exports
        self.modules = modules
        self.import_names = [
            [(space.encode(), name.encode()) for space, name, _ in module_imports(module)] for module in plan.modules
        ]

    @classmethod
    async def load(cls, engine: Engine, data: bytes, *, progress: Callable[[str], None] | None = None) -> Component:
        """Validate, decode, link and compile `data` in a worker thread.

        Raises `ComponentError` (not a valid component) or `ComponentUnsupported` (naming the feature).
        `progress` gets a line when something takes long; it is called on the worker thread.
        """
        say = progress or (lambda line: None)
        return await asyncio.to_thread(cls._load, engine, data, say)

    @classmethod
    def _load(cls, engine: Engine, data: bytes, say: Callable[[str], None]) -> Component:
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        cache = CompiledCache(engine.config.cache_dir, engine.config.cache_bytes, engine.config.fingerprint())
        key = f"{digest} rewriting {REWRITING}"
        plan = link(decode_component(data))
        cores = [read_module(module) for module in plan.modules]
        modules = cache.load(engine.wasmtime, key, len(plan.modules))
        if modules is None:
            if len(data) > 1 << 20:
                say(f"compiling {len(data):,} bytes; this is kept for the next start")
            _validate(data)
            exposed = (expose(module, core) for module, core in zip(plan.modules, cores, strict=True))
            modules = [wasmtime.Module(engine.wasmtime, module) for module in exposed]
            cache.save(key, modules)
        layout = state_layout(plan, cores, _hazards(cache, key, plan, cores))
        return cls(engine, digest, len(data), plan, layout, modules)

    def bind(self, resolver: ImportResolver) -> BoundComponent:
        """Resolve every import. Raises `ComponentUnsupported` naming those nobody provides."""
        return BoundComponent(self, resolver)


def _hazards(cache: CompiledCache, key: str, plan: LinkPlan, cores: list[CoreModule]) -> Hazards:
    kept = cache.note(key)
    found = None if kept is None else Hazards.from_text(kept)
    if found is None:
        found = hazards(zip(plan.modules, cores, strict=True))
        cache.keep_note(key, found.to_text())
    return found


def _validate(data: bytes) -> None:
    """wasmtime's validator says whether the decoder's reading was of a valid component; nothing runs before it."""
    settings = wasmtime.Config()
    settings.cranelift_opt_level = "none"
    try:
        StockComponent(wasmtime.Engine(settings), data)
    except wasmtime.WasmtimeError as error:
        reason = str(error).strip().splitlines()
        raise ComponentError(f"not a valid component: {reason[-1].strip() if reason else 'unknown reason'}") from error


class BoundComponent:
    """A component with its imports resolved. Made by `Component.bind`."""

    def __init__(self, component: Component, resolver: ImportResolver) -> None:
        self.component = component
        missing: list[str] = []
        self.imports: list[CoreImport] = []
        for index, canon in enumerate(component.plan.canons):
            bound = _bind(index, canon, resolver)
            if isinstance(bound, str):
                missing.append(bound)
            else:
                self.imports.append(bound)
        if missing:
            names = ", ".join(sorted(set(missing)))
            raise ComponentUnsupported(
                f"the component imports what Perdure does not provide: {names}", feature=missing[0]
            )
        self.exports: dict[str, ExportCode] = {func.path: export_code(func.lift.type) for func in component.exports}
        self.linker = self._define()

    def _define(self) -> wasmtime.Linker:
        """Every import as an asynchronous host function, named by its canon's number."""
        linker = wasmtime.Linker(self.component.engine.wasmtime)
        kinds = {
            "i32": wasmtime.ValType.i32,
            "i64": wasmtime.ValType.i64,
            "f32": wasmtime.ValType.f32,
            "f64": wasmtime.ValType.f64,
        }
        for index, call in enumerate(self.imports):
            params, results = call.core
            kind = wasmtime.FuncType([kinds[core]() for core in params], [kinds[core]() for core in results])
            name = b"%d" % index
            error = capi.linker_define_async(
                capi.address(linker.ptr()),
                b"",
                0,
                name,
                len(name),
                capi.address(kind.ptr()),
                fiber.callback,
                index,
                None,
            )
            if error:
                raise capi.take_error(error)
        return linker

    async def instantiate(
        self, context: object, *, limits: InstanceLimits | None = None, deadline: float | None = None
    ) -> Instance:
        """A fresh instance; its start functions have run. Raises as `Instance.call` does."""
        return await self._instantiate(context, limits, deadline, starts=True)

    async def blank(self, context: object, *, limits: InstanceLimits | None = None) -> Instance:
        """An instance in which no guest code has run: only data and element segments are in place. It is not usable
        until `snapshot` has given it a state."""
        return await self._instantiate(context, limits, None, starts=False)

    async def _instantiate(
        self, context: object, limits: InstanceLimits | None, deadline: float | None, *, starts: bool
    ) -> Instance:
        instance = Instance(self, context, limits or InstanceLimits())
        try:
            await instance.start(deadline, starts=starts)
        except BaseException:
            instance.close()
            raise
        return instance


def _bind(index: int, canon: Canon, resolver: ImportResolver) -> CoreImport | str:
    """The import, or the name of what nobody provides."""
    if isinstance(canon, ResourceBuiltin):
        resource = canon.resource
        provided: HostResource | None = None
        if resource.interface is not None:
            provided = resolver.resource(resource.interface, resource.name)
            if provided is None:
                return f"{resource.interface} {resource.name}"
        return ResourceCall(canon, provided.drop if provided is not None else None)
    target = canon.func
    if not isinstance(target, HostImport):
        raise ComponentUnsupported(
            "the component is composed of components that call each other", feature="component-to-component calls"
        )
    function = resolver.function(target.interface, target.name, target.type)
    if function is None:
        return f"{target.interface} {target.name}"
    return HostCall(index, canon, function, import_code(target.type))
