"""A seeded slice of the network sweep: requests and replies cut, swallowed, reset and late."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from pathlib import Path

import aiohttp
import pytest

from faults.hosts import Nursery
from faults.model import Model
from faults.network import network_sweep
from faults.player import Player
from faults.relay import Harm, relay
from faults.scenario import Call, Look
from faults.schedules import Setting
from faults.stores import Servers, through

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize(("home", "each"), [("redis", 6), ("postgres", 15)])
async def test_a_harmed_network(home: str, each: int, hosts: Nursery, fault_servers: Servers, seed: int) -> None:
    said: list[str] = []
    tally = await network_sweep(home, hosts, fault_servers, seed, most=each, say=said.append)
    assert not tally.wrong, "\n".join([*said, *tally.wrong])
    assert tally.struck >= tally.harms.total() * 0.8, "the relay did not see what it waited for"


async def test_a_commit_that_arrives_after_its_host_was_replaced(hosts: Nursery, fault_servers: Servers) -> None:
    place = fault_servers.place(Setting("redis", "Invocation", 1), Path(tempfile.mkdtemp(dir=hosts.directory)))
    direct = place.home_url
    async with relay(fault_servers.redis.port) as between, aiohttp.ClientSession() as session:
        place.home_url = through(direct, port=between.port)
        first = await hosts.host("a", place.write(), place.data)
        await first.start()
        place.home_url = direct
        second = await hosts.host("b", place.write(), place.data)
        model, names = Model(effect=False), place.names(["alice"])
        client, successor = (Player(session, [host], names, model) for host in (first, second))
        await client.carry_out(Call("alice", [{"add": ["near", "n", 1]}, {"remember": 1}], "key-1"))
        between.arm(Harm("up", "late", seconds=1.0), b"perdure_commit_")
        call = Call("alice", [{"put": ["near", "a", "YWJj"]}, {"add": ["near", "n", 2]}, {"remember": 2}], "key-2")
        sending = asyncio.create_task(client.carry_out(call))
        await between.held.wait()
        await first.kill()
        with contextlib.suppress(Exception):
            await sending
        # What the client has begun there it repeats here.
        model.buckets["near"], model.memories["alice"].sum = {"n": b"1"}, 1
        model.memories["alice"].ended = 1
        await successor.carry_out(call)
        await successor.carry_out(Call("alice", [{"put": ["near", "a", "eHl6"]}, {"remember": 4}], "key-3"))
        await between.struck.wait()
        await asyncio.sleep(0.1)
        await successor.carry_out(Look("alice"))
        assert await place.contents(fault_servers) == model.buckets
        await second.kill()
    await place.clear(fault_servers)
