"""Looking into buckets: a page of keys, and one value. What a Worker may open can be read; nothing is written here."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from perdure.durable.effects import BucketAddress, Scope
from perdure.durable.policy import BucketCatalog
from perdure.durable.store import BucketStore
from perdure.errors import BadRequest, InternalError, NoSuchBucket, NoSuchKey
from perdure.host.http.replies import json_reply
from perdure.host.http.requests import checked_name, page
from perdure.keyvalue import bucket as keyvalue

MAX_PREFIX = 4096


class BucketRoutes:
    """`/v1/buckets`. `stores`: by provider. Any host answers, for what is there was committed."""

    def __init__(self, *, catalog: BucketCatalog, stores: Mapping[str, BucketStore]) -> None:
        self._catalog = catalog
        self._stores = stores

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/buckets/{bucket}/keys", self._list),
            web.get(r"/v1/buckets/{bucket}/keys/{key:[\s\S]*}", self._show),
        ]

    async def _list(self, request: web.Request) -> web.StreamResponse:
        """Keys that begin with `prefix`, in byte order; those before it are not looked at."""
        store, address = self._place(request)
        cursor, limit = page(request)
        prefix = _storable(request.query.get("prefix", ""), "prefix")
        cursor = None if cursor is None else _storable(cursor, "cursor")
        first = cursor is None or cursor < prefix
        # A page begins behind its cursor: the key that is the prefix itself is looked up.
        itself = first and prefix and (await store.get_many(address, [prefix]))[0] is not None
        found = await store.keys(address, (prefix or None) if first else cursor, limit)
        keys = ([prefix] if itself else []) + [key for key in found.keys if key.startswith(prefix)]
        more = found.cursor is not None and bool(found.keys) and found.keys[-1].startswith(prefix)
        if len(keys) > limit:
            keys, more = keys[:limit], True
        return json_reply({"keys": keys, "cursor": keys[-1] if more else None})

    async def _show(self, request: web.Request) -> web.StreamResponse:
        store, address = self._place(request)
        key = _storable(request.match_info["key"], "the key")
        (value,) = await store.get_many(address, [key])
        if value is None:
            raise NoSuchKey(f"bucket {request.match_info['bucket']!r} has no key {key!r}")
        return web.Response(body=value, content_type="application/octet-stream")

    def _place(self, request: web.Request) -> tuple[BucketStore, BucketAddress]:
        """Raises `NoSuchBucket`, `BadRequest`."""
        name, instance = _storable(request.match_info["bucket"], "the bucket"), request.query.get("instance")
        try:
            policy = self._catalog.find(name)
        except keyvalue.NoSuchBucket as error:
            raise NoSuchBucket(str(error)) from None
        if (policy.scope is Scope.INSTANCE) != (instance is not None):
            needed = "is private to instances: name one with ?instance=" if instance is None else "has no instances"
            raise BadRequest(f"bucket {name!r} {needed}")
        store = self._stores.get(policy.provider)
        if store is None:
            raise InternalError(f"the provider {policy.provider!r} is not connected")
        return store, policy.address("" if instance is None else checked_name(instance))


def _storable(text: str, what: str) -> str:
    """No key has what is no Unicode text. Raises `BadRequest`."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise BadRequest(f"{what} must be UTF-8, percent-encoded") from None
    if size > MAX_PREFIX:
        raise BadRequest(f"{what} must have at most {MAX_PREFIX} bytes")
    return text
