"""A loaded component and its binding to a host: compile once, resolve imports once, instantiate many times."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence

import wasmtime

from perdure.component.binding import Binding
from perdure.component.cache import CompiledCache
from perdure.component.coremodule import REWRITING, CoreModule, expose, read_module
from perdure.component.decode import decode_component
from perdure.component.decode.definitions import Definition, core_modules
from perdure.component.engine import Engine
from perdure.component.host import ImportResolver
from perdure.component.instance import Instance, InstanceLimits
from perdure.component.link import link
from perdure.component.plan import ExportedFunc, LinkPlan
from perdure.component.scan import Hazards, hazards
from perdure.component.state import StateLayout, state_layout
from perdure.component.template import Template
from perdure.component.trampolines import FORMAT, Group, trampoline_groups
from perdure.component.validator import last_cause, refusal, validate


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
        if cache.problem is not None:
            say(cache.problem)
        key = f"{digest} rewriting {REWRITING} trampolines {FORMAT}"
        if not cache.holds(key):  # else the same bytes were validated when they were compiled
            validate(data)
        definitions = decode_component(data)
        plan = link(definitions)
        cores = [read_module(module) for module in plan.modules]
        groups = trampoline_groups(plan)
        modules = cache.load(engine.wasmtime, key, len(plan.modules) + len(groups))
        if modules is None:
            if len(data) > 1 << 20:
                say(f"compiling {len(data):,} bytes; this is kept for the next start")
            _validate_unused(engine, definitions, plan)
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


def _compiled(engine: Engine, module: bytes) -> wasmtime.Module:
    """Raises `ComponentError` for code that is not valid, and `ComponentUnsupported` for what the engine does not run:
    threads and relaxed SIMD, so that replay is exact."""
    try:
        return wasmtime.Module(engine.wasmtime, module)
    except wasmtime.WasmtimeError as error:
        raise refusal(last_cause(error)) from error


def _validate_unused(engine: Engine, definitions: Sequence[Definition], plan: LinkPlan) -> None:
    """Core modules that nothing instantiates are not compiled; a component with one that is not valid is not either."""
    compiled = {id(module) for module in plan.modules}
    for module in core_modules(definitions):
        if id(module) not in compiled:
            try:
                wasmtime.Module.validate(engine.wasmtime, module)
            except wasmtime.WasmtimeError as error:
                raise refusal(last_cause(error)) from error


class BoundComponent:
    """A component whose imports are all resolved. Makes instances, all of them for one event loop."""

    def __init__(self, component: Component, resolver: ImportResolver) -> None:
        self.component = component
        binding = Binding(component.plan, resolver)
        self.callees = binding.callees
        self.exports = binding.exports
        self.imports = binding.imports
        self.begins = tuple(one.begin for one in binding.imports)
        self.reexported = binding.reexported
        self.entering = binding.entering
        engine = component.engine.wasmtime
        self.template = Template(engine, component.plan, component.modules, component.groups, component.trampolines)

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
