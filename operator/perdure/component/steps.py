"""Work in a guest that may take several turns of the event loop, as generators.

A generator of steps yields while the guest, or what the guest waits for, is not done; whoever drives it lets the loop
turn and asks again. At the outermost level that is `fiber.drive`; within a guest's call of an import it is the fiber
of that guest, suspended meanwhile. So calls between components, destructors and slow allocators never block the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, TypeAlias, TypeVar

if TYPE_CHECKING:
    from perdure.component.context import CallContext

T = TypeVar("T")
Steps: TypeAlias = Generator[None, None, T]


class Unfinished(Exception):
    """The guest's allocator needs more time: run `steps`, which give its pointer, then lower anew."""

    def __init__(self, steps: Steps[int]) -> None:
        super().__init__()
        self.steps = steps


def started(steps: Steps[None]) -> Steps[None] | None:
    """Take the first step. None: there are no more."""
    try:
        next(steps)
    except StopIteration:
        return None
    return steps


def lowered(cx: CallContext, lower: Callable[..., None], *args: object) -> Steps[None]:
    """Run generated code that lowers `args`, as often as its allocations make necessary."""
    try:
        lower(cx, *args)
        return
    except Unfinished as cut:
        unfinished = cut
    yield from lowered_anew(unfinished, cx, lower, *args)


def lowered_anew(unfinished: Unfinished, cx: CallContext, lower: Callable[..., None], *args: object) -> Steps[None]:
    """Finish the allocation that cut lowering short, and lower anew."""
    while True:
        cx.rewind((yield from unfinished.steps))
        try:
            lower(cx, *args)
            return
        except Unfinished as cut:
            unfinished = cut
