"""Many keys and large values: listed and read whole, in a host's memory that is bounded.

The numbers are small here; `benchmarks/large_buckets.py` has a million keys.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from perdure.component.component import BoundComponent, Component
from perdure.component.engine import Engine, EngineConfig
from perdure.durable import recorder
from perdure.durable.effects import BucketAddress, Put, Scope
from perdure.durable.instance import DurableInstance
from perdure.durable.journal import Kind, decode_entry
from perdure.durable.records import ForeignApply
from perdure.durable.store import Store
from perdure.errors import GuestTrapped
from perdure.host.app import guest_interfaces
from perdure.keyvalue.bucket import BucketError
from perdure.keyvalue.store import OpenBucket
from perdure.providers.sqlite import SqliteStore
from support.engine import WORKER, call, deadline, environment, library
from support.guests import COMPILED, ROOT, guest
from support.keyvalue import b64

BUCKET = BucketAddress(Scope.WORKER, "b")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    made = await SqliteStore.open(tmp_path / "home.sqlite", WORKER)
    yield made
    await made.close()


@asynccontextmanager
async def opened(store: Store, name: str) -> AsyncIterator[tuple[DurableInstance, BoundComponent]]:
    with Engine(EngineConfig(cache_dir=COMPILED)) as engine:
        bound = (await Component.load(engine, guest(name).read_bytes())).bind(guest_interfaces())
        code = library(bound)
        instance = await DurableInstance.open("a", code, environment({"home": store}), deadline=deadline())
        yield instance, bound
        instance.close()
        code.close()


async def fill(store: Store, keys: int, value: bytes = b"") -> None:
    for sequence, first in enumerate(range(0, keys, 1000), 1):
        batch = [Put(BUCKET, f"key-{number:07}", value) for number in range(first, min(first + 1000, keys))]
        await store.apply_foreign(ForeignApply("filler", sequence, batch))


@pytest.mark.parametrize("generation", ["g3", "g4"])
async def test_a_listing_of_many_keys(store: SqliteStore, generation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """More pages than a handle keeps cursors of, and more bytes than an invocation holds uncommitted."""
    monkeypatch.setattr(recorder, "UNSAVED", 256 << 10)
    keys = 70_500
    await fill(store, keys)
    async with opened(store, f"kv-{generation}") as (instance, bound):
        listed = json.loads((await call(instance, bound, "keys", "b")).body)["ok"]
    assert listed == [f"key-{number:07}" for number in range(keys)]
    page = await store.journal("a", 0, 100)
    assert page is not None
    entries = [decode_entry(record.entry, page.first + at, None) for at, record in enumerate(page.records)]
    assert {entry.kind for entry in entries} == {Kind.PART, Kind.CALL}, "the listing was committed in parts"
    assert max(len(record.entry) for record in page.records) < 600 << 10
    async with opened(store, f"kv-{generation}") as (instance, bound):
        again = json.loads((await call(instance, bound, "keys", "b")).body)["ok"]
    assert again == listed, "by the journal, and once more"


async def test_a_cursor_is_kept_for_some_pages() -> None:
    handle = OpenBucket(None)  # type: ignore[arg-type]  # its bucket is not asked
    given = [handle.number(f"key-{page}") for page in range(1000)]
    assert given == list(range(1, 1001)) and len(handle.cursors) == 64
    assert [handle.key(number) for number in given[-64:]] == [f"key-{page}" for page in range(936, 1000)]
    with pytest.raises(BucketError, match="more than 64 pages ago"):
        handle.key(936)
    with pytest.raises(BucketError, match="not a cursor"):
        handle.key(1001)


async def test_a_large_value_is_read_again_and_again(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    value = random.Random(7).randbytes(2 << 20)
    async with opened(store, "kv-g4") as (instance, bound):
        assert json.loads((await call(instance, bound, "set", "b", "k", b64(value))).body) == {"ok": None}
        many = json.loads((await call(instance, bound, "get-many", "b", ["k"] * 5)).body)["ok"]
        assert many == [b64(value)] * 5
    # What the host gives to one invocation is bounded, whatever the guest asks for.
    monkeypatch.setattr(recorder, "MAX_RECORDED", 5 << 20)
    async with opened(store, "kv-g4") as (instance, bound):
        with pytest.raises(GuestTrapped, match="was given more than 5,242,880 bytes"):
            await call(instance, bound, "get-many", "b", ["k"] * 5)


@pytest.mark.timeout(300)
def test_the_benchmark_of_large_buckets_runs() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "large_buckets.py", "--quick", "--output", "json"],
        capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    tables = json.loads(done.stdout)["tables"]
    assert [[row["store"] for row in table["rows"]] for table in tables] == [["SQLite", "Redis", "PostgreSQL"]] * 2
