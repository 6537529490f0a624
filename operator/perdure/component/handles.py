"""Handle tables of component instances (component-model `CanonicalABI.md`, "Table State" and "Resource State").

Index 0 is never given out. A handle is owned or borrowed; an owned one that is lent to a running call cannot be
moved or dropped; a borrowed one belongs to the call it was made for and must be dropped before that call returns.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from perdure.component.traps import AbiTrap
from perdure.component.types import ResourceType

MAX_HANDLES = 1 << 20
"""Fewer than the ABI allows ("Table State": MAX_LENGTH, 2^28 - 1): each takes the host's memory."""


@dataclass(slots=True)
class BorrowScope:
    """One call into the guest: how many handles it has borrowed and not dropped yet ("canon lift": a task's
    num_borrows)."""

    borrowed: int = 0


@dataclass(slots=True)
class Handle:
    """`scope` None: owned. `lent`: running calls that hold a borrow of it."""

    resource: ResourceType
    representation: object
    scope: BorrowScope | None = None
    lent: int = 0


@dataclass(slots=True, eq=False)
class GuestResource:
    """A guest-defined resource outside its component, as the host gets it from an export.

    `home`: the running component it belongs to. The host may lend it, and give it away or drop it
    (`Instance.drop`) once; then it is not `live` any more.
    """

    resource: ResourceType
    representation: int
    home: object = field(repr=False)
    live: bool = True

    def use(self, *, moves: bool) -> None:
        """Raises `ValueError` when it is gone; with `moves`, it is gone from now on."""
        if not self.live:
            raise ValueError("a handle that was dropped or given away")
        self.live = not moves


class HandleTable:
    """The handles of one component instance."""

    __slots__ = ("_entries", "_free")

    def __init__(self) -> None:
        self._entries: list[Handle | None] = [None]
        self._free: list[int] = []

    def __len__(self) -> int:
        return len(self._entries) - 1 - len(self._free)

    def saved(self) -> tuple[int, tuple[int, ...], list[tuple[int, Handle]]]:
        """(slots with slot 0, free slots with the next one to use last, handles by slot)."""
        handles = [(slot, handle) for slot, handle in enumerate(self._entries) if handle is not None]
        return len(self._entries), tuple(self._free), handles

    def load(self, slots: int, free: tuple[int, ...], handles: list[tuple[int, Handle]]) -> None:
        """Become what `saved` told: later handles get the same indices as they would have there."""
        self._entries = [None] * slots
        self._free = list(free)
        for slot, handle in handles:
            self._entries[slot] = handle

    @property
    def slots(self) -> int:
        """With slot 0, and those that are free."""
        return len(self._entries)

    def cancel(self, index: int, slots: int) -> Handle:
        """Undo an `add`, the last one that was not undone yet. `slots`: how many there were before them all."""
        entry = self._entries[index]
        assert entry is not None
        if index >= slots:
            self._entries.pop()
        else:
            self._entries[index] = None
            self._free.append(index)
        return entry

    def add(self, handle: Handle) -> int:
        """The handle's index, that of the slot freed last if there is one ("Table State": add)."""
        if self._free:
            index = self._free.pop()
            self._entries[index] = handle
            return index
        if len(self._entries) >= MAX_HANDLES:
            raise AbiTrap(f"more than {MAX_HANDLES} handles are open")
        self._entries.append(handle)
        return len(self._entries) - 1

    def get(self, index: int, resource: ResourceType) -> Handle:
        """Raises `AbiTrap` for an unknown index or another resource type ("Table State": get)."""
        entry = self._entries[index] if 0 < index < len(self._entries) else None
        if entry is None:
            raise AbiTrap(f"unknown handle index {index}")
        if entry.resource is not resource:
            raise AbiTrap(f"handle {index} is a {entry.resource.name}, not a {resource.name}")
        return entry

    def remove(self, index: int, resource: ResourceType) -> Handle:
        """Take a handle out ("canon resource.drop"). Raises `AbiTrap` when it is lent."""
        entry = self.get(index, resource)
        if entry.lent:
            raise AbiTrap(f"handle {index} is lent to a running call")
        self._entries[index] = None
        self._free.append(index)
        return entry

    def take_own(self, index: int, resource: ResourceType) -> object:
        """Lift an `own`: the handle is gone afterwards ("Loading": lift_own)."""
        entry = self.get(index, resource)
        if entry.scope is not None:
            raise AbiTrap(f"handle {index} is borrowed: it cannot be given away")
        return self.remove(index, resource).representation

    def lend(self, index: int, resource: ResourceType) -> Handle:
        """Lift a `borrow` ("Loading": lift_borrow): the handle stays until the call it is lent to is over
        (`context.give_back`)."""
        entry = self.get(index, resource)
        entry.lent += 1
        return entry
