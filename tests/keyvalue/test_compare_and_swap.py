"""Compare-and-swap of the first two generations, over each provider: counters, refusals, many at once."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.keyvalue import PROVIDERS, Programs, b64, hosted, provider_of

MOST = (1 << 63) - 1
NOT_A_COUNTER = "the value is not a counter (a decimal number of 64 bits with a sign)"
OVERFLOW = "the counter would not fit 64 bits with a sign"


@pytest.fixture(params=[(made, kind) for made in ("g1", "g2") for kind in PROVIDERS], ids="-".join)
async def run(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> AsyncIterator[Programs]:
    generation, kind = request.param
    provider = provider_of(kind, request, monkeypatch)
    spec = {
        "limits": {"maxInstancesInMemory": 8},
        "keyValue": {
            "undeclaredBuckets": "Deny",
            "buckets": [{"name": "b"}, {"name": "fixed", "access": "ReadOnly", "physicalName": "b"}],
        },
    }
    async with hosted(f"cas-{uuid.uuid4().hex[:12]}", f"kv-{generation}", provider, tmp_path, **spec) as client:
        yield Programs(client)


def swap(old: int, new: int, key: str = "n", bucket: str = "b") -> object:
    return {"compare-and-swap": [bucket, key, old, new]}


def get(key: str = "n") -> object:
    return {"get": ["b", key]}


def add(delta: int, key: str = "n") -> object:
    return {"add": ["b", key, delta]}


async def test_a_counter(run: Programs) -> None:
    assert await run(swap(0, 1), get()) == [{"truth": False}, {"value": None}], "a missing key holds no number"
    assert await run(add(5), swap(4, 9), swap(5, 9), swap(5, 1), get()) == [
        {"number": 5}, {"truth": False}, {"truth": True}, {"truth": False}, {"value": b64(b"9")},
    ]  # fmt: skip
    assert await run(add(1), swap(10, 10), get()) == [{"number": 10}, {"truth": True}, {"value": b64(b"10")}]
    text = {"set": ["b", "n", b64(b"7")]}
    assert await run(text, swap(7, 8), get()) == ["nothing", {"truth": True}, {"value": b64(b"8")}], "its own write"
    below_zero = {"set": ["b", "n", b64(b"-3")]}
    assert await run(below_zero, swap(0, 1), swap(3, 1)) == ["nothing", {"truth": False}, {"truth": False}]


async def test_the_ends_of_the_range(run: Programs) -> None:
    start = {"set": ["b", "n", b64(b"%d" % (MOST - 1))]}
    assert await run(start, swap(MOST - 1, MOST), add(1), swap(MOST, 0), get()) == [
        "nothing", {"truth": True}, {"refused": OVERFLOW}, {"truth": True}, {"value": b64(b"0")},
    ]  # fmt: skip
    # A number that no counter can hold is refused on either side, and nothing was changed.
    assert await run(swap(0, MOST + 1), swap(2**64 - 1, 0), get()) == [
        {"refused": OVERFLOW}, {"refused": OVERFLOW}, {"value": b64(b"0")},
    ]  # fmt: skip


async def test_what_is_no_counter(run: Programs) -> None:
    for data in (b"", b"x", b"07", b"-0", b" 1", b"1\n", b"1.0", b"9223372036854775808", bytes(range(256))):
        assert await run({"set": ["b", "n", b64(data)]}, swap(7, 8), swap(0, 1), get()) == [
            "nothing", {"refused": NOT_A_COUNTER}, {"refused": NOT_A_COUNTER}, {"value": b64(data)},
        ]  # fmt: skip


async def test_refusals(run: Programs) -> None:
    (denied,) = await run(swap(0, 1, bucket="undeclared"))
    assert "'undeclared' is not declared" in str(denied)
    (fixed,) = await run(swap(0, 1, bucket="fixed"))
    assert "ReadOnly" in str(fixed)
    (long,) = await run(swap(0, 1, key="k" * 1025))
    assert "a key of 1025 bytes" in str(long)


async def test_one_of_many_wins(run: Programs) -> None:
    """Eight instances swap the same number: each number has one winner, so the sum tells how many won."""
    await run(add(1))
    won = 0
    for number in range(1, 6):
        answers = await asyncio.gather(*(run(swap(number, number + 1), instance=f"i{at}") for at in range(8)))
        won += sum(answer == [{"truth": True}] for answer in answers)
    assert won == 5
    assert await run(get()) == [{"value": b64(b"6")}]
