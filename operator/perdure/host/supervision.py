"""Watching the stores: what readiness says, and what is known of each provider."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from perdure.durable.records import ProviderInfo
from perdure.durable.store import ForeignStore
from perdure.errors import PerdureError
from perdure.host.metrics import HostMetrics

log = logging.getLogger(__name__)


class StoreWatch:
    """Pings every store each `interval` seconds. `problem`: why the host is not ready, or None."""

    def __init__(self, stores: Mapping[str, ForeignStore], metrics: HostMetrics, *, interval: float = 2.0) -> None:
        self._stores = stores
        self._metrics = metrics
        self._interval = interval
        self._failed: dict[str, str] = {}
        self.found: dict[str, ProviderInfo] = {}

    @property
    def problems(self) -> Mapping[str, str]:
        """Why a provider cannot be used now, of those that cannot."""
        return self._failed

    @property
    def problem(self) -> str | None:
        return "; ".join(f"provider {name}: {reason}" for name, reason in sorted(self._failed.items())) or None

    async def check(self) -> None:
        """One ping of each store; failures are kept, not raised."""
        for name, store in self._stores.items():
            try:
                self.found[name] = await store.ping()
            except PerdureError as error:
                self._metrics.provider_error(name, error.code)
                if name not in self._failed:
                    log.warning("provider %s is not usable: %s", name, error.detail)
                self._failed[name] = error.detail
            else:
                if self._failed.pop(name, None) is not None:
                    log.info("provider %s is usable again", name)

    async def run(self) -> None:
        """Check for ever."""
        while True:
            await asyncio.sleep(self._interval)
            await self.check()
