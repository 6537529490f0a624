"""What is asked of clerks: counters of two generations, a cache, HTTP both ways, sleeps, promises, calls, watches. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from faults.model import Step
from faults.scenario import READER, Call, Control, Later, Look, Poison, Scenario, Values

LEASE = 2.0
"""Seconds for which a vacancy of the cache is held: longer than a takeover takes."""
PEER = "zoe"
"""The instance that lives at another host than the others, and is reached through routing."""
WATCHER, WATCHED, TOLD = "wendy", "news", "told"
"""The instance that is told of changes, of which bucket, and where it writes what it was told."""
Place = tuple[str, str]
"""Bucket and key."""


@dataclass(frozen=True)
class Race:
    """Several instances at once want the cache's value of `missing`; the one that gets the vacancy fills it.
    `calls`: instance, key, value."""

    missing: str
    calls: Sequence[tuple[str, str, str]]
    instance: str = READER

    def steps(self, value: str) -> list[Step]:
        return [{"get-or-set": [self.missing, value, 30]}, {"remember": 1}]


@dataclass(frozen=True)
class Twice:
    """The same call two times at once."""

    call: Call

    @property
    def instance(self) -> str:
        return self.call.instance


@dataclass(frozen=True)
class Abandon:
    """A call that traps at its end, with a vacancy of the cache in hand."""

    instance: str
    key: str
    missing: str


@dataclass(frozen=True)
class Serve:
    """An HTTP request to the guest, which adds to a counter."""

    instance: str
    key: str
    counter: Place
    delta: int


@dataclass(frozen=True)
class Begin:
    """An asynchronous call that goes on beside the actions that follow, until its `End`. They leave alone what it
    uses, and its instance."""

    instance: str
    key: str
    steps: Sequence[Step]


@dataclass(frozen=True)
class End:
    instance: str
    key: str


@dataclass(frozen=True)
class Complete:
    """Of the promise whose id a guest put at `place`. `why`: it fails, with these words."""

    place: Place
    value: str = ""
    why: str = ""
    instance: str = READER


@dataclass(frozen=True)
class Told:
    """Until the watcher was told of all changes so far."""

    instance: str = READER


def errands(seed: int) -> Scenario:
    """Reaches every kind of boundary. The seed gives the values, not the shape."""
    v = Values(seed)
    first, second, third = v.number(), v.number(), v.number()
    tick: Step = "tick"
    give_up: Step = "give-up"
    trap: Step = "trap"

    def add(bucket: str, key: str = "n") -> Step:
        return {"add": [bucket, key, v.number()]}

    def count(bucket: str, key: str = "n") -> Step:
        return {"count": [bucket, key, v.number()]}

    def fetch(path: str, *place: str) -> Step:
        return {"fetch": [path, v.text(), *(place or ("", ""))]}

    def put(bucket: str, key: str) -> Step:
        return {"put": [bucket, key, v.text()]}

    def get(bucket: str, key: str) -> Step:
        return {"get": [bucket, key]}

    def remember() -> Step:
        return {"remember": v.number()}

    nap, wait, wait_behind = v.key(), v.key(), v.key()
    return Scenario(
        [
            Begin("sam", nap, [add("near", "naps"), {"sleep": 600}, count("near", "naps"), remember(), tick]),
            Abandon("ivan", v.key(), "left"),
            Call(
                "alice",
                [
                    count("near"),
                    {"add": ["near", "c", first]},
                    {"compare-and-swap": ["near", "c", first, second]},
                    {"compare-and-swap": ["near", "c", first, third]},
                    add("near"),
                    put(WATCHED, "a"),
                    remember(),
                ],
                v.key(),
            ),
            Call("alice", [fetch("/one", "near", "one"), add("near"), remember(), tick], v.key()),
            Serve("alice", v.key(), (WATCHED, "served"), v.number()),
            Call("bob", [{"swap": [WATCHED, "a", v.text()]}, add(WATCHED), put(WATCHED, "b")], v.key()),
            Begin(
                "walt",
                wait,
                [
                    add("near", "asked"),
                    {"promise": ["near", "first"]},
                    {"await": ["near", "first"]},
                    add("near", "asked"),
                    remember(),
                ],
            ),
            Begin("walt", wait_behind, [count("near", "asked"), fetch("/behind", "far", "behind"), remember()]),
            Race("page", [(name, v.key(), v.text()) for name in ("alice", "bob", PEER)]),
            Call(
                "bob",
                [{"call": [PEER, [add("far"), fetch("/far", "far", "two"), put(WATCHED, "a")]]}, remember()],
                v.key(),
            ),
            Control("alice", ("snapshot",)),
            Call("alice", [{"remove": [WATCHED, "a"]}, remember()], v.key()),
            Complete(("near", "first"), v.text()),
            End("walt", wait),
            End("walt", wait_behind),
            Call(
                "bob",
                [
                    {"compare-and-swap": ["far", "c", first, second]},
                    {"count": ["far", "c", second]},
                    {"compare-and-swap": ["far", "c", second, first]},
                    {"exchange": ["far", "e", None, v.text()]},
                    {"exchange": ["far", "e", None, v.text()]},
                    {"swap": ["near", "e", v.text()]},
                ],
                v.key(),
            ),
            Later(
                "bob",
                [
                    (v.key(), [fetch("/later", "far", "later"), count(WATCHED), {"sleep": 130}, remember(), tick]),
                    (v.key(), [{"promise": ["near", "second"]}, {"sleep": 20}, get("far", "later"), remember()]),
                ],
            ),
            Told(),
            Complete(("near", "second"), why="no"),
            Call("carol", [{"await": ["near", "second"]}, remember()], v.key()),
            Call("alice", [{"claim": "free"}, give_up, add("near")], v.key()),
            Call("carol", [{"get-or-set": ["free", v.text(), 0]}, {"cache-get": "page"}], v.key()),
            Poison("carol", v.key(), [fetch("/poison"), trap]),
            Twice(Call("carol", [fetch("/twice", "near", "twice"), add("near"), remember()], v.key())),
            Serve(PEER, v.key(), ("far", "served"), v.number()),
            Call(READER, [get("near", "one"), get("far", "two"), get("near", "n"), {"cache-get": "page"}]),
            Call("alice", [{"get-or-set": ["left", v.text(), 0]}, remember()], v.key()),
            End("sam", nap),
            *(Look(name) for name in ("alice", "bob", "carol", PEER)),
            Call(READER, [get("near", "c"), get("far", "n"), get("far", "e"), {"cache-get": "left"}]),
            *(Look(name) for name in ("alice", "sam", "walt")),
        ]
    )
