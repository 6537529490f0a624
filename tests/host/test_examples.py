"""The examples' manifests, and that the Python one keeps what it promises."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest

from perdure.manifests.load import load_manifests
from support.examples import EXAMPLES, data_directory, made_example
from support.hosts import EXAMPLE, ROOT, Client, HostProcess, local_host, retry

LARGEST = 2**64 - 1
# Where nothing was compiled or built before, the first test pays for the Python example.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def local(tmp_path: Path) -> Path:
    return made_example("counter", tmp_path)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return data_directory(tmp_path)


@pytest.mark.parametrize("example", EXAMPLES)
def test_manifests_are_valid(example: str) -> None:
    for name in ("local.yaml", "worker.yaml"):
        text = (ROOT / "examples" / example / name).read_text()
        (worker,) = load_manifests(text, source=name).workers
        assert worker.name == example


async def test_the_counter_counts_in_a_bucket_and_in_memory(local: Path, data: Path) -> None:
    async with local_host(local, data) as (_, client):
        assert await client.call("a", "total") == (200, {"ok": 0})
        for number in range(1, 13):
            assert await client.call("a", "add", number) == (200, {"ok": number * (number + 1) // 2})
        assert await client.call("a", "calls") == (200, 12)
        assert await client.call("a", "recent") == (200, list(range(12, 2, -1)))
        assert await client.call("a", "reset") == (200, {"ok": None})
        assert await client.call("a", "total") == (200, {"ok": 0})
        assert await client.call("a", "calls") == (200, 12)
        assert await client.call("b", "total") == (200, {"ok": 0}), "every instance counts for itself"
        assert await client.call("b", "recent") == (200, [])


async def test_the_counter_keeps_idempotency_keys(local: Path, data: Path) -> None:
    async with local_host(local, data) as (_, client):
        for _ in range(3):
            assert await client.call("a", "add", 5, key="one") == (200, {"ok": 5})
        status, problem = await client.call("a", "add", 6, key="one")
        assert (status, problem["code"]) == (409, "idempotency-conflict")
        assert await client.call("a", "add", 5) == (200, {"ok": 10}), "without a key it is another call"
        assert await client.call("a", "calls") == (200, 2)


async def test_the_counter_survives_a_killed_host(local: Path, data: Path) -> None:
    host = HostProcess(local, data)
    expected = 0
    try:
        for life in range(3):
            host.start()
            async with aiohttp.ClientSession() as session:
                client = Client(host.url, session)
                for number in (life + 1, 10):
                    expected += number
                    assert await client.call("a", "add", number, key=f"{life}-{number}") == (200, {"ok": expected})
                host.kill()
                assert host.wait() == -9
        host.start()
        async with aiohttp.ClientSession() as session:
            client = Client(host.url, session)
            assert await client.call("a", "add", 10, key="0-10") == (200, {"ok": 11}), "the first life's answer"
            assert await client.call("a", "total") == (200, {"ok": 36})
            assert await client.call("a", "calls") == (200, 6)
            assert await client.call("a", "recent") == (200, [10, 3, 10, 2, 10, 1])
            assert await client.call("b", "calls") == (200, 0)
    finally:
        host.stop()


@pytest.mark.parametrize("point", ["guest.done", "commit.after"])
async def test_the_counter_killed_in_the_middle_of_a_call(point: str, local: Path, data: Path) -> None:
    host = HostProcess(local, data)
    try:
        host.start(PERDURE_FAULTPOINT=f"{point}:2")
        async with aiohttp.ClientSession() as session:
            client = Client(host.url, session)
            assert await client.call("a", "add", 1, key="one") == (200, {"ok": 1})
            with pytest.raises(aiohttp.ClientError):
                await client.call("a", "add", 2, key="two")
            assert host.wait() == -9
            host.start()
            assert await retry(client, "a", "add", 2, key="two") == {"ok": 3}
            assert await client.call("a", "calls") == (200, 2)
            assert await client.call("a", "recent") == (200, [2, 1])
    finally:
        host.stop()


async def test_the_counter_says_what_it_cannot_do(local: Path, data: Path) -> None:
    async def answers(change: Callable[[str], str], function: str, argument: int) -> object:
        changed = local.with_name("changed.yaml")
        changed.write_text(change(local.read_text()))
        async with local_host(changed, data) as (_, client):
            assert await client.call("a", "calls") == (200, 0)
            status, answer = await client.call("a", function, argument)
            assert await client.call("a", "calls") == (200, 0), "what was refused is not counted"
        assert status == 200
        return answer

    undeclared = await answers(lambda text: text.replace("counters", "others"), "add", 1)
    assert undeclared == {"err": "the Worker's manifest has no bucket 'counters'"}
    readonly = await answers(lambda text: text.replace("scope: Instance", "access: ReadOnly"), "add", 1)
    assert readonly == {"err": "the Worker may not write to the bucket 'counters'"}
    small = await answers(lambda text: text.replace("scope: Instance", "maxValueBytes: 1"), "add", 10)
    assert "a value of 2 bytes" in str(small)
    async with local_host(local, data) as (_, client):
        assert await client.call("a", "add", LARGEST) == (200, {"ok": LARGEST})
        status, answer = await client.call("a", "add", 1)
        assert status == 200 and f"{LARGEST + 1} is more than" in answer["err"]
        assert (await client.call("a", "add", LARGEST + 1))[0] == 422
        assert await client.call("a", "recent") == (200, [LARGEST])
        assert await client.call("a", "total") == (200, {"ok": LARGEST})


async def test_a_python_exception_is_a_trap_that_changes_nothing(local: Path, data: Path) -> None:
    """A bucket that two Workers share, so that one can write what the other does not expect."""
    shared = local.read_text().replace("scope: Instance", "scope: Namespace")
    local.write_text(shared)
    other = local.with_name("other.yaml")
    shutil.copy(EXAMPLE, local.with_name("key-value.wasm"))
    other.write_text(shared.replace("name: counter\n", "name: other\n").replace("counter.wasm", "key-value.wasm"))

    async def write(value: str) -> None:
        async with local_host(other, data) as (_, client):
            assert await client.call("a", "set", "counters", "total", value) == (200, None)

    async with local_host(local, data) as (_, client):
        assert await client.call("a", "add", 3) == (200, {"ok": 3})
    await write("bm90IGEgbnVtYmVy")
    async with local_host(local, data) as (_, client):
        for function, args in (("add", [1]), ("total", [])):
            status, problem = await client.call("a", function, *args)
            assert isinstance(problem, dict)
            assert (status, problem["code"]) == (500, "guest-trapped")
            assert "ValueError: invalid literal for int() with base 10: b'not a number'" in problem["stderr"]
        assert await client.call("a", "recent") == (200, [3]), "its memory is as it was before"
    await write("NDA=")
    async with local_host(local, data) as (_, client):
        assert await client.call("a", "add", 2) == (200, {"ok": 42})
        assert await client.call("a", "recent") == (200, [2, 3])


async def test_what_componentize_py_leaves_exported_is_harmless(local: Path, data: Path) -> None:
    """It initializes the interpreter when the component is built. Called later, it traps."""
    symbols = ("exports", "resources", "records", "flags", "tuples", "variants", "enums", "options", "results")
    async with local_host(local, data) as (_, client):
        assert await client.call("a", "add", 3) == (200, {"ok": 3})
        status, problem = await client.call("a", "exports.init", "app", {name: [] for name in symbols}, False)
        assert (status, problem["code"]) == (500, "guest-trapped")
        assert await client.call("a", "recent") == (200, [3])
