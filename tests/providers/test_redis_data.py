"""What the Redis provider keeps: in which form, of which version, and that nothing stays behind."""

from __future__ import annotations

import pytest

from perdure.durable.effects import BucketAddress, Increment, Put, Scope
from perdure.durable.records import CommitStatus, JournalRecord
from perdure.errors import InternalError
from perdure.host.checking import check_instances
from providers.owners import SHOP, Owner, call, own, result, some_worker
from providers.redis_stores import opened
from support.servers import RedisServer


async def test_a_bucket_that_is_no_bucket_changes_nothing(redis: RedisServer) -> None:
    worker = some_worker()
    async with opened(redis, worker) as store:
        redis.do("SET", f"pd:{{{worker.namespace}/carts}}:b:broken", "x")
        owner = await own(store)
        with pytest.raises(InternalError, match="holds a string"):
            await owner.commit(Put(SHOP, "a", b"1"), Put(BucketAddress(Scope.WORKER, "broken"), "a", b"1"))
        assert await store.get_many(SHOP, ["a"]) == [None]
        assert await store.peek("alice") is None


async def test_deleting_and_purging_leave_no_key(redis: RedisServer) -> None:
    worker = some_worker()
    pattern = f"pd:{{{worker.namespace}/*"
    async with opened(redis, worker) as store:
        owner = await own(store)
        private = BucketAddress(Scope.INSTANCE, "mine", "alice")
        await owner.commit(
            Put(private, "k", b"v", ttl_ms=60_000),
            result=result("r"),
            blobs={b"d" * 32: b"x"},
            component="sha256:1",
            open=True,
            foreign=True,
        )
        await store.applied("alice", owner.token, 1)
        await owner.commit(foreign=True)
        await owner.snapshot(1)
        await store.enqueue("alice", call("a"), 10)
        await store.enqueue("bob", call("a"), 10)
        await store.cancel("bob", "a")
        assert await store.delete_instance("alice") is True
        left = {name.decode().rpartition(":")[2] for name in redis.do("KEYS", pattern)}
        assert left == {"id", "n"}
        await store.purge(lambda removed: None)
        assert redis.do("KEYS", pattern) == []


async def test_an_idle_instance_is_kept_in_its_compact_form(redis: RedisServer) -> None:
    worker, digest = some_worker(), "sha256:" + "5e" * 32
    name = f"pd:{{{worker.namespace}/carts}}:i:alice"
    async with opened(redis, worker) as store:
        await (await own(store)).commit(component=digest)
        assert redis.do("OBJECT", "ENCODING", name) == b"listpack"
        info = await store.instance("alice")
        assert info is not None and info.component == digest
        # The control: with the digest as text, as a former version kept it, the same fields take a larger form.
        redis.do("HSET", name, "c", digest)
        assert redis.do("OBJECT", "ENCODING", name) == b"hashtable"
        info = await store.instance("alice")
        assert info is not None and info.component == digest


async def test_data_of_the_former_version_loads(redis: RedisServer) -> None:
    """As it was laid out before snapshots, inboxes and outcomes."""
    worker = some_worker()
    prefix = f"pd:{{{worker.namespace}/carts}}:"
    redis.do("HSET", prefix + "i:alice", "e", "3", "n", "old", "h", "host-1", "s", "2", "l", "life-1")
    redis.do("RPUSH", prefix + "j:alice", b"PJ\1first", b"PJ\1second")
    redis.do("SADD", prefix + "u:alice", "2")
    redis.do("ZADD", prefix + "instances", 0, "alice")
    redis.do("HSET", prefix + "r:alice", "k", b"f" * 32 + b"body")
    redis.do("ZADD", prefix + "rx:alice", (4e12).__repr__(), "k")
    redis.do("HSET", prefix + "f", "other/bob", "7")
    redis.do("HSET", prefix + "b:shop", "a", "1")
    redis.do("ZADD", prefix + "b:shop:k", 0, "a")
    async with opened(redis, worker) as store:
        assert await store.result("alice", "k") == result("k", b"body")
        info = await store.instance("alice")
        assert info is not None and (info.sequence, info.journal_entries, info.component) == (2, 2, "")
        claim = await store.claim("alice", "new", "host-2")
        assert (claim.token.epoch, claim.previous_host, claim.data.life) == (4, "host-1", "life-1")
        assert claim.data.journal == [JournalRecord(b"PJ\1first"), JournalRecord(b"PJ\1second")]
        assert (claim.data.unapplied, claim.data.snapshot, claim.data.open) == ([2], None, False)
        assert (await store.due(10)).instances == ["alice"]
        owner = Owner(store, "alice", claim.token, 2)
        assert (await owner.commit(reserves="k")).status is CommitStatus.KEY_USED
        await owner.commit(Increment(SHOP, "a", 1), component="sha256:1")
        assert await store.get_many(SHOP, ["a"]) == [b"2"]
        await store.applied("alice", claim.token, 2)
        assert await owner.snapshot(2)
        from perdure.durable.records import ForeignApply

        assert (await store.apply_foreign(ForeignApply("other/bob", 7, []))).status is CommitStatus.DUPLICATE
        assert (await store.apply_foreign(ForeignApply("other/bob", 8, []))).status is CommitStatus.APPLIED


async def test_another_database(redis: RedisServer) -> None:
    worker = some_worker()
    async with opened(redis, worker, url=redis.url[:-1] + "5") as store, opened(redis, worker) as zero:
        await (await own(store)).commit()
        assert await zero.peek("alice") is None


async def test_one_instance_that_cannot_be_read_does_not_hide_the_others(redis: RedisServer) -> None:
    worker = some_worker()
    async with opened(redis, worker) as store:
        for name in ("alice", "bob", "carol"):
            await (await own(store, name)).commit(Put(SHOP, "a", b"1"))
        await store.enqueue("carol", call("k"), 10)
        prefix = f"pd:{{{worker.namespace}/{worker.name}}}"
        redis.do("DEL", f"{prefix}:j:alice")
        redis.do("SET", f"{prefix}:j:alice", "no list")
        redis.do("HSET", f"{prefix}:q:carol", "sk", "short")
        checked = await check_instances(store, ["alice", "bob", "carol"])
    assert [(one.instance, [finding.code for finding in one.findings]) for one in checked] == [
        ("alice", ["record"]),
        # What this suite commits are no entries of the engine's.
        ("bob", ["entry"]),
        ("carol", ["entry", "inbox"]),
    ]
