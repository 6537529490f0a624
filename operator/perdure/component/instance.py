"""One running component: instantiate, call, close.

After a trap, a timeout, a cancellation or a host exception the guest was left in the middle of a call, so the
instance is not `usable` any more and is thrown away.
"""

from __future__ import annotations

import asyncio
import ctypes
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from types import CoroutineType
from typing import TYPE_CHECKING, cast

import wasmtime

from perdure.component import capi, fiber
from perdure.component.capi import EXTERN_OF, EXTERN_SIZE, INSTANCE_SIZE
from perdure.component.context import CallContext, Reallocate
from perdure.component.entry import Arrays
from perdure.component.handles import GuestResource, HandleTable
from perdure.component.imports import CoreImport
from perdure.component.lifted import Callee, Lifted
from perdure.component.memory import Memory, NoMemory
from perdure.component.plan import CanonOptions, CanonRef, CoreRef, ExportedFunc, HostImport, InstantiateModule
from perdure.component.steps import Steps, Unfinished
from perdure.component.traps import AbiTrap, HostTrap, guest_trap
from perdure.component.types import ResourceType
from perdure.errors import GuestTrapped, InvocationTimeout, TypeMismatch

if TYPE_CHECKING:
    from perdure.component.component import BoundComponent
    from perdure.component.engine import Engine

MAX_CALL_DEPTH = 32
"""Calls between components within each other; each takes a fiber."""
PATIENCE = 4
"""Slices that the guest's allocator gets before the event loop does."""
_MISFIT = (KeyError, TypeError, ValueError, OverflowError, AttributeError, IndexError, struct.error)


@dataclass(frozen=True, slots=True)
class InstanceLimits:
    """`memory`: bytes each linear memory may grow to; beyond, the guest's own allocation fails. `memories`, `tables`
    and `table_elements`: how many there may be (the elements: in each table). `lifted`: bytes of the host's memory
    that the lists and strings of one call's arguments or result may take."""

    memory: int = 64 << 20
    memories: int = 32
    tables: int = 1000
    table_elements: int = 1 << 20
    lifted: int = 128 << 20


class Instance:
    """Made by `BoundComponent.instantiate`."""

    def __init__(self, bound: BoundComponent, host_context: object, limits: InstanceLimits) -> None:
        self.bound = bound
        self.engine: Engine = bound.component.engine
        self.host_context = host_context
        self.limits = limits
        self.imports: Sequence[CoreImport] = bound.imports
        count = len(bound.component.plan.parents)
        self.tables = [HandleTable() for _ in range(count)]
        self.contexts: list[CallContext | None] = [None] * len(bound.imports)
        self.pending: fiber.Pending | None = None
        self.suspended: dict[int, tuple[Steps[None], int]] = {}
        self.failure: BaseException | None = None
        self.may_leave = True
        self.usable = True
        self._busy = False
        self._entered = [False] * count
        self.depth = 0
        self._lifted: list[Lifted | None] = [None] * len(bound.callees)
        self._store = wasmtime.Store(self.engine.wasmtime)
        self._store.set_limits(
            memory_size=limits.memory,
            table_elements=limits.table_elements,
            tables=limits.tables,
            memories=limits.memories,
        )
        self._store.set_epoch_deadline(1)
        self._context = capi.address(self._store._context())
        capi.epoch_yield(self._context, 1)
        self._externs: dict[CoreRef, int] = {}
        self._instances: list[int] = []
        self._memories: dict[CoreRef, Memory] = {}
        self._keep: list[object] = []
        self._allocating = Arrays()
        self._spare = [Arrays()]

    # --- for the host

    async def start(self, deadline: float | None) -> None:
        """Instantiate the core modules in order; start functions run."""
        await self._drive(self._starting(), deadline)

    async def call(self, func: ExportedFunc, args: Sequence[object], *, deadline: float | None = None) -> object:
        """Call an export; `deadline` in the loop's time, seconds.

        Raises `TypeMismatch` (arguments do not fit; nothing ran), `GuestTrapped`, `InvocationTimeout`, and what a
        host function raised. One call at a time.
        """
        target = func.target
        if isinstance(target, HostImport):
            return await self._call_import(target, args, deadline)
        return await self._drive(self._calling(func, self.bound.exports[func.path], tuple(args)), deadline)

    async def drop(self, resource: GuestResource, *, deadline: float | None = None) -> None:
        """Drop a guest-defined resource that the host owns; its destructor runs. Raises as `call` does, and
        `ValueError` for a handle that is not the host's to drop."""
        if resource.home is not self:
            raise ValueError("the resource belongs to another instance")
        resource.use(moves=True)
        entering = self.bound.entering(resource.resource.component_instance, None)
        await self._drive(self.destroy(resource.resource, resource.representation, entering), deadline)

    def close(self) -> None:
        """Free the guest's memory; idempotent. Not while a call runs."""
        self.usable = False
        self._lifted.clear()
        self.contexts.clear()
        self._memories.clear()
        self._externs.clear()
        self._store.close()

    async def _drive(self, steps: Steps[object], deadline: float | None) -> object:
        if self._busy or not self.usable:
            raise RuntimeError("the instance is running a call" if self._busy else "the instance is not usable")
        self._busy = True
        self.usable = False
        try:
            value = await fiber.drive(self, steps, deadline)
            self.usable = True
            return value
        except AbiTrap as trap:
            raise guest_trap(trap) from trap
        finally:
            self._busy = False

    async def _call_import(self, target: HostImport, args: Sequence[object], deadline: float | None) -> object:
        """The component hands on what it imports: the host calls itself."""
        value = self.bound.reexported[target](self.host_context, *args)
        if type(value) is not CoroutineType:
            return value
        limit = asyncio.timeout_at(deadline)
        try:
            async with limit:
                return await value
        except TimeoutError:
            if limit.expired():
                raise InvocationTimeout("the invocation ran past its time limit and was stopped") from None
            raise

    # --- entering the guest

    def _starting(self) -> Steps[None]:
        for step in self.bound.component.plan.steps:
            yield from self._instantiate(step)

    def _calling(self, func: ExportedFunc, callee: Callee, args: tuple[object, ...]) -> Steps[object]:
        self.enter_components(callee.entering)
        lifted = self.lifted(callee.number)
        arrays = self.take_arrays()
        try:
            scope = yield from lifted.lower(arrays, args)
        except _MISFIT as error:
            # A misfit is the caller's mistake; the guest has run nothing but its allocator.
            self.usable = True
            self.leave_components(callee.entering)
            wanted = ", ".join(name for name, _ in func.type.params)
            raise TypeMismatch(f"the arguments do not fit {func.path}({wanted}): {error}", parameter=wanted) from error
        value = yield from lifted.run(arrays, scope)
        yield from lifted.post_return(arrays)
        self.give_arrays(arrays)
        self.leave_components(callee.entering)
        return value

    def enter(self, core: int, arrays: Arrays, args: int, nargs: int, nresults: int) -> Steps[None]:
        """Run a core function. Raises what ended it."""
        if self.depth >= MAX_CALL_DEPTH:
            raise AbiTrap(f"calls between components nested deeper than {MAX_CALL_DEPTH}")
        arrays.clear()
        future = capi.call_async(self._context, core, args, nargs, arrays.results, nresults, arrays.trap, arrays.error)
        yield from self._finish(future, arrays)

    def _finish(self, future: int, arrays: Arrays) -> Steps[None]:
        self.depth += 1
        try:
            while not fiber.poll(self.engine, self, future):
                yield
        finally:
            capi.future_delete(future)
            self.depth -= 1
        self._check(arrays)

    def destroy(self, resource: ResourceType, representation: int, entering: tuple[int, ...]) -> Steps[None]:
        """Run a guest-defined resource's destructor, if it has one."""
        self.enter_components(entering)
        if resource.destructor is not None:
            arrays = self.take_arrays()
            arrays.write_i32(representation)
            core = self._address(cast("CoreRef", resource.destructor))
            yield from self.enter(core, arrays, arrays.args, 1, 0)
            self.give_arrays(arrays)
        self.leave_components(entering)

    def _reallocate(self, core: int, old: int, old_size: int, alignment: int, size: int) -> int:
        arrays = self._allocating
        arrays.write_reallocation(old, old_size, alignment, size)
        arrays.clear()
        self.may_leave = False
        future = capi.call_async(self._context, core, arrays.args, 4, arrays.results, 1, arrays.trap, arrays.error)
        for _ in range(PATIENCE):
            if fiber.poll(self.engine, self, future):
                capi.future_delete(future)
                self.may_leave = True
                self._check(arrays)
                return arrays.read_i32()
        raise Unfinished(self._still_allocating(future))

    def _still_allocating(self, future: int) -> Steps[int]:
        yield from self._finish(future, self._allocating)
        self.may_leave = True
        return self._allocating.read_i32()

    def _check(self, arrays: Arrays) -> None:
        raised, failure = arrays.raised(), self.failure
        if failure is not None:
            self.failure = None
            if isinstance(failure, (AbiTrap, HostTrap)):
                trapped = guest_trap(failure)
                if raised is not None:
                    frames = guest_trap(raised).frames
                    trapped = GuestTrapped(trapped.detail, trap=trapped.trap, frames=frames)
                raise trapped from failure
            raise failure
        if raised is not None:
            raise guest_trap(raised) from raised

    def enter_components(self, entering: tuple[int, ...]) -> None:
        """Raises `AbiTrap` when one of them runs a call already ("Component Invariant 2": no re-entrance)."""
        entered = self._entered
        for number in entering:
            if entered[number]:
                raise AbiTrap("a component instance was called again while it runs a call: it cannot be entered")
        for number in entering:
            entered[number] = True

    def leave_components(self, entering: tuple[int, ...]) -> None:
        for number in entering:
            self._entered[number] = False

    # --- what imports and generated code need

    def take_arrays(self) -> Arrays:
        return self._spare.pop() if self._spare else Arrays()

    def give_arrays(self, arrays: Arrays) -> None:
        self._spare.append(arrays)

    def lifted(self, number: int) -> Lifted:
        found = self._lifted[number]
        if found is None:
            callee = self.bound.callees[number]
            lift = callee.lift
            post_return = lift.options.post_return
            found = self._lifted[number] = Lifted(
                self,
                callee,
                self.context_for(lift.options, lift.component_instance, transcodes=callee.transcodes),
                self._address(lift.core),
                None if post_return is None else self._address(post_return),
            )
        return found

    def context_for(self, options: CanonOptions, component_instance: int, *, transcodes: bool) -> CallContext:
        return CallContext(
            self,
            component_instance,
            options.encoding,
            self.tables[component_instance],
            self._memory(options.memory),
            self._allocator(options.realloc),
            transcodes=transcodes,
        )

    def _allocator(self, ref: CoreRef | None) -> Reallocate:
        if ref is None:
            return _no_realloc
        core = self._address(ref)
        return lambda old, old_size, alignment, size: self._reallocate(core, old, old_size, alignment, size)

    def _memory(self, ref: CoreRef | None) -> Memory:
        if ref is None:
            return NoMemory()
        found = self._memories.get(ref)
        if found is None:
            found = self._memories[ref] = Memory(self._context, self._address(ref), self.limits.lifted)
        return found

    # --- core instances and their exports

    def _instantiate(self, step: InstantiateModule) -> Steps[None]:
        module = self.bound.component.modules[step.module]
        linker = wasmtime.Linker(self.engine.wasmtime)
        pointer = capi.address(linker.ptr())
        for (space, name), ref in zip(self.bound.component.import_names[step.module], step.imports, strict=True):
            error = capi.linker_define(pointer, self._context, space, len(space), name, len(name), self._extern(ref))
            if error:
                raise capi.take_error(error)
        made = (ctypes.c_ubyte * INSTANCE_SIZE)()
        self._keep.append(made)
        arrays = self.take_arrays()
        arrays.clear()
        future = capi.linker_instantiate(
            pointer, self._context, capi.address(module.ptr()), ctypes.addressof(made), arrays.trap, arrays.error
        )
        yield from self._finish(future, arrays)
        self.give_arrays(arrays)
        self._instances.append(ctypes.addressof(made))

    def _extern(self, ref: CoreRef) -> int:
        """The address of the `wasmtime_extern_t` of a core item."""
        found = self._externs.get(ref)
        if found is not None:
            return found
        made = (ctypes.c_ubyte * EXTERN_SIZE)()
        self._keep.append(made)
        at = ctypes.addressof(made)
        if isinstance(ref, CanonRef):
            name = b"%d" % ref.index
            found_it = capi.linker_get(
                capi.address(self.bound.linker.ptr()), self._context, b"", 0, name, len(name), at
            )
        else:
            name = ref.name.encode()
            found_it = capi.export_get(self._context, self._instances[ref.instance], name, len(name), at)
        if not found_it:
            raise guest_trap(AbiTrap(f"the component has no core item {ref}"))
        self._externs[ref] = at
        return at

    def _address(self, ref: CoreRef) -> int:
        return self._extern(ref) + EXTERN_OF


def _no_realloc(old: int, old_size: int, alignment: int, size: int) -> int:
    raise AbiTrap("the component gives no realloc for a value that needs memory")
