"""Host resources that several handles of one guest may stand for, and what they hold of the host's memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar
from weakref import WeakValueDictionary

from perdure.component.traps import HostTrap

MAX_NUMBERED = 10_000
T = TypeVar("T")


class Shared:
    """Each such resource has a number, by which a snapshot and the journal know it again; `latest`: the last one given.
    `held`: bytes in outgoing values.

    `numbered`: what a guest from before resources holds by number alone; no snapshot can be taken of that.
    """

    def __init__(self) -> None:
        self.held = 0
        self.numbered: dict[int, object] = {}
        self.latest = 0
        self._found: WeakValueDictionary[int, object] = WeakValueDictionary()

    def next(self) -> int:
        self.latest += 1
        return self.latest

    def restored(self, number: int, kind: type[T], make: Callable[[], T]) -> T:
        """The one of this number: another handle's, or made now."""
        found = self._found.get(number)
        if not isinstance(found, kind):
            found = make()
            self._found[number] = found
        self.latest = max(self.latest, number)
        return found

    def keep(self, held: object) -> int:
        """Its number from now on."""
        if len(self.numbered) >= MAX_NUMBERED:
            raise HostTrap(f"the guest holds more than {MAX_NUMBERED:,} futures and vacancies")
        number = self.next()
        self.numbered[number] = held
        return number
