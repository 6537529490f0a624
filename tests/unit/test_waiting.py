"""Long polls are bounded in number and in time, and end when the host does."""

from __future__ import annotations

import asyncio

import pytest

from perdure.errors import Overloaded
from perdure.host.http.waiting import Waiting


class Source:
    def __init__(self) -> None:
        self.value = 0
        self.looks = 0

    async def look(self) -> int:
        self.looks += 1
        return self.value


def positive(value: int) -> bool:
    return value > 0


async def test_what_is_there_is_given_at_once() -> None:
    source = Source()
    assert await Waiting().until(source.look, positive, 0) == 0
    source.value = 1
    assert await Waiting().until(source.look, positive, 60) == 1
    assert source.looks == 2


async def test_it_waits_until_there_is_enough_or_the_time_is_over() -> None:
    source, waiting = Source(), Waiting()
    task = asyncio.ensure_future(waiting.until(source.look, positive, 60))
    await asyncio.sleep(0.2)
    assert not task.done()
    source.value = 1
    assert await task == 1
    source.value = 0
    assert await waiting.until(source.look, positive, 0.3) == 0


async def test_it_asks_less_and_less_often() -> None:
    source = Source()
    await Waiting().until(source.look, positive, 1.5)
    assert source.looks < 15


async def test_a_bounded_number_waits() -> None:
    source, waiting = Source(), Waiting(most=2)
    tasks = [asyncio.ensure_future(waiting.until(source.look, positive, 60)) for _ in range(2)]
    await asyncio.sleep(0.05)
    with pytest.raises(Overloaded, match="2 requests"):
        await waiting.until(source.look, positive, 60)
    assert await waiting.until(source.look, positive, 0) == 0, "who does not wait is answered"
    tasks[0].cancel()
    await asyncio.wait(tasks[:1])
    source.value = 1
    assert await waiting.until(source.look, positive, 60) == 1
    assert await tasks[1] == 1


async def test_a_host_that_drains_lets_go_of_all() -> None:
    source, waiting = Source(), Waiting()
    task = asyncio.ensure_future(waiting.until(source.look, positive, 60))
    await asyncio.sleep(0.05)
    waiting.end()
    assert await asyncio.wait_for(task, 60) == 0
    assert await asyncio.wait_for(waiting.until(source.look, positive, 60), 60) == 0
