"""What a running host says of itself, for the status. Best effort: where it cannot be asked, the status is shorter.

Answers come from a pod that runs foreign code: they are bounded and checked.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Sequence

import aiohttp

from perdure.reconciler.hosts import HostReport, read_report
from perdure.reconciler.status import Details

_TIMEOUT = aiohttp.ClientTimeout(total=3, connect=1)
_MAX_BYTES = 1 << 20
_MAX_REASON = 512
_MAX_STATUS = 64 << 10
_MAX_ASKED = 8
_MAX_EXPORTS = 256


async def ask_host(base: str) -> Details | None:
    """`base`: the Service's address."""
    found = await _get(f"{base}/v1/component", _MAX_BYTES)
    if found is None or found[0] != 200:
        return None
    try:
        return _details(json.loads(found[1]))
    except (ValueError, RecursionError):
        return None


async def why_not_ready(address: str) -> tuple[str, str] | None:
    """(code, sentence) of a host that runs and is not ready, by its pod's address; None where it does not say."""
    found = await _get(f"{_second_port(address)}/readyz", _MAX_REASON)
    if found is None or found[0] != 503:
        return None
    text = "".join(char for char in found[1].decode("utf-8", "replace") if char.isprintable()).strip()
    # Starting and draining pass by themselves; a provider that does not answer is worth a condition.
    return ("provider-unavailable", text) if text.startswith("provider ") else None


async def ask_hosts(addresses: Sequence[str], providers: Collection[str]) -> list[HostReport]:
    """What hosts tell of the Worker's `providers` and of instances in quarantine; at most some of them are asked."""

    async def ask(address: str) -> HostReport | None:
        found = await _get(f"{_second_port(address)}/status", _MAX_STATUS)
        return read_report(found[1], providers) if found is not None and found[0] == 200 else None

    found = await asyncio.gather(*(ask(address) for address in addresses[:_MAX_ASKED]))
    return [report for report in found if report is not None]


def _second_port(address: str) -> str:
    return f"http://[{address}]:9090" if ":" in address else f"http://{address}:9090"


async def _get(url: str, limit: int) -> tuple[int, bytes] | None:
    try:
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
            async with session.get(url, allow_redirects=False) as reply:
                return reply.status, await _beginning(reply, limit)
    except (aiohttp.ClientError, TimeoutError, OSError):
        return None


async def _beginning(reply: aiohttp.ClientResponse, limit: int) -> bytes:
    """Up to `limit` bytes of the body; one read gives only what has arrived."""
    data = bytearray()
    async for chunk in reply.content.iter_any():
        data += chunk
        if len(data) >= limit:
            break
    return bytes(data[:limit])


def _details(document: object) -> Details | None:
    if not isinstance(document, dict):
        return None
    providers = document.get("providers")
    found = list(providers.values()) if isinstance(providers, dict) else []
    levels = [item.get("durability") for item in found if isinstance(item, dict) and item.get("home") is True]
    level = next((level[:64] for level in levels if isinstance(level, str)), None)
    functions = document.get("exports")
    names = [item.get("name") for item in functions if isinstance(item, dict)] if isinstance(functions, list) else []
    return Details(level, tuple(name[:256] for name in names if isinstance(name, str))[:_MAX_EXPORTS])
