"""What is PostgreSQL's own: the schema, the connections' bounds, levels, credentials, and what keeps tables small."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest

from perdure.durable.effects import BucketAddress, Put, Scope
from perdure.durable.feeds import FeedBounds
from perdure.durable.records import Commit, CommitStatus, ForeignApply, OwnerToken, WorkerId
from perdure.errors import Fenced, Overloaded, ProviderUnavailable, TooLarge
from perdure.providers.postgres import PostgresConfig, PostgresStore
from perdure.providers.postgres.effects import Owner, pack
from perdure.providers.postgres.install import Scripts
from perdure.providers.postgres.store import _FOREIGN
from providers.owners import SHOP, own
from support.cluster.processes import run
from support.postgres import PostgresServer, postgres_server
from support.proxy import cutting_proxy

WORKER = WorkerId("ns", "carts")


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PostgresServer, Path]]:
    """A server with fsync, a password and a certificate of `ca`."""
    pki = tmp_path_factory.mktemp("pki")
    for name in ("ca", "stranger"):
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-keyout", str(pki / f"{name}.key"), "-out", str(pki / f"{name}.crt"), "-subj", f"/CN={name}", "-days", "2",
            "-addext", "subjectAltName=IP:127.0.0.1")  # fmt: skip
    with postgres_server(password="first secret") as server:
        server.stop()
        for name in ("ca.crt", "ca.key"):
            (server.directory / name).write_bytes((pki / name).read_bytes())
            server.give(server.directory / name)
        tls = (f"ssl_cert_file={server.directory}/ca.crt", f"ssl_key_file={server.directory}/ca.key", "ssl=on")
        server.options = tuple(part for setting in tls for part in ("-c", setting))
        server.start()
        yield server, pki


@pytest.fixture
def config(postgres: PostgresServer) -> PostgresConfig:
    """A schema of the test's own."""
    return PostgresConfig(postgres.url, schema="s" + uuid.uuid4().hex)


@pytest.fixture
async def database(postgres: PostgresServer, config: PostgresConfig) -> AsyncIterator[asyncpg.Connection]:
    """The superuser's connection; the test's schema is dropped after it."""
    connection = await asyncpg.connect(postgres.url, ssl=False)
    yield connection
    await connection.execute(f"DROP SCHEMA IF EXISTS {config.schema} CASCADE")
    await connection.close()


@pytest.fixture
async def store(config: PostgresConfig, database: asyncpg.Connection) -> AsyncIterator[PostgresStore]:
    opened = await PostgresStore.open(config, WORKER)
    yield opened
    await opened.close()


async def settled(connection: asyncpg.Connection) -> None:
    """The statistics of what other sessions did are there once these have ended, or a second later."""
    await asyncio.sleep(1.2)
    await connection.execute("SELECT pg_stat_clear_snapshot()")


async def test_hosts_that_start_together_make_one_schema(config: PostgresConfig, database: asyncpg.Connection) -> None:
    stores = [await PostgresStore.open(config, WORKER) for _ in range(8)]
    levels = await asyncio.gather(*(store.ping() for store in stores))
    assert {found.kind for found in levels} == {"postgres"}
    assert await database.fetchval(f"SELECT count(*) FROM {config.schema}.meta") == 1
    for store in stores:
        await store.close()


async def test_a_schema_that_was_dropped_is_made_anew(
    store: PostgresStore, config: PostgresConfig, database: asyncpg.Connection
) -> None:
    before = await store.claim("alice", "n", "h")
    await database.execute(f"DROP SCHEMA {config.schema} CASCADE")
    with pytest.raises(ProviderUnavailable, match="tables are gone"):
        await store.verify("alice", before.token)
    with pytest.raises(Fenced):
        await store.verify("alice", before.token)
    assert (await store.claim("alice", "n", "h")).store != before.store


async def test_a_schema_of_a_newer_version_is_refused(config: PostgresConfig, database: asyncpg.Connection) -> None:
    store = await PostgresStore.open(config, WORKER)
    await store.ping()
    await store.close()
    await database.execute(f"UPDATE {config.schema}.meta SET version = 99")
    names = await database.fetch(
        "SELECT p.oid::regprocedure AS name FROM pg_proc p WHERE p.pronamespace = $1::regnamespace", config.schema
    )
    for row in names:
        await database.execute(f"DROP FUNCTION {row['name']} CASCADE")
    store = await PostgresStore.open(config, WORKER)
    with pytest.raises(ProviderUnavailable, match="newer Perdure"):
        await store.ping()
    await store.close()


async def test_a_schema_of_version_1_is_upgraded_and_its_hosts_stop(
    config: PostgresConfig, database: asyncpg.Connection
) -> None:
    scripts = Scripts(config.schema)
    await database.execute(f"CREATE SCHEMA {config.schema}")
    await database.execute(scripts.tables)
    await database.execute(
        f"CREATE FUNCTION {config.schema}.commit_former(a bytea) RETURNS int LANGUAGE sql AS 'SELECT 1'"
    )
    await database.execute(
        f"INSERT INTO {config.schema}.instances (worker, name, epoch, nonce, sequence) VALUES ($1, 'alice', 3, 'n', 2)",
        Owner.of(WORKER).worker,
    )
    store = await PostgresStore.open(config, WORKER)
    await store.watch(SHOP, "watcher", FeedBounds())
    done = await store.commit(Commit("alice", OwnerToken(3, "n"), 3, b"e", effects=[Put(SHOP, "k", b"1")]))
    assert done.status is CommitStatus.APPLIED
    found = await store.changes(SHOP, 0, 10)
    assert found is not None and [one.key for one in found.changes] == ["k"]
    assert await database.fetchval("SELECT to_regproc($1)", f"{config.schema}.commit_former") is None
    await store.close()


async def test_a_new_watch_waits_for_what_does_not_see_it(
    store: PostgresStore, config: PostgresConfig, database: asyncpg.Connection
) -> None:
    """A change that began before the watch and ends after it was answered would be missed."""
    # The bucket is known, so that nothing else is there to be waited for.
    await store.apply_foreign(ForeignApply("", 0, [Put(SHOP, "before", b"0")]))
    foreign = Scripts(config.schema).sql(_FOREIGN)
    owner = Owner.of(WORKER)
    async with database.transaction():
        arguments = pack(owner, [Put(SHOP, "k", b"1")])
        await database.fetch(foreign, owner.worker, b"", 0, *arguments, None)
        watch = asyncio.create_task(store.watch(SHOP, "watcher", FeedBounds()))
        done, _ = await asyncio.wait({watch}, timeout=0.3)
        assert not done
    await watch
    assert await store.get_many(SHOP, ["k"]) == [b"1"]
    async with database.transaction():
        await database.fetch(foreign, owner.worker, b"", 0, *pack(owner, [Put(SHOP, "other", b"2")]), None)
        found = await store.changes(SHOP, 0, 10)
    assert found is not None and found.changes == [], "what is not committed is no change yet"
    found = await store.changes(SHOP, 0, 10)
    assert found is not None and [one.key for one in found.changes] == ["other"]


async def test_a_role_without_rights_is_told_what_it_lacks(
    config: PostgresConfig, database: asyncpg.Connection, postgres: PostgresServer
) -> None:
    role = "r" + uuid.uuid4().hex
    await database.execute(f"CREATE ROLE {role} LOGIN")
    lacking = await PostgresStore.open(replace(config, credentials=lambda: (role, None)), WORKER)
    with pytest.raises(ProviderUnavailable, match="the role may not do this"):
        await lacking.ping()
    await database.execute(f"CREATE SCHEMA {config.schema} AUTHORIZATION {role}")
    assert (await lacking.ping()).kind == "postgres"
    await lacking.close()
    await database.execute(f"ALTER ROLE {role} CONNECTION LIMIT 0")
    limited = await PostgresStore.open(replace(config, credentials=lambda: (role, None)), WORKER)
    with pytest.raises(ProviderUnavailable, match="too many connections"):
        await limited.ping()
    await limited.close()
    await database.execute(f"DROP SCHEMA {config.schema} CASCADE; DROP ROLE {role}")


@pytest.mark.parametrize(
    ("settings", "level", "warning"),
    [
        ("", "D2", ""),
        ("synchronous_commit=off", "D1", "synchronous_commit is off"),
        ("synchronous_commit=local", "D2", ""),
        ("default_transaction_read_only=on", "", "read-only"),
    ],
)
async def test_the_level_is_that_of_the_servers_settings(
    secured: tuple[PostgresServer, Path], settings: str, level: str, warning: str
) -> None:
    server, _ = secured
    connection = await asyncpg.connect(server.url, password="first secret", ssl=False)
    role = "r" + uuid.uuid4().hex
    await connection.execute(f"CREATE ROLE {role} LOGIN SUPERUSER PASSWORD 'p'")
    ready = await PostgresStore.open(PostgresConfig(server.url, lambda: (role, "p")), WORKER)
    await ready.ping()
    await ready.close()
    if settings:
        name, _, value = settings.partition("=")
        await connection.execute(f"ALTER ROLE {role} SET {name} = '{value}'")
    store = await PostgresStore.open(PostgresConfig(server.url, lambda: (role, "p")), WORKER)
    if level:
        found = await store.ping()
        assert (found.durability, " ".join(found.warnings)[: len(warning)]) == (level, warning)
    else:
        with pytest.raises(ProviderUnavailable, match=warning):
            await store.ping()
    await store.close()
    await connection.close()


async def test_without_fsync_nothing_is_promised(store: PostgresStore) -> None:
    found = await store.ping()
    assert found.durability == "D0"
    assert found.warnings[0].startswith("fsync is off")


async def test_credentials_are_read_at_each_connect(secured: tuple[PostgresServer, Path]) -> None:
    server, _ = secured
    admin = await asyncpg.connect(server.url, password="first secret", ssl=False)
    role = "r" + uuid.uuid4().hex
    await admin.execute(f"CREATE ROLE {role} LOGIN SUPERUSER PASSWORD 'old secret'")
    secret = ["old secret"]
    store = await PostgresStore.open(PostgresConfig(server.url, lambda: (role, secret[0])), WORKER)
    await store.ping()
    await admin.execute(f"ALTER ROLE {role} PASSWORD 'new secret'")
    await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1", role)
    while await admin.fetchval("SELECT count(*) FROM pg_stat_activity WHERE usename = $1", role):
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)  # for the client to see it
    with pytest.raises(ProviderUnavailable, match="refused the credentials") as refused:
        await store.ping()
    assert "secret" not in refused.value.detail.replace("credentialsSecretRef", "")
    secret[0] = "new secret"
    assert (await store.ping()).kind == "postgres"
    await store.close()
    await admin.close()


async def test_tls_checks_the_servers_certificate(secured: tuple[PostgresServer, Path]) -> None:
    server, pki = secured
    config = PostgresConfig(server.url, lambda: ("postgres", "first secret"), tls=True, ca=pki / "ca.crt")
    trusted = await PostgresStore.open(config, WORKER)
    assert (await trusted.ping()).kind == "postgres"
    for ca, said in ((pki / "stranger.crt", "TLS failed"), (pki / "none.crt", "cannot be read")):
        store = await PostgresStore.open(replace(config, ca=ca), WORKER)
        with pytest.raises(ProviderUnavailable, match=said):
            await store.ping()
        await store.close()
    await trusted.close()


async def test_a_server_that_is_not_there_is_no_defect(config: PostgresConfig) -> None:
    store = await PostgresStore.open(replace(config, url="postgresql://x@127.0.0.1:1/db"), WORKER)
    with pytest.raises(ProviderUnavailable, match="127.0.0.1:1/db does not answer"):
        await store.ping()
    await store.close()
    await store.close()
    with pytest.raises(ProviderUnavailable, match="closed"):
        await store.ping()


@pytest.mark.parametrize(
    ("url", "schema"),
    [("mysql://x/y", "perdure"), *(("postgresql://h/d", schema) for schema in ('x"; DROP', "pg_x", "1x"))],
)
def test_a_configuration_that_can_never_work_is_refused(url: str, schema: str) -> None:
    with pytest.raises(ProviderUnavailable):
        PostgresConfig(url, schema=schema)


async def test_waiting_is_bounded(config: PostgresConfig, database: asyncpg.Connection) -> None:
    """For an answer, for a lock and for a connection: first with a server that is silent, then with a row held."""
    async with cutting_proxy(int(config.url.rsplit(":", 1)[1].split("/")[0])) as proxy:
        url = f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres"
        store = await PostgresStore.open(replace(config, url=url, connections=2, timeout=0.7), WORKER)
        owner = await own(store)
        await asyncio.gather(*(store.ping() for _ in range(4)))
        proxy.open.clear()
        silent = [asyncio.create_task(store.commit(owner.next())) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="none of the 2 connections"):
            await store.ping()
        for outcome in await asyncio.gather(*silent, return_exceptions=True):
            assert isinstance(outcome, ProviderUnavailable) and "did not answer within" in outcome.detail
        proxy.open.set()
        # The first was carried out or not, the second was the same one: sent again, it is recognised or carried out.
        assert (await store.commit(owner.next())).status in (CommitStatus.APPLIED, CommitStatus.DUPLICATE)
        owner.sequence = 1
        async with database.transaction():
            await database.execute(f"SELECT FROM {config.schema}.instances FOR UPDATE")
            with pytest.raises(ProviderUnavailable, match="55P03|57014"):
                await store.commit(owner.next())
        assert (await owner.commit()).status is CommitStatus.APPLIED
        await store.close()


async def test_a_cancelled_commit_leaves_its_connection_in_order(
    config: PostgresConfig, database: asyncpg.Connection
) -> None:
    store = await PostgresStore.open(replace(config, connections=1), WORKER)
    owner = await own(store)
    await owner.commit()
    async with database.transaction():
        await database.execute(f"SELECT FROM {config.schema}.instances FOR UPDATE")
        commit = owner.next(Put(SHOP, "a", b"1"))
        waiting = asyncio.create_task(store.commit(commit))
        while not await database.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    # What it had sent was carried out; the next caller gets its own answer.
    assert await store.get_many(SHOP, ["a", "b"]) == [b"1", None]
    assert (await store.commit(commit)).status is CommitStatus.DUPLICATE
    assert await database.fetchval("SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in%'") == 0
    await store.close()


async def test_a_key_that_no_index_holds_is_refused_whatever_it_is_made_of(store: PostgresStore) -> None:
    owner = await own(store)
    assert store.limits.key_bytes == 2600, "guests are told before anything is committed"
    for size, fits in ((2600, True), (2601, False)):
        key = "".join(chr(33 + (number * number) % 90) for number in range(size))
        if fits:
            await owner.commit(Put(SHOP, key, b"v"))
            assert await store.get_many(SHOP, [key]) == [b"v"]
        else:
            with pytest.raises(TooLarge, match="PostgreSQL takes 2600"):
                await owner.commit(Put(SHOP, key, b"v"))


async def test_commits_that_share_keys_do_not_deadlock(config: PostgresConfig, database: asyncpg.Connection) -> None:
    store = await PostgresStore.open(config, WORKER)
    keys = [f"k{number}" for number in range(20)]

    async def run_one(number: int) -> None:
        owner = await own(store, f"i{number}")
        for turn in range(15):
            order = keys if (number + turn) % 2 else keys[::-1]
            await owner.commit(*(Put(SHOP, key, b"%d" % number) for key in order))

    await asyncio.gather(*(run_one(number) for number in range(8)))
    await settled(database)
    assert await database.fetchval("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == 0
    await store.close()


async def test_an_instances_row_is_updated_in_its_page(
    store: PostgresStore, config: PostgresConfig, database: asyncpg.Connection
) -> None:
    owner = await own(store)
    for _ in range(300):
        await owner.commit(component="sha256:a" if owner.sequence == 0 else "")
    await store.close()
    await settled(database)
    row = await database.fetchrow(
        "SELECT n_tup_upd, n_tup_hot_upd, pg_relation_size(relid) AS size FROM pg_stat_user_tables "
        "WHERE schemaname = $1 AND relname = 'instances'",
        config.schema,
    )
    assert row["n_tup_upd"] >= 300
    # Those that are not: the first claim, and the component, which is indexed.
    assert row["n_tup_hot_upd"] >= row["n_tup_upd"] - 5
    assert row["size"] <= 4 * 8192


async def test_no_statement_reads_a_whole_table(config: PostgresConfig, database: asyncpg.Connection) -> None:
    async def scans() -> dict[str, int]:
        read = "SELECT relname, seq_scan FROM pg_stat_user_tables WHERE schemaname = $1"
        return dict(await database.fetch(read, config.schema))

    # Making an index reads its table.
    store = await PostgresStore.open(config, WORKER)
    await store.ping()
    await store.close()
    await settled(database)
    made = await scans()
    store = await PostgresStore.open(config, WORKER)
    owner = await own(store)
    await owner.commit(Put(SHOP, "a", b"1"), blobs={b"d": b"blob"}, foreign=True, open=True)
    await owner.commit(fresh=True)
    await owner.commit()
    await owner.snapshot(owner.sequence - 1)
    await store.claim("alice", "n", "h")
    for ask in (store.due(5), store.instances(None, 5), store.instance("alice"), store.peek("alice"),
                store.journal("alice", 0, 5), store.components(), store.keys(SHOP, None, 5), store.count(SHOP),
                store.result("alice", "k"), store.pending("alice", "k"), store.inbox("alice", 5),
                store.keep_component("d", b"c"), store.delete_instance("alice"), store.purge(lambda count: None)):  # fmt: skip
        await ask
    await store.close()
    await settled(database)
    assert {name: count for name, count in (await scans()).items() if count != made[name]}.keys() <= {"meta"}


async def test_expired_entries_are_cleared_by_later_commits_in_steps(
    store: PostgresStore, config: PostgresConfig, database: asyncpg.Connection
) -> None:
    owner = await own(store)
    await owner.commit(*(Put(SHOP, f"k{number}", b"v", ttl_ms=1) for number in range(250)))
    await asyncio.sleep(0.05)
    held = [250]
    while held[-1] > 1 and owner.sequence < 500:
        await owner.commit(Put(BucketAddress(Scope.WORKER, "other"), "k", b"v"))
        held.append(await database.fetchval(f"SELECT count(*) FROM {config.schema}.entries"))
    assert sorted(set(held) - {250, 251}) == [1, 51, 151]


async def test_purge_leaves_no_row_behind(
    store: PostgresStore, config: PostgresConfig, database: asyncpg.Connection
) -> None:
    owner = await own(store)
    await owner.commit(Put(SHOP, "a", b"1"), Put(BucketAddress(Scope.INSTANCE, "p", "alice"), "a", b"1"), open=True)
    await owner.commit(blobs={b"d": b"blob"}, foreign=True)
    await store.keep_component("sha256:a", b"component")
    assert await store.purge(lambda count: None) > 0
    tables = await database.fetch("SELECT tablename AS name FROM pg_tables WHERE schemaname = $1", config.schema)
    assert len(tables) > 10
    for (name,) in tables:
        assert await database.fetchval(f"SELECT count(*) FROM {config.schema}.{name}") == (name == "meta"), name


async def test_a_commit_that_was_sent_before_a_claim_is_fenced_after_it(store: PostgresStore) -> None:
    """Equality is checked under the row's lock: of a claim and a commit that meet, one comes first."""
    for turn in range(20):
        owner = await own(store, f"i{turn}", "old")
        outcomes = await asyncio.gather(
            store.commit(Commit(owner.instance, owner.token, 1, b"x", effects=[Put(SHOP, f"k{turn}", b"old")])),
            store.claim(owner.instance, "new", "h2"),
            return_exceptions=True,
        )
        claim = outcomes[1]
        assert not isinstance(claim, BaseException)
        fenced = isinstance(outcomes[0], Fenced)
        assert claim.data.sequence == (0 if fenced else 1)
        assert await store.get_many(SHOP, [f"k{turn}"]) == [None if fenced else b"old"]


async def test_closing_waits_for_what_is_under_way_and_no_longer(
    config: PostgresConfig, database: asyncpg.Connection
) -> None:
    store = await PostgresStore.open(replace(config, connections=1, timeout=0.7), WORKER)
    owner = await own(store)
    await owner.commit()
    async with cutting_proxy(int(config.url.rsplit(":", 1)[1].split("/")[0])) as proxy:
        url = f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres"
        stuck = await PostgresStore.open(replace(config, url=url, connections=1), WORKER)
        await stuck.ping()
        under_way = asyncio.create_task(store.commit(owner.next(Put(SHOP, "a", b"1"))))
        proxy.open.clear()
        silent = [asyncio.create_task(stuck.delete_instance("bob")), asyncio.create_task(stuck.ping())]
        await asyncio.sleep(0)
        await asyncio.gather(store.close(), stuck.close())
        assert (await under_way).status is CommitStatus.APPLIED
        for outcome in await asyncio.gather(*silent, return_exceptions=True):
            assert isinstance(outcome, (ProviderUnavailable, Overloaded))
    assert await database.fetchval(f"SELECT sequence FROM {config.schema}.instances") == 2


async def test_a_connection_lost_between_preparing_and_executing(
    config: PostgresConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then nobody knows whether the operation took place; the next one is carried out on another connection."""
    store = await PostgresStore.open(config, WORKER)
    await store.ping()
    prepare = asyncpg.Connection._get_statement

    async def prepare_and_lose(self: asyncpg.Connection, *args: object, **named: object) -> object:
        statement = await prepare(self, *args, **named)
        self.terminate()
        return statement

    with monkeypatch.context() as lossy:
        lossy.setattr(asyncpg.Connection, "_get_statement", prepare_and_lose)
        with pytest.raises(ProviderUnavailable):
            await store.result("alice", "key")
    assert await store.result("alice", "key") is None
    await store.close()
