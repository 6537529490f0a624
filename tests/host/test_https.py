"""HTTPS requests of guests: which servers are trusted, and what a guest is told of others."""

from __future__ import annotations

import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

from perdure.errors import ManifestError
from perdure.host.outgoing import OutgoingHttp
from perdure.manifests.worker import HTTP_CA, Http
from perdure.wasi.http.messages import HttpRequest
from perdure.wasi.recorder import Plain
from support import certificates
from support.guests import COMPILED, guest
from support.hosts import Client, HostProcess, local_host
from support.web import KEY, Shop, shop_server

WORKER = """
apiVersion: perdure.dev/v1alpha1
kind: Worker
metadata: {name: w}
spec:
  component: {url: "file:COMPONENT"}
  http: {allow: ["127.0.0.1:PORT"], tls: TLS}
"""
TRUSTING = '{caSecretRef: {name: "authority", key: authority.pem}}'


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    folder = tmp_path / "pki"
    folder.mkdir()
    certificates.make(folder)
    return folder


def serving(pki: Path, name: str = "server") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki / f"{name}.crt", pki / f"{name}.key")
    return context


@pytest.fixture
async def shop(pki: Path) -> AsyncIterator[Shop]:
    async with shop_server(serving(pki)) as server:
        yield server


def worker(path: Path, port: int, tls: str = "{}") -> Path:
    path.write_text(WORKER.replace("COMPONENT", str(guest("web"))).replace("PORT", str(port)).replace("TLS", tls))
    return path


def secrets(folder: Path, pki: Path) -> Path:
    """As they are mounted."""
    mounted = folder / "secrets" / HTTP_CA
    mounted.mkdir(parents=True)
    (mounted / "authority.pem").write_bytes((pki / "ca.crt").read_bytes())
    return mounted.parent


async def fetched(client: Client, url: str) -> str:
    """The body that the guest got, or the name of the error in Rust's words."""
    request = {"method": "POST", "url": url, "headers": [], "body": [104, 105], "patience": 0}
    status, answer = await client.call("i", "run", [{"fetch": request}])
    assert status == 200 and isinstance(answer, list), answer
    (kind, found), *_ = answer[0].items()
    return base64.b64decode(found["body"]).decode() if kind == "answer" else found.rpartition("::")[2]


async def test_an_authority_of_the_manifest_is_trusted(shop: Shop, pki: Path, tmp_path: Path) -> None:
    manifest = worker(tmp_path / "w.yaml", shop.port, TRUSTING)
    mounted = secrets(tmp_path, pki)
    async with local_host(manifest, tmp_path / "data", base=Path("/"), cache=COMPILED, secrets=mounted) as (_, client):
        assert await fetched(client, f"{shop.url}/charge") == "charge 1 hi"
    assert len(shop.requests) == 1 and shop.requests[0].headers[KEY] in shop.charges


async def test_an_authority_that_nobody_named_is_not_trusted(shop: Shop, tmp_path: Path) -> None:
    manifest = worker(tmp_path / "w.yaml", shop.port)
    async with local_host(manifest, tmp_path / "data", base=Path("/"), cache=COMPILED) as (_, client):
        assert await fetched(client, f"{shop.url}/charge") == "TlsCertificateError"
    assert shop.requests == []


async def test_authorities_of_the_process_are_trusted(shop: Shop, pki: Path, tmp_path: Path) -> None:
    """On a laptop: `SSL_CERT_FILE`, which OpenSSL reads when the process starts."""
    host = HostProcess(worker(tmp_path / "w.yaml", shop.port), tmp_path / "data")
    host.start(SSL_CERT_FILE=str(pki / "ca.crt"))
    try:
        async with aiohttp.ClientSession() as session:
            assert await fetched(Client(host.url, session), f"{shop.url}/charge") == "charge 1 hi"
    finally:
        host.stop()


async def sent(client: OutgoingHttp, shop: Shop, scheme: str = "https", authority: str = "") -> Plain:
    return await client.send(
        HttpRequest("GET", scheme, authority or f"127.0.0.1:{shop.port}", "/charge", ((KEY, b"k"),), b"")
    )


async def test_what_else_may_be_wrong(shop: Shop, pki: Path, tmp_path: Path) -> None:
    certificates.make(pki, "other", addresses="DNS:other.example")
    mounted = secrets(tmp_path, pki)
    tls = {"caSecretRef": {"name": "authority", "key": "authority.pem"}}
    async with AsyncExitStack() as stack:
        other = await stack.enter_async_context(shop_server(serving(pki, "other")))
        plain = await stack.enter_async_context(shop_server())
        allow = [f"{name}:{one.port}" for one in (shop, other, plain) for name in ("127.0.0.1", "localhost")]
        client = OutgoingHttp(Http.model_validate({"allow": allow, "tls": tls}), mounted)
        stack.push_async_callback(client.close)
        for name in ("127.0.0.1", "localhost"):
            answer = await sent(client, shop, authority=f"{name}:{shop.port}")
            assert isinstance(answer, dict) and answer["status"] == 200
        # Signed by the authority, for another name.
        assert await sent(client, other) == {"error": ["TLS-certificate-error", None]}
        # No TLS where TLS is wanted, and the other way round.
        assert await sent(client, plain) == {"error": ["TLS-protocol-error", None]}
        found = await sent(client, shop, scheme="http")
        assert isinstance(found, dict) and "status" not in found
    assert not other.requests and not plain.requests


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_an_authority_that_cannot_be_read_is_said(tmp_path: Path, content: bytes | None) -> None:
    folder = tmp_path / HTTP_CA
    folder.mkdir()
    if content is not None:
        (folder / "ca.crt").write_bytes(content)
    with pytest.raises(
        ManifestError, match="spec.http.tls.caSecretRef: the key 'ca.crt' of Secret authority is not there"
    ):
        OutgoingHttp(Http.model_validate({"tls": {"caSecretRef": {"name": "authority"}}}), tmp_path)
