"""The guest's allocator (`realloc` of the canonical options) as lowering calls it.

Nearly always it answers at once. One that does not, after `PATIENCE` slices, cuts the lowering short (`Unfinished`);
then it runs on while others do. So does the last of many that together took as long. It may not call out meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.component import capi, fiber
from perdure.component.entry import Arrays
from perdure.component.steps import Steps, Unfinished
from perdure.component.traps import AbiTrap

if TYPE_CHECKING:
    from perdure.component.context import Reallocate
    from perdure.component.instance import Instance

PATIENCE = 4
"""Slices that the guest's allocator gets before the event loop does."""
_TURN = 4
"""Slices after which a call's many allocations together let the event loop turn."""


class Allocator:
    """All allocators of one instance; one of them at a time runs."""

    __slots__ = ("_arrays", "_instance")

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._arrays = Arrays()

    def of(self, core: int) -> Reallocate:
        """The one whose core function's handle is at `core`."""
        return lambda old, old_size, alignment, size: self._reallocate(core, old, old_size, alignment, size)

    def _reallocate(self, core: int, old: int, old_size: int, alignment: int, size: int) -> int:
        arrays, instance = self._arrays, self._instance
        arrays.write_reallocation(old, old_size, alignment, size)
        instance.may_leave = False
        future = capi.call_async(instance.context, core, arrays.args, 4, arrays.results, 1, arrays.trap, arrays.error)
        for _ in range(PATIENCE):
            if fiber.poll(instance.engine, instance, future):
                capi.future_delete(future)
                instance.may_leave = True
                instance.check(arrays)
                pointer = arrays.read_i32()
                if instance.engine.slices > _TURN:
                    raise Unfinished(_after_a_turn(pointer))
                return pointer
        raise Unfinished(self._still_allocating(future))

    def _still_allocating(self, future: int) -> Steps[int]:
        yield from self._instance.finish(future, self._arrays)
        self._instance.may_leave = True
        return self._arrays.read_i32()


def _after_a_turn(pointer: int) -> Steps[int]:
    yield
    return pointer


def no_realloc(old: int, old_size: int, alignment: int, size: int) -> int:
    """Of canonical options without one."""
    raise AbiTrap("the component gives no realloc for a value that needs memory")
