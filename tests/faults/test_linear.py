"""The checkers themselves: histories that are right, and each wrong one found."""

from __future__ import annotations

import itertools
import random

import pytest

from faults.linear import UNKNOWN, Operation, linearizable
from faults.model import Memory, Model, Step
from faults.schedules import Fault, Schedule, Setting
from faults.sweep import boundaries


def add(difference: int, result: object, called: float, returned: float = float("inf")) -> Operation:
    return Operation("add", difference, result, called, returned)


@pytest.mark.parametrize(
    ("history", "right"),
    [
        ([add(1, 1, 0, 1), add(2, 3, 2, 3)], True),
        ([add(1, 3, 0, 3), add(2, 2, 1, 2)], True),
        ([add(1, 3, 0, 1), add(2, 2, 2, 3)], False),  # reordered
        ([add(1, 1, 0, 1), add(2, 2, 2, 3)], False),  # lost
        ([add(1, 2, 0, 1)], False),  # doubled
        ([add(1, UNKNOWN, 0), add(2, 3, 1, 2)], True),
        ([add(1, UNKNOWN, 0), add(2, 2, 1, 2)], True),
        ([add(1, UNKNOWN, 2), add(2, 3, 0, 1)], False),  # it took effect before it was called
        ([add(1, UNKNOWN, 0), add(2, 2, 1, 2), add(2, 5, 3, 4)], True),
        ([add(1, UNKNOWN, 0), add(2, 4, 1, 2)], False),  # it took effect twice
        ([Operation("put", "x", None, 0, 1), Operation("get", None, None, 2, 3)], False),  # stale
        ([Operation("put", "x", None, 0, 3), Operation("get", None, None, 1, 2)], True),
        ([Operation("swap", "x", None, 0, 1), Operation("swap", "y", "x", 0, 1), Operation("get", None, "y", 2, 3)], True),
        ([Operation("swap", "x", None, 0, 1), Operation("swap", "y", None, 0, 1)], False),
    ],
)  # fmt: skip
def test_histories(history: list[Operation], right: bool) -> None:
    assert linearizable(history) is right


def test_the_search_agrees_with_trying_all_orders() -> None:
    chance = random.Random(7)
    verdicts = set()
    for _ in range(400):
        history = []
        for _ in range(chance.randrange(1, 6)):
            called = chance.uniform(0, 4)
            result: object = chance.choice([1, 2, 3, UNKNOWN])
            history.append(add(1, result, called, float("inf") if result is UNKNOWN else called + chance.uniform(0, 3)))
        verdict = linearizable(history)
        assert verdict is _by_all_orders(history), history
        verdicts.add(verdict)
    assert verdicts == {True, False}


def _by_all_orders(history: list[Operation]) -> bool:
    known = [one for one in history if one.result is not UNKNOWN]
    unknown = [one for one in history if one.result is UNKNOWN]
    for number in range(len(unknown) + 1):
        for some in itertools.combinations(unknown, number):
            for order in itertools.permutations([*known, *some]):
                early = all(a.called <= b.returned for at, a in enumerate(order) for b in order[at + 1 :])
                if early and all(one.result in (UNKNOWN, at + 1) for at, one in enumerate(order)):
                    return True
    return False


def test_the_model() -> None:
    model = Model(effect=False)
    steps: list[Step] = [
        {"add": ["near", "n", 5]},
        {"swap": ["near", "a", "YQ=="]},
        {"get": ["near", "a"]},
        {"remember": 3},
        "tick",
    ]
    answer = [{"number": 5}, {"value": None}, {"value": "YQ=="}, {"number": 3}, "nothing"]
    assert model.run("alice", steps) == answer
    assert model.look("alice", [3, 1, 77]) is None
    assert model.look("alice", [3, 1, 78]) is not None, "the memory saw another clock"
    assert model.look("alice", [3, 2, 77]) is not None, "a call was repeated"
    model.trap([{"put": ["near", "z", "YQ=="]}])
    assert "z" not in model.buckets["near"]
    assert model.memories["alice"] == Memory(3, 1, 77)


def test_a_schedule_is_what_its_command_says() -> None:
    fault = Fault("home.commit.sent", 3, "stop")
    assert Fault.of(str(fault)) == fault
    assert Schedule(Setting("redis", "Effect", 5), (fault,)).command == (
        "python tests/faults/replay.py --home redis --mode Effect --seed 5 home.commit.sent:3:stop"
    )
    reached = ["home.due.after:1", "home.due.after:9", "claimed:1", "home.claim.after:1", "home.claim.after:1"]
    assert boundaries(reached) == [("home.due.after", 1), ("home.claim.after", 1)]
