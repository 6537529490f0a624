"""`maxKeys`: guests are refused in the call that would add a key too many, and what they saw stays true through crashes,
replays and other manifests."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from durable.test_crashes import Scenario
from faults.model import Answer, Memory, Model, Step, encoded
from perdure.component.component import BoundComponent
from perdure.durable import buckets, room
from perdure.durable.effects import BucketAddress, Fill, Put, Scope, Swapped
from perdure.durable.instance import DurableInstance
from perdure.durable.policy import BucketPolicy
from perdure.durable.records import ForeignApply
from perdure.durable.settings import CommitMode, MemoryMode
from perdure.durable.store import Store
from perdure.errors import GuestTrapped
from perdure.providers.memory import MemoryStore
from support.crashing import Crash, Fuse, all_crashing
from support.engine import call, deadline, environment, fresh_stores, library

FULL = {"refused": "the bucket has as many keys as it may (maxKeys)"}
BOUND = 2
POLICIES = {
    "own": BucketPolicy("own", "home", Scope.INSTANCE, max_keys=BOUND),
    "near": BucketPolicy("near", "home", max_keys=BOUND),
    "far": BucketPolicy("far", "away", max_keys=BOUND),
    "far-own": BucketPolicy("far-own", "away", Scope.INSTANCE, max_keys=BOUND),
}


def put(bucket: str, key: str, value: bytes = b"v") -> Step:
    return {"put": [bucket, key, encoded(value)]}


class Guest:
    """An open instance, and another one over the same stores after `again`."""

    def __init__(self, ledger: BoundComponent, where: dict[str, Store], name: str = "alice") -> None:
        self._ledger = ledger
        self._name = name
        self.stores = where
        self.code = library(ledger)
        self.open: DurableInstance | None = None

    async def again(self, *policies: BucketPolicy, **settings: object) -> Guest:
        if self.open is not None:
            self.open.close()
        made = environment(self.stores, *(policies or POLICIES.values()), **settings)
        self.open = await DurableInstance.open(self._name, self.code, made, deadline=deadline())
        return self

    async def run(self, *steps: Step | str, key: str | None = None) -> list[Any]:
        assert self.open is not None
        answer = json.loads((await call(self.open, self._ledger, "run", list(steps), key=key)).body)
        assert isinstance(answer, list)
        return answer

    async def keys(self, bucket: str) -> list[str]:
        policy = POLICIES[bucket]
        return (await self.stores[policy.provider].keys(policy.address(self._name), None, 100)).keys


@pytest.fixture
async def guest(ledger: BoundComponent) -> Any:
    made = await Guest(ledger, fresh_stores()).again()
    yield made
    assert made.open is not None
    made.open.close()
    made.code.close()


@pytest.mark.parametrize("bucket", sorted(POLICIES))
async def test_a_key_too_many_is_refused_in_its_own_call(guest: Guest, bucket: str) -> None:
    nothing = "nothing"
    assert await guest.run(put(bucket, "a"), put(bucket, "b"), put(bucket, "c"), put(bucket, "a", b"new")) == [
        nothing, nothing, FULL, nothing,
    ]  # fmt: skip
    assert await guest.run({"get": [bucket, "c"]}, {"get": [bucket, "a"]}) == [
        {"value": None},
        {"value": encoded(b"new")},
    ]
    # Room that is made in a call is there in it; atomic operations need it as well.
    assert await guest.run({"remove": [bucket, "a"]}, put(bucket, "d"), put(bucket, "e"), {"add": [bucket, "n", 1]}) == [
        nothing, nothing, FULL, FULL,
    ]  # fmt: skip
    assert await guest.keys(bucket) == ["b", "d"]
    assert await guest.run({"swap": [bucket, "f", encoded(b"1")]}, {"remove": [bucket, "b"]}, {"add": [bucket, "n", 1]}) == [
        FULL, nothing, {"number": 1},
    ]  # fmt: skip
    assert await guest.run({"add": [bucket, "n", 2]}, {"swap": [bucket, "d", encoded(b"2")]}) == [
        {"number": 3}, {"value": encoded(b"v")},
    ]  # fmt: skip
    assert await guest.keys(bucket) == ["d", "n"]


@pytest.mark.parametrize("bucket", sorted(POLICIES))
async def test_a_trap_leaves_what_gates_made_durable(guest: Guest, bucket: str) -> None:
    """A write to a bucket that others share is a gate; to one's own it is not."""
    with pytest.raises(GuestTrapped):
        await guest.run(put("far-own", "before"), put(bucket, "a"), put(bucket, "b"), put(bucket, "c"), "trap")
    shared = POLICIES[bucket].scope is not Scope.INSTANCE
    assert await guest.keys(bucket) == (["a", "b"] if shared else [])
    assert await guest.keys("far-own") == (["before"] if shared else [])


@pytest.mark.parametrize("bucket", sorted(POLICIES))
@pytest.mark.parametrize("mode", list(CommitMode))
async def test_what_was_refused_stays_refused_under_another_manifest(
    guest: Guest, bucket: str, mode: CommitMode
) -> None:
    await guest.again(commit=mode)
    steps = [put(bucket, key) for key in ("a", "b", "c")]
    answer = await guest.run(*steps, {"remember": 7}, key="1")
    assert answer[2] == FULL
    policy = POLICIES[bucket]
    await guest.stores[policy.provider].apply_foreign(
        ForeignApply("", 0, [Put(policy.address("alice"), "a", b"another's")])
    )
    for most in (None, 1, 100, 2):
        await guest.again(*(dataclasses.replace(other, max_keys=most) for other in POLICIES.values()), commit=mode)
        # Replay writes nothing again.
        assert (await guest.run({"remember": 0}, {"get": [bucket, "a"]}))[0] == {"number": 7}
        assert await guest.run(*steps, {"remember": 7}, key="1") == answer
        assert await guest.keys(bucket) == ["a", "b"]
        found = await guest.stores[policy.provider].get_many(policy.address("alice"), ["a"])
        assert found == [b"another's"]


async def test_instances_that_share_a_bucket_share_its_room(ledger: BoundComponent) -> None:
    where = fresh_stores()
    policy = dataclasses.replace(POLICIES["near"], max_keys=5)
    guests = [
        await Guest(ledger, where, f"i{number}").again(policy, commit=CommitMode.INVOCATION) for number in range(6)
    ]
    found = await asyncio.gather(
        *(guest.run(*(put("near", f"{number}-{n}") for n in range(3))) for number, guest in enumerate(guests))
    )
    answers = [answer for answers in found for answer in answers]
    assert (answers.count("nothing"), answers.count(FULL)) == (5, 13)
    assert await where["home"].count(policy.address("")) == 5
    for guest in guests:
        assert guest.open is not None
        guest.open.close()
        guest.code.close()


async def test_one_asks_the_store_once_far_from_the_bound(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    for name in ("count", "get_many"):
        original = getattr(MemoryStore, name)

        def spy(*args: Any, name: str = name, original: Any = original) -> Any:
            asked.append(name)
            return original(*args)

        monkeypatch.setattr(MemoryStore, name, spy)
    await guest.again(dataclasses.replace(POLICIES["own"], max_keys=50))
    await guest.run(*(put("own", f"k{n}") for n in range(40)))
    assert asked == ["count"]
    await guest.run(*(put("open", f"k{n}") for n in range(40)))
    assert asked == ["count"], "a bucket without a bound costs nothing"


@dataclass
class BoundedModel(Model):
    """Each bucket has BOUND keys at most."""

    buckets: dict[str, dict[str, bytes]] = field(default_factory=lambda: {name: {} for name in POLICIES})

    def _step(self, memory: Memory, step: Step) -> Answer:
        if isinstance(step, dict):
            (kind, args), *_ = step.items()
            if kind in ("put", "add", "swap"):
                assert isinstance(args, list)
                held = self.buckets[args[0]]
                if args[1] not in held and len(held) >= BOUND:
                    return FULL
        return super()._step(memory, step)


def program(chance: random.Random) -> list[Step]:
    def step() -> Step:
        bucket, key = chance.choice(sorted(POLICIES)), chance.choice("abc")
        match chance.randrange(8):
            case 0 | 1 | 2:
                return put(bucket, key, chance.randbytes(3))
            case 3:
                return {"remove": [bucket, key]}
            case 4:
                return {"add": [bucket, "n", chance.randrange(1, 10)]}
            case 5:
                return {"swap": [bucket, key, encoded(chance.randbytes(3))]}
            case 6:
                return {"get": [bucket, key]}
            case _:
                return {"remember": chance.randrange(1, 10)}

    return [step() for _ in range(chance.randrange(2, 7))]


async def _sweep(ledger: BoundComponent, mode: CommitMode, *, applied: bool, scenarios: int) -> None:
    for seed in random.sample(range(1 << 30), scenarios):
        operations = 0
        while True:
            operations += 1
            where, model = fresh_stores(), BoundedModel(effect=mode is CommitMode.EFFECT)
            scenario = Scenario(ledger, where, mode, MemoryMode.INSTANCE, seed, tuple(POLICIES.values()), program)
            fuse = Fuse(operations, applied=applied)
            answers, crashes = await scenario.play(fuse)
            expected = [model.run("alice", steps) for steps in scenario.programs]
            memory = model.memories["alice"]
            what = f"seed {seed}, {mode}, crash at operation {operations} ({fuse.burnt})"
            assert answers == [*expected, [memory.sum, memory.ended]], what
            for name, policy in POLICIES.items():
                address, store = policy.address("alice"), where[policy.provider]
                keys = (await store.keys(address, None, 100)).keys
                assert dict(zip(keys, await store.get_many(address, keys), strict=True)) == model.buckets[name], what
            if not crashes:
                break


@pytest.mark.parametrize("mode", list(CommitMode))
@pytest.mark.parametrize("applied", [False, True], ids=["before", "after"])
async def test_a_crash_at_every_operation(ledger: BoundComponent, mode: CommitMode, applied: bool) -> None:
    await _sweep(ledger, mode, applied=applied, scenarios=4)


@pytest.mark.parametrize("bounded_then", [True, False])
@pytest.mark.parametrize("bucket", ["near", "far"])
async def test_a_call_that_goes_on_after_a_crash_sets_nothing_again(
    ledger: BoundComponent, bucket: str, bounded_then: bool
) -> None:
    where, policy = fresh_stores(), POLICIES[bucket]
    steps: list[Step] = [put(bucket, "a"), {"remember": 1}]
    # The claim, a look for what a former life left, the gate's commit, what it needs elsewhere; then the call's last commit.
    fuse = Fuse(4 if bucket == "near" else 6, applied=False)
    guest = await Guest(ledger, dict(all_crashing(where, fuse))).again()
    with pytest.raises(Crash):
        await guest.run(*steps, key="1")
    assert fuse.burnt == "commit" and await guest.keys(bucket) == ["a"]
    guest.stores = where
    other = Put(policy.address("alice"), "a", b"another's")
    await where[policy.provider].apply_foreign(ForeignApply("", 0, [other]))
    await guest.again(policy if bounded_then else dataclasses.replace(policy, max_keys=None))
    assert await guest.run(*steps, key="1") == ["nothing", {"number": 1}]
    found = await where[policy.provider].get_many(policy.address("alice"), ["a"])
    assert found == [b"another's"]
    assert guest.open is not None
    guest.open.close()
    guest.code.close()


async def test_the_sweep_would_find_a_bound_that_is_not_kept(
    ledger: BoundComponent, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def always(*_: object) -> bool:
        return True

    monkeypatch.setattr(buckets, "room_for", always)
    assert room.room_for is not always
    with pytest.raises(AssertionError):
        await _sweep(ledger, CommitMode.INVOCATION, applied=False, scenarios=50)


async def test_what_is_added_by_other_ways_counts(guest: Guest) -> None:
    """Over HTTP, say."""
    address = BucketAddress(Scope.INSTANCE, "own", "alice")
    fill = Fill(address, (("x", b"1"),), BOUND)
    assert (await guest.stores["home"].apply_foreign(ForeignApply("", 0, [fill]))).outcomes == [Swapped()]
    assert await guest.run(put("own", "a"), put("own", "b"), put("own", "x", base64.b64decode("eA=="))) == [
        "nothing", FULL, "nothing",
    ]  # fmt: skip
