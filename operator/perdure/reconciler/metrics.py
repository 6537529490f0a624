"""The operator's Prometheus metrics. Workers are never labels; their number per readiness is."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from perdure import __version__


class OperatorMetrics:
    """One registry a process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.reconciles = Counter(
            "perdure_operator_reconciles_total",
            "Reconciles by result: ok, error.",
            ("result",),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "perdure_operator_reconcile_duration_seconds", "Time of one reconcile.", registry=self.registry
        )
        self.leading = Gauge("perdure_operator_is_leader", "1 while this process reconciles.", registry=self.registry)
        self.workers = Gauge("perdure_operator_workers", "Workers by readiness.", ("ready",), registry=self.registry)
        self.providers = Gauge(
            "perdure_operator_providers",
            "KeyValueProviders by whether they can be reached: true, false, unknown.",
            ("reachable",),
            registry=self.registry,
        )
        self.queued = Gauge("perdure_operator_queue_depth", "Workers that wait or are due.", registry=self.registry)
        self.last_event = Gauge(
            "perdure_operator_last_event_timestamp_seconds", "When the last watch event came.", registry=self.registry
        )
        Gauge("perdure_operator_build_info", "Version of the operator.", ("version",), registry=self.registry).labels(
            __version__
        ).set(1)

    def render(self) -> bytes:
        """The text exposition format."""
        return generate_latest(self.registry)
