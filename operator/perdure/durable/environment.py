"""What the engine of one host needs of the world, injected once by the composition root."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from perdure.component.instance import InstanceLimits
from perdure.component.pool import InstancePool
from perdure.durable.caller import Caller
from perdure.durable.homewatch import HomeWatch
from perdure.durable.observer import Hooks
from perdure.durable.policy import BucketCatalog
from perdure.durable.records import WorkerId
from perdure.durable.settings import CommitMode, MemoryMode, RetryPolicy, SnapshotPolicy, UpdatePolicy
from perdure.durable.store import ForeignStore, Store
from perdure.wasi.files.tree import Mount
from perdure.wasi.http.messages import HttpClient

LogSink = Callable[[str, str, bytes], None]
"""(instance, "stdout" or "stderr", what the guest wrote). Not called on replay."""


@dataclass(frozen=True, slots=True)
class GuestLine:
    """A line of wasi:logging. `invocation`: the call's key, or `#` and the sequence it will have; "" outside one.
    `level`: trace, debug, info, warn, error or critical. `context` and `message` are the guest's."""

    instance: str
    invocation: str
    level: str
    context: str
    message: str


def _unheard(line: GuestLine) -> None:
    return None


@dataclass(frozen=True, slots=True)
class EngineEnvironment:
    """`stores`: by provider name, the home one included; `home`: the catalog's. `pool`: fresh instances with these
    `limits`, where some are kept ready. `http`: for requests of guests; None: they make none. `settings`: for
    wasi:config; `mounts`: for wasi:filesystem. Clocks in nanoseconds; `retention_ms` of stored results. Seconds:
    `timeout` for an invocation that goes on without its caller, `recovery` for all that an opening repeats."""

    worker: WorkerId
    host: str
    home: Store
    stores: Mapping[str, ForeignStore]
    catalog: BucketCatalog
    hooks: Hooks = field(default_factory=Hooks)
    limits: InstanceLimits = field(default_factory=InstanceLimits)
    pool: InstancePool | None = None
    commit: CommitMode = CommitMode.INVOCATION
    memory: MemoryMode = MemoryMode.INSTANCE
    snapshots: SnapshotPolicy = field(default_factory=SnapshotPolicy)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    update: UpdatePolicy = UpdatePolicy.RESTART
    timeout: float = 30.0
    recovery: float = 300.0
    watch: HomeWatch = field(default_factory=HomeWatch)
    retention_ms: int = 24 * 3600 * 1000
    max_results: int = 10_000
    variables: tuple[tuple[str, str], ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    http: HttpClient | None = None
    caller: Caller | None = None
    log: LogSink = lambda instance, stream, data: None
    lines: Callable[[GuestLine], None] = _unheard
    wall_ns: Callable[[], int] = time.time_ns
    monotonic_ns: Callable[[], int] = time.monotonic_ns
    entropy: Callable[[int], bytes] = os.urandom

    @property
    def wall_ms(self) -> int:
        """Now, in milliseconds since 1970."""
        return self.wall_ns() // 1_000_000
