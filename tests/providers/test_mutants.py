"""Negative controls: stores that are wrong on purpose, each of which a test of this suite must find."""

from __future__ import annotations

import dataclasses
import inspect
import uuid
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from perdure.durable.effects import Counted, Effect, Outcome, Put
from perdure.durable.feeds import Changed
from perdure.durable.inbox import Cancelled
from perdure.durable.records import (
    Commit,
    CommitStatus,
    Committed,
    ForeignApply,
    OwnerToken,
    SnapshotWrite,
    WorkerId,
)
from perdure.errors import Fenced, PerdureError
from perdure.providers.memory import MemoryStore
from perdure.providers.memory.feeds import append
from perdure.providers.memory.world import Instance
from providers import (
    test_atomics,
    test_due,
    test_feeds,
    test_fencing,
    test_foreign,
    test_inbox,
    test_instances,
    test_resends,
    test_results,
    test_snapshots,
)
from providers.worlds import Memory, Setting


class NoTokenCheck(MemoryStore):
    def _owned(self, instance: str, token: OwnerToken) -> Instance:
        return self._data.instances[instance]


class LaterEpochsPass(MemoryStore):
    """`>=` in the place of equality."""

    def _owned(self, instance: str, token: OwnerToken) -> Instance:
        held = self._data.instances[instance]
        if token.epoch < held.token.epoch:
            raise Fenced(instance)
        return held


class NoSequenceCheck(MemoryStore):
    def _follows(self, held: Instance, commit: Commit) -> Committed | None:
        return None


class ForgetsOutcomes(MemoryStore):
    def _follows(self, held: Instance, commit: Commit) -> Committed | None:
        duplicate = super()._follows(held, commit)
        return None if duplicate is None else Committed(duplicate.status)


class RecognisesWhatOthersApplied(MemoryStore):
    """A sequence is enough, under whichever token it was applied."""

    def _follows(self, held: Instance, commit: Commit) -> Committed | None:
        return Committed(CommitStatus.DUPLICATE) if commit.sequence <= held.sequence else None


class ResultOutsideTheCommit(MemoryStore):
    async def commit(self, commit: Commit) -> Committed:
        held = self._owned(commit.instance, commit.token)
        if commit.result is not None and commit.result.key not in held.results:
            self._keep_result(held, commit.result, commit)
        return await super().commit(dataclasses.replace(commit, result=None))


class KeysAreNotReserved(MemoryStore):
    def _refused(self, held: Instance, commit: Commit) -> CommitStatus | None:
        return super()._refused(held, dataclasses.replace(commit, reserves=None))


class CommitsCancelledCalls(MemoryStore):
    def _refused(self, held: Instance, commit: Commit) -> CommitStatus | None:
        return super()._refused(held, dataclasses.replace(commit, pending=None))


class TrimsBeforeTheSnapshotIsKept(MemoryStore):
    async def snapshot(self, write: SnapshotWrite) -> bool:
        self._trim(self._owned(write.instance, write.token), write.sequence)
        return await super().snapshot(write)


class TrimsUnconfirmedEffects(MemoryStore):
    async def snapshot(self, write: SnapshotWrite) -> bool:
        held = self._owned(write.instance, write.token)
        unapplied, held.unapplied = held.unapplied, set()
        try:
            return await super().snapshot(write)
        finally:
            held.unapplied = unapplied


class DropsBlobsOfTheFirstRecord(MemoryStore):
    """The sequence that named a blob first decides, not the last."""

    def _name_blobs(self, held: Instance, blobs: Any) -> None:
        super()._name_blobs(held, {digest: data for digest, data in blobs.items() if digest not in held.blobs})


class NoDedupRecord(MemoryStore):
    async def apply_foreign(self, apply: ForeignApply) -> Committed:
        self._data.marks.clear()
        return await super().apply_foreign(apply)


class DedupRecordExpires(MemoryStore):
    """It lives as long as the values."""

    async def apply_foreign(self, apply: ForeignApply) -> Committed:
        if not any(self._live(effect.bucket) for effect in apply.effects):
            self._data.marks.pop(apply.origin, None)
        return await super().apply_foreign(apply)


class CancelsWhatHasBegun(MemoryStore):
    async def cancel(self, instance: str, key: str) -> Cancelled:
        waiting = self._data.instances[instance].inbox.get(key)
        if waiting is not None:
            waiting.call = dataclasses.replace(waiting.call, begun=False)
        return await super().cancel(instance, key)


class TakesWithoutCounting(MemoryStore):
    async def take(self, instance: str, token: OwnerToken) -> Any:
        taken = await super().take(instance, token)
        if taken.call is not None:
            call = dataclasses.replace(taken.call, attempts=0)
            self._data.instances[instance].inbox[call.key].call = call
            taken = dataclasses.replace(taken, call=call)
        return taken


class HaltedOnesAreDue(MemoryStore):
    async def due(self, limit: int) -> Any:
        for held in self._data.instances.values():
            held.halt = None
        return await super().due(limit)


class AppendsBeforeTheCommitIsChecked(MemoryStore):
    """The feed's entry is a write of its own, before the commit."""

    async def commit(self, commit: Commit) -> Committed:
        writer = (self._worker.name, commit.instance)
        feeds = self._open_feeds(commit.effects, writer)
        for effect in commit.effects:
            if effect.bucket in feeds and isinstance(effect, Put):
                append(feeds[effect.bucket], effect.key, Changed(effect.value), writer)
        for feed in feeds.values():
            feed.watchers, kept = {}, feed.watchers
            try:
                return await super().commit(commit)
            finally:
                feed.watchers = kept
        return await super().commit(commit)


class TellsTheWatcherOfItself(MemoryStore):
    def _open_feeds(self, effects: Any, writer: Any) -> Any:
        return super()._open_feeds(effects, None)

    async def changes(self, bucket: Any, after: int, limit: int) -> Any:
        found = await super().changes(bucket, after, limit)
        own = [dataclasses.replace(one, own=False) for one in found.changes] if found else []
        return found and dataclasses.replace(found, changes=own)


class FullFeedsForgetTheOldest(MemoryStore):
    def _open_feeds(self, effects: Any, writer: Any) -> Any:
        for feed in self._feeds.values():
            while feed.full:
                del feed.changes[0]
        return super()._open_feeds(effects, writer)


class FeedsBeginAgainUnderTheSameName(MemoryStore):
    async def watch(self, bucket: Any, instance: str, bounds: Any) -> None:
        await super().watch(bucket, instance, bounds)
        for feed in self._feeds.values():
            feed.life = "always"


class CountersAreDoubles(MemoryStore):
    """As an implementation in Lua is, if nobody minds."""

    def _apply(self, effect: Effect) -> Outcome | None:
        outcome = super()._apply(effect)
        return Counted(int(float(outcome.value))) if isinstance(outcome, Counted) else outcome


class AnybodyDeletes(MemoryStore):
    async def delete_instance(self, instance: str, parting: Any = None) -> bool:
        held = self._data.instances.get(instance)
        if held is not None and parting is not None:
            parting = dataclasses.replace(parting, token=held.token)
        return await super().delete_instance(instance, parting)


Test = Callable[..., Coroutine[Any, Any, None]]
MUTANTS: list[tuple[type[MemoryStore], Test, dict[str, Any]]] = [
    (NoTokenCheck, test_fencing.test_a_former_owner_is_fenced, {"operation": operation})
    for operation in test_fencing.OPERATIONS
]
MUTANTS += [
    (LaterEpochsPass, test_fencing.test_epoch_and_nonce_must_both_be_equal, {"operation": "commit", "forgery": forgery})
    for forgery in ("another-nonce", "higher-epoch", "higher-epoch-and-another-nonce")
]
MUTANTS += [
    (LaterEpochsPass, test_fencing.test_a_token_given_anew_after_all_was_deleted_is_no_old_one, {}),
    (AnybodyDeletes, test_instances.test_what_is_deleted_with_a_note_is_deleted_by_its_owner_only, {}),
    (NoSequenceCheck, test_resends.test_a_resent_commit_changes_nothing_and_has_the_same_outcomes, {}),
    (NoSequenceCheck, test_resends.test_a_store_that_holds_less_than_it_acknowledged_says_so, {"ahead": 2}),
    (NoSequenceCheck, test_resends.test_a_sequence_that_the_store_has_passed_is_an_internal_error, {}),
    (ForgetsOutcomes, test_resends.test_a_resent_commit_changes_nothing_and_has_the_same_outcomes, {}),
    (RecognisesWhatOthersApplied, test_resends.test_a_sequence_applied_under_another_token_is_no_resend, {}),
    (ResultOutsideTheCommit, test_results.test_a_refused_commit_stores_no_result, {}),
    (KeysAreNotReserved, test_results.test_a_reserved_key_must_have_no_result, {}),
    (CommitsCancelledCalls, test_inbox.test_a_cancelled_call_cannot_be_committed, {}),
    (TrimsBeforeTheSnapshotIsKept, test_snapshots.test_a_delta_needs_a_snapshot, {"follows": 1}),
    (TrimsUnconfirmedEffects, test_snapshots.test_records_with_unconfirmed_effects_are_not_trimmed, {}),
    (DropsBlobsOfTheFirstRecord, test_snapshots.test_a_blob_is_kept_until_every_record_that_named_it_is_trimmed, {}),
    (NoDedupRecord, test_foreign.test_effects_apply_once, {}),
    (DedupRecordExpires, test_foreign.test_the_dedup_record_outlives_the_values, {}),
    (CancelsWhatHasBegun, test_inbox.test_a_call_that_has_begun_cannot_be_cancelled, {}),
    (TakesWithoutCounting, test_inbox.test_each_take_counts_an_attempt, {}),
    (HaltedOnesAreDue, test_due.test_a_halted_one_is_not_among_them, {}),
    (AppendsBeforeTheCommitIsChecked, test_feeds.test_a_resent_commit_adds_nothing, {}),
    (AppendsBeforeTheCommitIsChecked, test_feeds.test_a_refused_commit_adds_nothing, {}),
    (TellsTheWatcherOfItself, test_feeds.test_the_watching_instance_is_not_told_of_its_own_changes, {}),
    (FullFeedsForgetTheOldest, test_feeds.test_changes_go_when_they_were_told, {}),
    (FeedsBeginAgainUnderTheSameName, test_feeds.test_a_feed_is_told_from_the_one_before_it, {}),
    (CountersAreDoubles, test_atomics.test_counters_are_exact_over_64_bits, {"value": b"9007199254740993"}),
]


async def _run(test: Test, store: type[MemoryStore], path: Path, parameters: dict[str, Any]) -> None:
    """The test as pytest would run it for this store."""
    world = Memory(Setting(lambda name: pytest.fail(name), path), store)
    worker = WorkerId("ns-" + uuid.uuid4().hex[:8], "carts")
    fixtures = {"store": await world.open(worker), "other": await world.open(worker), "wait": world.wait}
    fixtures |= {"away": fixtures["store"], "away_too": fixtures["other"], "away_wait": world.wait}
    wanted = inspect.signature(test).parameters
    await test(**parameters, **{name: value for name, value in fixtures.items() if name in wanted})


@pytest.mark.parametrize(("mutant", "test", "parameters"), MUTANTS, ids=lambda part: getattr(part, "__name__", None))
async def test_a_wrong_store_is_found(
    mutant: type[MemoryStore], test: Test, parameters: dict[str, Any], tmp_path: Path
) -> None:
    await _run(test, MemoryStore, tmp_path, parameters)
    with pytest.raises((AssertionError, PerdureError, pytest.fail.Exception)):
        await _run(test, mutant, tmp_path, parameters)
