"""NATS as it fails: silent, restarted, full, made for something else, asking for credentials and certificates."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from perdure.durable.effects import BucketAddress, Conflict, Counted, Put, Remove, Scope, Swap
from perdure.durable.overtaking import Write
from perdure.durable.records import ForeignApply, WorkerId
from perdure.errors import ProviderUnavailable
from perdure.providers.nats import NatsConfig, NatsStore
from perdure.providers.nats.client import Message
from perdure.providers.nats.subjects import Subjects, decode, encode, key_of
from providers import test_foreign, test_foreign_buckets
from providers.failing import WORKER, add, check_cut_anywhere, check_restarted, check_silent, eventually_applied
from providers.owners import ODD, SHOP
from support import certificates
from support.store_servers import NatsServer, nats_server


@pytest.fixture
def server() -> Iterator[NatsServer]:
    with nats_server() as found:
        yield found


@asynccontextmanager
async def opened(*urls: str, worker: WorkerId = WORKER, **settings: Any) -> AsyncIterator[NatsStore]:
    store = await NatsStore.open(NatsConfig(urls, **settings), worker)
    try:
        yield store
    finally:
        await store.close()


def test_names_are_encoded_in_their_order() -> None:
    keys = sorted([*ODD, "a", "a\0", "a\0\0", "ab", "b", "~", "\x7f", "￿", "🔑🔑"], key=str.encode)
    texts = [encode(key.encode()) for key in keys]
    assert texts == sorted(texts) and len(set(texts)) == len(keys)
    assert [decode(text).decode() for text in texts] == keys
    assert all(char.isalnum() or char in "-_" for text in texts for char in text)
    subjects = Subjects("perdure", WORKER)
    longest = subjects.key(BucketAddress(Scope.INSTANCE, "ü" * 512, "ü" * 512), "k" * 2048)
    assert len(longest) < 3000 and key_of(longest) == "k" * 2048


async def test_a_server_that_is_not_there(server: NatsServer) -> None:
    server.stop()
    async with opened(server.url, timeout=0.5) as store:
        for _ in range(2):
            with pytest.raises(ProviderUnavailable, match="does not answer"):
                await store.ping()
        server.start()
        assert await eventually_applied(store, add(1)) == [Counted(1)]


async def test_a_silent_server_costs_the_timeout_and_nothing_is_done_twice(server: NatsServer) -> None:
    await check_silent(server, opened)


@pytest.mark.parametrize("direction", ["upward", "downward"])
async def test_connections_that_break_anywhere(server: NatsServer, direction: str) -> None:
    await check_cut_anywhere(server, opened, direction, range(1, 1600, 130))


async def test_a_restarted_server_has_what_it_acknowledged(server: NatsServer) -> None:
    await check_restarted(server, opened)


async def test_another_server_is_asked(server: NatsServer) -> None:
    for _ in range(4):
        async with opened("nats://127.0.0.1:1", server.url, timeout=2) as store:
            assert (await store.ping()).kind == "nats"


async def test_a_stream_that_was_made_for_something_else(server: NatsServer) -> None:
    async with opened(server.url) as store:
        await store.ping()
        wanted = {"name": "KV_other", "subjects": ["$KV.other.>"], "max_msgs_per_subject": 1, "discard": "new"}
        await store._client.api("STREAM.CREATE.KV_other", wanted)
        full = {**wanted, "name": "KV_full", "subjects": ["$KV.full.>"], "allow_atomic": True, "allow_msg_ttl": True,
                "storage": "memory", "max_bytes": 20_000}  # fmt: skip
        await store._client.api("STREAM.CREATE.KV_full", full)
    async with opened(server.url, bucket="other") as store:
        for use in (store.ping, lambda: store.apply_foreign(add(1))):
            with pytest.raises(ProviderUnavailable, match="Perdure's has allow_atomic, allow_msg_ttl"):
                await use()
    async with opened(server.url, bucket="full") as store:
        assert (await store.ping()).durability == "D0"
        with pytest.raises(ProviderUnavailable, match=r"full|storage"):
            for sequence in range(1, 30):
                await store.apply_foreign(ForeignApply("o", sequence, [Put(SHOP, f"{sequence}", bytes(2000))]))
        found = await store.get_many(SHOP, ["1"])
        assert found == [bytes(2000)]


async def test_bounds_that_are_larger_than_the_servers() -> None:
    config = "max_payload: 65536\njetstream { limits { batch { max_msgs: 10 } } }"
    with nats_server(config=config) as small:
        async with opened(small.url) as store:
            with pytest.raises(ProviderUnavailable, match="maxPayload says 1,048,576"):
                await store.ping()
        async with opened(small.url, max_payload=65536) as store:
            await store.ping()
            with pytest.raises(ProviderUnavailable, match="maxBatch"):
                await store.apply_foreign(ForeignApply("o", 1, [Put(SHOP, f"{n}", b"") for n in range(20)]))
        async with opened(small.url, max_payload=65536, max_batch=10) as store:
            await test_foreign_buckets.test_what_the_limits_allow_is_taken(store)


async def test_without_jetstream() -> None:
    with nats_server(config="max_payload: 1048576") as plain:
        plain.stop()
        command = [part for part in plain.command() if part not in ("-js", "-sd", str(plain.directory / "data"))]
        plain.command = lambda: command  # type: ignore[method-assign]
        plain.start()
        async with opened(plain.url, timeout=1) as store:
            with pytest.raises(ProviderUnavailable, match="JetStream"):
                await store.ping()


async def test_users_tokens_and_a_rotated_password(tmp_path: Path) -> None:
    secret = ["first"]
    config = 'authorization { users = [ {user: "wk", password: "PASSWORD"} ] }'
    with nats_server(config=config.replace("PASSWORD", "first")) as guarded:
        for credentials in ((None, None), ("wk", "wrong"), (None, "first")):
            async with opened(guarded.url, credentials=lambda found=credentials: found) as store:
                with pytest.raises(ProviderUnavailable, match="refused the credentials") as refused:
                    await store.ping()
                assert "wrong" not in refused.value.detail
        async with opened(guarded.url, credentials=lambda: ("wk", secret[0])) as store:
            assert await eventually_applied(store, add(1)) == [Counted(1)]
            (guarded.directory / "nats.conf").write_text(config.replace("PASSWORD", "second"))
            secret[0] = "second"
            guarded.restart()
            assert await eventually_applied(store, add(2)) == [Counted(2)]
    with nats_server(config='authorization { token: "t0ken" }') as guarded:
        async with opened(guarded.url, credentials=lambda: (None, "t0ken")) as store:
            assert await eventually_applied(store, add(1)) == [Counted(1)]


async def test_certificates(tmp_path: Path) -> None:
    certificates.make(tmp_path, "tls", addresses="IP:127.0.0.1")
    config = (
        f'tls {{ cert_file: "{tmp_path}/tls.crt", key_file: "{tmp_path}/tls.key", ca_file: "{tmp_path}/ca.crt", '
        "verify: true }"
    )
    with nats_server(config=config, scheme="tls") as secure:
        async with opened(secure.url, ca=tmp_path / "ca.crt", certificate=tmp_path) as store:
            assert await eventually_applied(store, add(1)) == [Counted(1)]
        for ca, certificate in ((None, tmp_path), (tmp_path / "ca.crt", None), (tmp_path / "none.crt", None)):
            async with opened(secure.url, timeout=1, ca=ca, certificate=certificate) as store:
                with pytest.raises(ProviderUnavailable):
                    await store.ping()


async def test_what_was_read_is_compared_though_it_does_not_change(server: NatsServer) -> None:
    async with opened(server.url) as one, opened(server.url) as two:
        await one.apply_foreign(
            ForeignApply("a", 1, [Put(SHOP, "k", b"1"), Put(SHOP, "gone", b"1"), Remove(SHOP, "gone")])
        )
        swaps = [Swap(SHOP, "k", b"0", b"x"), Swap(SHOP, "none", b"0", b"x"), Swap(SHOP, "gone", b"1", b"x")]
        expected = [Conflict(b"1"), Conflict(None), Conflict(None)]
        assert (await one.apply_foreign(ForeignApply("a", 2, swaps))).outcomes == expected
        assert (await two.apply_foreign(ForeignApply("a", 2, swaps))).outcomes == expected
        assert (await two.keys(SHOP, None, 10)).keys == ["k"] and await two.count(SHOP) == 1


class OneByOne(NatsStore):
    """Sends each key by itself, and no dedup record: what a store without transactions across keys can do."""

    async def _write(self, write: Write) -> Any:
        self._overtaking.forget()
        for message in self._batch(write)[:-1]:
            headers = {name: text for name, text in message.headers.items() if not name.startswith("Nats-")}
            await self._client.publish([Message(message.subject, message.data, headers)])
        return 0


class Unguarded(NatsStore):
    """A batch that compares the dedup record, and not what it was computed from."""

    def _batch(self, write: Write) -> list[Message]:
        *others, last = super()._batch(write)
        name = "Nats-Expected-Last-Subject-Sequence"
        free = [Message(m.subject, m.data, {n: t for n, t in m.headers.items() if n != name}) for m in others]
        return [*free, last]


async def test_a_weaker_store_is_found(server: NatsServer) -> None:
    """The controls: the suite's tests hold for the provider, and not for one that lacks the rule."""

    async def run(kind: type[NatsStore], name: str, test: Any) -> None:
        worker = WorkerId(f"{kind.__name__}-{name}", "w")
        stores = [await kind.open(NatsConfig((server.url,)), worker) for _ in range(2)]
        try:
            await test(*stores)
        finally:
            for store in stores:
                await store.close()

    async def meet(one: NatsStore, two: NatsStore) -> None:
        async def count(store: NatsStore, origin: str) -> None:
            for sequence in range(1, 31):
                await store.apply_foreign(add(sequence, origin))

        await asyncio.gather(count(one, "a"), count(two, "b"))
        assert await one.get_many(SHOP, ["n"]) == [b"60"]

    resends = test_foreign_buckets.test_a_resend_does_not_overwrite_what_another_wrote_since
    for name, weaker, test in (("once", OneByOne, test_foreign.test_effects_apply_once),
                               ("overwrite", OneByOne, resends), ("meet", Unguarded, meet)):  # fmt: skip
        await run(NatsStore, name, test)
        with pytest.raises(AssertionError):
            await run(weaker, name, test)
