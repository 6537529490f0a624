"""The connection to the API server: a name from a manifest never leads to another namespace."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from kubernetes.aio import client

from perdure.reconciler.api import KINDS, WORKER, Cluster

SECRET = KINDS["Secret"]


class ApiServer:
    """Has every object one may ask for; `asked`: the paths."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        if "limit" in request.query:
            assert "PartialObjectMetadataList" in request.headers["Accept"]
            page = int(request.query.get("continue", "0"))
            names = [{"metadata": {"name": f"w{page}-{n}", "namespace": "shop"}} for n in range(2)]
            return web.json_response({"metadata": {"continue": str(page + 1) if page < 2 else ""}, "items": names})
        return web.json_response({"metadata": {"name": "there"}})


@pytest.fixture
async def server() -> ApiServer:
    return ApiServer()


@pytest.fixture
async def cluster(server: ApiServer) -> AsyncIterator[Cluster]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    connection = Cluster(client.ApiClient(client.Configuration(host=f"http://{host}:{port}")))
    try:
        yield connection
    finally:
        await connection.close()
        await runner.cleanup()


async def test_an_object_is_asked_for_by_its_name(cluster: Cluster, server: ApiServer) -> None:
    assert await cluster.get(SECRET, "shop", "login.of-carts") == {"metadata": {"name": "there"}}
    assert await cluster.get_metadata(SECRET, "shop", "login") is not None
    assert await cluster.get(WORKER, "shop", "carts") is not None
    assert server.asked == [
        "/api/v1/namespaces/shop/secrets/login.of-carts",
        "/api/v1/namespaces/shop/secrets/login",
        "/apis/perdure.dev/v1alpha1/namespaces/shop/workers/carts",
    ]


@pytest.mark.parametrize(
    "name",
    ["../../bank/secrets/vault", "..", ".", "a/b", "a/../../../bank/secrets/vault", "%2e%2e", "a?b", "a#b", "", "A",
     "..%2f..%2fbank%2fsecrets%2fvault", "a\n", "-a", "x" * 254],
)  # fmt: skip
async def test_what_is_no_name_is_not_there(cluster: Cluster, server: ApiServer, name: str) -> None:
    """The operator may read the Secrets of every namespace, whoever may write a Worker those of one at most."""
    assert await cluster.get(SECRET, "shop", name) is None
    assert await cluster.get_metadata(SECRET, "shop", name) is None
    assert server.asked == []


async def test_all_keys_are_found_page_by_page(cluster: Cluster, server: ApiServer) -> None:
    found = await cluster.keys(WORKER)
    assert found == [("shop", f"w{page}-{number}") for page in range(3) for number in range(2)]
    assert server.asked == ["/apis/perdure.dev/v1alpha1/workers"] * 3
