"""PostgreSQL that crashes, loses connections and fails over under load: nothing acknowledged is lost, nothing doubled.

Each writer counts up a key of its own and one that all share. After an unknown outcome it sends the very same commit
again, as the engine does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import asyncpg
import pytest

from perdure.durable.effects import BucketAddress, Counted, Increment, Scope
from perdure.durable.records import Commit, CommitStatus, Committed, OwnerToken, WorkerId
from perdure.errors import Overloaded, ProviderUnavailable
from perdure.providers.postgres import PostgresConfig, PostgresStore
from support.postgres import PostgresServer, postgres_server, standby_of
from support.proxy import cutting_proxy

SHOP = BucketAddress(Scope.WORKER, "shop")
WORKER = WorkerId("ns", "carts")
WRITERS = 6


@pytest.fixture(scope="module")
def durable() -> Iterator[PostgresServer]:
    with postgres_server("fsync=on") as server:
        yield server


@asynccontextmanager
async def opened(config: PostgresConfig) -> AsyncIterator[PostgresStore]:
    store = await PostgresStore.open(config, WORKER)
    try:
        yield store
    finally:
        await store.close()


@dataclass
class Writer:
    """`recognised`: how many commits had been applied when they were sent again."""

    store: PostgresStore
    name: str
    token: OwnerToken
    sequence: int = 0
    recognised: int = 0
    ended: bool = False
    outcomes: list[int] = field(default_factory=list)

    async def run(self) -> None:
        while not self.ended:
            self.keep(await self.surely(self.next()))

    def next(self) -> Commit:
        effects = [Increment(SHOP, self.name, 1), Increment(SHOP, "all", 1)]
        return Commit(self.name, self.token, self.sequence + 1, b"entry", effects=effects)

    async def surely(self, commit: Commit) -> Committed:
        while True:
            try:
                return await self.store.commit(commit)
            except (ProviderUnavailable, Overloaded):
                await asyncio.sleep(0.05)

    def keep(self, done: Committed) -> None:
        self.sequence += 1
        self.recognised += done.status is CommitStatus.DUPLICATE
        own = done.outcomes[0]
        assert isinstance(own, Counted)
        self.outcomes.append(own.value)


async def writers(store: PostgresStore, count: int = WRITERS) -> list[Writer]:
    names = [f"w{number}" for number in range(count)]
    return [Writer(store, name, (await store.claim(name, "n", "h")).token) for name in names]


async def check(store: PostgresStore, found: list[Writer]) -> None:
    """Each writer's commits took place once each, in their order."""
    for writer in found:
        assert writer.outcomes == list(range(1, writer.sequence + 1))
        data = await store.peek(writer.name)
        assert data is not None and data.sequence == writer.sequence
    total = sum(writer.sequence for writer in found)
    assert await store.get_many(SHOP, ["all"]) == [b"%d" % total]


async def work(found: list[Writer], seconds: float, disturb: Callable[[], None], times: int) -> None:
    """Let them write, and `disturb` in between, `times` times."""
    running = [asyncio.create_task(writer.run()) for writer in found]
    for _ in range(times):
        await asyncio.sleep(seconds)
        await asyncio.to_thread(disturb)
    await asyncio.sleep(seconds)
    for writer in found:
        writer.ended = True
    await asyncio.gather(*running)


def fresh(server: PostgresServer, schema: str) -> PostgresConfig:
    return PostgresConfig(server.url, schema=schema)


@pytest.mark.parametrize("how", ["crash", "stop"])
async def test_a_server_that_crashes_under_load(durable: PostgresServer, how: str) -> None:
    def disturb() -> None:
        getattr(durable, how)()
        durable.start()

    async with opened(fresh(durable, f"crashing_{how}")) as store:
        found = await writers(store)
        await work(found, 0.5, disturb, 3)
        await check(store, found)
        assert all(writer.sequence > 10 for writer in found)


async def test_connections_that_are_ended_under_load(durable: PostgresServer) -> None:
    """By an administrator, in the middle of whatever they do; some commits have taken place by then."""

    async def end_all() -> None:
        admin = await asyncpg.connect(durable.url, ssl=False)
        await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'perdure'")
        await admin.close()

    async with opened(fresh(durable, "ended")) as store:
        found = await writers(store)
        await work(found, 0.1, lambda: asyncio.run(end_all()), 10)
        await check(store, found)


@pytest.mark.parametrize("way", ["upward", "downward"])
async def test_a_connection_cut_in_the_middle_of_a_commit(durable: PostgresServer, way: str) -> None:
    """At every few bytes of the request and of the reply. On the way down the commit has taken place, and is
    recognised; on the way up it has not, unless all of it had passed."""
    async with cutting_proxy(durable.port) as proxy:
        url = f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres"
        config = replace(fresh(durable, f"cut_{way}"), url=url, connections=1)
        async with opened(config) as store:
            (writer,) = await writers(store, 1)
            # The second one is as long as all others: what a connection learns at first is learnt.
            for _ in range(2):
                writer.keep(await store.commit(writer.next()))
            before = proxy.seen[way == "downward"]
            writer.keep(await store.commit(writer.next()))
            size = proxy.seen[way == "downward"] - before
            assert size > 50
            lost = 0
            for allowed in range(0, size, max(size // 23, 1)):
                setattr(proxy, way, max(allowed, 1))
                try:
                    done = await store.commit(writer.next())
                except ProviderUnavailable:
                    lost += 1
                    proxy.let_through()
                    done = await writer.surely(writer.next())
                proxy.let_through()
                writer.keep(done)
                # A new connection learns the statement again.
                writer.keep(await writer.surely(writer.next()))
            await check(store, [writer])
            assert lost > 20
            assert writer.recognised == (lost if way == "downward" else 0)


async def test_a_standby_takes_over_with_everything_acknowledged() -> None:
    """Level D4: the primary is lost for good under load; hosts find the promoted standby by themselves."""
    with postgres_server("fsync=on", "wal_level=replica") as primary, standby_of(primary) as standby:
        primary.reconfigure("synchronous_standby_names = '*'")
        hosts = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
        async with opened(PostgresConfig(f"postgresql://postgres@{hosts}/postgres")) as store:
            assert (await store.ping()).durability == "D4"
            found = await writers(store)

            def fail_over() -> None:
                primary.crash()
                standby.promote()

            await work(found, 0.7, fail_over, 1)
            standby.reconfigure("synchronous_standby_names = ''")
            await check(store, found)
            assert (await store.ping()).durability == "D2"


async def test_control_a_commit_that_is_not_recognised_is_doubled(durable: PostgresServer) -> None:
    """What the checks above would find: the same effects under another sequence, sent because a reply was lost."""
    async with opened(fresh(durable, "control")) as store:
        (writer,) = await writers(store, 1)
        writer.keep(await store.commit(writer.next()))
        again = replace(writer.next(), sequence=2)
        await store.commit(again)
        with pytest.raises(AssertionError):
            await check(store, [writer])
