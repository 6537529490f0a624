"""Each rule of the protocol, left out: the faults that the suite injects must find it, and nothing else may."""

from __future__ import annotations

from dataclasses import replace

import pytest

from faults.clerk.mutants import BETWEEN, CLERK_MUTANTS
from faults.clerk.scenario import PEER, WATCHED, Complete, Race, Told
from faults.hosts import Nursery
from faults.mutants import MUTANTS
from faults.network import network_sweep
from faults.relay import Harm
from faults.rewinding import two_owners_of_one_epoch
from faults.running import run_schedule
from faults.scenario import ONCE, Action, Call, Fails, Look, Once, Scenario, scripted
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
ASKED_ONCE = Scenario([action for action in scripted(1).actions if not isinstance(action, Fails)])
"""The scripted scenario without what is asked for again though it was answered: that shows some by itself."""
LOST_REPLY = Harm("down", "cut", 0)
OVERFLOW = Scenario(
    [
        Call("alice", [{"add": ["near", "n", (1 << 63) - 1]}], "key-1"),
        Call("alice", [{"put": ["near", "a", "YWJj"]}, {"add": ["near", "n", 1]}, {"get": ["near", "a"]}], "key-2"),
        Call("alice", [{"get": ["near", "n"]}], "key-3"),
    ]
)
NEW_MEMORY = ("parts-lost", "unfinished-forgotten")
TWO_GATES = Scenario(
    [
        Call("alice", [{"remember": 2}], "key-1"),
        Call(
            "alice", [{"add": ["near", "n", 1]}, {"remember": 3}, {"add": ["near", "n", 1]}, {"remember": 4}], "key-2"
        ),
        Look("alice"),
    ]
)
WITHOUT_A_KEY = Scenario([Once("alice", ONCE, 3, [{"add": [*ONCE, 4]}, {"remember": 2}]), Look("alice")])
BETWEEN_THE_GATES = Fault("home.commit.after", 1, "stop")
AFTER_BOTH = Fault("home.commit.after", 3)
SURE = {"ttl": 2.0}
"""A host that is slow is not taken for dead, so that nobody else is fast enough to overcome the fault."""
PLACE = ("near", "promise")
OUTSIDE: dict[str, tuple[Fault, list[Action]]] = {
    "answer-not-journalled": (
        Fault("home.commit.after", 2),
        [Call("alice", [{"fetch": ["/a", "YWJj", "near", "a"]}, {"add": ["near", "n", 1]}], "key-1")],
    ),
    "request-under-a-new-key": (
        Fault("http.send.after", 1),
        [Call("alice", [{"fetch": ["/a", "YWJj", "near", "a"]}], "key-1")],
    ),
    "call-under-a-new-key": (
        Fault("home.commit.after", 3),
        [Look("bob"), Call("alice", [{"call": ["bob", [{"add": ["near", "n", 1]}]]}], "key-1")],
    ),
    "completion-after-the-reply": (
        Fault(BETWEEN, 1),
        [
            Call("alice", [{"promise": [*PLACE]}], "key-1"),
            Complete(PLACE, "YWJj"),
            Call("bob", [{"await": [*PLACE]}], "key-2"),
        ],
    ),
    "change-under-a-new-key": (
        Fault("watch.sent", 1),
        [
            # Until the hosts know of each other, both tell.
            Call("alice", [{"sleep": 400}, {"put": [WATCHED, "a", "YWJj"]}], "key-1"),
            Told(),
            Call("alice", [{"put": [WATCHED, "a", "ZGVm"]}], "key-2"),
            Told(),
        ],
    ),
    "outcome-forgotten": (
        Fault("home.commit.after", 2),
        [Call("alice", [{"add": ["near", "n", 3]}, {"compare-and-swap": ["near", "n", 3, 5]}], "key-1")],
    ),
}
"""Mutants of what guests do outside, the fault that finds them, and what is done meanwhile."""


@pytest.mark.parametrize("mutant", FOUND_BY)
async def test_a_wrong_store_is_found(mutant: str, hosts: Nursery, fault_servers: Servers) -> None:
    setting, fault = Setting("redis", "Invocation", 1, mutant), FOUND_BY[mutant]
    # The controls: without the fault it is not noticed, and the fault alone is overcome.
    assert (await run_schedule(Schedule(setting), hosts, fault_servers, scenario=ASKED_ONCE)).wrong is None
    if fault.point != BETWEEN:
        right = Schedule(Setting("redis", "Invocation", 1), (fault,))
        assert (await run_schedule(right, hosts, fault_servers, scenario=ASKED_ONCE)).wrong is None
    found = await run_schedule(Schedule(setting, (fault,)), hosts, fault_servers, scenario=ASKED_ONCE)
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


async def test_a_call_without_a_key_that_is_begun_again(hosts: Nursery, fault_servers: Servers) -> None:
    async def wrong(mutant: str, *faults: Fault) -> str | None:
        schedule = Schedule(Setting("redis", "Invocation", 1, mutant), faults)
        outcome = await run_schedule(schedule, hosts, fault_servers, scenario=WITHOUT_A_KEY)
        assert outcome.came == len(faults)
        return outcome.wrong

    # The controls: without the fault it is not noticed, and the fault alone is overcome.
    assert await wrong("begun-again-without-a-key") is None
    assert await wrong("", BETWEEN_THE_GATES) is None
    assert await wrong("begun-again-without-a-key", BETWEEN_THE_GATES) is not None


async def test_a_failure_that_its_key_does_not_keep(hosts: Nursery, fault_servers: Servers) -> None:
    fails = Scenario([Fails("alice", "key-1", [{"add": ["near", "n", 1]}])])
    for mutant in ("", "failure-forgotten"):
        schedule = Schedule(Setting("redis", "Invocation", 1, mutant))
        outcome = await run_schedule(schedule, hosts, fault_servers, scenario=fails)
        assert (outcome.wrong is not None) == bool(mutant), outcome.wrong


@pytest.mark.parametrize("mutant", NEW_MEMORY)
async def test_a_new_memory_that_loses_its_call(mutant: str, hosts: Nursery, fault_servers: Servers) -> None:
    right = Setting("redis", "Invocation", 1, memory="Invocation")

    async def wrong(setting: Setting, *faults: Fault) -> str | None:
        outcome = await run_schedule(Schedule(setting, faults), hosts, fault_servers, scenario=TWO_GATES)
        assert outcome.came == len(faults)
        return outcome.wrong

    # The controls: without the fault it is not noticed, and the fault alone is overcome.
    assert await wrong(replace(right, mutant=mutant)) is None
    assert await wrong(right, AFTER_BOTH) is None
    assert await wrong(replace(right, mutant=mutant), AFTER_BOTH) is not None


async def test_a_new_memory_that_keeps_the_journal(hosts: Nursery, fault_servers: Servers) -> None:
    for mutant in ("", "journal-kept"):
        setting = Setting("redis", "Invocation", 1, mutant, memory="Invocation")
        outcome = await run_schedule(Schedule(setting), hosts, fault_servers, scenario=TWO_GATES)
        assert (outcome.wrong is not None) == bool(mutant), outcome.wrong


@pytest.mark.parametrize("mutant", OUTSIDE)
async def test_a_wrong_world_is_found(mutant: str, hosts: Nursery, fault_servers: Servers) -> None:
    fault, actions = OUTSIDE[mutant]

    async def wrong(mutant: str, *faults: Fault) -> str | None:
        schedule = Schedule(Setting("redis", "Invocation", 1, mutant, "clerk"), faults)
        outcome = await run_schedule(schedule, hosts, fault_servers, scenario=Scenario(actions), quick=SURE)
        assert outcome.came == (len(faults) if mutant or fault.point != BETWEEN else 0)
        return outcome.wrong

    # The controls: without the fault it is not noticed, and the fault alone is overcome.
    assert await wrong(mutant) is None
    assert await wrong("", fault) is None
    assert await wrong(mutant, fault) is not None


async def test_a_cache_whose_vacancies_everybody_gets(hosts: Nursery, fault_servers: Servers) -> None:
    race = Race("page", [("alice", "key-1", "YWJj"), ("bob", "key-2", "ZGVm"), (PEER, "key-3", "Z2hp")])
    for mutant in ("", "vacancy-for-everybody"):
        schedule = Schedule(Setting("redis", "Invocation", 1, mutant, "clerk"))
        alone = Call("alice", [{"get-or-set": ["other", "YWJj", 0]}, {"get-or-set": ["other", "ZGVm", 0]}], "key-0")
        scenarios: list[list[Action]] = [[alone], [Look("alice"), Look("bob"), Look(PEER), race]]
        for actions in scenarios:
            outcome = await run_schedule(schedule, hosts, fault_servers, scenario=Scenario(actions))
            assert (outcome.wrong is not None) == (bool(mutant) and race in actions), outcome.wrong


async def test_every_mutant_has_its_test() -> None:
    assert CLERK_MUTANTS.keys() == {*OUTSIDE, "vacancy-for-everybody"}
    assert MUTANTS.keys() == {
        *FOUND_BY,
        "no-sequence-check",
        "later-epochs-pass",
        "missing-pcall",
        "journal-kept",
        "begun-again-without-a-key",
        "failure-forgotten",
        *NEW_MEMORY,
    }
