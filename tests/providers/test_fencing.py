"""Equality fencing: whatever takes a token succeeds only while the instance's token equals the one given."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from perdure.durable.effects import Put
from perdure.durable.records import Commit, OwnerToken, SnapshotWrite
from perdure.durable.store import Store
from perdure.errors import Fenced
from providers.owners import SHOP, call, look, own, result

OPERATIONS: dict[str, Callable[[Store, OwnerToken], Awaitable[object]]] = {
    "verify": lambda store, token: store.verify("alice", token),
    "commit": lambda store, token: store.commit(
        Commit("alice", token, 3, b"stale", effects=[Put(SHOP, "k", b"stale")], result=result("stale"))
    ),
    "resent-commit": lambda store, token: store.commit(Commit("alice", token, 2, b"e2")),
    "applied": lambda store, token: store.applied("alice", token, 1),
    "snapshot": lambda store, token: store.snapshot(SnapshotWrite("alice", token, 1, b"stale", None)),
    "halt": lambda store, token: store.halt("alice", token, b"stale"),
    "take": lambda store, token: store.take("alice", token),
    "postpone": lambda store, token: store.postpone("alice", token, "waiting", 60_000, b"stale"),
}
FORGERIES: dict[str, Callable[[OwnerToken], OwnerToken]] = {
    "another-nonce": lambda token: OwnerToken(token.epoch, "forged"),
    "lower-epoch": lambda token: OwnerToken(token.epoch - 1, token.nonce),
    "higher-epoch": lambda token: OwnerToken(token.epoch + 1, token.nonce),
    "higher-epoch-and-another-nonce": lambda token: OwnerToken(token.epoch + 1, "forged"),
    "no-nonce": lambda token: OwnerToken(token.epoch, ""),
    "nothing": lambda token: OwnerToken(0, ""),
}


async def _refused(store: Store, operation: str, token: OwnerToken) -> None:
    """Fenced, and nothing is changed by it."""
    before = (await store.peek("alice"), await store.instance("alice"), await store.inbox("alice", 10))
    with pytest.raises(Fenced):
        await OPERATIONS[operation](store, token)
    assert (await store.peek("alice"), await store.instance("alice"), await store.inbox("alice", 10)) == before
    assert await store.get_many(SHOP, ["k"]) == [None]
    assert await store.result("alice", "stale") is None


async def _instance(store: Store) -> OwnerToken:
    owner = await own(store, nonce="old", host="h1")
    await owner.commit(foreign=True)
    await owner.commit()
    await store.enqueue("alice", call("waiting"), 10)
    return owner.token


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_former_owner_is_fenced(store: Store, operation: str) -> None:
    old = await _instance(store)
    await own(store, nonce="new", host="h2")
    await _refused(store, operation, old)


@pytest.mark.parametrize("forgery", FORGERIES)
@pytest.mark.parametrize("operation", OPERATIONS)
async def test_epoch_and_nonce_must_both_be_equal(store: Store, operation: str, forgery: str) -> None:
    token = await _instance(store)
    await _refused(store, operation, FORGERIES[forgery](token))


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_the_owner_of_a_deleted_instance_is_fenced(store: Store, operation: str) -> None:
    token = await _instance(store)
    await store.delete_instance("alice")
    with pytest.raises(Fenced):
        await OPERATIONS[operation](store, token)
    assert await store.instance("alice") is None


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_nobody_owns_an_instance_that_was_never_claimed(store: Store, operation: str) -> None:
    for token in (OwnerToken(0, ""), OwnerToken(1, "n")):
        with pytest.raises(Fenced):
            await OPERATIONS[operation](store, token)
    await store.enqueue("alice", call("waiting"), 10)
    for token in (OwnerToken(0, ""), OwnerToken(1, "n")):
        with pytest.raises(Fenced):
            await OPERATIONS[operation](store, token)


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_the_control_the_owner_itself_is_not_fenced(store: Store, operation: str) -> None:
    await OPERATIONS[operation](store, await _instance(store))


async def test_a_claim_fences_whatever_the_other_client_sends_next(store: Store, other: Store) -> None:
    mine = await own(store, nonce="a")
    await mine.commit(Put(SHOP, "k", b"1"))
    theirs = await own(other, nonce="b")
    with pytest.raises(Fenced):
        await mine.commit(Put(SHOP, "k", b"2"))
    await theirs.commit(Put(SHOP, "k", b"3"))
    assert await store.get_many(SHOP, ["k"]) == [b"3"]
    assert len((await look(store)).journal) == 2


async def test_a_token_given_anew_after_all_was_deleted_is_no_old_one(store: Store) -> None:
    """Epochs begin again; the nonce tells the lives apart."""
    old = await own(store, nonce="first")
    await old.commit()
    await store.delete_instance("alice")
    new = await own(store, nonce="second")
    assert new.token.epoch == old.token.epoch
    with pytest.raises(Fenced):
        await old.commit()
