"""A loaded component and its binding to a host: compile once, resolve imports once, instantiate many times."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable

import wasmtime
from wasmtime.component import Component as StockComponent

from perdure.component import capi, fiber
from perdure.component.cache import CompiledCache
from perdure.component.canonical.functions import export_code, import_code
from perdure.component.coremodule import module_imports
from perdure.component.decode import decode_component
from perdure.component.engine import Engine
from perdure.component.host import HostFunction, ImportResolver
from perdure.component.imports import ComponentCall, CoreImport, HostCall, ResourceCall
from perdure.component.instance import Instance, InstanceLimits
from perdure.component.lifted import Callee
from perdure.component.link import link
from perdure.component.plan import ExportedFunc, HostImport, Lift, LinkPlan, Lower, ResourceBuiltin
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
            modules = [_compile(engine, module) for module in plan.modules]
            cache.save(digest, modules)
        return cls(engine, digest, len(data), plan, modules)

    def bind(self, resolver: ImportResolver) -> BoundComponent:
        """Resolve every import. Raises `ComponentUnsupported` naming those nobody provides."""
        return BoundComponent(self, resolver)


_NOT_IMPLEMENTED = (
    "is a reexport of an imported function which is not implemented",
    "exporting a component from the root component is not supported",
)
"""What wasmtime's own components cannot do; it says so after the whole component has been found valid."""
_GATED = re.compile(r"(?:component model |`)([\w -]+?)`? feature")
"""How the validator names a feature that is not switched on."""
_SWITCHED_OFF = re.compile(r"([\w -]+?) (?:support is not|must be) enabled")
_GATE_NAMES = {"cm64": "64-bit memories", "cm-implements": "implements", "map": "map<K, V>"}


def _validate(data: bytes) -> None:
    """wasmtime's validator says whether the decoder's reading was of a valid component; nothing runs before it."""
    settings = wasmtime.Config()
    settings.cranelift_opt_level = "none"
    try:
        StockComponent(wasmtime.Engine(settings), data)
    except wasmtime.WasmtimeError as error:
        reason = str(error).strip().splitlines() or ["unknown reason"]
        if any(said in line for said in _NOT_IMPLEMENTED for line in reason):
            return
        if gated := _GATED.search(reason[-1]):
            feature = _GATE_NAMES.get(gated[1], gated[1])
            detail = f"the component uses {feature}: {reason[-1].strip()}"
            raise ComponentUnsupported(detail, feature=feature) from error
        raise ComponentError(f"not a valid component: {reason[-1].strip()}") from error


def _compile(engine: Engine, module: bytes) -> wasmtime.Module:
    """Raises `ComponentUnsupported` for what the engine does not run: threads and relaxed SIMD, so that replay is
    exact."""
    try:
        return wasmtime.Module(engine.wasmtime, module)
    except wasmtime.WasmtimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        switched_off = _SWITCHED_OFF.search(reason)
        feature = switched_off[1].strip() if switched_off else "a core module"
        raise ComponentUnsupported(f"the component uses {feature}: {reason}", feature=feature) from error


class BoundComponent:
    """A component whose imports are all resolved. Makes instances."""

    def __init__(self, component: Component, resolver: ImportResolver) -> None:
        self.component = component
        self.callees: list[Callee] = []
        self.reexported: dict[HostImport, HostFunction] = {}
        self.imports: list[CoreImport] = []
        plan = component.plan
        self._resolver = resolver
        self._missing: list[str] = []
        self._callee_of: dict[tuple[Lift, bool], Callee] = {}
        self._composed = any(not isinstance(canon, Lower) or isinstance(canon.func, Lift) for canon in plan.canons)
        for index, canon in enumerate(plan.canons):
            if isinstance(canon, ResourceBuiltin):
                self.imports.append(self._resource_call(canon))
            elif isinstance(canon.func, Lift):
                self.imports.append(self._component_call(index, canon, canon.func))
            elif (function := self._function(canon.func)) is not None:
                self.imports.append(HostCall(index, canon, function, import_code(canon.func.type)))
        self.exports: dict[str, Callee] = {}
        for func in component.exports:
            if isinstance(func.target, Lift):
                self.exports[func.path] = self._callee(func.target, transcodes=False)
            elif (function := self._function(func.target)) is not None:
                self.reexported[func.target] = function
        if self._missing:
            names = ", ".join(sorted(set(self._missing)))
            raise ComponentUnsupported(
                f"the component imports what Perdure does not provide: {names}", feature=self._missing[0]
            )
        self.linker = self._define()

    def _function(self, wanted: HostImport) -> HostFunction | None:
        function = self._resolver.function(wanted.interface, wanted.name, wanted.type)
        if function is None:
            self._missing.append(f"{wanted.interface} {wanted.name}".strip())
        return function

    def _resource_call(self, canon: ResourceBuiltin) -> ResourceCall:
        resource = canon.resource
        if resource.interface is None:
            entering = self.entering(resource.component_instance, canon.component_instance)
            return ResourceCall(canon, None, entering)
        provided = self._resolver.resource(resource.interface, resource.name)
        if provided is None:
            self._missing.append(f"{resource.interface} {resource.name}".strip())
        return ResourceCall(canon, None if provided is None else provided.drop, ())

    def _component_call(self, index: int, canon: Lower, lift: Lift) -> ComponentCall:
        encodings = {canon.options.encoding, lift.options.encoding}
        transcodes = len(encodings) > 1 or "latin1+utf16" in encodings
        callee = self._callee(lift, transcodes=transcodes)
        entering = self.entering(lift.component_instance, canon.component_instance)
        return ComponentCall(index, canon, import_code(lift.type), callee.number, entering, transcodes)

    def _callee(self, lift: Lift, *, transcodes: bool) -> Callee:
        found = self._callee_of.get((lift, transcodes))
        if found is None:
            entering = self.entering(lift.component_instance, None) if self._composed else ()
            found = Callee(len(self.callees), lift, export_code(lift.type), entering, transcodes)
            self.callees.append(found)
            self._callee_of[lift, transcodes] = found
        return found

    def entering(self, callee: int | None, caller: int | None) -> tuple[int, ...]:
        """The component instances that a call enters: the callee and those around it, unless around the caller too
        ("Component Instances", `entering_set`)."""
        around_caller = self._around(caller)
        return tuple(number for number in self._around(callee) if number not in around_caller)

    def _around(self, number: int | None) -> list[int]:
        found = []
        while number is not None:
            found.append(number)
            number = self.component.plan.parents[number]
        return found

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
