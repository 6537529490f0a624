"""The running side of one instance: its guest, what the guest may call, and replay. Writes nothing but at gates."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass

from perdure.component.instance import Instance
from perdure.component.plan import ExportedFunc
from perdure.component.snapshot import Snapshot
from perdure.component.wit_json import to_json
from perdure.durable.buckets import InstanceBuckets
from perdure.durable.calling import InstanceCalls
from perdure.durable.components import Code
from perdure.durable.environment import EngineEnvironment, GuestLine
from perdure.durable.gates import Gates
from perdure.durable.interface import DurableState
from perdure.durable.journal import Event
from perdure.durable.leaving import leave
from perdure.durable.overlay import Overlay
from perdure.durable.promises import InstancePromises
from perdure.durable.recorder import JournalRecorder
from perdure.durable.replay import Recorded, decode_arguments
from perdure.durable.settings import MemoryMode
from perdure.durable.snapshots import Taken
from perdure.durable.writer import InstanceWriter, Running
from perdure.errors import Fenced, GuestTrapped, NoSuchFunction, PerdureError, Quarantined, SnapshotRefused
from perdure.keyvalue.watcher import is_watcher, values_of
from perdure.wasi.exit import exited, is_command
from perdure.wasi.http.exchanges import Exchanges
from perdure.wasi.http.serving import is_handler, serve
from perdure.wasi.state import WasiState


@dataclass(frozen=True, slots=True)
class GuestContext:
    """What host functions get: `ctx.wasi`, `ctx.http`, `ctx.keyvalue` and `ctx.durable`."""

    wasi: WasiState
    http: Exchanges
    keyvalue: InstanceBuckets
    durable: DurableState


class Runner:
    """`instantiate` or `restore` first; then calls of the journal, then new ones. One at a time."""

    def __init__(self, name: str, code: Code, environment: EngineEnvironment, writer: InstanceWriter) -> None:
        self.code = code
        self.overlay = Overlay()
        self.recorder = JournalRecorder(environment.hooks)
        self.gates = Gates(environment.commit, self.recorder, self.overlay, writer)
        self.gates.measure = self._guest_us
        self._environment = environment
        self._writer = writer
        self._guest: Instance | None = None
        self._begun = 0.0
        self._cut: asyncio.Timeout | None = None
        self.context = GuestContext(
            WasiState(
                recorder=self.recorder,
                wall_ns=environment.wall_ns,
                monotonic_ns=environment.monotonic_ns,
                entropy=environment.entropy,
                environment=environment.variables,
                arguments=(name,),
                sink=lambda stream, data: environment.log(name, stream, data),
                gate=self.gates.before_wait,
                # Rounded up: nobody comes back before the guest may go on.
                leave=lambda instant: leave(name, environment.home, self.gates.running, -(-instant // 1_000_000)),
                settings=environment.settings,
                mounts=environment.mounts,
                log=lambda level, context, text: environment.lines(
                    GuestLine(name, self._invocation(), level, context, text)
                ),
            ),
            Exchanges(environment.http),
            InstanceBuckets(
                name,
                environment.catalog,
                environment.stores,
                self.recorder,
                self.overlay,
                self.gates,
                environment.hooks.provider_error,
                environment.entropy,
            ),
            DurableState(
                name,
                environment.worker,
                InstancePromises(name, environment, self.recorder, self.overlay, self.gates),
                InstanceCalls(name, environment.caller, self.recorder, self.gates, writer),
            ),
        )

    async def instantiate(self, start: list[Event] | None, deadline: float) -> list[Event] | None:
        """A fresh guest. `start`: the events of its first instantiation. Those of this one, if it is the first."""
        if start is not None:
            self.recorder.replay(start, "instantiation")
        pool, limits = self._environment.pool, self._environment.limits
        if pool is not None and pool.bound is self.code.bound:
            self._guest = await pool.instantiate(self.context, deadline=deadline)
        else:
            self._guest = await self.code.bound.instantiate(self.context, limits=limits, deadline=deadline)
        if start is None:
            return self.recorder.take()
        self.recorder.finish_replay()
        return None

    async def begin_anew(self, deadline: float) -> Runner:
        """A runner with a fresh guest in the place of this one's. What the next commit has takes the place of the
        journal so far."""
        self.close()
        runner = Runner(self._writer.name, self.code, self._environment, self._writer)
        runner.context.wasi.latest_ns = self.context.wasi.latest_ns
        try:
            self._writer.start = await runner.instantiate(None, deadline)
        except BaseException:
            runner.close()
            raise
        self._writer.anew = True
        return runner

    async def restore(self, parts: list[bytes]) -> Snapshot:
        """A guest as its snapshot says. Raises `Quarantined`."""
        support = await self.code.support()
        self._guest, snapshot, last = await support.restore(parts, self.context, self._environment.limits)
        self.context.wasi.latest_ns = last.latest_ns
        self.context.keyvalue.shared.latest = max(self.context.keyvalue.shared.latest, last.numbers)
        return snapshot

    async def replay(self, call: Recorded, deadline: float) -> None:
        """Run a finished invocation of the journal again; nothing leaves. Raises `Quarantined`, `ReplayDiverged`
        naming the entry."""
        assert self._guest is not None
        func = self._journalled(call)
        values, result = self._prepared(func, call.arguments)
        self.recorder.replay(call.events, call.what, gates=call.gates, passed=self.overlay.clear)
        self.context.http.begin_invocation(call.what)
        self.context.durable.key = call.key
        try:
            result(await self._guest.call(func, values, deadline=deadline))
        except GuestTrapped as error:
            raise Quarantined(
                f"{call.what}: the guest trapped on replay where it had not before: {error.detail}"
            ) from error
        except PerdureError as error:
            if isinstance(error, Quarantined) or error.retryable:
                raise
            raise Quarantined(f"{call.what}: {error.detail}") from error
        finally:
            self.context.http.end_invocation()
        self.recorder.finish_replay()
        self.overlay.clear()

    async def run(self, running: Running) -> bytes:
        """Run a new invocation; its result as JSON. Raises as `Instance.call`, and what gates raise."""
        func = self.code.functions.get(running.function)
        if func is None:
            raise NoSuchFunction(
                f"the instance runs on component {self.code.digest}, which exports no function {running.function!r}"
            )
        values, result = self._prepared(func, running.arguments)
        self.recorder.live()
        return await self._call(func, values, result, running)

    async def go_on(self, running: Running, call: Recorded) -> bytes:
        """Finish an invocation whose first parts are in the journal. Raises as `replay` and `run`."""
        func = self._journalled(call)
        values, result = self._prepared(func, call.arguments)
        self.recorder.replay(
            call.events,
            call.what,
            gates=call.gates,
            passed=self.overlay.clear,
            goes_on=True,
            carried=call.carried,
        )
        body = await self._call(func, values, result, running)
        self.recorder.finish_replay()
        return body

    async def aside(self, func: ExportedFunc, *arguments: object, deadline: float) -> object:
        """A call outside any invocation: its writes are dropped, its events are left to `recorder.take`."""
        assert self._guest is not None
        self.recorder.live()
        self.context.durable.key = None
        try:
            return await self._guest.call(func, arguments, deadline=deadline)
        finally:
            self.overlay.clear()

    async def again(self, func: ExportedFunc, *arguments: object, deadline: float) -> None:
        """Replay of a call made `aside`, after `recorder.replay`."""
        assert self._guest is not None
        self.context.durable.key = None
        try:
            await self._guest.call(func, arguments, deadline=deadline)
            self.recorder.finish_replay()
        finally:
            self.overlay.clear()

    async def capture(self, parent: Snapshot | None, follows: int | None) -> Taken:
        """The guest's state between two calls. Raises `SnapshotRefused`."""
        assert self._guest is not None
        shared = self.context.keyvalue.shared
        if shared.numbered:
            raise SnapshotRefused("the guest holds futures of a cache as mere numbers", reason="host-resource")
        support = await self.code.support()
        return support.capture(self._guest, self.context.wasi.latest_ns, shared.latest, parent, follows)

    def cut_off(self) -> None:
        """End the invocation that runs with `Fenced`. One that waits for a commit learns it there."""
        if self._cut is not None and not self._writer.sending:
            self._cut.reschedule(asyncio.get_running_loop().time())

    def close(self) -> None:
        """Free the guest's memory; idempotent."""
        self.context.http.end_invocation()
        if self._guest is not None:
            self._guest.close()
            self._guest = None

    def _prepared(self, func: ExportedFunc, arguments: bytes) -> tuple[list[object], Callable[[object], bytes]]:
        """The values to call with, and what makes the result's JSON of what the guest returns."""
        if is_handler(func):
            served = serve(arguments, self.context.http.held)
            return list(served.arguments), lambda value: served.result()
        if is_watcher(func):
            return values_of(func, arguments, self.context.keyvalue.reopen), lambda value: _json(func, value)
        return decode_arguments(func, arguments), lambda value: _json(func, value)

    async def _call(
        self, func: ExportedFunc, values: list[object], result: Callable[[object], bytes], running: Running
    ) -> bytes:
        assert self._guest is not None
        self.overlay.clear()
        self.gates.running = running
        self.context.durable.key = running.key
        # Its first entry's sequence, whichever of its parts are durable by now, tells a call without a key.
        first = self._writer.sequence - running.part + 1
        self.context.http.begin_invocation(f"{self._writer.origin}/{running.key or ''}/{'' if running.key else first}")
        self._begun = time.perf_counter()
        self._cut = cut = asyncio.timeout(None)
        try:
            async with cut:
                body = result(await self._guest.call(func, values, deadline=running.deadline))
        except TimeoutError as error:
            if not cut.expired():
                raise
            raise Fenced("the instance was taken from this host while the call ran") from error
        except GuestTrapped as error:
            # A command's memory is of no use after it; elsewhere calls to come need it whole.
            anew = self._environment.memory is MemoryMode.INVOCATION
            ended = exited(error) if anew and is_command(func.path) else None
            if ended is None:
                raise
            body = result(ended)
        finally:
            self._cut = None
            self.gates.running = None
            self.context.http.end_invocation()
        running.guest_us = self._guest_us()
        return body

    def _invocation(self) -> str:
        """What is said of the call under way in lines of the log."""
        running = self.gates.running
        if running is None:
            return ""
        return running.key or f"#{self._writer.sequence + 1}"

    def _guest_us(self) -> int:
        """The guest's own time since the last gate, in microseconds: the clock's, without what it waited for."""
        now = time.perf_counter()
        own = now - self._begun - self.recorder.waited
        self._begun, self.recorder.waited = now, 0.0
        return max(0, int(own * 1_000_000))

    def _journalled(self, call: Recorded) -> ExportedFunc:
        func = self.code.functions.get(call.function)
        if func is None:
            raise Quarantined(f"{call.what}: the component exports no such function")
        return func


def _json(func: ExportedFunc, value: object) -> bytes:
    plain = None if func.type.result is None else to_json(func.type.result, value)
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
