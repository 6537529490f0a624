"""The functions a component's core modules import: lowered functions and resource built-ins.

Prepared once per component (`BoundComponent`); at run time each gets the calling instance, on the caller's fiber, by
way of its trampoline. `begin` reads the arguments from `values`, does the work and leaves an outcome there
(`crossing.py`).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from types import CoroutineType
from typing import TYPE_CHECKING, Protocol, cast

from perdure.component import crossing
from perdure.component.canonical.functions import ComponentCode
from perdure.component.capi import RAW, RAW_SIZE
from perdure.component.context import CallContext, give_back
from perdure.component.crossing import FINISHED, Finish, Waiting
from perdure.component.handles import Handle
from perdure.component.plan import ResourceBuiltin
from perdure.component.steps import Steps
from perdure.component.types import ResourceType

if TYPE_CHECKING:
    from perdure.component.canonical.lower import Lowering, Placement
    from perdure.component.instance import Instance

_read_i32 = struct.Struct("<I").unpack_from
_write_i32 = struct.Struct(f"<I{RAW_SIZE - 4}xI").pack_into
_FLAT = 2 * RAW_SIZE
"""Bytes of an outcome with a flat result."""


class CoreImport(Protocol):
    """One imported core function."""

    @property
    def leaves(self) -> bool:
        """Whether it traps while the guest may not leave (`CanonicalABI.md`: "may_leave")."""

    def begin(self, instance: Instance, values: int) -> Lowering | Placement | Waiting | None:
        """As the module says; or what is left of it, which needs guest memory."""


@dataclass(frozen=True, slots=True)
class HostCall:
    """`canon lower` of a host function: `begin` is generated (`canonical.functions.HostCode`)."""

    begin: Callable[[Instance, int], Lowering | Placement | Waiting | None]
    leaves: bool = True


@dataclass(frozen=True, slots=True)
class ComponentCall:
    """`canon lower` of a function that a component instance lifts: a call from one component into another.

    `entering`: the component instances that are entered on the way. `transcodes`: the two sides' strings differ.
    """

    index: int
    code: ComponentCode
    callee: int
    entering: tuple[int, ...]
    transcodes: bool
    leaves: bool = True

    def begin(self, instance: Instance, values: int) -> None:
        cx = instance.contexts[self.index] or instance.lowered(self.index, transcodes=self.transcodes)
        instance.enter_components(self.entering)
        arguments, pointer = self.code.lift_params(cx, values)
        crossing.waiting(instance, values, self._steps(instance, cx, arguments, pointer))

    def _steps(self, instance: Instance, cx: CallContext, values: tuple[object, ...], pointer: int) -> Steps[Finish]:
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
        # The arguments are not needed any more: the outcome is put in their place, until the caller's fiber takes it.
        lowered = self.code.lower_result(cx, arrays.args, pointer, value)
        if lowered is not None:
            crossing.finished(arrays.args)
            rest = instance.allocator.lower(cx.realloc, lowered)
            if rest is not None:
                yield from rest
        rest = lifted.post_return(arrays)
        if rest is not None:
            yield from rest
        outcome = bytes(RAW[arrays.args : arrays.args + _FLAT])
        instance.give_arrays(arrays)
        give_back(lent)
        instance.leave_components(self.entering)
        return partial(_hand_over, outcome if self.flat else outcome[:4])

    @property
    def flat(self) -> bool:
        """Whether the core function has a result."""
        return bool(self.code.core[1])


def _hand_over(outcome: bytes, values: int) -> None:
    RAW[values : values + len(outcome)] = outcome


@dataclass(frozen=True, slots=True)
class ResourceCall:
    """`resource.new`, `resource.rep` or `resource.drop` (`CanonicalABI.md`, "canon resource.…").

    `drop`: the host's, for a resource of the host. `entering`: the component instances that a destructor enters.
    """

    canon: ResourceBuiltin
    drop: Callable[..., object] | None
    entering: tuple[int, ...]

    @property
    def leaves(self) -> bool:
        return self.canon.op != "rep"

    def begin(self, instance: Instance, values: int) -> Waiting | None:
        number: int = _read_i32(RAW, values)[0]
        table = instance.tables[self.canon.component_instance]
        resource: ResourceType = self.canon.resource
        if self.canon.op == "new":
            _write_i32(RAW, values, FINISHED, table.add(Handle(resource, number)))
            return None
        if self.canon.op == "rep":
            representation = table.get(number, resource).representation
            _write_i32(RAW, values, FINISHED, representation)
            return None
        crossing.finished(values)
        handle = table.remove(number, resource)
        if handle.scope is not None:
            handle.scope.borrowed -= 1
        elif resource.component_instance is not None:
            assert isinstance(handle.representation, int)
            destroying = instance.destroy(resource, handle.representation, self.entering)
            crossing.waiting(instance, values, _dropped(destroying))
        elif self.drop is not None:
            dropped = self.drop(instance.host_context, handle.representation)
            if type(dropped) is CoroutineType:
                return cast("Coroutine[object, object, object]", dropped), _dropped_by_host, None, 0
        return None


def _dropped(steps: Steps[object]) -> Steps[Finish]:
    yield from steps
    return crossing.finished


def _dropped_by_host(_cx: object, values: int, _pointer: int, _value: object) -> None:
    crossing.finished(values)
