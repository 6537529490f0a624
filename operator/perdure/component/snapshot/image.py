"""The initial image of a component: memories and globals before any guest code has run.

It is read from a blank instance: one whose core modules are instantiated while their start functions are not run.
Then memories hold exactly what data segments put there, and globals the values of constant expressions over imported
immutable globals: all of it follows from the component's bytes, never from a clock, randomness or a host's answer.
So the image is the same in every process, and a snapshot can be a difference to it. Its digest is in the snapshot, to
show that this is so.
"""

from __future__ import annotations

import ctypes
import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perdure.component import capi
from perdure.component.capi import RAW, VAL_OF, VAL_SIZE
from perdure.component.plan import CoreExport
from perdure.component.snapshot.content import GLOBAL_SIZE
from perdure.component.snapshot.pages import PAGE, ZEROS

if TYPE_CHECKING:
    from perdure.component.instance import Instance

# By the kind of a `wasmtime_val_t`: i32, i64, f32, f64, v128.
_WIDTHS = (4, 8, 4, 8, 16)


@dataclass(frozen=True, slots=True)
class InitialImage:
    """`instance` is kept for its memories: they are mapped copy-on-write and cost no copy."""

    instance: Instance
    places: tuple[tuple[int, int], ...]
    globals: bytes
    digest: bytes

    @property
    def sizes(self) -> Sequence[int]:
        return [size for _, size in self.places]

    def page(self, memory: int, page: int) -> bytes:
        address, size = self.places[memory]
        start = page * PAGE
        return bytes(RAW[address + start : address + start + PAGE]) if start < size else ZEROS


def initial_image(blank: Instance) -> InitialImage:
    """Read once per component; tens of milliseconds for an interpreter."""
    layout = blank.bound.component.layout
    places = tuple(place(blank, item) for item in layout.memories)
    values = read_globals(blank, layout.globals)
    digest = hashlib.sha256(struct.pack(f"<{len(places)}Q", *(size for _, size in places)) + values)
    for address, size in places:
        digest.update(RAW[address : address + size])
    return InitialImage(blank, places, values, digest.digest())


def place(instance: Instance, memory: CoreExport) -> tuple[int, int]:
    """(address, bytes) of a linear memory, now."""
    reference = instance.item(memory)
    size = capi.memory_size(instance.context, reference)
    return (capi.memory_data(instance.context, reference) or 0) if size else 0, size


def read_globals(instance: Instance, items: Sequence[CoreExport]) -> bytes:
    """16 bytes each: the value, little-endian, then zeros."""
    value = (ctypes.c_ubyte * VAL_SIZE)()
    at = ctypes.addressof(value)
    parts = []
    for item in items:
        capi.global_get(instance.context, instance.item(item), at)
        width = _WIDTHS[RAW[at]]
        parts.append(bytes(RAW[at + VAL_OF : at + VAL_OF + width]).ljust(GLOBAL_SIZE, b"\0"))
    return b"".join(parts)


def write_globals(instance: Instance, items: Sequence[CoreExport], values: bytes, present: bytes) -> None:
    """Set those of `values`, which `read_globals` read, that differ from the `present` ones."""
    value = (ctypes.c_ubyte * VAL_SIZE)()
    at = ctypes.addressof(value)
    for number, item in enumerate(items):
        span = slice(number * GLOBAL_SIZE, (number + 1) * GLOBAL_SIZE)
        if values[span] == present[span]:
            continue
        reference = instance.item(item)
        # Reading it first gives the value its type.
        capi.global_get(instance.context, reference, at)
        RAW[at + VAL_OF : at + VAL_OF + GLOBAL_SIZE] = values[span]
        error = capi.global_set(instance.context, reference, at)
        if error:
            raise capi.take_error(error)
