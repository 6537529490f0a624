"""Every provider is emptied of what a deleted instance has there, in transactions that it takes."""

from __future__ import annotations

from perdure.durable.departing import SEALED_AT, clear, delete_instance
from perdure.durable.effects import BucketAddress, Put, Scope
from perdure.durable.foreign import origin_of
from perdure.durable.policy import BucketPolicy
from perdure.durable.records import CommitStatus, ForeignApply
from perdure.durable.store import ForeignStore
from perdure.providers.memory import MemoryStore, MemoryWorld
from providers.owners import look, own
from support.engine import WORKER, environment

FAR, BOBS, ALL = (
    BucketAddress(Scope.INSTANCE, "far", "alice"),
    BucketAddress(Scope.INSTANCE, "far", "alice2"),
    BucketAddress(Scope.WORKER, "far"),
)


async def test_it_is_emptied_of_one_instance(away: ForeignStore) -> None:
    home = MemoryStore(MemoryWorld(), WORKER)
    policy = BucketPolicy("far", "away", scope=Scope.INSTANCE, limits=away.limits)
    settings = environment({"home": home, "away": away}, policy)
    await (await own(home)).commit()
    origin = origin_of(WORKER, "alice", (await look(home)).life)
    for step in range(10):
        puts = [Put(FAR, f"{'x' * 300}{20 * step + number}", b"v", ttl_ms=3_600_000) for number in range(20)]
        await away.apply_foreign(ForeignApply(origin, step + 1, puts, "alice"))
    for number, bucket in enumerate((BOBS, ALL)):
        await away.apply_foreign(ForeignApply("bob", number + 1, [Put(bucket, "k", b"v")], "alice2"))
    assert await delete_instance("alice", settings)
    await clear("alice", settings)
    assert (await away.keys(FAR, None, 10)).keys == []
    assert [await away.count(bucket) for bucket in (FAR, BOBS, ALL)] == [0, 1, 1]
    late = await away.apply_foreign(ForeignApply(origin, SEALED_AT, [Put(FAR, "late", b"v")], "alice"))
    assert late.status is CommitStatus.DUPLICATE and await away.count(FAR) == 0
