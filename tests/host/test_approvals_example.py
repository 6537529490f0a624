"""The Rust example of a durable workflow: its host may be killed wherever it is, and it is paid for once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest

from support.custom import with_section
from support.examples import compiled_example, data_directory, made_example
from support.hosts import Client, HostProcess, local_host

# Where nothing was built before, the first test pays for it.
pytestmark = pytest.mark.timeout(600)


@dataclass
class Office:
    """A host that is started again where it was killed, and a client that goes on asking."""

    host: HostProcess
    deaths: int = 0
    promise: str = field(default="", init=False)

    def start(self, point: str = "") -> None:
        self.host.start(PERDURE_FAULTPOINT=point)

    async def ask(self, method: str, path: str, **options: object) -> tuple[int, object]:
        async with asyncio.timeout(60):
            while True:
                if self.host.process is not None and self.host.process.poll() is not None:
                    assert self.host.wait() == -9
                    self.deaths += 1
                    self.start()
                try:
                    connector = aiohttp.TCPConnector(force_close=True)
                    async with (
                        aiohttp.ClientSession(connector=connector) as session,
                        session.request(method, f"{self.host.url}/v1/{path}", **options) as reply,  # type: ignore[arg-type]
                    ):
                        answer = await (reply.json(content_type=None) if "json" in reply.content_type else reply.text())
                        # Not there yet, or not possible now.
                        if reply.status not in (404, 503):
                            return reply.status, answer
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.05)

    async def call(self, instance: str, function: str, *args: object, key: str, prefer: str = "") -> object:
        headers = {"Idempotency-Key": key, **({"Prefer": prefer} if prefer else {})}
        path = f"instances/{instance}/functions/{function}"
        status, answer = await self.ask("POST", path, json=list(args), headers=headers)
        assert status in (200, 202), answer
        return answer

    async def buy(self, what: str, cost: int) -> None:
        """Up to where it waits for its promise, and it may be approved."""
        await self.call(what, "buy", f"a {what}", cost, "office", key="buy", prefer="respond-async")
        status, promise = await self.ask("GET", f"buckets/waiting/keys/{what}")
        assert status == 200 and isinstance(promise, str)
        self.promise = promise

    async def approve(self) -> None:
        status, _ = await self.ask("POST", f"promises/{self.promise}", data=b"Ada")
        assert status == 200

    async def bought(self, what: str) -> object:
        async with asyncio.timeout(60):
            while True:
                _, found = await self.ask("GET", f"instances/{what}/invocations/buy", headers={"Prefer": "wait=1"})
                assert isinstance(found, dict)
                if found["state"] == "succeeded":
                    return found["result"]


@pytest.mark.parametrize("point", ["commit.after:3", "commit.after:4", "commit.before:5"])
async def test_killed_around_the_payment(point: str, tmp_path: Path) -> None:
    """Commits: 1 the grant, 2 the promise, 3 what comes before the payment, 4 the payment, 5 the end."""
    office = Office(HostProcess(made_example("approvals", tmp_path), data_directory(tmp_path)))
    try:
        office.start(point)
        await office.call("office", "grant", 500, key="grant")
        await office.buy("desk", 400)
        await office.approve()
        assert await office.bought("desk") == {"ok": 100}
        assert office.deaths == 1
        assert await office.call("office", "payments", key="look") == [400]
        note = await office.ask("GET", "buckets/purchases/keys/desk")
        assert note == (200, "400 of office for a desk, approved by Ada")
        assert await office.ask("GET", "buckets/waiting/keys") == (200, {"keys": [], "cursor": None})
        # Negative control: a payment under another key is another payment.
        assert [await office.call("office", "spend", 40, key=key) for key in "aab"] == [60, 60, 20]
    finally:
        office.host.stop()


async def test_killed_while_it_waits_and_while_it_sleeps(tmp_path: Path) -> None:
    office = Office(HostProcess(made_example("approvals", tmp_path), data_directory(tmp_path)))
    try:
        office.start()
        await office.call("office", "grant", 100, key="1")
        await office.buy("chair", 300)
        office.host.kill()
        await office.approve()
        # It has asked in vain, and sleeps.
        async with asyncio.timeout(30):
            while len(await journal(office, "office")) < 2:
                await asyncio.sleep(0.05)
        office.host.kill()
        await office.call("office", "grant", 300, key="2")
        assert await office.bought("chair") == {"ok": 100}
        assert await office.call("office", "payments", key="look") == [300]
        assert office.deaths == 2
    finally:
        office.host.stop()


async def journal(office: Office, instance: str) -> list[object]:
    _, found = await office.ask("GET", f"instances/{instance}/journal")
    assert isinstance(found, dict) and isinstance(found["entries"], list)
    return found["entries"]


@pytest.mark.parametrize(("policy", "kept"), [("Migrate", [400]), ("Restart", [])])
async def test_what_a_budget_keeps_in_an_update(policy: str, kept: list[int], tmp_path: Path) -> None:
    manifest, data = made_example("approvals", tmp_path), data_directory(tmp_path)
    manifest.write_text(manifest.read_text().replace("update: Migrate", f"update: {policy}"))
    async with local_host(manifest, data) as (_, client):
        assert await client.call("office", "grant", 500) == (200, 500)
        assert await client.call("office", "spend", 400) == (200, 100)
    component = manifest.with_name("approvals.wasm")
    component.unlink()
    component.write_bytes(with_section(compiled_example("approvals").read_bytes(), "version", b"2"))
    async with local_host(manifest, data) as (_, client):
        assert await client.call("office", "payments") == (200, kept)
        assert await client.call("office", "grant", 0) == (200, 100 if kept else 0)


async def test_what_is_refused(tmp_path: Path) -> None:
    async with local_host(made_example("approvals", tmp_path), data_directory(tmp_path)) as (_, client):
        assert await client.call("office", "grant", 2**64 - 1) == (200, 2**64 - 1)
        status, problem = await client.call("office", "grant", 1)
        assert (status, problem["code"]) == (500, "guest-trapped")
        assert "no budget is that large" in problem["stderr"]
        assert await client.call("office", "grant", 0) == (200, 2**64 - 1), "nothing has changed"
        for budget, words in (
            ("desk", "cannot be asked: Error::Refused"),
            ("", "cannot be asked: Error::BadArguments"),
        ):
            assert words in str(await bought(client, budget))


async def bought(client: Client, budget: str) -> object:
    """What becomes of a purchase by `desk` that is approved."""
    waits = asyncio.create_task(client.call("desk", "buy", "a desk", 1, budget))
    promise = await waited_for(client, "desk")
    async with client.session.post(f"{client.url}/v1/promises/{promise}", data=b"Ada") as reply:
        assert reply.status == 200
    return (await waits)[1]


async def waited_for(client: Client, instance: str) -> str:
    async with asyncio.timeout(30):
        while True:
            async with client.session.get(f"{client.url}/v1/buckets/waiting/keys/{instance}") as reply:
                if reply.status == 200:
                    return await reply.text()
