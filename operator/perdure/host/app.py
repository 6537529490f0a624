"""The composition root of a host: joins component, stores, engine and HTTP, and ends them in order.

Start: listen on the second port first, so that probes answer while the component compiles. End (SIGTERM): not ready →
withdraw from the membership → wait a moment for callers to notice → stop accepting → let invocations finish within
the grace period; one that does not was not acknowledged and nothing of it remains.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from aiohttp import web

from perdure.component import boundary
from perdure.component.about import About, about_component
from perdure.component.component import BoundComponent, Component
from perdure.component.engine import Engine, EngineConfig
from perdure.component.host import HostFunction, HostResource, ImportResolver
from perdure.component.instance import InstanceLimits
from perdure.component.pool import InstancePool
from perdure.component.types import FuncType
from perdure.durable.homewatch import HomeWatch
from perdure.durable.interface import DurableResolver
from perdure.durable.records import HostRecord
from perdure.durable.store import Store
from perdure.errors import PerdureError
from perdure.host.calling import InstanceCaller
from perdure.host.components import check_memory, fetch_component
from perdure.host.config import HostConfig
from perdure.host.deletions import Deletions
from perdure.host.description import describe, describe_component, describe_status
from perdure.host.dispatcher import Dispatcher
from perdure.host.engine import engine_environment, update_policy
from perdure.host.functions import FunctionIndex
from perdure.host.http.api import Api
from perdure.host.http.buckets import BucketRoutes
from perdure.host.http.calls import CallRoutes
from perdure.host.http.connections import MAX_PROBES, Connections, max_connections
from perdure.host.http.guests import GuestRoutes
from perdure.host.http.health import health_application
from perdure.host.http.instances import InstanceRoutes
from perdure.host.http.invocations import InvocationRoutes
from perdure.host.http.journal import JournalRoutes
from perdure.host.http.openapi import openapi
from perdure.host.http.promises import PromiseRoutes
from perdure.host.http.waiting import Waiting
from perdure.host.http.worker import WorkerRoutes
from perdure.host.inbox import Inbox
from perdure.host.instances import InstanceTable
from perdure.host.invoker import Invoker
from perdure.host.library import Keeping, component_library, keep_component
from perdure.host.membership import Membership
from perdure.host.metrics import HostMetrics
from perdure.host.outgoing import OutgoingHttp
from perdure.host.ownership import Ownership
from perdure.host.peers import Peers
from perdure.host.routing import is_preferred
from perdure.host.stores import close_stores, open_stores
from perdure.host.supervision import StoreWatch
from perdure.host.watching import Watching, deliveries_of, watcher_for
from perdure.keyvalue.resolver import KeyValueResolver
from perdure.wasi.http.serving import is_handler
from perdure.wasi.resolver import WasiResolver

log = logging.getLogger(__name__)
_BACKLOG = 128
"""Connections that wait until the event loop takes them."""
_KEPT_READY = 4
"""Fresh instances that wait for whoever comes next."""


class Interfaces:
    """Everything a guest may import: the first resolver that knows a name wins."""

    def __init__(self, *resolvers: ImportResolver) -> None:
        self._resolvers = resolvers

    def function(self, interface: str, name: str, type: FuncType) -> HostFunction | None:  # noqa: A002
        found = (resolver.function(interface, name, type) for resolver in self._resolvers)
        return next((function for function in found if function is not None), None)

    def resource(self, interface: str, name: str) -> HostResource | None:
        found = (resolver.resource(interface, name) for resolver in self._resolvers)
        return next((resource for resource in found if resource is not None), None)


def guest_interfaces() -> Interfaces:
    """WASI, wasi:keyvalue and Perdure's own."""
    return Interfaces(KeyValueResolver(), WasiResolver(), DurableResolver())


@dataclass(slots=True)
class _State:
    """Why the host is not ready, beyond its stores."""

    reason: str | None = "starting"


@dataclass(frozen=True, slots=True)
class _Running:
    """What is looked at before each scrape of the metrics."""

    table: InstanceTable
    members: Membership
    dispatcher: Dispatcher
    ownership: Ownership

    def show(self, metrics: HostMetrics) -> None:
        numbers = self.table.statistics()
        metrics.instances_in_memory.set(numbers.in_memory)
        metrics.invocations_in_flight.set(numbers.queued)
        metrics.instances_evicted.set(numbers.evicted)
        metrics.hosts.set(len(self.members.hosts))
        metrics.inboxes_running.set(self.dispatcher.running)
        metrics.instances_quarantined.set(len(self.ownership.quarantined()))


@dataclass(frozen=True, slots=True)
class RunningHost:
    """A host that answers. `url`, `metrics_url`: where; ports are the real ones when 0 was asked for."""

    url: str
    metrics_url: str
    component: Component


@asynccontextmanager
async def running_host(config: HostConfig, progress: Callable[[str], None]) -> AsyncIterator[RunningHost]:
    """Start a host; leaving the block drains it.

    Raises `ComponentError`, `ProviderUnavailable`, `OSError` (a port in use) before it yields.
    """
    async with AsyncExitStack() as stack:
        metrics, state = HostMetrics(), _State()
        watch_holder: list[StoreWatch] = []
        home_holder: list[HomeWatch] = []
        running: list[_Running] = []

        def not_ready() -> str | None:
            lost = next((home.problem for home in home_holder), None)
            return state.reason or lost or (watch_holder[0].problem if watch_holder else "starting")

        def refresh() -> None:
            for parts in running:
                parts.show(metrics)

        ownership = Ownership(metrics.ownership_conflict)

        def status() -> dict[str, object]:
            found, problems = (watch_holder[0].found, watch_holder[0].problems) if watch_holder else ({}, {})
            return describe_status(config, found, problems, ownership)

        health = health_application(metrics, not_ready, refresh, status)
        probes = partial(Connections, metrics=metrics, port="metrics", limit=MAX_PROBES)
        metrics_url = await _listen(stack, health, config.metrics_listen, 0.1, probes)
        data = await fetch_component(config, progress)
        bound, about = await _load(stack, config, data, metrics, progress)
        check_memory(about, config.worker.spec.limits.memory)
        stores = await open_stores(config)
        stack.push_async_callback(close_stores, stores)
        watch = StoreWatch(stores.named, metrics)
        watch_holder.append(watch)
        await watch.check()
        pool = InstancePool(bound, InstanceLimits(config.worker.spec.limits.memory), size=_KEPT_READY)
        stack.callback(pool.close)
        home = stores.home
        library = component_library(bound, bound.component.engine, guest_interfaces(), home)
        stack.callback(library.close)
        http = OutgoingHttp(config.worker.spec.http, config.secrets)
        stack.push_async_callback(http.close)
        caller = InstanceCaller(FunctionIndex(bound.component.exports))
        environment = engine_environment(config, pool, stores, metrics, http, caller)
        home_holder.append(environment.watch)
        await keep_component(environment.update, about.digest, data, home)
        keeping = Keeping(environment.update, about.digest, data, home)
        table = InstanceTable(
            library,
            environment,
            max_in_memory=config.worker.spec.limits.max_instances_in_memory,
            max_queued=config.worker.spec.limits.max_queued_per_instance,
            timeout=config.worker.spec.limits.invocation_timeout / 1000,
        )
        stack.callback(table.close)
        members = Membership(home, HostRecord(config.host, config.advertise))
        ownership.mine = lambda name: is_preferred(members.me, name, members.hosts)
        dispatcher = Dispatcher(home, table, members, ownership, metrics)
        watcher = watcher_for(environment.catalog, bound.component.exports)
        deliveries = deliveries_of(environment, watcher, config.worker.spec.limits.max_pending_per_instance)
        watching = Watching(deliveries, environment, members, dispatcher, metrics)
        dispatcher.ran = watching.ran
        running.append(_Running(table, members, dispatcher, ownership))
        peers = Peers(config.host)
        stack.push_async_callback(peers.close)
        limits = config.worker.spec.limits
        inbox = Inbox(home, dispatcher, metrics, max_pending=limits.max_pending_per_instance, wall_ms=_wall_ms)
        deletions = Deletions(environment, members, metrics)
        invoker = Invoker(table, inbox, members, peers, ownership, metrics, timeout=limits.invocation_timeout / 1000)
        caller.connect(invoker)
        waiting = Waiting()
        buckets = BucketRoutes(catalog=environment.catalog, stores=environment.stores, max_body=limits.max_body_bytes)
        api = _api(
            config,
            about,
            bound.component,
            watch,
            table,
            inbox,
            invoker,
            ownership,
            waiting,
            home,
            dispatcher,
            buckets,
            deletions,
        )
        stack.push_async_callback(api.abandon)
        callers = partial(Connections, metrics=metrics, port="api", limit=max_connections())
        url = await _listen(stack, api.application(), config.listen, config.grace, callers)
        members.me = HostRecord(config.host, config.advertise or url)
        await _announce_once(members)
        await watching.begin()
        async with asyncio.TaskGroup() as tasks:
            work = (
                members.run,
                watch.run,
                pool.run,
                table.run,
                dispatcher.run,
                watching.run,
                deletions.run,
                keeping.run,
            )
            background = [tasks.create_task(run()) for run in work]
            state.reason = None
            try:
                yield RunningHost(url, metrics_url, bound.component)
            finally:
                state.reason = "draining"
                watching.stop()
                dispatcher.stop()
                waiting.end()
                await members.leave()
                await _drain(lambda: api.in_flight + dispatcher.running, config)
                for task in background:
                    task.cancel()


async def _announce_once(members: Membership) -> None:
    try:
        await members.announce()
    except PerdureError as error:
        log.warning("the membership could not be announced yet: %s", error)


async def _drain(in_flight: Callable[[], int], config: HostConfig) -> None:
    """Wait until callers have noticed and nothing is in flight, within the grace period."""
    log.info("draining", extra={"fields": {"inFlight": in_flight()}})
    begun = time.monotonic()
    while (waited := time.monotonic() - begun) < config.grace:
        if in_flight() == 0 and waited >= config.settle:
            return
        await asyncio.sleep(0.05)
    log.warning("abandoning invocations after the grace period", extra={"fields": {"inFlight": in_flight()}})


async def _load(
    stack: AsyncExitStack, config: HostConfig, data: bytes, metrics: HostMetrics, progress: Callable[[str], None]
) -> tuple[BoundComponent, About]:
    begun = time.perf_counter()
    if not boundary.NATIVE:
        log.warning("the component runtime runs %s", boundary.DESCRIPTION)
    engine = stack.enter_context(Engine(EngineConfig(cache_dir=config.cache)))
    component = await Component.load(engine, data, progress=progress)
    metrics.component_load_seconds.set(time.perf_counter() - begun)
    return component.bind(guest_interfaces()), await asyncio.to_thread(about_component, data)


def _api(
    config: HostConfig,
    about: About,
    component: Component,
    watch: StoreWatch,
    table: InstanceTable,
    inbox: Inbox,
    invoker: Invoker,
    ownership: Ownership,
    waiting: Waiting,
    home: Store,
    dispatcher: Dispatcher,
    buckets: BucketRoutes,
    deletions: Deletions,
) -> Api:
    spec = config.worker.spec
    described = describe_component(component, about)
    functions = FunctionIndex(component.exports)
    return Api(
        [
            CallRoutes(
                host=config.host,
                invoker=invoker,
                inbox=inbox,
                functions=functions,
                max_body=spec.limits.max_body_bytes,
                wall_ms=_wall_ms,
            ),
            GuestRoutes(
                host=config.host,
                invoker=invoker,
                handler=next(filter(is_handler, component.exports), None),
                max_body=spec.limits.max_body_bytes,
            ),
            InvocationRoutes(inbox=inbox, functions=functions, waiting=waiting),
            InstanceRoutes(
                host=config.host,
                store=home,
                table=table,
                invoker=invoker,
                deletions=deletions,
            ),
            JournalRoutes(store=home, waiting=waiting),
            buckets,
            PromiseRoutes(
                store=home,
                wakes=dispatcher,
                max_body=spec.limits.max_body_bytes,
                retention_ms=spec.durability.result_retention,
            ),
            WorkerRoutes(
                store=home,
                describe=lambda: describe(config, described, watch.found),
                openapi=openapi(about.world, title=config.worker.name, version=about.digest),
                component=about.digest,
                policy=update_policy(spec),
            ),
        ],
        max_body=spec.limits.max_body_bytes,
    )


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


async def _listen(
    stack: AsyncExitStack,
    app: web.Application,
    address: tuple[str, int],
    grace: float,
    connections: Callable[[web.Server], Connections],
) -> str:
    runner = web.AppRunner(app, shutdown_timeout=grace)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    assert runner.server is not None
    listener = await asyncio.get_running_loop().create_server(
        connections(runner.server), address[0], address[1], backlog=_BACKLOG
    )
    stack.callback(listener.close)
    host, port = listener.sockets[0].getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
