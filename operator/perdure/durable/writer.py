"""The one writer of an instance: builds its commits and sends them until their outcome is known.

Invariant: `sequence` is the last commit this host knows to be applied under its token. What the store tells instead
(fenced, key used, cancelled, lost) is raised, and then nothing of the commit was applied.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from perdure.durable.calls import sealed
from perdure.durable.commits import commit_surely
from perdure.durable.effects import Effect, Outcome
from perdure.durable.environment import EngineEnvironment
from perdure.durable.faultpoint import Point, reach
from perdure.durable.foreign import apply_entry, origin_of, to_entry
from perdure.durable.journal import Entry, Event, Gate, Kind, call_fingerprint, encode_entry
from perdure.durable.records import Claim, Commit, CommitStatus, Committed, StoredResult
from perdure.errors import Fenced, IdempotencyConflict, InvocationCancelled

COMMIT_GRACE = 5.0
"""Seconds that a commit has at least: a guest that used up its time must still be able to keep what it did."""


class KeyUsed(IdempotencyConflict):
    """The key has a result already; whoever made the call looks it up."""


@dataclass(slots=True)
class Running:
    """An invocation under way. `pending`: it was taken from the inbox. `part`: entries of it so far. `callers`: digests
    of the instances that wait for it. `durable`: something of it is, as far as is known."""

    function: str
    arguments: bytes
    key: str | None
    deadline: float
    pending: bool = False
    part: int = 0
    guest_us: int = 0
    callers: tuple[str, ...] = ()
    durable: bool = False


@dataclass(slots=True)
class Growth:
    """What replay would have to do beyond the snapshot."""

    entries: int = 0
    bytes: int = 0
    guest_us: int = 0

    def add(self, size: int, guest_us: int) -> None:
        self.entries += 1
        self.bytes += size
        self.guest_us += guest_us


class InstanceWriter:
    """Made for a claim. `start`: events of an instantiation that no entry has yet; the next one takes them. `anew`: the
    next entry is the first of a new memory, and takes the place of all before it. `sending`: a commit is under way."""

    def __init__(self, name: str, component: str, environment: EngineEnvironment, claim: Claim) -> None:
        self.name = name
        self.component = component
        self.token = claim.token
        self.life = claim.data.life
        self.sequence = claim.data.sequence
        self.origin = origin_of(environment.worker, name, claim.data.life)
        self.start: list[Event] | None = None
        self.anew = False
        self.growth = Growth()
        self.sending = False
        self._environment = environment

    async def part(
        self,
        running: Running,
        events: list[Event],
        effects: Mapping[str, list[Effect]],
        gate: Gate | None,
    ) -> Outcome | None:
        """Make what the invocation did so far durable; the outcome of the gate's atomic effect, which is the last
        one of its provider. Raises as `commit_surely`, `KeyUsed`, `InvocationCancelled`."""
        home = self._environment.catalog.home
        entry = self._entry(running, Kind.PART, events, effects, gate=gate)
        reserves = running.key if running.part == 0 else None
        committed = await self._send(entry, effects, running, reserves=reserves, is_open=True)
        running.part += 1
        found = {home: committed.outcomes}
        if entry.foreign:
            found |= await self.apply_foreign(entry)
        return found[gate.provider][-1] if gate is not None else None

    async def end(
        self, running: Running, events: list[Event], effects: Mapping[str, list[Effect]], body: bytes
    ) -> bool:
        """Make the whole invocation durable, foreign effects included. False: it is, but this host is not the owner
        any more. Raises as `part`."""
        entry = self._entry(running, Kind.CALL, events, effects)
        result = None
        if running.key is not None:
            result = StoredResult(running.key, call_fingerprint(running.function, running.arguments), sealed(body))
        await self._send(entry, effects, running, result=result)
        if entry.foreign:
            try:
                await self.apply_foreign(entry)
            except Fenced:
                # The call is carried out everywhere: repeating it would double it. The new owner confirms the mark.
                return False
        return True

    async def abandon(self, running: Running, reason: str, *, result: StoredResult | None = None) -> None:
        """End an invocation whose parts are durable and stay; memory is as it was before it."""
        entry = self._entry(running, Kind.ABANDONED, [], {}, reason=reason)
        await self._send(entry, {}, running, result=result, checked=False)

    async def begin_anew(
        self,
        kind: Kind,
        deadline: float,
        *,
        reason: str,
        state: bytes | None = None,
        events: list[Event] | None = None,
        result: StoredResult | None = None,
    ) -> None:
        """FRESH or MIGRATED: what came before is not replayed any more. `events`: of loading the `state`. `result`: of
        a call that will not end."""
        running = Running("", b"", None, deadline)
        entry = self._entry(running, kind, events or [], {}, reason=reason, state=state)
        await self._send(entry, {}, running, result=result, fresh=True)

    async def apply_foreign(self, entry: Entry) -> dict[str, list[Outcome]]:
        """Apply and confirm an entry's foreign effects. Raises `ProviderUnavailable`, `Fenced`."""
        environment = self._environment
        reach(Point.FOREIGN_BEFORE)
        outcomes = await apply_entry(entry, self.origin, self.name, environment.stores)
        reach(Point.FOREIGN_AFTER)
        await environment.home.applied(self.name, self.token, entry.sequence)
        reach(Point.APPLIED_AFTER)
        return outcomes

    def _entry(
        self,
        running: Running,
        kind: Kind,
        events: list[Event],
        effects: Mapping[str, list[Effect]],
        *,
        gate: Gate | None = None,
        reason: str = "",
        state: bytes | None = None,
    ) -> Entry:
        environment = self._environment
        home = environment.catalog.home
        return Entry(
            sequence=self.sequence + 1,
            component=self.component,
            function=running.function,
            arguments=running.arguments if running.part == 0 else b"",
            key=running.key,
            start=self.start,
            events=events,
            foreign=to_entry({provider: found for provider, found in effects.items() if provider != home}),
            time_ms=environment.wall_ms,
            kind=kind,
            part=running.part,
            guest_us=running.guest_us,
            gate=gate,
            reason=reason,
            state=state,
            callers=running.callers if running.part == 0 else (),
        )

    async def _send(
        self,
        entry: Entry,
        effects: Mapping[str, list[Effect]],
        running: Running,
        *,
        result: StoredResult | None = None,
        reserves: str | None = None,
        is_open: bool = False,
        fresh: bool = False,
        checked: bool = True,
    ) -> Committed:
        environment = self._environment
        home = environment.catalog.home
        data, blobs = encode_entry(entry)
        fresh |= self.anew
        commit = Commit(
            instance=self.name,
            token=self.token,
            sequence=entry.sequence,
            entry=data,
            component=self.component,
            effects=effects.get(home, ()),
            blobs=blobs,
            result=result,
            reserves=reserves,
            pending=running.key if running.pending and checked else None,
            open=is_open,
            fresh=fresh,
            foreign=bool(entry.foreign),
            result_retention_ms=environment.retention_ms,
            max_results=environment.max_results,
        )
        limit = max(running.deadline, asyncio.get_running_loop().time() + COMMIT_GRACE)
        self.sending = True
        try:
            committed = await commit_surely(environment.home, commit, environment.hooks, home, limit)
        finally:
            self.sending = False
        if committed.status is CommitStatus.KEY_USED:
            raise KeyUsed(f"the idempotency key {running.key!r} has a result")
        if committed.status is CommitStatus.CANCELLED:
            raise InvocationCancelled(f"the call {running.key!r} was cancelled")
        self.sequence = entry.sequence
        running.durable = True
        self.start, self.anew = None, False
        if fresh:
            self.growth = Growth()
        self.growth.add(len(data) + sum(map(len, blobs.values())), running.guest_us)
        running.guest_us = 0
        return committed
