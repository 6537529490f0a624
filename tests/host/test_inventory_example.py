"""The Go example: a number that many instances change at once, on two hosts, and that is never wrong."""

from __future__ import annotations

import asyncio
import shutil
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from support.examples import data_directory, made_example
from support.guests import guest
from support.hosts import Client, HostProcess, local_host, retry
from support.servers import RedisServer

# Where nothing was compiled or built before, the first test pays for it.
pytestmark = pytest.mark.timeout(600)
SHARED = """
---
apiVersion: perdure.dev/v1alpha1
kind: KeyValueProvider
metadata: {name: shared}
spec: {default: true, redis: {url: "URL", timeout: 2s}}
"""


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with local_host(made_example("inventory", tmp_path), data_directory(tmp_path)) as (_, made):
        yield made


def level(article: str, quantity: int) -> dict[str, object]:
    return {"article": article, "quantity": quantity}


@asynccontextmanager
async def two_hosts(manifest: Path, redis: RedisServer, directory: Path) -> AsyncIterator[list[Client]]:
    """Of a Worker of its own name, over one Redis."""
    text = manifest.read_text().replace("name: inventory", "name: i" + uuid.uuid4().hex[:8])
    manifest.write_text(text + SHARED.replace("URL", redis.url))
    cache = data_directory(directory) / "cache"
    async with (
        local_host(manifest, directory / "1", host="one", cache=cache) as (_, one),
        local_host(manifest, directory / "2", host="two", cache=cache) as (_, two),
    ):
        yield [one, two]


async def test_nothing_is_sold_twice(redis: RedisServer, tmp_path: Path) -> None:
    async with two_hosts(made_example("inventory", tmp_path), redis, tmp_path) as clients:
        assert await clients[0].call("clerk", "counted", [level("cup", 40)]) == (200, {"ok": None})
        answers = await asyncio.gather(
            *(clients[number % 2].call(f"buyer-{number % 12}", "take", "cup", 1) for number in range(60))
        )
        assert {status for status, _ in answers} == {200}
        sold = [answer["ok"] for _, answer in answers if isinstance(answer, dict) and "ok" in answer]
        assert sorted(sold) == list(range(40)), "each of them has another number left"
        refused = Counter(answer["err"] for _, answer in answers if isinstance(answer, dict) and "err" in answer)
        assert refused == {"there are only 0 of cup": 20}
        # Sums are the same in any order, some come back while others are taken.
        await asyncio.gather(
            *(clients[number % 2].call(f"clerk-{number % 12}", "add", "cup", number) for number in range(30)),
            *(clients[number % 2].call(f"buyer-{number % 12}", "take", "cup", 0) for number in range(30)),
        )
        assert await clients[1].call("any", "levels", ["cup"]) == (200, {"ok": [level("cup", sum(range(30)))]})


async def test_reading_and_setting_would_sell_twice(redis: RedisServer, tmp_path: Path) -> None:
    """Negative control: a guest that does so, asked in the same way, loses some of what it adds."""
    manifest = made_example("inventory", tmp_path)
    component = manifest.with_name("inventory.wasm")
    component.unlink()
    shutil.copy(guest("kv-g4"), component)
    async with two_hosts(manifest, redis, tmp_path) as clients:
        answered, number = 0, 0
        while number == answered:
            assert answered < 3000, "nothing was lost"
            calls = (clients[n % 2].call(f"buyer-{n % 12}", "increment", "stock", "cup") for n in range(60))
            numbers = [answer["ok"] for _, answer in await asyncio.gather(*calls) if isinstance(answer, dict)]
            answered, number = answered + len(numbers), max(number, *numbers)
        assert number < answered


async def test_many_at_once(client: Client) -> None:
    shelf = [level(f"article {number}", number) for number in range(300)]
    assert await client.call("a", "counted", shelf) == (200, {"ok": None})
    asked = [f"article {number}" for number in range(299, -1, -1)]
    assert await client.call("b", "levels", [*asked, "none"]) == (200, {"ok": [*shelf[::-1], level("none", 0)]})
    assert await client.call("b", "levels", []) == (200, {"ok": []})
    assert await client.call("b", "counted", []) == (200, {"ok": None})
    # All of them or none.
    wrong = [level("article 1", 7), level("article 2", -1)]
    assert await client.call("a", "counted", wrong) == (200, {"err": "there cannot be -1 of article 2"})
    assert await client.call("a", "levels", ["article 1"]) == (200, {"ok": [level("article 1", 1)]})
    assert await client.call("a", "add", "ж🍵", 2**32 - 1) == (200, {"ok": 2**32 - 1})
    assert await client.call("a", "take", "ж🍵", 2**32 - 1) == (200, {"ok": 0})
    assert (await client.call("a", "add", "ж🍵", 2**32))[0] == 422


async def test_what_a_bucket_refuses_comes_in_words(tmp_path: Path) -> None:
    manifest = made_example("inventory", tmp_path)
    text, data = manifest.read_text(), data_directory(tmp_path)
    for change, words in (
        ("name: others", "the Worker's manifest has no such bucket"),
        ("{name: stock, access: ReadOnly}", "the Worker may not do that with the bucket"),
        ("{name: stock, maxKeyBytes: 2}", "a key of 3 bytes"),
    ):
        manifest.write_text(text.replace("name: stock", change))
        async with local_host(manifest, data) as (_, client):
            for function, *args in (("counted", [level("tea", 1)]), ("add", "tea", 1), ("take", "tea", 0)):
                status, answer = await client.call("a", function, *args)
                assert status == 200 and isinstance(answer, dict) and words in answer["err"], (change, function, answer)


async def test_a_panic_is_a_trap_that_changes_nothing(client: Client) -> None:
    target = f"{client.url}/v1/buckets/stock/keys/tea"
    async with client.session.put(target, data=b"a lot") as reply:
        assert reply.status == 204
    for function, args in (("take", ("tea", 1)), ("levels", (["tea"],))):
        status, problem = await client.call("a", function, *args)
        assert (status, problem["code"]) == (500, "guest-trapped")
        assert 'strconv.ParseInt: parsing "a lot"' in problem["stderr"]
    async with client.session.get(target) as reply:
        assert await reply.read() == b"a lot"
    assert await client.call("a", "add", "cup", 1) == (200, {"ok": 1}), "the instance goes on"


async def test_memory_does_not_grow_with_calls(tmp_path: Path) -> None:
    """Go's collector runs between calls only; each of these leaves more than a megabyte of garbage."""
    manifest = made_example("inventory", tmp_path)
    manifest.write_text(manifest.read_text() + "  limits: {memory: 16Mi}\n")
    asked = [f"{number:0>100}" for number in range(3000)]
    async with local_host(manifest, data_directory(tmp_path)) as (_, client):
        for _ in range(12):
            status, answer = await client.call("a", "levels", asked)
            assert status == 200 and isinstance(answer, dict) and len(answer["ok"]) == 3000


@pytest.mark.parametrize("point", ["commit.after:2", "commit.after:3"])
async def test_killed_while_it_takes(point: str, tmp_path: Path) -> None:
    """The swap is a commit of its own, the second one; the third ends the call."""
    host = HostProcess(made_example("inventory", tmp_path), data_directory(tmp_path))
    try:
        host.start(PERDURE_FAULTPOINT=point)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
            client = Client(host.url, session)
            assert await client.call("a", "counted", [level("cup", 5)], key="count") == (200, {"ok": None})
            with pytest.raises(aiohttp.ClientError):
                await client.call("a", "take", "cup", 2, key="take")
            assert host.wait() == -9
            host.start()
            assert await retry(client, "a", "take", "cup", 2, key="take") == {"ok": 3}
            assert await client.call("b", "levels", ["cup"]) == (200, {"ok": [level("cup", 3)]})
            assert await client.call("a", "take", "cup", 2) == (200, {"ok": 1}), "without the key it is another call"
    finally:
        host.stop()
