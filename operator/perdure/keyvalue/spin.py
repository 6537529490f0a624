"""Spin's own key-value interface, `fermyon:spin/key-value@2.0.0`: one more view of the same buckets.

Signatures are those of https://github.com/spinframework/spin (`wit/deps/spin@2.0.0`). A `store` is a bucket; its error
is that of `wasi:keyvalue/store` with one more case, which Perdure never gives. As on Spin, a store that the manifest
does not grant is `access-denied`, not `no-such-store`.
"""

from __future__ import annotations

from perdure.component.types import Err, Ok, Variant
from perdure.keyvalue.bucket import BucketError, KeyValueContext, NoSuchBucket
from perdure.keyvalue.legacy import all_keys
from perdure.keyvalue.store import OpenBucket, failed


def open_store(ctx: KeyValueContext, label: str) -> Ok | Err:
    try:
        return Ok(OpenBucket(ctx.keyvalue.open(label)))
    except NoSuchBucket:
        return Err(Variant("access-denied"))
    except BucketError as error:
        return failed(error)


async def get_keys(ctx: KeyValueContext, opened: OpenBucket) -> Ok | Err:
    try:
        return Ok(await all_keys(opened.bucket))
    except BucketError as error:
        return failed(error)
