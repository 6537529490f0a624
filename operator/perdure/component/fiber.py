"""Driving wasmtime fibers from the event loop.

A guest runs inside `State.poll`. A coroutine of the host takes its first step there, and many are done then. One that
is not is left in `State.coroutine`, any other import that is not done in `Instance.suspended`, and the fiber switches
out; the driver awaits the coroutine, in the caller's own task, so that cancellation and exceptions go where they
belong, and polls again. When the epoch ends a guest's slice, the driver
lets the loop turn. A call from one component into another is a fiber within a fiber: each poll of the outer one polls
the inner one. Every guest entry is an asynchronous one: a synchronous entry that reached a suspending import would
abort the process.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from perdure.component import capi
from perdure.component.capi import RAW
from perdure.component.steps import Steps
from perdure.component.traps import AbiTrap, HostTrap, guest_trap
from perdure.errors import InvocationTimeout

if TYPE_CHECKING:
    from perdure.component.instance import Instance

T = TypeVar("T")


async def drive(instance: Instance, steps: Steps[T], deadline: float | None) -> T:
    """Run steps to their end. Most calls never wait; they need neither a timer nor a turn of the event loop.

    Raises `InvocationTimeout`, what a step raises, and what a host coroutine raises.
    """
    limit: asyncio.Timeout | None = None
    try:
        try:
            yielded = next(steps)
        except StopIteration as end:
            result: T = end.value
        else:
            limit = asyncio.timeout_at(deadline)
            async with limit:
                result = await instance.driven(steps, yielded)
        instance.usable = True
        return result
    except (AbiTrap, HostTrap) as trap:
        raise guest_trap(trap) from trap
    except TimeoutError:
        if limit is not None and limit.expired():
            raise InvocationTimeout("the invocation ran past its time limit and was stopped") from None
        raise
    finally:
        if instance.suspended or instance.coroutine is not None:
            abandon(instance)
        steps.close()
        instance.busy = False


def abandon(instance: Instance, least: int = 0) -> None:
    """The call is over: nothing waits any more on a fiber of this instance whose level is `least` or more.

    The innermost first: each deletes its fiber before the one it runs on is deleted.
    """
    coroutine, instance.coroutine = instance.coroutine, None
    try:
        if coroutine is not None:
            coroutine.close()
    finally:
        for level in sorted(instance.suspended, reverse=True):
            if level >= least:
                instance.suspended.pop(level)[0].close()


def begin_waiting(instance: Instance, trap: int) -> int | None:
    """A trampoline waits for `State.waits`. None: that is done; else the level of the fiber that waits. `trap`: where
    the address of a trap goes."""
    steps = instance.waits
    assert steps is not None
    # Of the fibers that run within each other this is the innermost now; the steps may start others within it.
    level = instance.depth
    instance.waits = None
    try:
        next(steps)
    except StopIteration as end:
        instance.outcome = end.value
        return None
    except BaseException as error:  # noqa: BLE001 - it must not unwind through wasmtime; it is raised by the driver
        _write_trap(instance, error, trap)
        return None
    instance.suspended[level] = (steps, trap)
    return level


def go_on(instance: Instance, level: int) -> bool:
    """wasmtime asks whether the import that suspended the fiber of this level is over."""
    steps, trap = instance.suspended[level]
    try:
        next(steps)
        return False
    except StopIteration as end:
        instance.outcome = end.value
    except BaseException as error:  # noqa: BLE001 - it must not unwind through wasmtime; it is raised by the driver
        _write_trap(instance, error, trap)
    del instance.suspended[level]
    return True


def trapped(instance: Instance, error: BaseException) -> int:
    """A new trap, to be given to wasmtime, for what a host function raised."""
    instance.failure = error
    message = type(error).__name__.encode()
    made: int = capi.trap_new(message, len(message))
    return made


def _write_trap(instance: Instance, error: BaseException, trap: int) -> None:
    RAW[trap : trap + 8] = trapped(instance, error).to_bytes(8, "little")
