"""Spin's own key-value interface, as a guest of Spin's imports it, over the same buckets as wasi:keyvalue."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from keyvalue.test_generations import MISSING, ODD, KeyValue
from support.keyvalue import b64, hosted

SPEC = {
    "limits": {"maxInstancesInMemory": 1},
    "keyValue": {
        "undeclaredBuckets": "Deny",
        "buckets": [
            {"name": "default"},
            {"name": "fixed", "access": "ReadOnly", "physicalName": "default"},
            {"name": "small", "maxKeyBytes": 8, "maxValueBytes": 8},
        ],
    },
}


@pytest.fixture
async def kv(tmp_path: Path) -> AsyncIterator[KeyValue]:
    async with hosted("spin", "kv-spin", {"sqlite": {}}, tmp_path, **SPEC) as client:
        yield KeyValue(client, modern=True, odd=ODD)


async def test_a_store_is_a_bucket(kv: KeyValue) -> None:
    assert await kv.ok("get", "default", "k") is None and await kv.ok("exists", "default", "k") is False
    for key in ODD:
        await kv.ok("set", "default", key, b64(key.encode()))
        assert await kv.ok("get", "default", key) == b64(key.encode())
        assert await kv.ok("exists", "fixed", key) is True
    assert sorted(await kv.ok("keys", "default")) == sorted(ODD)
    for key in [*ODD, "missing"]:
        await kv.ok("delete", "default", key)
    assert await kv.ok("keys", "default") == []
    before, written, deleted = await kv.ok("rewrite", "default", "fixed", "k", b64(b"new"))
    there = {"value": b64(b"new"), "in-batch": b64(b"new"), "exists": True, "listed": True}
    assert before == deleted == {**MISSING, "keys": 0} and written == {**there, "keys": 1}


async def test_all_keys_are_listed_at_once(kv: KeyValue) -> None:
    keys = [f"key-{number:05}" for number in range(2500)]
    await kv.ok("set-many", "default", [[key, ""] for key in keys])
    assert await kv.ok("keys", "default") == keys


async def test_refusals_are_spins_own_errors(kv: KeyValue) -> None:
    assert await kv.refused("get", "forbidden", "k") == "access denied", "a store that the manifest does not grant"
    assert await kv.refused("set", "fixed", "k", "") == "access denied"
    assert await kv.refused("delete", "fixed", "k") == "access denied"
    assert "a value of 9 bytes" in await kv.refused("set", "small", "k", b64(bytes(9)))
    assert "a key of 9 bytes" in await kv.refused("get", "small", "k" * 9)
    await kv.ok("set", "small", "k" * 8, b64(bytes(8)))
    assert await kv.ok("keys", "small") == ["k" * 8], "the control: the bound itself"


async def test_replay_takes_the_same_way(kv: KeyValue) -> None:
    """One instance in memory at a time: each call of the other rebuilds this one from its journal."""
    for number in range(1, 4):
        assert await kv.ok("increment", "default", "n", instance="a") == 2 * number - 1
        assert await kv.ok("increment", "default", "n", instance="b") == 2 * number
        assert await kv.ok("keys", "default") == ["n"]
        await kv.refused("get", "forbidden", "k")
    assert await kv("calls", instance="a") == await kv("calls", instance="b") == 3


async def test_spins_other_interfaces_trap_by_name(kv: KeyValue) -> None:
    """Each test here is the control: a guest that imports them runs."""
    status, answer = await kv.client.call("a", "get", "of variables", "k")
    assert status == 500 and isinstance(answer, dict), answer
    assert answer["detail"] == "the guest called fermyon:spin/variables@2.0.0.get, which Perdure does not support"


async def test_another_generation_sees_the_same(tmp_path: Path) -> None:
    async with hosted("spin", "kv-spin", {"sqlite": {}}, tmp_path, **SPEC) as client:
        await KeyValue(client, modern=True, odd=ODD).ok("set", "default", "k", b64(b"of Spin's"))
    async with hosted("spin", "kv-g1", {"sqlite": {}}, tmp_path, **SPEC, update="Pin") as client:
        other = KeyValue(client, modern=False, odd=ODD)
        assert await other.ok("get", "default", "k", instance="new") == b64(b"of Spin's")
