"""Which Workers refer to which objects, so that a change of one reconciles the others."""

from __future__ import annotations

from dataclasses import dataclass, field

from perdure.reconciler.workqueue import Key


@dataclass(frozen=True, slots=True)
class Uses:
    """`providers`: names of KeyValueProviders it runs on. `config_maps`: names, in its own namespace."""

    providers: frozenset[str] = frozenset()
    config_maps: frozenset[str] = frozenset()


@dataclass(slots=True)
class References:
    """As each Worker's last reconcile found it; empty after a start until then, when all are reconciled anyway."""

    _uses: dict[Key, Uses] = field(default_factory=dict)
    _ready: dict[Key, bool] = field(default_factory=dict)

    def put(self, worker: Key, uses: Uses, *, ready: bool) -> None:
        self._uses[worker] = uses
        self._ready[worker] = ready

    def forget(self, worker: Key) -> frozenset[str]:
        """The providers it ran on."""
        self._ready.pop(worker, None)
        return self._uses.pop(worker, Uses()).providers

    def workers(self) -> list[Key]:
        return list(self._uses)

    def of_config_map(self, namespace: str, name: str) -> list[Key]:
        return [key for key, uses in self._uses.items() if key[0] == namespace and name in uses.config_maps]

    def providers_of(self, worker: Key) -> frozenset[str]:
        return self._uses.get(worker, Uses()).providers

    def on_provider(self, provider: str) -> list[Key]:
        """Workers that run on a provider."""
        return [key for key, uses in self._uses.items() if provider in uses.providers]

    def readiness(self) -> tuple[int, int]:
        """Workers that are ready, and that are not."""
        ready = sum(self._ready.values())
        return ready, len(self._ready) - ready
