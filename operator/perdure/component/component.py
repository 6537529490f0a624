"""A loaded component and its binding to a host: compile once, resolve imports once, instantiate many times."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable

import wasmtime
from wasmtime.component import Component as StockComponent

from perdure.component import capi, fiber
from perdure.component.cache import CompiledCache
from perdure.component.canonical.complexity import check_complexity
from perdure.component.canonical.functions import ExportCode, export_code, import_code
from perdure.component.coremodule import module_imports
from perdure.component.decode import decode_component
from perdure.component.engine import Engine
from perdure.component.host import HostResource, ImportResolver
from perdure.component.imports import CoreImport, HostCall, ResourceCall
from perdure.component.instance import Instance, InstanceLimits
from perdure.component.link import link
from perdure.component.plan import Canon, ExportedFunc, HostImport, LinkPlan, Lower, ResourceBuiltin
from perdure.errors import ComponentError, ComponentUnsupported


class Component:
    """Compiled and linked, not yet bound. Made by `load`."""

    def __init__(self, engine: Engine, digest: str, size: int, plan: LinkPlan, modules: list[wasmtime.Module]) -> None:
        self.engine = engine
        self.digest = digest
        self.size = size
        self.plan = plan
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
        plan = link(decode_component(data))
        modules = cache.load(engine.wasmtime, digest, len(plan.modules))
        if modules is None:
            if len(data) > 1 << 20:
                say(f"compiling {len(data):,} bytes; this is kept for the next start")
            _validate(data)
            modules = [_compiled(engine.wasmtime, module) for module in plan.modules]
            cache.save(digest, modules)
        return cls(engine, digest, len(data), plan, modules)

    def bind(self, resolver: ImportResolver) -> BoundComponent:
        """Resolve every import. Raises `ComponentUnsupported` naming those nobody provides."""
        return BoundComponent(self, resolver)


def _validate(data: bytes) -> None:
    """wasmtime's validator says whether the decoder's reading was of a valid component; nothing runs before it."""
    settings = wasmtime.Config()
    settings.cranelift_opt_level = "none"
    try:
        StockComponent(wasmtime.Engine(settings), data)
    except wasmtime.WasmtimeError as error:
        raise ComponentError(f"not a valid component: {_reason(error)}") from error


def _compiled(engine: wasmtime.Engine, module: bytes) -> wasmtime.Module:
    """The component is valid by now; what still fails is a proposal that the engine has switched off."""
    try:
        return wasmtime.Module(engine, module)
    except wasmtime.WasmtimeError as error:
        raise ComponentUnsupported(
            f"a core module uses what Perdure does not support: {_reason(error)}", feature="core module features"
        ) from error


def _reason(error: wasmtime.WasmtimeError) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else "unknown reason"


class BoundComponent:
    """A component with its imports resolved. Made by `Component.bind`."""

    def __init__(self, component: Component, resolver: ImportResolver) -> None:
        self.component = component
        lowered = (canon.func.type for canon in component.plan.canons if isinstance(canon, Lower))
        check_complexity([*(func.lift.type for func in component.exports), *lowered])
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
        instance = Instance(self, context, limits or InstanceLimits())
        try:
            await instance.start(deadline)
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
