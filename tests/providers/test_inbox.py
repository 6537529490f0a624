"""Asynchronous calls: accepted, taken, put off, cancelled, finished."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from perdure.durable.effects import Put
from perdure.durable.inbox import Accepted, Cancelled, PendingCall, Taken
from perdure.durable.records import CommitStatus
from perdure.durable.store import Store
from providers.owners import ODD, OTHER_PRINT, PRINT, SHOP, Owner, call, look, own, result, soon

Wait = Callable[[float], Awaitable[None]]


async def _taken(owner: Owner) -> str | None:
    """The key of the call that is taken now."""
    taken = await owner.store.take(owner.instance, owner.token)
    return taken.call.key if taken.call else None


async def _keys(store: Store, instance: str = "alice") -> list[str]:
    return [pending.key for pending in await store.inbox(instance, 1000)]


async def test_an_accepted_call_is_pending(store: Store) -> None:
    before = soon(-1000)
    assert await store.enqueue("alice", call("k", b"\0payload\xff"), 10) is Accepted.ACCEPTED
    pending = await store.pending("alice", "k")
    assert pending is not None and before <= pending.due_ms <= soon(1000)
    assert pending == PendingCall("k", PRINT, b"\0payload\xff", pending.due_ms, 0, begun=False, failure=b"")
    assert await store.inbox("alice", 10) == [pending]
    assert await store.pending("alice", "other") is None
    assert await store.pending("bob", "k") is None
    assert await store.inbox("bob", 10) == []


async def test_a_call_runs_on_another_host_than_accepted_it(store: Store, other: Store) -> None:
    await store.enqueue("alice", call("k"), 10)
    assert await _taken(await own(other)) == "k"


async def test_a_key_is_bound_to_one_call(store: Store) -> None:
    await store.enqueue("alice", call("k"), 10)
    assert await store.enqueue("alice", call("k"), 10) is Accepted.PENDING
    assert await store.enqueue("alice", call("k", fingerprint=OTHER_PRINT), 10) is Accepted.CONFLICT
    owner = await own(store)
    await owner.commit(result=result("k"))
    assert await store.enqueue("alice", call("k"), 10) is Accepted.FINISHED
    assert await store.enqueue("alice", call("k", fingerprint=OTHER_PRINT), 10) is Accepted.CONFLICT
    assert await _keys(store) == []
    assert await store.enqueue("bob", call("k", fingerprint=OTHER_PRINT), 10) is Accepted.ACCEPTED


async def test_an_inbox_holds_so_many_calls(store: Store) -> None:
    for key in ("a", "b"):
        assert await store.enqueue("alice", call(key), 2) is Accepted.ACCEPTED
    assert await store.enqueue("alice", call("c"), 2) is Accepted.FULL
    assert await store.enqueue("alice", call("a"), 2) is Accepted.PENDING
    assert await store.enqueue("alice", call("a", fingerprint=OTHER_PRINT), 2) is Accepted.CONFLICT
    assert await store.enqueue("bob", call("c"), 2) is Accepted.ACCEPTED
    await store.cancel("alice", "a")
    assert await store.enqueue("alice", call("c"), 2) is Accepted.ACCEPTED
    assert await store.enqueue("carol", call("c"), 0) is Accepted.FULL
    assert await store.instance("carol") is None


async def test_calls_are_taken_in_the_order_of_due_times_and_then_of_acceptance(store: Store) -> None:
    owner = await own(store)
    past = soon(-60_000)
    times = {"c": past, "a": past, "b": past, "late": past + 1, "first": past - 1, "future": soon(60_000)}
    for key, due_ms in times.items():
        await store.enqueue("alice", call(key, due_ms=due_ms), 100)
    order = ["first", "c", "a", "b", "late", "future"]
    assert await _keys(store) == order
    assert [pending.key for pending in await store.inbox("alice", 2)] == order[:2]
    for key in order[:-1]:
        assert await _taken(owner) == key
        await owner.commit(result=result(key), pending=key)
    assert await _taken(owner) is None


async def test_many_calls_of_one_instant_keep_their_order(store: Store) -> None:
    owner = await own(store)
    past = soon(-1000)
    keys = [f"k{number}" for number in range(300)]
    for start in range(0, len(keys), 100):
        for key in keys[start : start + 100]:
            await store.enqueue("alice", call(key, b"", due_ms=past), 10_000)
    assert [pending.key for pending in await store.inbox("alice", 10_000)] == keys
    assert await _taken(owner) == "k0"


async def test_take_says_when_to_look_again(store: Store) -> None:
    owner = await own(store)
    assert await store.take("alice", owner.token) == Taken(None, None)
    later, latest = soon(60_000), soon(90_000)
    await store.enqueue("alice", call("latest", due_ms=latest), 10)
    await store.enqueue("alice", call("later", due_ms=later), 10)
    assert await store.take("alice", owner.token) == Taken(None, later)
    assert [pending.attempts for pending in await store.inbox("alice", 10)] == [0, 0]


async def test_a_call_becomes_due(store: Store, wait: Wait) -> None:
    owner = await own(store)
    await store.enqueue("alice", call("k", due_ms=soon(400)), 10)
    assert await _taken(owner) is None
    await wait(0.6)
    assert await _taken(owner) == "k"


async def test_each_take_counts_an_attempt(store: Store) -> None:
    owner = await own(store)
    await store.enqueue("alice", call("k"), 10)
    for attempts in (1, 2, 3):
        taken = (await store.take("alice", owner.token)).call
        assert taken is not None and taken.attempts == attempts
        assert await store.pending("alice", "k") == taken


async def test_a_postponed_call_is_due_again_later(store: Store, wait: Wait) -> None:
    owner = await own(store)
    await store.enqueue("alice", call("k"), 10)
    await store.enqueue("alice", call("next"), 10)
    assert await _taken(owner) == "k"
    await store.postpone("alice", owner.token, "k", 500, b"\0failed\xff")
    pending = await store.pending("alice", "k")
    assert pending is not None and (pending.failure, pending.attempts) == (b"\0failed\xff", 1)
    assert soon(-1000) < pending.due_ms <= soon(1500)
    assert await _keys(store) == ["next", "k"]
    assert await _taken(owner) == "next"
    await owner.commit(result=result("next"), pending="next")
    assert await store.take("alice", owner.token) == Taken(None, pending.due_ms)
    await wait(0.7)
    taken = (await store.take("alice", owner.token)).call
    assert taken is not None
    assert (taken.key, taken.attempts, taken.payload, taken.failure) == ("k", 2, b"call", b"\0failed\xff")


async def test_postponing_what_is_not_pending_is_fine(store: Store) -> None:
    owner = await own(store)
    await store.postpone("alice", owner.token, "nothing", 0, b"x")
    await store.enqueue("alice", call("k"), 10)
    await owner.commit(result=result("k"), pending="k")
    await store.postpone("alice", owner.token, "k", 0, b"x")
    assert await store.inbox("alice", 10) == []


async def test_a_pending_call_never_expires(store: Store, wait: Wait) -> None:
    owner = await own(store)
    await store.enqueue("alice", call("k"), 10)
    await owner.commit(result=result("other"), result_retention_ms=1, max_results=1)
    await wait(0.1)
    await owner.commit(result=result("another"), result_retention_ms=1, max_results=1)
    assert await _taken(owner) == "k"


async def test_a_result_takes_the_call_out_of_the_inbox(store: Store) -> None:
    owner = await own(store)
    for key in ("a", "b"):
        await store.enqueue("alice", call(key), 10)
    assert (await owner.commit(result=result("a"), pending="a")).status is CommitStatus.APPLIED
    assert await _keys(store) == ["b"]


async def test_a_result_of_a_synchronous_call_does_so_too(store: Store) -> None:
    owner = await own(store)
    await store.enqueue("alice", call("k"), 10)
    assert (await owner.commit(result=result("k"))).status is CommitStatus.APPLIED
    assert await _keys(store) == []


async def test_a_result_takes_no_other_call_out_of_the_inbox(store: Store) -> None:
    owner = await own(store)
    await store.enqueue("alice", call("k"), 10)
    done = await owner.commit(Put(SHOP, "a", b"1"), result=result("k", fingerprint=OTHER_PRINT))
    assert done.status is CommitStatus.KEY_USED
    assert (await _keys(store), await store.get_many(SHOP, ["a"])) == (["k"], [None])


async def test_a_cancelled_call_cannot_be_committed(store: Store, other: Store) -> None:
    owner = await own(store)
    await store.enqueue("alice", call("k"), 10)
    assert await _taken(owner) == "k"
    assert await other.cancel("alice", "k") is Cancelled.CANCELLED
    assert await store.pending("alice", "k") is None
    done = await owner.commit(Put(SHOP, "a", b"1"), result=result("k"), pending="k")
    assert (done.status, done.outcomes) == (CommitStatus.CANCELLED, [])
    assert (await owner.commit(Put(SHOP, "a", b"1"), pending="k", open=True)).status is CommitStatus.CANCELLED
    assert await store.get_many(SHOP, ["a"]) == [None]
    assert await store.result("alice", "k") is None
    assert await store.peek("alice") is None
    assert (await owner.commit(Put(SHOP, "a", b"2"))).status is CommitStatus.APPLIED


async def test_a_key_may_be_used_again_after_it_was_cancelled(store: Store) -> None:
    owner = await own(store)
    await store.enqueue("alice", call("k"), 10)
    await store.cancel("alice", "k")
    assert await store.enqueue("alice", call("k", b"new", fingerprint=OTHER_PRINT), 10) is Accepted.ACCEPTED
    # The call that was withdrawn is gone, though another one waits under its key.
    assert (await owner.commit(result=result("k"), pending="k")).status is CommitStatus.CANCELLED
    renewed = result("k", fingerprint=OTHER_PRINT)
    assert (await owner.commit(result=renewed, pending="k")).status is CommitStatus.APPLIED


async def test_a_call_that_has_begun_cannot_be_cancelled(store: Store) -> None:
    owner = await own(store)
    await store.enqueue("alice", call("k"), 10)
    await owner.commit(pending="k", reserves="k", open=True)
    pending = await store.pending("alice", "k")
    assert pending is not None and pending.begun
    assert await store.cancel("alice", "k") is Cancelled.BEGUN
    await store.postpone("alice", owner.token, "k", 0, b"later")
    pending = await store.pending("alice", "k")
    assert pending is not None and pending.begun
    await owner.commit(pending="k", result=result("k"))
    assert await store.cancel("alice", "k") is Cancelled.FINISHED


async def test_what_may_be_cancelled(store: Store) -> None:
    assert await store.cancel("alice", "k") is Cancelled.UNKNOWN
    await store.enqueue("alice", call("k"), 10)
    await store.enqueue("alice", call("later", due_ms=soon(60_000)), 10)
    assert await store.cancel("alice", "other") is Cancelled.UNKNOWN
    assert await store.cancel("bob", "k") is Cancelled.UNKNOWN
    assert await store.cancel("alice", "later") is Cancelled.CANCELLED
    assert await store.cancel("alice", "later") is Cancelled.UNKNOWN
    await (await own(store)).commit(result=result("k"))
    assert await store.cancel("alice", "k") is Cancelled.FINISHED


async def test_of_a_cancel_and_a_commit_at_once_one_takes_place(store: Store, other: Store) -> None:
    owner = await own(store)
    for number in range(20):
        key = f"k{number}"
        await store.enqueue("alice", call(key), 10)
        cancelled, done = await asyncio.gather(
            other.cancel("alice", key), owner.commit(Put(SHOP, key, b"1"), result=result(key), pending=key)
        )
        applied = done.status is CommitStatus.APPLIED
        assert cancelled is (Cancelled.FINISHED if applied else Cancelled.CANCELLED)
        assert await store.get_many(SHOP, [key]) == [b"1" if applied else None]


async def test_the_inbox_survives_a_claim_a_snapshot_and_a_fresh_commit(store: Store) -> None:
    await store.enqueue("alice", call("k"), 10)
    owner = await own(store)
    await owner.commits(2)
    await owner.snapshot(1)
    await owner.commit(fresh=True)
    owner = await own(store, nonce="later")
    assert await _taken(owner) == "k"


async def test_a_deleted_instance_loses_its_inbox(store: Store) -> None:
    await store.enqueue("alice", call("k"), 10)
    await (await own(store)).commit()
    assert await store.delete_instance("alice")
    assert await store.pending("alice", "k") is None
    assert await store.enqueue("alice", call("k", fingerprint=OTHER_PRINT), 1) is Accepted.ACCEPTED


async def test_an_inbox_without_a_commit_can_be_deleted(store: Store) -> None:
    await store.enqueue("alice", call("k"), 10)
    assert await store.delete_instance("alice") is True
    assert await store.inbox("alice", 10) == []
    assert (await store.due(10)).instances == []


async def test_open_says_that_the_invocation_goes_on(store: Store) -> None:
    owner = await own(store)
    for is_open in (False, True, True, False):
        await owner.commit(open=is_open)
        assert (await look(store)).open is is_open
        assert (await store.claim("alice", owner.token.nonce, "h")).data.open is is_open


@pytest.mark.parametrize("name", ODD)
async def test_any_name_of_a_call(store: Store, name: str) -> None:
    instance, key = f"i{name}", f"k{name}"
    assert await store.enqueue(instance, call(key, name.encode()), 10) is Accepted.ACCEPTED
    assert await _keys(store, instance) == [key]
    assert (await store.due(10)).instances == [instance]
    owner = await own(store, instance)
    assert await _taken(owner) == key
    await store.postpone(instance, owner.token, key, 0, name.encode())
    await owner.commit(pending=key, open=True)
    assert await store.cancel(instance, key) is Cancelled.BEGUN
    assert (await owner.commit(pending=key, result=result(key))).status is CommitStatus.APPLIED
    assert await store.inbox(instance, 10) == []
