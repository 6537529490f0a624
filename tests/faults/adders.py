"""Callers of the soak that have no key: nothing is sent again that may be done."""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import dataclass
from typing import Protocol

import aiohttp

from faults.asking import Reply, Wrong, again, of_unknown_outcome
from faults.model import Step


class NotReady(OSError):
    """Nothing was sent."""


@dataclass
class Counted:
    """Calls without a key. `doubtful`: of those that were `sent`, how many had no answer that tells what they did;
    `done`: how many of these were carried out."""

    sent: int = 0
    doubtful: int = 0
    done: int = 0


class World(Protocol):
    """A round of the soak."""

    once: Counted
    effects: int
    calls: int

    @property
    def over(self) -> bool: ...

    async def send(self, instance: str, function: str, body: bytes, headers: dict[str, str]) -> Reply: ...


class Adder:
    """Adds one to a counter of its own, twice in each call, without a key: nothing is sent again of which a part may be
    done."""

    def __init__(self, world: World, number: int) -> None:
        self._world = world
        self._name = f"adder-{number}"
        self._bucket = "near" if number % 2 == 0 else "far"
        self._total = 0
        self._doubtful = 0

    async def run(self) -> None:
        while not self._world.over:
            await self._add()
            await asyncio.sleep(random.uniform(0, 0.05))

    async def _add(self) -> None:
        add: Step = {"add": [self._bucket, self._name, 1]}
        body = json.dumps([[add, {"remember": 1}, add]]).encode()
        try:
            status, found = await self._world.send(self._name, "functions/run", body, {})
        except (aiohttp.ClientConnectorError, NotReady):
            await asyncio.sleep(0.01)
            return
        except (aiohttp.ClientError, OSError):
            self._doubt()
            return
        if status == 200:
            self._answered(found)
        elif again((status, found)):
            await asyncio.sleep(0.02)
        elif of_unknown_outcome((status, found)):
            self._doubt()
        else:
            raise Wrong(f"a call of {self._name} without a key was refused: {status} {found}")

    def _doubt(self) -> None:
        self._doubtful += 1
        self._world.once.sent += 1
        self._world.once.doubtful += 1

    def _answered(self, found: object) -> None:
        self._world.once.sent += 1
        self._world.effects += 2
        self._world.calls += 1
        assert isinstance(found, list)
        first, remembered, second = (int(one["number"]) for one in found)
        if (first, second) != (2 * remembered - 1, 2 * remembered):
            raise Wrong(f"a call of {self._name} was carried out in part, or twice: {found}")
        self._learn(remembered - 1)
        self._total += 1

    def _learn(self, total: int) -> None:
        """Of calls so far. One that was not answered may begin later still, where a host had passed it on and died."""
        if not 0 <= total - self._total <= self._doubtful:
            raise Wrong(
                f"{total} calls of {self._name} without a key were carried out, of {self._total} and {self._doubtful} "
                "that were not answered"
            )
        self._world.once.done += total - self._total
        self._doubtful -= total - self._total
        self._total = total

    async def end(self) -> None:
        """Until the last call is answered, whose answer says what memory and store hold."""
        calls = self._world.calls
        while self._world.calls == calls:
            await self._add()
