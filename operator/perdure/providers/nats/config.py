"""How to reach NATS, and what it takes."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from perdure.durable.policy import BucketLimits

Credentials = Callable[[], tuple[str | None, str | None]]
"""(username, password), asked at each connect, so that a rotated Secret is used without a restart. A password without a
username is a token."""
# With the longest key a subject has some 2,900 characters; a server's lines have 4,096.
_KEY_BYTES = 2048
_HEADERS = 2048


def _anonymous() -> tuple[str | None, str | None]:
    return None, None


@dataclass(frozen=True, slots=True)
class NatsConfig:
    """`servers`: `nats://host:port`, or `tls://host:port`, of one cluster. `ca`: a file; `certificate`: the folder of
    the client's `tls.crt` and `tls.key`. `timeout` in seconds, of one operation. `concurrency`: operations of a host
    under way. `bucket`: of the key-value stream, which is made with `replicas` where it is missing. `max_payload`,
    `max_batch`: the servers' bounds."""

    servers: tuple[str, ...]
    credentials: Credentials = field(default=_anonymous, repr=False)
    ca: Path | None = None
    certificate: Path | None = None
    timeout: float = 2.0
    concurrency: int = 8
    bucket: str = "perdure"
    replicas: int = 1
    max_payload: int = 1 << 20
    max_batch: int = 1000

    @property
    def limits(self) -> BucketLimits:
        """So that one apply is one batch: the dedup record, which may hold a value, and the note of a
        bucket with a bound beside the effects."""
        return BucketLimits(key_bytes=_KEY_BYTES, value_bytes=self.max_payload - _HEADERS, effects=self.max_batch - 2)

    def tls(self) -> ssl.SSLContext | None:
        """Made anew at each attempt to connect: certificates are rotated, too. Raises `OSError`, `ssl.SSLError`."""
        if not self.servers[0].startswith("tls:"):
            return None
        context = ssl.create_default_context(cafile=self.ca)
        if self.certificate is not None:
            context.load_cert_chain(self.certificate / "tls.crt", self.certificate / "tls.key")
        return context
