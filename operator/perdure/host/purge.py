"""Deleting a Worker's data at every provider it uses."""

from __future__ import annotations

from collections.abc import Callable

from perdure.host.config import HostConfig
from perdure.host.stores import close_stores, open_stores


async def purge_worker(config: HostConfig, progress: Callable[[str, int], None]) -> int:
    """Number of keys or rows removed. Raises `ProviderUnavailable`; run again, it continues."""
    stores = await open_stores(config)
    total = 0
    try:
        for name, store in stores.named.items():
            total += await store.purge(lambda count, name=name: progress(name, count))  # type: ignore[misc]
    finally:
        await close_stores(stores)
    return total
