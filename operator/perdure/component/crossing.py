"""Calls out of the guest, as a trampoline makes them on the guest's own fiber (`trampolines.py`).

`begin` has the arguments, `next` a pointer that the guest's `realloc` gave, or nothing after a wait. Both leave an
*outcome* in the same array: FINISHED and the flat result, if there is one; ALLOCATE and the arguments for `realloc`;
or WAIT, upon which the trampoline calls `wait`, the one import that can suspend a fiber.

Between ALLOCATE and the pointer the guest may not leave, so an instance has one lowering under way at most.

Here is what both implementations of these callbacks do alike (`boundary.py`).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, TypeAlias

from perdure.component.capi import RAW, RAW_SIZE
from perdure.component.steps import Steps
from perdure.component.traps import AbiTrap

if TYPE_CHECKING:
    from perdure.component.canonical.lower import Lowering, Placement
    from perdure.component.instance import Instance

FINISHED, ALLOCATE, WAIT = 0, 1, 2
"""The first of an outcome's values."""

Finish: TypeAlias = "Callable[[int], Lowering | Placement | None]"
"""What is left of a call when it has waited; it does as `CoreImport.begin` does."""
EndCall: TypeAlias = "Callable[[object, int, int, object], Lowering | Placement | None]"
"""`(context, values, return pointer, value)`: as `ImportCode.lower_result`."""
Waiting: TypeAlias = "tuple[Coroutine[object, object, object], EndCall, object, int]"
"""`(coroutine, end, context, return pointer)`: what `begin` gives for a call of a coroutine, which has not begun. Its
first step is taken at once; when it is done the call goes on with `end`."""

_i32 = struct.Struct("<I").unpack_from
_outcome = struct.Struct("<I").pack_into
_slice = struct.Struct("<II").pack_into
_allocate = struct.Struct("<" + f"I{RAW_SIZE - 4}x" * 4 + "I").pack_into


def finished(values: int) -> None:
    """The call is over and has no flat result."""
    _outcome(RAW, values, FINISHED)


def waiting(instance: Instance, values: int, steps: Steps[Finish]) -> None:
    """The call is over when `steps` are."""
    instance.waits = steps
    _outcome(RAW, values, WAIT)


def must_wait(values: int) -> None:
    """The call waits for the host (`Waiting`)."""
    _outcome(RAW, values, WAIT)


def check_may_leave(instance: Instance, number: int) -> None:
    """The guest calls import `number` while it may not leave. Raises `AbiTrap` where that matters."""
    if instance.imports[number].leaves:
        raise AbiTrap("the guest called an import while it may not leave (from realloc or post-return)")


def settle(instance: Instance, values: int, left: Lowering | Placement) -> None:
    """The result needs guest memory."""
    if isinstance(left, tuple):
        instance.lowering = left
        instance.may_leave = False
        _allocate(RAW, values, ALLOCATE, 0, 0, left[1], left[2])
    else:
        _lower(instance, values, left, None)


def proceed(instance: Instance, values: int, left: Lowering | Placement) -> None:
    """The guest's `realloc` has given a pointer for what `settle` asked."""
    pointer = _i32(RAW, values)[0]
    if isinstance(left, tuple):
        memory, alignment, size, data, address, length = left
        start = memory.at(pointer, size, alignment)
        RAW[start : start + size] = data
        _slice(RAW, address, pointer, length)
        _over(instance, values)
    else:
        _lower(instance, values, left, pointer)


def _over(instance: Instance, values: int) -> None:
    instance.lowering = None
    instance.may_leave = True
    _outcome(RAW, values, FINISHED)


def _lower(instance: Instance, values: int, lowering: Lowering, pointer: int | None) -> None:
    """Go on. `pointer` None: from the beginning."""
    try:
        old, old_size, alignment, size = lowering.send(pointer)  # type: ignore[arg-type]
    except StopIteration:
        _over(instance, values)
    else:
        instance.lowering = lowering
        instance.may_leave = False
        _allocate(RAW, values, ALLOCATE, old, old_size, alignment, size)
