"""Calls out of the guest, as a trampoline makes them on the guest's own fiber (`trampolines.py`).

`begin` has the arguments, `next_` a pointer that the guest's `realloc` gave, or nothing after a wait. Both leave an
*outcome* in the same array: FINISHED and the flat result, if there is one; ALLOCATE and the arguments for `realloc`;
or WAIT, upon which the trampoline calls `wait`, the one import that can suspend a fiber.

Between ALLOCATE and the pointer the guest may not leave, so an instance has one lowering under way at most.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, TypeAlias

from perdure.component import capi, fiber
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


def suspended(
    instance: Instance,
    values: int,
    coroutine: Coroutine[object, object, object],
    wanted: object,
    finish: fiber.EndCall,
    cx: object = None,
    pointer: int = 0,
) -> None:
    """The call goes on with `finish` when `coroutine` is done, which has begun and gave `wanted` to the event loop."""
    instance.pending = fiber.Pending(coroutine, wanted, finish, cx, pointer)
    # Now, not when the trampoline calls `wait`: a slice may end before that, and the coroutine meanwhile.
    RAW[instance.flag.address] = 0
    _outcome(RAW, values, WAIT)


def _begin(number: int | None, _caller: int, values: int, _count: int) -> int | None:
    instance = fiber.current.instance
    try:
        call = instance.imports[number or 0]
        if not instance.may_leave and call.leaves:
            raise AbiTrap("the guest called an import while it may not leave (from realloc or post-return)")
        left = call.begin(instance, values)
        # As `_ask`; what most calls need is not worth another frame.
        if type(left) is tuple:
            instance.lowering = left
            instance.may_leave = False
            _allocate(RAW, values, ALLOCATE, 0, 0, left[1], left[2])
        elif left is not None:
            _ask(instance, values, left)
    except BaseException as error:  # noqa: BLE001 - it must not unwind through wasmtime; it is raised by the driver
        return fiber.trapped(instance, error)
    return None


def _next(_number: int | None, _caller: int, values: int, _count: int) -> int | None:
    instance = fiber.current.instance
    try:
        left = instance.lowering
        if isinstance(left, tuple):
            memory, alignment, size, data, address, length = left
            pointer = _i32(RAW, values)[0]
            start = memory.at(pointer, size, alignment)
            RAW[start : start + size] = data
            _slice(RAW, address, pointer, length)
            instance.lowering = None
            instance.may_leave = True
            _outcome(RAW, values, FINISHED)
        elif left is not None:
            _lower(instance, values, left, _i32(RAW, values)[0])
        else:
            finish = instance.outcome
            assert finish is not None
            instance.outcome = None
            left = finish(values)
            if left is not None:
                _ask(instance, values, left)
    except BaseException as error:  # noqa: BLE001 - it must not unwind through wasmtime; it is raised by the driver
        return fiber.trapped(instance, error)
    return None


def _ask(instance: Instance, values: int, left: Lowering | Placement) -> None:
    """The result needs guest memory."""
    if isinstance(left, tuple):
        instance.lowering = left
        instance.may_leave = False
        _allocate(RAW, values, ALLOCATE, 0, 0, left[1], left[2])
    else:
        _lower(instance, values, left, None)


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


begin = capi.UncheckedCallback(_begin)
next_ = capi.UncheckedCallback(_next)
