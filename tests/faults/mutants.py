"""Providers that are wrong on purpose, in one host process of a test. Nothing of this is in the product.

Each leaves out one rule of the protocol, by another text of the Lua library or by doing in two steps what must be one;
between those steps there is a boundary, `mutant.between`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import secrets
from collections.abc import Callable, Sequence
from typing import Any

from faults.clerk.mutants import BETWEEN, CLERK_MUTANTS
from perdure.durable import abandoning, faultpoint, recovery
from perdure.durable.calls import failure_of, unsealed
from perdure.durable.instance import DurableInstance, Invocation, InvocationResult
from perdure.durable.journal import Entry
from perdure.durable.records import Commit, CommitStatus, Committed, ForeignApply, SnapshotWrite
from perdure.durable.replay import ReplayPlan, plan_replay
from perdure.durable.runner import Runner
from perdure.durable.writer import InstanceWriter
from perdure.errors import Fenced, Overtaken
from perdure.providers.redis import client as redis_client
from perdure.providers.redis.buckets import Buckets
from perdure.providers.redis.instances import Instances
from perdure.providers.redis.library import function_library
from support.patching import put

_FENCED = "  if held[1] ~= args[1] or held[2] ~= args[2] then return 'FENCED' end\n"


def apply(name: str) -> None:
    """Make this process's stores wrong in the way `name` says."""
    (MUTANTS | CLERK_MUTANTS)[name]()


def _lua(before: str, after: str, times: int = 1) -> Callable[[], None]:
    """The library with another text in the place of `before`, which it must hold so many times."""

    def patch() -> None:
        version, text = function_library()
        found = text.count(before)
        if found != times:
            raise ValueError(f"the library holds {before!r} {found} times, not {times}: bring the mutant up to date")
        changed = text.replace(before, after)
        other = hashlib.sha256(changed.encode()).hexdigest()[:8]
        # Another version is another name: it does not meet the real one on a server.
        result = other, changed.replace(version, other)
        put(redis_client, function_library=lambda: result)

    return patch


def _result_outside_the_commit() -> None:
    whole = Instances.commit

    async def commit(self: Instances, commit: Commit) -> Committed:
        if (
            (result := commit.result) is None
            or commit.pending is not None
            or failure_of(unsealed(result.body)) is not None
        ):
            return await whole(self, commit)
        committed = await whole(self, dataclasses.replace(commit, result=None))
        faultpoint.reach(BETWEEN)
        keys = self._keys.instance(commit.instance)
        await self._client.command("HSET", keys[3], result.key, result.fingerprint + result.body)
        await self._client.command("ZADD", keys[4], 1 << 50, result.key)
        return committed

    Instances.commit = commit  # type: ignore[method-assign]


def _apply_before_journal() -> None:
    whole, foreign = Instances.commit, Instances.apply_foreign

    async def commit(self: Instances, commit: Commit) -> Committed:
        if not commit.effects:
            return await whole(self, commit)
        applied = await foreign(self, ForeignApply(secrets.token_hex(8), 1, commit.effects))
        faultpoint.reach(BETWEEN)
        committed = await whole(self, dataclasses.replace(commit, effects=()))
        return Committed(committed.status, applied.outcomes)

    Instances.commit = commit  # type: ignore[method-assign]


def _trim_before_the_pointer() -> None:
    whole = Instances.snapshot

    async def snapshot(self: Instances, write: SnapshotWrite) -> bool:
        await self._client.command("LTRIM", self._keys.instance(write.instance)[1], 1, 0)
        faultpoint.reach(BETWEEN)
        return await whole(self, write)

    Instances.snapshot = snapshot  # type: ignore[method-assign]


def _dedup_records_expire() -> None:
    whole = Buckets.apply_foreign

    async def apply_foreign(self: Buckets, apply: ForeignApply) -> Committed:
        committed = await whole(self, apply)
        if committed.status is CommitStatus.APPLIED:
            await self._client.command("PEXPIRE", self._keys.foreign, 1)
        return committed

    Buckets.apply_foreign = apply_foreign  # type: ignore[method-assign]


def _journal_kept() -> None:
    """A call with a new memory comes after those before it, not in their place."""
    whole = Runner.begin_anew

    async def begin_anew(self: Runner, deadline: float) -> Runner:
        runner = await whole(self, deadline)
        self._writer.anew = False
        return runner

    Runner.begin_anew = begin_anew  # type: ignore[method-assign]


def _parts_lost() -> None:
    """Every part of a call with a new memory takes the place of the journal, not the first one alone."""
    whole = InstanceWriter._send

    async def send(self: InstanceWriter, *args: Any, **named: Any) -> Committed:
        anew = self.anew
        committed = await whole(self, *args, **named)
        self.anew = anew
        return committed

    InstanceWriter._send = send  # type: ignore[method-assign]


def _unfinished_forgotten() -> None:
    """Whoever opens an instance with new memory for each call lets a call begin again that had not ended."""

    def plan(entries: Sequence[Entry]) -> ReplayPlan:
        return dataclasses.replace(plan_replay(entries), unfinished=[])

    put(recovery, plan_replay=plan)


def _begun_again() -> None:
    """A call without a key is begun again by its host when its instance was taken over in the middle."""
    whole = DurableInstance.invoke

    async def invoke(self: DurableInstance, invocation: Invocation) -> InvocationResult:
        try:
            return await whole(self, invocation)
        except Overtaken as error:
            raise Fenced(error.detail) from error

    DurableInstance.invoke = invoke  # type: ignore[method-assign]


def _failure_forgotten() -> None:
    """A call that failed behind a gate leaves its key free."""

    async def none(*args: object) -> None:
        return None

    put(abandoning, _result=none)


MUTANTS: dict[str, Callable[[], None]] = {
    "no-token-check": _lua(_FENCED, "", 2),
    "later-epochs-pass": _lua(_FENCED, "  if tonumber(args[1]) < tonumber(held[1]) then return 'FENCED' end\n", 2),
    "no-sequence-check": _lua(
        "  if sequence ~= stored + 1 then return not_next(keys, sequence, stored, tonumber(held[4] or '0')) end\n", ""
    ),
    "result-outside-the-commit": _result_outside_the_commit,
    "apply-before-journal": _apply_before_journal,
    "no-dedup": _lua(
        "    if sequence == highest then return 'DUPLICATE ' .. string.sub(mark, space + 1) end\n"
        "    if sequence < highest then return 'DUPLICATE ' end\n",
        "",
    ),
    "trim-before-the-pointer": _trim_before_the_pointer,
    "dedup-records-expire": _dedup_records_expire,
    "journal-kept": _journal_kept,
    "parts-lost": _parts_lost,
    "unfinished-forgotten": _unfinished_forgotten,
    "begun-again-without-a-key": _begun_again,
    "failure-forgotten": _failure_forgotten,
    "missing-pcall": _lua("redis.pcall('HINCRBY'", "redis.call('HINCRBY'"),
}
