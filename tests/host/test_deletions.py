"""DELETE of an instance, and of a Worker's data, where another provider than the home has some of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest

from host.test_status import MANIFEST
from perdure.errors import ProviderUnavailable
from perdure.host.purge import purge_worker
from support.guests import COMPILED, guest
from support.hosts import host_config, local_host
from support.servers import redis_server

PUT = [{"put": ["far", "k", "b2xk"]}, {"put": ["near", "k", "b2xk"]}]
GET = [{"get": ["far", "k"]}, {"get": ["near", "k"]}]
BUCKETS = "buckets: [{name: elsewhere, provider: away}]"
PRIVATE = "buckets: [{name: far, provider: away, scope: Instance}, {name: near, scope: Instance}]"


def manifest_of(directory: Path, port: int) -> Path:
    path = directory / "worker.yaml"
    assert BUCKETS in MANIFEST
    path.write_text(MANIFEST.replace("PORT", str(port)).replace(BUCKETS, PRIVATE))
    return path


async def test_an_instance_is_deleted_everywhere(tmp_path: Path) -> None:
    with redis_server() as server:
        manifest = manifest_of(tmp_path, server.port)
        async with local_host(manifest, tmp_path / "data", base=guest("ledger").parent, cache=COMPILED) as (_, client):

            async def delete(name: str) -> int:
                async with client.session.delete(f"{client.url}/v1/instances/{name}") as reply:
                    assert await reply.read() == b"" or reply.status >= 400
                    return reply.status

            for name in ("a", "b"):
                assert await client.call(name, "run", PUT) == (200, ["nothing", "nothing"])
            assert [await delete("a"), await delete("a")] == [204, 404]
            server.stop()
            assert [await delete("b"), await delete("b")] == [202, 404]
            status, problem = await client.call("b", "run", GET)
            assert status == 503 and isinstance(problem, dict) and problem["code"] == "provider-unavailable"
            server.start()
            for name in ("a", "b"):
                # A provider that has just come back may be left alone for a moment.
                while (answer := await client.call(name, "run", GET))[0] == 503:
                    await asyncio.sleep(0.05)
                assert answer == (200, [{"value": None}, {"value": None}])


async def test_a_purge_goes_past_a_provider_that_is_away(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with redis_server() as server:
        manifest = manifest_of(tmp_path, server.port)
        async with local_host(manifest, data, base=guest("ledger").parent, cache=COMPILED) as (_, client):
            await client.call("a", "run", PUT)
        config = host_config(manifest, data)
        server.stop()
        removed: dict[str, int] = {}
        with pytest.raises(ProviderUnavailable, match="away"):
            await purge_worker(config, removed.__setitem__)
        assert set(removed) == {"main"}
        server.start()
        assert await purge_worker(config, removed.__setitem__) == removed["away"] > 0
        async with (
            local_host(manifest, data, base=guest("ledger").parent, cache=COMPILED) as (host, client),
            aiohttp.ClientSession() as session,
            session.get(f"{host.url}/v1/instances") as reply,
        ):
            assert await reply.json() == {"instances": [], "cursor": None}
            assert await client.call("a", "run", GET) == (200, [{"value": None}, {"value": None}])
