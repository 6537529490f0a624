"""Stores that were emptied or set back under a running host: it says so, and resets nothing silently."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from faults.hosts import Host, Nursery
from faults.rewinding import World, world
from faults.scenario import Call, Look

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def _metric(session: aiohttp.ClientSession, host: Host, name: str) -> float:
    async with session.get(f"{host.metrics}/metrics") as reply:
        families = text_string_to_metric_families(await reply.text())
    return sum(sample.value for family in families for sample in family.samples if sample.name == name)


async def _call(made: World, name: str, host: Host) -> tuple[int, Any]:
    path = f"{host.url}/v1/instances/{made.players[0].names[name]}/functions/memory"
    async with made.session.post(path, data=b"[]", headers={"Perdure-Forwarded": "test"}) as reply:
        return reply.status, await reply.json()


async def test_a_store_that_was_emptied_halts_the_host(hosts: Nursery) -> None:
    async with world(hosts) as made:
        host, player = made.hosts[0], made.players[0]
        await player.carry_out(Call("alice", [{"remember": 1}, {"put": ["near", "a", "YWJj"]}], "key-1"))
        async with made.session.get(f"{host.metrics}/readyz") as reply:
            assert reply.status == 200, "the control: it is ready"
        made.servers.redis.do("FLUSHALL")
        for name in ("alice", "zoe", "alice"):
            status, problem = await _call(made, name, host)
            assert (status, problem["code"]) == (503, "lost-writes"), problem
            assert "replaced while this host ran" in problem["detail"]
        async with made.session.get(f"{host.metrics}/readyz") as reply:
            assert reply.status == 503
            assert "contents of the home store were replaced" in await reply.text()
        # Whoever starts a host now accepts the store as it is.
        player.model.memories.clear()
        player.model.buckets["near"].clear()
        successor = await made.another()
        await successor.carry_out(Look("alice"))


async def test_an_old_file_put_back_is_noticed_and_leaves_a_prefix(hosts: Nursery) -> None:
    async with world(hosts) as made:
        host, player = made.hosts[0], made.players[0]
        await player.carry_out(Call("alice", [{"add": ["near", "n", 1]}, {"remember": 1}], "key-1"))
        kept = made.keep()
        before = dict(player.model.buckets["near"])
        await player.carry_out(Call("alice", [{"add": ["near", "n", 2]}, {"remember": 2}], "key-2"))
        assert await _metric(made.session, host, "perdure_lost_commits_total") == 0
        made.put_back(kept)
        player.model.buckets["near"] = before
        player.model.memories["alice"].sum -= 2
        player.model.memories["alice"].ended -= 1
        await player.carry_out(Call("alice", [{"add": ["near", "n", 4]}, {"remember": 4}], "key-3"))
        await player.carry_out(Look("alice"))
        assert await _metric(made.session, host, "perdure_lost_commits_total") >= 1
