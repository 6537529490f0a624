"""When a snapshot is due, when a call is tried again, and what counters are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.durable.effects import (
    COUNTER_MAX,
    COUNTER_MIN,
    Conflict,
    Counted,
    Outcome,
    Refused,
    Swapped,
    counted,
    decode_outcomes,
    encode_outcomes,
)
from perdure.durable.settings import Failure, RetryPolicy, SnapshotPolicy

outcomes = st.lists(
    st.builds(Counted, value=st.integers(COUNTER_MIN, COUNTER_MAX))
    | st.builds(Swapped)
    | st.builds(Conflict, current=st.none() | st.binary())
    | st.builds(Refused, reason=st.text())
)


@given(outcomes)
def test_outcomes_are_read_as_they_were_written(found: list[Outcome]) -> None:
    assert decode_outcomes(encode_outcomes(found)) == found


@pytest.mark.parametrize(
    ("current", "delta", "outcome"),
    [
        (None, 5, Counted(5)),
        (b"-3", 5, Counted(2)),
        (b"9223372036854775807", 1, Refused("overflow")),
        (b"-9223372036854775808", -1, Refused("overflow")),
        (b"9223372036854775808", -1, Refused("not-a-counter")),
        (b"", 1, Refused("not-a-counter")),
        (b"007", 1, Refused("not-a-counter")),
        (b"-0", 1, Refused("not-a-counter")),
        (b"1\n", 1, Refused("not-a-counter")),
        (b"+1", 1, Refused("not-a-counter")),
        (b"1e3", 1, Refused("not-a-counter")),
    ],
)
def test_counters(current: bytes | None, delta: int, outcome: Outcome) -> None:
    assert counted(current, delta) == outcome


def test_a_snapshot_is_due_by_time_entries_or_bytes() -> None:
    policy = SnapshotPolicy(replay_ms=100, entries=10, bytes=1000)
    assert not policy.due(guest_us=0, entries=0, size=0)
    assert not policy.due(guest_us=99_999, entries=9, size=999)
    assert policy.due(guest_us=100_000, entries=1, size=1)
    assert policy.due(guest_us=1, entries=10, size=1)
    assert policy.due(guest_us=1, entries=1, size=1000)


def test_delays_grow_to_their_bound() -> None:
    policy = RetryPolicy(initial_ms=100, max_ms=1000, multiplier=2.0)
    for attempts, longest in ((1, 100), (2, 200), (4, 800), (5, 1000), (100, 1000), (10**6, 1000)):
        delays = [policy.delay_ms(attempts) for _ in range(50)]
        assert all(longest / 2 - 1 <= delay <= longest for delay in delays)


def test_only_named_failures_are_tried_again() -> None:
    policy = RetryPolicy(max_attempts=3, failures=frozenset({Failure.TIMEOUT}))
    assert policy.again(2, Failure.TIMEOUT)
    assert not policy.again(3, Failure.TIMEOUT)
    assert not policy.again(1, Failure.TRAP)
