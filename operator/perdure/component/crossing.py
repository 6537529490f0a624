"""Calls out of the guest, as a trampoline makes them on the guest's own fiber (`trampolines.py`).

`begin` has the arguments, `next_` a pointer that the guest's `realloc` gave, or nothing after a wait. Both leave an
*outcome* in the same array: FINISHED and the flat result, if there is one; ALLOCATE and the arguments for `realloc`;
or WAIT, upon which the trampoline calls `wait`, the one import that can suspend a fiber.

Between ALLOCATE and the pointer the guest may not leave, so an instance has one lowering under way at most.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from perdure.component import capi, fiber
from perdure.component.capi import RAW, RAW_SIZE
from perdure.component.steps import Steps
from perdure.component.traps import AbiTrap

if TYPE_CHECKING:
    from perdure.component.canonical.lower import Lowering
    from perdure.component.instance import Instance

FINISHED, ALLOCATE, WAIT = 0, 1, 2
"""The first of an outcome's values."""

Finish = Callable[[int], None]
"""Leaves the outcome of a call that has waited."""

_i32 = struct.Struct("<I").unpack_from
_outcome = struct.Struct("<I").pack_into
_allocate = struct.Struct("<" + f"I{RAW_SIZE - 4}x" * 4 + "I").pack_into


def finished(values: int) -> None:
    """The call is over and has no flat result."""
    _outcome(RAW, values, FINISHED)


def lowering(instance: Instance, values: int, started: Lowering) -> None:
    """The result needs guest memory."""
    try:
        request = next(started)
    except StopIteration:
        _outcome(RAW, values, FINISHED)
        return
    instance.lowering = started
    instance.may_leave = False
    _allocate(RAW, values, ALLOCATE, *request)


def waiting(instance: Instance, values: int, steps: Steps[Finish]) -> None:
    """The call is over when `steps` are."""
    instance.waits = steps
    _outcome(RAW, values, WAIT)


def _begin(number: int | None, _caller: int, values: int, _count: int) -> int | None:
    instance = fiber.running()
    try:
        call = instance.imports[number or 0]
        if not instance.may_leave and call.leaves:
            raise AbiTrap("the guest called an import while it may not leave (from realloc or post-return)")
        call.begin(instance, values)
    except BaseException as error:  # noqa: BLE001 - it must not unwind through wasmtime; it is raised by the driver
        return fiber.trapped(instance, error)
    return None


def _next(_number: int | None, _caller: int, values: int, _count: int) -> int | None:
    instance = fiber.running()
    try:
        finish = instance.outcome
        if finish is not None:
            instance.outcome = None
            finish(values)
            return None
        instance.may_leave = True
        started = instance.lowering
        assert started is not None
        try:
            request = started.send(_i32(RAW, values)[0])
        except StopIteration:
            instance.lowering = None
            _outcome(RAW, values, FINISHED)
            return None
        instance.may_leave = False
        _allocate(RAW, values, ALLOCATE, *request)
    except BaseException as error:  # noqa: BLE001 - it must not unwind through wasmtime; it is raised by the driver
        return fiber.trapped(instance, error)
    return None


begin = capi.UncheckedCallback(_begin)
next_ = capi.UncheckedCallback(_next)
