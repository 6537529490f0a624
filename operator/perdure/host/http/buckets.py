"""Buckets over HTTP: a page of keys, one value, and setting and deleting one. What a Worker's guests may open can be
read, and what they may write can be written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from aiohttp import web

from perdure.durable.effects import Scope
from perdure.durable.outside import OutsideBucket, etag_of
from perdure.durable.policy import BucketCatalog
from perdure.durable.store import BucketStore
from perdure.errors import (
    BadRequest,
    InternalError,
    NoSuchBucket,
    NoSuchKey,
    PreconditionFailed,
    TooLarge,
    WriteDenied,
)
from perdure.host.http.replies import json_reply
from perdure.host.http.requests import checked_name, page, read_body
from perdure.keyvalue import bucket as keyvalue

MAX_PREFIX = 4096
_TAG = re.compile(r'(W/)?"[^"]*"')
_KEY = r"/v1/buckets/{bucket:[^/]+}/keys/{key:[\s\S]*}"


class BucketRoutes:
    """`/v1/buckets`. `stores`: by provider. `max_body`: bytes of a value that is sent. Any host answers, for what is
    there was committed."""

    def __init__(self, *, catalog: BucketCatalog, stores: Mapping[str, BucketStore], max_body: int) -> None:
        self._catalog = catalog
        self._stores = stores
        self._max_body = max_body

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/buckets/{bucket:[^/]+}/keys", self._list),
            web.get(_KEY, self._show),
            web.put(_KEY, self._put),
            web.delete(_KEY, self._delete),
        ]

    async def _list(self, request: web.Request) -> web.StreamResponse:
        """Keys that begin with `prefix`, in byte order; those before it are not looked at."""
        bucket = self._bucket(request)
        store, address = bucket.store, bucket.policy.address(bucket.instance)
        (_, limit), cursor = page(request), request.query.get("cursor")
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
        bucket, key = self._bucket(request), _key(request)
        (value,) = await bucket.store.get_many(bucket.policy.address(bucket.instance), [key])
        if value is None:
            raise NoSuchKey(f"bucket {request.match_info['bucket']!r} has no key {key!r}")
        tag, wanted = etag_of(value), _tags(request, "If-Match")
        if wanted and not {"*", tag} & set(wanted):
            raise PreconditionFailed(f"bucket {request.match_info['bucket']!r} has another value under the key {key!r}")
        # Weak tags are those that a proxy has made of ours.
        if {"*", tag} & {known.removeprefix("W/") for known in _tags(request, "If-None-Match")}:
            return web.Response(status=304, headers={"ETag": tag})
        return web.Response(body=value, content_type="application/octet-stream", headers={"ETag": tag})

    async def _put(self, request: web.Request) -> web.StreamResponse:
        """201 where it was asked to be new, else 204: whether it was, is not looked at."""
        bucket, key = self._bucket(request), _key(request)
        new, known = _tags(request, "If-None-Match"), _tags(request, "If-Match")
        if (new and known) or new not in ([], ["*"]):
            raise BadRequest("a value is set with If-None-Match: *, with If-Match, or with neither")
        if "Content-Range" in request.headers:
            raise BadRequest("a value is set whole: Content-Range is not heeded")
        value = await read_body(request, self._max_body)
        with _told():
            if new:
                await bucket.create(key, value)
            elif known:
                await bucket.replace(key, value, lambda present: known == ["*"] or etag_of(present) in known)
            else:
                await bucket.put(key, value)
        return web.Response(status=201 if new else 204, headers={"ETag": etag_of(value)})

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        if "If-Match" in request.headers or "If-None-Match" in request.headers:
            raise BadRequest("a key is deleted whatever it holds: If-Match and If-None-Match are not heeded")
        bucket, key = self._bucket(request), _key(request)
        with _told():
            await bucket.delete(key)
        return web.Response(status=204)

    def _bucket(self, request: web.Request) -> OutsideBucket:
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
        return OutsideBucket(store, policy, "" if instance is None else checked_name(instance))


@contextmanager
def _told() -> Iterator[None]:
    """What a guest would be told, as an answer."""
    try:
        yield
    except keyvalue.AccessDenied as error:
        raise WriteDenied(str(error)) from None
    except keyvalue.LimitExceeded as error:
        raise TooLarge(str(error)) from None


def _key(request: web.Request) -> str:
    return _storable(request.match_info["key"], "the key")


def _tags(request: web.Request, header: str) -> list[str]:
    """`*`, or entity tags with their quotes; none without the header. Weak ones say of no value what it is, only that
    one is known. Raises `BadRequest`."""
    if header not in request.headers:
        return []
    tags = [tag.strip() for tag in ",".join(request.headers.getall(header)).split(",")]
    found = [_TAG.fullmatch(tag) for tag in tags]
    if tags != ["*"] and not all(match and (match[1] is None or header == "If-None-Match") for match in found):
        raise BadRequest(f'{header} must be * or ETags in quotes, such as "0123abcd"')
    return tags


def _storable(text: str, what: str) -> str:
    """No key has what is no Unicode text. Raises `BadRequest`."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise BadRequest(f"{what} must be UTF-8, percent-encoded") from None
    if size > MAX_PREFIX:
        raise BadRequest(f"{what} must have at most {MAX_PREFIX} bytes")
    return text
