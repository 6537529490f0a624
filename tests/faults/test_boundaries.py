"""A seeded slice of the boundary sweep: `make faults` runs all of it."""

from __future__ import annotations

import random

import pytest

from faults.hosts import Nursery
from faults.running import run_schedule
from faults.scenario import random_mix
from faults.schedules import Fault, Schedule, Setting
from faults.stores import MEMORIES, Servers
from faults.sweep import Sweep

pytestmark = pytest.mark.asyncio(loop_scope="module")
_EACH = 5
"""Boundaries of each home and mode."""


@pytest.mark.parametrize("home", ["redis", "sqlite", "postgres"])
@pytest.mark.parametrize("mode", ["Invocation", "Effect"])
async def test_a_host_stopped_at_any_boundary(
    home: str, mode: str, hosts: Nursery, fault_servers: Servers, seed: int
) -> None:
    said: list[str] = []
    chance = random.Random(f"{seed}{home}{mode}")
    sweep = Sweep(hosts, fault_servers, chance, share=_EACH, say=said.append)
    await sweep.setting(Setting(home, mode, seed, memory=chance.choice(MEMORIES)))
    assert not sweep.tally.wrong, "\n".join(said)
    assert len(sweep.tally.boundaries) == _EACH
    assert sweep.tally.faults.total() >= _EACH - sweep.tally.missed


@pytest.mark.parametrize("home", ["redis", "postgres"])
async def test_servers_killed_and_restarted_at_any_boundary(
    home: str, hosts: Nursery, fault_servers: Servers, seed: int
) -> None:
    said: list[str] = []
    chance = random.Random(f"restart{seed}{home}")
    sweep = Sweep(hosts, fault_servers, chance, share=4, jobs=1, kinds=("restart",), say=said.append)
    await sweep.setting(Setting(home, "Invocation", seed))
    assert not sweep.tally.wrong, "\n".join(said)


async def test_random_mixes_with_kills_at_random_boundaries(hosts: Nursery, fault_servers: Servers, seed: int) -> None:
    chance = random.Random(f"mix{seed}")
    for _ in range(3):
        home, mode = chance.choice(["redis", "postgres"]), chance.choice(["Invocation", "Effect"])
        setting = Setting(home, mode, chance.randrange(10**6), memory=chance.choice(MEMORIES))
        operation = chance.choice(["home.commit", "home.take", "home.claim", "away.apply_foreign", "home.applied"])
        faults = [Fault(f"{operation}.{when}", chance.randrange(1, 9)) for when in ("before", "after")]
        schedule = Schedule(setting, tuple(faults))
        outcome = await run_schedule(schedule, hosts, fault_servers, scenario=random_mix(setting.seed))
        assert outcome.wrong is None, f"{outcome.wrong}\nagain: {schedule.command} --mix"
