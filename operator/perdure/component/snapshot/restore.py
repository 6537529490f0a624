"""Giving a state to a blank instance."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

from perdure.component import capi
from perdure.component.handles import Handle
from perdure.component.plan import CoreExport
from perdure.component.snapshot.codec import ResourceCodec
from perdure.component.snapshot.content import State, malformed
from perdure.component.snapshot.image import InitialImage, place, write_globals
from perdure.component.snapshot.pages import write_pages
from perdure.errors import SnapshotError

if TYPE_CHECKING:
    from perdure.component.instance import Instance


def write_state(instance: Instance, state: State, initial: InitialImage, codec: ResourceCodec) -> None:
    """`instance` is blank, and of the component that `state` and `initial` are of.

    Raises `SnapshotError`; the instance is then to be closed.
    """
    layout = instance.bound.component.layout
    resources = instance.bound.component.plan.resources
    for item, memory in zip(layout.memories, state.memories, strict=True):
        write_pages(_grown(instance, item, memory.size), memory.pages)
    write_globals(instance, layout.globals, state.globals, initial.globals)
    for table, saved in zip(instance.tables, state.tables, strict=True):
        handles = []
        for one in saved.handles:
            resource = resources[one.resource]
            representation: object = one.representation
            if isinstance(representation, bytes):
                representation = codec.decode(instance.host_context, resource, representation)
            handles.append((one.slot, Handle(resource, representation)))
        table.load(saved.slots, saved.free, handles)
    instance.restored()


def _grown(instance: Instance, memory: CoreExport, size: int) -> int:
    """The address of a memory that has been given `size` bytes."""
    address, now = place(instance, memory)
    if size == now:
        return address
    reference = instance.item(memory)
    unit = capi.memory_page_size(instance.context, reference)
    missing, rest = divmod(size - now, unit)
    if missing < 0 or rest:
        raise malformed(f"a memory of {size} bytes, which begins with {now} in pages of {unit}")
    before = ctypes.c_uint64()
    error = capi.memory_grow(instance.context, reference, missing, ctypes.addressof(before))
    if error:
        reason = str(capi.take_error(error)).strip()
        raise SnapshotError(f"the snapshot has a memory of {size:,} bytes, over the limit: {reason}", reason="limit")
    return place(instance, memory)[0]
