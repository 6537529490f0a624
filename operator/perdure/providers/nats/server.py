"""The stream that holds everything, and what its acknowledgement is worth. Looked at in full every half minute.

In between a message is sent that cannot be stored, since it expects a revision that there is not: that it is refused
for that reason proves that the stream has a leader and takes writes of this user.
"""

from __future__ import annotations

import time
from typing import Any

from perdure.durable.records import ProviderInfo
from perdure.errors import ProviderUnavailable
from perdure.providers.nats.client import Json, Message, NatsClient
from perdure.providers.nats.config import NatsConfig
from perdure.providers.nats.failures import NO_STREAM, WRONG_LAST, Refusal, translate
from perdure.providers.nats.subjects import Subjects

EXPECTED = "Nats-Expected-Last-Subject-Sequence"
_FRESH_SECONDS = 30.0
_OLDEST = (2, 12)
_NEVER = str((1 << 63) - 1)
_FLUSHED = (
    "servers write to their files at once, and flush them each sync_interval (two minutes unless it says otherwise)"
)


class ServerCheck:
    """`run` raises `ProviderUnavailable` for a server that cannot be used, in words that say what to change."""

    def __init__(self, client: NatsClient, config: NatsConfig, subjects: Subjects) -> None:
        self._client = client
        self._config = config
        self._subjects = subjects
        self._found: ProviderInfo | None = None
        self._at = 0.0
        self._ready = False

    async def ready(self) -> None:
        """Make the stream where it is missing. Raises `ProviderUnavailable`."""
        if not self._ready:
            await self._look()

    async def run(self) -> ProviderInfo:
        if self._found is None or time.monotonic() - self._at > _FRESH_SECONDS:
            self._found = None
            self._found = await self._look()
            self._at = time.monotonic()
        try:
            await self._client.publish([Message(self._subjects.probe, b"", {EXPECTED: _NEVER})])
        except Refusal as refusal:
            if refusal.code in WRONG_LAST:
                return self._found
            self._found = None
            raise translate(refusal, self._client.where) from refusal
        raise ProviderUnavailable(f"NATS at {self._client.where} does not check expected revisions")

    async def _look(self) -> ProviderInfo:
        version, payload = await self._client.server()
        where = f"NATS at {self._client.where}"
        if tuple(int(part) for part in version.split(".")[:2]) < _OLDEST:
            raise ProviderUnavailable(
                f"{where} is version {version}; 2.12 or newer is needed, which has atomic batches", cause="unsuitable"
            )
        if payload < self._config.max_payload:
            raise ProviderUnavailable(
                f"{where} takes messages of {payload:,} bytes, maxPayload says {self._config.max_payload:,}: lower it, "
                "or raise the server's max_payload",
                cause="unsuitable",
            )
        try:
            found = (await self._stream())["config"]
        except Refusal as refusal:
            raise translate(refusal, self._client.where) from refusal
        self._require(found, where)
        self._ready = True
        settings = (("storage", str(found.get("storage", "?"))), ("replicas", str(found.get("num_replicas", 1))))
        return ProviderInfo("nats", version, *_durability(found), settings=settings)

    async def _stream(self) -> Json:
        name = self._subjects.stream
        try:
            return await self._client.api(f"STREAM.INFO.{name}", {})
        except Refusal as refusal:
            if refusal.code != NO_STREAM:
                raise
        wanted: dict[str, Any] = {
            "name": name,
            "subjects": [self._subjects.all],
            "description": "Perdure's buckets",
            "storage": "file",
            "num_replicas": self._config.replicas,
            "retention": "limits",
            "discard": "new",
            "max_msgs_per_subject": 1,
            "max_msgs": -1,
            "max_bytes": -1,
            "max_age": 0,
            "deny_delete": True,
            "allow_rollup_hdrs": True,
            "allow_direct": False,
            "allow_atomic": True,
            "allow_msg_ttl": True,
        }
        # Another host may make the same one at the same moment, which is no error.
        return await self._client.api(f"STREAM.CREATE.{name}", wanted)

    def _require(self, found: Json, where: str) -> None:
        wrong = [
            text
            for text, right in (
                ("allow_atomic", found.get("allow_atomic") is True),
                ("allow_msg_ttl", found.get("allow_msg_ttl") is True),
                ("max_msgs_per_subject 1", found.get("max_msgs_per_subject") == 1),
                ("discard new", found.get("discard") == "new"),
                ("no max_age", not found.get("max_age")),
                (f"subjects {self._subjects.all}", found.get("subjects") == [self._subjects.all]),
            )
            if not right
        ]
        if wrong:
            raise ProviderUnavailable(
                f"{where}: the stream {self._subjects.stream} was made for something else: Perdure's has "
                f"{', '.join(wrong)}. Name another one in `bucket`",
                retry_after=30,
                cause="unsuitable",
            )


def _durability(found: Json) -> tuple[str, tuple[str, ...]]:
    """Whether the servers flush at each write is not told to clients, so the best that can be said is D1."""
    if found.get("storage") != "file":
        return "D0", ("the stream is kept in the servers' memory",)
    if int(found.get("num_replicas", 1)) > 1:
        return "D1", (f"{_FLUSHED}: a crash of all their machines loses what was not flushed",)
    return "D1", (f"{_FLUSHED}: a crash of the machine loses what was not flushed",)
