"""What a running host says of itself, for the status. Best effort: where it cannot be asked, the status is shorter."""

from __future__ import annotations

import json

import aiohttp

from perdure.reconciler.status import Details

_TIMEOUT = aiohttp.ClientTimeout(total=3, connect=1)
_MAX_BYTES = 1 << 20
_MAX_EXPORTS = 256


async def ask_host(base: str) -> Details | None:
    """`base`: the Service's address. The answer comes from a pod that runs foreign code: it is bounded and checked."""
    try:
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
            async with session.get(f"{base}/v1/component", allow_redirects=False) as reply:
                if reply.status != 200:
                    return None
                data = await reply.content.read(_MAX_BYTES)
        document = json.loads(data)
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
        return None
    return _details(document)


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
