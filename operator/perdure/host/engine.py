"""From a host's configuration to what the durability engine is given."""

from __future__ import annotations

import logging

from perdure.component.pool import InstancePool
from perdure.durable.caller import Caller
from perdure.durable.environment import EngineEnvironment, GuestLine
from perdure.durable.observer import Hooks
from perdure.durable.settings import CommitMode, Failure, MemoryMode, RetryPolicy, SnapshotPolicy, UpdatePolicy
from perdure.host.config import HostConfig, catalog_of, mounts_of, namespace_apart
from perdure.host.stores import OpenStores
from perdure.manifests.worker import WorkerSpec
from perdure.wasi.http.messages import HttpClient

guest_log = logging.getLogger("perdure.guest")
_LONGEST_LINE = 8192
_LEVELS = {
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}


def engine_environment(
    config: HostConfig,
    pool: InstancePool,
    stores: OpenStores,
    hooks: Hooks,
    http: HttpClient | None = None,
    caller: Caller | None = None,
) -> EngineEnvironment:
    """`http`: for requests of guests. `caller`: for calls they make to other instances."""
    spec = config.worker.spec
    apart = {name: store for name, store in stores.named.items() if not store.namespace_is_home}
    limits = {name: store.limits for name, store in stores.named.items()}
    return EngineEnvironment(
        worker=config.worker_id,
        host=config.host,
        home=stores.home,
        stores={**stores.named, **{namespace_apart(name): store for name, store in apart.items()}},
        catalog=catalog_of(config.effective, apart, limits),
        hooks=hooks,
        limits=pool.limits,
        timeout=spec.limits.invocation_timeout / 1000,
        pool=pool,
        commit=CommitMode(spec.durability.commit),
        memory=MemoryMode(spec.durability.memory),
        snapshots=snapshot_policy(spec),
        retry=retry_policy(spec),
        update=update_policy(spec),
        retention_ms=spec.durability.result_retention,
        max_results=spec.durability.max_results,
        variables=config.variables,
        http=http,
        caller=caller,
        settings=spec.config,
        mounts=mounts_of(config),
        log=_log_guest,
        lines=_log_line,
    )


def snapshot_policy(spec: WorkerSpec) -> SnapshotPolicy:
    durability = spec.durability
    return SnapshotPolicy(
        replay_ms=durability.replay_budget,
        entries=durability.max_journal_entries,
        bytes=durability.max_journal_bytes,
    )


def update_policy(spec: WorkerSpec) -> UpdatePolicy:
    """Where no memory is kept there is none to stay with, or to hand over."""
    return UpdatePolicy.RESTART if spec.durability.memory == "Invocation" else UpdatePolicy(spec.update)


def retry_policy(spec: WorkerSpec) -> RetryPolicy:
    retry = spec.retry
    return RetryPolicy(
        max_attempts=retry.max_attempts,
        initial_ms=retry.initial_interval,
        max_ms=retry.max_interval,
        multiplier=retry.multiplier,
        failures=frozenset(Failure(name) for name in retry.failures),
    )


def _log_guest(instance: str, stream: str, data: bytes) -> None:
    for line in data.decode("utf-8", "replace").splitlines():
        guest_log.info(line[:_LONGEST_LINE], extra={"fields": {"instance": instance, "stream": stream}})


def _log_line(line: GuestLine) -> None:
    fields = {"instance": line.instance, "invocation": line.invocation, "context": line.context[:_LONGEST_LINE]}
    for text in line.message.splitlines():
        guest_log.log(_LEVELS[line.level], text[:_LONGEST_LINE], extra={"fields": fields})
