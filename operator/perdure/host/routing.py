"""Which host should run an instance: rendezvous hashing over the live hosts. Pure.

Every host computes the same owner from the same membership, so hosts do not fight over an instance; when they
disagree for a moment, the owner token keeps it safe. Highest random weight (Thaler & Ravishankar, 1998): when a
host goes, only its own instances move.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from perdure.durable.records import HostRecord


def preferred_host(instance: str, hosts: Sequence[HostRecord]) -> HostRecord | None:
    """The host that should run `instance`, or None when no host is known."""
    return max(hosts, key=lambda record: (_weight(instance, record.host), record.host), default=None)


def is_preferred(host: HostRecord, instance: str, hosts: Sequence[HostRecord]) -> bool:
    """Whether `host` is the one that should run `instance`."""
    found = preferred_host(instance, hosts)
    return found is not None and found.host == host.host


def _weight(instance: str, host: str) -> bytes:
    return hashlib.blake2b(f"{host}\0{instance}".encode(), digest_size=8).digest()
