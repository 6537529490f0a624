"""What generated code sees of an instance: memory, handles and strings of one set of canonical options."""

from __future__ import annotations

from collections.abc import Callable

from perdure.component.canonical.strings import encode, layout_of
from perdure.component.capi import RAW
from perdure.component.handles import BorrowScope, GuestResource, Handle, HandleTable
from perdure.component.memory import Memory
from perdure.component.plan import StringEncoding
from perdure.component.traps import AbiTrap
from perdure.component.types import ResourceType


class CallContext:
    """One per (component instance, canonical options) of an instance; `mem` is bound when first needed."""

    __slots__ = ("_allocate", "_utf8", "component_instance", "encoding", "mem", "scope", "table")

    def __init__(
        self,
        component_instance: int,
        encoding: StringEncoding,
        table: HandleTable,
        mem: Memory,
        allocate: Callable[[int, int], int],
        scope: Callable[[], BorrowScope],
    ) -> None:
        self.component_instance = component_instance
        self.encoding = encoding
        self.table = table
        self.mem = mem
        self.scope = scope
        self._allocate = allocate
        self._utf8 = encoding == "utf8"

    def realloc(self, alignment: int, size: int) -> int:
        """New guest memory from the guest's own `realloc`, zero-sized requests included. Not trusted: the caller
        checks the pointer by `mem.at`."""
        if size >= 1 << 32:
            raise AbiTrap(f"{size} bytes do not fit a 32-bit memory")
        return self._allocate(alignment, size)

    def lift_string(self, pointer: int, units: int) -> str:
        if self._utf8:
            start = self.mem.at(pointer, units, 1)
            try:
                return str(RAW[start : start + units], "utf-8")
            except UnicodeDecodeError as error:
                raise AbiTrap(f"a string that is not UTF-8: {error.reason} at byte {error.start}") from None
        size, alignment, codec = layout_of(self.encoding, units)
        start = self.mem.at(pointer, size, alignment)
        try:
            return str(RAW[start : start + size], codec)
        except UnicodeDecodeError as error:
            raise AbiTrap(f"a string that is not {codec}: {error.reason}") from None

    def lower_string(self, text: str) -> tuple[int, int]:
        """(pointer, code units) of a copy in guest memory."""
        data, alignment, units = encode(self.encoding, text)
        pointer = self.realloc(alignment, len(data))
        start = self.mem.at(pointer, len(data), alignment)
        RAW[start : start + len(data)] = data
        return pointer, units

    def lift_own(self, index: int, resource: ResourceType) -> object:
        return _outside(self.table.take_own(index, resource), resource)

    def lift_borrow(self, index: int, resource: ResourceType) -> object:
        return _outside(self.table.lend(index, resource), resource)

    def lower_own(self, value: object, resource: ResourceType) -> int:
        return self.table.add(Handle(resource, _inside(value, resource)))

    def lower_borrow(self, value: object, resource: ResourceType) -> int:
        representation = _inside(value, resource)
        if resource.component_instance == self.component_instance:
            # The instance that defines a resource gets its representation, not a handle.
            assert isinstance(representation, int)
            return representation
        scope = self.scope()
        scope.borrowed += 1
        return self.table.add(Handle(resource, representation, scope))


def _outside(representation: object, resource: ResourceType) -> object:
    if resource.component_instance is None:
        return representation
    assert isinstance(representation, int)
    return GuestResource(resource, representation)


def _inside(value: object, resource: ResourceType) -> object:
    if resource.component_instance is None:
        return value
    if not isinstance(value, GuestResource) or value.resource is not resource:
        raise TypeError(f"a handle of the guest's resource {resource.name} was expected")
    return value.representation
