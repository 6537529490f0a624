"""Results under idempotency keys: bound to one call, kept for their retention, bounded in number."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from perdure.durable.effects import Put
from perdure.durable.records import CommitStatus
from perdure.durable.store import Store
from providers.owners import OTHER_PRINT, SHOP, Owner, call, look, own, result

Wait = Callable[[float], Awaitable[None]]


async def _nothing_applied(owner: Owner, status: CommitStatus, **fields: Any) -> None:
    store, before = owner.store, await owner.store.peek(owner.instance)
    done = await owner.commit(Put(SHOP, "a", b"wrong"), blobs={b"d" * 32: b"blob"}, foreign=True, **fields)
    assert (done.status, done.outcomes) == (status, [])
    assert await store.peek(owner.instance) == before
    assert await store.get_many(SHOP, ["a"]) == [None]


async def test_a_result_is_stored_with_its_commit(store: Store, other: Store) -> None:
    owner = await own(store)
    assert await store.result("alice", "k") is None
    kept = result("k", b"\0body\xff", OTHER_PRINT)
    await owner.commit(result=kept)
    assert await other.result("alice", "k") == kept
    assert await store.result("alice", "other") is None
    assert await store.result("bob", "k") is None


async def test_a_key_has_one_result(store: Store) -> None:
    owner = await own(store)
    await owner.commit(result=result("k", b"first"))
    await _nothing_applied(owner, CommitStatus.KEY_USED, result=result("k", b"second"))
    await _nothing_applied(owner, CommitStatus.KEY_USED, result=result("k", b"second", OTHER_PRINT))
    assert await store.result("alice", "k") == result("k", b"first")


async def test_a_reserved_key_must_have_no_result(store: Store) -> None:
    owner = await own(store)
    await owner.commit(result=result("k"))
    await _nothing_applied(owner, CommitStatus.KEY_USED, reserves="k")
    await _nothing_applied(owner, CommitStatus.KEY_USED, reserves="k", open=True)
    await _nothing_applied(owner, CommitStatus.KEY_USED, reserves="k", result=result("other"))
    assert await store.result("alice", "other") is None
    assert (await owner.commit(reserves="other")).status is CommitStatus.APPLIED
    assert await store.result("alice", "other") is None


async def test_an_invocation_reserves_its_key_first_and_stores_its_result_last(store: Store) -> None:
    owner = await own(store)
    statuses = [
        (await owner.commit(reserves="k", open=True)).status,
        (await owner.commit(open=True)).status,
        (await owner.commit(result=result("k"))).status,
    ]
    assert statuses == [CommitStatus.APPLIED] * 3


async def test_a_used_key_is_used_by_a_pending_call_too(store: Store) -> None:
    owner = await own(store)
    await store.enqueue("alice", call("k"), 10)
    await owner.commit(result=result("k"))
    await _nothing_applied(owner, CommitStatus.KEY_USED, result=result("k"), pending="k")
    await _nothing_applied(owner, CommitStatus.CANCELLED, pending="k")


async def test_a_key_without_a_pending_call_is_cancelled(store: Store) -> None:
    owner = await own(store)
    await _nothing_applied(owner, CommitStatus.CANCELLED, pending="k", reserves="k", open=True)
    await _nothing_applied(owner, CommitStatus.CANCELLED, pending="k", result=result("k"))
    assert await store.result("alice", "k") is None


async def test_keys_belong_to_one_instance(store: Store) -> None:
    await (await own(store, "alice")).commit(result=result("k"))
    assert (await (await own(store, "bob")).commit(result=result("k"))).status is CommitStatus.APPLIED


async def test_a_refused_commit_stores_no_result(store: Store) -> None:
    owner = await own(store)
    await owner.commit(result=result("used"))
    await owner.commit(reserves="used", result=result("new"))
    await owner.commit(pending="gone", result=result("new"))
    assert await store.result("alice", "new") is None
    assert (await look(store)).sequence == 1


@pytest.mark.parametrize("many", [1, 3])
async def test_so_many_results_are_kept(store: Store, many: int) -> None:
    owner = await own(store)
    for number in range(1, 6):
        await owner.commit(result=result(f"k{number}"), max_results=many)
    kept = [number for number in range(1, 6) if await store.result("alice", f"k{number}") is not None]
    assert kept == list(range(6 - many, 6))


async def test_commits_without_a_result_push_none_out(store: Store) -> None:
    owner = await own(store)
    for number in range(1, 12):
        await owner.commit(result=result(f"k{number}") if number in (1, 2, 10, 11) else None, max_results=3)
    kept = [number for number in range(1, 12) if await store.result("alice", f"k{number}") is not None]
    assert kept == [2, 10, 11]


async def test_a_result_is_gone_after_its_retention(store: Store, wait: Wait) -> None:
    owner = await own(store)
    await owner.commit(result=result("brief"), result_retention_ms=200)
    await owner.commit(result=result("long"))
    assert await store.result("alice", "brief") is not None
    await wait(0.4)
    assert await store.result("alice", "brief") is None
    assert await store.result("alice", "long") is not None


async def test_a_key_is_free_again_after_the_retention(store: Store, wait: Wait) -> None:
    owner = await own(store)
    await owner.commit(result=result("a"), result_retention_ms=200)
    await owner.commit(result=result("b"), result_retention_ms=200)
    await wait(0.4)
    assert (await owner.commit(reserves="a")).status is CommitStatus.APPLIED
    assert (await owner.commit(result=result("a", b"again"))).status is CommitStatus.APPLIED
    assert await store.result("alice", "a") == result("a", b"again")
    await store.enqueue("alice", call("b", fingerprint=OTHER_PRINT), 10)
    renewed = result("b", b"again", OTHER_PRINT)
    assert (await owner.commit(result=renewed, pending="b")).status is CommitStatus.APPLIED


async def test_a_deleted_instance_loses_its_results(store: Store) -> None:
    await (await own(store)).commit(result=result("k"))
    await store.delete_instance("alice")
    assert await store.result("alice", "k") is None
    assert (await (await own(store, nonce="new")).commit(result=result("k"))).status is CommitStatus.APPLIED
