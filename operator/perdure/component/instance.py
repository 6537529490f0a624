"""One running component: instantiate, call, close.

After a trap, a timeout, a cancellation or a host exception the guest was left in the middle of a call, so the
instance is not `usable` any more and is thrown away.
"""

from __future__ import annotations

import ctypes
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import wasmtime

from perdure.component import capi, fiber
from perdure.component.capi import EXTERN_OF, EXTERN_SIZE, INSTANCE_SIZE, RAW, VAL_OF, VAL_SIZE
from perdure.component.context import CallContext
from perdure.component.handles import BorrowScope, HandleTable
from perdure.component.imports import CoreImport
from perdure.component.memory import Memory
from perdure.component.plan import CanonOptions, CanonRef, CoreRef, ExportedFunc, InstantiateModule
from perdure.component.traps import AbiTrap, HostTrap, guest_trap
from perdure.component.types import ResourceType
from perdure.errors import GuestTrapped, InvocationTimeout, TypeMismatch

if TYPE_CHECKING:
    from perdure.component.component import BoundComponent
    from perdure.component.engine import Engine

_MAX_VALUES = 24
_NESTED_SECONDS = 5.0
"""Of `realloc`, post-return and destructors in one call, all of them together: the event loop waits for them."""
_MAX_MEMORIES = 16
_MAX_TABLES = 64
_MAX_TABLE_ELEMENTS = 1 << 18
_MISFIT = (KeyError, TypeError, ValueError, OverflowError, AttributeError, IndexError, struct.error)


@dataclass(frozen=True, slots=True)
class InstanceLimits:
    """`memory`: bytes each linear memory may grow to; beyond, the guest's own allocation fails."""

    memory: int = 64 << 20


class _Buffers:
    """Argument and result arrays and out-pointers for one level of entry. Addresses stay valid with the object."""

    def __init__(self) -> None:
        self._memory = (ctypes.c_ubyte * (VAL_SIZE * _MAX_VALUES + 16))()
        self.args = ctypes.addressof(self._memory)
        self.results = self.args + VAL_SIZE * (_MAX_VALUES - 1)
        self.trap = self.args + VAL_SIZE * _MAX_VALUES
        self.error = self.trap + 8

    def clear(self) -> None:
        RAW[self.trap : self.trap + 16] = bytes(16)

    def raised(self) -> Exception | None:
        """What wasmtime left in the out-pointers, owned from now on."""
        trap, error = struct.unpack_from("<QQ", RAW, self.trap)
        self.clear()
        if error:
            return capi.take_error(error)
        return capi.take_trap(trap) if trap else None


class Instance:
    """Made by `BoundComponent.instantiate`."""

    def __init__(self, bound: BoundComponent, host_context: object, limits: InstanceLimits) -> None:
        self.bound = bound
        self.engine: Engine = bound.component.engine
        self.host_context = host_context
        self.imports: Sequence[CoreImport] = bound.imports
        self.tables = [HandleTable() for _ in range(bound.component.plan.component_instances)]
        self.pending: fiber.Pending | None = None
        self.failure: BaseException | None = None
        self.may_leave = True
        self.usable = True
        self._busy = False
        self._scope = BorrowScope()
        self._deadline: float | None = None
        self._nested_left = _NESTED_SECONDS
        self._store = wasmtime.Store(self.engine.wasmtime)
        self._store.set_limits(
            memory_size=limits.memory, table_elements=_MAX_TABLE_ELEMENTS, tables=_MAX_TABLES, memories=_MAX_MEMORIES
        )
        self._store.set_epoch_deadline(1)
        self._context = capi.address(self._store._context())
        capi.epoch_yield(self._context, 1)
        self._externs: dict[CoreRef, int] = {}
        self._instances: list[int] = []
        self._memories: dict[CoreRef, Memory] = {}
        self._contexts: dict[int, CallContext] = {}
        self._keep: list[object] = []
        self._outer, self._inner = _Buffers(), _Buffers()

    # --- entering the guest

    async def start(self, deadline: float | None) -> None:
        """Instantiate the core modules in order; start functions run."""
        self._busy = True
        self._deadline, self._nested_left = deadline, _NESTED_SECONDS
        try:
            for step in self.bound.component.plan.steps:
                await self._instantiate(step, deadline)
        except BaseException:
            self.usable = False
            raise
        finally:
            self._busy = False

    async def call(self, func: ExportedFunc, args: Sequence[object], *, deadline: float | None = None) -> object:
        """Call an export; `deadline` in the loop's time, seconds.

        Raises `TypeMismatch` (arguments do not fit; nothing ran), `GuestTrapped`, `InvocationTimeout`, and what a
        host function raised. One call at a time.
        """
        if self._busy or not self.usable:
            raise RuntimeError("the instance is running a call" if self._busy else "the instance is not usable")
        lift = func.lift
        code = self.bound.exports[func.path]
        cx = self._context_for(lift.options, lift.component_instance)
        self._scope = BorrowScope()
        self._deadline, self._nested_left = deadline, _NESTED_SECONDS
        self._busy = True
        self.usable = False
        try:
            self._lower(code.lower_params, cx, args, func)
            core = self._address(lift.core)
            await self._run(core, len(code.core[0]), len(code.core[1]), deadline)
            raw = bytes(RAW[self._outer.results : self._outer.results + VAL_SIZE])
            value = self._guarded(code.lift_result, cx, self._outer.results)
            cx.table.end_call()
            if self._scope.borrowed:
                raise guest_trap(AbiTrap(f"{self._scope.borrowed} borrowed handles were not dropped by the call's end"))
            if lift.options.post_return is not None:
                self._post_return(lift.options.post_return, raw, len(code.core[1]))
            self.usable = True
            return value
        finally:
            self._busy = False

    def close(self) -> None:
        """Free the guest's memory; idempotent. Not while a call runs."""
        self.usable = False
        self._contexts.clear()
        self._memories.clear()
        self._externs.clear()
        self._store.close()

    async def _run(self, core: int, nargs: int, nresults: int, deadline: float | None) -> None:
        out = self._outer
        out.clear()
        future = capi.call_async(self._context, core, out.args, nargs, out.results, nresults, out.trap, out.error)
        await fiber.drive(self, future, deadline)
        self._check(out)

    def _check(self, out: _Buffers) -> None:
        raised, failure = out.raised(), self.failure
        self.failure = None
        if failure is not None:
            if isinstance(failure, (AbiTrap, HostTrap)):
                trapped = guest_trap(failure)
                if raised is not None:
                    frames = guest_trap(raised).frames
                    trapped = GuestTrapped(trapped.detail, trap=trapped.trap, frames=frames)
                raise trapped from failure
            raise failure
        if raised is not None:
            raise guest_trap(raised) from raised

    def _lower(self, lower: object, cx: CallContext, args: Sequence[object], func: ExportedFunc) -> None:
        try:
            self._guarded(lower, cx, self._outer.args, tuple(args))
        except _MISFIT as error:
            # A misfit is the caller's mistake; the guest has run nothing but its allocator.
            self.usable = True
            wanted = ", ".join(name for name, _ in func.lift.type.params)
            raise TypeMismatch(f"the arguments do not fit {func.path}({wanted}): {error}", parameter=wanted) from error

    def _guarded(self, code: object, *args: object) -> object:
        """Run generated code; rules broken by the guest become `GuestTrapped`."""
        assert callable(code)
        try:
            return code(*args)
        except AbiTrap as trap:
            raise guest_trap(trap) from trap

    def _nested(self, core: int, values: Sequence[int], nresults: int) -> int:
        """A synchronous entry (realloc, post-return, destructor) while the guest may not call out."""
        out = self._inner
        for index, value in enumerate(values):
            struct.pack_into("<B7xQ", RAW, out.args + index * VAL_SIZE, 0, value)
        return self._enter_nested(core, len(values), nresults)

    def _enter_nested(self, core: int, nargs: int, nresults: int) -> int:
        began = time.monotonic()
        limit = began + self._nested_left
        if self._deadline is not None:
            limit = min(limit, self._deadline)
        if began > limit:
            raise InvocationTimeout("the guest's allocator or clean-up ran past its time limit")
        out, before = self._inner, self.may_leave
        out.clear()
        self.may_leave = False
        future = capi.call_async(self._context, core, out.args, nargs, out.results, nresults, out.trap, out.error)
        try:
            while not fiber.poll(self.engine, self, future):
                if time.monotonic() > limit:
                    raise InvocationTimeout("the guest's allocator or clean-up ran past its time limit")
        finally:
            capi.future_delete(future)
            self._nested_left -= time.monotonic() - began
            self.may_leave = before
        self._check(out)
        return int.from_bytes(RAW[out.results + VAL_OF : out.results + VAL_OF + 4], "little") if nresults else 0

    def _post_return(self, ref: CoreRef, raw: bytes, nargs: int) -> None:
        RAW[self._inner.args : self._inner.args + VAL_SIZE] = raw
        self._enter_nested(self._address(ref), nargs, 0)

    def destroy(self, resource: ResourceType, representation: object) -> None:
        """Run a guest-defined resource's destructor."""
        if resource.destructor is not None:
            assert isinstance(representation, int)
            destructor = resource.destructor
            assert not isinstance(destructor, int)
            self._nested(self._address(destructor), [representation], 0)  # type: ignore[arg-type]

    # --- what imports and generated code need

    def context_of(self, canon: int, options: CanonOptions, component_instance: int) -> CallContext:
        """The context of a lowered import, made when it is first called (its memory exists by then)."""
        found = self._contexts.get(canon)
        if found is None:
            found = self._contexts[canon] = self._context_for(options, component_instance)
        return found

    def _context_for(self, options: CanonOptions, component_instance: int) -> CallContext:
        def allocate(alignment: int, size: int) -> int:
            if options.realloc is None:
                raise AbiTrap("the component gives no realloc for a value that needs memory")
            return self._nested(self._address(options.realloc), [0, 0, alignment, size], 1)

        return CallContext(
            component_instance,
            options.encoding,
            self.tables[component_instance],
            self._memory(options.memory),
            allocate,
            lambda: self._scope,
        )

    def _memory(self, ref: CoreRef | None) -> Memory:
        if ref is None:
            return _NoMemory()
        found = self._memories.get(ref)
        if found is None:
            found = self._memories[ref] = Memory(self._context, self._address(ref))
        return found

    # --- core instances and their exports

    async def _instantiate(self, step: InstantiateModule, deadline: float | None) -> None:
        module = self.bound.component.modules[step.module]
        linker = wasmtime.Linker(self.engine.wasmtime)
        pointer = capi.address(linker.ptr())
        for (space, name), ref in zip(self.bound.component.import_names[step.module], step.imports, strict=True):
            error = capi.linker_define(pointer, self._context, space, len(space), name, len(name), self._extern(ref))
            if error:
                raise capi.take_error(error)
        made = (ctypes.c_ubyte * INSTANCE_SIZE)()
        self._keep.append(made)
        out = self._outer
        out.clear()
        future = capi.linker_instantiate(
            pointer, self._context, capi.address(module.ptr()), ctypes.addressof(made), out.trap, out.error
        )
        await fiber.drive(self, future, deadline)
        self._check(out)
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


class _NoMemory(Memory):
    """Stands where the canonical options name no memory: nothing that is lifted or lowered needs one."""

    __slots__ = ()

    def __init__(self) -> None:
        self.base = self.size = 0

    def at(self, pointer: int, size: int, align: int) -> int:
        raise AbiTrap("the component gives no memory for a value that needs it")
