"""A Store on Redis. Every operation that writes is one function call, so one round trip and atomic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from perdure.durable.effects import BucketAddress, Effect, Put
from perdure.durable.records import (
    Claim,
    Commit,
    CommitOutcome,
    ForeignApply,
    HostRecord,
    InstanceInfo,
    InstancePage,
    KeyPage,
    OwnerToken,
    ProviderInfo,
    StoredResult,
    WorkerId,
)
from perdure.errors import Fenced, InternalError
from perdure.providers.redis.client import Argument, RedisClient
from perdure.providers.redis.config import RedisConfig
from perdure.providers.redis.keys import Keys
from perdure.providers.redis.server import ServerCheck

_ClaimReply = tuple[bytes, bytes, bytes, bytes, list[bytes], list[bytes]]
_FINGERPRINT = 32
_READ = 1000
_SCAN = 500


class RedisStore:
    """Implements `perdure.durable.store.Store`; made by `open`."""

    def __init__(self, client: RedisClient, worker: WorkerId) -> None:
        self._client = client
        self._keys = Keys(worker)
        self._check = ServerCheck(client)

    @classmethod
    async def open(cls, config: RedisConfig, worker: WorkerId) -> RedisStore:
        """Prepare the connection. A server that does not answer yet is no error here: `ping` says so."""
        return cls(RedisClient(config), worker)

    async def ping(self) -> ProviderInfo:
        return await self._check.run()

    async def claim(self, instance: str, nonce: str, host: str) -> Claim:
        reply = await self._client.call("claim", self._keys.instance(instance), nonce, host)
        epoch, life, sequence, previous, journal, unapplied = cast("_ClaimReply", reply)
        return Claim(
            OwnerToken(int(epoch), nonce),
            life.decode(),
            int(sequence),
            journal,
            sorted(int(number) for number in unapplied),
            previous.decode() or None,
        )

    async def verify(self, instance: str, token: OwnerToken) -> None:
        keys = self._keys.instance(instance)
        self._require(await self._client.call("verify", keys, token.epoch, token.nonce), instance)

    async def commit(self, commit: Commit) -> CommitOutcome:
        buckets, effects = self._effects(commit.effects)
        private = {
            self._keys.bucket(effect.bucket)[0] for effect in commit.effects if effect.bucket.instance is not None
        }
        result = commit.result or StoredResult("", b"", b"")
        reply = await self._client.call(
            "commit",
            [*self._keys.instance(commit.instance), *buckets],
            commit.token.epoch,
            commit.token.nonce,
            commit.sequence,
            commit.entry,
            int(commit.foreign),
            commit.instance,
            "\n".join(sorted(private)),
            result.key,
            result.fingerprint,
            result.body,
            commit.result_retention_ms,
            commit.max_results,
            int(commit.result is not None),
            *effects,
        )
        return self._outcome(reply, commit.instance)

    async def applied(self, instance: str, token: OwnerToken, sequence: int) -> None:
        keys = self._keys.instance(instance)
        self._require(await self._client.call("applied", keys, token.epoch, token.nonce, sequence), instance)

    async def result(self, instance: str, key: str) -> StoredResult | None:
        reply = await self._client.call("result", self._keys.instance(instance), key)
        if reply is None:
            return None
        packed = cast("bytes", reply)
        return StoredResult(key, packed[:_FINGERPRINT], packed[_FINGERPRINT:])

    async def apply_foreign(self, apply: ForeignApply) -> CommitOutcome:
        buckets, effects = self._effects(apply.effects)
        reply = await self._client.call(
            "foreign", [self._keys.foreign, *buckets], apply.origin, apply.sequence, *effects
        )
        return self._outcome(reply, apply.origin)

    async def get_many(self, bucket: BucketAddress, keys: Sequence[str]) -> list[bytes | None]:
        found: list[bytes | None] = []
        for start in range(0, len(keys), _READ):
            some = keys[start : start + _READ]
            found += cast("list[bytes | None]", await self._client.call("read", self._keys.bucket(bucket), *some))
        return found

    async def keys(self, bucket: BucketAddress, cursor: str | None, limit: int) -> KeyPage:
        start = "-" if cursor is None else f"({cursor}"
        reply = await self._client.call("list", self._keys.bucket(bucket), start, limit)
        names, more = cast("tuple[list[bytes], int]", reply)
        decoded = [name.decode() for name in names]
        return KeyPage(decoded, decoded[-1] if more else None)

    async def count(self, bucket: BucketAddress) -> int:
        return cast("int", await self._client.command("HLEN", self._keys.bucket(bucket)[0]))

    async def instances(self, cursor: str | None, limit: int) -> InstancePage:
        start = "-" if cursor is None else f"({cursor}"
        reply = await self._client.command("ZRANGE", self._keys.instances, start, "+", "BYLEX", "LIMIT", 0, limit + 1)
        names = [name.decode() for name in cast("list[bytes]", reply)]
        return InstancePage(names[:limit], names[limit - 1] if len(names) > limit else None)

    async def instance(self, instance: str) -> InstanceInfo | None:
        keys = self._keys.instance(instance)
        held = cast("list[bytes | None]", await self._client.command("HMGET", keys[0], "e", "n", "h", "s"))
        epoch, nonce, host, sequence = held
        if epoch is None or nonce is None or sequence is None:
            return None
        entries = cast("int", await self._client.command("LLEN", keys[1]))
        size = cast("int | None", await self._client.command("MEMORY", "USAGE", keys[1])) or 0
        token = OwnerToken(int(epoch), nonce.decode())
        return InstanceInfo(instance, int(sequence), token, (host or b"").decode(), entries, size)

    async def delete_instance(self, instance: str) -> bool:
        return bool(await self._client.call("delete", self._keys.instance(instance), instance))

    async def announce(self, record: HostRecord, ttl_ms: int) -> list[HostRecord]:
        reply = await self._client.call("announce", self._keys.hosts, record.host, record.url, ttl_ms)
        flat = [item.decode() for item in cast("list[bytes]", reply)]
        return [HostRecord(host, url) for host, url in zip(flat[::2], flat[1::2], strict=True)]

    async def leave(self, host: str) -> None:
        await self._client.command("HDEL", self._keys.hosts[0], host)
        await self._client.command("ZREM", self._keys.hosts[1], host)

    async def purge(self, progress: Callable[[int], None]) -> int:
        removed, cursor = 0, 0
        while True:
            reply = await self._client.command("SCAN", cursor, "MATCH", self._keys.prefix + "*", "COUNT", _SCAN)
            position, names = cast("tuple[int | bytes, list[bytes]]", reply)
            cursor = int(position)
            if names:
                removed += cast("int", await self._client.command("UNLINK", *names))
                progress(removed)
            if cursor == 0:
                return removed

    async def close(self) -> None:
        await self._client.close()

    def _effects(self, effects: Sequence[Effect]) -> tuple[list[str], list[Argument]]:
        """(keys of the buckets, arguments), the buckets numbered from 1."""
        numbers: dict[BucketAddress, int] = {}
        keys: list[str] = []
        args: list[Argument] = []
        for effect in effects:
            number = numbers.get(effect.bucket)
            if number is None:
                number = numbers[effect.bucket] = len(numbers) + 1
                keys += self._keys.bucket(effect.bucket)
            if isinstance(effect, Put):
                args += ["P", number, effect.key, effect.value, "" if effect.ttl_ms is None else effect.ttl_ms]
            else:
                args += ["D", number, effect.key, "", ""]
        return keys, args

    def _outcome(self, reply: object, what: str) -> CommitOutcome:
        word = self._require(reply, what)
        if word == "APPLIED":
            return CommitOutcome.APPLIED
        if word == "DUPLICATE":
            return CommitOutcome.DUPLICATE
        raise InternalError(f"the store refused a commit of {what!r}: {word}")

    def _require(self, reply: object, instance: str) -> str:
        word = cast("bytes", reply).decode()
        if word == "FENCED":
            raise Fenced(f"instance {instance!r} is owned by another host now")
        return word
