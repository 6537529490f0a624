"""Each rule of the protocol, left out: the faults that the suite injects must find it, and nothing else may."""

from __future__ import annotations

import pytest

from faults.hosts import Nursery
from faults.mutants import BETWEEN, MUTANTS
from faults.network import network_sweep
from faults.relay import Harm
from faults.rewinding import two_owners_of_one_epoch
from faults.running import run_schedule
from faults.scenario import Call, Scenario
from faults.schedules import Fault, Schedule, Setting
from faults.stores import Servers

pytestmark = pytest.mark.asyncio(loop_scope="module")
FOUND_BY = {
    "no-token-check": Fault("home.commit.before", 7, "stop"),
    "result-outside-the-commit": Fault(BETWEEN, 1),
    "apply-before-journal": Fault(BETWEEN, 1),
    "no-dedup": Fault("away.apply_foreign.after", 1),
    "trim-before-the-pointer": Fault(BETWEEN, 1),
    "dedup-records-expire": Fault("away.apply_foreign.after", 1),
}
"""Mutants that the scripted scenario finds, and the fault."""
LOST_REPLY = Harm("down", "cut", 0)
OVERFLOW = Scenario(
    [
        Call("alice", [{"add": ["near", "n", (1 << 63) - 1]}], "key-1"),
        Call("alice", [{"put": ["near", "a", "YWJj"]}, {"add": ["near", "n", 1]}, {"get": ["near", "a"]}], "key-2"),
        Call("alice", [{"get": ["near", "n"]}], "key-3"),
    ]
)


@pytest.mark.parametrize("mutant", FOUND_BY)
async def test_a_wrong_store_is_found(mutant: str, hosts: Nursery, fault_servers: Servers) -> None:
    setting, fault = Setting("redis", "Invocation", 1, mutant), FOUND_BY[mutant]
    # The controls: without the fault it is not noticed, and the fault alone is overcome.
    assert (await run_schedule(Schedule(setting), hosts, fault_servers)).wrong is None
    if fault.point != BETWEEN:
        right = Schedule(Setting("redis", "Invocation", 1), (fault,))
        assert (await run_schedule(right, hosts, fault_servers)).wrong is None
    found = await run_schedule(Schedule(setting, (fault,)), hosts, fault_servers)
    assert found.came == 1
    assert found.wrong is not None


async def test_a_store_that_takes_a_resent_commit_for_a_new_one(hosts: Nursery, fault_servers: Servers) -> None:
    for mutant in ("", "no-sequence-check"):
        tally = await network_sweep(
            "redis", hosts, fault_servers, 1, only="commit", chosen=[LOST_REPLY], mutant=mutant, say=lambda line: None
        )
        assert bool(tally.wrong) == bool(mutant), tally.wrong


async def test_a_store_that_compares_epochs_by_their_size(hosts: Nursery) -> None:
    assert await two_owners_of_one_epoch(hosts) is None
    wrong = await two_owners_of_one_epoch(hosts, mutant="later-epochs-pass")
    assert wrong is not None


async def test_a_store_that_fails_in_the_middle(hosts: Nursery, fault_servers: Servers) -> None:
    for mutant in ("", "missing-pcall"):
        schedule = Schedule(Setting("redis", "Invocation", 1, mutant))
        outcome = await run_schedule(schedule, hosts, fault_servers, scenario=OVERFLOW)
        assert (outcome.wrong is not None) == bool(mutant), outcome.wrong


async def test_every_mutant_has_its_test() -> None:
    assert MUTANTS.keys() == {*FOUND_BY, "no-sequence-check", "later-epochs-pass", "missing-pcall"}
