"""Driving wasmtime fibers from the event loop.

A guest runs inside `future_poll`. When a host function returns a coroutine, the callback leaves it in
`Instance.pending` and the fiber switches out; the driver awaits the coroutine in the caller's own task, so that
cancellation and exceptions go where they belong, and polls again. When the epoch ends a guest's slice, the driver
lets the loop turn. Every guest entry is an asynchronous one: a synchronous entry that reached a suspending import
would abort the process.
"""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Coroutine
from types import CoroutineType
from typing import TYPE_CHECKING, cast

from perdure.component import capi
from perdure.component.capi import RAW
from perdure.component.imports import CoreImport
from perdure.component.traps import AbiTrap, HostTrap, guest_trap
from perdure.errors import InvocationTimeout

if TYPE_CHECKING:
    from perdure.component.engine import Engine
    from perdure.component.instance import Instance


class Pending:
    """A host call the guest is suspended in."""

    __slots__ = ("call", "coroutine", "done", "pointer", "results", "trap", "value")

    def __init__(
        self, call: CoreImport, coroutine: Coroutine[object, object, object], results: int, pointer: int, trap: int
    ) -> None:
        self.call = call
        self.coroutine = coroutine
        self.results = results
        self.pointer = pointer
        self.trap = trap
        self.value: object = None
        self.done = False


_NOW: Engine | None = None
"""The engine whose guest is being polled: callbacks carry no instance, and a poll never nests across engines."""


async def drive(instance: Instance, future: int, deadline: float | None) -> None:
    """Run a call's future to its end. Raises `InvocationTimeout`, `GuestTrapped` for a host coroutine's `HostTrap`, and
    whatever else a host coroutine raises."""
    engine = instance.engine
    limit = asyncio.timeout_at(deadline)
    try:
        async with limit:
            while not poll(engine, instance, future):
                pending = instance.pending
                if pending is None or pending.done:
                    await asyncio.sleep(0)
                    continue
                try:
                    pending.value = await pending.coroutine
                except HostTrap as trap:
                    raise guest_trap(trap) from trap
                pending.done = True
    except TimeoutError:
        if limit.expired():
            raise InvocationTimeout("the invocation ran past its time limit and was stopped") from None
        raise
    finally:
        if instance.pending is not None:
            instance.pending.coroutine.close()
            instance.pending = None
        capi.future_delete(future)


def poll(engine: Engine, instance: Instance, future: int) -> bool:
    """Let the guest run until it returns, suspends or its slice ends. True: it has returned."""
    global _NOW
    before, before_engine = engine.current, _NOW
    engine.current, _NOW = instance, engine
    engine.enter()
    try:
        return bool(capi.future_poll(future))
    finally:
        engine.leave()
        engine.current, _NOW = before, before_engine


def _continue(_env: int | None) -> bool:
    """wasmtime asks whether the suspended host call is over; if so its results are lowered here, on the fiber."""
    assert _NOW is not None
    instance = _NOW.current
    assert instance is not None
    pending = instance.pending
    if pending is None:
        return True
    if not pending.done:
        return False
    try:
        pending.call.finish(instance, pending.results, pending.pointer, pending.value)
    except BaseException as error:  # noqa: BLE001 - it must not unwind through wasmtime; it is raised by `call`
        _trap(instance, error, pending.trap)
    instance.pending = None
    return True


_continuation = capi.Continuation(_continue)
_CONTINUE = ctypes.cast(_continuation, ctypes.c_void_p).value or 0


def _called(
    env: int | None,
    _caller: int,
    args: int,
    _nargs: int,
    results: int,
    _nresults: int,
    trap: int,
    continuation: int,
) -> None:
    """Every import of every guest arrives here; `env` is the number of the canon."""
    assert _NOW is not None
    instance = _NOW.current
    assert instance is not None
    try:
        if not instance.may_leave:
            raise AbiTrap("the guest called an import while it may not (from realloc or post-return)")
        call = instance.imports[env or 0]
        value, pointer = call.begin(instance, args)
        if type(value) is CoroutineType:
            instance.pending = Pending(call, cast("Coroutine[object, object, object]", value), results, pointer, trap)
        else:
            call.finish(instance, results or 0, pointer, value)
    except BaseException as error:  # noqa: BLE001 - it must not unwind through wasmtime; it is raised by `call`
        _trap(instance, error, trap)
    RAW[continuation : continuation + 24] = _CONTINUE.to_bytes(8, "little") + bytes(16)


def _trap(instance: Instance, error: BaseException, trap: int) -> None:
    instance.failure = error
    message = type(error).__name__.encode()
    made = capi.trap_new(message, len(message))
    RAW[trap : trap + 8] = int(made).to_bytes(8, "little")


callback = capi.AsyncCallback(_called)
