"""The cache of the first two generations, over each provider: times to live, and one filler for a missing value."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from support.keyvalue import PROVIDERS, Programs, b64, hosted, provider_of

Open = Callable[..., AbstractAsyncContextManager[Programs]]
LEASE = 0.6


@pytest.fixture(params=[(made, kind) for made in ("g1", "g2") for kind in PROVIDERS], ids="-".join)
def open_host(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Open:
    generation, kind = request.param
    name = f"cache-{uuid.uuid4().hex[:12]}"

    @asynccontextmanager
    async def start(cache: dict[str, object] | None = None, **spec: object) -> AsyncIterator[Programs]:
        keyvalue = {
            "undeclaredBuckets": "Deny",
            "buckets": [
                {"name": "cache", "maxValueBytes": 64},
                {"name": "short", "ttl": "1s"},
                {"name": "fixed", "access": "ReadOnly", "physicalName": "cache"},
            ],
            "cache": {"vacancyLease": f"{int(LEASE * 1000)}ms", **(cache or {})},
        }
        provider = provider_of(kind, request, monkeypatch)
        async with hosted(name, f"kv-{generation}", provider, tmp_path, **{"keyValue": keyvalue, **spec}) as client:
            yield Programs(client)

    return start


def value(data: bytes) -> object:
    return {"value": b64(data)}


def put(key: str, data: bytes, ttl: int | None = None) -> object:
    return {"cache-set": [key, b64(data), ttl]}


def meet(key: str, data: bytes, ttl: int | None = None, *, streamed: bool = False) -> object:
    return {"get-or-stream" if streamed else "get-or-set": [key, b64(data), ttl]}


MISSING = {"value": None}
FULL = {"refused": "the bucket has as many keys as it may (maxKeys)"}


async def test_values(open_host: Open) -> None:
    async with open_host() as run:
        assert await run({"cache-get": "k"}, {"cache-exists": "k"}) == [MISSING, {"truth": False}]
        assert await run(put("k", b"one"), {"cache-get": "k"}, {"cache-exists": "k"}) == [
            "nothing", value(b"one"), {"truth": True},
        ]  # fmt: skip
        assert await run({"cache-get": "k"}, instance="b") == [value(b"one")], "another instance"
        assert await run({"get": ["cache", "k"]}) == [value(b"one")], "it is a bucket as others are"
        assert await run({"cache-delete": "k"}, {"cache-get": "k"}, {"cache-delete": "k"}) == [
            "nothing", MISSING, "nothing",
        ]  # fmt: skip


async def test_values_end(open_host: Open) -> None:
    async with open_host() as run:
        ended, found = 0.0, None
        while time.monotonic() >= ended:
            ended = time.monotonic() + 0.3
            await run(put("gone", b"x", 300), put("stays", b"y"), put("later", b"z", 60_000), put("at-once", b"w", 0))
            found = await run({"cache-delete": "filled"}, meet("filled", b"f", 300), {"cache-get": "gone"})
        assert found == ["nothing", "filled", value(b"x")]
        await asyncio.sleep(0.6)
        assert await run(*({"cache-get": key} for key in ("gone", "filled", "at-once", "stays", "later"))) == [
            MISSING, MISSING, MISSING, value(b"y"), value(b"z"),
        ]  # fmt: skip


async def test_the_bucket_may_have_a_shorter_life(open_host: Open) -> None:
    async with open_host({"bucket": "short"}) as run:
        ended, found = 0.0, None
        while time.monotonic() >= ended:
            ended = time.monotonic() + 1
            await run(put("k", b"x", 60_000), put("n", b"y"))
            found = await run({"cache-get": "k"}, {"cache-get": "n"})
        assert found == [value(b"x"), value(b"y")]
        await asyncio.sleep(1.3)
        assert await run({"cache-get": "k"}, {"cache-get": "n"}) == [MISSING, MISSING]


async def test_a_missing_value_is_filled(open_host: Open) -> None:
    async with open_host() as run:
        for streamed in (False, True):
            for data in (b"", b"odd", b"first of all"):
                assert await run(meet("k", data, streamed=streamed)) == ["filled"]
                assert await run(meet("k", b"other"), {"cache-get": "k"}) == [value(data), value(data)]
                assert await run({"cache-delete": "k"}, meet("k", b"again"), {"cache-get": "k"}) == [
                    "nothing", "filled", value(b"again"),
                ], "what one call deletes and fills again needs no waiting"  # fmt: skip
                assert await run({"cache-delete": "k"}) == ["nothing"]
        assert await run(meet("dead", b"x", 0), {"cache-get": "dead"}, meet("dead", b"y")) == [
            "filled", MISSING, "filled",
        ]  # fmt: skip


async def test_one_of_many_fills(open_host: Open) -> None:
    async with open_host() as run:
        for round_ in range(2):
            asked = (run(meet(f"k{round_}", b"by %d" % at), instance=f"i{at}") for at in range(8))
            answers = await asyncio.gather(*asked)
            fillers = [at for at, answer in enumerate(answers) if answer == ["filled"]]
            assert len(fillers) == 1
            others = [answer for answer in answers if answer != ["filled"]]
            assert others == [[value(b"by %d" % fillers[0])]] * 7


async def test_a_waiter_gets_what_is_filled(open_host: Open) -> None:
    async with open_host({"vacancyLease": "20s"}) as run:
        assert await run({"claim": "k"}, instance="a") == [{"truth": True}]
        begun = time.monotonic()
        waiter = asyncio.create_task(run(meet("k", b"mine"), instance="b"))
        await asyncio.sleep(0.3)
        assert not waiter.done()
        assert await run({"settle": [b64(b"slow"), None]}, instance="a") == ["filled"]
        assert await waiter == [value(b"slow")]
        assert time.monotonic() - begun < 20, "before the lease is over"


async def test_a_vacancy_that_is_given_up_goes_to_another(open_host: Open) -> None:
    async with open_host({"vacancyLease": "20s"}) as run:
        assert await run({"claim": "k"}, instance="a") == [{"truth": True}]
        waiter = asyncio.create_task(run(meet("k", b"mine"), instance="b"))
        await asyncio.sleep(0.2)
        assert await run("give-up", instance="a") == ["nothing"]
        assert await waiter == ["filled"]


async def test_a_vacancy_ends_with_its_lease(open_host: Open) -> None:
    """And who overstays it neither ends the next one's, nor is it held up by it."""
    async with open_host() as run:
        begun = time.monotonic()
        assert await run({"claim": "k"}, instance="a") == [{"truth": True}]
        assert await run({"claim": "k"}, instance="b") == [{"truth": False}]
        assert await run({"settle": [b64(b"by b"), 200]}, instance="b") == ["filled"]
        assert time.monotonic() - begun > LEASE * 0.8
        await asyncio.sleep(0.4)
        assert await run({"claim": "k"}, instance="b") == [{"truth": True}], "its value has ended"
        assert await run("give-up", instance="a") == ["nothing"]
        assert await run({"claim": "k"}, instance="c") == [{"truth": False}], "it is b's all the same"


async def test_what_is_kept_survives(open_host: Open) -> None:
    """A vacancy, and a future that waits for one, are in the guest's memory: by replay and by snapshot."""
    for entries in (1000, 1):
        spec = {"durability": {"maxJournalEntries": entries}, "limits": {"maxInstancesInMemory": 2}}
        async with open_host({"vacancyLease": "20s"}, **spec) as run:
            key = f"k{entries}"
            assert await run({"claim": key}, instance="a") == [{"truth": True}]
            assert await run({"claim": key}, instance="b") == [{"truth": False}]
            for at in range(4):
                await run({"remember": 1}, instance=f"other-{at}")
            assert await run({"settle": [b64(b"late"), None]}, instance="a") == ["filled"]
            assert await run({"settle": [b64(b"never"), None]}, instance="b") == [value(b"late")]


async def test_refusals(open_host: Open) -> None:
    async with open_host() as run:
        (large,) = await run(put("k", bytes(65)))
        assert "a value of 65 bytes; bucket 'cache' allows 64" in str(large)
        assert await run(meet("k", bytes(65), streamed=True)) == [{"refused": "a value may have at most 64 bytes"}]
        (said, filled) = await run(meet("n", bytes(65)), meet("n", b"fits"))
        assert "allows 64" in str(said) and filled == "filled", "what could not be filled is free again"
    async with open_host({"bucket": "undeclared"}) as run:
        for step in ({"cache-get": "k"}, put("k", b""), {"cache-exists": "k"}, {"cache-delete": "k"}, meet("k", b"")):
            (said,) = await run(step)
            assert "'undeclared' is not declared" in str(said)
    # The same instance by its journal: what the cache was then is recorded.
    async with open_host({"bucket": "fixed"}) as run:
        assert await run({"cache-get": "none"}) == [MISSING]
        for step in (put("k", b""), {"cache-delete": "k"}, meet("none", b"")):
            (said,) = await run(step)
            assert "ReadOnly" in str(said)


async def test_claims_are_seen_by_nobody(open_host: Open) -> None:
    async with open_host(keyValue={"undeclaredBuckets": "Allow"}) as run:
        assert await run({"claim": "k"}) == [{"truth": True}]
        assert await run({"get": ["cache", "k"]}, {"cache-exists": "k"}) == [MISSING, {"truth": False}]
        (said,) = await run({"get": ["cache\x1fvacancies", "k"]})
        assert "where a cache keeps its vacancies" in str(said)


@pytest.mark.parametrize("scope", ["Worker", "Instance"])
async def test_a_full_cache_gives_its_vacancies_back(open_host: Open, scope: str) -> None:
    keyvalue = {"buckets": [{"name": "cache", "maxKeys": 1, "scope": scope}], "cache": {"vacancyLease": "20s"}}
    async with open_host(keyValue=keyvalue) as run:
        assert await run(meet("k", b"1"), put("k", b"2")) == ["filled", "nothing"]
        for streamed in (False, True):
            (said, filled, held) = await run(
                meet("n", b"x", streamed=streamed), {"cache-delete": "k"}, {"cache-exists": "n"}
            )
            assert said == ("filled" if streamed else FULL), "the end of a stream has no words for it"
            assert (filled, held) == ("nothing", {"truth": False})
            assert await run(meet("n", b"fits", streamed=streamed)) == ["filled"], "its vacancy is not held any more"
            assert await run({"cache-delete": "n"}, put("k", b"3"), put("n", b"4"), {"cache-get": "k"}) == [
                "nothing", "nothing", FULL, value(b"3"),
            ]  # fmt: skip
