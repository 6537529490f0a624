"""Calls of hostile guests. What may come of one: a value, `GuestTrapped`, `InvocationTimeout`, what a host function
raised; or `TypeMismatch`, where an argument does not fit. After each, a healthy neighbour still answers and its memory is unchanged.

A case is one instance, or three at the same time, and up to four calls of each, to the first that fails.
"""

from __future__ import annotations

import asyncio
import functools
import sys
import time
from collections.abc import Callable, Coroutine

from wasmtime import wat2wasm

from fuzz.command import main
from fuzz.harness import Fuzzer, Unexpected
from fuzz.hostile_guest import EXPORTS, hostile_component
from perdure.component.component import BoundComponent, Component
from perdure.component.engine import Engine, EngineConfig
from perdure.component.host import HostFunction, HostResource, HostTrap
from perdure.component.instance import Instance, InstanceLimits
from perdure.component.plan import ExportedFunc
from perdure.component.types import FuncType
from perdure.errors import GuestTrapped, InvocationTimeout, TypeMismatch
from support.generated.misfits import CannotSpoil, spoiled
from support.generated.source import Seeded, one_in
from support.generated.values import canonical, value

GUESTS = 48
_SECONDS = 0.05
_SLACK = 0.5
_LIMITS = InstanceLimits(memory=1 << 20)

_HEALTHY = """
(component
  (core module $m
    (memory (export "memory") 1)
    (func (export "fill") (local $at i32)
      (loop $more
        (i64.store (local.get $at) (i64.mul (i64.extend_i32_u (local.get $at)) (i64.const 0x9E3779B97F4A7C15)))
        (br_if $more (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8))) (i32.const 65536)))))
    (func (export "sum") (result i64) (local $at i32) (local $sum i64)
      (loop $more
        (local.set $sum (i64.add (i64.mul (local.get $sum) (i64.const 31)) (i64.load (local.get $at))))
        (br_if $more (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8))) (i32.const 65536))))
      (i64.add (local.get $sum) (i64.extend_i32_u (memory.size)))))
  (core instance $i (instantiate $m))
  (func (export "fill") (canon lift (core func $i "fill")))
  (func (export "sum") (result u64) (canon lift (core func $i "sum"))))
"""


class _Odd(Exception):
    """Raised by host functions: it must reach the caller as it is."""


class _Host:
    """What the imports of a guest do: they check what arrives and answer with drawn values, at once or later."""

    def __init__(self) -> None:
        self.source = Seeded(0)

    def function(self, interface: str, name: str, type: FuncType) -> HostFunction | None:  # noqa: A002
        if name == "entropy":
            return lambda _context: self.source.integer(0, 2**64 - 1)
        return functools.partial(self._called, type)

    def resource(self, interface: str, name: str) -> HostResource | None:
        return HostResource(lambda _context, _representation: None)

    def _called(self, type: FuncType, _context: object, *args: object) -> object:  # noqa: A002
        for (_, kind), arg in zip(type.params, args, strict=True):
            canonical(kind, arg)
        later = one_in(self.source, 3)
        failure = (HostTrap("refused"), _Odd())[self.source.integer(0, 1)] if one_in(self.source, 20) else None
        result = None if type.result is None else value(self.source, type.result)
        if later:
            return self._later(result, failure)
        if failure is not None:
            raise failure
        return result

    async def _later(self, result: object, failure: Exception | None) -> object:
        await asyncio.sleep(0)
        if failure is not None:
            raise failure
        return result


def _deadline() -> float:
    return asyncio.get_running_loop().time() + _SECONDS


class HostileFuzzer(Fuzzer):
    """`GUESTS` guests, each compiled when it is first needed."""

    name = "hostile"
    unit = "calls and starts that ended"
    accepted = ("value",)
    slow = 4.0
    swell_mb = 300.0
    address_space_mb = 12 << 10

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._engine = Engine(EngineConfig(memory_reservation=1 << 26))
        self._host = _Host()
        self._guests: dict[int, BoundComponent] = {}
        self._neighbours: list[tuple[Instance, asyncio.Lock]] = []

    def close(self) -> None:
        for neighbour, _ in self._neighbours:
            neighbour.close()
        self._engine.close()
        self._runner.close()

    def data(self, number: int, source: Seeded) -> bytes:
        return self._binary(number % GUESTS)

    def run(self, number: int, source: Seeded) -> tuple[str, ...]:
        return self._runner.run(self._case(number % GUESTS, source))

    @functools.cache  # noqa: B019 - as long as the fuzzer
    def _binary(self, guest: int) -> bytes:
        return bytes(wat2wasm(hostile_component(Seeded(guest))))

    async def _case(self, guest: int, source: Seeded) -> tuple[str, ...]:
        bound = self._guests.get(guest)
        if bound is None:
            component = await Component.load(self._engine, self._binary(guest))
            bound = self._guests[guest] = component.bind(self._host)
        if not self._neighbours:
            await self._settle()
        self._host.source = source
        sessions = [self._session(bound, source) for _ in range(3 if one_in(source, 4) else 1)]
        outcomes = await asyncio.gather(*sessions)
        await self._neighbour_answers(source)
        return tuple(outcome for one in outcomes for outcome in one)

    async def _session(self, bound: BoundComponent, source: Seeded) -> list[str]:
        """One instance and its calls, to the first that fails."""
        instance: Instance | None = None

        async def start() -> None:
            nonlocal instance
            instance = await bound.instantiate(None, limits=_LIMITS, deadline=_deadline())

        outcome = await self._outcome(start)
        if instance is None:
            return [f"at its start: {outcome}"]
        exports = {func.name: func for func in bound.component.exports}
        outcomes: list[str] = []
        try:
            await instance.call(exports["seed"], [source.integer(0, 2**64 - 1), (0, 10, 40, 120)[source.integer(0, 3)]])
            while instance.usable and len(outcomes) < 4:
                outcomes.append(await self._call(instance, exports[f"export{source.integer(0, EXPORTS - 1)}"], source))
                await self._neighbour_answers(source)
        finally:
            instance.close()
        return outcomes

    async def _call(self, instance: Instance, func: ExportedFunc, source: Seeded) -> str:
        kinds = [kind for _, kind in func.type.params]
        args = [value(source, kind) for kind in kinds]
        misfit = one_in(source, 20)
        if misfit:
            at = source.integer(0, len(args) - 1)
            try:
                args[at] = spoiled(source, kinds[at], args[at])
            except CannotSpoil:
                misfit = False

        async def call() -> None:
            result = await instance.call(func, args, deadline=_deadline())
            if misfit:
                raise Unexpected(f"arguments that do not fit were taken: {kinds} {args}")
            if func.type.result is not None:
                canonical(func.type.result, result)

        if one_in(source, 30):
            return await self._cancelled(call)
        try:
            return await self._outcome(call)
        except TypeMismatch as error:
            # A resource of the guest's that the guest has not given out is nobody's to hand in.
            if not misfit and "a handle of another resource type" not in error.detail:
                raise
            return "misfit refused"

    async def _outcome(self, run: Callable[[], Coroutine[object, object, None]]) -> str:
        began = time.thread_time()
        try:
            await run()
        except GuestTrapped as trap:
            return f"trapped: {trap.trap}"
        except _Odd:
            return "host exception"
        except InvocationTimeout:
            if time.thread_time() - began > _SECONDS + _SLACK:
                raise Unexpected(f"a call with {_SECONDS} s ran {time.thread_time() - began:.1f} s") from None
            return "timeout"
        return "value"

    async def _cancelled(self, run: Callable[[], Coroutine[object, object, None]]) -> str:
        """Give the call one turn of the loop, then cancel it."""
        task = asyncio.ensure_future(self._outcome(run))
        await asyncio.sleep(0)
        task.cancel()
        try:
            return await task
        except asyncio.CancelledError:
            return "cancelled"
        except TypeMismatch:
            return "misfit refused"

    async def _settle(self) -> None:
        component = await Component.load(self._engine, bytes(wat2wasm(_HEALTHY)))
        bound = component.bind(self._host)
        self._healthy = {func.name: func for func in component.exports}
        for _ in range(3):
            neighbour = await bound.instantiate(None)
            await neighbour.call(self._healthy["fill"], [])
            self._neighbours.append((neighbour, asyncio.Lock()))
        last, _ = self._neighbours[-1]
        self._sum = await last.call(self._healthy["sum"], [])

    async def _neighbour_answers(self, source: Seeded) -> None:
        neighbour, lock = self._neighbours[source.integer(0, len(self._neighbours) - 1)]
        async with lock:
            if await neighbour.call(self._healthy["sum"], []) != self._sum:
                raise Unexpected("the memory of a healthy neighbour has changed")


if __name__ == "__main__":
    sys.exit(main(HostileFuzzer, "fuzz.hostile", (__doc__ or "").partition("\n")[0]))
