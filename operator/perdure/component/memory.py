"""The one accessor of guest memory. Every guest pointer goes through `Memory.at`; nothing else makes an address."""

from __future__ import annotations

from perdure.component import capi
from perdure.component.traps import AbiTrap


class Memory:
    """A linear memory of one instance. Memories never shrink, and never move (`memory_may_move` is off)."""

    __slots__ = ("_context", "_reference", "base", "size")

    def __init__(self, context: int, reference: int) -> None:
        self._context = context
        self._reference = reference
        self.base = 0
        self.size = 0
        self._refresh()

    def at(self, pointer: int, size: int, align: int) -> int:
        """The address of `size` bytes at guest `pointer`. Raises `AbiTrap` when unaligned or out of bounds."""
        if pointer & (align - 1):
            raise AbiTrap(f"pointer {pointer:#x} is not aligned to {align}")
        if pointer + size > self.size:
            self._refresh()
            if pointer + size > self.size:
                raise AbiTrap(f"{size} bytes at {pointer:#x} are outside the memory of {self.size} bytes")
        return self.base + pointer

    def _refresh(self) -> None:
        self.base = capi.memory_data(self._context, self._reference) or 0
        self.size = capi.memory_size(self._context, self._reference)
