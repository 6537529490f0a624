"""What a snapshot holds, and its bytes before compression.

Memories are written as pages XOR the same pages of a *reference*: the initial image for a full snapshot, the parent
for a delta. Equal bytes become zeros, which cost next to nothing when compressed. Numbers are little-endian.

    content    memory* globals table*                  counts are the layout's
    memory     u64 bytes, u32 n, u32 page * n (ascending), 4096 bytes * n
    globals    16 bytes each, XOR the reference's
    table      u32 slots, u32 n, u32 free slot * n (in the order of their use), u32 n, handle * n
    handle     u32 slot, u32 resource, u8 0 and u32 number | u8 1, u32 n and n bytes
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from perdure.component.handles import MAX_HANDLES
from perdure.component.snapshot.pages import PAGE, xor
from perdure.errors import SnapshotError

GLOBAL_SIZE = 16
_GUEST, _HOST = 0, 1


@dataclass(frozen=True, slots=True)
class MemoryState:
    """`pages`: those that differ from the initial image, and possibly some that do not."""

    size: int
    pages: dict[int, bytes]


@dataclass(frozen=True, slots=True)
class HandleState:
    """`resource`: its place in the plan. `representation`: the guest's number, or what the host's codec made."""

    slot: int
    resource: int
    representation: int | bytes


@dataclass(frozen=True, slots=True)
class TableState:
    """`slots` with slot 0; `free`: those to be given out again, the last one first."""

    slots: int
    free: tuple[int, ...]
    handles: tuple[HandleState, ...]


@dataclass(frozen=True, slots=True)
class State:
    memories: tuple[MemoryState, ...]
    globals: bytes
    tables: tuple[TableState, ...]


class Reference(Protocol):
    """What a state is told as a difference to."""

    @property
    def globals(self) -> bytes: ...

    @property
    def sizes(self) -> Sequence[int]:
        """Bytes of each memory."""

    def page(self, memory: int, page: int) -> bytes: ...


@dataclass(frozen=True, slots=True)
class StateOver:
    """A state, with the initial image where it says nothing."""

    state: State
    initial: Reference

    @property
    def globals(self) -> bytes:
        return self.state.globals

    @property
    def sizes(self) -> Sequence[int]:
        return [memory.size for memory in self.state.memories]

    def page(self, memory: int, page: int) -> bytes:
        found = self.state.memories[memory].pages.get(page)
        return self.initial.page(memory, page) if found is None else found


def difference(state: State, initial: Reference, parent: State | None) -> bytes:
    """The bytes of `state` as a difference to `parent`, or to the initial image."""
    now = StateOver(state, initial)
    reference: Reference = initial if parent is None else StateOver(parent, initial)
    parts: list[bytes] = []
    for number, memory in enumerate(state.memories):
        candidates = set(memory.pages) if parent is None else {*memory.pages, *parent.memories[number].pages}
        changes = {}
        for page in sorted(candidates):
            content, was = now.page(number, page), reference.page(number, page)
            if content != was:
                changes[page] = xor(content, was)
        parts.append(struct.pack(f"<QI{len(changes)}I", memory.size, len(changes), *changes))
        parts.extend(changes.values())
    parts.append(xor(state.globals, reference.globals))
    parts.extend(_encoded(table) for table in state.tables)
    return b"".join(parts)


def _encoded(table: TableState) -> bytes:
    parts = [struct.pack(f"<II{len(table.free)}I", table.slots, len(table.free), *table.free)]
    parts.append(struct.pack("<I", len(table.handles)))
    for handle in table.handles:
        parts.append(struct.pack("<II", handle.slot, handle.resource))
        if isinstance(handle.representation, int):
            parts.append(struct.pack("<BI", _GUEST, handle.representation))
        else:
            parts.append(struct.pack("<BI", _HOST, len(handle.representation)) + handle.representation)
    return b"".join(parts)


def apply(data: bytes, initial: Reference, parent: State | None, guests: Sequence[Sequence[bool]]) -> State:
    """The state of which `data` is the difference to `parent`, or to the initial image.

    `guests`: for each handle table, for each resource of the plan, whether the guest defines it. Raises
    `SnapshotError`.
    """
    reference: Reference = initial if parent is None else StateOver(parent, initial)
    r = _Cursor(data)
    memories = []
    for number, least in enumerate(reference.sizes):
        size, pages = _memory(r, number, least, reference)
        memories.append(MemoryState(size, pages if parent is None else parent.memories[number].pages | pages))
    globals_ = xor(r.take(len(reference.globals)), reference.globals)
    tables = tuple(_table(r, resources) for resources in guests)
    if r.left:
        raise malformed("bytes are left over")
    return State(tuple(memories), globals_, tables)


def _memory(r: _Cursor, number: int, least: int, reference: Reference) -> tuple[int, dict[int, bytes]]:
    size, count = r.unpack("<QI")
    if size % PAGE or size < least:
        raise malformed(f"memory {number} of {size} bytes, which had {least}")
    if count * (PAGE + 4) > r.left:
        raise malformed("more pages than follow")
    numbers = r.unpack(f"<{count}I")
    if any(later <= earlier for earlier, later in itertools.pairwise(numbers)):
        raise malformed("pages are not in order")
    if numbers and numbers[-1] >= size // PAGE:
        raise malformed(f"page {numbers[-1]} of a memory of {size} bytes")
    return size, {page: xor(r.take(PAGE), reference.page(number, page)) for page in numbers}


def _table(r: _Cursor, guests: Sequence[bool]) -> TableState:
    slots, count = r.unpack("<II")
    if not 0 < slots <= MAX_HANDLES:
        raise malformed(f"a table of {slots} handles")
    if count >= slots:
        raise malformed("more free handles than handles")
    free = r.unpack(f"<{count}I")
    handles = tuple(_handle(r, guests) for _ in range(r.unpack("<I")[0]))
    used = sorted([*free, *(handle.slot for handle in handles)])
    if used != list(range(1, slots)):
        raise malformed("handles that are neither free nor in use, or both")
    return TableState(slots, free, handles)


def _handle(r: _Cursor, guests: Sequence[bool]) -> HandleState:
    slot, resource, kind, number = r.unpack("<IIBI")
    if resource >= len(guests) or kind != (_GUEST if guests[resource] else _HOST):
        raise malformed(f"handle {slot} is of an unknown resource")
    return HandleState(slot, resource, number if kind == _GUEST else r.take(number))


def malformed(what: str) -> SnapshotError:
    """Content that this code never writes, though its checksum is right."""
    return SnapshotError(f"the snapshot is malformed: {what}", reason="malformed")


class _Cursor:
    """Reads from the front. Every failure is a `SnapshotError`."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, size: int) -> bytes:
        if size > self.left:
            raise malformed("it ends too early")
        self._at += size
        return self._data[self._at - size : self._at]

    def unpack(self, form: str) -> tuple[int, ...]:
        return struct.unpack(form, self.take(struct.calcsize(form)))
