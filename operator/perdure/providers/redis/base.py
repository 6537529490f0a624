"""What all parts of the Redis store stand on: the connection, the key names, and replies that are words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from perdure.durable.effects import BucketAddress, Scope, decode_outcomes
from perdure.durable.feeds import feed_full
from perdure.durable.policy import BucketLimits
from perdure.durable.records import CommitStatus, Committed
from perdure.errors import Fenced, InternalError, LostWrites
from perdure.providers.redis.client import RedisClient
from perdure.providers.redis.keys import Keys

_STATUSES = {
    b"APPLIED": CommitStatus.APPLIED,
    b"DUPLICATE": CommitStatus.DUPLICATE,
    b"KEY_USED": CommitStatus.KEY_USED,
    b"CANCELLED": CommitStatus.CANCELLED,
}


class Base:
    """The parts are mixed into `RedisStore`. Every operation that writes is one function call: one round trip."""

    def __init__(self, client: RedisClient, shared: RedisClient, keys: Keys) -> None:
        """`shared`: for the Namespace's buckets; another client on a cluster only."""
        self._client = client
        self._shared = shared
        self._keys = keys

    @property
    def namespace_is_home(self) -> bool:
        """Whether a commit may have effects on Namespace buckets. Otherwise they are applied as foreign ones, by this
        very store's `apply_foreign`."""
        return self._shared is self._client

    @property
    def limits(self) -> BucketLimits:
        return BucketLimits()

    def _of(self, bucket: BucketAddress) -> RedisClient:
        return self._shared if bucket.scope is Scope.NAMESPACE else self._client

    def _committed(self, reply: object, sequence: int, what: str, buckets: Sequence[BucketAddress]) -> Committed:
        """`what`: the instance or origin that committed. `buckets`: in the order in which they were given."""
        word, _, rest = cast("bytes", reply).partition(b" ")
        status = _STATUSES.get(word)
        if status is not None:
            return Committed(status, decode_outcomes(rest))
        if word == b"FENCED":
            raise fenced(what)
        if word == b"FULL":
            raise feed_full(buckets[int(rest) - 1].name)
        if word == b"LOST":
            raise LostWrites(
                f"Redis at {self._client.where} holds {what!r} up to commit {int(rest)} only, but it has acknowledged "
                f"{sequence - 1}: a failover to a replica that lagged behind, or an old backup"
            )
        if word == b"PASSED":
            raise InternalError(f"commit {sequence} of {what!r} does not follow {int(rest)}")
        raise InternalError(f"the store refused a commit of {what!r}: {rest.decode(errors='replace')}")

    def _owned(self, reply: object, instance: str) -> str:
        """The word of a reply. Raises `Fenced`."""
        word = cast("bytes", reply).decode()
        if word == "FENCED":
            raise fenced(instance)
        return word


def fenced(instance: str) -> Fenced:
    return Fenced(f"instance {instance!r} is owned by another host now")
