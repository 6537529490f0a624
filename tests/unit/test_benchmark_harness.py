"""The arithmetic and the tables of the benchmarks; their timings are never asserted."""

from __future__ import annotations

import json
import os
import time

import pytest

from harness.report import Table, document, number, render
from harness.rounds import (
    Contender,
    Spread,
    calibrated,
    interleave,
    order,
    percentile,
    processor_seconds,
    ratio,
    spread,
    spread_over,
)


def test_a_ratio_is_taken_round_by_round() -> None:
    # The machine was twice as slow in the second round; the ratio does not see it.
    assert ratio([2.0, 4.0, 3.0], [1.0, 2.0, 1.0]) == Spread(2.0, 2.0, 3.0)
    assert spread([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)
    with pytest.raises(ValueError, match="zip"):
        ratio([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="at least one"):
        spread([])


def test_percentiles_are_values_that_were_measured() -> None:
    values = [float(value) for value in range(1, 101)]
    assert [percentile(values, part) for part in (50, 99, 99.5, 100)] == [50, 99, 100, 100]
    assert percentile([7.0], 1) == 7
    for values, part in (([], 50), ([1.0], 0), ([1.0], 101)):
        with pytest.raises(ValueError, match="percentile"):
            percentile(values, part)


def test_everyone_is_first_in_turn() -> None:
    assert [order(3, turn) for turn in range(4)] == [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 1, 2]]


async def test_contenders_take_turns() -> None:
    log: list[tuple[str, int]] = []

    def contender(name: str, count: int) -> Contender:
        async def run(times: int) -> list[float]:
            log.append((name, times))
            return [0.5] * times

        return Contender(name, run, count)

    found = await interleave([contender("a", 20), contender("b", 5)], 3, processes={"self": os.getpid()})
    assert log == [("a", 2), ("b", 1), ("a", 20), ("b", 5), ("b", 5), ("a", 20), ("a", 20), ("b", 5)]
    assert len(found["a"].seconds) == 3 and len(found["b"].latencies) == 15
    assert len(found["a"].processor["self"]) == 3 and min(found["a"].processor["self"]) >= 0


async def test_a_comparison_ends_with_its_budget() -> None:
    async def run(times: int) -> None:
        return None

    found = await interleave([Contender("a", run, 1)], 1000, budget=0)
    assert len(found["a"].seconds) == 3


async def test_a_slow_contender_is_calibrated_to_one_operation() -> None:
    calls: list[int] = []

    async def run(count: int) -> None:
        calls.append(count)
        begun = processor_seconds(os.getpid())
        while processor_seconds(os.getpid()) - begun < 0.002:
            pass

    assert (await calibrated("slow", run, seconds=0.001)).count == 1
    assert calls == [1, 1]


async def test_a_stall_does_not_end_calibration() -> None:
    stalls = [0.05]

    async def run(count: int) -> None:
        time.sleep(stalls.pop() if stalls else 0)

    assert (await calibrated("quick", run, seconds=0.05)).count > 1


async def test_operations_are_shared_out() -> None:
    done = [0] * 3

    async def one(task: int) -> None:
        done[task] += 1

    assert len(await spread_over(3, 8, one)) == 8
    assert done == [3, 3, 2]


def test_tables_are_for_people_and_for_programs() -> None:
    table = Table(
        "T", ("what", "time"), [{"what": "a", "time": Spread(2.0, 1.0, 30.0)}, {"what": "long name"}], "Note."
    )
    assert render(table).splitlines() == [
        "T",
        "what                   time",
        "---------------------------",
        "a          2.00 (1.00–30.0)",
        "long name",
        "Note.",
    ]
    parsed = json.loads(document([table], {"cpus": "2"}))
    assert parsed["machine"] == {"cpus": "2"}
    assert parsed["tables"][0]["rows"][0]["time"] == {"median": 2.0, "least": 1.0, "greatest": 30.0}
    assert [number(value) for value in (0.123, 9.876, 27.14, 1740.4)] == ["0.12", "9.88", "27.1", "1,740"]
