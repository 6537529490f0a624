"""wasi:keyvalue as guests see it: a guest of each language and generation, on a host, over each provider.

The guests (`tests/guests/kv-*`) export the same functions, each over its own generation's interfaces, so that every test
here is asked of all of them. Guests in Rust meet every provider that can be a home; of those in other languages some meet
SQLite, and all of them every provider, also those that have buckets only, with `PERDURE_TEST_MATRIX=full` in the
environment.
"""

from __future__ import annotations

import asyncio
import os
import random
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.hosts import Client
from support.keyvalue import FAR, PROVIDERS, b64, hosted, provider_of

LANGUAGES = {
    "rust": ("g1", "g2", "g3", "g4"),
    "python": ("g1", "g2", "g3", "g4"),
    "js": ("g1", "g2", "g3", "g4"),
    "go": ("g3", "g4"),
}
"""The generations that a language's tools can bind."""
ALWAYS = ("python-g1", "python-g4", "js-g2", "js-g3", "go-g3", "go-g4")
"""Each language and each way of binding; they take longer to build and to start than all of Rust's."""
ODD = [
    "a:b", "{x}", "{", "}", "a/b}{", "%2F", "..", "*?[", " ", "line\nbreak", "\r\n", "nul\0inside", "\x7f", "ключ",
    "e\u0301", "é", "🔑", "\U0010ffff", "\ufeff", '"quoted"', "a\\b", "null",
]  # fmt: skip
"""Names that a provider might take for its own syntax; two of them look alike and are not the same."""
NAMES = ("b", "one", "two", "other", "default")
MARK = "\ufeff"
"""What JavaScript's tools leave out of a text that begins with it; the bytes reach the guest."""
MISSING = {"value": None, "in-batch": None, "exists": False, "listed": False}


@dataclass(frozen=True)
class KeyValue:
    """Calls the guest; whatever a bucket refuses must come as the function's own error, never as a trap. Answers are
    JSON, as `json.loads` has it."""

    client: Client
    modern: bool
    """G3 and G4 have an error with cases; of G1 and G2 these are the words of the error's `trace`."""
    odd: list[str]
    """Names that the guest's language can hold."""
    most: int = 2500
    """Entries that the provider writes together."""
    value: int = 1 << 20
    """Bytes of a large value to it."""

    async def __call__(self, function: str, *args: object, instance: str = "a") -> Any:
        async with asyncio.timeout(60):
            while (reply := await self.client.call(instance, function, *args))[0] == 429:
                # A snapshot of the instance that would have to make room.
                await asyncio.sleep(0.02)
        status, answer = reply
        assert status == 200, answer
        return answer

    async def ok(self, function: str, *args: object, instance: str = "a") -> Any:
        answer = await self(function, *args, instance=instance)
        assert isinstance(answer, dict) and set(answer) == {"ok"}, answer
        return answer["ok"]

    async def refused(self, function: str, *args: object) -> str:
        answer = await self(function, *args)
        assert isinstance(answer, dict) and set(answer) == {"err"}, answer
        return str(answer["err"])


Open = Callable[..., AbstractAsyncContextManager[KeyValue]]


def _matrix() -> Iterator[tuple[str, str, str]]:
    """(language, generation, provider)."""
    whole = os.environ.get("PERDURE_TEST_MATRIX") == "full"
    for language, generations in LANGUAGES.items():
        for generation in generations:
            if whole or language == "rust":
                providers = (*PROVIDERS, *FAR) if whole else PROVIDERS
                yield from ((language, generation, provider) for provider in providers)
            elif f"{language}-{generation}" in ALWAYS:
                yield language, generation, "sqlite"


@pytest.fixture(params=_matrix(), ids="-".join)
def open_host(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Open:
    """Starts a host of one and the same Worker; `undeclared` and `limits` are the manifest's."""
    name = f"kv-{uuid.uuid4().hex[:12]}"
    language, generation, kind = request.param
    component = f"kv-{generation}" if language == "rust" else f"kv-{generation}.{language}"
    provider = provider_of(kind, request, monkeypatch)

    @asynccontextmanager
    async def start(undeclared: str = "Allow", **limits: object) -> AsyncIterator[KeyValue]:
        keyvalue: dict[str, Any] = {
            "undeclaredBuckets": undeclared,
            "buckets": [
                {"name": "open"},
                {"name": "fixed", "access": "ReadOnly", "physicalName": "open"},
                {"name": "small", "maxKeyBytes": 8, "maxValueBytes": 8},
            ],
        }
        if undeclared == "Allow" and kind in FAR:
            # What is not declared is at home.
            keyvalue["buckets"] += [{"name": name} for name in (*NAMES, *ODD)]
        spec = {"limits": {"maxBodyBytes": "8Mi", **limits}, "keyValue": keyvalue}
        async with hosted(name, component, provider, tmp_path, **spec) as client:
            odd = [name for name in ODD if language != "js" or name != MARK]
            bounds = {"most": 100, "value": 900_000} if kind in FAR else {}
            yield KeyValue(client, generation in ("g3", "g4"), odd, **bounds)

    return start


@pytest.fixture
async def kv(open_host: Open) -> AsyncIterator[KeyValue]:
    async with open_host() as running:
        yield running


async def test_one_key(kv: KeyValue) -> None:
    assert await kv.ok("get", "b", "k") is None
    assert await kv.ok("exists", "b", "k") is False
    for value in (b"one", b"two", b"", bytes(range(256))):
        assert await kv.ok("set", "b", "k", b64(value)) is None
        assert await kv.ok("get", "b", "k") == b64(value)
        assert await kv.ok("exists", "b", "k") is True
    for _ in range(2):
        assert await kv.ok("delete", "b", "k") is None, "deleting what is not there is no error"
        assert await kv.ok("get", "b", "k") is None
        assert await kv.ok("exists", "b", "k") is False
    assert await kv.ok("keys", "b") == []


async def test_batches(kv: KeyValue) -> None:
    entries = {key: key.encode() * 3 for key in ("one", "two", "three")}
    await kv.ok("set-many", "b", [[key, b64(value)] for key, value in entries.items()])
    wanted = ["three", "one", "three", "two"]
    assert await kv.ok("get-many", "b", wanted) == [b64(entries[key]) for key in wanted], "in the order asked"
    assert await kv.ok("get-many", "b", ["two", "none", "one"]) == [b64(b"twotwotwo"), None, b64(b"oneoneone")]
    assert sorted(await kv.ok("keys", "b")) == sorted(entries)
    await kv.ok("delete-many", "b", ["two", "none", "three"])
    assert await kv.ok("keys", "b") == ["one"]
    await kv.ok("set-many", "b", [["twice", b64(b"first")], ["twice", b64(b"last")]])
    assert await kv.ok("get", "b", "twice") == b64(b"last")
    for function in ("get-many", "set-many", "delete-many"):
        assert not await kv.ok(function, "b", []), "an empty batch is no error"


async def test_a_call_sees_its_own_writes(kv: KeyValue) -> None:
    await kv.ok("set", "b", "other", b64(b"other"))
    before, written, deleted = await kv.ok("rewrite", "b", "b", "k", b64(b"new"))
    there = {"value": b64(b"new"), "in-batch": b64(b"new"), "exists": True, "listed": True}
    assert before == deleted == {**MISSING, "keys": 1}
    assert written == {**there, "keys": 2}
    before, written, deleted = await kv.ok("rewrite", "b", "b", "other", b64(b"new"))
    assert before["value"] == b64(b"other") and before["keys"] == 1
    assert written == {**there, "keys": 1} and deleted == {**MISSING, "keys": 0}
    assert await kv.ok("keys", "b") == []


async def test_a_call_sees_its_own_writes_by_another_name(kv: KeyValue) -> None:
    """`fixed` is a ReadOnly name of the bucket that `open` is."""
    before, written, deleted = await kv.ok("rewrite", "open", "fixed", "k", b64(b"new"))
    assert written == {"value": b64(b"new"), "in-batch": b64(b"new"), "exists": True, "listed": True, "keys": 1}
    assert before == deleted == {**MISSING, "keys": 0}
    _, written, _ = await kv.ok("rewrite", "open", "other", "k", b64(b"new"))
    assert written == {**MISSING, "keys": 0}, "the control: a bucket that is another one"


async def test_buckets_are_apart_and_shared_by_instances(kv: KeyValue) -> None:
    await kv.ok("set", "one", "k", b64(b"1"), instance="a")
    assert await kv.ok("get", "one", "k", instance="b") == b64(b"1")
    assert await kv.ok("get", "two", "k", instance="a") is None
    assert await kv.ok("keys", "two", instance="a") == []


async def test_odd_keys(kv: KeyValue) -> None:
    keys = ["", *kv.odd]
    for key in keys:
        await kv.ok("set", "b", key, b64(key.encode()))
    for key in keys:
        assert await kv.ok("get", "b", key) == b64(key.encode())
    assert await kv.ok("get-many", "b", keys) == [b64(key.encode()) for key in keys]
    assert sorted(await kv.ok("keys", "b")) == sorted(keys)
    await kv.ok("delete", "b", "")
    assert sorted(await kv.ok("keys", "b")) == sorted(kv.odd)


async def test_odd_bucket_names(kv: KeyValue) -> None:
    for name in kv.odd:
        await kv.ok("set", name, "k", b64(name.encode()))
    for name in kv.odd:
        assert await kv.ok("get", name, "k") == b64(name.encode())
        assert await kv.ok("keys", name) == ["k"], "no bucket sees the keys of one whose name is like its own"
    said = await kv.refused("set", "x" * 1025, "k", "")
    assert said == "no such store" if kv.modern else "1 to 1024 bytes" in said


async def test_the_bucket_without_a_name_is_the_default_one(kv: KeyValue) -> None:
    await kv.ok("set", "", "k", b64(b"v"))
    assert await kv.ok("get", "default", "k") == b64(b"v")
    assert await kv.ok("get", "other", "k") is None


async def test_a_large_value(kv: KeyValue) -> None:
    value = random.Random(1).randbytes(kv.value)
    await kv.ok("set", "b", "k", b64(value))
    assert await kv.ok("get", "b", "k") == b64(value)
    assert await kv.ok("get-many", "b", ["k", "k"]) == [b64(value)] * 2


async def test_more_keys_than_a_page_has(kv: KeyValue) -> None:
    keys = [f"key-{number:05}" for number in range(2500)]
    for at in range(0, len(keys), kv.most):
        await kv.ok("set-many", "b", [[key, b64(key.encode())] for key in keys[at : at + kv.most]])
    assert sorted(await kv.ok("keys", "b")) == keys
    assert await kv.ok("get-many", "b", keys) == [b64(key.encode()) for key in keys]
    # The new key sorts into the middle of a page that the store has not seen yet.
    before, written, deleted = await kv.ok("rewrite", "b", "b", "key-01500a", b64(b"x"))
    assert (before["keys"], written["keys"], deleted["keys"]) == (2500, 2501, 2500)
    assert written["listed"] and not deleted["listed"]
    for at in range(0, len(keys) - 1, kv.most):
        await kv.ok("delete-many", "b", keys[at : min(at + kv.most, len(keys) - 1)])
    assert await kv.ok("keys", "b") == keys[-1:]


async def test_refusals_are_the_interfaces_own_errors(open_host: Open) -> None:
    async with open_host("Deny") as kv:
        for function, args in (
            ("get", ["k"]), ("set", ["k", ""]), ("delete", ["k"]), ("exists", ["k"]), ("keys", []),
            ("get-many", [["k"]]), ("set-many", [[["k", ""]]]), ("delete-many", [["k"]]),
        ):  # fmt: skip
            for name in ("undeclared", ""):
                said = await kv.refused(function, name, *args)
                assert said == "no such store" if kv.modern else f"{name or 'default'!r} is not declared" in said
        await kv.ok("set", "open", "k", b64(b"v"))
        for function, args in (
            ("set", ["k", ""]), ("delete", ["k"]), ("set-many", [[["k", ""]]]), ("delete-many", [["k"]])
        ):  # fmt: skip
            said = await kv.refused(function, "fixed", *args)
            assert said == "access denied" if kv.modern else "ReadOnly" in said
        assert await kv.ok("get", "fixed", "k") == b64(b"v"), "what is ReadOnly may be read, and was not written"
        assert "a value of 9 bytes" in await kv.refused("set", "small", "k", b64(bytes(9)))
        for function in ("get", "exists", "delete"):
            assert "a key of 9 bytes" in await kv.refused(function, "small", "k" * 9)
        # A refused batch has written nothing, not even the part that would have been fine.
        assert "allows 8" in await kv.refused("set-many", "small", [["fine", ""], ["k", b64(bytes(9))]])
        assert await kv.ok("keys", "small") == []
        await kv.ok("set", "small", "k" * 8, b64(bytes(8)))
        assert await kv.ok("keys", "small") == ["k" * 8], "the bound itself is allowed"


async def test_a_refusal_leaves_the_rest_of_the_call(open_host: Open) -> None:
    """The control of the test above: a guest goes on after an error value, as it could not after a trap."""
    async with open_host("Deny") as kv:
        assert await kv.ok("increment", "open", "n") == 1
        assert "ReadOnly" in (said := await kv.refused("increment", "fixed", "n")) or said == "access denied"
        assert await kv.ok("increment", "open", "n") == 2
        assert await kv("calls") == 2


async def test_replay_takes_the_same_way(open_host: Open) -> None:
    """One instance in memory at a time: each call of the other rebuilds this one from its journal."""
    async with open_host("Deny", maxInstancesInMemory=1) as kv:
        for number in range(1, 4):
            assert await kv.ok("increment", "open", "n", instance="a") == 2 * number - 1
            assert await kv.ok("increment", "open", "n", instance="b") == 2 * number
            await kv.ok("rewrite", "open", "open", f"k{number}", b64(b"v"))
            await kv.ok("set-many", "open", [["x", b64(b"1")], ["y", ""]])
            assert await kv.ok("get-many", "open", ["x", "none", "y"]) == [b64(b"1"), None, ""]
            assert await kv.ok("keys", "open") == ["n", "x", "y"]
            await kv.ok("delete-many", "open", ["x", "y"])
            await kv.refused("get", "undeclared", "k")
        assert await kv("calls", instance="a") == 3
        assert await kv("calls", instance="b") == 3
