"""Deleting a Worker's data at every provider it uses."""

from __future__ import annotations

from collections.abc import Callable

from perdure.errors import ProviderUnavailable
from perdure.host.config import HostConfig
from perdure.host.stores import open_foreign
from perdure.manifests.provider import KeyValueProvider


async def purge_worker(config: HostConfig, progress: Callable[[str, int], None]) -> int:
    """Number of keys or rows removed. One provider that is away does not keep the data at the others: it raises
    `ProviderUnavailable` in the end. Run again, it continues."""
    total = 0
    failures: list[str] = []
    for provider in config.effective.providers:
        try:
            total += await _purge(provider, config, progress)
        except ProviderUnavailable as error:
            failures.append(f"KeyValueProvider {provider.name}: {error.detail}")
    if failures:
        raise ProviderUnavailable("; ".join(failures))
    return total


async def _purge(provider: KeyValueProvider, config: HostConfig, progress: Callable[[str, int], None]) -> int:
    store = await open_foreign(provider, config)
    try:
        return await store.purge(lambda count: progress(provider.name, count))
    finally:
        await store.close()
