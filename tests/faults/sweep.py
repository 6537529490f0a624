"""The boundary sweep: every boundary of a guest's scenario × how a host is stopped there.

1. Without a fault the scenario shows which boundaries it reaches, and how often each.
2. `kill`: at each of them the first host is killed; another one recovers, and shows what it reaches on the way.
3. `again`: the same, and while it recovers the second host is killed at the first of those points, the third at the
   second, and so on: a chain of hosts that each die a step later.
4. `stop`: at each of them the first host stands still until another one has its instances, and then goes on.
5. `restart`: at each of them the servers of the stores are killed and come back while the host stands still.
6. `peer`: where two hosts serve, the other one is killed at each boundary that it reaches.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from faults.hosts import Nursery
from faults.running import Outcome, run_schedule
from faults.schedules import Fault, Schedule, Setting
from faults.stores import Servers

KINDS = ("kill", "again", "stop", "peer")
RESTART = "restart"
PEER = "peer"
ALONE = ("sqlite",)
"""Homes that two hosts share only on one machine. There a paused process may hold the file's lock, and nobody takes
anything over from it until it goes on or dies."""
_TWINS = (
    "claimed", "commit.before", "commit.after", "foreign.before", "foreign.after", "applied.after", "snapshot.before",
    "snapshot.after", "taken", "postponed", "halted", "accept.after",
)  # fmt: skip
"""The engine's points beside which there is the boundary of a store's operation."""
_POLLS = ("home.due", "home.pending", "home.instance", "home.result", "home.changes")
"""Operations that are repeated until something has happened: how often is chance, so the first times count."""
_POLLED = 2
_WAITS = ("home.get_many",)
"""The same, of which some are reads that a scenario makes itself."""
_WAITED = 30
_CHAIN = 10
_TELL = 100


def boundaries(reached: list[str]) -> list[tuple[str, int]]:
    """Of what a host reached, each boundary and occurrence once."""
    found: dict[tuple[str, int], None] = {}
    for line in reached:
        point, _, number = line.rpartition(":")
        if point not in _TWINS and int(number) <= _most(point):
            found[point, int(number)] = None
    return list(found)


def anew(reached: list[str]) -> list[str]:
    """The same points, as a host that is fresh would count them."""
    counts: Counter[str] = Counter()
    found: list[str] = []
    for line in reached:
        point = line.rpartition(":")[0]
        counts[point] += 1
        found.append(f"{point}:{counts[point]}")
    return found


def _most(point: str) -> float:
    operation = point.rpartition(".")[0]
    return _POLLED if operation in _POLLS else _WAITED if operation in _WAITS else math.inf


def _polls(point: str, number: int = 0) -> bool:
    return point.rpartition(".")[0] in _POLLS


@dataclass
class Tally:
    """What a sweep did. `boundaries`: distinct (setting, host, boundary, occurrence). `runs`, `faults`: (setting, kind) →
    schedules and faults that came about. `points`: (point, kind) → schedules."""

    boundaries: set[tuple[str, int, str, int]] = field(default_factory=set)
    runs: Counter[tuple[str, str]] = field(default_factory=Counter)
    faults: Counter[tuple[str, str]] = field(default_factory=Counter)
    points: Counter[tuple[str, str]] = field(default_factory=Counter)
    missed: int = 0
    wrong: list[Outcome] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, kind: str, outcome: Outcome) -> None:
        setting = outcome.schedule.setting
        self.runs[str(setting), kind] += 1
        self.faults[str(setting), kind] += outcome.came
        found = [(number, fault) for number, fault in enumerate(outcome.schedule.faults) if fault is not None]
        for number, first in found[:1]:
            self.boundaries.add((str(setting), number, first.point, first.count))
            self.points[first.point, kind] += 1
            self.missed += outcome.came == 0
        if outcome.wrong is not None:
            self.wrong.append(outcome)

    @property
    def schedules(self) -> int:
        return self.runs.total()


@dataclass
class Sweep:
    """`share`: of the boundaries of a setting, a random part (1.0: all) or number (above 1), each
    stopped in one way then. `jobs`: schedules at one time."""

    nursery: Nursery
    servers: Servers
    chance: random.Random
    share: float = 1.0
    jobs: int = 2
    kinds: tuple[str, ...] = KINDS
    say: Callable[[str], None] = print
    tally: Tally = field(default_factory=Tally)
    _told: int = 0

    async def setting(self, setting: Setting) -> None:
        """Sweep one setting; what went wrong is in the tally."""
        begun = time.monotonic()
        plain = await run_schedule(Schedule(setting), self.nursery, self.servers, traced=True)
        self._note("plain", plain)
        found = [(0, *boundary) for boundary in boundaries(plain.reached)] if {*self.kinds} - {PEER} else []
        found += [(1, *boundary) for boundary in boundaries(plain.beside)] if PEER in self.kinds else []
        part = self.share if self.share > 1 else len(found) * self.share
        chosen = found if self.share == 1 else self.chance.sample(found, min(max(1, round(part)), len(found)))
        waiting = iter(chosen)
        await asyncio.gather(*(self._work(setting, waiting) for _ in range(self.jobs)))
        self.tally.seconds += time.monotonic() - begun
        self.say(
            f"{setting}: {len(chosen)} of {len(found)} boundaries, {self.tally.schedules} schedules so far, {len(self.tally.wrong)} wrong"
        )

    async def _work(self, setting: Setting, waiting: Iterator[tuple[int, str, int]]) -> None:
        for host, point, count in waiting:
            if self.tally.schedules - self._told >= _TELL:
                self._told = self.tally.schedules
                self.say(
                    f"  {self._told} schedules, {len(self.tally.wrong)} wrong, now at {setting}: {host} {point}:{count}"
                )
            if host:
                await self._run(Schedule(setting, (None, Fault(point, count))), PEER)
            else:
                await self._first(setting, point, count)

    async def _first(self, setting: Setting, point: str, count: int) -> None:
        """The host that is asked first is stopped there."""
        kinds = [kind for kind in self.kinds if kind != PEER and (kind != "stop" or setting.home not in ALONE)]
        kinds = kinds if self.share == 1 else [self.chance.choice(kinds)]
        first = Fault(point, count)
        recovery: list[str] = []
        if {"kill", "again"} & {*kinds}:
            killed = await self._run(Schedule(setting, (first,)), "kill", traced=True)
            recovery = killed.recovery
        if "again" in kinds:
            # The second host has counted before; those after it are fresh.
            second, others = boundaries(recovery), boundaries(anew(recovery))
            chain = [*second[:1], *others[1:]]
            later = [Fault(*boundary) for boundary in chain if not _polls(*boundary)][:_CHAIN]
            if later:
                await self._run(Schedule(setting, (first, *later)), "again")
        for kind in {"stop", RESTART} & {*kinds}:
            await self._run(Schedule(setting, (Fault(point, count, kind),)), kind)

    async def _run(self, schedule: Schedule, kind: str, *, traced: bool = False) -> Outcome:
        outcome = await run_schedule(schedule, self.nursery, self.servers, traced=traced)
        self._note(kind, outcome)
        return outcome

    def _note(self, kind: str, outcome: Outcome) -> None:
        self.tally.add(kind, outcome)
        if outcome.wrong is not None:
            self.say(f"WRONG: {outcome.wrong}\n  again: {outcome.schedule.command}")
