"""A seeded slice of the clerks' sweep: counters, swaps, a cache, HTTP both ways, sleeps, promises and calls under faults."""

from __future__ import annotations

import random

import pytest

from faults.hosts import Nursery
from faults.schedules import Setting
from faults.stores import BESIDE, HOMES, MEMORIES, Servers
from faults.sweep import Sweep

pytestmark = pytest.mark.asyncio(loop_scope="module")
_EACH = 4
"""Boundaries of each home."""


@pytest.mark.parametrize("home", HOMES)
async def test_a_host_stopped_at_any_boundary(home: str, hosts: Nursery, fault_servers: Servers, seed: int) -> None:
    chance = random.Random(f"clerk{seed}{home}")
    said: list[str] = []
    sweep = Sweep(hosts, fault_servers, chance, share=_EACH, say=said.append)
    foreign = chance.choice(["redis", *(other for other, homes in BESIDE.items() if home in homes)])
    mode, memory = chance.choice(["Invocation", "Effect"]), chance.choice(MEMORIES)
    await sweep.setting(Setting(home, mode, seed, guest="clerk", foreign=foreign, memory=memory))
    assert not sweep.tally.wrong, "\n".join(said)
    assert len(sweep.tally.boundaries) == _EACH


async def test_servers_killed_and_restarted(hosts: Nursery, fault_servers: Servers, seed: int) -> None:
    chance = random.Random(f"clerk-restart{seed}")
    said: list[str] = []
    sweep = Sweep(hosts, fault_servers, chance, share=2, jobs=1, kinds=("restart",), say=said.append)
    home = chance.choice(["redis", "postgres"])
    await sweep.setting(Setting(home, "Invocation", seed, guest="clerk"))
    assert not sweep.tally.wrong, "\n".join(said)
