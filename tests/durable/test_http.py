"""HTTP requests of guests: once in the guest, at least once at the wire and under one key, wherever a process dies."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from perdure.component.component import BoundComponent, Component
from perdure.component.engine import Engine
from perdure.durable.calls import CallPayload, encode
from perdure.durable.effects import BucketAddress, Scope
from perdure.durable.inbox import NewCall
from perdure.durable.instance import DurableInstance
from perdure.durable.journal import call_fingerprint
from perdure.durable.pending import run_next
from perdure.durable.policy import BucketPolicy
from perdure.durable.settings import CommitMode, RetryPolicy
from perdure.durable.store import Store
from perdure.errors import AsyncCallFailed, GuestTrapped, InvocationTimeout
from perdure.host.app import guest_interfaces
from perdure.host.outgoing import OutgoingHttp
from perdure.manifests.worker import Http
from perdure.wasi.http.exchanges import Exchanges
from perdure.wasi.http.messages import HttpRequest
from perdure.wasi.recorder import Plain
from support.crashing import Crash, Fuse, all_crashing
from support.engine import call, deadline, environment, fresh_stores, invocation, library
from support.guests import guest
from support.web import KEY, Shop, shop_server

FAR = BucketPolicy("far", "away")
Json = Any


@pytest.fixture
async def web(engine: Engine) -> BoundComponent:
    return (await Component.load(engine, guest("web").read_bytes())).bind(guest_interfaces())


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    async with shop_server() as server:
        yield server


@pytest.fixture
async def client(shop: Shop) -> AsyncIterator[OutgoingHttp]:
    made = OutgoingHttp(Http(allow=(f"127.0.0.1:{shop.port}",), max_body_bytes=1 << 20))
    yield made
    await made.close()


class Silent:
    """A client that must not be used."""

    max_body = 7

    def refusal(self, scheme: str, authority: str) -> str | None:
        raise AssertionError("replay asks for no permission")

    async def send(self, request: HttpRequest) -> Plain:
        raise AssertionError("replay sends nothing")


class Dying:
    """The client of a process that may die at each of its requests."""

    def __init__(self, client: OutgoingHttp, fuse: Fuse) -> None:
        self._client = client
        self._fuse = fuse
        self.max_body = client.max_body
        self.refusal = client.refusal

    async def send(self, request: HttpRequest) -> Plain:
        return await self._fuse.carry_out("send", lambda: self._client.send(request))


def request(url: str, body: bytes = b"", method: str = "POST", patience: int = 0, **headers: str) -> Json:
    return {
        "method": method,
        "url": url,
        "headers": [[name.replace("_", "-"), value] for name, value in headers.items()],
        "body": list(body),
        "patience": patience,
    }


async def run(instance: DurableInstance, bound: BoundComponent, *steps: Json, key: str | None = None) -> Json:
    found = json.loads((await call(instance, bound, "run", list(steps), key=key)).body)
    return found if len(found) > 1 else found[0]


def text_of(outcome: Json) -> str:
    import base64

    return base64.b64decode(outcome["answer"]["body"]).decode()


async def opened(
    bound: BoundComponent, stores: Mapping[str, Store], client: object, **settings: object
) -> DurableInstance:
    code = library(bound)
    made = environment(stores, FAR, http=client, **settings)
    return await DurableInstance.open("alice", code, made, deadline=deadline())


async def test_an_answer_is_recorded_and_replay_sends_nothing(
    web: BoundComponent, shop: Shop, client: OutgoingHttp, home: Store
) -> None:
    stores = {"home": home}
    instance = await opened(web, stores, client)
    steps = [{"fetch": request(f"{shop.url}/charge", b"apples")}, {"remember": 5}]
    answer = await run(instance, web, *steps, key="k")
    assert text_of(answer[0]) == "charge 1 apples"
    assert answer[0]["answer"]["status"] == 200
    assert ["X-Number", "1"] in answer[0]["answer"]["headers"]
    assert instance.sequence == 2, "a gate, and the end"
    instance.close()
    again = await opened(web, stores, Silent())
    assert json.loads((await call(again, web, "memory")).body) == 5
    assert await run(again, web, *steps, key="k") == answer
    again.close()
    assert len(shop.requests) == 1


async def test_what_is_sent(web: BoundComponent, shop: Shop, client: OutgoingHttp) -> None:
    instance = await opened(web, fresh_stores(), client)
    sent = request(f"{shop.url}/echo?a=%2F&b", b"data", "PUT", x_mine="1", accept="text/plain")
    text = text_of(await run(instance, web, {"fetch": sent}, key="k"))
    lines = text.split("\n")
    assert lines[0] == "PUT /echo?a=%2F&b" and lines[-1] == "data"
    named = {line.partition(":")[0].lower() for line in lines[1:-1]}
    assert named == {"host", "x-mine", "accept", "idempotency-key", "content-length"}, "nothing of the host's own"
    # One the guest has set stays.
    text = text_of(await run(instance, web, {"fetch": request(f"{shop.url}/echo", idempotency_key="mine")}))
    assert "mine" in text
    # A redirect is an answer like any other.
    found = await run(instance, web, {"fetch": request(f"{shop.url}/redirect", method="GET")})
    assert found["answer"]["status"] == 302
    instance.close()
    assert shop.charges == {}


async def test_requests_at_once_have_one_gate(web: BoundComponent, shop: Shop, client: OutgoingHttp) -> None:
    instance = await opened(web, fresh_stores(), client)
    shop.met = asyncio.Barrier(4)
    steps = {"fetch-all": [request(f"{shop.url}/together", b"%d" % number) for number in range(4)]}
    answers = (await run(instance, web, steps))["answers"]
    assert [answer["ok"]["status"] for answer in answers] == [200] * 4
    assert instance.sequence == 2
    assert len({item.headers[KEY] for item in shop.requests}) == 4
    instance.close()


@pytest.mark.parametrize("applied", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("mode", list(CommitMode))
async def test_a_crash_at_every_operation(
    web: BoundComponent, client: OutgoingHttp, shop: Shop, mode: CommitMode, applied: bool
) -> None:
    boundaries, sent = await sweep(web, client, shop, mode, applied=applied)
    assert boundaries >= {"claim", "commit", "send"}
    assert sent > 5 if applied else sent >= 5, "some request was sent again"


async def sweep(
    web: BoundComponent, client: OutgoingHttp, shop: Shop, mode: CommitMode, *, applied: bool
) -> tuple[set[str], int]:
    """Crash at each operation in turn; which there were, and the most requests that came."""
    charge = f"{shop.url}/charge"
    steps: list[Json] = [
        {"add": ["near", "n", 1]},
        {"fetch": request(charge, b"one")},
        {"put": ["far", "k", "QUJD"]},
        {"fetch": request(charge, b"two")},
        {"add": ["near", "n", 1]},
        {"fetch-all": [request(charge, b"three"), request(charge, b"four")]},
        {"remember": 1},
    ]
    boundaries: set[str] = set()
    most = operations = 0
    while True:
        operations += 1
        shop.charges.clear()
        shop.bodies.clear()
        fuse = Fuse(operations, applied=applied)
        plain = fresh_stores()
        stores, http = all_crashing(plain, fuse), Dying(client, fuse)
        crashes = 0
        answers: list[Json] = []
        after: Json = None
        while after is None:
            instance: DurableInstance | None = None
            try:
                instance = await opened(web, stores, http, commit=mode)
                answers = await run(instance, web, *steps, key="first")
                after = await run(instance, web, {"fetch": request(charge, b"five")}, key="second")
            except Crash:
                crashes += 1
            finally:
                if instance is not None:
                    instance.close()
        where = f"crash at operation {operations} ({fuse.burnt})"
        assert [text_of(answers[1]), text_of(answers[3])] == ["charge 1 one", "charge 2 two"], where
        assert [answers[0], answers[4], answers[6]] == [{"number": 1}, {"number": 2}, {"number": 1}], where
        assert text_of(after) == "charge 5 five", where
        assert sorted(shop.charges.values()) == [b"five", b"four", b"one", b"three", b"two"], where
        assert shop.misused == [], where
        assert await plain["home"].get_many(BucketAddress(Scope.WORKER, "near"), ["n"]) == [b"2"], where
        again = await opened(web, plain, Silent())
        assert json.loads((await call(again, web, "memory")).body) == 1, where
        again.close()
        most = max(most, len(shop.bodies))
        if not crashes:
            return boundaries, most
        boundaries.add(fuse.burnt or "")


async def test_without_a_key_of_its_own_a_request_is_doubled(
    web: BoundComponent, client: OutgoingHttp, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: the same crashes with a new key for each sending."""
    monkeypatch.setattr(Exchanges, "_key", lambda self, ordinal: uuid.uuid4().hex)
    with pytest.raises(AssertionError, match=r"crash at operation \d+ \(send\)"):
        await sweep(web, client, shop, CommitMode.INVOCATION, applied=True)


async def test_keys_tell_calls_apart(web: BoundComponent, client: OutgoingHttp, shop: Shop) -> None:
    instance = await opened(web, fresh_stores(), client)
    for key in ("a", "b", None, None):
        await run(instance, web, {"fetch": request(f"{shop.url}/charge", b"x")}, key=key)
    # A call that trapped and is tried again asks for the same.
    with pytest.raises(GuestTrapped):
        await run(instance, web, {"fetch": request(f"{shop.url}/charge", b"x")}, "trap", key="c")
    instance.close()
    assert len(shop.charges) == 5 and len(shop.bodies) == 5


async def test_a_trapped_call_that_is_repeated_is_recognised(
    web: BoundComponent, client: OutgoingHttp, shop: Shop
) -> None:
    """An asynchronous one is tried again, and sends the same under the same key."""
    stores, code = fresh_stores(), library(web)
    settings = environment(stores, http=client, retry=RetryPolicy(max_attempts=3, initial_ms=1, max_ms=1))
    steps = [{"fetch": request(f"{shop.url}/charge", b"x")}, "trap"]
    made = invocation(web, "run", steps)
    payload = encode(CallPayload(made.function.path, made.arguments, 0))
    new = NewCall("c", call_fingerprint(made.function.path, made.arguments), payload, None)
    await stores["home"].enqueue("alice", new, 10)
    for attempts in (1, 2):
        instance = await DurableInstance.open("alice", code, settings, deadline=deadline())
        while not (await run_next(instance, settings, deadline())).ran:
            await asyncio.sleep(0.01)
        instance.close()
        assert (len(shop.charges), len(shop.bodies)) == (1, attempts)
    # A synchronous one has failed once and for all.
    instance = await DurableInstance.open("bob", code, settings, deadline=deadline())
    with pytest.raises(GuestTrapped):
        await run(instance, web, *steps, key="d")
    instance = await DurableInstance.open("bob", code, settings, deadline=deadline())
    with pytest.raises(AsyncCallFailed):
        await run(instance, web, *steps, key="d")
    instance.close()
    code.close()
    assert (len(shop.charges), len(shop.bodies)) == (2, 3)


async def test_what_goes_wrong_is_the_interfaces_own_error(
    web: BoundComponent, client: OutgoingHttp, shop: Shop, unused_tcp_port: int
) -> None:
    allow = (
        f"127.0.0.1:{shop.port}",
        f"127.0.0.1:{unused_tcp_port}",
        "*.example.com",
        "rebound.test",
        "no-such-name.invalid",
    )
    wide = OutgoingHttp(Http.model_validate({"allow": allow, "max_body_bytes": 1000, "timeout": "500ms"}))
    instance = await opened(web, fresh_stores(), wide)

    async def failed(url: str, **more: Any) -> str:
        return str((await run(instance, web, {"fetch": request(url, **more)}))["failed"])

    assert "HttpRequestDenied" in await failed("http://127.0.0.1:1/")
    assert "HttpRequestDenied" in await failed("https://example.com/")
    assert "HttpRequestDenied" in await failed("http://localhost/")
    assert "ConnectionRefused" in await failed(f"http://127.0.0.1:{unused_tcp_port}/")
    assert "DnsError" in await failed("http://no-such-name.invalid/")
    assert "HttpResponseBodySize" in await failed(f"{shop.url}/large?n=1001", method="GET")
    assert "HttpResponseIncomplete" in await failed(f"{shop.url}/half", method="GET")
    assert "HttpResponseTimeout" in await failed(f"{shop.url}/slow", method="GET")
    assert "HttpResponseTimeout" in await failed(f"{shop.url}/slow", method="GET", patience=50)
    assert "HttpRequestMethodInvalid" in await failed(f"{shop.url}/", method="CONNECT")
    assert await failed(f"{shop.url}/echo", body=bytes(1001)) == "an HTTP body may have at most 1,000 bytes"
    assert await failed("http://user@127.0.0.1/") == "authority"
    assert await failed(f"{shop.url}/a b") == "path"
    assert await failed(f"{shop.url}/", method="GE T") == "method"
    assert "Forbidden" in await failed(f"{shop.url}/", host="other")
    assert "InvalidSyntax" in await failed(f"{shop.url}/", x="a\r\nHost: other")
    instance.close()
    await wide.close()


async def test_a_name_at_an_address_of_this_machine(web: BoundComponent, shop: Shop) -> None:
    """Names lead to loopback and metadata addresses only where those are listed themselves."""

    class Rebound:
        async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[dict[str, object]]:
            return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": family, "proto": 0, "flags": 0}]

        async def close(self) -> None:
            return None

    tricked = OutgoingHttp(Http(allow=(f"rebound.test:{shop.port}", f"localhost:{shop.port}")))
    session = tricked._get_session()
    session.connector._resolver._inner = Rebound()  # type: ignore[union-attr]
    instance = await opened(web, fresh_stores(), tricked)
    found = await run(instance, web, {"fetch": request(f"http://rebound.test:{shop.port}/echo")})
    assert "DestinationIpProhibited" in found["failed"]
    assert shop.requests == []
    # The control: the same address under the one name that may.
    found = await run(instance, web, {"fetch": request(f"http://localhost:{shop.port}/echo")})
    assert found["answer"]["status"] == 202
    instance.close()
    await tricked.close()


async def test_a_changed_manifest_does_not_change_the_past(
    web: BoundComponent, client: OutgoingHttp, shop: Shop
) -> None:
    stores = fresh_stores()
    instance = await opened(web, stores, client)
    await run(instance, web, {"fetch": request(f"{shop.url}/charge", bytes(900))}, {"remember": 3})
    assert "HttpRequestDenied" in (await run(instance, web, {"fetch": request("http://127.0.0.1:1/")}))["failed"]
    assert "most 1,048,576 bytes" in json.loads((await call(instance, web, "long-body", 2 << 20)).body)
    instance.close()
    narrow = OutgoingHttp(Http(allow=(), max_body_bytes=10))
    again = await opened(web, stores, narrow)
    assert json.loads((await call(again, web, "memory")).body) == 3
    assert "HttpRequestDenied" in (await run(again, web, {"fetch": request(f"{shop.url}/charge")}))["failed"]
    assert "most 10 bytes" in json.loads((await call(again, web, "long-body", 11)).body)
    again.close()
    await narrow.close()


async def test_a_request_nobody_waits_for_is_not_sent(web: BoundComponent, client: OutgoingHttp, shop: Shop) -> None:
    instance = await opened(web, fresh_stores(), client)
    found = await run(instance, web, {"forget": request(f"{shop.url}/charge")}, {"remember": 1})
    assert found[1] == {"number": 1}
    await asyncio.sleep(0.1)
    assert shop.requests == []
    instance.close()


async def test_a_slow_answer_ends_with_its_call(web: BoundComponent, client: OutgoingHttp, shop: Shop) -> None:
    from perdure.durable.instance import Invocation

    stores = fresh_stores()
    instance = await opened(web, stores, client)
    function = next(func for func in web.component.exports if func.name == "run")
    steps = json.dumps([[{"fetch": request(f"{shop.url}/slow?s=20", method="GET")}]]).encode()
    loop = asyncio.get_running_loop()
    with pytest.raises(InvocationTimeout):
        await instance.invoke(Invocation(function, steps, None, loop.time() + 0.3))
    instance.close()
    again = await opened(web, stores, client)
    assert await run(again, web, {"remember": 1}) == {"number": 1}
    again.close()


async def test_an_answer_that_is_kept_refuses_the_snapshot_by_name(
    web: BoundComponent, client: OutgoingHttp, shop: Shop
) -> None:
    from perdure.errors import SnapshotRefused

    stores = fresh_stores()
    instance = await opened(web, stores, client)
    await run(instance, web, {"fetch": request(f"{shop.url}/charge", b"x")})
    taken = await instance.capture()
    assert taken is not None, "an answer that was read and dropped is in nobody's way"
    await call(instance, web, "keep", request(f"{shop.url}/charge", b"y"))
    with pytest.raises(SnapshotRefused, match="incoming-response"):
        await instance._runner.capture(None, None)
    instance.close()
    again = await opened(web, stores, Silent())
    assert json.loads((await call(again, web, "memory")).body) == 0
    again.close()


HEADERS = [
    ("x-mine", b"v", "ok"), ("X-Mine", "ü".encode(), "ok"), ("x", b"", "ok"), ("", b"v", "invalid-syntax"),
    ("a b", b"v", "invalid-syntax"), ("a:", b"v", "invalid-syntax"), ("x", b"a\nb", "invalid-syntax"),
    ("x", b"a\r\nb: c", "invalid-syntax"), ("x", b"\0", "invalid-syntax"), ("ö", b"v", "invalid-syntax"),
    ("Host", b"v", "forbidden"), ("connection", b"v", "forbidden"), ("Transfer-Encoding", b"chunked", "forbidden"),
    ("UPGRADE", b"v", "forbidden"), ("keep-alive", b"v", "forbidden"),
]  # fmt: skip


async def test_fields(web: BoundComponent, client: OutgoingHttp) -> None:
    instance = await opened(web, fresh_stores(), client)
    for name, value, expected in HEADERS:
        found = json.loads((await call(instance, web, "header", name, list(value))).body)
        assert found == expected, (name, value)
    instance.close()
