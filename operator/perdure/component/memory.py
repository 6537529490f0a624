"""The one accessor of guest memory. Every guest pointer goes through `Memory.at`; nothing else makes an address."""

from __future__ import annotations

from perdure.component import capi
from perdure.component.traps import AbiTrap

MAX_BYTES = (1 << 28) - 1
"""The longest list or string (`CanonicalABI.md`: MAX_LIST_BYTE_LENGTH, MAX_STRING_BYTE_LENGTH)."""


class Memory:
    """A linear memory of one instance. Memories never shrink, and never move (`memory_may_move` is off).

    `left` of `allowance` is what the lists and strings of the present lift may still take, in bytes of the host:
    a guest can name one region of its memory many times over.
    """

    __slots__ = ("_context", "_reference", "allowance", "base", "left", "size")

    def __init__(self, context: int, reference: int, allowance: int) -> None:
        self.allowance = self.left = allowance
        self._context = context
        self._reference = reference
        self.base = 0
        self.size = 0
        self._refresh()

    def at(self, pointer: int, size: int, align: int) -> int:
        """The address of `size` bytes at guest `pointer` ("Loading", "Storing").

        Raises `AbiTrap` when unaligned or out of bounds.
        """
        if pointer & (align - 1):
            raise AbiTrap(f"pointer {pointer:#x} is not aligned to {align}")
        if pointer + size > self.size:
            self._refresh()
            if pointer + size > self.size:
                raise AbiTrap(f"{size} bytes at {pointer:#x} are outside the memory of {self.size} bytes")
        return self.base + pointer

    def span(self, pointer: int, count: int, size: int, align: int, host_size: int) -> int:
        """The address of `count` elements of `size` bytes each, to be lifted at `host_size` bytes each
        ("Loading": load_list_from_range, load_string_from_range)."""
        if count * size > MAX_BYTES:
            raise AbiTrap(f"a list or string of {count * size} bytes; the ABI allows {MAX_BYTES}")
        self.left -= count * host_size
        if self.left < 0:
            raise AbiTrap(f"lists and strings that would take more than {self.allowance} bytes of the host in one call")
        # What `at` finds in nearly every case, without calling it.
        if not pointer & (align - 1) and pointer + count * size <= self.size:
            return self.base + pointer
        return self.at(pointer, count * size, align)

    def _refresh(self) -> None:
        self.base = capi.memory_data(self._context, self._reference) or 0
        self.size = capi.memory_size(self._context, self._reference)


class NoMemory(Memory):
    """Stands where the canonical options name no memory: nothing that is lifted or lowered needs one."""

    __slots__ = ()

    def __init__(self) -> None:
        self.base = self.size = 0
        self.allowance = self.left = 0

    def at(self, pointer: int, size: int, align: int) -> int:
        raise AbiTrap("the component gives no memory for a value that needs it")

    def span(self, pointer: int, count: int, size: int, align: int, host_size: int) -> int:
        return self.at(pointer, count * size, align)
