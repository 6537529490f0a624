"""A loaded component and its binding to a host: compile once, resolve imports once, instantiate many times."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable

import wasmtime
from wasmtime.component import Component as StockComponent

from perdure.component.cache import CompiledCache
from perdure.component.canonical.functions import export_code, import_code
from perdure.component.coremodule import REWRITING, CoreModule, expose, read_module
from perdure.component.decode import decode_component
from perdure.component.engine import Engine
from perdure.component.host import HostFunction, ImportResolver
from perdure.component.imports import ComponentCall, CoreImport, HostCall, ResourceCall
from perdure.component.instance import Instance, InstanceLimits
from perdure.component.lifted import Callee
from perdure.component.link import link
from perdure.component.plan import ExportedFunc, HostImport, Lift, LinkPlan, Lower, ResourceBuiltin
from perdure.component.scan import Hazards, hazards
from perdure.component.skeleton import skeleton
from perdure.component.state import StateLayout, state_layout
from perdure.component.template import Template
from perdure.component.trampolines import FORMAT, Group, trampoline_groups
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
        groups: tuple[Group, ...],
    ) -> None:
        self.engine = engine
        self.digest = digest
        self.size = size
        self.plan = plan
        self.layout = layout
        self.exports: tuple[ExportedFunc, ...] = plan.exports
        self.modules = modules[: len(plan.modules)]
        self.groups = groups
        self.trampolines = modules[len(plan.modules) :]

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
        key = f"{digest} rewriting {REWRITING} trampolines {FORMAT}"
        plan = link(decode_component(data))
        cores = [read_module(module) for module in plan.modules]
        groups = trampoline_groups(plan)
        modules = cache.load(engine.wasmtime, key, len(plan.modules) + len(groups))
        if modules is None:
            if len(data) > 1 << 20:
                say(f"compiling {len(data):,} bytes; this is kept for the next start")
            validate(data)
            exposed = (expose(module, core) for module, core in zip(plan.modules, cores, strict=True))
            modules = [_compiled(engine, module) for module in (*exposed, *(group.binary for group in groups))]
            cache.save(key, modules)
        layout = state_layout(plan, cores, _hazards(cache, key, plan, cores))
        return cls(engine, digest, len(data), plan, layout, modules, groups)

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


_NOT_IMPLEMENTED = (
    "is a reexport of an imported function which is not implemented",
    "exporting a component from the root component is not supported",
)
"""What wasmtime's own components cannot do; it says so after the whole component has been found valid."""
_GATED = re.compile(r"(?:component model |`)([\w -]+?)`? feature")
"""How the validator names a feature that is not switched on."""
_SWITCHED_OFF = re.compile(r"([\w -]+?) (?:support is not|must be) enabled")
_GATE_NAMES = {"cm64": "64-bit memories", "cm-implements": "implements", "map": "map<K, V>"}


def _compiled(engine: Engine, module: bytes) -> wasmtime.Module:
    """Raises `ComponentError` for code that is not valid, and `ComponentUnsupported` for what the engine does not run:
    threads and relaxed SIMD, so that replay is exact."""
    try:
        return wasmtime.Module(engine.wasmtime, module)
    except wasmtime.WasmtimeError as error:
        reason = last_cause(error)
        switched_off = _SWITCHED_OFF.search(reason)
        if switched_off is None:
            raise ComponentError(f"not a valid component: {reason}") from error
        feature = switched_off[1].strip()
        raise ComponentUnsupported(f"the component uses {feature}: {reason}", feature=feature) from error


def last_cause(error: wasmtime.WasmtimeError) -> str:
    """The innermost of the causes that wasmtime lists, without its number."""
    lines = str(error).strip().splitlines() or ["unknown reason"]
    return re.sub(r"^\d+: ", "", lines[-1].strip())


def validate(data: bytes) -> None:
    """wasmtime's validator says whether the decoder's reading was of a valid component; nothing runs before it.

    The bodies of functions are validated where the core modules are compiled.
    """
    settings = wasmtime.Config()
    settings.cranelift_opt_level = "none"
    try:
        StockComponent(wasmtime.Engine(settings), skeleton(data))
    except wasmtime.WasmtimeError as error:
        reason = last_cause(error)
        if any(said in str(error) for said in _NOT_IMPLEMENTED):
            return
        if gated := _GATED.search(reason):
            feature = _GATE_NAMES.get(gated[1], gated[1])
            raise ComponentUnsupported(f"the component uses {feature}: {reason}", feature=feature) from error
        if reason == "root-level component imports are not supported":
            raise ComponentUnsupported("the component imports a component", feature="component imports") from error
        raise ComponentError(f"not a valid component: {reason}") from error


class BoundComponent:
    """A component whose imports are all resolved. Makes instances, all of them for one event loop."""

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
        engine = component.engine.wasmtime
        self.template = Template(engine, plan, component.modules, component.groups, component.trampolines)

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
        return ComponentCall(index, canon, import_code(lift.type, placing=False), callee.number, entering, transcodes)

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
