"""Driving wasmtime fibers from the event loop.

A guest runs inside `future_poll`. A coroutine of the host takes its first step there, and many are done then. One that
is not is left in `Instance.pending`, any other import that is not done in `Instance.suspended`, and the fiber switches
out; the driver awaits what is pending, in the caller's own task, so that cancellation and exceptions go where they
belong, and polls again. When the epoch ends a guest's slice, the driver
lets the loop turn. A call from one component into another is a fiber within a fiber: each poll of the outer one polls
the inner one. Every guest entry is an asynchronous one: a synchronous entry that reached a suspending import would
abort the process.
"""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from perdure.component import capi
from perdure.component.capi import RAW
from perdure.component.steps import Steps
from perdure.errors import InvocationTimeout

if TYPE_CHECKING:
    from perdure.component.canonical.lower import Lowering, Placement
    from perdure.component.engine import Engine
    from perdure.component.instance import Instance

T = TypeVar("T")
EndCall: TypeAlias = "Callable[[object, int, int, object], Lowering | Placement | None]"
"""`(context, values, return pointer, value)`: as `ImportCode.lower_result`."""


class Pending:
    """A coroutine of the host that a guest waits for. `wanted`: what its first step, which has been taken, gave to the
    event loop. When it is done it has its `value` and, called, ends the guest's call with it (`crossing.Finish`)."""

    __slots__ = ("_cx", "_finish", "_pointer", "_wanted", "coroutine", "value")

    def __init__(
        self, coroutine: Coroutine[object, object, object], wanted: object, finish: EndCall, cx: object, pointer: int
    ) -> None:
        self.coroutine = coroutine
        self.value: object = None
        self._wanted = wanted
        self._finish, self._cx, self._pointer = finish, cx, pointer

    def __call__(self, values: int) -> Lowering | Placement | None:
        return self._finish(self._cx, values, self._pointer, self.value)

    def __await__(self) -> Generator[object, object, object]:
        """The coroutine from its second step on (`await` takes none that has begun)."""
        wanted, coroutine = self._wanted, self.coroutine
        try:
            while True:
                try:
                    sent = yield wanted
                except BaseException as error:  # noqa: BLE001 - a cancellation is the coroutine's to see
                    wanted = coroutine.throw(error)
                else:
                    wanted = coroutine.send(sent)
        except StopIteration as end:
            return end.value


class Flag:
    """Whether what a suspended guest waits for is done, where wasmtime sees it without a way through Python."""

    __slots__ = ("_memory", "address", "continuation")

    def __init__(self) -> None:
        self._memory = (ctypes.c_ubyte * 2)()
        self.address = ctypes.addressof(self._memory)
        self.continuation = _FLAGGED + self.address.to_bytes(8, "little") + bytes(8)


class _Current:
    """Whose guest is being polled: callbacks carry no instance."""

    __slots__ = ("instance",)
    instance: Instance

    def __init__(self) -> None:
        self.instance = None  # type: ignore[assignment]  # no callback comes while no guest is polled


current = _Current()


async def drive(instance: Instance, steps: Steps[T], deadline: float | None) -> T:
    """Run steps, of which the first has been taken, to their end.

    Raises `InvocationTimeout`, what a step raises, and what a host coroutine raises.
    """
    limit = asyncio.timeout_at(deadline)
    try:
        async with limit:
            while True:
                pending = instance.pending
                if pending is None:
                    await asyncio.sleep(0)
                else:
                    pending.value = await pending
                    instance.pending = None
                    instance.outcome = pending
                    RAW[instance.flag.address] = 1
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
    if instance.pending is not None:
        instance.pending.coroutine.close()
        instance.pending = None
    for level in sorted(instance.suspended, reverse=True):
        instance.suspended.pop(level)[0].close()


def poll(engine: Engine, instance: Instance, future: int) -> bool:
    """Let the guest run until it returns, suspends or its slice ends. True: it has returned."""
    before = current.instance
    current.instance = instance
    engine.enter()
    returned: bool = capi.future_poll(future)
    engine.leave()
    current.instance = before
    return returned


def _continue(level: int | None) -> bool:
    """wasmtime asks whether the import that suspended the fiber of this level is over."""
    instance = current.instance
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
# "Ask the flag": C's strlen of the byte 0 is false, of the byte 1 (and a 0 after it) true.
_FLAGGED = (ctypes.cast(ctypes.CDLL(None).strlen, ctypes.c_void_p).value or 0).to_bytes(8, "little")


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
    """A trampoline asks for the end of what `Instance.pending` or `Instance.waits` is."""
    instance = current.instance
    steps = instance.waits
    if steps is None:
        RAW[continuation : continuation + 24] = instance.flag.continuation
        return
    RAW[continuation : continuation + 24] = _DONE
    # Of the fibers that run within each other this is the innermost now; the steps may start others within it.
    level = instance.depth
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
