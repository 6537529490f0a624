"""Two live hosts that take an instance from each other in turns: noticed, damped, counted, said once."""

from __future__ import annotations

import logging

import pytest

from perdure.durable.records import HostRecord
from perdure.errors import Fenced, HostLeaving, ProviderUnavailable, Quarantined
from perdure.host.ownership import Ownership
from perdure.host.routing import preferred_host


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0
        self.conflicts = 0

    def __call__(self) -> float:
        return self.now

    def conflict(self) -> None:
        self.conflicts += 1


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ownership(clock: Clock) -> Ownership:
    return Ownership(clock.conflict, most=8, clock=clock)


def fence(ownership: Ownership, name: str, error: Exception | None = None) -> None:
    error = error or Fenced("taken")
    with pytest.raises(type(error)):
        with ownership.observed(name):
            raise error


def test_a_takeover_is_no_conflict(ownership: Ownership, clock: Clock) -> None:
    """A failover, and the way back after it."""
    fence(ownership, "a")
    fence(ownership, "a")
    assert (ownership.delay("a"), clock.conflicts) == (0.0, 0)


def test_turns_are_delayed_longer_each_time(
    ownership: Ownership, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        longest = 0.0
        for _ in range(12):
            fence(ownership, "a")
            assert ownership.delay("a") <= 5.0
            longest = max(longest, ownership.delay("a"))
            clock.now += ownership.delay("a") + 0.01
            assert ownership.delay("a") == 0.0
            # In between it works here: that is what taking turns is.
            with ownership.observed("a"):
                pass
    assert clock.conflicts == 10
    assert longest > 2.0
    assert len(caplog.records) == 1
    assert ownership.delay("b") == 0.0, "the others are not concerned"


def test_two_hosts_do_not_wait_equally_long(clock: Clock) -> None:
    delays = set()
    for _ in range(20):
        one = Ownership(clock.conflict, clock=clock)
        for _ in range(3):
            fence(one, "a")
        delays.add(one.delay("a"))
    assert len(delays) > 10 and min(delays) > 0


def test_it_is_forgotten_when_it_is_over(ownership: Ownership, clock: Clock) -> None:
    for _ in range(5):
        fence(ownership, "a")
    clock.now += 31
    fence(ownership, "a")
    assert ownership.delay("a") == 0.0
    for _ in range(5):
        fence(ownership, "a")
    ownership.forget("a")
    assert ownership.delay("a") == 0.0


def test_other_errors_are_no_conflict(ownership: Ownership, clock: Clock) -> None:
    for _ in range(9):
        fence(ownership, "a", ProviderUnavailable("down"))
        fence(ownership, "a", HostLeaving("ending"))
    assert (ownership.delay("a"), clock.conflicts) == (0.0, 0)


def test_it_remembers_a_bounded_number(ownership: Ownership, clock: Clock) -> None:
    for number in range(100):
        for _ in range(3):
            fence(ownership, f"i{number}")
        fence(ownership, f"q{number}", Quarantined("bad"))
    assert len(ownership.quarantined()) == 8
    assert [n for n in range(100) if ownership.delay(f"i{n}") > 0] == list(range(92, 100))


def test_what_is_quarantined_is_known(ownership: Ownership) -> None:
    fence(ownership, "b", Quarantined("bad"))
    fence(ownership, "a", Quarantined("bad"))
    fence(ownership, "a", Quarantined("bad"))
    assert ownership.quarantined() == ["a", "b"]
    ownership.forget("b")
    with ownership.observed("a"):
        pass
    assert ownership.quarantined() == []


def test_what_is_quarantined_is_counted_by_one_host(clock: Clock) -> None:
    hosts = [HostRecord(f"h{number}", f"http://h{number}") for number in range(3)]
    known = [Ownership(clock.conflict, clock=clock) for _ in hosts]
    for me, ownership in zip(hosts, known, strict=True):
        ownership.mine = lambda name, me=me: preferred_host(name, hosts) == me  # type: ignore[misc]
    names = [f"i{number}" for number in range(30)]
    # Each has been with every host, as hosts came and went.
    for ownership in known:
        for name in names:
            fence(ownership, name, Quarantined("bad"))
    counted = [ownership.quarantined() for ownership in known]
    assert sorted(name for each in counted for name in each) == sorted(names)
    assert all(counted)
    # One that comes back may have been resumed elsewhere: it counts when it is met again.
    gone = hosts.pop()
    back = counted[-1]
    assert sorted(name for ownership in known[:2] for name in ownership.quarantined()) == sorted(set(names) - set(back))
    assert known[-1].quarantined() == []
    hosts.append(gone)
    assert known[-1].quarantined() == []
