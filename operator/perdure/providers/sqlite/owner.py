"""Whose a row is, and the check of the token that everything an owner does begins with."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from perdure.durable.effects import BucketAddress, Scope
from perdure.durable.records import OwnerToken, WorkerId
from perdure.errors import Fenced


@dataclass(frozen=True, slots=True)
class Owner:
    """The columns that say whose a row is: `worker`, or `namespace` for a bucket that the namespace's Workers share."""

    worker: bytes
    namespace: bytes

    @classmethod
    def of(cls, worker: WorkerId) -> Owner:
        namespace = worker.namespace.encode()
        tag = b"%d:%s" % (len(namespace), namespace)
        return cls(b"w" + tag + b"/" + worker.name.encode(), b"n" + tag)

    def bucket(self, address: BucketAddress) -> tuple[bytes, bytes, bytes]:
        """(owner, instance, bucket) of `entries`."""
        owner = self.namespace if address.scope is Scope.NAMESPACE else self.worker
        return owner, private(address.instance), address.name.encode()

    def writer(self, instance: str | None) -> bytes:
        """Who changes a bucket, as its feed names it: an instance of the Worker, or nobody's."""
        return b"" if instance is None else b"%d:%s%s" % (len(self.worker), self.worker, instance.encode())


def private(instance: str | None) -> bytes:
    """The column `instance` of `entries`: empty for a bucket that instances share."""
    return b"" if instance is None else b"i" + instance.encode()


@dataclass(frozen=True, slots=True)
class Held:
    """What a commit has to know of its instance. `base`: the sequence when the token was given."""

    sequence: int
    base: int
    open: bool


def require_owner(db: sqlite3.Connection, owner: Owner, instance: str, token: OwnerToken) -> Held:
    """Raises `Fenced` unless the token is the present one, by equality."""
    row = db.execute(
        "SELECT epoch, nonce, sequence, base, open FROM instances WHERE worker=? AND name=?",
        (owner.worker, instance.encode()),
    ).fetchone()
    if row is None or (row[0], row[1]) != (token.epoch, token.nonce):
        raise Fenced(f"instance {instance!r} is owned by another host now")
    return Held(row[2], row[3], bool(row[4]))
