"""Host resources that several handles of one guest may stand for, and what they hold of the host's memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar
from weakref import WeakValueDictionary

T = TypeVar("T")


class Shared:
    """Each such resource has a number, by which a snapshot knows it again. `held`: bytes in outgoing values."""

    def __init__(self) -> None:
        self.held = 0
        self._latest = 0
        self._found: WeakValueDictionary[int, object] = WeakValueDictionary()

    def next(self) -> int:
        self._latest += 1
        return self._latest

    def restored(self, number: int, kind: type[T], make: Callable[[], T]) -> T:
        """The one of this number: another handle's, or made now."""
        found = self._found.get(number)
        if not isinstance(found, kind):
            found = make()
            self._found[number] = found
        self._latest = max(self._latest, number)
        return found
