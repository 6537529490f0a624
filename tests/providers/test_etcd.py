"""etcd as it fails: silent, restarted, full, smaller than was said, asking for credentials and certificates."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from perdure.durable.effects import Counted, Put
from perdure.durable.overtaking import Write
from perdure.durable.records import CommitStatus, ForeignApply, WorkerId
from perdure.errors import ProviderUnavailable
from perdure.providers.etcd import EtcdConfig, EtcdStore
from perdure.providers.etcd.requests import revision_is
from providers import test_foreign, test_foreign_buckets
from providers.failing import (
    WORKER,
    add,
    check_cut_anywhere,
    check_restarted,
    check_silent,
    eventually_applied,
    patiently,
)
from providers.owners import SHOP
from support import certificates
from support.store_servers import EtcdServer, etcd_server


@pytest.fixture
def server() -> Iterator[EtcdServer]:
    with etcd_server() as found:
        yield found


@asynccontextmanager
async def opened(*urls: str, worker: WorkerId = WORKER, **settings: Any) -> AsyncIterator[EtcdStore]:
    store = await EtcdStore.open(EtcdConfig(urls, **settings), worker)
    try:
        yield store
    finally:
        await store.close()


async def test_a_server_that_is_not_there(server: EtcdServer) -> None:
    server.stop()
    async with opened(server.url, timeout=0.5) as store:
        for _ in range(2):
            with pytest.raises(ProviderUnavailable, match="does not answer"):
                await store.ping()
        server.start()
        assert (await patiently(store.ping)).durability == "D2"


async def test_a_silent_server_costs_the_timeout_and_nothing_is_done_twice(server: EtcdServer) -> None:
    await check_silent(server, opened)


@pytest.mark.parametrize("direction", ["upward", "downward"])
async def test_connections_that_break_anywhere(server: EtcdServer, direction: str) -> None:
    await check_cut_anywhere(server, opened, direction, range(1, 1500, 110))


async def test_a_restarted_server_has_what_it_acknowledged(server: EtcdServer) -> None:
    await check_restarted(server, opened)


async def test_another_member_is_asked(server: EtcdServer) -> None:
    dead = "http://127.0.0.1:1"
    for _ in range(4):
        async with opened(dead, server.url, timeout=2) as store:
            assert (await store.ping()).kind == "etcd"


async def test_a_full_database_is_said_by_the_ping() -> None:
    with etcd_server("--quota-backend-bytes", "1000000") as small:
        async with opened(small.url, timeout=2) as store:
            with pytest.raises(ProviderUnavailable, match="database is full"):
                for sequence in range(1, 100):
                    await store.apply_foreign(ForeignApply("o", sequence, [Put(SHOP, f"{sequence}", bytes(100_000))]))
            with pytest.raises(ProviderUnavailable, match="database is full"):
                await store.ping()
            assert await store.get_many(SHOP, ["1"]) == [bytes(100_000)]


async def test_bounds_that_are_larger_than_the_servers(server: EtcdServer) -> None:
    with etcd_server("--max-request-bytes", "65536", "--max-txn-ops", "16") as small:
        async with opened(small.url) as store:
            with pytest.raises(ProviderUnavailable, match="--max-request-bytes"):
                await store.apply_foreign(ForeignApply("o", 1, [Put(SHOP, "k", bytes(200_000))]))
            with pytest.raises(ProviderUnavailable, match="--max-txn-ops"):
                await store.apply_foreign(ForeignApply("o", 1, [Put(SHOP, f"{n}", b"") for n in range(20)]))
        async with opened(small.url, max_request_bytes=65536, max_txn_ops=16) as store:
            await test_foreign_buckets.test_what_the_limits_allow_is_taken(store)


async def test_leases_clear_expired_values_away(server: EtcdServer) -> None:
    async with opened(server.url) as store:
        await store.apply_foreign(ForeignApply("o", 1, [Put(SHOP, "k", b"v", ttl_ms=100), Put(SHOP, "j", b"v")]))
        assert await store.count(SHOP) == 2
        (lease,) = request(server, "/v3/lease/leases", {})["leases"]
        request(server, "/v3/lease/revoke", {"ID": lease["ID"]})
        assert await store.count(SHOP) == 1
        # A lease that is gone before its time is replaced.
        done = await store.apply_foreign(ForeignApply("o", 2, [Put(SHOP, "k", b"w", ttl_ms=9000)]))
        assert done.status is CommitStatus.APPLIED
        assert await store.get_many(SHOP, ["k"]) == [b"w"]


def request(server: EtcdServer, path: str, body: dict[str, Any], token: str | None = None) -> dict[str, Any]:
    headers = {} if token is None else {"Authorization": token}
    with urllib.request.urlopen(urllib.request.Request(server.url + path, json.dumps(body).encode(), headers)) as reply:
        return dict(json.load(reply))


async def test_users_and_a_rotated_password(server: EtcdServer) -> None:
    secret = ["first"]
    begin, end = (b64encode(text).decode() for text in (b"perdure/", b"perdure0"))
    for name, password, role in (("root", "r", "root"), ("wk", "first", "perdure"), ("other", "x", "none")):
        request(server, "/v3/auth/user/add", {"name": name, "password": password})
        request(server, "/v3/auth/role/add", {"name": role})
        request(server, "/v3/auth/user/grant", {"user": name, "role": role})
    permission = {"permType": "READWRITE", "key": begin, "range_end": end}
    request(server, "/v3/auth/role/grant", {"name": "perdure", "perm": permission})
    request(server, "/v3/auth/enable", {})
    token = request(server, "/v3/auth/authenticate", {"name": "root", "password": "r"})["token"]
    for credentials in ((None, None), ("wk", "wrong"), ("nobody", "x"), ("other", "x")):
        async with opened(server.url, credentials=lambda found=credentials: found) as store:
            with pytest.raises(ProviderUnavailable, match="refused the credentials") as refused:
                await store.ping()
            assert "wrong" not in refused.value.detail
    async with opened(server.url, credentials=lambda: ("wk", secret[0])) as store:
        assert (await store.ping()).durability == "D2"
        await store.apply_foreign(add(1))
        request(server, "/v3/auth/user/changepw", {"name": "wk", "password": "second"}, token)
        secret[0] = "second"
        assert (await store.apply_foreign(add(2))).outcomes == [Counted(2)]


async def test_certificates(tmp_path: Path) -> None:
    certificates.make(tmp_path, "tls", addresses="IP:127.0.0.1")
    options = ("--cert-file", f"{tmp_path}/tls.crt", "--key-file", f"{tmp_path}/tls.key", "--client-cert-auth",
               "--trusted-ca-file", f"{tmp_path}/ca.crt")  # fmt: skip
    with etcd_server(*options, scheme="https") as secure:
        async with opened(secure.url, ca=tmp_path / "ca.crt", certificate=tmp_path) as store:
            # That its port is open does not say that it has elected itself.
            assert await eventually_applied(store, add(1)) == [Counted(1)]
            assert (await store.ping()).kind == "etcd"
        for ca, certificate in ((None, tmp_path), (tmp_path / "ca.crt", None), (tmp_path / "none.crt", None)):
            async with opened(secure.url, timeout=1, ca=ca, certificate=certificate) as store:
                with pytest.raises(ProviderUnavailable):
                    await store.ping()
        wrong_name = secure.url.replace("127.0.0.1", "localhost")
        async with opened(wrong_name, timeout=1, ca=tmp_path / "ca.crt", certificate=tmp_path) as store:
            with pytest.raises(ProviderUnavailable, match="TLS failed"):
                await store.ping()


class Forgetful(EtcdStore):
    """Writes without the dedup record: at least once, as a store with keys of its own alone would be."""

    async def _transaction(self, write: Write) -> Any:
        self._overtaking.forget()
        body = await super()._transaction(write)
        assert write.origin is not None, "its writes have an origin"
        mark = revision_is(self._keys.mark(write.origin), 0)["key"]
        body["compare"] = [one for one in body["compare"] if one["key"] != mark]
        body["success"] = [one for one in body["success"] if one.get("requestPut", {}).get("key") != mark]
        return body


class Unguarded(EtcdStore):
    """Computes from what it read, and does not mind who wrote meanwhile: at the first write of `a` somebody has."""

    waits = 1000

    async def _transaction(self, write: Write) -> Any:
        fresh = await self._read(write.origin, write.spots)
        while write.origin == "a" and self.waits and fresh.revisions == write.seen.revisions:
            self.waits -= 1
            await asyncio.sleep(0.001)
            fresh = await self._read(write.origin, write.spots)
        self.waits = 0
        return await super()._transaction(replace(write, seen=replace(fresh, mark=write.seen.mark)))


async def test_a_weaker_store_is_found(server: EtcdServer) -> None:
    """The controls: the suite's tests hold for the provider, and not for one that lacks the rule."""

    async def run(kind: type[EtcdStore], name: str, test: Any) -> None:
        stores = [
            await kind.open(EtcdConfig((server.url,)), WorkerId(f"{kind.__name__}-{name}", "w")) for _ in range(2)
        ]
        try:
            await test(*stores)
        finally:
            for store in stores:
                await store.close()

    async def meet(one: EtcdStore, two: EtcdStore) -> None:
        async def count(store: EtcdStore, origin: str) -> None:
            for sequence in range(1, 11):
                await store.apply_foreign(add(sequence, origin))

        await asyncio.gather(count(one, "a"), count(two, "b"))
        assert await one.get_many(SHOP, ["n"]) == [b"20"]

    resends = test_foreign_buckets.test_a_resend_does_not_overwrite_what_another_wrote_since
    for name, weaker, test in (("once", Forgetful, test_foreign.test_effects_apply_once),
                               ("overwrite", Forgetful, resends), ("meet", Unguarded, meet)):  # fmt: skip
        await run(EtcdStore, name, test)
        with pytest.raises(AssertionError):
            await run(weaker, name, test)
