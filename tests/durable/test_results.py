"""Stored results: their checksum, and those of versions that kept none."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator

import msgspec
import pytest

from perdure.component.component import BoundComponent
from perdure.durable.calls import failed_result, failure_of, sealed, unsealed
from perdure.durable.components import ComponentLibrary
from perdure.durable.effects import BucketAddress, Scope
from perdure.durable.store import Store
from perdure.errors import AsyncCallFailed, GuestTrapped, InternalError
from perdure.host.instances import InstanceTable
from perdure.providers.memory import MemoryStore, MemoryWorld
from support.engine import WORKER, call, environment, library

NEAR = BucketAddress(Scope.WORKER, "near")
ADD = {"add": ["near", "n", 1]}
BODIES = [b"null", b"10", b'{"a":"b c"}', b'"\\n"', '["é"]'.encode(), failed_result("skipped", "why")]


@pytest.fixture
def code(ledger: BoundComponent) -> Iterator[ComponentLibrary]:
    made = library(ledger)
    yield made
    made.close()


@pytest.mark.parametrize("body", BODIES)
def test_a_changed_bit_is_noticed_wherever_it_is(body: bytes) -> None:
    stored = sealed(body)
    assert unsealed(stored) == body
    for place in range(len(stored) * 8):
        changed = bytearray(stored)
        changed[place // 8] ^= 1 << place % 8
        with pytest.raises(InternalError):
            failure_of(unsealed(bytes(changed)))


@pytest.mark.parametrize("body", BODIES)
def test_versions_without_checksums_read_it_and_are_read(body: bytes) -> None:
    assert unsealed(body) == body
    plain = sealed(body)
    # As they do.
    assert failure_of(plain) == failure_of(body)
    if failure_of(body) is None:
        assert msgspec.json.decode(plain) == msgspec.json.decode(body) == json.loads(plain)


async def test_a_damaged_result_is_told_to_nobody(code: ComponentLibrary, ledger: BoundComponent) -> None:
    home = MemoryStore(MemoryWorld(), WORKER)
    table = InstanceTable(code, environment({"home": home}), max_in_memory=10, max_queued=10)
    given = await call((table, "alice"), ledger, "run", [ADD], key="k")
    again = await call((table, "alice"), ledger, "run", [ADD], key="k")
    assert (again.body, again.stored) == (given.body, True) and json.loads(given.body) == [{"number": 1}]
    with pytest.raises(GuestTrapped):
        await call((table, "alice"), ledger, "run", [ADD, "trap"], key="failed")
    with pytest.raises(AsyncCallFailed):
        await call((table, "alice"), ledger, "run", [ADD, "trap"], key="failed")

    def put(old: bytes, new: bytes) -> None:
        results = home._data.instances["alice"].results
        stored, until = results["k"]
        assert old in stored.body
        results["k"] = (dataclasses.replace(stored, body=stored.body.replace(old, new)), until)

    put(b'"number":1', b'"number":7')
    with pytest.raises(InternalError, match="checksum"):
        await call((table, "alice"), ledger, "run", [ADD], key="k")
    assert await home.get_many(NEAR, ["n"]) == [b"2"], "nor is the call run again"
    table.close()


async def test_an_older_versions_result_is_given(
    code: ComponentLibrary, ledger: BoundComponent, home: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as older:
        older.setattr("perdure.durable.writer.sealed", lambda body: body)
        table = InstanceTable(code, environment({"home": home}), max_in_memory=10, max_queued=10)
        given = await call((table, "alice"), ledger, "run", [ADD], key="k")
        table.close()
    found = await home.result("alice", "k")
    assert found is not None and found.body == given.body, "negative control"
    table = InstanceTable(code, environment({"home": home}), max_in_memory=10, max_queued=10)
    again = await call((table, "alice"), ledger, "run", [ADD], key="k")
    assert (again.body, again.stored) == (given.body, True)
    table.close()
