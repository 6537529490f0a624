"""Every setting of a bucket, on every provider: the same manifest means the same everywhere.

A guest of the fourth generation on real hosts, over each provider's real server; those that cannot be a home hold the
buckets of a Worker whose home is memory. The negative controls at the end leave out one setting each.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from yarl import URL

from keyvalue.test_generations import KeyValue
from perdure.durable import policy
from perdure.durable.effects import BucketAddress, Put, Scope
from perdure.durable.policy import ATTEMPTS, PROMISES, BucketCatalog, BucketPolicy
from perdure.durable.records import ForeignApply, WorkerId
from perdure.errors import InternalError
from perdure.keyvalue.bucket import LimitExceeded
from perdure.providers.redis import keys as redis_keys
from providers.worlds import FOREIGN, WORLDS, foreign_world_of
from support.guests import COMPILED, guest
from support.hosts import local_host
from support.keyvalue import b64

API = {"apiVersion": "perdure.dev/v1alpha1"}
FULL = "the bucket has as many keys as it may (maxKeys)"
HOSTILE = [
    "a", "A", "a:k", "a:x", "a:k:x", "a/b", "a/", "/a", "//", "a}b", "{a}", "{", "}{", "a\0b", "\0", "a\x1fb", "\x1f", "b:a",
    "o:alice:a", "i:alice", "pd:{ns/w}:b:a", "%61", "a%2Fb", "%~a", "..", ".", "a.b", "a.>", "*", ">", "$KV.a", "w/ns/w/b/a", " ",
    "a ", "\n", "ü", "u\u0308", "\U0010ffff", "x" * 1024, "x" * 1023, "é" * 512, "null", "'; DROP TABLE entries; --",
]  # fmt: skip
"""Names that some store might take for its own syntax, or for another one of them."""
PRINTABLE = ["a", "a:b", "a/b", "a%2Fb", "*", ">", "a.b", "é", "b:a", "o:a:b", "x" * 256]
"""Of these there may be instances."""


class Settings:
    """One provider, and hosts of several Workers on it."""

    def __init__(self, kind: str, documents: list[dict[str, Any]], directory: Path, stack: AsyncExitStack) -> None:
        self.kind = kind
        self._documents = documents
        self._directory = directory
        self._stack = stack
        self.run = uuid.uuid4().hex[:8]

    async def host(
        self, *declared: dict[str, Any], worker: str = "w", namespace: str = "ns", undeclared: str = "Deny", **more: Any
    ) -> KeyValue:
        """`declared`: buckets, at the provider. Workers and namespaces of one test are not those of another."""
        far = {"provider": "far"} if self.kind in FOREIGN else {}
        spec = {
            "component": {"url": f"file:{guest('kv-g4')}"},
            "limits": {"maxBodyBytes": "8Mi"},
            "keyValue": {
                "undeclaredBuckets": undeclared,
                "buckets": [{**far, **bucket} for bucket in declared],
                **more,
            },
        }
        name = {"name": worker, "namespace": f"{namespace}-{self.run}"}
        document = {**API, "kind": "Worker", "metadata": name, "spec": spec}
        manifest = self._directory / f"{uuid.uuid4().hex}.yaml"
        manifest.write_text("\n---\n".join(map(json.dumps, [*self._documents, document])))
        made = local_host(manifest, self._directory / "data", base=Path("/"), cache=COMPILED)
        _, client = await self._stack.enter_async_context(made)
        return KeyValue(client, modern=True, odd=[])


def settings_of(kind: str, server: Callable[[str], Any], directory: Path, stack: AsyncExitStack) -> Settings:
    """`server`: of a name, such as `redis`."""

    def provider(name: str, default: bool, spec: dict[str, Any]) -> dict[str, Any]:
        return {
            **API,
            "kind": "KeyValueProvider",
            "metadata": {"name": name},
            "spec": {"default": default, **spec},
        }

    match kind:
        case "etcd":
            found = [provider("far", False, {"etcd": {"endpoints": [server("etcd").url]}})]
        case "nats":
            found = [provider("far", False, {"nats": {"servers": [server("nats").url]}})]
        case "redis":
            found = [provider("home", True, {"redis": {"url": server("redis").url}})]
        case "redis-cluster":
            url = server("redis_nodes")[0].url
            found = [provider("home", True, {"redis": {"url": url, "cluster": True}})]
        case "postgres":
            url = f"postgres://127.0.0.1:{server('postgres').port}/postgres"
            found = [provider("home", True, {"postgres": {"url": url}})]
        case _:
            found = [provider("home", True, {kind: {}})]
    if kind in FOREIGN:
        found.append(provider("home", True, {"memory": {}}))
    return Settings(kind, found, directory, stack)


@pytest.fixture(params=sorted({**WORLDS, **FOREIGN}))
async def settings(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Settings]:
    monkeypatch.setenv("PERDURE_HOME_USERNAME", "postgres" if request.param == "postgres" else "")
    async with AsyncExitStack() as stack:
        yield settings_of(request.param, request.getfixturevalue, tmp_path, stack)


def bucket(name: str, **of: Any) -> dict[str, Any]:
    return {"name": name, **of}


async def listed(kv: KeyValue, name: str, instance: str | None = None) -> list[str]:
    """The keys that the API names."""
    which = "" if instance is None else f"&instance={quote(instance, safe='')}"
    path = f"/v1/buckets/{quote(name, safe='')}/keys?limit=1000{which}"
    async with kv.client.session.get(URL(kv.client.url + path, encoded=True)) as reply:
        assert reply.status == 200, await reply.text()
        document = await reply.json()
    return list(document["keys"])


# Who sees what.


async def test_scopes(settings: Settings) -> None:
    declared = [bucket("own", scope="Instance"), bucket("team"), bucket("all", scope="Namespace")]
    first, second = await settings.host(*declared), await settings.host(*declared, worker="other")
    stranger = await settings.host(*declared, namespace="away")
    for name in ("own", "team", "all"):
        await first.ok("set", name, "k", b64(b"1"), instance="alice")

    async def seen(kv: KeyValue, instance: str) -> list[bool]:
        found = []
        for name in ("own", "team", "all"):
            value = await kv.ok("get", name, "k", instance=instance)
            assert (await kv.ok("keys", name, instance=instance) == ["k"]) is (value is not None)
            found.append(value is not None)
        return found

    assert await seen(first, "alice") == [True, True, True]
    assert await seen(first, "bob") == [False, True, True]
    # On memory each process has its own world, and two hosts share nothing.
    shared = settings.kind != "memory"
    assert await seen(second, "alice") == [False, False, shared]
    assert await seen(stranger, "alice") == [False, False, False]
    # Nor does anybody delete what is not theirs.
    for kv, instance in ((first, "bob"), (second, "alice"), (stranger, "alice")):
        for name in ("own", "team", "all"):
            if (kv, name) not in ((first, "team"), (first, "all"), (second, "all")):
                await kv.ok("delete", name, "k", instance=instance)
    assert await seen(first, "alice") == [True, True, True]


async def test_instances_with_hostile_names_keep_their_own(settings: Settings) -> None:
    declared = [bucket(name, scope="Instance") for name in ("b", "a:b", "b:a", "a", "{a}")]
    kv = await settings.host(*declared)
    places = [(instance, of["name"]) for instance in PRINTABLE[:8] for of in declared]

    async def fill(instance: str, name: str) -> None:
        await kv.ok("set", name, "k", b64(f"{instance} {name}".encode()), instance=quote(instance, safe=""))

    await asyncio.gather(*(fill(*place) for place in places))
    for instance, name in places:
        assert await listed(kv, name, instance) == ["k"]
        found = await kv.ok("get", name, "k", instance=quote(instance, safe=""))
        assert found == b64(f"{instance} {name}".encode()), (instance, name)


async def _isolated(world: Any) -> None:
    """Buckets of all names, of Workers of all names, at one store."""
    run = uuid.uuid4().hex
    workers = [
        WorkerId(run, "a/b"), WorkerId(f"{run}/a", "b"), WorkerId(run, "a"), WorkerId(f"{run}/a/b", "c"), WorkerId(run, "a}:b"),
        WorkerId(f"{run}}}", "a"), WorkerId(run, "{a}"), WorkerId(run, "a\0b"), WorkerId(run, "x" * 300), WorkerId(run, "x" * 299),
        WorkerId(f"{len(run)}:{run}", "a"), WorkerId(run, "%61"),
    ]  # fmt: skip
    stores = [await world.open(worker) for worker in workers]
    addresses = [BucketAddress(Scope.WORKER, name) for name in HOSTILE]
    addresses += [BucketAddress(Scope.INSTANCE, name, of) for name in HOSTILE[:12] for of in ("", "a", "a:k", "{a}")]
    spaces = [BucketAddress(Scope.NAMESPACE, name) for name in HOSTILE]
    step = 60

    def mark(worker: WorkerId, address: BucketAddress) -> bytes:
        owner = worker.namespace if address.scope is Scope.NAMESPACE else repr(worker)
        return repr((owner, address)).encode()

    async def fill(number: int) -> None:
        for scoped in (addresses, spaces):
            for start in range(0, len(scoped), step):
                effects = [
                    Put(address, "k", mark(workers[number], address)) for address in scoped[start : start + step]
                ]
                await stores[number].apply_foreign(ForeignApply(f"{scoped[0].scope}{start}", start + 1, effects))

    for number in range(len(workers)):
        await fill(number)
    for worker, store in zip(workers, stores, strict=True):
        for address in addresses + spaces:
            assert await store.get_many(address, ["k"]) == [mark(worker, address)], (worker, address)
    # None of them is a key of another one.
    for address in addresses[::7] + spaces[::7]:
        assert (await stores[2].keys(address, None, 10)).keys == ["k"], address


@pytest.mark.parametrize("kind", sorted({**WORLDS, **FOREIGN}))
async def test_hostile_names_meet_nobody_else(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    world = foreign_world_of(kind, request, tmp_path)
    try:
        await _isolated(world)
    finally:
        await world.close()


async def test_keys_with_hostile_names(settings: Settings) -> None:
    kv = await settings.host(bucket("b"))
    await kv.ok("set-many", "b", [[key, b64(key.encode())] for key in HOSTILE])
    assert await kv.ok("get-many", "b", HOSTILE) == [b64(key.encode()) for key in HOSTILE]
    assert await kv.ok("keys", "b") == await listed(kv, "b") == sorted(HOSTILE)
    await kv.ok("delete-many", "b", HOSTILE[1:])
    assert await kv.ok("keys", "b") == HOSTILE[:1]


async def test_physical_names(settings: Settings) -> None:
    kv = await settings.host(
        bucket("a", physicalName="b"), bucket("b", physicalName="a"), bucket("alias", physicalName="b"),
        bucket("mine", physicalName="b", scope="Instance"), bucket("ours", physicalName="b", scope="Namespace"),
    )  # fmt: skip
    for name in ("a", "b", "mine", "ours"):
        await kv.ok("set", name, "k", b64(name.encode()))
    for name, expected in (("a", b"a"), ("b", b"b"), ("alias", b"a"), ("mine", b"mine"), ("ours", b"ours")):
        assert await kv.ok("get", name, "k") == b64(expected), name
    later = await settings.host(bucket("renamed", physicalName="b"), worker="w" if settings.kind != "memory" else "x")
    assert await later.ok("get", "renamed", "k") == (b64(b"a") if settings.kind != "memory" else None)


async def test_undeclared_buckets(settings: Settings) -> None:
    """They are at the home provider, whatever holds the others."""
    declared = [bucket("b"), bucket("fixed", access="ReadOnly", physicalName="store-of-fixed")]
    denied, allowed = await settings.host(*declared), await settings.host(*declared, worker="free", undeclared="Allow")
    for name in ("none", "B", "", "store-of-fixed", "cache"):
        assert "no such store" in await denied.refused("set", name, "k", b64(b"v")), name
        status, problem = await denied.client.get(f"/v1/buckets/{name or '%20'}/keys")
        assert status == 404 and isinstance(problem, dict) and problem["code"] == "no-such-bucket"
    names = [name for name in HOSTILE if len(name.encode()) <= 1024]
    for name in names:
        await allowed.ok("set", name, "k", b64(name.encode()))
    for name in names:
        assert await allowed.ok("get", name, "k") == b64(name.encode()), name
        assert await allowed.ok("keys", name) == ["k"]
    for name in ("x" * 1025, "cache\x1fvacancies", "x\x1fvacancies", PROMISES, ATTEMPTS):
        assert "no such store" in await allowed.refused("set", name, "k", b64(b"v")), name
    if settings.kind not in FOREIGN:
        # Another name is no way around a bucket's settings.
        assert "no such store" in await allowed.refused("set", "store-of-fixed", "k", b64(b"v"))


# What may be written.


async def test_access(settings: Settings) -> None:
    kv = await settings.host(bucket("open"), bucket("fixed", access="ReadOnly", physicalName="open"))
    await kv.ok("set", "open", "k", b64(b"1"))
    for function, *args in (
        ("set", "k", b64(b"2")), ("set", "new", b64(b"2")), ("delete", "k"), ("delete", "none"),
        ("set-many", [["k", b64(b"2")]]), ("delete-many", ["k"]), ("increment", "n"),
    ):  # fmt: skip
        assert await kv.refused(function, "fixed", *args) == "access denied", function
    assert await kv.ok("get", "fixed", "k") == b64(b"1")
    assert await kv.ok("get-many", "fixed", ["k", "n"]) == [b64(b"1"), None]
    assert await kv.ok("exists", "fixed", "k") is True
    assert await kv.ok("keys", "fixed") == await listed(kv, "fixed") == ["k"]


async def test_bounds_of_keys_and_values(settings: Settings) -> None:
    """In bytes, of UTF-8."""
    kv = await settings.host(bucket("small", maxKeyBytes=8, maxValueBytes=9))
    for key in ("12345678", "üüüü", "🔑🔑", ""):
        await kv.ok("set", "small", key, b64(bytes(9)))
        assert await kv.ok("exists", "small", key) is True
    for key in ("123456789", "üüüü1", "🔑🔑x"):
        words = f"a key of {len(key.encode())} bytes; bucket 'small' allows 8"
        for function, *args in (
            ("set", key, b64(b"")), ("get", key), ("exists", key), ("delete", key), ("set-many", [["k", ""], [key, ""]]),
            ("get-many", ["k", key]), ("delete-many", ["k", key]),
        ):  # fmt: skip
            assert await kv.refused(function, "small", *args) == words, function
    words = "a value of 10 bytes; bucket 'small' allows 9"
    assert await kv.refused("set", "small", "12345678", b64(bytes(10))) == words
    assert await kv.refused("set-many", "small", [["k", ""], ["n", b64(bytes(10))]]) == words
    assert await kv.ok("keys", "small") == sorted(["", "12345678", "üüüü", "🔑🔑"])
    assert await kv.ok("get", "small", "12345678") == b64(bytes(9))


async def test_times_to_live(settings: Settings) -> None:
    """Exact to a second, whatever the machine is busy with: what is seen bounds when it ended."""
    kv = await settings.host(bucket("brief", ttl="1s"), bucket("long", ttl="1h"), bucket("ever"))
    begun = time.monotonic()
    for name in ("brief", "long", "ever"):
        await kv.ok("set-many", name, [["k", b64(b"1")], ["n", b64(b"1")]])
    set_by = time.monotonic()
    while True:
        asked = time.monotonic()
        there = await kv.ok("exists", "brief", "k") is True
        if not there:
            assert time.monotonic() > begun + 1 - 1, "it ended before its time"
            break
        assert asked < set_by + 1 + 1, "it lives on"
        await asyncio.sleep(0.1)
    await asyncio.sleep(max(0.0, set_by + 2 - time.monotonic()))
    assert await kv.ok("get-many", "brief", ["k", "n"]) == [None, None]
    assert await kv.ok("keys", "brief") == await listed(kv, "brief") == []
    for name in ("long", "ever"):
        assert await kv.ok("keys", name) == await listed(kv, name) == ["k", "n"]
    await kv.ok("set", "brief", "k", b64(b"2"))
    assert await kv.ok("get", "brief", "k") == b64(b"2"), "and begins anew"


async def test_a_bound_on_keys(settings: Settings) -> None:
    scopes = ("Instance", "Worker", "Namespace")
    kv = await settings.host(*(bucket(scope, scope=scope, maxKeys=3) for scope in scopes), bucket("any"))
    for name in scopes:
        await kv.ok("set-many", name, [["a", b64(b"1")], ["b", b64(b"1")]])
        assert await kv.refused("set-many", name, [["c", b64(b"1")], ["d", b64(b"1")]]) == FULL
        assert await kv.ok("keys", name) == ["a", "b"], "of a batch nothing"
        await kv.ok("set", name, "c", b64(b"1"))
        assert await kv.refused("set", name, "d", b64(b"1")) == FULL
        await kv.ok("set-many", name, [["a", b64(b"2")], ["c", b64(b"2")], ["a", b64(b"3")]])
        assert await kv.ok("get-many", name, ["a", "b", "c", "d"]) == [b64(b"3"), b64(b"1"), b64(b"2"), None]
        assert await kv.refused("rewrite", name, name, "d", b64(b"1")) == FULL
        await kv.ok("delete", name, "b")
        assert len(await kv.ok("rewrite", name, name, "d", b64(b"1"))) == 3
        await kv.ok("set", name, "e", b64(b"1"))
        assert (
            await kv.ok("keys", name) == await listed(kv, name, "a" if name == "Instance" else None) == ["a", "c", "e"]
        )
        assert await kv.ok("set-many", name, []) is None
    # Each instance has room of its own, or all have the same.
    assert await kv.ok("set", "Instance", "z", b64(b"1"), instance="bob") is None
    assert await kv("set", "Worker", "z", b64(b"1"), instance="bob") == {"err": FULL}
    await kv.ok("set-many", "any", [[f"k{n}", ""] for n in range(50)])


async def test_a_bound_on_keys_of_a_bucket_with_a_time_to_live(settings: Settings) -> None:
    kv = await settings.host(*(bucket(scope, scope=scope, maxKeys=2, ttl="1s") for scope in ("Instance", "Worker")))
    for name in ("Instance", "Worker"):
        await kv.ok("set-many", name, [["a", ""], ["b", ""]])
    set_by = time.monotonic()
    await asyncio.sleep(max(0.0, set_by + 2 - time.monotonic()))
    for name in ("Instance", "Worker"):
        await kv.ok("set-many", name, [["c", ""], ["d", ""]])
        assert await kv("set", name, "e", b64(b"1"), instance="a") == {"err": FULL}


async def test_a_bound_on_keys_that_many_meet(settings: Settings) -> None:
    kv = await settings.host(bucket("b", maxKeys=7))

    async def run(number: int) -> list[object]:
        return [await kv("set", "b", f"{number}-{step}", b64(b"v"), instance=f"i{number}") for step in range(3)]

    answers = [answer for found in await asyncio.gather(*map(run, range(5))) for answer in found]
    assert answers.count({"ok": None}) == 7 and answers.count({"err": FULL}) == 8
    assert len(await listed(kv, "b")) == 7


# Writing over HTTP.


async def send(
    kv: KeyValue, method: str, name: str, key: str, body: bytes | None = None, query: str = "", **headers: str
) -> tuple[int, str]:
    """The status, and the problem's code or the ETag."""
    path = f"/v1/buckets/{quote(name, safe='')}/keys/{quote(key, safe='')}{query}"
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    url = URL(kv.client.url + path, encoded=True)
    async with kv.client.session.request(method, url, data=body, headers=named) as reply:
        if reply.status >= 400:
            return reply.status, (await reply.json(content_type=None))["code"]
        return reply.status, reply.headers.get("ETag", "")


async def test_writes_over_http(settings: Settings) -> None:
    kv = await settings.host(
        bucket("b"), bucket("own", scope="Instance"), bucket("all", scope="Namespace"), bucket("fixed", access="ReadOnly"),
        bucket("small", maxKeyBytes=8, maxValueBytes=9), bucket("few", maxKeys=2),
        bucket("long", maxKeyBytes=8192),
    )  # fmt: skip
    keys = [key for key in HOSTILE if key not in (".", "..") and len(key.encode()) <= 1024]
    for key in keys:
        assert (await send(kv, "PUT", "b", key, key.encode()))[0] == 204
    assert await kv.ok("get-many", "b", keys) == [b64(key.encode()) for key in keys]
    for key in keys[1:]:
        assert await send(kv, "DELETE", "b", key) == (204, "")
    assert await kv.ok("keys", "b") == await listed(kv, "b") == keys[:1]
    assert await send(kv, "DELETE", "b", "never") == (204, "")
    assert (await send(kv, "PUT", "b", "empty", b""))[0] == 204
    assert await kv.ok("get", "b", "empty") == b64(b"")
    # Whose it is.
    assert (await send(kv, "PUT", "own", "k", b"1", "?instance=alice"))[0] == 204
    assert await kv.ok("get", "own", "k", instance="alice") == b64(b"1")
    assert await kv.ok("get", "own", "k", instance="bob") is None
    assert (await send(kv, "PUT", "all", "k", b"1"))[0] == 204
    assert await kv.ok("get", "all", "k") == b64(b"1")
    for method in ("PUT", "DELETE"):
        for name, key, query, expected in (
            ("own", "k", "", (400, "bad-request")), ("b", "k", "?instance=a", (400, "bad-request")),
            ("none", "k", "", (404, "no-such-bucket")), ("\x1fpromises", "k", "?instance=a", (404, "no-such-bucket")),
            ("fixed", "k", "", (403, "access-denied")), ("small", "123456789", "", (413, "too-large")),
        ):  # fmt: skip
            assert await send(kv, method, name, key, b"v" if method == "PUT" else None, query) == expected, name
    assert await send(kv, "PUT", "small", "k", bytes(10)) == (413, "too-large")
    assert await kv.ok("keys", "small") == await kv.ok("keys", "fixed") == []
    # As long as a key over HTTP may be.
    status, told = await send(kv, "PUT", "long", "é" * 2048, b"1")
    assert status == 204 or (status, told) == (413, "too-large"), "some providers' own bound is less"
    assert await send(kv, "PUT", "long", "é" * 2049, b"1") == (400, "bad-request")
    # How many there may be.
    for key, code in (("a", 204), ("b", 204), ("c", 409), ("a", 204)):
        assert (await send(kv, "PUT", "few", key, b"1"))[0] == code
    assert await send(kv, "PUT", "few", "c", b"1", If_None_Match="*") == (409, "bucket-full")
    assert await kv.refused("set", "few", "c", b64(b"1")) == FULL
    assert await send(kv, "DELETE", "few", "a") == (204, "")
    assert (await send(kv, "PUT", "few", "c", b"1", If_None_Match="*"))[0] == 201
    assert await kv.ok("keys", "few") == ["b", "c"]


async def test_conditions_over_http(settings: Settings) -> None:
    kv = await settings.host(bucket("b"))
    failed = (412, "precondition-failed")
    assert await send(kv, "PUT", "b", "k", b"1", If_Match="*") == failed
    status, first = await send(kv, "PUT", "b", "k", b"1", If_None_Match="*")
    assert status == 201 and await send(kv, "PUT", "b", "k", b"2", If_None_Match="*") == failed
    assert await send(kv, "GET", "b", "k") == (200, first)
    assert await send(kv, "GET", "b", "k", If_None_Match=f'"other", {first}') == (304, first)
    # As a proxy has made it that packs answers.
    assert await send(kv, "GET", "b", "k", If_None_Match=f'W/"other", W/{first}') == (304, first)
    assert await send(kv, "GET", "b", "k", If_None_Match="*") == (304, first)
    assert await send(kv, "GET", "b", "k", If_Match=f'"other", {first}') == (200, first)
    assert await send(kv, "GET", "b", "k", If_Match='"other"') == failed
    status, second = await send(kv, "PUT", "b", "k", b"2", If_Match=first)
    assert status == 204 and second != first
    assert await send(kv, "PUT", "b", "k", b"3", If_Match=first) == failed
    assert await kv.ok("get", "b", "k") == b64(b"2")
    assert (await send(kv, "PUT", "b", "k", b"4", If_Match=f"{first}, {second}"))[0] == 204
    assert (await send(kv, "PUT", "b", "k", b"5", If_Match="*"))[0] == 204
    for wrong in (
        {"If_Match": "2"}, {"If_None_Match": first}, {"If_Match": "*", "If_None_Match": "*"}, {"If_Match": 'W/"1"'},
        {"If_Match": ""}, {"If_None_Match": ""}, {"If_Match": ","}, {"Content_Range": "bytes 0-0/9"},
    ):  # fmt: skip
        assert await send(kv, "PUT", "b", "k", b"6", **wrong) == (400, "bad-request"), wrong
    assert await send(kv, "DELETE", "b", "k", If_Match="*") == (400, "bad-request")
    assert await kv.ok("get", "b", "k") == b64(b"5")
    # Of many that see the same value one is first.
    _, seen = await send(kv, "GET", "b", "k")
    done = await asyncio.gather(*(send(kv, "PUT", "b", "k", b"by %d" % n, If_Match=seen) for n in range(6)))
    assert sorted(status for status, _ in done) == [204, 412, 412, 412, 412, 412]
    made = await asyncio.gather(*(send(kv, "PUT", "b", "new", b"by %d" % n, If_None_Match="*") for n in range(6)))
    assert sorted(status for status, _ in made) == [201, 412, 412, 412, 412, 412]


async def test_what_is_written_over_http_lives_as_long_as_the_bucket_says(settings: Settings) -> None:
    kv = await settings.host(bucket("brief", ttl="1s"))
    assert (await send(kv, "PUT", "brief", "k", b"1"))[0] == 204
    assert (await send(kv, "PUT", "brief", "n", b"1", If_None_Match="*"))[0] == 201
    set_by = time.monotonic()
    await asyncio.sleep(max(0.0, set_by + 2 - time.monotonic()))
    assert await send(kv, "GET", "brief", "k") == (404, "no-such-key")
    assert await listed(kv, "brief") == []


# Leaving out a setting is found.


@contextlib.asynccontextmanager
async def _memory(directory: Path) -> AsyncIterator[Settings]:
    async with AsyncExitStack() as stack:
        yield settings_of("sqlite", lambda name: None, directory, stack)


def _without(**values: Any) -> Callable[[pytest.MonkeyPatch], None]:
    """Policies whose fields are these, whatever the manifest says."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        found = BucketCatalog.find

        def find(self: BucketCatalog, name: str) -> BucketPolicy:
            return dataclasses.replace(found(self, name), **values)

        monkeypatch.setattr(BucketCatalog, "find", find)

    return patch


def _scopes_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        BucketPolicy, "address", lambda self, instance: BucketAddress(Scope.WORKER, self.physical or self.name)
    )


def _characters_for_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(self: BucketPolicy, key: str) -> None:
        if len(key) > self.max_key_bytes:
            size, most = len(key.encode()), self.max_key_bytes
            raise LimitExceeded(f"a key of {size} bytes; bucket {self.name!r} allows {most}")

    monkeypatch.setattr(BucketPolicy, "check_key", check)


def _inner_buckets_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "PROMISES", "\x1felsewhere")


Test = Callable[[Settings], Awaitable[None]]


@pytest.mark.parametrize(
    ("patch", "test"),
    [
        (_scopes_are_one, test_scopes),
        (_without(scope=Scope.WORKER), test_scopes),
        (_without(physical=None), test_physical_names),
        (_without(read_only=False), test_access),
        (_without(max_key_bytes=1024), test_bounds_of_keys_and_values),
        (_characters_for_bytes, test_bounds_of_keys_and_values),
        (_without(max_value_bytes=1 << 20), test_bounds_of_keys_and_values),
        (_without(ttl_ms=None), test_times_to_live),
        (_without(max_keys=None), test_a_bound_on_keys),
        (_without(max_keys=None), test_writes_over_http),
        (_without(read_only=False), test_writes_over_http),
        (_without(ttl_ms=None), test_what_is_written_over_http_lives_as_long_as_the_bucket_says),
        (_without(max_keys=None), test_a_bound_on_keys_that_many_meet),
        (_inner_buckets_open, test_undeclared_buckets),
    ],
    ids=lambda part: getattr(part, "__name__", None),
)
async def test_a_setting_that_is_left_out_is_found(
    patch: Callable[[pytest.MonkeyPatch], None], test: Test, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patch(monkeypatch)
    with pytest.raises((AssertionError, ExceptionGroup)) as found:
        async with _memory(tmp_path) as settings:
            await test(settings)
    if isinstance(found.value, ExceptionGroup):
        assert found.value.subgroup(AssertionError) is not None


async def test_names_that_are_not_encoded_are_found(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_keys, "encode", lambda text: text)
    world = foreign_world_of("redis", request, tmp_path)
    try:
        # One's values are another's index.
        with pytest.raises((AssertionError, InternalError)):
            await _isolated(world)
    finally:
        await world.close()
