"""`/status` of a host's second port: what the operator puts into a Worker's status."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from perdure.host.description import describe_status
from perdure.host.ownership import Ownership
from support.guests import COMPILED, guest
from support.hosts import host_config, local_host
from support.servers import redis_server

MANIFEST = """
apiVersion: perdure.dev/v1alpha1
kind: Worker
metadata: {name: ledger}
spec:
  component: {url: "file:ledger.wasm"}
  retry: {maxAttempts: 1}
  keyValue:
    provider: main
    undeclaredBuckets: Allow
    buckets: [{name: elsewhere, provider: away}]
---
apiVersion: perdure.dev/v1alpha1
kind: KeyValueProvider
metadata: {name: main}
spec: {sqlite: {}}
---
apiVersion: perdure.dev/v1alpha1
kind: KeyValueProvider
metadata: {name: away}
spec: {redis: {url: "redis://127.0.0.1:PORT/0", timeout: 300ms}}
"""


async def test_providers_and_instances_in_quarantine(tmp_path: Path) -> None:
    with redis_server() as server:
        manifest = tmp_path / "worker.yaml"
        manifest.write_text(MANIFEST.replace("PORT", str(server.port)))
        async with local_host(manifest, tmp_path / "data", base=guest("ledger").parent, cache=COMPILED) as (
            host,
            client,
        ):

            async def status() -> dict[str, Any]:
                async with client.session.get(f"{host.metrics_url}/status") as reply:
                    assert reply.status == 200
                    found: dict[str, Any] = await reply.json()
                    return found

            found = await status()
            assert found["providers"]["main"] == {"kind": "sqlite", "home": True, "durability": "D2",
                                                  "guarantee": "exactly-once", "reachable": True, "problem": None}  # fmt: skip
            assert found["providers"]["away"]["reachable"] is True
            assert found["quarantined"] == {"count": 0, "latest": []}
            url = f"{client.url}/v1/instances/bad/functions/run"
            headers = {"Prefer": "respond-async", "Idempotency-Key": "k"}
            async with client.session.post(url, data=json.dumps([["trap"]]), headers=headers) as reply:
                assert reply.status == 202
            server.stop()
            async with asyncio.timeout(60):
                while (found := await status())["providers"]["away"]["reachable"] or not found["quarantined"]["count"]:
                    await asyncio.sleep(0.05)
            assert found["quarantined"] == {"count": 1, "latest": ["bad"]}
            assert "does not answer" in found["providers"]["away"]["problem"]
            assert found["providers"]["main"]["reachable"] is True
            assert found["providers"]["away"]["durability"] == "D2", "what was found before"


def test_before_anything_is_known_nothing_is_claimed(tmp_path: Path) -> None:
    (tmp_path / "worker.yaml").write_text(MANIFEST.replace("PORT", "1"))
    config = host_config(tmp_path / "worker.yaml", tmp_path)

    def providers(problems: dict[str, str]) -> dict[str, dict[str, object]]:
        found = describe_status(config, {}, problems, Ownership(lambda: None))["providers"]
        assert isinstance(found, dict)
        return found

    found = providers({})
    assert found["main"] == {"kind": "sqlite", "home": True, "durability": None, "guarantee": None, "reachable": None,
                             "problem": None}  # fmt: skip
    assert providers({"away": "silent"})["away"]["reachable"] is False
