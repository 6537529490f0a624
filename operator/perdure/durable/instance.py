"""One durable instance in this host's memory: claim, replay, invoke with one commit each.

Invariant: while `usable`, memory equals the journal's replay and the token was ours at the last commit. Whatever
breaks that (trap, timeout, cancellation, fencing, unknown outcome) makes the object unusable; the next invocation
opens a new one from the store. Crash before the commit: nothing happened. Crash after: the result is stored.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from dataclasses import dataclass

from perdure.component.component import BoundComponent
from perdure.component.plan import ExportedFunc
from perdure.component.wit_json import to_json
from perdure.durable.buckets import InstanceBuckets
from perdure.durable.commits import commit_surely
from perdure.durable.environment import EngineEnvironment
from perdure.durable.faultpoint import Point, reach
from perdure.durable.foreign import apply_entry, origin_of, to_entry
from perdure.durable.journal import Entry, Event, call_fingerprint, decode_entry, encode_entry
from perdure.durable.overlay import Overlay
from perdure.durable.recorder import JournalRecorder
from perdure.durable.records import Claim, Commit, StoredResult
from perdure.durable.replay import Guest, decode_arguments, replay_entries, require_component, start_events
from perdure.errors import Fenced, GuestTrapped, IdempotencyConflict, InvocationTimeout, PerdureError
from perdure.wasi.state import WasiState

_COMMIT_GRACE = 5.0


@dataclass(frozen=True, slots=True)
class Invocation:
    """`arguments`: the canonical JSON array. `deadline`: loop time in seconds."""

    function: ExportedFunc
    arguments: bytes
    key: str | None
    deadline: float


@dataclass(frozen=True, slots=True)
class InvocationResult:
    """`body`: the result as JSON. `stored`: it was found under the key; the guest did not run now."""

    body: bytes
    stored: bool = False


@dataclass(frozen=True, slots=True)
class GuestContext:
    """What host functions get: `ctx.wasi` and `ctx.keyvalue`."""

    wasi: WasiState
    keyvalue: InstanceBuckets


class DurableInstance:
    """Made by `open`. One invocation at a time; the caller sees to that."""

    def __init__(self, name: str, bound: BoundComponent, environment: EngineEnvironment, claim: Claim) -> None:
        self.name = name
        self.usable = True
        self._bound = bound
        self._environment = environment
        self._token = claim.token
        self._origin = origin_of(environment.worker, name, claim.life)
        self._sequence = claim.sequence
        self._keys: set[str] = set()
        self._start: list[Event] | None = None
        self._guest: Guest | None = None
        self._overlay = Overlay()
        self._recorder = JournalRecorder(environment.hooks)
        self._context = GuestContext(
            WasiState(
                recorder=self._recorder,
                wall_ns=environment.wall_ns,
                monotonic_ns=environment.monotonic_ns,
                entropy=environment.entropy,
                environment=environment.variables,
                arguments=(name,),
                sink=lambda stream, data: environment.log(name, stream, data),
            ),
            InstanceBuckets(
                name,
                environment.catalog,
                environment.stores,
                self._recorder,
                self._overlay,
                environment.hooks.provider_error,
            ),
        )

    @classmethod
    async def open(
        cls, name: str, bound: BoundComponent, environment: EngineEnvironment, *, deadline: float
    ) -> DurableInstance:
        """Claim the instance and rebuild its memory.

        Raises `ProviderUnavailable`, `Quarantined` (with what is wrong), `InvocationTimeout`.
        """
        claim = await environment.home.claim(name, secrets.token_hex(8), environment.host)
        reach(Point.CLAIMED)
        instance = cls(name, bound, environment, claim)
        try:
            await instance._rebuild(claim, deadline)
        except BaseException:
            instance.close()
            raise
        return instance

    async def _rebuild(self, claim: Claim, deadline: float) -> None:
        begun = time.perf_counter()
        entries = [decode_entry(data, number) for number, data in enumerate(claim.journal, start=1)]
        digest = self._bound.component.digest
        require_component(entries, digest)
        for sequence in claim.unapplied:
            await self._apply_foreign(entries[sequence - 1])
        recorded = start_events(entries)
        if recorded is not None:
            self._recorder.replay(recorded, "instantiation")
        self._guest = await self._instantiate(deadline)
        if recorded is None:
            self._start = self._recorder.events
            self._recorder.live()
        else:
            self._recorder.finish_replay()
        functions = {func.path: func for func in self._bound.component.exports}
        await replay_entries(self._guest, entries, functions, self._recorder, self._overlay, deadline)
        self._keys = {entry.key for entry in entries if entry.key is not None}
        if entries:
            self._environment.hooks.replay(len(entries), time.perf_counter() - begun)
        reach(Point.REPLAYED)

    async def _instantiate(self, deadline: float) -> Guest:
        pool, limits = self._environment.pool, self._environment.limits
        if pool is not None:
            return await pool.instantiate(self._context, deadline=deadline)
        return await self._bound.instantiate(self._context, limits=limits, deadline=deadline)

    async def invoke(self, invocation: Invocation) -> InvocationResult:
        """Run the function and make it durable before returning.

        Raises `IdempotencyConflict`, `TypeMismatch`, `GuestTrapped`, `InvocationTimeout`, `Fenced`,
        `ProviderUnavailable`. After an error of the last four the object is unusable.
        """
        begun = time.perf_counter()
        outcome = "error"
        try:
            stored = await self._stored_result(invocation)
            if stored is not None:
                outcome = "replayed"
                return stored
            result = await self._run(invocation)
            outcome = "ok"
            return result
        except GuestTrapped as error:
            outcome = "trapped"
            error.stderr = self._context.wasi.stderr_tail()
            raise
        except InvocationTimeout:
            outcome = "timeout"
            raise
        except Fenced:
            self.usable = False
            raise
        except PerdureError as error:
            outcome = "refused" if error.http_status < 500 else "error"
            raise
        finally:
            self._environment.hooks.invocation(invocation.function.path, outcome, time.perf_counter() - begun)

    async def _stored_result(self, invocation: Invocation) -> InvocationResult | None:
        # The journal names every key that was ever used here, so a new key needs no look-up.
        if invocation.key is None or invocation.key not in self._keys:
            return None
        found = await self._environment.home.result(self.name, invocation.key)
        if found is None:
            return None
        if found.fingerprint != call_fingerprint(invocation.function.path, invocation.arguments):
            raise IdempotencyConflict(
                f"the idempotency key {invocation.key!r} was used for another function or other arguments"
            )
        # Ownership is proven, so that a paused former owner never answers with what it has.
        await self._environment.home.verify(self.name, self._token)
        return InvocationResult(found.body, stored=True)

    async def _run(self, invocation: Invocation) -> InvocationResult:
        assert self._guest is not None and self.usable
        values = decode_arguments(invocation.function, invocation.arguments)
        self._recorder.live()
        self._overlay.clear()
        self.usable = False
        value = await self._guest.call(invocation.function, values, deadline=invocation.deadline)
        reach(Point.GUEST_DONE)
        kind = invocation.function.type.result
        plain = None if kind is None else to_json(kind, value)
        body = json.dumps(plain, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
        self.usable = await self._commit(invocation, body)
        return InvocationResult(body)

    async def _commit(self, invocation: Invocation, body: bytes) -> bool:
        """Make the invocation durable, foreign effects included. False: it is, but this host is not the owner now."""
        environment = self._environment
        home = environment.catalog.home
        effects = self._overlay.effects()
        entry = Entry(
            sequence=self._sequence + 1,
            component=self._bound.component.digest,
            function=invocation.function.path,
            arguments=invocation.arguments,
            key=invocation.key,
            start=self._start,
            events=self._recorder.events,
            foreign=to_entry({provider: found for provider, found in effects.items() if provider != home}),
            time_ms=environment.wall_ns() // 1_000_000,
        )
        result = None
        if invocation.key is not None:
            result = StoredResult(
                invocation.key, call_fingerprint(invocation.function.path, invocation.arguments), body
            )
        commit = Commit(
            instance=self.name,
            token=self._token,
            sequence=entry.sequence,
            entry=encode_entry(entry),
            effects=effects.get(home, ()),
            result=result,
            foreign=bool(entry.foreign),
            result_retention_ms=environment.retention_ms,
            max_results=environment.max_results,
        )
        # A guest that used up its time must still be able to commit what it did.
        limit = max(invocation.deadline, asyncio.get_running_loop().time() + _COMMIT_GRACE)
        await commit_surely(environment.home, commit, environment.hooks, home, limit)
        self._sequence = entry.sequence
        self._start = None
        if invocation.key is not None:
            self._keys.add(invocation.key)
        if entry.foreign:
            try:
                await self._apply_foreign(entry)
            except Fenced:
                # The call is carried out everywhere: repeating it would double it. The new owner confirms the mark.
                return False
        return True

    async def _apply_foreign(self, entry: Entry) -> None:
        environment = self._environment
        reach(Point.FOREIGN_BEFORE)
        await apply_entry(entry, self._origin, self.name, environment.stores)
        reach(Point.FOREIGN_AFTER)
        await environment.home.applied(self.name, self._token, entry.sequence)
        reach(Point.APPLIED_AFTER)

    def close(self) -> None:
        """Free the guest's memory; nothing durable is touched."""
        self.usable = False
        if self._guest is not None:
            self._guest.close()
            self._guest = None
