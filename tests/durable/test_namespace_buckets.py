"""Namespace buckets where they do not commit together with a Worker's own: on a Redis Cluster they are foreign ones."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from perdure.component.component import BoundComponent
from perdure.durable.effects import BucketAddress, Scope
from perdure.durable.instance import DurableInstance
from perdure.durable.policy import BucketPolicy
from perdure.durable.records import WorkerId
from perdure.host.config import namespace_apart
from perdure.providers.redis import RedisConfig, RedisStore
from support.crashing import Crash, Fuse, all_crashing
from support.engine import call, deadline, environment, library
from support.servers import RedisServer

SHARED = BucketPolicy("all", namespace_apart("home"), scope=Scope.NAMESPACE)


@pytest.mark.parametrize("applied", [False, True], ids=["before", "after"])
async def test_a_crash_at_every_operation(
    ledger: BoundComponent,
    redis_nodes: list[RedisServer],
    applied: bool,
) -> None:
    operations = 0
    program = [{"add": ["all", "n", 1]}, {"add": ["near", "n", 1]}, {"put": ["all", "k", "QUJD"]}, {"remember": 1}]
    while True:
        operations += 1
        worker = WorkerId(f"ns-{applied}-{operations}", "carts")
        store = await RedisStore.open(RedisConfig(redis_nodes[0].url, cluster=True), worker)
        assert not store.namespace_is_home
        fuse = Fuse(operations, applied=applied)
        answer = b"null"
        for stores in (all_crashing({"home": store}, fuse), {"home": store}):
            settings = replace(
                environment({"home": stores["home"], SHARED.provider: stores["home"]}, SHARED), worker=worker
            )
            try:
                instance = await DurableInstance.open("alice", library(ledger), settings, deadline=deadline())
                answer = (await call(instance, ledger, "run", program, key="first")).body
                instance.close()
            except Crash:
                continue
        assert json.loads(answer)[:2] == [{"number": 1}, {"number": 1}], fuse.burnt
        found = await store.get_many(BucketAddress(Scope.NAMESPACE, "all"), ["n", "k"])
        assert found == [b"1", b"ABC"], fuse.burnt
        await store.close()
        if fuse.burnt is None:
            return
