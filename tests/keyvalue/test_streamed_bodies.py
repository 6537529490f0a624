"""Streamed bodies of the first two generations, over each provider: the same bytes as bodies written at once."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from support.keyvalue import PROVIDERS, Programs, b64, hosted, provider_of

Open = Callable[..., AbstractAsyncContextManager[Programs]]


@pytest.fixture(params=[(made, kind) for made in ("g1", "g2") for kind in PROVIDERS], ids="-".join)
def open_host(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Open:
    generation, kind = request.param
    name = f"bodies-{uuid.uuid4().hex[:12]}"

    @asynccontextmanager
    async def start(**spec: object) -> AsyncIterator[Programs]:
        keyvalue = {
            "undeclaredBuckets": "Deny",
            "buckets": [{"name": "b", "maxValueBytes": "4Mi"}, {"name": "small", "maxValueBytes": 8}],
        }
        spec = {"limits": {"maxBodyBytes": "16Mi"}, "keyValue": keyvalue, **spec}
        provider = provider_of(kind, request, monkeypatch)
        async with hosted(name, f"kv-{generation}", provider, tmp_path, **spec) as client:
            yield Programs(client)

    return start


def write(pieces: list[bytes], bucket: str = "b") -> object:
    return {"write-stream": [bucket, "k", [b64(piece) for piece in pieces]]}


def read(length: int) -> object:
    return {"read-stream": ["b", "k", length]}


GET = {"get": ["b", "k"]}


async def test_the_same_bytes(open_host: Open) -> None:
    large = random.Random(1).randbytes(3 << 20)
    async with open_host() as run:
        assert await run(read(10)) == [{"value": None}]
        for pieces in ([], [b""], [b"one"], [b"a", b"", bytes(range(256)), b"z" * 70_000], [large]):
            whole = b"".join(pieces)
            assert await run(write(pieces), GET, read(1 + len(whole) // 3)) == [
                "nothing", {"value": b64(whole)}, {"value": b64(whole)},
            ]  # fmt: skip
            assert await run(read(1 << 40), instance="b") == [{"value": b64(whole)}], "another instance"


async def test_bounds(open_host: Open) -> None:
    """A stream takes what the roomiest bucket would; `set` asks the bucket itself."""
    async with open_host() as run:
        (said,) = await run(write([b"x" * 9], "small"))
        assert "a value of 9 bytes; bucket 'small' allows 8" in str(said)
        (said,) = await run(write([bytes(4 << 20), b"x"]))
        assert said == {"refused": "a value may have at most 4,194,304 bytes"}
        assert await run(GET, write([bytes(4 << 20)])) == [{"value": None}, "nothing"], "the bound itself is allowed"


async def test_a_value_is_written_by_several_calls(open_host: Open) -> None:
    """The value and its stream stay in the guest's memory: by replay, and by snapshots, of which each call has one."""
    for durability in ({"maxJournalEntries": 1000}, {"maxJournalEntries": 1}):
        async with open_host(durability=durability, limits={"maxInstancesInMemory": 1}) as run:
            for instance in ("a", "b"):
                assert await run({"begin-value": b64(b"first ")}, instance=instance) == ["nothing"]
                async with asyncio.timeout(10):
                    # A snapshot is taken behind the reply.
                    while durability["maxJournalEntries"] == 1 and not (await run.described(instance))["snapshot"]:
                        await asyncio.sleep(0.02)
            for instance in ("a", "b"):
                said = b64(instance.encode())
                assert await run({"end-value": ["b", instance, said]}, instance=instance) == ["nothing"]
            for instance in ("a", "b"):
                assert await run({"get": ["b", instance]}, instance=instance) == [
                    {"value": b64(b"first " + instance.encode())}
                ]
                assert await run({"end-value": ["b", "k", ""]}, instance=instance) == [
                    {"refused": "no value was begun"}
                ]
