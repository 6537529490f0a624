"""The examples that users copy: they start as the README says, and the Python one keeps what it promises."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest

from perdure.manifests.load import load_manifests
from support.guests import COMPILED
from support.hosts import EXAMPLE, ROOT, Client, HostProcess, local_host, retry

README = (ROOT / "README.md").read_text()
EXAMPLES = sorted(path.name for path in (ROOT / "examples").iterdir() if path.is_dir())
LARGEST = 2**64 - 1
# Where nothing was compiled or built before, the first test pays for the Python example.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def examples(counter: Path, tmp_path: Path) -> Path:
    """The checkout's `examples` after `make examples`, in a directory of its own."""
    copied = tmp_path / "checkout" / "examples"
    shutil.copytree(ROOT / "examples", copied, ignore=shutil.ignore_patterns("counter.wasm", "target"))
    (copied / "counter" / "counter.wasm").symlink_to(counter)
    return copied


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Where a host keeps its data; its compiled code is that of all tests."""
    made = tmp_path / "data"
    made.mkdir()
    COMPILED.mkdir(parents=True, exist_ok=True, mode=0o700)
    (made / "cache").symlink_to(COMPILED)
    return made


@pytest.mark.parametrize("example", EXAMPLES)
def test_manifests_are_valid(example: str) -> None:
    for name in ("local.yaml", "worker.yaml"):
        text = (ROOT / "examples" / example / name).read_text()
        (worker,) = load_manifests(text, source=name).workers
        assert worker.name == example


@pytest.mark.parametrize(
    ("example", "calls"),
    [
        ("key-value", {"set shop colour Ymx1ZQ==": "null", "get shop colour": '"Ymx1ZQ=="'}),
        ("counter", {"add 5": '{"ok":5}', "recent": "[5]"}),
    ],
)
def test_the_readmes_commands(example: str, calls: dict[str, str], examples: Path, data: Path) -> None:
    manifest = f"examples/{example}/local.yaml"
    assert f"perdure run {manifest}" in README
    host = HostProcess(Path(manifest), data, directory=examples.parent)
    try:
        host.start()
        for call, answer in calls.items():
            assert f"perdure invoke demo {call}" in README
            command = [str(Path(sys.executable).with_name("perdure")), "invoke", "demo", *call.split()]
            environment = {**os.environ, "PERDURE_URL": host.url}
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
            assert done.stdout.strip() == answer
    finally:
        host.stop()
    assert EXAMPLES == ["counter", "key-value"], "a new example needs its line here"


async def test_the_counter_counts_in_a_bucket_and_in_memory(examples: Path, data: Path) -> None:
    async with local_host(examples / "counter" / "local.yaml", data) as (_, client):
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


async def test_the_counter_keeps_idempotency_keys(examples: Path, data: Path) -> None:
    async with local_host(examples / "counter" / "local.yaml", data) as (_, client):
        for _ in range(3):
            assert await client.call("a", "add", 5, key="one") == (200, {"ok": 5})
        status, problem = await client.call("a", "add", 6, key="one")
        assert (status, problem["code"]) == (409, "idempotency-conflict")
        assert await client.call("a", "add", 5) == (200, {"ok": 10}), "without a key it is another call"
        assert await client.call("a", "calls") == (200, 2)


async def test_the_counter_survives_a_killed_host(examples: Path, data: Path) -> None:
    host = HostProcess(examples / "counter" / "local.yaml", data)
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
async def test_the_counter_killed_in_the_middle_of_a_call(point: str, examples: Path, data: Path) -> None:
    host = HostProcess(examples / "counter" / "local.yaml", data)
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


async def test_the_counter_says_what_it_cannot_do(examples: Path, data: Path) -> None:
    local = examples / "counter" / "local.yaml"

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


async def test_a_python_exception_is_a_trap_that_changes_nothing(examples: Path, data: Path) -> None:
    """A bucket that two Workers share, so that one can write what the other does not expect."""
    local = examples / "counter" / "local.yaml"
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


async def test_what_componentize_py_leaves_exported_is_harmless(examples: Path, data: Path) -> None:
    """It initializes the interpreter when the component is built. Called later, it traps."""
    symbols = ("exports", "resources", "records", "flags", "tuples", "variants", "enums", "options", "results")
    async with local_host(examples / "counter" / "local.yaml", data) as (_, client):
        assert await client.call("a", "add", 3) == (200, {"ok": 3})
        status, problem = await client.call("a", "exports.init", "app", {name: [] for name in symbols}, False)
        assert (status, problem["code"]) == (500, "guest-trapped")
        assert await client.call("a", "recent") == (200, [3])
