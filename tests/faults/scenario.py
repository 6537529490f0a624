"""What a client does, one thing after another: the scripted mix of the boundary sweep, and random ones. Pure."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from faults.model import Step, encoded


@dataclass(frozen=True)
class Call:
    """A synchronous call. Without a `key` it must only read: a caller that was not answered repeats it."""

    instance: str
    steps: Sequence[Step]
    key: str | None = None


@dataclass(frozen=True)
class Once:
    """A synchronous call without a key that writes, behind gates. Its first step adds to `counter`, which nothing else
    does, so that it tells whether the call was carried out where no answer does."""

    instance: str
    counter: tuple[str, str]
    delta: int
    then: Sequence[Step]

    @property
    def steps(self) -> list[Step]:
        return [{"add": [*self.counter, self.delta]}, *self.then]


@dataclass(frozen=True)
class Fails:
    """A synchronous call that traps behind a gate, by which all its writes are durable, and is sent again."""

    instance: str
    key: str
    writes: Sequence[Step]

    @property
    def steps(self) -> list[Step]:
        return [*self.writes, "trap"]


@dataclass(frozen=True)
class Later:
    """Asynchronous calls of one instance, accepted one after another, whose results are awaited at the end."""

    instance: str
    calls: Sequence[tuple[str, Sequence[Step]]]


@dataclass(frozen=True)
class Poison:
    """An asynchronous call that traps until its instance is quarantined; then it is skipped."""

    instance: str
    key: str
    steps: Sequence[Step]


@dataclass(frozen=True)
class Cancel:
    """A call for tomorrow, taken back."""

    instance: str
    key: str
    steps: Sequence[Step]


@dataclass(frozen=True)
class Control:
    """Verbs of the API, one after another: `snapshot`, `interrupt`, `resume`."""

    instance: str
    verbs: tuple[str, ...]


@dataclass(frozen=True)
class Look:
    """Asks the guest's memory."""

    instance: str


@dataclass(frozen=True)
class Delete:
    instance: str


ONCE = ("near", "once")
"""The counter of calls without a key."""
READER = "erin"
"""The instance of calls without a key that only read. A caller repeats them, so how many ended is not determined."""


class Action(Protocol):
    """Any of these, or of another scenario's."""

    @property
    def instance(self) -> str: ...


@dataclass
class Scenario:
    actions: list[Action] = field(default_factory=list)

    @property
    def instances(self) -> list[str]:
        return list(dict.fromkeys(action.instance for action in self.actions))


class Values:
    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._keys = 0

    def text(self) -> str:
        return encoded(self._chance.randbytes(3)) or ""

    def number(self) -> int:
        return self._chance.randrange(1, 1000)

    def key(self) -> str:
        self._keys += 1
        return f"key-{self._keys}"


def scripted(seed: int) -> Scenario:
    """Reaches every kind of boundary. The seed gives the values, not the shape."""
    v = Values(seed)

    def put(bucket: str, key: str) -> Step:
        return {"put": [bucket, key, v.text()]}

    def swap(bucket: str, key: str) -> Step:
        return {"swap": [bucket, key, v.text()]}

    def add(bucket: str) -> Step:
        return {"add": [bucket, "n", v.number()]}

    def get(bucket: str, key: str) -> Step:
        return {"get": [bucket, key]}

    def remember() -> Step:
        return {"remember": v.number()}

    tick: Step = "tick"
    return Scenario(
        [
            Call("alice", [put("near", "a"), add("near"), get("near", "a"), remember(), tick], v.key()),
            Call("alice", [add("far"), put("far", "a"), get("far", "n")], v.key()),
            Later("bob", [(v.key(), [add("near"), put("far", "b"), remember(), tick])]),
            Call(READER, [get("near", "n"), get("near", "a"), get("far", "n")]),
            Control("alice", ("snapshot",)),
            Later("bob", [(v.key(), [add("near"), swap("near", "a")]), (v.key(), [add("far"), get("near", "a")])]),
            Call("alice", [swap("near", "a"), {"remove": ["near", "b"]}, swap("far", "b"), remember()], v.key()),
            Poison("carol", v.key(), [put("near", "c"), "trap"]),
            Call("carol", [put("near", "c"), remember(), get("near", "n")], v.key()),
            Cancel("bob", v.key(), [add("near"), add("far")]),
            Control("bob", ("interrupt", "resume")),
            Call("bob", [get("near", "a"), get("far", "n"), {"remove": ["far", "a"]}, add("near")], v.key()),
            Once("fred", ONCE, v.number(), [put("near", "f"), {"add": [*ONCE, v.number()]}, remember(), tick]),
            Fails("gina", v.key(), [put("near", "g"), add("near")]),
            Call("dave", [add("far"), remember()], v.key()),
            Delete("dave"),
            Call("dave", [add("far"), remember()], v.key()),
            *(Look(instance) for instance in ("alice", "bob", "carol", "dave")),
            Call(READER, [get("near", "a"), get("near", "n"), get("far", "n"), get("far", "b")]),
            *(Look(instance) for instance in ("alice", "bob")),
        ]
    )


def random_mix(seed: int, length: int = 12) -> Scenario:
    """Calls at random."""
    chance, v = random.Random(seed), Values(seed)

    def step(reads: bool = False) -> Step:
        bucket = chance.choice(["near", "far"])
        kind = 5 if reads else chance.randrange(8)
        if kind == 0:
            return {"put": [bucket, chance.choice("ab"), v.text()]}
        if kind == 1:
            return {"remove": [bucket, chance.choice("ab")]}
        if kind in (2, 3):
            return {"add": [bucket, "n", v.number()]}
        if kind == 4:
            return {"swap": [bucket, chance.choice("ab"), v.text()]}
        if kind == 5:
            return {"get": [bucket, chance.choice("abn")]}
        return {"remember": v.number()} if kind == 6 else "tick"

    def steps(*, reads: bool = False) -> list[Step]:
        return [step(reads) for _ in range(chance.randrange(1, 5))]

    def action() -> Action:
        name = chance.choice(["alice", "bob", "carol"])
        match chance.randrange(10):
            case 0 | 1 | 2:
                return Call(name, steps(), v.key())
            case 3 | 4:
                return Later(name, [(v.key(), steps()) for _ in range(chance.randrange(1, 4))])
            case 5:
                return Call(READER, steps(reads=True))
            case 6:
                return Look(name)
            case 7:
                return Once(name, ONCE, v.number(), [*steps(), {"add": [*ONCE, v.number()]}, *steps()])
            case 8:
                return Fails(name, v.key(), [*steps(), {"add": ["near", "n", v.number()]}])
            case _:
                return Control(name, ("snapshot",))

    calls = [action() for _ in range(length)]
    # A snapshot wants an instance that is there.
    first = [Call(name, steps(), v.key()) for name in ("alice", "bob", "carol")]
    return Scenario([*first, *calls, *(Look(name) for name in ("alice", "bob", "carol"))])
