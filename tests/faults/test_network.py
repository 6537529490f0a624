"""A seeded slice of the network sweep: requests and replies cut, swallowed, reset and late."""

from __future__ import annotations

import pytest

from faults.hosts import Nursery
from faults.network import network_sweep
from faults.stores import Servers

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize(("home", "each"), [("redis", 6), ("postgres", 15)])
async def test_a_harmed_network(home: str, each: int, hosts: Nursery, fault_servers: Servers, seed: int) -> None:
    said: list[str] = []
    tally = await network_sweep(home, hosts, fault_servers, seed, most=each, say=said.append)
    assert not tally.wrong, "\n".join([*said, *tally.wrong])
    assert tally.struck >= tally.harms.total() * 0.8, "the relay did not see what it waited for"
