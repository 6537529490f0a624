"""Work in a guest that may take several turns of the event loop, as generators.

A generator of steps yields while the guest, or what the guest waits for, is not done; whoever drives it lets the loop
turn and asks again. At the outermost level that is `fiber.drive`; within a guest's call of an import it is the fiber
of that guest, suspended meanwhile. It may yield the address of the future that it waits for; whoever has polled that
to its end sends True. So calls between components, destructors and slow allocators never block the loop.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeAlias, TypeVar

T = TypeVar("T")
Steps: TypeAlias = Generator[int | None, bool | None, T]
