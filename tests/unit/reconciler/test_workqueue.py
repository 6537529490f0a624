"""The queue: one run at a time for each Worker, none lost, failures spaced out."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest

from perdure.reconciler.workqueue import Key, WorkQueue

CARTS, OTHER = ("shop", "carts"), ("shop", "other")


@dataclass
class Reconciles:
    """What the queue calls: notes each run, waits for `gate`, then does what `then` says."""

    runs: list[Key] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    then: Callable[[Key], float | None] = lambda key: None
    at_once: int = 0
    most: int = 0

    async def __call__(self, key: Key) -> float | None:
        self.runs.append(key)
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        await self.gate.wait()
        self.at_once -= 1
        return self.then(key)


@contextlib.asynccontextmanager
async def queue(reconciles: Reconciles) -> AsyncIterator[WorkQueue]:
    made = WorkQueue(reconciles, lambda key, error: reconciles.errors.append(error))
    running = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def until(check: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not check():
            await asyncio.sleep(0.005)


async def test_triggers_that_come_together_are_one_run() -> None:
    found = Reconciles()
    found.gate.set()
    async with queue(found) as made:
        for _ in range(5):
            made.trigger(CARTS, 0.05)
        await until(lambda: found.runs and not len(made))
        assert found.runs == [CARTS]


@pytest.mark.parametrize("delay", [0.0, 0.05])
async def test_a_trigger_during_a_run_is_not_lost(delay: float) -> None:
    found = Reconciles()
    async with queue(found) as made:
        made.trigger(CARTS)
        await until(lambda: found.runs)
        made.trigger(CARTS, delay)
        made.trigger(CARTS, 30.0)
        found.gate.set()
        await until(lambda: len(found.runs) == 2)
        await until(lambda: not len(made))
        assert found.most == 1, "never two runs of one Worker at once"


async def test_a_trigger_during_a_run_comes_before_the_next_look() -> None:
    found = Reconciles(then=lambda key: 60.0)
    async with queue(found) as made:
        made.trigger(CARTS)
        await until(lambda: found.runs)
        made.trigger(CARTS, 0.05)
        found.gate.set()
        await until(lambda: len(found.runs) == 2)


async def test_one_that_hangs_does_not_hold_up_the_others() -> None:
    found = Reconciles()
    async with queue(found) as made:
        made.trigger(CARTS)
        made.trigger(OTHER)
        await until(lambda: set(found.runs) == {CARTS, OTHER})
        found.gate.set()


async def test_a_failure_is_told_and_retried() -> None:
    def fail_once(key: Key) -> float | None:
        if len(found.runs) == 1:
            raise ValueError("no")
        return None

    found = Reconciles(then=fail_once)
    found.gate.set()
    async with queue(found) as made:
        made.trigger(CARTS)
        await until(lambda: len(found.runs) == 2)
        await until(lambda: not len(made))
        assert [str(error) for error in found.errors] == ["no"]


async def test_how_late_it_is_is_known() -> None:
    found = Reconciles()
    made = WorkQueue(found, lambda key, error: None)
    assert made.latest() == 0.0
    made.trigger(CARTS, 10.0)
    assert made.latest() <= 0.0
    made.trigger(CARTS)
    await asyncio.sleep(0.05)
    assert made.latest() >= 0.04


async def test_those_that_wait_longest_come_first_and_so_many_at_once() -> None:
    found = Reconciles()
    async with queue(found) as made:
        keys = [("shop", f"w{number}") for number in range(100)]
        for number, key in enumerate(keys):
            # Each is first asked for later, and then sooner: the last one that was asked for is due first.
            made.trigger(key, 60.0)
            made.trigger(key, -float(number))
        await until(lambda: found.at_once == 16)
        assert (found.runs, made.latest() > 80) == (keys[:-17:-1], True)
        found.gate.set()
        await until(lambda: not len(made))
        assert found.runs == keys[::-1], "each once, though it was asked for twice"
        assert found.most == 16


async def test_none_is_forgotten_whatever_comes_in_between() -> None:
    choice = random.Random(7)
    keys = [("shop", f"w{number}") for number in range(40)]
    asked: dict[Key, int] = dict.fromkeys(keys, 0)
    seen: dict[Key, int] = dict.fromkeys(keys, 0)

    async def handler(key: Key) -> float | None:
        before = asked[key]
        await asyncio.sleep(choice.random() / 200)
        seen[key] = before
        if choice.random() < 0.1:
            raise ValueError("no")
        return choice.choice([None, 0.001, 30.0])

    made = WorkQueue(handler, lambda key, error: None)
    running = asyncio.create_task(made.run())
    for _ in range(2000):
        key = choice.choice(keys)
        asked[key] += 1
        made.trigger(key, choice.choice([0.0, 0.0, 0.002, 0.02]))
        if choice.random() < 0.2:
            await asyncio.sleep(0.001)
    await until(lambda: seen == asked)
    running.cancel()
