"""Reading an instance's state between two calls, or saying why that cannot be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.component.handles import Handle, HandleTable
from perdure.component.snapshot.codec import ResourceCodec
from perdure.component.snapshot.content import HandleState, MemoryState, State, TableState
from perdure.component.snapshot.image import InitialImage, place, read_globals
from perdure.component.snapshot.pages import changed_pages, read_pages
from perdure.component.types import ResourceType
from perdure.errors import SnapshotRefused

if TYPE_CHECKING:
    from perdure.component.instance import Instance


def read_state(instance: Instance, initial: InitialImage, codec: ResourceCodec, *, prefilter: bool) -> State:
    """Changes nothing. Raises `SnapshotRefused`."""
    _refuse(instance)
    layout = instance.bound.component.layout
    numbers = {id(one): number for number, one in enumerate(instance.bound.component.plan.resources)}
    tables = tuple(_table(table, numbers, codec) for table in instance.tables)
    memories = []
    for item, (initial_address, initial_size) in zip(layout.memories, initial.places, strict=True):
        address, size = place(instance, item)
        pages = changed_pages(address, size, initial_address, initial_size, prefilter=prefilter)
        memories.append(MemoryState(size, read_pages(address, pages)))
    return State(tuple(memories), read_globals(instance, layout.globals), tables)


def _refuse(instance: Instance) -> None:
    if instance.running:
        raise SnapshotRefused("a call is in progress: a suspended stack is not captured", reason="call-in-progress")
    if not instance.usable:
        raise SnapshotRefused("the instance is not usable: its last call did not return", reason="trapped")
    changed = instance.references.changed(instance)
    if changed is not None:
        raise SnapshotRefused(
            f"a {changed.kind} of core instance {changed.instance} holds references that the guest put there",
            reason="tables-changed",
        )


def _table(table: HandleTable, numbers: dict[int, int], codec: ResourceCodec) -> TableState:
    slots, free, handles = table.saved()
    return TableState(slots, free, tuple(_handle(slot, handle, numbers, codec) for slot, handle in handles))


def _handle(slot: int, handle: Handle, numbers: dict[int, int], codec: ResourceCodec) -> HandleState:
    resource: ResourceType = handle.resource
    if handle.scope is not None or handle.lent:
        raise SnapshotRefused(f"handle {slot} ({resource.name}) is borrowed or lent", reason="live-borrow")
    number = numbers[id(resource)]
    if resource.component_instance is not None:
        assert isinstance(handle.representation, int)
        return HandleState(slot, number, handle.representation)
    saved = codec.encode(resource, handle.representation)
    if saved is None:
        name = f"{resource.interface} {resource.name}"
        raise SnapshotRefused(
            f"handle {slot} is a resource of the host that it cannot save: {name}", reason="host-resource"
        )
    return HandleState(slot, number, saved)
