"""Lowering by entries of their own into the guest's allocator (`realloc` of the canonical options).

So it is done outside the guest's own call: for an export's arguments, and for what one component hands another. (A
host function's result is lowered within the guest's call: `crossing.py`.) The allocator may not call out meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.component import capi
from perdure.component.entry import Arrays
from perdure.component.steps import Steps
from perdure.component.traps import AbiTrap

if TYPE_CHECKING:
    from perdure.component.canonical.lower import Lowering
    from perdure.component.instance import Instance

_TURN = 4
"""Slices after which a call's many allocations together let the event loop turn."""
_A_TURN = 0
"""In the place of a future: nothing but a turn of the event loop is wanted."""


class Allocator:
    """All allocators of one instance; one of them at a time runs."""

    __slots__ = ("_arrays", "_instance", "_pointer")

    def __init__(self, instance: Instance, arrays: Arrays) -> None:
        self._instance = instance
        self._arrays = arrays
        self._pointer = 0

    def lower(self, core: int, lowering: Lowering) -> Steps[None] | None:
        """Run `lowering` with the `realloc` whose handle is at `core` (0: there is none). None: it is done; else the
        steps that are left."""
        try:
            left = self._advance(core, lowering, next(lowering))
        except StopIteration:
            return None
        return None if left is None else self._rest(core, lowering, left)

    def go_on(self, core: int, lowering: Lowering, left: int) -> Steps[None]:
        """What is left of a `lower` that `State.call_at_once` has begun: first of all the future `left`, or a turn."""
        self._pointer = self._arrays.read_i32()
        return self._rest(core, lowering, left)

    def _advance(self, core: int, lowering: Lowering, request: tuple[int, int, int, int]) -> int | None:
        """As far as the guest answers within its slice. None: to the end; else what is waited for."""
        arrays, instance = self._arrays, self._instance
        if not core:
            raise AbiTrap("the component gives no realloc for a value that needs memory")
        try:
            while True:
                arrays.write_reallocation(*request)
                instance.may_leave = False
                future: int = capi.call_async(
                    instance.context, core, arrays.args, 4, arrays.results, 1, arrays.trap, arrays.error
                )
                returned = True
                try:
                    returned = self._prompt(future)
                finally:
                    if returned:
                        capi.future_delete(future)
                if not returned:
                    return future
                instance.may_leave = True
                instance.check(arrays)
                self._pointer = arrays.read_i32()
                if instance.engine.slices > _TURN:
                    return _A_TURN
                request = lowering.send(self._pointer)
        except StopIteration:
            return None

    def _prompt(self, future: int) -> bool:
        return self._instance.poll(future)

    def _rest(self, core: int, lowering: Lowering, left: int | None) -> Steps[None]:
        while left is not None:
            if left == _A_TURN:
                yield None
            else:
                yield from self._instance.finish(left, self._arrays)
                self._instance.may_leave = True
                self._pointer = self._arrays.read_i32()
            try:
                request = lowering.send(self._pointer)
            except StopIteration:
                return
            left = self._advance(core, lowering, request)
