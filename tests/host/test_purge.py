"""`perdure purge` against real servers: a deleted Worker is in nobody's way, and what it retains is there."""

from __future__ import annotations

import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
import yaml

from perdure.durable.effects import BucketAddress, Put, Scope
from perdure.durable.feeds import FeedBounds
from perdure.durable.records import CommitStatus, ForeignApply
from perdure.durable.store import Store
from perdure.errors import FeedFull
from perdure.host.stores import open_home
from perdure.manifests.load import parse_provider
from support.hosts import host_config
from support.plans import API
from support.postgres import PostgresServer
from support.servers import RedisServer

NEWS, OWN = BucketAddress(Scope.NAMESPACE, "news"), BucketAddress(Scope.WORKER, "own")


class Town:
    """A namespace of its own with the Workers `reader` and `writer`, on one provider."""

    def __init__(self, folder: Path, **provider: Any) -> None:
        self.namespace = f"n{uuid.uuid4().hex[:10]}"
        self.provider = {"apiVersion": API, "kind": "KeyValueProvider", "metadata": {"name": "main"}, "spec": provider}
        self._folder = folder

    async def open(self, name: str) -> Store:
        worker: dict[str, Any] = {"apiVersion": API, "kind": "Worker", "metadata": {"name": name, "namespace": self.namespace},
                  "spec": {"component": {"url": "file:x.wasm"}, "keyValue": {"provider": "main"}}}  # fmt: skip
        path = self._folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump_all([worker, self.provider]))
        return await open_home(parse_provider(self.provider), host_config(path, self._folder))

    def purge(self, name: str, *options: str) -> str:
        command = [sys.executable, "-m", "perdure", "purge", "--manifest", str(self._folder / f"{name}.yaml"),
                   "--data", str(self._folder), "--log-format", "json", *options]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stderr


async def put(store: Store, bucket: BucketAddress, key: str) -> None:
    done = await store.apply_foreign(ForeignApply("", 0, (Put(bucket, key, b"1"),)))
    assert done.status is CommitStatus.APPLIED


@pytest.mark.parametrize("kind", ["redis", "postgres"])
async def test_a_watch_of_a_shared_bucket_ends_and_nothing_else(
    kind: str, redis: RedisServer, postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERDURE_MAIN_USERNAME", "" if kind == "redis" else "postgres")
    url = redis.url if kind == "redis" else f"postgres://127.0.0.1:{postgres.port}/postgres"
    town = Town(tmp_path, **{kind: {"url": url}})
    reader, writer = await town.open("reader"), await town.open("writer")
    try:
        for bucket in (NEWS, OWN):
            await reader.watch(bucket, "notifier", FeedBounds(2, 1 << 20))
        await writer.watch(NEWS, "another", FeedBounds(9, 1 << 20))
        await reader.watch(NEWS, "notifier", FeedBounds(2, 1 << 20))
        await put(reader, OWN, "mine")
        for key in ("a", "b"):
            await put(writer, NEWS, key)
        with pytest.raises(FeedFull):  # what a Worker does to others that nobody tells of its watch
            await put(writer, NEWS, "c")

        said = town.purge("reader", "--watches-only")
        assert "watches ended" in said and '"ended": 1' in said
        assert [watch.bucket for watch in await reader.watches()] == [OWN]
        assert [watch.bucket for watch in await writer.watches()] == [NEWS], "others go on watching"
        # Hosts renew their watches, and the bounds of the latest one hold.
        await writer.watch(NEWS, "another", FeedBounds(9, 1 << 20))
        for key in ("c", "d", "e", "f"):
            await put(writer, NEWS, key)
        assert (await reader.get_many(OWN, ["mine"])) == [b"1"]
        assert '"ended": 0' in town.purge("reader", "--watches-only"), "run again, there is nothing to do"

        # The control: without the option its data goes.
        assert '"purged"' in town.purge("reader")
        assert (await reader.get_many(OWN, ["mine"])) == [None]
        assert await reader.watches() == []
        assert (await reader.get_many(NEWS, ["a", "f"])) == [b"1", b"1"]
    finally:
        await reader.close()
        await writer.close()
