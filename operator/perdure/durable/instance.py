"""One durable instance in this host's memory: claim, recover, invoke with one commit each, keep snapshots.

Invariant: while `usable`, memory equals what recovery from the store would give (where it goes on from call to call),
and the token was ours at the last commit. Whatever breaks that (trap, timeout, cancellation, fencing, unknown outcome)
makes the object unusable; the next invocation opens a new one from the store. Crash before the commit: nothing
happened. Crash after: the result is stored.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass

from perdure.component.plan import ExportedFunc
from perdure.component.snapshot import Snapshot
from perdure.durable.abandoning import ENDS_THE_CALL, abandon
from perdure.durable.attempts import attempt
from perdure.durable.calls import Halt, HaltState, decode_halt, failure_of, unsealed
from perdure.durable.claiming import claim_instance
from perdure.durable.components import Code, ComponentLibrary
from perdure.durable.departing import clear_before
from perdure.durable.environment import EngineEnvironment
from perdure.durable.faultpoint import Point, reach
from perdure.durable.halting import quarantine
from perdure.durable.journal import call_fingerprint
from perdure.durable.records import Claim, OwnerToken, SnapshotWrite
from perdure.durable.recovery import recover
from perdure.durable.replay import Recorded
from perdure.durable.runner import Runner
from perdure.durable.settings import MemoryMode
from perdure.durable.snapshots import WHOLE_UP_TO, Taken
from perdure.durable.writer import InstanceWriter, KeyUsed, Running
from perdure.errors import (
    AsyncCallFailed,
    Fenced,
    GuestTrapped,
    IdempotencyConflict,
    Interrupted,
    InvocationTimeout,
    NoSuchFunction,
    Overtaken,
    PerdureError,
    ProviderUnavailable,
    Quarantined,
    SnapshotRefused,
    TypeMismatch,
)

_KEYS = 10_000


@dataclass(frozen=True, slots=True)
class Invocation:
    """`arguments`: the canonical JSON array. `deadline`: loop time in seconds. `callers`: digests of the instances that
    wait for it."""

    function: ExportedFunc
    arguments: bytes
    key: str | None
    deadline: float
    callers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class InvocationResult:
    """`body`: the result as JSON. `stored`: it was found under the key; the guest did not run now."""

    body: bytes
    stored: bool = False


class DurableInstance:
    """Made by `open`. One invocation at a time; the caller sees to that."""

    def __init__(self, name: str, environment: EngineEnvironment, writer: InstanceWriter, runner: Runner) -> None:
        self.name = name
        self.usable = True
        self._environment = environment
        self._writer = writer
        self._runner = runner
        # Keys that are known to be used: a hint that spares a run, not what safety rests on.
        self._keys: OrderedDict[str, None] = OrderedDict()
        self._snapshot: Snapshot | None = None
        self._snapshot_sequence: int | None = None
        self._chain = 0
        self._refused = False
        self._each_anew = environment.memory is MemoryMode.INVOCATION

    @classmethod
    async def open(
        cls, name: str, library: ComponentLibrary, environment: EngineEnvironment, *, deadline: float
    ) -> DurableInstance:
        """Claim the instance and rebuild its memory; an invocation that had not ended is finished.

        Raises `ProviderUnavailable`, `LostWrites`, `Quarantined` (with what is wrong), `Interrupted`,
        `InvocationTimeout`, `Fenced`.
        """
        claim = await claim_instance(name, environment)
        require_running(name, claim)
        await clear_before(name, claim, environment)
        instance = None
        try:
            async with attempt(name, claim, environment):
                instance = await cls._opened(name, claim, library, environment, deadline)
        except BaseException:
            if instance is not None:
                instance.close()
            raise
        return instance

    @classmethod
    async def _opened(
        cls, name: str, claim: Claim, library: ComponentLibrary, environment: EngineEnvironment, deadline: float
    ) -> DurableInstance:
        begun = time.perf_counter()
        # What others began must not be cut short because this caller has little time left.
        now = asyncio.get_running_loop().time()
        try:
            recovered = await recover(name, claim, library, environment, max(deadline, now + environment.recovery))
        except Quarantined as error:
            if error.lasting:
                await quarantine(name, claim.token, environment, error.detail)
            raise
        instance = cls(name, environment, recovered.writer, recovered.runner)
        if recovered.snapshot is not None and claim.data.snapshot is not None:
            instance._kept(recovered.snapshot, claim.data.snapshot.sequence, len(claim.data.snapshot.parts))
        try:
            for key in recovered.keys:
                instance._remember(key)
            if recovered.unfinished is not None:
                now = asyncio.get_running_loop().time()
                await instance._finish(recovered.unfinished, max(deadline, now + environment.timeout))
        except BaseException:
            instance.close()
            raise
        if claim.data.sequence:
            seconds = time.perf_counter() - begun
            environment.hooks.replay(len(claim.data.journal), seconds)
            # What recovery really took tells more than what its parts took when they were new.
            recovered.writer.growth.guest_us = max(recovered.writer.growth.guest_us, int(recovered.replay_s * 1e6))
        reach(Point.REPLAYED)
        return instance

    @property
    def code(self) -> Code:
        return self._runner.code

    @property
    def token(self) -> OwnerToken:
        """Under which this host is the owner, as far as it knows."""
        return self._writer.token

    @property
    def snapshot_due(self) -> bool:
        growth = self._writer.growth
        return (
            self.usable
            and not self._refused
            and not self._each_anew
            and self._environment.snapshots.due(guest_us=growth.guest_us, entries=growth.entries, size=growth.bytes)
        )

    async def invoke(self, invocation: Invocation) -> InvocationResult:
        """Run the function and make it durable before returning.

        Raises `IdempotencyConflict`, `TypeMismatch`, `GuestTrapped`, `InvocationTimeout`, `Fenced` (it may be invoked
        again: nothing of it is durable, or its key tells), `Overtaken`, `ProviderUnavailable`. After an error of the
        last five the object is unusable.
        """
        running = Running(
            invocation.function.path,
            invocation.arguments,
            invocation.key,
            invocation.deadline,
            callers=invocation.callers,
        )
        begun = time.perf_counter()
        outcome = "error"
        try:
            if running.key is not None and running.key in self._keys:
                stored = await self._stored_result(running)
                if stored is not None:
                    outcome = "replayed"
                    return stored
            body = await self.run(running)
            outcome = "ok"
            return InvocationResult(body)
        except KeyUsed:
            # The guest ran on a copy that is thrown away; nothing of it was applied.
            stored = await self._stored_result(running)
            if stored is None:
                raise
            outcome = "replayed"
            return stored
        except (GuestTrapped, InvocationTimeout) as error:
            # A key that is not known here may have a result nevertheless; not where this very failure is it.
            looks = running.key is not None and not error.parts
            stored = await self._stored_result(running) if looks else None
            if stored is not None:
                outcome = "replayed"
                return stored
            outcome = "trapped" if isinstance(error, GuestTrapped) else "timeout"
            raise
        except Fenced as error:
            self.usable = False
            if running.key is None and (running.part or error.doubtful):
                raise Overtaken(
                    f"instance {self.name!r} was taken over in the middle of this call. What is durable of it stays, "
                    "its new owner carries it to its end, and what it gave is not known here: calls with an "
                    "Idempotency-Key can be asked again"
                ) from error
            raise
        except ProviderUnavailable as error:
            if running.durable:
                raise error.within(key=running.key is not None) from error
            if error.doubtful:
                raise error.in_doubt(key=running.key is not None) from error
            raise
        except PerdureError as error:
            outcome = "refused" if error.http_status < 500 else "error"
            raise
        finally:
            self._environment.hooks.invocation(running.function, outcome, time.perf_counter() - begun)

    async def run(self, running: Running) -> bytes:
        """Run an invocation to its commit; its result as JSON. Raises as `invoke`, `KeyUsed` and
        `InvocationCancelled`."""
        if not self.usable:
            # Found out while the caller was waiting, by a snapshot that could not be kept.
            raise Fenced(f"instance {self.name!r} is owned by another host now")
        self.usable = False
        try:
            if self._each_anew:
                self._runner = await self._runner.begin_anew(running.deadline)
            body = await self._runner.run(running)
            reach(Point.GUEST_DONE)
            owned = await self._end(running, body)
        except (TypeMismatch, NoSuchFunction):
            # The arguments do not fit: the guest has not run.
            self.usable = running.part == 0
            raise
        except GuestTrapped as error:
            error.stderr = self._runner.context.wasi.stderr_tail()
            await abandon(self._writer, running, error, self._environment)
            raise
        except (InvocationTimeout, KeyUsed) as error:
            await abandon(self._writer, running, error, self._environment)
            raise
        self.usable = owned
        return body

    async def capture(self) -> Taken | None:
        """Capture the guest's state if that is possible, to be given to `keep`. Not while an invocation runs.

        Raises `SnapshotRefused` where there is nothing to keep between calls.
        """
        if self._each_anew:
            raise SnapshotRefused(
                "each call begins with new memory (durability.memory: Invocation)", reason="no-memory"
            )
        follows = self._snapshot_sequence if self._chain < self._environment.snapshots.chain else None
        begun = time.perf_counter()
        try:
            taken = await self._runner.capture(self._snapshot, follows if self._snapshot is not None else None)
        except SnapshotRefused:
            self._refused = True
            self._environment.hooks.snapshot("refused", 0, time.perf_counter() - begun)
            return None
        self._environment.hooks.snapshot("taken", len(taken.data), time.perf_counter() - begun)
        return taken

    @property
    def sequence(self) -> int:
        """Of the last commit."""
        return self._writer.sequence

    async def keep(self, taken: Taken, sequence: int) -> bool:
        """Store what `capture` gave after the commit `sequence`, and trim the journal. Invocations may run meanwhile.

        Raises `Fenced` (the object is unusable then), `ProviderUnavailable`: the journal is as it was.
        """
        growth = self._writer.growth
        before = (growth.entries, growth.bytes, growth.guest_us)
        reach(Point.SNAPSHOT_BEFORE)
        write = SnapshotWrite(self.name, self._writer.token, sequence, taken.data, taken.follows)
        try:
            kept = await self._environment.home.snapshot(write)
        except Fenced:
            self.usable = False
            raise
        reach(Point.SNAPSHOT_AFTER)
        if kept:
            growth.entries -= before[0]
            growth.bytes -= before[1]
            growth.guest_us -= before[2]
            self._kept(taken.snapshot, sequence, 1 if taken.follows is None else self._chain + 1)
        else:
            self._snapshot = None
        self._environment.hooks.snapshot("kept" if kept else "failed", len(taken.data), 0.0)
        return kept

    def cut_off(self) -> None:
        """End what runs, for the instance was taken from this host: it raises `Fenced`."""
        self._runner.cut_off()

    def close(self) -> None:
        """Free the guest's memory; nothing durable is touched."""
        self.usable = False
        self._environment.watch.saw(self.name, self._writer.life, self._writer.sequence)
        self._runner.close()

    async def _finish(self, unfinished: Recorded, deadline: float) -> None:
        """Run an invocation that had not ended from its last gate on. Its caller is gone: a failure ends it."""
        self.usable = False
        running = Running(
            unfinished.function,
            unfinished.arguments,
            unfinished.key,
            deadline,
            part=unfinished.parts,
            callers=unfinished.callers,
        )
        try:
            body = await self._runner.go_on(running, unfinished)
            owned = await self._end(running, body)
        except ENDS_THE_CALL as error:
            await abandon(self._writer, running, error, self._environment)
            raise Fenced("the instance was left in the middle of a call that could not be finished") from error
        if not owned:
            raise Fenced(f"instance {self.name!r} is owned by another host now")
        self.usable = True

    async def _end(self, running: Running, body: bytes) -> bool:
        runner = self._runner
        owned = await self._writer.end(running, runner.recorder.take(), runner.overlay.effects(), body)
        runner.overlay.clear()
        if running.key is not None:
            self._remember(running.key)
        if self._each_anew:
            runner.close()
        return owned

    async def _stored_result(self, running: Running) -> InvocationResult | None:
        assert running.key is not None
        home = self._environment.home
        fingerprint = call_fingerprint(running.function, running.arguments)
        found = await home.result(self.name, running.key)
        if found is None:
            waiting = await home.pending(self.name, running.key)
            if waiting is not None and waiting.fingerprint != fingerprint:
                raise conflict(running.key)
            return None
        if found.fingerprint != fingerprint:
            raise conflict(running.key)
        # Ownership is proven, so that a paused former owner never answers with what it has.
        await home.verify(self.name, self._writer.token)
        body = unsealed(found.body)
        failure = failure_of(body)
        if failure is not None:
            raise AsyncCallFailed(failure[1], cause=failure[0])
        return InvocationResult(body, stored=True)

    def _remember(self, key: str) -> None:
        self._keys[key] = None
        if len(self._keys) > _KEYS:
            self._keys.popitem(last=False)

    def _kept(self, snapshot: Snapshot, sequence: int, chain: int) -> None:
        self._snapshot_sequence, self._chain = sequence, chain
        # A difference needs the state it is one to; where whole ones are small that memory is better spent.
        self._snapshot = snapshot if len(snapshot.data) > WHOLE_UP_TO or chain > 1 else None


def conflict(key: str) -> IdempotencyConflict:
    return IdempotencyConflict(f"the idempotency key {key!r} was used for another function or other arguments")


def require_running(name: str, claim: Claim) -> None:
    """Raises `Quarantined` or `Interrupted`, with the reason, for an instance that must not run."""
    if claim.data.halt is None:
        return
    halt: Halt = decode_halt(claim.data.halt)
    if halt.state is HaltState.INTERRUPTED:
        raise Interrupted(f"instance {name!r} is interrupted ({halt.reason}): resume it to go on")
    raise Quarantined(f"instance {name!r} is quarantined: {halt.reason}")
