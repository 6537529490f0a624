"""Interleaved rounds: contenders take turns within one run, so that whatever else the machine does meets all alike.

A ratio is taken round by round between neighbours in time, and its median is told with the least and the greatest:
absolute times of a shared machine move by half from minute to minute, such ratios hardly do.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

_CALIBRATION_LIMIT = 1 << 20
_FEWEST = 3


@dataclass(frozen=True, slots=True)
class Contender:
    """`run(count)` carries out `count` operations; it may return how long each took, in seconds.

    `count`: operations a round.
    """

    name: str
    run: Callable[[int], Awaitable[Sequence[float] | None]]
    count: int


@dataclass(slots=True)
class Samples:
    """One contender's measurements: seconds an operation, by round; seconds of single operations, where known;
    processor seconds an operation, by process and round."""

    seconds: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    processor: dict[str, list[float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Spread:
    """A median with the least and the greatest."""

    median: float
    least: float
    greatest: float


def spread(values: Sequence[float]) -> Spread:
    """Raises `ValueError` when there are no values."""
    if not values:
        raise ValueError("a spread needs at least one value")
    return Spread(statistics.median(values), min(values), max(values))


def ratio(of: Sequence[float], to: Sequence[float]) -> Spread:
    """`of` over `to`, round by round. Raises `ValueError` when the rounds do not match."""
    return spread([a / b for a, b in zip(of, to, strict=True)])


def percentile(values: Sequence[float], hundredths: float) -> float:
    """The value that `hundredths` percent do not exceed (nearest rank). Raises `ValueError` without values."""
    if not values or not 0 < hundredths <= 100:
        raise ValueError("a percentile needs values, and a number over 0 and up to 100")
    ordered = sorted(values)
    rank = -(-len(ordered) * hundredths // 100)
    return ordered[int(rank) - 1]


def order(size: int, turn: int) -> list[int]:
    """The order of one round: each contender is first in turn."""
    return [(turn + step) % size for step in range(size)]


def processor_seconds(pid: int) -> float:
    """Processor time that all threads of a process have used (Linux; `clock_getcpuclockid(3)`)."""
    return time.clock_gettime(~pid << 3 | 2)


async def interleave(
    contenders: Sequence[Contender],
    rounds: int,
    *,
    processes: Mapping[str, int] | None = None,
    clock: Callable[[], float] = time.perf_counter,
    budget: float = 15.0,
) -> dict[str, Samples]:
    """Run every contender once a round, after one round of a tenth of the size that does not count.

    `processes`: pids by name, whose processor time is told apart. `clock`: seconds; `time.process_time` for work of
    this process alone, which other load on the machine then hardly touches. `budget`: no round is begun after so many
    seconds, but for the first three.
    """
    watched = processes or {}
    found = {contender.name: Samples() for contender in contenders}
    for contender in contenders:
        await contender.run(max(1, contender.count // 10))
    started = time.perf_counter()
    for turn in range(rounds):
        if turn >= _FEWEST and time.perf_counter() - started > budget:
            break
        for index in order(len(contenders), turn):
            contender = contenders[index]
            gc.collect()
            samples = found[contender.name]
            before = {name: processor_seconds(pid) for name, pid in watched.items()}
            begun = clock()
            latencies = await contender.run(contender.count)
            samples.seconds.append((clock() - begun) / contender.count)
            samples.latencies.extend(latencies or ())
            for name, pid in watched.items():
                used = (processor_seconds(pid) - before[name]) / contender.count
                samples.processor.setdefault(name, []).append(used)
    return found


async def calibrated(
    name: str, run: Callable[[int], Awaitable[Sequence[float] | None]], *, seconds: float = 0.05
) -> Contender:
    """A contender whose rounds take about `seconds`, or one operation where that takes longer."""
    count = 1
    while count < _CALIBRATION_LIMIT:
        elapsed = await _elapsed(run, count)
        if elapsed >= seconds / 2:
            # Once more: other work on the machine may have held up the first.
            elapsed = min(elapsed, await _elapsed(run, count))
        if elapsed >= seconds / 2:
            break
        count = min(_CALIBRATION_LIMIT, count * 2 if elapsed <= 0 else int(count * min(10, seconds / elapsed)) + 1)
    return Contender(name, run, count)


async def _elapsed(run: Callable[[int], Awaitable[object]], count: int) -> float:
    begun = time.perf_counter()
    await run(count)
    return time.perf_counter() - begun


async def spread_over(tasks: int, count: int, one: Callable[[int], Awaitable[object]]) -> list[float]:
    """`count` operations by `tasks` tasks at once; `one(task)` is one operation. The time of each, in seconds."""
    latencies: list[float] = []

    async def work(task: int, share: int) -> None:
        for _ in range(share):
            begun = time.perf_counter()
            await one(task)
            latencies.append(time.perf_counter() - begun)

    shares = [count // tasks + (1 if task < count % tasks else 0) for task in range(tasks)]
    async with asyncio.TaskGroup() as group:
        for task, share in enumerate(shares):
            group.create_task(work(task, share))
    return latencies
