"""One running component: instantiate, call, close.

After a trap, a timeout, a cancellation or a host exception the guest was left in the middle of a call, so the
instance is not `usable` any more and is thrown away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from types import CoroutineType
from typing import TYPE_CHECKING, TypeVar, cast

from perdure.component import fiber
from perdure.component.allocator import Allocator
from perdure.component.boundary import UNFINISHED, State
from perdure.component.canonical.lower import MISFIT
from perdure.component.context import CallContext
from perdure.component.coreitems import CoreItems
from perdure.component.crossing import Finish
from perdure.component.entry import Arrays
from perdure.component.handles import BorrowScope, GuestResource, HandleTable
from perdure.component.imports import CoreImport
from perdure.component.lifted import CLEANING, LOWERING, Callee, Lifted, misfit
from perdure.component.memory import Memory, NoMemory
from perdure.component.plan import CanonOptions, CoreRef, ExportedFunc, HostImport, Lower
from perdure.component.references import ReferenceWatch
from perdure.component.steps import Steps
from perdure.component.store import GuestStore
from perdure.component.traps import AbiTrap, HostTrap, guest_trap
from perdure.component.types import ResourceType
from perdure.errors import GuestTrapped, InvocationTimeout, NoSuchFunction, TypeMismatch

if TYPE_CHECKING:
    from perdure.component.canonical.lower import Lowering
    from perdure.component.component import BoundComponent
    from perdure.component.host import HostFunction

K = TypeVar("K")
V = TypeVar("V")
MAX_CALL_DEPTH = 32
"""Calls between components within each other; each takes a fiber."""


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


class Instance(State):
    """Made by `BoundComponent.instantiate`."""

    def __init__(self, bound: BoundComponent, host_context: object, limits: InstanceLimits) -> None:
        self.bound = bound
        self.host_context = host_context
        self.limits = limits
        self.imports: Sequence[CoreImport] = bound.imports
        count = len(bound.component.plan.parents)
        self.tables = [HandleTable() for _ in range(count)]
        self.contexts: list[CallContext | None] = [None] * len(bound.imports)
        self.suspended: dict[int, tuple[Steps[Finish], int]] = {}
        self.references = ReferenceWatch(bound.component.layout.references)
        self._entered = [False] * count
        self._lifted: list[Lifted | None] = [None] * len(bound.callees)
        engine = bound.component.engine
        self._store = GuestStore(engine, limits)
        context = self._store.address
        # For calls that do not wait, and what is left of them.
        self._arrays, reallocation = Arrays(), Arrays()
        super().__init__(engine, context, bound.begins, self._arrays, reallocation)
        self._items = CoreItems(bound.template, context)
        self._memories: dict[CoreRef, Memory] = {}
        self.allocator = Allocator(self, reallocation)
        self._spare = [Arrays()]

    # --- for the host

    async def start(self, deadline: float | None, *, starts: bool = True) -> None:
        """Instantiate the core modules in order; each one's start function runs at once, if `starts`."""
        await self._drive(self._starting(starts=starts), deadline)
        self.references.settle(self)
        self.usable = starts

    async def call(self, func: ExportedFunc, args: Sequence[object], deadline: float | None = None) -> object:
        """Call an export; `deadline` in the loop's time, seconds.

        Raises `TypeMismatch` (arguments do not fit; nothing ran), `NoSuchFunction` (it is another component's),
        `GuestTrapped`, `InvocationTimeout`, `ResultMismatch`, and what a host function raised. One call at a time.
        """
        try:
            value = self.call_at_once(func.path, args)
        except BaseException as error:
            if self.suspended or self.coroutine is not None:
                fiber.abandon(self)
            if self.misfit and isinstance(error, MISFIT):
                raise self._misfit(func, error) from error
            if isinstance(error, (AbiTrap, HostTrap)):
                raise guest_trap(error) from error
            raise
        return value if value is not UNFINISHED else await self._called(func, args, deadline)

    async def drop(self, resource: GuestResource, *, deadline: float | None = None) -> None:
        """Drop a guest-defined resource that the host owns; its destructor runs. Raises as `call` does, and
        `ValueError` for a handle that is not the host's to drop."""
        if resource.home is not self:
            raise ValueError("the resource belongs to another instance")
        self._require_idle()
        resource.use(moves=True)
        entering = self.bound.entering(resource.resource.component_instance, None)
        await self._drive(self.destroy(resource.resource, resource.representation, entering), deadline)

    def close(self) -> None:
        """Free the guest's memory; idempotent. Raises `RuntimeError` while a call runs: cancel that first."""
        if self.busy:
            raise RuntimeError("the instance is running a call: it cannot be closed before that has ended")
        self.usable = False
        self.offered.clear()
        self._lifted.clear()
        self.contexts.clear()
        self._memories.clear()
        self._items.clear()
        self._store.close()

    def _called(self, func: ExportedFunc, args: Sequence[object], deadline: float | None) -> Awaitable[object]:
        """A call by steps: from the beginning, or from where `call_at_once` left it."""
        target = func.target
        if isinstance(target, HostImport):
            return _call_import(self, _known(self.bound.reexported, target, func), args, deadline)
        callee, left = _known(self.bound.exports, func.path, func), self.left
        if left is not None:
            self.left = None
            return fiber.drive(self, self._going_on(func, callee, *left), deadline)
        return self._drive(self._calling(func, callee, tuple(args)), deadline)

    def _require_idle(self) -> None:
        if self.busy or not self.usable:
            raise RuntimeError("the instance is running a call" if self.busy else "the instance is not usable")

    def _drive(self, steps: Steps[object], deadline: float | None) -> Awaitable[object]:
        self._require_idle()
        self.busy = True
        self.usable = False
        self.engine.turned()
        return fiber.drive(self, steps, deadline)

    # --- entering the guest

    def _starting(self, *, starts: bool) -> Steps[None]:
        functions, arrays = self.bound.component.layout.starts, self.take_arrays()
        for step in self.bound.template.steps:
            future = self._items.begin(step, arrays.trap, arrays.error)
            yield from self.finish(future, arrays, begun=False)
            self._items.collect(step)
            start = functions.get(step.instance)
            if starts and start is not None:
                with self.references.during_start(self, step.instance):
                    rest = self.run(self.item(start), arrays, arrays.args, 0, 0)
                    if rest is not None:
                        yield from rest
        self.give_arrays(arrays)

    def _calling(self, func: ExportedFunc, callee: Callee, args: tuple[object, ...]) -> Steps[object]:
        self.enter_components(callee.entering)
        lifted = self.lifted(callee.number)
        if not callee.entering:
            lifted.offer(func.path)
        arrays = self.take_arrays()
        scope = lifted.begin()
        try:
            rest = lifted.lower(arrays, args)
            if rest is not None:
                yield from rest
        except MISFIT as error:
            self.leave_components(callee.entering)
            raise self._misfit(func, error) from error
        rest = lifted.enter(arrays)
        if rest is not None:
            yield from rest
        value = lifted.result(arrays, scope)
        rest = lifted.post_return(arrays)
        if rest is not None:
            yield from rest
        self.give_arrays(arrays)
        self.leave_components(callee.entering)
        return value

    def run(self, core: int, arrays: Arrays, args: int, nargs: int, nresults: int) -> Steps[None] | None:
        """Run a core function: None when it has returned, or the steps that are left, to be taken at once. Raises
        what ended it."""
        if self.depth >= MAX_CALL_DEPTH:
            raise AbiTrap(f"calls between components nested deeper than {MAX_CALL_DEPTH}")
        future = self.enter(core, args, nargs, arrays.results, nresults, arrays.trap)
        if future:
            return self.finish(future, arrays)
        self.check(arrays)
        return None

    def finish(self, future: int, arrays: Arrays, *, begun: bool = True) -> Steps[None]:
        """Wait for an entry that was not polled to its end; or, unless `begun`, not at all: then it is at once."""
        self.depth += 1
        level = self.depth
        self._store.begin()
        try:
            polled = (yield future) if begun else False
            while not polled and not self.poll(future):
                polled = yield future
        except BaseException:
            fiber.abandon(self, level)
            raise
        finally:
            self._store.end(future)
            self.depth -= 1
        self.check(arrays)

    def destroy(self, resource: ResourceType, representation: int, entering: tuple[int, ...]) -> Steps[None]:
        """Run a guest-defined resource's destructor, if it has one."""
        self.enter_components(entering)
        if resource.destructor is not None:
            arrays = self.take_arrays()
            arrays.write_i32(representation)
            core = self.item(cast("CoreRef", resource.destructor))
            rest = self.run(core, arrays, arrays.args, 1, 0)
            if rest is not None:
                yield from rest
            self.give_arrays(arrays)
        self.leave_components(entering)

    def check(self, arrays: Arrays) -> None:
        """Raise what ended an entry, if anything did."""
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
        if self.lowering is not None:
            # `realloc` was called on the guest's own fiber, and the guest went on without what it should have given.
            raise AbiTrap("an exception left realloc, and the guest caught it")

    def _going_on(self, func: ExportedFunc, callee: Callee, stage: int, future: int, left: object) -> Steps[object]:
        """What is left of a call that `call_at_once` has begun. `left`: the lowering under way, or the result."""
        lifted, arrays = self.lifted(callee.number), self._arrays
        if stage == CLEANING:
            yield from lifted.cleaning(self.finish(future, arrays))
            return left
        if stage == LOWERING:
            try:
                yield from lifted.lowering(cast("Lowering", left), future)
            except MISFIT as error:
                raise self._misfit(func, error) from error
            rest = lifted.enter(arrays)
            if rest is not None:
                yield from rest
        else:
            yield from self.finish(future, arrays)
        value = lifted.result(arrays, BorrowScope())
        rest = lifted.post_return(arrays)
        if rest is not None:
            yield from rest
        return value

    def _misfit(self, func: ExportedFunc, error: Exception) -> TypeMismatch:
        """The caller's mistake; the guest has run nothing but its allocator."""
        self.lifted(self.bound.exports[func.path].number).take_back()
        self.usable = True
        return misfit(func, error)

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
                self.item(lift.core),
                None if post_return is None else self.item(post_return),
            )
        return found

    def lowered(self, number: int, *, transcodes: bool = False) -> CallContext:
        """The context of a lowered import, made when it is first called: its memory exists by then."""
        canon = self.bound.component.plan.canons[number]
        assert isinstance(canon, Lower)
        cx = self.contexts[number] = self.context_for(canon.options, canon.component_instance, transcodes=transcodes)
        return cx

    def context_for(self, options: CanonOptions, component_instance: int, *, transcodes: bool) -> CallContext:
        return CallContext(
            self,
            component_instance,
            options.encoding,
            self.tables[component_instance],
            self._memory(options.memory),
            0 if options.realloc is None else self.item(options.realloc),
            transcodes=transcodes,
        )

    def _memory(self, ref: CoreRef | None) -> Memory:
        if ref is None:
            return NoMemory()
        found = self._memories.get(ref)
        if found is None:
            found = self._memories[ref] = Memory(self.context, self.item(ref), self.limits.lifted)
        return found

    # --- what snapshots need

    @property
    def running(self) -> bool:
        """A call, or instantiation, is going on."""
        return self.busy

    def item(self, ref: CoreRef) -> int:
        """The address of the C API's handle of a core memory, global, table or function."""
        return self._items.address(ref)

    def restored(self) -> None:
        """A blank instance has been given a state."""
        self.usable = True


def _known(functions: Mapping[K, V], key: K, func: ExportedFunc) -> V:
    if key not in functions:
        raise NoSuchFunction(f"the component exports no {func.path}")
    return functions[key]


async def _call_import(
    instance: Instance, function: HostFunction, args: Sequence[object], deadline: float | None
) -> object:
    """The component hands on what it imports: the host calls itself."""
    value = function(instance.host_context, *args)
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
