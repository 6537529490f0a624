"""The JavaScript example: a web service whose carts and orders are neither lost nor doubled."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from support.examples import data_directory, made_example
from support.guests import ROOT
from support.hosts import HostProcess, local_host

# Where nothing was compiled or built before, the first test pays for it.
pytestmark = pytest.mark.timeout(600)
TEA = {"sku": "tea", "quantity": 2}
EMPTY = {"items": {}, "total": 0}


@dataclass
class Shop:
    url: str
    session: aiohttp.ClientSession

    async def ask(self, method: str, path: str, body: object = None, *, key: str | None = None) -> tuple[int, object]:
        headers = {} if key is None else {"Idempotency-Key": key}
        data = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else None
        async with self.session.request(
            method, URL(f"{self.url}/http/{path}", encoded=True), data=data, headers=headers
        ) as reply:
            return reply.status, await reply.json(content_type=None)

    async def keep(self, method: str, path: str, body: object = None, *, key: str) -> tuple[int, object]:
        """Asks under one key until there is an answer."""
        async with asyncio.timeout(60):
            while True:
                try:
                    return await self.ask(method, path, body, key=key)
                except aiohttp.ClientError:
                    await asyncio.sleep(0.05)

    async def price(self, sku: str, price: object) -> None:
        target = URL(f"{self.url}/v1/buckets/prices/keys/{sku}", encoded=True)
        async with self.session.put(target, data=json.dumps(price).encode()) as reply:
            assert reply.status == 204

    async def orders(self) -> list[object]:
        async with self.session.get(f"{self.url}/v1/buckets/orders/keys") as reply:
            keys = (await reply.json())["keys"]
        found = []
        for key in keys:
            async with self.session.get(f"{self.url}/v1/buckets/orders/keys/{key}") as reply:
                found.append(json.loads(await reply.read()))
        return found


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with local_host(made_example("cart", tmp_path), data_directory(tmp_path)) as (_, client):
        made = Shop(client.url, client.session)
        await made.price("tea", 450)
        yield made


async def test_every_customer_has_a_cart(shop: Shop) -> None:
    assert await shop.ask("POST", "alice/items", TEA) == (200, {"items": {"tea": 2}, "total": 900})
    assert await shop.ask("POST", "alice/items", TEA) == (200, {"items": {"tea": 4}, "total": 1800})
    assert await shop.ask("GET", "bob") == (200, EMPTY)
    await shop.price("tea", 500)
    assert await shop.ask("GET", "alice/") == (200, {"items": {"tea": 4}, "total": 2000})
    assert await shop.ask("DELETE", "alice/items/tea") == (200, EMPTY)
    assert await shop.ask("DELETE", "alice/items/tea") == (200, EMPTY)


async def test_names_of_every_kind(shop: Shop) -> None:
    for sku, path in (("thé/🍵 100%", "th%C3%A9%2F%F0%9F%8D%B5%20100%25"), ("__proto__", "__proto__")):
        await shop.price(path, 1)
        assert await shop.ask("POST", "alice/items", {"sku": sku, "quantity": 1}) == (
            200,
            {"items": {sku: 1}, "total": 1},
        )
        assert await shop.ask("DELETE", f"alice/items/{path}") == (200, EMPTY)


REFUSED: list[tuple[int, str, str, object]] = [
    (400, "POST", "alice/items", b"not JSON"),
    (400, "POST", "alice/items", b"\xff"),
    (400, "POST", "alice/items", None),
    (400, "POST", "alice/items", b"null"),
    (400, "POST", "alice/items", {"sku": 7, "quantity": 1}),
    *((400, "POST", "alice/items", {"sku": "tea", "quantity": bad}) for bad in (0, -1, 1.5, "1", None, [1], 1e400)),
    (404, "POST", "alice/items", {"sku": "cake", "quantity": 1}),
    (409, "POST", "alice/items", {"sku": "tea", "quantity": 998}),
    (400, "DELETE", "alice/items/%FF", None),
    (404, "DELETE", "alice/items", None),
    (404, "PUT", "alice/items/tea", TEA),
    (404, "GET", "alice/items", None),
    (404, "GET", "alice/else", None),
    (409, "POST", "bob/checkout", None),
]


async def test_what_is_refused_changes_nothing(shop: Shop) -> None:
    before = await shop.ask("POST", "alice/items", TEA)
    for status, method, path, body in REFUSED:
        found, answer = await shop.ask(method, path, body)
        assert found == status and isinstance(answer, dict) and list(answer) == ["error"], (method, path, body, answer)
        assert await shop.ask("GET", "alice") == before and await shop.orders() == []


async def test_a_request_under_one_key_is_one_request(shop: Shop) -> None:
    for _ in range(3):
        assert (await shop.ask("POST", "alice/items", TEA, key="one"))[1] == {"items": {"tea": 2}, "total": 900}
    assert (await shop.ask("POST", "alice/items", TEA))[1] == {"items": {"tea": 4}, "total": 1800}, "negative control"


@pytest.mark.parametrize("point", ["commit.before", "commit.after"])
async def test_killed_in_the_middle_of_an_order(point: str, tmp_path: Path) -> None:
    host = HostProcess(made_example("cart", tmp_path), data_directory(tmp_path))
    full = {"items": {"tea": 2}, "total": 900}
    order = {"customer": "alice", **full}
    try:
        host.start(PERDURE_FAULTPOINT=f"{point}:2")
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
            shop = Shop(host.url, session)
            await shop.price("tea", 450)
            assert await shop.ask("POST", "alice/items", TEA, key="1") == (200, full)
            with pytest.raises(aiohttp.ClientError):
                await shop.ask("POST", "alice/checkout", key="2")
            assert host.wait() == -9
            host.start()
            # Nothing of it has happened, or all: the order and the empty cart.
            orders = await shop.orders()
            assert orders == ([order] if point == "commit.after" else [])
            assert (await shop.ask("GET", "alice"))[1] == (EMPTY if orders else full)
            status, answer = await shop.keep("POST", "alice/checkout", key="2")
            assert status == 201 and await shop.keep("POST", "alice/checkout", key="2") == (status, answer)
            assert await shop.orders() == [order]
            assert (await shop.ask("GET", "alice"))[1] == EMPTY
    finally:
        host.stop()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("- name: orders", "- name: others"), "wasi:keyvalue: no-such-store"),
        (("- name: orders", "- {name: orders, access: ReadOnly} "), "wasi:keyvalue: access-denied"),
        (("- name: orders", "- {name: orders, maxValueBytes: 10} "), "wasi:keyvalue: "),
    ],
)
async def test_an_error_of_a_bucket_is_a_trap(change: tuple[str, str], words: str, tmp_path: Path) -> None:
    manifest = made_example("cart", tmp_path)
    manifest.write_text(manifest.read_text().replace(*change))
    async with local_host(manifest, data_directory(tmp_path)) as (_, client):
        shop = Shop(client.url, client.session)
        await shop.price("tea", 450)
        before = await shop.ask("POST", "alice/items", TEA)
        status, problem = await shop.ask("POST", "alice/checkout")
        assert status == 500 and isinstance(problem, dict) and words in problem["stderr"], problem
        assert await shop.ask("GET", "alice") == before


def test_the_tools_are_those_of_the_tests() -> None:
    """What `npm ci` brings, and what build.sh of the others names, is what the tests have built with."""
    tools = [
        json.loads((ROOT / part / "package.json").read_text()) for part in ("examples/cart", "tests/guests/state-js")
    ]
    assert tools[0]["dependencies"] == tools[1]["dependencies"]
    named = f"@bytecodealliance/jco@{tools[0]['dependencies']['@bytecodealliance/jco']})"
    assert named in (ROOT / "examples" / "inventory" / "build.sh").read_text()
    pinned = re.search(r"^componentize-py==[\d.]+", (ROOT / "requirements-dev.lock").read_text(), re.MULTILINE)
    assert pinned and f"{pinned[0]})" in (ROOT / "examples" / "counter" / "build.sh").read_text()
