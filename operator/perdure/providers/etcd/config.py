"""How to reach etcd, and what it takes."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from perdure.durable.policy import BucketLimits
from perdure.providers.etcd.keys import LONGEST_BASE

Credentials = Callable[[], tuple[str | None, str | None]]
"""(username, password), asked at each login, so that a rotated Secret is used without a restart."""
_KEY_BYTES = 4096
# The dedup record's key, its outcomes but for a value, and the key of an atomic effect twice more: compared, and read
# where the comparison fails.
_RESERVED = 4 * (LONGEST_BASE + _KEY_BYTES)
# The dedup record, the two notes that values have an end, and the one that a key was added under a bound.
_BESIDE = 4
_OVERHEAD = LONGEST_BASE + 64


def _anonymous() -> tuple[str | None, str | None]:
    return None, None


@dataclass(frozen=True, slots=True)
class EtcdConfig:
    """`endpoints`: `http://host:port` or `https://host:port` of members. `ca`: a file; `certificate`: the folder of the
    client's `tls.crt` and `tls.key`. `timeout` in seconds, of one operation with all its attempts. `prefix`: of every
    key. `max_request_bytes`, `max_txn_ops`: the servers' bounds."""

    endpoints: tuple[str, ...]
    credentials: Credentials = field(default=_anonymous, repr=False)
    ca: Path | None = None
    certificate: Path | None = None
    timeout: float = 2.0
    connections: int = 8
    prefix: str = "perdure/"
    max_request_bytes: int = 1536 << 10
    max_txn_ops: int = 128

    @property
    def limits(self) -> BucketLimits:
        """So that one apply is one transaction: the dedup record beside the effects."""
        together = self.max_request_bytes - _RESERVED
        return BucketLimits(
            key_bytes=_KEY_BYTES,
            value_bytes=together - _OVERHEAD - _KEY_BYTES,
            effects=self.max_txn_ops - _BESIDE,
            bytes=together,
            overhead=_OVERHEAD,
        )

    def tls(self) -> ssl.SSLContext | None:
        """Made anew at each attempt to connect: certificates are rotated, too. Raises `OSError`, `ssl.SSLError`."""
        if not self.endpoints[0].startswith("https:"):
            return None
        context = ssl.create_default_context(cafile=self.ca)
        if self.certificate is not None:
            context.load_cert_chain(self.certificate / "tls.crt", self.certificate / "tls.key")
        return context
