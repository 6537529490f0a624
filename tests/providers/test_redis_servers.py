"""The Redis provider and its server: what the server refuses, restarts, pauses and forgets."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hiredis
import pytest

from perdure.durable.effects import Increment, Put
from perdure.durable.records import Commit, CommitStatus, ForeignApply
from perdure.errors import Fenced, LostWrites, Overloaded, PerdureError, ProviderUnavailable, TooLarge
from perdure.providers.redis import RedisConfig, RedisStore, client
from perdure.providers.redis import server as redis_check
from providers.failing import patiently
from providers.owners import SHOP, Owner, call, look, own, result, some_worker
from providers.redis_stores import opened
from support.servers import RedisServer, eventually, free_port, redis_server


async def test_a_commit_and_a_claim_are_one_command_each(redis: RedisServer) -> None:
    with redis_server() as server:
        async with opened(server) as store:
            owner = await own(store)
            await store.enqueue("alice", call("k"), 10)
            server.do("CONFIG", "RESETSTAT")
            await owner.commit(
                Put(SHOP, "a", b"1"),
                Increment(SHOP, "n", 1),
                result=result("k"),
                pending="k",
                blobs={b"d" * 32: b"x"},
                component="sha256:1",
            )
            assert server.info("cmdstat_fcall").startswith("calls=1,")
            await store.claim("alice", "next", "h")
            assert server.info("cmdstat_fcall").startswith("calls=2,")
            await store.instance("alice")
            assert server.info("cmdstat_fcall").startswith("calls=3,")


async def test_a_server_that_evicts_keys_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with redis_server("--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru") as server:
        async with opened(server) as store:
            with pytest.raises(ProviderUnavailable, match="set maxmemory-policy noeviction"):
                await store.ping()
            # It would take them.
            for keep in (
                lambda: own(store),
                lambda: store.enqueue("alice", call("k"), 10),
                lambda: store.apply_foreign(ForeignApply("", 0, [Put(SHOP, "a", b"1")])),
            ):
                with pytest.raises(ProviderUnavailable, match="would lose acknowledged data"):
                    await keep()
            assert await store.get_many(SHOP, ["a"]) == [None], "what is there can be read"
            server.do("CONFIG", "SET", "maxmemory-policy", "noeviction")
            assert (await store.ping()).durability == "D2"
            owner = await own(store)
            await owner.commit(Put(SHOP, "a", b"1"))
            server.do("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
            monkeypatch.setattr(redis_check, "_FRESH_SECONDS", 0.0)
            with pytest.raises(ProviderUnavailable):
                await store.ping()
            with pytest.raises(ProviderUnavailable, match="would lose acknowledged data"):
                await owner.commit(Put(SHOP, "a", b"2"))


@pytest.mark.parametrize(("policy", "level"), [("everysec", "D1"), ("always", "D2"), ("no", "D1")])
async def test_durability_is_as_the_server_is_configured(policy: str, level: str) -> None:
    with redis_server("--appendfsync", policy) as server:
        async with opened(server) as store:
            assert (await store.ping()).durability == level


async def test_a_server_without_a_file_is_d0() -> None:
    with redis_server("--appendonly", "no") as server:
        async with opened(server) as store:
            info = await store.ping()
            assert info.durability == "D0" and "appendonly is off" in info.warnings[0]


async def test_a_server_out_of_memory_refuses_commits_whole_and_can_still_be_read() -> None:
    with redis_server() as server:
        async with opened(server) as store:
            owner = await own(store)
            await owner.commit(Put(SHOP, "a", b"1"))
            server.do("CONFIG", "SET", "maxmemory", "1")
            refused = owner.next(Put(SHOP, "a", b"2"), Put(SHOP, "b", b"x" * 1000))
            with pytest.raises(ProviderUnavailable, match=r"out of memory.*\(OOM\)"):
                await store.commit(refused)
            with pytest.raises(ProviderUnavailable, match="OOM"):
                await store.ping()
            assert await store.get_many(SHOP, ["a", "b"]) == [b"1", None]
            assert (await look(store)).sequence == 1
            await store.verify("alice", owner.token)
            server.do("CONFIG", "SET", "maxmemory", "0")
            assert (await store.commit(refused)).status is CommitStatus.APPLIED
            server.do("CONFIG", "SET", "maxmemory", "1")
            assert await store.delete_instance("alice") is True


async def test_a_replica_is_refused_even_for_reading() -> None:
    """What it holds may be old."""
    with redis_server() as server:
        async with opened(server) as store:
            owner = await own(store)
            await owner.commit(Put(SHOP, "a", b"1"))
            server.do("CONFIG", "SET", "replica-serve-stale-data", "yes")
            server.do("REPLICAOF", "127.0.0.1", free_port())
            reads: list[Callable[[], Any]] = [
                owner.commit,
                lambda: store.get_many(SHOP, ["a"]),
                lambda: store.count(SHOP),
                lambda: store.verify("alice", owner.token),
                lambda: store.peek("alice"),
                lambda: store.instances(None, 10),
                lambda: store.due(10),
            ]
            for read in reads:
                with pytest.raises(ProviderUnavailable, match=r"is a replica.*\(READONLY\)"):
                    await read()
            with pytest.raises(ProviderUnavailable, match="is a replica"):
                await store.ping()


async def test_a_server_that_loads_its_data() -> None:
    with redis_server() as server:
        async with opened(server) as store:
            owner = await own(store)
            await owner.commits(3)
            for number in range(200):
                server.do("SET", f"filler-{number}", b"x" * 2000)
            server.do("BGREWRITEAOF")
            eventually(lambda: server.info("aof_rewrite_in_progress") == "0", "a rewritten file")
            server.stop()
            # As long as it takes to be seen.
            server.options += ("--key-load-delay", "100000", "--loading-process-events-interval-bytes", "1024")
            starting = asyncio.create_task(asyncio.to_thread(server.start))
            seen: list[str] = []
            while "loading its data" not in "".join(seen[-1:]):
                with pytest.raises(ProviderUnavailable) as refused:
                    await store.verify("alice", owner.token)
                seen.append(refused.value.detail)
                await asyncio.sleep(0.01)
            server.do("CONFIG", "SET", "key-load-delay", "0")
            await starting
            await patiently(owner.commit)
            assert (await look(store)).sequence == 4


async def test_a_server_that_cannot_write_its_files(tmp_path: Path) -> None:
    with redis_server("--appendonly", "no", "--save", "3600 1", "--enable-protected-configs", "yes") as server:
        async with opened(server) as store:
            owner = await own(store)
            gone = tmp_path / "gone"
            gone.mkdir()
            server.do("CONFIG", "SET", "dir", str(gone))
            gone.rmdir()
            server.do("BGSAVE")
            eventually(lambda: server.info("rdb_last_bgsave_status") == "err", "a failed save")
            with pytest.raises(ProviderUnavailable, match=r"cannot write its files.*\(MISCONF\)"):
                await owner.commit()
            server.do("CONFIG", "SET", "dir", str(tmp_path))


async def test_a_ping_is_refused_where_a_commit_would_be() -> None:
    """Also by a server that was looked at a moment ago."""
    with redis_server() as server:
        async with opened(server) as store:
            await store.ping()
            server.do("CONFIG", "RESETSTAT")
            await store.ping()
            assert server.info("cmdstat_info") == ""
            server.do("REPLICAOF", "127.0.0.1", free_port())
            with pytest.raises(ProviderUnavailable, match="READONLY"):
                await store.ping()


async def test_too_few_replicas_for_the_server_itself() -> None:
    with redis_server("--min-replicas-to-write", "1") as server:
        async with opened(server) as store:
            with pytest.raises(ProviderUnavailable, match="NOREPLICAS"):
                await store.claim("alice", "n", "h")


async def test_a_killed_server_keeps_what_it_acknowledged() -> None:
    with redis_server() as server:
        async with opened(server) as store:
            owner = await own(store)
            await owner.commit(Increment(SHOP, "n", 1))
            unanswered = owner.next(Increment(SHOP, "n", 1))
            await store.commit(unanswered)
            server.stop()
            with pytest.raises(ProviderUnavailable, match="does not answer"):
                await store.commit(unanswered)
            server.start()
            done = await patiently(lambda: store.commit(unanswered))
            assert done.status is CommitStatus.DUPLICATE
            assert await store.get_many(SHOP, ["n"]) == [b"2"]


async def test_a_paused_server_leaves_the_outcome_unknown_and_a_resend_tells_it() -> None:
    with redis_server() as server:
        async with opened(server, timeout=0.5) as store:
            owner = await own(store)
            commit = owner.next(Increment(SHOP, "n", 1))
            assert server.process is not None
            server.process.send_signal(signal.SIGSTOP)
            with pytest.raises(ProviderUnavailable, match="does not answer"):
                await store.commit(commit)
            server.process.send_signal(signal.SIGCONT)
            await patiently(lambda: store.commit(commit))
            assert (await store.commit(commit)).status is CommitStatus.DUPLICATE
            assert await store.get_many(SHOP, ["n"]) == [b"1"]


async def test_a_killed_connection_hurts_only_what_was_under_way() -> None:
    with redis_server() as server:
        async with opened(server) as store:
            owner = await own(store)
            for _ in range(5):
                server.do("CLIENT", "KILL", "TYPE", "normal")
                await patiently(owner.commit)
            assert (await look(store)).sequence == 5


async def test_a_cancelled_caller_takes_nothing_from_the_others(redis: RedisServer) -> None:
    async with opened(redis) as store:
        owners = [await own(store, f"i{number}") for number in range(50)]
        tasks = [asyncio.create_task(owner.commit(Put(SHOP, owner.instance, b"1"))) for owner in owners]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert all(task.result().status is CommitStatus.APPLIED for task in tasks[1::2])
        for owner in owners:
            again = await store.commit(Commit(owner.instance, owner.token, 1, b"e1"))
            assert again.status in (CommitStatus.APPLIED, CommitStatus.DUPLICATE)


async def test_a_server_that_comes_up_is_not_rushed_at() -> None:
    """Hundreds of callers that try again and again make a few attempts together."""
    attempts = 0

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal attempts
        attempts += 1
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        store = await RedisStore.open(RedisConfig(f"redis://127.0.0.1:{port}/0", timeout=1.0), some_worker())
        failures = 0

        async def insist() -> None:
            nonlocal failures
            async with asyncio.timeout(1.5):
                while True:
                    with pytest.raises(ProviderUnavailable):
                        await store.verify("alice", own_token)
                    failures += 1
                    await asyncio.sleep(0)

        own_token = (await _claim_elsewhere()).token
        callers = [asyncio.create_task(insist()) for _ in range(200)]
        await asyncio.wait(callers)
        for caller in callers:
            assert isinstance(caller.exception(), TimeoutError)
        await store.close()
    assert failures > 200
    assert 2 <= attempts < 60


async def _claim_elsewhere() -> Owner:
    from perdure.providers.memory import MemoryStore, MemoryWorld

    return await own(MemoryStore(MemoryWorld(), some_worker()))


async def test_what_waits_is_bounded(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_WAITING", 10)
    async with opened(redis) as store:
        done = await asyncio.gather(*[store.count(SHOP) for _ in range(20)], return_exceptions=True)
        assert [type(one) for one in done].count(Overloaded) == 10
        assert await store.count(SHOP) == 0


async def test_what_a_server_would_not_take_is_refused_before(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(redis) as store:
        owner = await own(store)
        # The functions, which are loaded by now, are larger.
        monkeypatch.setattr(client, "_LARGEST", 10_000)
        monkeypatch.setattr(client, "_MOST_ARGUMENTS", 300)
        with pytest.raises(TooLarge):
            await owner.commit(Put(SHOP, "a", b"x" * 10_000))
        with pytest.raises(TooLarge):
            await owner.commit(*[Put(SHOP, "a", b"x")] * 60)
        await owner.commit(Put(SHOP, "a", b"x"))


async def test_a_store_that_was_closed_says_so(redis: RedisServer) -> None:
    async with opened(redis) as store:
        await store.close()
        with pytest.raises(ProviderUnavailable, match="closed"):
            await store.ping()


async def test_lost_functions_are_loaded_again(redis: RedisServer) -> None:
    with redis_server() as server:
        async with opened(server) as store:
            owners = [await own(store, f"i{number}") for number in range(20)]
            server.do("FUNCTION", "FLUSH")
            await asyncio.gather(*[owner.commit() for owner in owners])
            assert server.info("cmdstat_function|load").startswith("calls=2,")


async def test_an_emptied_server_is_another_store() -> None:
    with redis_server() as server:
        async with opened(server) as store:
            before = await store.claim("alice", "n", "h")
            await store.commit(Commit("alice", before.token, 1, b"e1"))
            server.do("FLUSHALL")
            with pytest.raises(Fenced):
                await store.commit(Commit("alice", before.token, 2, b"e2"))
            after = await store.claim("alice", "n", "h")
            assert (after.data.sequence, after.store != before.store) == (0, True)


async def test_an_older_copy_of_the_data_is_told_by_the_next_commit() -> None:
    with redis_server("--appendonly", "no") as server:
        async with opened(server) as store:
            owner = await own(store)
            await owner.commits(2)
            server.do("SAVE")
            copy = (server.directory / "dump.rdb").read_bytes()
            await owner.commits(3)
            server.stop()
            (server.directory / "dump.rdb").write_bytes(copy)
            server.start()
            with pytest.raises(LostWrites, match="up to commit 2 only, but it has acknowledged 5"):
                await patiently(owner.commit)
            assert (await look(store)).sequence == 2


async def test_valkey_is_told_by_its_own_version() -> None:
    """As Valkey 8 describes itself; it names the Redis that it is compatible with, too."""
    info = b"redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.0.1\r\nrole:master\r\naof_enabled:1\r\n"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser = hiredis.Reader()
        while data := await reader.read(4096):
            parser.feed(data)
            while (command := parser.gets()) is not False:
                reply = {
                    b"INFO": b"$%d\r\n%s\r\n" % (len(info), info),
                    b"CONFIG": b"*2\r\n$11\r\nappendfsync\r\n$6\r\nalways\r\n",
                }
                writer.write(reply.get(command[0], b"$4\r\nPONG\r\n"))
        writer.close()
        await writer.wait_closed()
        ended.set()

    ended = asyncio.Event()
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        store = await RedisStore.open(RedisConfig(f"redis://127.0.0.1:{port}/0"), some_worker())
        found = await store.ping()
        assert (found.version, found.durability) == ("Valkey 8.0.1", "D2")
        await store.close()
        await ended.wait()


@pytest.mark.parametrize("junk", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"+OK\r\n+OK\r\n+OK\r\n", b"", b"\0\1\2\r\n"])
async def test_what_is_no_redis_server(junk: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(junk)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        store = await RedisStore.open(RedisConfig(f"redis://127.0.0.1:{port}/0", timeout=1.0), some_worker())
        with pytest.raises(PerdureError):
            await store.verify("alice", (await _claim_elsewhere()).token)
        await store.close()


async def test_what_is_certain_of_a_commit_that_failed() -> None:
    """Only of one that was refused, or that was not sent, is it told that it was not applied."""
    with redis_server() as server:
        async with opened(server, timeout=0.3) as store:
            owner = await own(store)

            async def untouched() -> bool:
                with pytest.raises(ProviderUnavailable) as error:
                    await owner.commit(Increment(SHOP, "n", 1))
                return error.value.untouched

            server.do("CONFIG", "SET", "maxmemory", "1")
            assert await untouched()
            server.do("CONFIG", "SET", "maxmemory", "0")
            assert await store.get_many(SHOP, ["n"]) == [None]
            assert server.process is not None
            server.process.send_signal(signal.SIGSTOP)
            assert not await untouched(), "the server carries it out when it goes on"
            server.process.send_signal(signal.SIGCONT)
            await patiently(lambda: store.get_many(SHOP, ["n"]))
            server.stop()
            while not await untouched():
                pass
