"""The host's Prometheus metrics: every name, label and meaning in one place, and the engine's hooks onto them.

Labels are bounded: `function` is one of the component's exports, `call` one of its imports, `provider` a
configured name, the others fixed words. Instances, keys and buckets are never labels.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from typing_extensions import override

from perdure import __version__
from perdure.durable.observer import Hooks

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class HostMetrics(Hooks):
    """One registry a host, so that several hosts can live in one test process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._invocations = Counter(
            "perdure_invocations_total",
            "Invocations that ended on this host, by outcome: ok, replayed, trapped, timeout, refused, error.",
            ("function", "outcome"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "perdure_invocation_duration_seconds",
            "Time from the turn on the instance to the durable result.",
            ("function",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._host_calls = Counter(
            "perdure_host_calls_total",
            "Calls that guests made to recorded host functions.",
            ("call",),
            registry=self.registry,
        )
        self._commits = Counter(
            "perdure_commits_total",
            "Commits to the home store, by outcome: applied, duplicate, key-used, cancelled, fenced, lost, failed.",
            ("outcome",),
            registry=self.registry,
        )
        self._fenced = Counter(
            "perdure_fenced_commits_total",
            "Commits refused because another host owns the instance now.",
            registry=self.registry,
        )
        self._lost = Counter(
            "perdure_lost_commits_total",
            "Acknowledged commits that the home store has lost: a failover to a replica that lagged behind, a backup.",
            registry=self.registry,
        )
        self._replays = Counter(
            "perdure_replays_total", "Instances rebuilt from their journal.", registry=self.registry
        )
        self._replayed = Counter("perdure_replayed_entries_total", "Journal entries replayed.", registry=self.registry)
        self._replay_seconds = Histogram(
            "perdure_replay_duration_seconds",
            "Time to rebuild one instance from its journal.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._errors = Counter(
            "perdure_provider_errors_total",
            "Errors that providers answered, by provider and error code.",
            ("provider", "code"),
            registry=self.registry,
        )
        self._forwarded = Counter(
            "perdure_forwarded_requests_total",
            "Requests passed to the host that owns the instance: answered, unreachable.",
            ("outcome",),
            registry=self.registry,
        )
        self._async_calls = Counter(
            "perdure_async_calls_total",
            "Asynchronous calls that came to this host, by what became of them: accepted, pending or finished (the "
            "same call was known), conflict, full, cancelled.",
            ("outcome",),
            registry=self.registry,
        )
        self._attempts = Counter(
            "perdure_async_attempts_total",
            "Attempts of asynchronous calls that ended here: succeeded, retried, quarantined, cancelled.",
            ("outcome",),
            registry=self.registry,
        )
        self._changes_told = Counter(
            "perdure_watched_changes_total",
            "Changes of watched buckets that the watching instance has been told of, or that it made itself.",
            registry=self.registry,
        )
        self._connections = Gauge(
            "perdure_connections", "Open connections, by port: api, metrics.", ("port",), registry=self.registry
        )
        self._connections_closed = Counter(
            "perdure_connections_closed_total",
            "Connections ended for want of room, by port: refused (all had a request under way), evicted (it waited "
            "longest for one).",
            ("port", "reason"),
            registry=self.registry,
        )
        self._dispatch_errors = Counter(
            "perdure_dispatch_errors_total",
            "Errors while looking for due work or running it, by error code.",
            ("code",),
            registry=self.registry,
        )
        self._conflicts = Counter(
            "perdure_ownership_conflicts_total",
            "Times that this host waited to claim an instance because another live host keeps taking it.",
            registry=self.registry,
        )
        self._snapshots = Counter(
            "perdure_snapshots_total", "Snapshots: taken, kept, refused, failed.", ("outcome",), registry=self.registry
        )
        self._snapshot_bytes = Counter(
            "perdure_snapshot_bytes_total", "Bytes of kept snapshots.", registry=self.registry
        )
        self._snapshot_seconds = Histogram(
            "perdure_snapshot_duration_seconds",
            "Time that taking a snapshot held up the host.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._updates = Counter(
            "perdure_instance_updates_total",
            "Instances that met another component than theirs: restarted, migrated, pinned, failed.",
            ("outcome",),
            registry=self.registry,
        )
        self.due_instances = Gauge(
            "perdure_due_instances",
            "Instances of the Worker with something to do, as far as the store was asked when this host looked last.",
            registry=self.registry,
        )
        self.inboxes_running = Gauge(
            "perdure_inboxes_running", "Instances whose inbox this host runs now.", registry=self.registry
        )
        self.instances_quarantined = Gauge(
            "perdure_instances_quarantined",
            "Instances of this host that it has met in quarantine.",
            registry=self.registry,
        )
        self.deletions_waiting = Gauge(
            "perdure_deletions_waiting",
            "Deleted instances of this host that still have something at a provider other than the home.",
            registry=self.registry,
        )
        self.instances_in_memory = Gauge(
            "perdure_instances_in_memory", "Instances held in this host's memory.", registry=self.registry
        )
        self.invocations_in_flight = Gauge(
            "perdure_invocations_in_flight", "Invocations running or queued.", registry=self.registry
        )
        self.instances_evicted = Gauge(
            "perdure_instances_evicted",
            "Idle instances dropped from memory since the start.",
            registry=self.registry,
        )
        self.hosts = Gauge("perdure_hosts", "Live hosts of this Worker.", registry=self.registry)
        self.component_load_seconds = Gauge(
            "perdure_component_load_seconds",
            "Time to load and compile the component.",
            registry=self.registry,
        )
        # To look a labelled counter up takes longer than to count; the labels are few.
        self._invocations_of = cache(self._invocations.labels)
        self._seconds_of = cache(self._seconds.labels)
        self._host_calls_of = cache(self._host_calls.labels)
        self._commits_of = cache(self._commits.labels)
        Gauge("perdure_build_info", "Version of the host.", ("version",), registry=self.registry).labels(
            __version__
        ).set(1)

    def render(self) -> bytes:
        """The text exposition format 0.0.4."""
        return generate_latest(self.registry)

    def forwarded(self, outcome: str) -> None:
        self._forwarded.labels(outcome).inc()

    def async_call(self, outcome: str) -> None:
        self._async_calls.labels(outcome).inc()

    def changes_told(self, number: int) -> None:
        self._changes_told.inc(number)

    def show_connections(self, port: str, number: Callable[[], float]) -> None:
        self._connections.labels(port).set_function(number)

    def connection_closed(self, port: str, reason: str) -> None:
        self._connections_closed.labels(port, reason).inc()

    def dispatch_error(self, code: str) -> None:
        self._dispatch_errors.labels(code).inc()

    def ownership_conflict(self) -> None:
        self._conflicts.inc()

    @override
    def invocation(self, function: str, outcome: str, seconds: float) -> None:
        self._invocations_of(function, outcome).inc()
        self._seconds_of(function).observe(seconds)

    @override
    def host_call(self, call: str) -> None:
        self._host_calls_of(call).inc()

    @override
    def commit(self, outcome: str) -> None:
        self._commits_of(outcome).inc()
        if outcome == "fenced":
            self._fenced.inc()

    @override
    def lost(self, commits: int) -> None:
        self._lost.inc(commits)

    @override
    def replay(self, entries: int, seconds: float) -> None:
        self._replays.inc()
        self._replayed.inc(entries)
        self._replay_seconds.observe(seconds)

    @override
    def snapshot(self, outcome: str, size: int, seconds: float) -> None:
        self._snapshots.labels(outcome).inc()
        if outcome == "kept":
            self._snapshot_bytes.inc(size)
        elif outcome == "taken":
            self._snapshot_seconds.observe(seconds)

    @override
    def attempt(self, outcome: str) -> None:
        self._attempts.labels(outcome).inc()

    @override
    def updated(self, outcome: str) -> None:
        self._updates.labels(outcome).inc()

    @override
    def provider_error(self, provider: str, code: str) -> None:
        self._errors.labels(provider, code).inc()
