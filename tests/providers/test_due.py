"""Who has something to do, found by an index; and the reason why an instance must not run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from perdure.durable.records import WorkerId
from perdure.durable.store import Store
from providers.owners import call, look, own, result, soon
from providers.worlds import World

Wait = Callable[[float], Awaitable[None]]


async def _due(store: Store) -> list[str]:
    return (await store.due(100)).instances


async def test_nobody_has_anything_to_do_at_first(store: Store) -> None:
    await (await own(store)).commits(2)
    found = await store.due(10)
    assert (found.instances, found.next_ms) == ([], None)
    assert soon(-5000) < found.now_ms < soon(5000)


async def test_a_due_call(store: Store) -> None:
    await store.enqueue("alice", call("k"), 10)
    assert await _due(store) == ["alice"]
    owner = await own(store)
    assert await _due(store) == ["alice"]
    await store.take("alice", owner.token)
    assert await _due(store) == ["alice"]
    await owner.commit(pending="k", result=result("k"))
    assert await _due(store) == []


async def test_a_cancelled_call(store: Store) -> None:
    await store.enqueue("alice", call("k"), 10)
    await store.enqueue("bob", call("k"), 10)
    await store.cancel("alice", "k")
    assert await _due(store) == ["bob"]


async def test_the_longest_due_is_the_first(store: Store) -> None:
    for name, ago in (("b", 3000), ("a", 1000), ("d", 4000), ("c", 2000)):
        await store.enqueue(name, call("k", due_ms=soon(-ago)), 10)
    assert await _due(store) == ["d", "b", "c", "a"]
    assert (await store.due(2)).instances == ["d", "b"]


async def test_an_earlier_call_counts(store: Store) -> None:
    await store.enqueue("a", call("k", due_ms=soon(-2000)), 10)
    await store.enqueue("b", call("k", due_ms=soon(-1000)), 10)
    await store.enqueue("b", call("earlier", due_ms=soon(-3000)), 10)
    assert await _due(store) == ["b", "a"]
    await store.cancel("b", "earlier")
    assert await _due(store) == ["a", "b"]


async def test_the_next_one_is_told_when_none_is_due(store: Store, wait: Wait) -> None:
    soonest, later = soon(700), soon(60_000)
    await store.enqueue("later", call("k", due_ms=later), 10)
    await store.enqueue("soonest", call("k", due_ms=soonest), 10)
    found = await store.due(10)
    assert (found.instances, found.next_ms) == ([], soonest)
    await wait(0.9)
    found = await store.due(10)
    assert (found.instances, found.next_ms) == (["soonest"], None)
    await store.cancel("soonest", "k")
    assert (await store.due(10)).next_ms == later
    await store.cancel("later", "k")
    assert (await store.due(10)).next_ms is None


async def test_a_postponed_call(store: Store) -> None:
    owner = await own(store)
    await store.enqueue("alice", call("k"), 10)
    await store.take("alice", owner.token)
    await store.postpone("alice", owner.token, "k", 60_000, b"")
    found = await store.due(10)
    pending = await store.pending("alice", "k")
    assert pending is not None and (found.instances, found.next_ms) == ([], pending.due_ms)


async def test_an_invocation_that_has_not_ended(store: Store) -> None:
    owner = await own(store)
    await owner.commit(open=True)
    assert await _due(store) == ["alice"]
    await owner.commit(open=True)
    await own(store, nonce="next")
    assert await _due(store) == ["alice"]
    owner = await own(store, nonce="last")
    await owner.commit()
    assert await _due(store) == []


async def test_an_ended_invocation_leaves_the_calls_that_wait(store: Store) -> None:
    owner = await own(store)
    await store.enqueue("alice", call("k", due_ms=soon(60_000)), 10)
    await owner.commit(open=True)
    assert await _due(store) == ["alice"]
    await owner.commit()
    found = await store.due(10)
    assert found.instances == [] and found.next_ms is not None


async def test_effects_that_are_not_confirmed(store: Store) -> None:
    owner = await own(store)
    await owner.commit(foreign=True)
    await owner.commit(foreign=True)
    await owner.commit()
    assert await _due(store) == ["alice"]
    await store.applied("alice", owner.token, 2)
    assert await _due(store) == ["alice"]
    await store.applied("alice", owner.token, 1)
    assert await _due(store) == []


async def test_a_halted_one_is_not_among_them(store: Store, wait: Wait) -> None:
    owner = await own(store)
    await owner.commit(open=True, foreign=True)
    await store.halt("alice", owner.token, b"\0poison\xff")
    assert await _due(store) == []
    await store.enqueue("alice", call("k"), 10)
    await store.postpone("alice", owner.token, "k", 0, b"")
    await owner.commit(open=True, foreign=True)
    found = await store.due(10)
    assert (found.instances, found.next_ms) == ([], None)
    later = await own(store, nonce="later")
    assert await _due(store) == []
    await store.halt("alice", later.token, None)
    assert await _due(store) == ["alice"]


async def test_the_reason_is_kept_until_it_is_taken_back(store: Store) -> None:
    owner = await own(store)
    await owner.commit()
    assert (await look(store)).halt is None
    for reason in (b"first", b"", b"\0\xff"):
        await store.halt("alice", owner.token, reason)
        assert (await look(store)).halt == reason
        assert (await store.claim("alice", owner.token.nonce, "h")).data.halt == reason
        info = await store.instance("alice")
        assert info is not None and info.halt == reason
    await owner.commit()
    assert (await look(store)).halt == b"\0\xff"
    await store.halt("alice", owner.token, None)
    assert (await look(store)).halt is None


async def test_an_empty_reason_halts_too(store: Store) -> None:
    owner = await own(store)
    await owner.commit(open=True)
    await store.halt("alice", owner.token, b"")
    assert await _due(store) == []


async def test_an_instance_may_be_halted_before_its_first_commit(store: Store) -> None:
    await store.enqueue("alice", call("k"), 10)
    owner = await own(store)
    await store.halt("alice", owner.token, b"why")
    assert await _due(store) == []
    assert (await own(store, nonce="next")).sequence == 0
    info = await store.instance("alice")
    assert info is not None and (info.halt, info.pending) == (b"why", 1)


@pytest.mark.parametrize("way", ["call", "open", "foreign"])
async def test_a_deleted_instance_has_nothing_to_do(store: Store, way: str) -> None:
    owner = await own(store)
    await owner.commit(open=way == "open", foreign=way == "foreign")
    if way == "call":
        await store.enqueue("alice", call("k"), 10)
    assert await _due(store) == ["alice"]
    await store.delete_instance("alice")
    assert await _due(store) == []
    await (await own(store, nonce="again")).commit()
    assert await _due(store) == []


async def test_a_due_index_belongs_to_one_worker(world: World, worker: WorkerId) -> None:
    mine, theirs = await world.open(worker), await world.open(WorkerId(worker.namespace, "others"))
    await mine.enqueue("alice", call("k"), 10)
    assert (await theirs.due(10)).instances == []
    await theirs.enqueue("bob", call("k"), 10)
    assert (await mine.due(10)).instances == ["alice"]
    await mine.purge(lambda removed: None)
    assert (await mine.due(10)).instances == []
    assert (await theirs.due(10)).instances == ["bob"]
