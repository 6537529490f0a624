"""New memory for each call, and HTTPS to a server whose authority the manifest names: in pods, of which one is killed."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from e2e.conftest import IMAGE
from e2e.workers import Object, restricted_pod, service_of, worker
from support import certificates
from support.cluster.kubectl import Kubectl, call
from support.guests import guest

_SHOP = """
import ssl
from aiohttp import web

keys, requests = [], []

async def charge(request):
    key = request.headers["Idempotency-Key"]
    requests.append(await request.text())
    if key not in keys:
        keys.append(key)
    return web.Response(text=f"charge {keys.index(key) + 1}, request {len(requests)}: {requests[-1]}")

shop = web.Application()
shop.router.add_post("/charge", charge)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/tls/server.crt", "/tls/server.key")
web.run_app(shop, port=8443, ssl_context=context, print=None)
"""


def shop() -> Object:
    container = {
        "name": "shop",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", _SHOP],
        "readinessProbe": {"tcpSocket": {"port": 8443}, "periodSeconds": 1},
        "volumeMounts": [{"name": "tls", "mountPath": "/tls"}],
    }
    return restricted_pod("shop", container, volumes=[{"name": "tls", "secret": {"secretName": "shop"}}])


def fetch(host: str, body: bytes) -> dict[str, Any]:
    request = {"method": "POST", "url": f"https://{host}/charge", "headers": [], "patience": 0}
    return {"fetch": {**request, "body": base64.b64encode(body).decode()}}


def test_calls_with_new_memory_ask_a_server_with_a_private_authority(kubectl: Kubectl, tmp_path: Path) -> None:
    name = f"shop.{kubectl.namespace}.svc"
    certificates.make(tmp_path, addresses=f"DNS:{name}")
    pem = {file: (tmp_path / file).read_text() for file in ("ca.crt", "server.crt", "server.key")}
    kubectl.secret("authority", **{"authority.pem": pem["ca.crt"]})
    kubectl.secret("shop", **{"server.crt": pem["server.crt"], "server.key": pem["server.key"]})
    kubectl.config_map("web", "component.wasm", guest("web"))
    kubectl.apply(
        shop(),
        service_of("shop", 443, 8443),
        worker(
            "web",
            replicas=1,
            component={"configMap": {"name": "web"}},
            keyValue={"undeclaredBuckets": "Allow"},
            durability={"memory": "Invocation"},
            # The second name leads to the same server, whose certificate is for the first one alone.
            http={"allow": [name, "shop"], "tls": {"caSecretRef": {"name": "authority", "key": "authority.pem"}}},
        ),
    )
    kubectl.run("wait", "--for=condition=Ready", "pod/shop", "--timeout=60s")
    kubectl.wait_ready("web")
    client = kubectl.client("web", retries=60)

    def run(key: str, body: bytes) -> list[Any]:
        steps = [{"remember": 5}, fetch(name, body), {"add": ["numbers", "n", 1]}]
        remembered, answer, added = call(client, "a", "run", steps, key=key)
        return [remembered["number"], base64.b64decode(answer["answer"]["body"]).decode(), added["number"]]

    def journal() -> int:
        return int(json.loads(client.request("GET", "/v1/instances/a"))["journal"]["entries"])

    first = run("one", b"hi")
    assert first == [5, "charge 1, request 1: hi", 1]
    entries = journal()
    (pod,) = kubectl.hosts("web")
    kubectl.run("delete", "pod", pod["metadata"]["name"], "--force", "--grace-period=0")
    # Buckets went on, memory did not; nothing was sent again, nor is it now.
    assert run("two", b"ho") == [5, "charge 2, request 2: ho", 2]
    assert run("one", b"hi") == first
    assert journal() == entries, "of the last call alone"
    assert run("three", b"hey") == [5, "charge 3, request 3: hey", 3]
    # The negative control: certificates are looked at.
    (failed,) = call(client, "a", "run", [fetch("shop", b"no")], key="four")
    assert "TlsCertificateError" in failed["failed"], failed
