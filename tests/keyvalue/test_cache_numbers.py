"""The cache of the proposal's first texts, whose futures and vacancies are numbers."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from support.keyvalue import PROVIDERS, Programs, b64, hosted, provider_of

Open = Callable[..., AbstractAsyncContextManager[Programs]]


@pytest.fixture(params=PROVIDERS)
def open_host(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Open:
    name = f"numbers-{uuid.uuid4().hex[:12]}"

    @asynccontextmanager
    async def start(**spec: object) -> AsyncIterator[Programs]:
        provider = provider_of(request.param, request, monkeypatch)
        async with hosted(name, "kv-numbers", provider, tmp_path, **spec) as client:
            yield Programs(client)

    return start


def value(data: bytes) -> object:
    return {"value": b64(data)}


async def test_values(open_host: Open) -> None:
    async with open_host() as run:
        assert await run({"get": "k"}, {"exists": "k"}, {"set": ["k", b64(b"v")]}, {"get": "k"}, {"exists": "k"}) == [
            {"value": None}, {"truth": False}, "nothing", value(b"v"), {"truth": True},
        ]  # fmt: skip
        assert await run({"delete": "k"}, {"get": "k"}) == ["nothing", {"value": None}]
        assert await run({"meet": ["k", b64(b"mine")]}, {"meet": ["k", b64(b"other")]}) == ["filled", value(b"mine")]


async def test_one_of_many_fills(open_host: Open) -> None:
    async with open_host() as run:
        answers = await asyncio.gather(*(run({"meet": ["k", b64(b"%d" % at)]}, instance=f"i{at}") for at in range(6)))
        (filler,) = [at for at, answer in enumerate(answers) if answer == ["filled"]]
        assert [answer for answer in answers if answer != ["filled"]] == [[value(b"%d" % filler)]] * 5


async def test_a_vacancy_is_kept_from_call_to_call(open_host: Open) -> None:
    """By the journal: while a guest holds numbers, no snapshot is taken."""
    spec = {"durability": {"maxJournalEntries": 1}, "limits": {"maxInstancesInMemory": 1}}
    async with open_host(**spec) as run:
        for key, end, there in (("k", {"fill": b64(b"late")}, b"late"), ("n", "give-up", None)):
            assert await run({"claim": key}, instance=key) == [{"truth": True}]
            await run({"get": key}, instance="b")
            assert (await run.described(key))["snapshot"] is None
            await run(end, instance=key)
            assert await run({"get": key}, instance="b") == [{"value": None if there is None else b64(there)}]


async def test_a_number_that_was_not_given(open_host: Open) -> None:
    async with open_host() as run:
        with pytest.raises(AssertionError, match="4000000000 is no such future or vacancy"):
            await run("guess")
        assert await run({"get": "k"}) == [{"value": None}]
