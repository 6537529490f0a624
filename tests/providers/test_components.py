"""Components: their bytes, and how many instances run on each."""

from __future__ import annotations

from perdure.durable.records import WorkerId
from perdure.durable.store import Store
from providers.owners import own
from providers.worlds import World

OLD, NEW, OTHER = (f"sha256:{digit * 64}" for digit in "123")


async def _used(store: Store) -> dict[str, int]:
    return {digest: count for digest, count in (await store.components()).items() if count}


async def test_a_commit_names_what_its_instance_runs(store: Store) -> None:
    assert await _used(store) == {}
    alice, bob = await own(store, "alice"), await own(store, "bob")
    await alice.commit(component=OLD)
    await alice.commit(component=OLD)
    await bob.commit(component=OLD)
    assert await _used(store) == {OLD: 2}
    info = await store.instance("alice")
    assert info is not None and info.component == OLD


async def test_an_instance_may_change_its_component(store: Store) -> None:
    alice, bob = await own(store, "alice"), await own(store, "bob")
    await alice.commit(component=OLD)
    await bob.commit(component=OLD)
    await alice.commit(component=NEW)
    assert await _used(store) == {OLD: 1, NEW: 1}
    await bob.commit(component=NEW, fresh=True)
    assert await _used(store) == {NEW: 2}
    await alice.commit(component=OLD)
    assert await _used(store) == {OLD: 1, NEW: 1}


async def test_a_commit_that_is_not_applied_changes_nothing(store: Store) -> None:
    alice = await own(store)
    first = alice.next(component=OLD)
    await store.commit(first)
    await store.commit(first)
    alice.sequence = 1
    await alice.commit(component=NEW, pending="gone")
    assert await _used(store) == {OLD: 1}


async def test_a_deleted_instance_runs_on_nothing(store: Store) -> None:
    for name in ("alice", "bob"):
        await (await own(store, name)).commit(component=OLD)
    await store.delete_instance("alice")
    assert await _used(store) == {OLD: 1}
    await store.delete_instance("bob")
    await store.delete_instance("bob")
    assert await _used(store) == {}


async def test_bytes_are_kept(store: Store, other: Store) -> None:
    data = bytes(range(256)) * 8192
    await store.keep_component(OLD, data)
    assert await other.component(OLD) == data
    assert await store.component(NEW) is None


async def test_bytes_of_what_no_instance_runs_are_dropped_by_the_next(store: Store) -> None:
    await store.keep_component(OLD, b"old")
    await store.keep_component(OTHER, b"other")
    assert await store.component(OLD) is None
    alice = await own(store)
    await alice.commit(component=OTHER)
    await store.keep_component(NEW, b"new")
    assert [await store.component(digest) for digest in (OLD, OTHER, NEW)] == [None, b"other", b"new"]
    await alice.commit(component=NEW)
    assert await store.component(OTHER) == b"other"
    await store.keep_component(NEW, b"new")
    assert [await store.component(digest) for digest in (OTHER, NEW)] == [None, b"new"]


async def test_bytes_of_what_is_spared_are_kept(store: Store) -> None:
    for digest in (OLD, OTHER):
        await store.keep_component(digest, digest.encode(), [OLD])
    await store.keep_component(NEW, b"new", [OLD, OTHER, "sha256:never-kept"])
    assert [await store.component(digest) for digest in (OLD, OTHER, NEW)] == [OLD.encode(), OTHER.encode(), b"new"]
    await store.keep_component(NEW, b"new", [OTHER])
    assert [await store.component(digest) for digest in (OLD, OTHER, NEW)] == [None, OTHER.encode(), b"new"]


async def test_bytes_are_kept_while_a_deleted_instance_is_not_the_last(store: Store) -> None:
    await store.keep_component(OLD, b"old")
    for name in ("alice", "bob"):
        await (await own(store, name)).commit(component=OLD)
    await store.delete_instance("alice")
    await store.keep_component(NEW, b"new")
    assert await store.component(OLD) == b"old"
    await store.delete_instance("bob")
    await store.keep_component(NEW, b"new")
    assert await store.component(OLD) is None


async def test_they_belong_to_one_worker(world: World, worker: WorkerId) -> None:
    mine, theirs = await world.open(worker), await world.open(WorkerId(worker.namespace, "others"))
    await mine.keep_component(OLD, b"mine")
    await (await own(mine)).commit(component=OLD)
    assert await theirs.component(OLD) is None
    await theirs.keep_component(NEW, b"theirs")
    assert await mine.component(OLD) == b"mine"
    assert await _used(theirs) == {}
    await mine.purge(lambda removed: None)
    assert await mine.component(OLD) is None
    assert await _used(mine) == {}
    assert await theirs.component(NEW) == b"theirs"
