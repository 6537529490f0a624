"""What generated code sees of an instance: memory, handles and strings of one set of canonical options
(`CanonicalABI.md`, "Lifting and Lowering Context")."""

from __future__ import annotations

from collections.abc import Generator
from typing import cast

from perdure.component.canonical.strings import GuestString, allocations, layout_of
from perdure.component.capi import RAW
from perdure.component.handles import BorrowScope, GuestResource, Handle, HandleTable
from perdure.component.memory import MAX_BYTES, Memory
from perdure.component.plan import StringEncoding
from perdure.component.traps import AbiTrap
from perdure.component.types import ResourceType


class CallContext:
    """One per (component instance, canonical options) and use of them in an instance."""

    __slots__ = (
        "_lowered",
        "_slots",
        "_utf8",
        "component_instance",
        "encoding",
        "home",
        "lent",
        "mem",
        "realloc",
        "scope",
        "table",
        "transcodes",
    )

    def __init__(
        self,
        home: object,
        component_instance: int,
        encoding: StringEncoding,
        table: HandleTable,
        mem: Memory,
        realloc: int,
        *,
        transcodes: bool = False,
    ) -> None:
        """`home`: the running component; guest-defined resources of another one are refused. `realloc`: the address
        of its handle, or 0. `transcodes`: strings that are lifted go to a component with another encoding."""
        self.home = home
        self.component_instance = component_instance
        self.encoding = encoding
        self.table = table
        self.mem = mem
        self.transcodes = transcodes
        self.scope = BorrowScope()
        self.lent: list[Handle] = []
        # Of an export's arguments: handles, with the guest's resource that was given away.
        self._lowered: list[tuple[int, GuestResource | None]] | None = None
        self._slots = 0
        self.realloc = realloc
        self._utf8 = encoding == "utf8" and not transcodes

    # --- strings

    def lift_string(self, pointer: int, units: int) -> str:
        """`load_string_from_range` of "Loading"."""
        if self._utf8:
            mem = self.mem
            # What `span` finds in nearly every case, without calling it.
            if pointer + units <= mem.size and units <= MAX_BYTES and units <= mem.left:
                mem.left -= units
                start = mem.base + pointer
            else:
                start = mem.span(pointer, units, 1, 1, 1)
            try:
                return RAW[start : start + units].tobytes().decode()
            except UnicodeDecodeError as error:
                raise AbiTrap(f"a string that is not UTF-8: {error.reason} at byte {error.start}") from None
        count, width, alignment, codec = layout_of(self.encoding, units)
        start = self.mem.span(pointer, count, width, alignment, width)
        try:
            text = str(RAW[start : start + count * width], codec)
        except UnicodeDecodeError as error:
            raise AbiTrap(f"a string that is not {codec}: {error.reason} at byte {error.start}") from None
        return GuestString.of(text, self.encoding, units) if self.transcodes else text

    def transcoding_space(
        self, text: GuestString, data: bytes, alignment: int
    ) -> Generator[tuple[int, int, int, int], int, int]:
        """Where `data` goes after all the allocations that the ABI prescribes.

        The guest's `realloc` keeps what was written so far; here everything is written at the end instead. The last
        allocation asks for the encoding's alignment in each case: the ABI's text has 1 for a narrowed latin1+utf16
        string, which that encoding's own loading would then refuse.
        """
        pointer = old = 0
        for size in allocations(self.encoding, text, data):
            pointer = yield pointer, old, alignment, size
            self.mem.at(pointer, size, alignment)
            old = size
        return pointer

    # --- handles

    def lift_own(self, index: int, resource: ResourceType) -> object:
        """`lift_own` of "Loading"."""
        return self._outside(self.table.take_own(index, resource), resource)

    def lift_borrow(self, index: int, resource: ResourceType) -> object:
        """`lift_borrow` of "Loading"; its owner may neither move nor drop the handle until the call is over."""
        handle = self.table.lend(index, resource)
        self.lent.append(handle)
        return self._outside(handle.representation, resource)

    def take_lent(self) -> list[Handle]:
        """What the lift that has just ended has lent. To be given to `give_back` when the call is over."""
        lent, self.lent = self.lent, []
        return lent

    def end_call(self) -> None:
        """A call of the host is over: what was lent to it may be moved and dropped again."""
        give_back(self.lent)
        self.lent.clear()

    def begin_lowering(self) -> None:
        """Arguments with handles are to be lowered: `take_back` will undo it."""
        self._lowered = []
        self._slots = self.table.slots

    def take_back(self) -> None:
        """The arguments do not fit after all: what was lent or given away with them is as it was before."""
        while self._lowered:
            index, given = self._lowered.pop()
            handle = self.table.cancel(index, self._slots)
            if handle.scope is not None:
                handle.scope.borrowed -= 1
            if given is not None:
                given.live = True

    def lower_own(self, value: object, resource: ResourceType) -> int:
        """`lower_own` of "Storing"."""
        representation = self._inside(value, resource, moves=True)
        index = self.table.add(Handle(resource, representation))
        if self._lowered is not None:
            given = None if resource.component_instance is None else cast("GuestResource", value)
            self._lowered.append((index, given))
        return index

    def lower_borrow(self, value: object, resource: ResourceType) -> int:
        """`lower_borrow` of "Storing"; the call that gets it must drop it before it returns."""
        representation = self._inside(value, resource, moves=False)
        if resource.component_instance == self.component_instance:
            # The instance that defines a resource gets its representation, not a handle.
            assert isinstance(representation, int)
            return representation
        index = self.table.add(Handle(resource, representation, self.scope))
        self.scope.borrowed += 1
        if self._lowered is not None:
            self._lowered.append((index, None))
        return index

    def _outside(self, representation: object, resource: ResourceType) -> object:
        """What a guest-defined resource is outside its component; only the host's own travel as they are."""
        if resource.component_instance is None:
            return representation
        assert isinstance(representation, int)
        return GuestResource(resource, representation, self.home)

    def _inside(self, value: object, resource: ResourceType, *, moves: bool) -> object:
        """The representation for the guest's table. Raises `TypeError` or `ValueError` for what is not such a
        resource (any more)."""
        if resource.component_instance is None:
            return value
        if not isinstance(value, GuestResource) or value.resource is not resource or value.home is not self.home:
            raise TypeError("a handle of another resource type, or of another instance")
        value.use(moves=moves)
        return value.representation


def give_back(lent: list[Handle]) -> None:
    """The call that these handles were lent to is over."""
    for handle in lent:
        handle.lent -= 1
