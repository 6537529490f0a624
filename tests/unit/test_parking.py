"""Which instances the dispatcher leaves alone because their calls wait, and until when."""

from __future__ import annotations

from perdure.durable.effects import BucketAddress, Put, Scope
from perdure.durable.policy import PROMISES
from perdure.durable.promises import PENDING, promise_id
from perdure.durable.records import ForeignApply, WorkerId
from perdure.host.parking import Parking
from perdure.providers.memory import MemoryStore, MemoryWorld


async def test_an_instant_is_waited_for_by_the_clock() -> None:
    now = [1_000]
    parking = Parking(MemoryStore(MemoryWorld(), WorkerId("n", "w")), lambda: now[0])
    assert (parking.holds("a"), parking.next_ms) == (False, None)
    parking.park("a", 5_000)
    parking.park("b", 3_000)
    # Nobody asks the store for an instant, and it is no promise that is unknown there.
    await parking.look()
    assert (parking.holds("a"), parking.holds("b"), parking.next_ms) == (True, True, 3_000)
    now[0] = 3_000
    assert (parking.holds("a"), parking.holds("b"), parking.next_ms) == (True, False, 5_000)
    await parking.look()
    now[0] = 0
    assert not parking.holds("b"), "it was let go"
    parking.leave("a")
    assert not parking.holds("a")
    assert parking.next_ms is None


async def test_promises_and_instants_beside_each_other() -> None:
    store, promise = MemoryStore(MemoryWorld(), WorkerId("n", "w")), promise_id("p", b"0" * 16)
    await store.apply_foreign(
        ForeignApply("", 0, [Put(BucketAddress(Scope.INSTANCE, PROMISES, "p"), promise, PENDING, None)])
    )
    parking = Parking(store, lambda: 0)
    parking.park("sleeps", 9)
    parking.park("waits", promise)
    parking.park("forgotten", promise_id("p", b"1" * 16))
    await parking.look()
    assert [parking.holds(name) for name in ("sleeps", "waits", "forgotten")] == [True, True, False]
    # It waits for something else now.
    parking.park("waits", 7)
    assert parking.next_ms == 7
