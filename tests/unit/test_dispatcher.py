"""What the dispatcher runs, when it looks, and what it leaves alone. The store is the memory provider."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest

from perdure.durable.inbox import Due, NewCall
from perdure.durable.records import HostRecord, WorkerId
from perdure.errors import Fenced, InternalError, Overloaded, PerdureError, ProviderUnavailable, Quarantined, Suspended
from perdure.host.dispatcher import Dispatcher
from perdure.host.metrics import HostMetrics
from perdure.host.ownership import Ownership
from perdure.host.routing import preferred_host
from perdure.providers.memory import MemoryStore, MemoryWorld

ME, OTHER = HostRecord("me", "http://me"), HostRecord("other", "http://other")


class Members:
    def __init__(self, *hosts: HostRecord) -> None:
        self.me = ME
        self.hosts = hosts


class Table:
    """Takes calls from the real store and "runs" them; `errors` by instance are raised instead."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.errors: dict[str, Exception] = {}
        self.held: set[str] = set()
        self.ran: list[tuple[str, str]] = []
        self.tried: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.most = 0
        self._now = 0

    def busy(self, name: str) -> bool:
        return name in self.held

    async def run_pending(self, name: str) -> int | None:
        self.tried.append(name)
        self._now += 1
        self.most = max(self.most, self._now)
        try:
            await self.gate.wait()
            if name in self.errors:
                raise self.errors[name]
            token = (await self.store.claim(name, "n", "me")).token
            while (taken := await self.store.take(name, token)).call is not None:
                await self.store.cancel(name, taken.call.key)
                self.ran.append((name, taken.call.key))
            return taken.next_ms
        finally:
            self._now -= 1


class Counted(MemoryStore):
    """A store whose questions are counted, and may fail."""

    def __init__(self, world: MemoryWorld, worker: WorkerId) -> None:
        super().__init__(world, worker)
        self.asked = 0
        self.asked_for: list[int] = []
        self.error: PerdureError | None = None

    async def due(self, limit: int) -> Due:
        self.asked += 1
        self.asked_for.append(limit)
        if self.error is not None:
            raise self.error
        return await super().due(limit)


class Setting:
    def __init__(self, *hosts: HostRecord, interval: float, concurrency: int = 32) -> None:
        world, worker = MemoryWorld(), WorkerId("ns", "w")
        self.store = MemoryStore(world, worker)
        self.counted = Counted(world, worker)
        self.table = Table(self.store)
        self.metrics = HostMetrics()
        self.ownership = Ownership(self.metrics.ownership_conflict)
        self.members = Members(*(hosts or (ME,)))
        self.dispatcher = Dispatcher(
            self.counted, self.table, self.members, self.ownership, self.metrics,
            concurrency=concurrency, interval=interval,
        )  # fmt: skip

    async def enqueue(self, name: str, key: str = "k", due_ms: int | None = None) -> None:
        await self.store.enqueue(name, NewCall(key, b"f" * 32, b"p", due_ms), 1000)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.dispatcher.run())
        try:
            yield
        finally:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    async def until(self, true: Callable[[], object]) -> None:
        async with asyncio.timeout(60):
            while not true():
                await asyncio.sleep(0.01)

    def counted_errors(self, code: str) -> float:
        return self.metrics.registry.get_sample_value("perdure_dispatch_errors_total", {"code": code}) or 0


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.INFO):
        yield caplog


async def test_a_host_that_starts_finds_work_at_once() -> None:
    at = Setting(interval=1000.0)
    await at.enqueue("a")
    await at.enqueue("b")
    async with at.running():
        await at.until(lambda: len(at.table.ran) == 2)
    assert at.counted.asked == 1


async def test_what_is_accepted_here_starts_without_asking_the_store() -> None:
    at = Setting(interval=1000.0)
    async with at.running():
        await at.until(lambda: at.counted.asked == 1)
        await at.enqueue("a")
        at.dispatcher.wake("a", None)
        await at.until(lambda: at.table.ran == [("a", "k")])
    assert at.counted.asked == 1


async def test_a_call_accepted_while_its_inbox_ends_is_not_left_waiting() -> None:
    at = Setting(interval=1000.0)
    async with at.running():
        await at.until(lambda: at.counted.asked == 1)
        at.table.gate.clear()
        at.dispatcher.wake("a", None)
        await at.until(lambda: at.table.tried == ["a"])
        await at.enqueue("a")
        at.dispatcher.wake("a", None)
        at.table.gate.set()
        await at.until(lambda: at.table.ran == [("a", "k")])
        await at.until(lambda: at.dispatcher.running == 0)
    assert at.table.tried == ["a", "a"]


@pytest.mark.parametrize("woken", [True, False])
async def test_the_time_of_a_scheduled_call_is_met(woken: bool) -> None:
    """Whether this host accepted it or learns of it from the store."""
    at = Setting(interval=1000.0)
    due_ms = (await at.store.due(1)).now_ms + 400
    if not woken:
        await at.enqueue("a", due_ms=due_ms)
    async with at.running():
        await at.until(lambda: at.counted.asked == 1)
        if woken:
            await at.enqueue("a", due_ms=due_ms)
            at.dispatcher.wake("a", due_ms)
        await at.until(lambda: at.table.ran == [("a", "k")])
    assert (await at.store.due(1)).now_ms >= due_ms


async def test_only_its_own_instances() -> None:
    at = Setting(ME, OTHER, interval=0.05)
    names = [f"i{number}" for number in range(40)]
    for name in names:
        await at.enqueue(name)
        at.dispatcher.wake(name, None)
    mine = {name for name in names if preferred_host(name, (ME, OTHER)) == ME}
    assert 0 < len(mine) < 40
    async with at.running():
        await at.until(lambda: {name for name, _ in at.table.ran} == mine)
        asked = at.counted.asked
        await at.until(lambda: at.counted.asked > asked + 2)
        assert {name for name, _ in at.table.ran} == mine
        at.members.hosts = (ME,)
        await at.until(lambda: {name for name, _ in at.table.ran} == set(names))


async def test_a_host_that_has_left_begins_nothing() -> None:
    at = Setting(OTHER, interval=0.02)
    await at.enqueue("a")
    async with at.running():
        await at.until(lambda: at.counted.asked > 3)
    assert at.table.tried == []


async def test_a_bounded_number_at_once_and_all_in_the_end() -> None:
    at = Setting(concurrency=4, interval=0.05)
    for number in range(30):
        await at.enqueue(f"i{number}")
    async with at.running():
        at.table.gate.clear()
        await at.until(lambda: at.dispatcher.running == 4)
        at.table.gate.set()
        await at.until(lambda: len(at.table.ran) == 30)
    assert at.table.most == 4


async def test_behind_a_page_of_others_instances_its_own_are_found() -> None:
    at = Setting(ME, OTHER, interval=0.02)
    theirs = [name for name in (f"x{n}" for n in range(2000)) if preferred_host(name, (ME, OTHER)) == OTHER][:700]
    for name in theirs:
        await at.enqueue(name)
    mine = next(name for name in (f"y{n}" for n in range(99)) if preferred_host(name, (ME, OTHER)) == ME)
    await asyncio.sleep(0.01)
    await at.enqueue(mine)
    async with at.running():
        await at.until(lambda: at.table.ran == [(mine, "k")])
    assert at.counted.asked_for[0] < 700


async def test_an_instance_that_is_busy_is_left_alone_for_a_while() -> None:
    at = Setting(interval=0.05)
    at.table.held.add("a")
    await at.enqueue("a")
    async with at.running():
        await at.until(lambda: at.counted.asked > 4)
        assert at.table.tried == []
        # It is always busy: its inbox must not starve.
        await at.until(lambda: at.table.ran == [("a", "k")])


@pytest.mark.parametrize(
    "error",
    [ProviderUnavailable("no"), Overloaded("full"), Quarantined("bad"), InternalError("x"), ValueError("defect")],
    ids=lambda error: type(error).__name__,
)
async def test_one_bad_instance_never_stops_the_others(error: Exception, quiet: pytest.LogCaptureFixture) -> None:
    at = Setting(interval=0.02)
    at.table.errors["bad"] = error
    await at.enqueue("bad")
    async with at.running():
        await at.until(lambda: len(at.table.tried) >= 2)
        await at.enqueue("good")
        await at.until(lambda: ("good", "k") in at.table.ran)
        code = error.code if isinstance(error, PerdureError) else "internal"
        assert at.counted_errors(code) >= 2
        said = [record for record in quiet.records if record.message.startswith("an inbox waits")]
        assert len(said) == 1, "once, not with every attempt"
        # It is asked less and less often, and at once where it recovers.
        assert len(at.table.tried) < at.counted.asked
        del at.table.errors["bad"]
        await at.until(lambda: ("bad", "k") in at.table.ran)


async def test_the_trace_of_a_defect_that_quarantined_is_logged(quiet: pytest.LogCaptureFixture) -> None:
    at = Setting(interval=0.02)
    found, other = Quarantined("bad"), Quarantined("bad")
    found.__cause__ = InternalError("a defect")
    found.__cause__.__cause__ = ValueError("what it was")
    at.table.errors |= {"a": found, "b": other}
    await at.enqueue("a")
    await at.enqueue("b")
    async with at.running():
        await at.until(lambda: {"a", "b"} <= set(at.table.tried))
        await at.until(lambda: at.dispatcher.running == 0)
    traced = [record for record in quiet.records if record.exc_info]
    assert {record.fields["instance"] for record in traced} == {"a"}  # type: ignore[attr-defined]
    assert "what it was" in (quiet.handler.formatter or logging.Formatter()).format(traced[0])


async def test_who_sleeps_is_let_alone_until_it_is_resumed_deleted_or_was_elsewhere() -> None:
    at = Setting(interval=0.05)
    name = next(name for name in map(str, range(100)) if preferred_host(name, (ME, OTHER)) == OTHER)
    at.table.errors[name] = Suspended("it sleeps", until=1 << 60)
    await at.enqueue(name)

    async def looked() -> None:
        before = at.counted.asked
        await at.until(lambda: at.counted.asked >= before + 3)

    async with at.running():
        await at.until(lambda: at.table.tried)
        await looked()
        assert at.table.tried == [name], "negative control: it was due all the time"
        at.dispatcher.wake(name, None)
        await looked()
        assert at.table.tried == [name], "another call was accepted, which waits in line"
        at.dispatcher.resume(name)
        await at.until(lambda: len(at.table.tried) == 2)
        await looked()
        at.dispatcher.forget(name)
        await at.until(lambda: len(at.table.tried) == 3)
        at.members.hosts = (ME, OTHER)
        await looked()
        at.members.hosts = (ME,)
        await at.until(lambda: len(at.table.tried) == 4)


async def test_what_is_quarantined_is_known_until_it_runs() -> None:
    at = Setting(interval=0.02)
    at.table.errors["a"] = Quarantined("bad")
    await at.enqueue("a")
    async with at.running():
        await at.until(lambda: len(at.ownership.quarantined()) == 1)
        at.table.errors.clear()
        await at.until(lambda: at.ownership.quarantined() == [])


async def test_a_store_that_does_not_answer_is_asked_less_often(quiet: pytest.LogCaptureFixture) -> None:
    at = Setting(interval=0.02)
    at.counted.error = ProviderUnavailable("down")
    await at.enqueue("a")
    async with at.running():
        await at.until(lambda: at.counted.asked >= 4)
        assert at.counted_errors("provider-unavailable") >= 3
        assert sum("does not say" in record.message for record in quiet.records) == 1
        at.counted.error = None
        await at.until(lambda: at.table.ran == [("a", "k")])


async def test_an_instance_that_other_hosts_keep_taking_is_damped() -> None:
    at = Setting(interval=0.02)
    at.table.errors["a"] = Fenced("taken")
    await at.enqueue("a")
    async with at.running():
        await at.until(lambda: at.ownership.delay("a") > 0)
    assert (at.metrics.registry.get_sample_value("perdure_ownership_conflicts_total") or 0) >= 1


async def test_after_stop_nothing_begins_and_what_runs_ends() -> None:
    at = Setting(interval=0.02)
    await at.enqueue("a")
    async with at.running():
        at.table.gate.clear()
        await at.until(lambda: at.dispatcher.running == 1)
        at.dispatcher.stop()
        await at.enqueue("b")
        at.dispatcher.wake("b", None)
        at.dispatcher.wake("a", None)
        at.table.gate.set()
        await at.until(lambda: at.dispatcher.running == 0)
        asked = at.counted.asked
        await asyncio.sleep(0.1)
        assert at.counted.asked == asked
    assert at.table.tried == ["a"]


async def test_cancelled_in_the_middle_it_ends() -> None:
    at = Setting(concurrency=1, interval=0.02)
    at.table.gate.clear()
    for name in ("a", "b", "c"):
        await at.enqueue(name)
    async with at.running():
        await at.until(lambda: at.dispatcher.running == 1)
    assert at.dispatcher.running == 0
