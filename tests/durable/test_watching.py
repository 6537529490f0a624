"""Watched buckets: each change is told once and in the order of its key, wherever a host dies."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from typing import Any, cast

import pytest

from durable.test_pending import QUICK, settle, table_of
from perdure.component.component import BoundComponent, Component
from perdure.component.engine import Engine
from perdure.durable.calls import CallPayload, decode_failure, encode
from perdure.durable.components import ComponentLibrary
from perdure.durable.control import Verb
from perdure.durable.effects import BucketAddress, Fill, Put, Scope, Swap
from perdure.durable.environment import EngineEnvironment
from perdure.durable.feeds import Changed, FeedBounds
from perdure.durable.inbox import NewCall
from perdure.durable.journal import call_fingerprint
from perdure.durable.policy import BucketPolicy, WatchPolicy
from perdure.durable.records import Commit, Committed, ForeignApply
from perdure.durable.settings import CommitMode, RetryPolicy, SnapshotPolicy
from perdure.durable.store import FeedStore, Store
from perdure.durable.watching import Delivery
from perdure.errors import FeedFull, Quarantined
from perdure.host.app import guest_interfaces
from perdure.host.instances import InstanceTable
from perdure.keyvalue.watcher import Watcher, watcher_of
from perdure.providers.memory import MemoryStore, MemoryWorld
from perdure.providers.memory.feeds import append
from support.crashing import Crash, Fuse, all_crashing
from support.engine import WORKER, call, environment, library
from support.guests import guest

SEEN = BucketAddress(Scope.WORKER, "seen")
WATCH = WatchPolicy("reader")


@pytest.fixture
async def watching(engine: Engine) -> BoundComponent:
    return (await Component.load(engine, guest("watch-g4").read_bytes())).bind(guest_interfaces())


def watcher(bound: BoundComponent) -> Watcher:
    found = watcher_of(bound.component.exports)
    assert found is not None
    return found


class Host:
    """One process: instances, and what tells the reader. `kind`: the class that delivers."""

    def __init__(
        self,
        bound: BoundComponent,
        code: ComponentLibrary,
        settings: EngineEnvironment,
        kind: type[Delivery] = Delivery,
        max_pending: int = 100,
    ) -> None:
        self.bound = bound
        self.home = settings.home
        self.table: InstanceTable = table_of(code, settings)
        self.deliveries = [
            kind(
                policy, watch, cast("FeedStore", settings.stores[policy.provider]), settings.home, watcher(bound),
                max_pending=max_pending, wall_ms=lambda: settings.wall_ms,
            )
            for policy, watch in settings.catalog.watched()
        ]  # fmt: skip

    async def watch(self) -> None:
        for delivery in self.deliveries:
            await delivery.renew()

    async def write(self, instance: str, key: str, value: bytes | None, *, bucket: str = "news", once: str) -> None:
        where = (self.table, instance)
        if value is None:
            await call(where, self.bound, "delete", bucket, key, key=once)
        else:
            await call(where, self.bound, "set", bucket, key, base64.b64encode(value).decode(), key=once)

    async def tell(self) -> None:
        """Until nothing is left to tell."""
        idle = 0
        for _ in range(1000):
            steps = [await delivery.step() for delivery in self.deliveries]
            await settle(self.table, self.home)
            idle = 0 if any(step.sent or step.told for step in steps) else idle + 1
            if idle == 2:
                return
        raise AssertionError("it goes on and on")


async def seen(store: Store, bucket: BucketAddress = SEEN) -> list[str]:
    """What the reader was told, in its order."""
    keys = (await store.keys(bucket, None, 1000)).keys
    assert keys == [f"{number:05}" for number in range(len(keys))]
    return [(value or b"").decode().partition(" [")[0] for value in await store.get_many(bucket, keys)]


WRITES: list[tuple[str, str, bytes | None]] = [
    ("alice", "a", b"1"), ("bob", "b", b"1"), ("alice", "a", b"2"), ("alice", "a", None), ("bob", "c", b"\0\xff"),
    ("bob", "a", b"3"),
]  # fmt: skip
TOLD = {"a": ["a=1", "a=2", "a gone", "a=3"], "b": ["b=1"], "c": ["c=\0\N{REPLACEMENT CHARACTER}"]}


def by_key(lines: list[str]) -> dict[str, list[str]]:
    return {key: [line for line in lines if line.startswith(key)] for key in sorted({line[0] for line in lines})}


async def sweep(
    bound: BoundComponent,
    policy: BucketPolicy,
    *,
    applied: bool,
    mode: CommitMode = CommitMode.INVOCATION,
    kind: type[Delivery] = Delivery,
    home: Callable[[Fuse], MemoryStore] = lambda fuse: MemoryStore(MemoryWorld(), WORKER),
) -> set[str | None]:
    """A host that writes and tells dies at each of its operations; another one does all of it again. Where it died."""
    code = library(bound)
    operations, boundaries = 0, set()
    while True:
        operations += 1
        fuse = Fuse(operations, applied=applied)
        stores: dict[str, Store] = {"home": home(fuse), "away": MemoryStore(MemoryWorld(), WORKER)}
        settings: dict[str, Any] = {"commit": mode, "snapshots": SnapshotPolicy(entries=3)}
        dying = Host(bound, code, environment(all_crashing(stores, fuse), policy, **settings), kind)
        try:
            await dying.watch()
            for number, write in enumerate(WRITES):
                await dying.write(*write, once=f"w{number}")
                if number % 2:
                    await dying.tell()
            await dying.tell()
        except Crash:
            boundaries.add(fuse.burnt)
        dying.table.close()
        fuse.left = -1
        living = Host(bound, code, environment(stores, policy, **settings), kind)
        await living.watch()
        for number, write in enumerate(WRITES):
            await living.write(*write, once=f"w{number}")
            await living.tell()
        living.table.close()
        where = f"crash at operation {operations} ({fuse.burnt}, {'after' if applied else 'before'})"
        assert by_key(await seen(stores["home"])) == TOLD, where
        if fuse.burnt is None:
            break
    code.close()
    return boundaries


@pytest.mark.parametrize("provider", ["home", "away"])
@pytest.mark.parametrize("applied", [False, True], ids=["before", "after"])
async def test_a_crash_at_every_operation(watching: BoundComponent, provider: str, applied: bool) -> None:
    boundaries = await sweep(watching, BucketPolicy("news", provider, watch=WATCH), applied=applied)
    assert boundaries >= {"watch", "changes", "enqueue", "told", "claim", "take", "commit", "result"}


async def test_a_crash_where_each_write_is_a_commit(watching: BoundComponent) -> None:
    await sweep(watching, BucketPolicy("news", "home", watch=WATCH), applied=True, mode=CommitMode.EFFECT)


class FeedOutsideTheTransaction(MemoryStore):
    """A change is committed, and then appended to the feed."""

    fuse: Fuse

    async def commit(self, commit: Commit) -> Committed:
        writer = (self._worker.name, commit.instance)
        feeds = self._open_feeds(commit.effects, writer)
        hidden, self._world.feeds = self._world.feeds, {}
        try:
            committed = await super().commit(commit)
        finally:
            self._world.feeds = hidden

        async def appended() -> None:
            for effect in commit.effects:
                assert not isinstance(effect, Fill), "no program here sets many"
                if effect.bucket in feeds:
                    value = effect.value if isinstance(effect, Put | Swap) else None
                    append(feeds[effect.bucket], effect.key, Changed(value), writer)

        await self.fuse.carry_out("append", appended)
        return committed


def _outside(fuse: Fuse) -> MemoryStore:
    store = FeedOutsideTheTransaction(MemoryWorld(), WORKER)
    store.fuse = fuse
    return store


class MovesOnBeforeItSends(Delivery):
    """The place in the feed is kept first."""

    async def _send(self) -> int:
        if self._window:
            await self._feed.told(self._address, self._life, self._window[-1].number)
        return await super()._send()


class SendsUnderNewKeys(Delivery):
    """As if nothing told one change from another."""

    sent = 0

    def _key(self, number: int) -> str:
        return f"{id(self)}.{number}"


class DoesNotWait(Delivery):
    """The whole feed goes into the inbox at once: its order is enough."""

    async def _send(self) -> int:
        sent, window = 0, list(self._window)
        for item in window:
            self._window.clear()
            self._window.append(item)
            sent += await super()._send()
        self._window.clear()
        self._window.extend(window)
        return sent


@pytest.mark.parametrize(
    ("kind", "home"),
    [(Delivery, _outside), (MovesOnBeforeItSends, None), (SendsUnderNewKeys, None)],
    ids=["feed-outside-the-transaction", "moves-on-before-it-sends", "sends-under-new-keys"],
)
async def test_the_sweep_finds_what_is_wrong(
    watching: BoundComponent, kind: type[Delivery], home: Callable[[Fuse], MemoryStore] | None
) -> None:
    more: dict[str, Any] = {} if home is None else {"home": home}
    with pytest.raises(AssertionError, match="crash at operation"):
        for applied in (False, True):
            await sweep(watching, BucketPolicy("news", "home", watch=WATCH), applied=applied, kind=kind, **more)


async def fails_first(bound: BoundComponent, home: Store, kind: type[Delivery]) -> list[str]:
    """What is told while the first change of one key is tried again and again."""
    code = library(bound)
    policy = BucketPolicy("news", "home", watch=WATCH)
    host = Host(bound, code, environment({"home": home}, policy, retry=QUICK), kind)
    await host.watch()
    for number, (key, value) in enumerate([("a", b"trap"), ("a", b"2"), ("b", b"1")]):
        await host.write("alice", key, value, once=f"w{number}")
    await host.deliveries[0].step()
    await host.table.run_pending("reader")
    await host.deliveries[0].step()
    await host.table.run_pending("reader")
    between = await seen(home)
    with pytest.raises(Quarantined, match=r"'watch/news/\w+\.1' failed in 3 attempts"):
        await host.tell()
    assert (await host.deliveries[0].step()).told == 0
    # Somebody gives the change up; those after it go on.
    await host.table.control("reader", Verb.SKIP)
    await host.tell()
    assert by_key(await seen(home)) == {"a": ["a=2"], "b": ["b=1"]}
    found = await home.changes(policy.address(""), 0, 10)
    assert found is not None and (found.reached, found.changes) == (3, [])
    host.table.close()
    code.close()
    return between


async def test_a_change_that_fails_holds_up_its_key_and_no_other(watching: BoundComponent, home: Store) -> None:
    assert await fails_first(watching, home, Delivery) == ["b=1"]


async def test_an_inbox_alone_does_not_keep_the_order(watching: BoundComponent) -> None:
    found = await fails_first(watching, MemoryStore(MemoryWorld(), WORKER), DoesNotWait)
    assert found == ["a=2", "b=1"], "without waiting, a key's second change overtakes the first"


async def test_a_full_feed_holds_up_whoever_writes(watching: BoundComponent, home: Store) -> None:
    code = library(watching)
    policy = BucketPolicy("news", "home", watch=WatchPolicy("reader", FeedBounds(changes=2)))
    host = Host(watching, code, environment({"home": home}, policy, retry=RetryPolicy(2, 1, 1)))
    await host.watch()
    for number in range(2):
        await host.write("alice", "a", b"%d" % number, once=f"w{number}")
    with pytest.raises(FeedFull, match="bucket 'news' takes no changes now"):
        await host.write("alice", "a", b"2", once="w2")
    await host.write("alice", "elsewhere", b"1", bucket="other", once="x")
    # An asynchronous call is not given up for that, however often it is tried.
    arguments = b'["news","b","Mw=="]'
    payload = encode(CallPayload("perdure:tests/kv.set", arguments, 0))
    await home.enqueue("bob", NewCall("w3", call_fingerprint("perdure:tests/kv.set", arguments), payload), 10)
    for _ in range(5):
        await host.table.run_pending("bob")
        await asyncio.sleep(0.005)
    waiting = await home.pending("bob", "w3")
    assert waiting is not None and waiting.attempts > 2
    failure = decode_failure(waiting.failure)
    assert failure is not None and failure.code == "feed-full"
    for _ in range(4):
        await host.deliveries[0].step()
        await host.table.run_pending("reader")
    await host.tell()
    await host.write("alice", "a", b"2", once="w2")
    await host.tell()
    assert by_key(await seen(home)) == {"a": ["a=0", "a=1", "a=2"], "b": ["b=3"]}
    host.table.close()
    code.close()


async def test_an_inbox_that_is_full_is_waited_for(watching: BoundComponent, home: Store) -> None:
    code = library(watching)
    host = Host(watching, code, environment({"home": home}, BucketPolicy("news", "home", watch=WATCH)), max_pending=2)
    await host.watch()
    await home.apply_foreign(
        ForeignApply("", 0, [Put(BucketAddress(Scope.WORKER, "news"), f"k{number}", b"v") for number in range(9)])
    )
    assert (await host.deliveries[0].step()).sent == 2
    assert (await host.deliveries[0].step()).sent == 0
    await host.tell()
    assert await seen(home) == [f"k{number}=v" for number in range(9)]
    host.table.close()
    code.close()


async def test_a_watcher_that_writes_into_what_it_watches_is_not_told_of_that(
    watching: BoundComponent, home: Store
) -> None:
    code = library(watching)
    host = Host(watching, code, environment({"home": home}, BucketPolicy("news", "home", watch=WATCH)))
    await host.watch()
    await host.write("alice", "echo/x", b"1", once="w0")
    await host.tell()
    assert await home.get_many(BucketAddress(Scope.WORKER, "news"), ["echoed/x"]) == [b"1"]
    assert await seen(home) == ["echo/x=1"]
    host.table.close()
    code.close()


async def test_two_hosts_may_tell_at_once(watching: BoundComponent, home: Store) -> None:
    code = library(watching)
    policy = BucketPolicy("news", "home", watch=WATCH)
    hosts = [Host(watching, code, environment({"home": home}, policy, host=name)) for name in ("one", "two")]
    await hosts[0].watch()
    for number, write in enumerate(WRITES):
        await hosts[0].write(*write, once=f"w{number}")
        for host in hosts:
            await host.deliveries[0].step()
        await settle(hosts[0].table, home)
    for _ in range(len(WRITES)):
        await asyncio.gather(*(host.deliveries[0].step() for host in hosts))
        await settle(hosts[0].table, home)
    assert by_key(await seen(home)) == TOLD
    for host in hosts:
        host.table.close()
    code.close()
