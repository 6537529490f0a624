"""Recognised resends: after a lost reply the caller sends the very same request again."""

from __future__ import annotations

import contextlib

import pytest

from perdure.durable.effects import Counted, Increment, Put
from perdure.durable.inbox import Accepted, Cancelled
from perdure.durable.records import Commit, CommitStatus, ForeignApply, HostRecord, JournalRecord
from perdure.durable.store import Store
from perdure.errors import InternalError, LostWrites
from providers.owners import SHOP, call, look, own, result


async def test_a_resent_claim_changes_nothing(store: Store) -> None:
    first = await store.claim("alice", "n1", "h")
    await store.commit(Commit("alice", first.token, 1, b"e1"))
    again = await store.claim("alice", "n1", "h")
    assert (again.token, again.data.life, again.store) == (first.token, first.data.life, first.store)
    assert again.data.journal == [JournalRecord(b"e1")]


async def test_a_claim_resent_when_another_is_owner_is_a_new_one(store: Store) -> None:
    first = await store.claim("alice", "n1", "h1")
    second = await store.claim("alice", "n2", "h2")
    third = await store.claim("alice", "n1", "h1")
    assert [first.token.epoch, second.token.epoch, third.token.epoch] == [1, 2, 3]


async def test_a_resent_commit_changes_nothing_and_has_the_same_outcomes(store: Store) -> None:
    owner = await own(store)
    await owner.commit(Put(SHOP, "before", b"1"))
    commit = owner.next(
        Increment(SHOP, "n", 5), Put(SHOP, "a", b"1"), Increment(SHOP, "n", 1), result=result("k"), foreign=True
    )
    assert (await store.commit(commit)).outcomes == [Counted(5), Counted(6)]
    before = await store.peek("alice")
    for _ in range(2):
        again = await store.commit(commit)
        assert (again.status, again.outcomes) == (CommitStatus.DUPLICATE, [Counted(5), Counted(6)])
    assert await store.peek("alice") == before
    assert await store.get_many(SHOP, ["n"]) == [b"6"]


async def test_a_commit_resent_by_another_client_is_recognised(store: Store, other: Store) -> None:
    owner = await own(store)
    commit = owner.next(Increment(SHOP, "n", 1))
    await store.commit(commit)
    assert await other.commit(commit) == await store.commit(commit)
    assert await store.get_many(SHOP, ["n"]) == [b"1"]


async def test_the_last_commit_is_recognised_after_a_snapshot_and_after_what_others_may_do(store: Store) -> None:
    owner = await own(store)
    await owner.commits(3)
    commit = owner.next(Increment(SHOP, "n", 1))
    await store.commit(commit)
    owner.sequence += 1
    assert await owner.snapshot(3)
    await store.enqueue("alice", call("k"), 10)
    await store.halt("alice", owner.token, b"no")
    assert await store.commit(commit) == await store.commit(commit)
    assert (await store.commit(commit)).outcomes == [Counted(1)]


async def test_a_fresh_commit_is_recognised(store: Store) -> None:
    owner = await own(store)
    await owner.commits(2)
    commit = owner.next(Increment(SHOP, "n", 1), fresh=True)
    await store.commit(commit)
    again = await store.commit(commit)
    assert (again.status, again.outcomes) == (CommitStatus.DUPLICATE, [Counted(1)])


async def test_a_commit_with_a_used_up_pending_call_is_recognised(store: Store) -> None:
    """Its own effect on the inbox and on the results must not refuse it."""
    owner = await own(store)
    await store.enqueue("alice", call("k"), 10)
    commit = owner.next(result=result("k"), pending="k", reserves="k")
    assert (await store.commit(commit)).status is CommitStatus.APPLIED
    assert (await store.commit(commit)).status is CommitStatus.DUPLICATE


async def test_an_old_sequence_changes_nothing(store: Store) -> None:
    owner = await own(store)
    old = owner.next(Put(SHOP, "a", b"old"))
    await owner.commit(Put(SHOP, "a", b"old"))
    await owner.commit(Put(SHOP, "a", b"new"))
    with contextlib.suppress(InternalError):
        assert (await store.commit(old)).status is CommitStatus.DUPLICATE
    assert await store.get_many(SHOP, ["a"]) == [b"new"]
    assert (await look(store)).sequence == 2


async def test_a_sequence_applied_under_another_token_is_no_resend(store: Store) -> None:
    """An owner that commits what its predecessor has committed is wrong about the state it stands on."""
    former = await own(store, nonce="a")
    await former.commit(Put(SHOP, "a", b"1"))
    present = await own(store, nonce="b")
    with pytest.raises(InternalError):
        await store.commit(Commit("alice", present.token, 1, b"mine", effects=[Put(SHOP, "a", b"2")]))
    assert await store.get_many(SHOP, ["a"]) == [b"1"]
    assert (await look(store)).journal == [JournalRecord(b"e1")]


async def test_a_sequence_that_the_store_has_passed_is_an_internal_error(store: Store) -> None:
    former = await own(store, nonce="a")
    await former.commits(3)
    present = await own(store, nonce="b")
    with pytest.raises(InternalError):
        await store.commit(Commit("alice", present.token, 2, b"x"))


@pytest.mark.parametrize("ahead", [2, 3, 1000])
async def test_a_store_that_holds_less_than_it_acknowledged_says_so(store: Store, ahead: int) -> None:
    owner = await own(store)
    await owner.commit()
    lost = Commit("alice", owner.token, 1 + ahead, b"x", effects=[Put(SHOP, "a", b"1")], result=result("k"))
    with pytest.raises(LostWrites):
        await store.commit(lost)
    assert (await look(store)).sequence == 1
    assert await store.get_many(SHOP, ["a"]) == [None]
    assert await store.result("alice", "k") is None


async def test_everything_else_may_be_repeated(store: Store) -> None:
    owner = await own(store)
    await owner.commit(foreign=True)
    for _ in range(2):
        await store.applied("alice", owner.token, 1)
        await store.verify("alice", owner.token)
        await store.halt("alice", owner.token, b"why")
    assert ((await look(store)).unapplied, (await look(store)).halt) == ([], b"why")
    for _ in range(2):
        await store.halt("alice", owner.token, None)
    assert (await look(store)).halt is None
    accepted = [await store.enqueue("alice", call("k"), 10) for _ in range(2)]
    assert accepted == [Accepted.ACCEPTED, Accepted.PENDING]
    for _ in range(2):
        await store.postpone("alice", owner.token, "k", 0, b"no")
    assert len(await store.inbox("alice", 10)) == 1
    assert [await store.cancel("alice", "k") for _ in range(2)] == [Cancelled.CANCELLED, Cancelled.UNKNOWN]
    for _ in range(2):
        await store.keep_component("sha256:1", b"component")
        assert await store.announce(HostRecord("h", "http://h"), 5000) == [HostRecord("h", "http://h")]
    for _ in range(2):
        await store.leave("h")
    foreign = ForeignApply("other/alice", 1, [Increment(SHOP, "n", 1)])
    answers = [(await store.apply_foreign(foreign)).status for _ in range(2)]
    assert answers == [CommitStatus.APPLIED, CommitStatus.DUPLICATE]
    assert [await store.delete_instance("alice") for _ in range(2)] == [True, False]
    for _ in range(2):
        await store.purge(lambda removed: None)
    await store.close()
    await store.close()
