"""The functions a component's core modules import: lowered functions and resource built-ins.

Prepared once per component (`BoundComponent`); at run time each gets the calling instance, on the caller's fiber.
`call` gives None when it is done, or the steps that are left: then the fiber is suspended between them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from types import CoroutineType
from typing import TYPE_CHECKING, Protocol, cast

from perdure.component.canonical.functions import ImportCode
from perdure.component.capi import RAW, VAL_OF
from perdure.component.context import CallContext, give_back
from perdure.component.fiber import awaited
from perdure.component.handles import Handle
from perdure.component.host import HostFunction
from perdure.component.plan import CanonOptions, Lower, ResourceBuiltin
from perdure.component.steps import Steps, Unfinished, lowered, lowered_anew, started
from perdure.component.types import ResourceType

if TYPE_CHECKING:
    from perdure.component.instance import Instance

CoreSignature = tuple[tuple[str, ...], tuple[str, ...]]
_read_i32 = struct.Struct(f"<{VAL_OF}xI").unpack_from
_write_i32 = struct.Struct(f"<B{VAL_OF - 1}xI").pack_into


class CoreImport(Protocol):
    """One imported core function."""

    @property
    def core(self) -> CoreSignature:
        """(params, results) as core types."""

    @property
    def leaves(self) -> bool:
        """Whether it traps while the guest may not leave (`CanonicalABI.md`: "may_leave")."""

    def call(self, instance: Instance, args: int, results: int) -> Steps[None] | None:
        """Read the arguments, do the work, write the results."""


@dataclass(frozen=True, slots=True)
class HostCall:
    """`canon lower` of a host function."""

    index: int
    canon: Lower
    function: HostFunction
    code: ImportCode
    leaves: bool = True

    @property
    def core(self) -> CoreSignature:
        return self.code.core

    def call(self, instance: Instance, args: int, results: int) -> Steps[None] | None:
        cx = instance.contexts[self.index] or _context(instance, self.index, self.canon)
        code = self.code
        values, pointer = code.lift_params(cx, args)
        value = self.function(instance.host_context, *values)
        if type(value) is CoroutineType:
            return started(self._wait(instance, cx, cast("Coroutine[object, object, object]", value), results, pointer))
        if code.lends:
            cx.end_call()
        try:
            code.lower_result(cx, results, pointer, value)
        except Unfinished as unfinished:
            return started(lowered_anew(unfinished, cx, code.lower_result, results, pointer, value))
        return None

    def _wait(
        self,
        instance: Instance,
        cx: CallContext,
        coroutine: Coroutine[object, object, object],
        results: int,
        pointer: int,
    ) -> Steps[None]:
        value = yield from awaited(instance, coroutine)
        if self.code.lends:
            cx.end_call()
        yield from lowered(cx, self.code.lower_result, results, pointer, value)


@dataclass(frozen=True, slots=True)
class ComponentCall:
    """`canon lower` of a function that a component instance lifts: a call from one component into another.

    `entering`: the component instances that are entered on the way. `transcodes`: the two sides' strings differ.
    """

    index: int
    canon: Lower
    code: ImportCode
    callee: int
    entering: tuple[int, ...]
    transcodes: bool
    leaves: bool = True

    @property
    def core(self) -> CoreSignature:
        return self.code.core

    def call(self, instance: Instance, args: int, results: int) -> Steps[None] | None:
        return started(self._steps(instance, args, results))

    def _steps(self, instance: Instance, args: int, results: int) -> Steps[None]:
        cx = instance.contexts[self.index] or _context(instance, self.index, self.canon, transcodes=self.transcodes)
        instance.enter_components(self.entering)
        values, pointer = self.code.lift_params(cx, args)
        lent = cx.take_lent()
        lifted = instance.lifted(self.callee)
        arrays = instance.take_arrays()
        scope = lifted.begin()
        rest = lifted.lower(arrays, values)
        if rest is not None:
            yield from rest
        rest = lifted.enter(arrays)
        if rest is not None:
            yield from rest
        value = lifted.result(arrays, scope)
        yield from lowered(cx, self.code.lower_result, results, pointer, value)
        rest = lifted.post_return(arrays)
        if rest is not None:
            yield from rest
        instance.give_arrays(arrays)
        give_back(lent)
        instance.leave_components(self.entering)


@dataclass(frozen=True, slots=True)
class ResourceCall:
    """`resource.new`, `resource.rep` or `resource.drop` (`CanonicalABI.md`, "canon resource.…").

    `drop`: the host's, for a resource of the host. `entering`: the component instances that a destructor enters.
    """

    canon: ResourceBuiltin
    drop: Callable[..., object] | None
    entering: tuple[int, ...]

    @property
    def core(self) -> CoreSignature:
        return (("i32",), ()) if self.canon.op == "drop" else (("i32",), ("i32",))

    @property
    def leaves(self) -> bool:
        return self.canon.op != "rep"

    def call(self, instance: Instance, args: int, results: int) -> Steps[None] | None:
        number: int = _read_i32(RAW, args)[0]
        table = instance.tables[self.canon.component_instance]
        resource: ResourceType = self.canon.resource
        if self.canon.op == "new":
            _write_i32(RAW, results, 0, table.add(Handle(resource, number)))
            return None
        if self.canon.op == "rep":
            _write_i32(RAW, results, 0, table.get(number, resource).representation)
            return None
        handle = table.remove(number, resource)
        if handle.scope is not None:
            handle.scope.borrowed -= 1
            return None
        if resource.component_instance is not None:
            assert isinstance(handle.representation, int)
            return started(instance.destroy(resource, handle.representation, self.entering))
        if self.drop is None:
            return None
        dropped = self.drop(instance.host_context, handle.representation)
        if type(dropped) is CoroutineType:
            return started(self._wait(instance, cast("Coroutine[object, object, object]", dropped)))
        return None

    def _wait(self, instance: Instance, coroutine: Coroutine[object, object, object]) -> Steps[None]:
        yield from awaited(instance, coroutine)


def _context(instance: Instance, index: int, canon: Lower, *, transcodes: bool = False) -> CallContext:
    """The context of a lowered import, made when it is first called: its memory exists by then."""
    options: CanonOptions = canon.options
    cx = instance.contexts[index] = instance.context_for(options, canon.component_instance, transcodes=transcodes)
    return cx
