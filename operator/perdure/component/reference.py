"""The boundary between guest and host through ctypes alone: the reference for `native/`, and its stand-in where no
compiler was at hand.

The callbacks run on the guest's fiber and carry no instance: `_current` has whose guest is being polled.
"""

from __future__ import annotations

import asyncio
import ctypes
import threading
import types
from collections.abc import Callable, Coroutine, Generator, Sequence
from typing import TYPE_CHECKING, TypeAlias, TypeVar, cast

from perdure.component import capi, crossing, fiber
from perdure.component.capi import RAW
from perdure.component.crossing import Finish, Waiting
from perdure.component.engine import PARKED, RAN, RUNNING
from perdure.component.steps import Steps

if TYPE_CHECKING:
    from perdure.component.canonical.lower import Lowering, Placement
    from perdure.component.context import CallContext
    from perdure.component.engine import Engine
    from perdure.component.entry import Arrays
    from perdure.component.instance import Instance

T = TypeVar("T")
Begin: TypeAlias = "Callable[[Instance, int], Lowering | Placement | Waiting | None]"
"""`imports.CoreImport.begin`."""

UNFINISHED = object()
"""What `State.call_at_once` gives where it did not come to the call's end."""

# "Ask the flag": C's strlen of the byte 0 is false, of the byte 1 (and a 0 after it) true.
_FLAGGED = (ctypes.cast(ctypes.CDLL(None).strlen, ctypes.c_void_p).value or 0).to_bytes(8, "little")
# "It is over", without a way through Python: C's abs(1) is true.
_DONE = (ctypes.cast(ctypes.CDLL(None).abs, ctypes.c_void_p).value or 0).to_bytes(8, "little") + bytes([1] + [0] * 15)


@types.coroutine
def _rest(coroutine: Coroutine[object, object, object], wanted: object) -> Generator[object, object, object]:
    """A coroutine from its second step on (`await` takes none that has begun). `wanted`: what its first step, which has
    been taken, gave to the event loop."""
    try:
        while True:
            try:
                sent = yield wanted
            except GeneratorExit:
                coroutine.close()
                raise
            except BaseException as error:  # noqa: BLE001 - a cancellation is the coroutine's to see
                wanted = coroutine.throw(error)
            else:
                wanted = coroutine.send(sent)
    except StopIteration as end:
        return end.value


class _Current(threading.local):
    instance: Instance | None = None


_current = _Current()


class State:
    """The part of an instance that guest and host share while a call of an import is under way."""

    def __init__(
        self, engine: Engine, context: int, begins: Sequence[Begin], arrays: Arrays, reallocation: Arrays
    ) -> None:
        """`begins`: of the imports, by number. `arrays`, `reallocation`: for `call_at_once`."""
        self.engine = engine
        self.context = context
        self._begins = begins
        self._flag = (ctypes.c_ubyte * 2)()
        self._flag_address = ctypes.addressof(self._flag)
        self._continuation = _FLAGGED + self._flag_address.to_bytes(8, "little") + bytes(8)
        self.may_leave = True
        self.depth = 0
        self.usable = True
        self.busy = False
        self.misfit = False
        self.offered: dict[str, object] = {}
        self.left: tuple[int, int, object] | None = None
        # Of the call that is under way: what it is lowering, what it waits for, how it ends then.
        self.lowering: Lowering | Placement | None = None
        self.waits: Steps[Finish] | None = None
        self.coroutine: Coroutine[object, object, object] | None = None
        self.wanted: object = None
        self.outcome: Finish | None = None
        self.failure: BaseException | None = None
        self._waiting: Waiting | None = None
        self._value: object = None

    def offer(
        self,
        path: str,
        core: int,
        params: int,
        results: int,
        post_return: int,
        realloc: int,
        lower: Callable[..., object] | None,
        lift: Callable[..., object] | None,
        cx: CallContext,
    ) -> None:
        """What `call_at_once` needs of an export: the core function and how many values it takes and gives; post-return
        and `realloc`, or 0; `lower_params` and `lift_result`, or None; their context."""

    def _settle(self, values: int, left: Lowering | Placement | Waiting | None) -> None:
        while isinstance(left, tuple) and len(left) == 4:
            coroutine, end, cx, pointer = left
            try:
                wanted = coroutine.send(None)
            except StopIteration as done:
                left = end(cx, values, pointer, done.value)
            else:
                self.coroutine, self.wanted, self._waiting = coroutine, wanted, left
                # Now, not when the trampoline calls `wait`: a slice may end before that, and the coroutine meanwhile.
                RAW[self._flag_address] = 0
                crossing.must_wait(values)
                return
        if left is not None:
            crossing.settle(cast("Instance", self), values, left)

    def _resume(self, value: object) -> None:
        """`coroutine` is done and gave `value`; the guest goes on when it is polled."""
        self.coroutine = self.wanted = None
        self._value = value
        RAW[self._flag_address] = 1

    async def driven(self, steps: Steps[T], _yielded: int | None) -> T:
        """Take steps to their end, a step a turn of the event loop or whenever the coroutine that the guest waits for
        is done. The first was taken, and has yielded `_yielded` (`steps.Steps`)."""
        while True:
            coroutine = self.coroutine
            if coroutine is None:
                await asyncio.sleep(0)
            else:
                self._resume(await _rest(coroutine, self.wanted))
            self.engine.turned()
            try:
                next(steps)
            except StopIteration as end:
                result: T = end.value
                return result

    def poll(self, future: int) -> bool:
        """Let the guest run until it returns, suspends or its slice ends. True: it has returned."""
        before = _current.instance
        _current.instance = cast("Instance", self)
        activity = self.engine.activity
        activity[RUNNING] += 1
        activity[RAN] = 1
        try:
            if activity[PARKED]:
                self.engine.wake()
            returned: bool = capi.future_poll(future)
        finally:
            activity[RUNNING] -= 1
            _current.instance = before
        return returned

    def enter(self, core: int, args: int, nargs: int, results: int, nresults: int, out: int) -> int:
        """Run a core function. 0: it has ended, how `out` tells; else the future that is to be polled on."""
        future: int = capi.call_async(self.context, core, args, nargs, results, nresults, out, out + 8)
        self.depth += 1
        returned = True
        try:
            returned = self.poll(future)
        finally:
            self.depth -= 1
            if returned:
                capi.future_delete(future)
        return 0 if returned else future

    def call_at_once(self, path: str, args: Sequence[object]) -> object:
        """Carry out a call of the export at `path` as far as it does not wait: to its end, or it gives UNFINISHED and
        leaves in `left` how far it came, None if nowhere. Here it does not come anywhere."""
        return UNFINISHED

    def _begun(self, number: int, values: int) -> None:
        if not self.may_leave:
            crossing.check_may_leave(cast("Instance", self), number)
        self._settle(values, self._begins[number](cast("Instance", self), values))

    def _gone_on(self, values: int) -> None:
        if self.lowering is not None:
            crossing.proceed(cast("Instance", self), values, self.lowering)
            return
        if self._waiting is not None:
            (_, end, cx, pointer), self._waiting = self._waiting, None
            value, self._value = self._value, None
            left = end(cx, values, pointer, value)
        else:
            finish = self.outcome
            assert finish is not None
            self.outcome = None
            left = finish(values)
        self._settle(values, left)


def _begin(number: int | None, _caller: int, values: int, _count: int) -> int | None:
    instance = _current.instance
    assert instance is not None
    try:
        instance._begun(number or 0, values)
    except BaseException as error:  # noqa: BLE001 - it must not unwind through wasmtime; it is raised by the driver
        return fiber.trapped(instance, error)
    return None


def _next(_number: int | None, _caller: int, values: int, _count: int) -> int | None:
    instance = _current.instance
    assert instance is not None
    try:
        instance._gone_on(values)
    except BaseException as error:  # noqa: BLE001 - as in `_begin`
        return fiber.trapped(instance, error)
    return None


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
    """A trampoline asks for the end of what the call waits for: the one import that can suspend a fiber."""
    instance = _current.instance
    assert instance is not None
    if instance.waits is None:
        RAW[continuation : continuation + 24] = instance._continuation
        return
    level = fiber.begin_waiting(instance, trap)
    if level is None:
        RAW[continuation : continuation + 24] = _DONE
    else:
        RAW[continuation : continuation + 24] = _CONTINUE + level.to_bytes(8, "little") + bytes(8)


def _continue(level: int | None) -> bool:
    instance = _current.instance
    assert instance is not None
    return fiber.go_on(instance, level or 0)


_continuation = capi.Continuation(_continue)
_CONTINUE = capi.address(_continuation).to_bytes(8, "little")
_callbacks = capi.UncheckedCallback(_begin), capi.UncheckedCallback(_next), capi.AsyncCallback(_wait)
BEGIN, NEXT, WAIT = map(capi.address, _callbacks)
"""Addresses of the trampolines' imports, for wasmtime."""
