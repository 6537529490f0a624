"""A short round of the soak: `make soak` runs a million effects."""

from __future__ import annotations

import pytest

from faults.asking import Wrong
from faults.hosts import Nursery
from faults.soak import soak_round
from faults.stores import Servers

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_short_soak(hosts: Nursery, fault_servers: Servers, seed: int) -> None:
    made = await soak_round(seed, 3000, 6, hosts, fault_servers)
    assert made.effects >= 3000
    assert made.kills >= 6
    assert made.once.sent > made.once.doubtful


async def test_the_soak_finds_a_wrong_store(hosts: Nursery, fault_servers: Servers, seed: int) -> None:
    with pytest.raises(Wrong):
        await soak_round(seed, 10_000, 60, hosts, fault_servers, mutant="result-outside-the-commit")
