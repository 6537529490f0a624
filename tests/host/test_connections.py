"""Clients that hold connections: how many, for how long, and who still gets through."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from perdure.host.http import connections
from perdure.host.loop import run
from support.guests import COMPILED
from support.hosts import EXAMPLE, Client, local_host

LIMIT = 6
GET = b"GET /v1/component HTTP/1.1\r\nHost: h\r\n"
BODY = b"PUT /v1/buckets/shop/keys/k HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n"
Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def pairs(url: str, number: int, begun: bytes) -> AsyncIterator[list[Pair]]:
    """So many connections that have begun something."""
    async with AsyncExitStack() as stack:
        made = []
        for _ in range(number):
            reader, writer = await asyncio.open_connection(URL(url).host, URL(url).port)
            stack.callback(writer.close)
            writer.write(begun)
            await writer.drain()
            made.append((reader, writer))
        yield made


async def lost(pair: Pair) -> bool:
    """Whether it has been closed, without an answer."""
    try:
        return await asyncio.wait_for(pair[0].read(1), 0.2) == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False


async def lost_until(made: list[Pair], number: int) -> list[bool]:
    async with asyncio.timeout(20):
        while sum(found := await asyncio.gather(*map(lost, made))) < number:
            pass
    return found


@pytest.fixture
async def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Client]:
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", LIMIT)
    async with local_host(EXAMPLE, tmp_path, cache=COMPILED) as (_, made):
        yield made


async def asked(client: Client) -> int:
    """The status, on a connection of its own."""
    async with aiohttp.ClientSession() as session, session.get(client.url + "/v1/component") as reply:
        return reply.status


async def test_who_waits_longest_makes_room(client: Client) -> None:
    """Silent, or within a head that does not end."""
    async with pairs(client.url, 3, b"") as silent, pairs(client.url, LIMIT - 3, GET) as slow:
        await client.until("perdure_connections", LIMIT + 1)
        assert await asked(client) == 200
        assert await lost_until(silent + slow, 1) == [True, False, False, False, False, False]
        assert await client.metric("perdure_connections_closed_total") == 1
        # The rest can still be answered.
        slow[-1][1].write(b"\r\n")
        assert (await slow[-1][0].read(12)) == b"HTTP/1.1 200"


async def test_many_more_than_may_be_open(client: Client) -> None:
    async with pairs(client.url, 10 * LIMIT, GET) as slow:
        assert await asked(client) == 200
        await lost_until(slow, 9 * LIMIT)
        assert await client.metric("perdure_connections") <= LIMIT + 1
        async with client.session.get(client.metrics + "/healthz") as reply:
            assert reply.status == 200
    await client.until("perdure_connections", 1)


async def begun(pair: Pair) -> None:
    """Wait until its request is being carried out."""
    assert await pair[0].readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"


async def test_a_request_that_is_being_answered_keeps_its_connection(client: Client) -> None:
    await all_in_use(client)


def test_on_the_event_loop_of_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """uvloop's transports are others than asyncio's."""
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", LIMIT)

    async def scenario() -> None:
        async with local_host(EXAMPLE, tmp_path, cache=COMPILED) as (_, client):
            await all_in_use(client)

    run(scenario())


async def all_in_use(client: Client) -> None:
    async with pairs(client.url, LIMIT, BODY) as busy:
        for pair in busy:
            await begun(pair)
        async with aiohttp.ClientSession() as session, session.get(client.url + "/v1/component") as reply:
            told = await reply.json(content_type=None)
            assert (reply.status, told["code"], reply.headers["Retry-After"]) == (429, "overloaded", "1")
        async with client.session.get(client.metrics + "/readyz") as reply:
            assert reply.status == 200
        for reader, writer in busy:
            writer.write(b"half done")
            assert (await reader.read(12)) == b"HTTP/1.1 204"
        # Answered, they wait again, and make room.
        assert await asked(client) == 200


async def test_a_head_that_does_not_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "SILENCE", 1.0)
    async with local_host(EXAMPLE, tmp_path, cache=COMPILED) as (_, client):
        async with pairs(client.url, 1, b"") as silent, pairs(client.url, 1, GET) as slow:
            dripping = asyncio.create_task(_drip(slow[0][1]))
            await lost_until(silent + slow, 2)
            dripping.cancel()
        # A request that takes longer than that to be answered is, and its connection goes on.
        async with pairs(client.url, 1, BODY) as [pair]:
            await begun(pair)
            await asyncio.sleep(1.5)
            pair[1].write(b"half done")
            assert (await pair[0].read(12)) == b"HTTP/1.1 204"


async def _drip(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"X: y\r\n")
        await asyncio.sleep(0.02)


async def test_without_the_bound_the_head_may_take_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control of the test before."""
    async with local_host(EXAMPLE, tmp_path, cache=COMPILED) as (_, client), pairs(client.url, 1, GET) as slow:
        await asyncio.sleep(0.6)
        slow[0][1].write(b"\r\n")
        assert (await slow[0][0].read(12)) == b"HTTP/1.1 200"
