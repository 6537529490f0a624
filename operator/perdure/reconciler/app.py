"""The operator's process: wait for the CRDs, win the election, then watch and reconcile until told to stop.

Losing the lease, or a watcher that ends, ends the process: its pod starts it anew with a clean state.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from dataclasses import dataclass

import kopf
from kopf._core.engines.peering import Identity

from perdure.manifests.provider import KeyValueProvider
from perdure.reconciler import handlers
from perdure.reconciler.api import PROVIDER, UNREACHED, WORKER, ApiError, Cluster
from perdure.reconciler.lease import LeaderLost, Leadership
from perdure.reconciler.metrics import OperatorMetrics
from perdure.reconciler.objects.config import provider_document
from perdure.reconciler.probes import Prober
from perdure.reconciler.providers import ProviderReconciler
from perdure.reconciler.reconcile import Reconciler, Settings
from perdure.reconciler.references import References
from perdure.reconciler.serving import served
from perdure.reconciler.workqueue import Key, WorkQueue

log = logging.getLogger(__name__)
LEASE_NAME = "perdure-operator"
_STUCK = 120.0
_RESYNC = 300.0


@dataclass(frozen=True, slots=True)
class OperatorConfig:
    """`identity`: unique among operators. `bootstrap`: what the leader applies first."""

    settings: Settings
    identity: str
    lease_namespace: str
    metrics_listen: tuple[str, int]
    bootstrap: tuple[KeyValueProvider, ...] = ()


def run_operator(config: OperatorConfig) -> int:
    """Run until SIGTERM or SIGINT. Returns the exit code: 0 told to stop, 1 leadership or a watch was lost."""
    return asyncio.run(_run(config))


async def _run(config: OperatorConfig) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    cluster = await Cluster.connect()
    operator = _Operator(cluster, config)
    try:
        async with served(
            operator.metrics, *config.metrics_listen, alive=operator.stuck, refresh=operator.refresh_metrics
        ):
            return await operator.run(stop)
    finally:
        await cluster.close()


class WatchEnded(Exception):
    """kopf returned: nothing would be noticed any more."""


class _Operator:
    def __init__(self, cluster: Cluster, config: OperatorConfig) -> None:
        self._cluster = cluster
        self.metrics = OperatorMetrics()
        self._references = References()
        self._leadership = Leadership(cluster, config.lease_namespace, LEASE_NAME, config.identity)
        self._queue = WorkQueue(self._reconcile, self._failed)
        prober = Prober(
            cluster,
            image=config.settings.host_image,
            pull_policy=config.settings.pull_policy,
            namespace=config.settings.probe_namespace,
            pull_secrets=config.settings.probe_pull_secrets,
        )
        self._providers = ProviderReconciler(cluster, self._references, prober, self._provider_changed)
        self._workers = Reconciler(cluster, config.settings, self._references, self._provider_doubted)
        self._bootstrap = config.bootstrap
        self._identity = Identity(config.identity)

    async def run(self, stop: asyncio.Event) -> int:
        """Until `stop` is set (0), or until going on would be wrong (1)."""
        stopping = asyncio.create_task(stop.wait())
        working = asyncio.create_task(self._work(stop))
        try:
            await asyncio.wait({stopping, working}, return_when=asyncio.FIRST_COMPLETED)
            if stop.is_set():
                working.cancel()
                await asyncio.wait({working})
                log.info("stopped")
                return 0
            self._explain(working)
            return 1
        finally:
            stopping.cancel()
            await self._leadership.release()

    def _explain(self, working: asyncio.Task[None]) -> None:
        error = working.exception()
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        if isinstance(error, (LeaderLost, WatchEnded)):
            log.error("%s; ending, so that the operator starts anew", error)
        else:
            log.error("a watch or the queue failed; ending, so that the operator starts anew", exc_info=error)

    async def _work(self, stop: asyncio.Event) -> None:
        await self._wait_for_definitions()
        log.info("waiting to lead", extra={"fields": {"lease": LEASE_NAME}})
        await self._leadership.acquire()
        self.metrics.leading.set(1)
        handlers.quiet_kopf()
        registry = handlers.registry(self._queue.trigger, self._references, self._seen)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._leadership.hold())
            for provider in self._bootstrap:
                await self._apply(provider)
            tasks.create_task(self._queue.run())
            tasks.create_task(self._resync())
            await kopf.operator(
                registry=registry,
                settings=handlers.settings(),
                clusterwide=True,
                standalone=True,
                stop_flag=stop,
                # Given, since kopf would look up the user's name, and a pod's user has none.
                identity=self._identity,
            )
            raise WatchEnded("kopf's watches ended")

    async def _apply(self, provider: KeyValueProvider) -> None:
        """One that the API server refuses must not keep the operator from everybody else's Workers."""
        fields = {"keyValueProvider": provider.name}
        try:
            await self._cluster.apply(provider_document(provider))
            log.info("applied", extra={"fields": fields})
        except ApiError as error:
            if error.status not in (400, 403, 422):
                raise
            log.error("refused: %s", error, extra={"fields": fields})

    async def _resync(self) -> None:
        """What the queue has, comes back by itself. What it has not, though it is there, no watch has told of."""
        while True:
            await asyncio.sleep(_RESYNC)
            try:
                missed = await self.missed()
            except (ApiError, *UNREACHED) as error:
                log.warning("Workers could not be listed: %s", error)
                continue
            for namespace, name in missed:
                log.warning("no watch told of it", extra={"fields": {"namespace": namespace, "name": name}})
                self._queue.trigger((namespace, name))

    async def missed(self) -> list[Key]:
        """Workers, and KeyValueProviders, that are not in the queue."""
        there = [*await self._cluster.keys(WORKER), *await self._cluster.keys(PROVIDER)]
        return [key for key in there if key not in self._queue]

    async def _wait_for_definitions(self) -> None:
        """Without the CRDs there is nothing to watch; they may be installed after the operator."""
        told = False
        while True:
            try:
                for kind in (WORKER, PROVIDER):
                    await self._cluster.request("GET", kind.path(None), query={"limit": "1"})
                return
            except (ApiError, *UNREACHED) as error:
                if not told:
                    log.warning("waiting for the API server and Perdure's CRDs (kubectl apply -f crds/): %s", error)
                    told = True
                await asyncio.sleep(2)

    async def _reconcile(self, key: Key) -> float | None:
        started = time.monotonic()
        try:
            async with asyncio.timeout(_STUCK):
                before = self._references.providers_of(key)
                following = await (self._workers.worker(key) if key[0] else self._providers.provider(key))
                for name in before ^ self._references.providers_of(key):
                    self._queue.trigger(("", name), 0.5)
        finally:
            self.metrics.seconds.observe(time.monotonic() - started)
        self.metrics.reconciles.labels("ok").inc()
        return following

    def _provider_changed(self, name: str) -> None:
        for key in self._references.on_provider(name):
            self._queue.trigger(key, 0.5)

    def _provider_doubted(self, name: str) -> None:
        self._providers.doubt(name)
        self._queue.trigger(("", name), 0.5)

    def _failed(self, key: Key, error: Exception) -> None:
        self.metrics.reconciles.labels("error").inc()
        fields = {"namespace": key[0], "name": key[1]}
        if isinstance(error, ApiError) and error.status == 409:
            log.info("somebody else wrote meanwhile; trying again", extra={"fields": fields})
        elif isinstance(error, (ApiError, *UNREACHED)):
            log.warning("will try again: %s", str(error) or type(error).__name__, extra={"fields": fields})
        else:
            log.error("defect while reconciling", exc_info=error, extra={"fields": fields})

    def _seen(self) -> None:
        self.metrics.last_event.set_to_current_time()

    def stuck(self) -> str | None:
        """Whether the queue has stood still though something was due: then only a restart helps."""
        late = self._queue.latest()
        return f"no reconcile has run for {late:.0f} s" if late > _STUCK * 2 else None

    def refresh_metrics(self) -> None:
        """Bring the gauges up to date."""
        ready, other = self._references.readiness()
        self.metrics.workers.labels("true").set(ready)
        self.metrics.workers.labels("false").set(other)
        providers = self._providers.reachability()
        for word in ("True", "False", "Unknown"):
            self.metrics.providers.labels(word.lower()).set(providers[word])
        self.metrics.queued.set(len(self._queue))
        self.metrics.leading.set(self._leadership.leading)
