"""Who the Redis provider is to a server: users, passwords that change, TLS."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from pathlib import Path

import pytest

from perdure.durable.effects import Put
from perdure.errors import InternalError, ProviderUnavailable
from perdure.providers.redis import RedisConfig, RedisStore
from providers.failing import patiently
from providers.owners import SHOP, call, own, result, some_worker
from providers.redis_stores import opened
from support.servers import free_port, redis_server


async def test_a_user_with_few_rights() -> None:
    with redis_server() as server:
        server.do("ACL", "SETUSER", "perdure", "on", ">secret", "~pd:*", "-@all", "+@read", "+@write", "+fcall",
                  "+function|load", "+info", "+ping", "+time", "+select", "+config|get", "+wait", "+scan")  # fmt: skip
        server.do("ACL", "SETUSER", "default", "resetpass", ">other")
        secret = ["secret"]
        async with opened(server, credentials=lambda: ("perdure", secret[0])) as store:
            assert (await store.ping()).durability == "D2"
            owner = await own(store)
            await owner.commit(Put(SHOP, "a", b"1"), result=result("k"))
            await store.enqueue("alice", call("c"), 10)
            await store.purge(lambda removed: None)
        async with opened(server, credentials=lambda: ("perdure", "wrong")) as store:
            with pytest.raises(ProviderUnavailable, match=r"refused the credentials \(WRONGPASS\)"):
                await store.ping()
        async with opened(server) as store:
            with pytest.raises(ProviderUnavailable, match=r"refused the credentials \(NOAUTH\)"):
                await store.ping()


async def test_nobody_waits_in_vain_for_credentials() -> None:
    """They may be unreadable, and what reads them may be broken: each caller is told, and the next attempt looks again."""
    errors: list[Exception] = [ProviderUnavailable("not readable"), ValueError("a defect")]

    def credentials() -> tuple[str | None, str | None]:
        if errors:
            raise errors.pop()
        return None, None

    with redis_server() as server:
        async with opened(server, credentials=credentials) as store, asyncio.timeout(20):
            with pytest.raises(InternalError, match="ValueError: a defect"):
                await store.due(1)
            with pytest.raises(ProviderUnavailable, match="not readable"):
                await store.due(1)
            await patiently(lambda: store.due(1))


async def test_a_rotated_password_is_used_from_the_next_connection_on() -> None:
    with redis_server("--requirepass", "one") as server:
        password = ["one"]
        async with opened(server, credentials=lambda: (None, password[0])) as store:
            owner = await own(store)
            server.options = ("--requirepass", "two")
            server.stop()
            server.start()
            with pytest.raises(ProviderUnavailable, match="refused the credentials"):
                while True:
                    try:
                        await owner.commit()
                    except ProviderUnavailable as error:
                        if "does not answer" not in error.detail:
                            raise
            password[0] = "two"
            await patiently(owner.commit)


async def test_what_a_server_says_of_a_login_is_not_passed_on() -> None:
    """One that does not know AUTH answers with what it was sent."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sent = await reader.read(1000)
        writer.write(b"-ERR unknown command, with args beginning with: " + sent.replace(b"\r\n", b" ") + b"\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    store = await RedisStore.open(
        RedisConfig(f"redis://127.0.0.1:{port}/0", credentials=lambda: ("wk", "hunter2")), some_worker()
    )
    with pytest.raises(ProviderUnavailable, match="refused the credentials") as refused:
        await store.ping()
    assert "hunter2" not in refused.value.detail
    await store.close()
    server.close()
    await server.wait_closed()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with cert.pem and key.pem for 127.0.0.1."""
    folder = tmp_path_factory.mktemp("tls")
    assert shutil.which("openssl") is not None
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem",
         "-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    return folder


async def test_tls(certificate: Path) -> None:
    port, cert = free_port(), str(certificate / "cert.pem")
    options = ("--tls-port", str(port), "--tls-cert-file", cert, "--tls-key-file", str(certificate / "key.pem"),
               "--tls-ca-cert-file", cert, "--tls-auth-clients", "no")  # fmt: skip
    with redis_server(*options) as server:
        url = f"rediss://127.0.0.1:{port}/0"
        async with opened(server, url=url, tls=True, ca=Path(cert)) as store:
            owner = await own(store)
            await owner.commit(Put(SHOP, "a", b"x" * 300_000))
            assert await store.get_many(SHOP, ["a"]) == [b"x" * 300_000]
        async with opened(server, url=url, tls=True) as store:
            with pytest.raises(ProviderUnavailable, match="TLS failed"):
                await store.ping()
