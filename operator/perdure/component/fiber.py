"""Driving wasmtime fibers from the event loop.

A guest runs inside `future_poll`. An import that is not done at once leaves its steps in `Instance.suspended` and the
fiber switches out; the driver awaits what the innermost of them waits for, in the caller's own task, so that
cancellation and exceptions go where they belong, and polls again. When the epoch ends a guest's slice, the driver
lets the loop turn. A call from one component into another is a fiber within a fiber: each poll of the outer one polls
the inner one. Every guest entry is an asynchronous one: a synchronous entry that reached a suspending import would
abort the process.
"""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Coroutine
from typing import TYPE_CHECKING, TypeVar

from perdure.component import capi
from perdure.component.capi import RAW
from perdure.component.steps import Steps
from perdure.errors import InvocationTimeout

if TYPE_CHECKING:
    from perdure.component.engine import Engine
    from perdure.component.instance import Instance

T = TypeVar("T")


class Pending:
    """A coroutine of the host that a guest waits for."""

    __slots__ = ("coroutine", "done", "value")

    def __init__(self, coroutine: Coroutine[object, object, object]) -> None:
        self.coroutine = coroutine
        self.value: object = None
        self.done = False


_running: Instance | None = None
"""Whose guest is being polled: callbacks carry no instance."""


async def drive(instance: Instance, steps: Steps[T], deadline: float | None) -> T:
    """Run steps, of which the first has been taken, to their end.

    Raises `InvocationTimeout`, what a step raises, and what a host coroutine raises.
    """
    limit = asyncio.timeout_at(deadline)
    try:
        async with limit:
            while True:
                pending = instance.pending
                if pending is None or pending.done:
                    await asyncio.sleep(0)
                else:
                    pending.value = await pending.coroutine
                    pending.done = True
                instance.engine.turned()
                try:
                    next(steps)
                except StopIteration as end:
                    result: T = end.value
                    return result
    except TimeoutError:
        if limit.expired():
            raise InvocationTimeout("the invocation ran past its time limit and was stopped") from None
        raise
    finally:
        abandon(instance)
        steps.close()


def abandon(instance: Instance) -> None:
    """The call is over: nothing waits on a fiber of this instance any more.

    The innermost first: each deletes its fiber before the one it runs on is deleted.
    """
    for level in sorted(instance.suspended, reverse=True):
        instance.suspended.pop(level)[0].close()


def awaited(instance: Instance, coroutine: Coroutine[object, object, object]) -> Steps[object]:
    """Wait for a coroutine of the host, which the driver awaits."""
    pending = instance.pending = Pending(coroutine)
    try:
        while not pending.done:
            yield
        return pending.value
    finally:
        coroutine.close()
        instance.pending = None


def poll(engine: Engine, instance: Instance, future: int) -> bool:
    """Let the guest run until it returns, suspends or its slice ends. True: it has returned."""
    global _running
    before = _running
    _running = instance
    engine.enter()
    returned: bool = capi.future_poll(future)
    engine.leave()
    _running = before
    return returned


def running() -> Instance:
    """Whose guest is being polled."""
    assert _running is not None
    return _running


def _continue(level: int | None) -> bool:
    """wasmtime asks whether the import that suspended the fiber of this level is over."""
    instance = running()
    steps, trap = instance.suspended[level or 0]
    try:
        next(steps)
        return False
    except StopIteration as end:
        instance.outcome = end.value
    except BaseException as error:  # noqa: BLE001 - it must not unwind through wasmtime; it is raised by the driver
        _write_trap(instance, error, trap)
    del instance.suspended[level or 0]
    return True


_continuation = capi.Continuation(_continue)
_CONTINUE = ctypes.cast(_continuation, ctypes.c_void_p).value or 0
# "It is over", without a way through Python: C's abs(1) is true.
_DONE = (ctypes.cast(ctypes.CDLL(None).abs, ctypes.c_void_p).value or 0).to_bytes(8, "little") + bytes([1] + [0] * 15)


def _wait(
    _number: int | None,
    _caller: int,
    _args: int,
    _nargs: int,
    _results: int,
    _nresults: int,
    trap: int,
    continuation: int,
) -> None:
    """A trampoline asks for the end of what `Instance.waits` is."""
    RAW[continuation : continuation + 24] = _DONE
    instance = running()
    # Of the fibers that run within each other this is the innermost now; the steps may start others within it.
    level = instance.depth
    steps = instance.waits
    assert steps is not None
    instance.waits = None
    try:
        next(steps)
    except StopIteration as end:
        instance.outcome = end.value
        return
    except BaseException as error:  # noqa: BLE001 - it must not unwind through wasmtime; it is raised by the driver
        _write_trap(instance, error, trap)
        return
    instance.suspended[level] = (steps, trap)
    RAW[continuation : continuation + 16] = _CONTINUE.to_bytes(8, "little") + level.to_bytes(8, "little")


def trapped(instance: Instance, error: BaseException) -> int:
    """A new trap, to be given to wasmtime, for what a host function raised."""
    instance.failure = error
    message = type(error).__name__.encode()
    made: int = capi.trap_new(message, len(message))
    return made


def _write_trap(instance: Instance, error: BaseException, trap: int) -> None:
    RAW[trap : trap + 8] = trapped(instance, error).to_bytes(8, "little")


wait = capi.AsyncCallback(_wait)
