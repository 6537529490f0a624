"""The functions a component's core modules import: lowered host functions and resource built-ins.

Prepared once per component (`BoundComponent`); at run time each gets the calling instance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from perdure.component.canonical.functions import ImportCode
from perdure.component.capi import RAW, VAL_OF
from perdure.component.handles import Handle
from perdure.component.host import HostFunction
from perdure.component.plan import Lower, ResourceBuiltin
from perdure.component.types import ResourceType

if TYPE_CHECKING:
    from perdure.component.instance import Instance


class CoreImport(Protocol):
    """`begin` lifts the arguments and calls; a coroutine as the value suspends the guest. `finish` lowers."""

    @property
    def core(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """(params, results) as core types."""

    def begin(self, instance: Instance, args: int) -> tuple[object, int]:
        """(value or coroutine, return pointer)."""

    def finish(self, instance: Instance, results: int, pointer: int, value: object) -> None:
        """Write the results."""


@dataclass(frozen=True, slots=True)
class HostCall:
    """`canon lower` of a host function."""

    index: int
    canon: Lower
    function: HostFunction
    code: ImportCode

    @property
    def core(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return self.code.core

    def begin(self, instance: Instance, args: int) -> tuple[object, int]:
        cx = instance.context_of(self.index, self.canon.options, self.canon.component_instance)
        values, pointer = self.code.lift_params(cx, args)
        return self.function(instance.host_context, *values), pointer

    def finish(self, instance: Instance, results: int, pointer: int, value: object) -> None:
        cx = instance.context_of(self.index, self.canon.options, self.canon.component_instance)
        cx.table.end_call()
        self.code.lower_result(cx, results, pointer, value)


@dataclass(frozen=True, slots=True)
class ResourceCall:
    """`resource.new`, `resource.rep` or `resource.drop` (`CanonicalABI.md`, "canon resource.…")."""

    canon: ResourceBuiltin
    drop: Callable[..., object] | None

    @property
    def core(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return (("i32",), ()) if self.canon.op == "drop" else (("i32",), ("i32",))

    def begin(self, instance: Instance, args: int) -> tuple[object, int]:
        number = int.from_bytes(RAW[args + VAL_OF : args + VAL_OF + 4], "little")
        table = instance.tables[self.canon.component_instance]
        resource: ResourceType = self.canon.resource
        if self.canon.op == "new":
            return table.add(Handle(resource, number)), 0
        if self.canon.op == "rep":
            return table.get(number, resource).representation, 0
        handle = table.remove(number, resource)
        if handle.scope is not None:
            handle.scope.borrowed -= 1
            return None, 0
        if resource.component_instance is not None:
            instance.destroy(resource, handle.representation)
            return None, 0
        return (self.drop(instance.host_context, handle.representation) if self.drop else None), 0

    def finish(self, instance: Instance, results: int, pointer: int, value: object) -> None:
        if self.canon.op != "drop":
            assert isinstance(value, int)
            RAW[results] = 0
            RAW[results + VAL_OF : results + VAL_OF + 4] = value.to_bytes(4, "little")
