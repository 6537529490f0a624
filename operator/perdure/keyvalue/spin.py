"""Spin's own key-value interface, `fermyon:spin/key-value@2.0.0`: one more view of the same buckets.

Signatures are those of https://github.com/spinframework/spin (`wit/deps/spin@2.0.0`). A `store` is a bucket; its error
is that of `wasi:keyvalue/store` with one more case, which Perdure never gives. As on Spin, a store that the manifest
does not grant is `access-denied`, not `no-such-store`.

Spin's other interfaces are there to be imported, and trap by name when they are called: its SDK for Python imports all
of them into every component.
"""

from __future__ import annotations

from perdure.component.host import HostFunction, RefusedFunction
from perdure.component.types import Err, Ok, Variant
from perdure.keyvalue import store
from perdure.keyvalue.bucket import BucketError, KeyValueContext, NoSuchBucket
from perdure.keyvalue.generations import SPIN
from perdure.keyvalue.legacy import all_keys
from perdure.keyvalue.store import OpenBucket, failed

_PACKAGES = ("fermyon:spin/", "spin:")


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


_FUNCTIONS: dict[str, HostFunction] = {
    "[static]store.open": open_store,
    "[method]store.get": store.get,
    "[method]store.set": store.set_value,
    "[method]store.delete": store.delete,
    "[method]store.exists": store.exists,
    "[method]store.get-keys": get_keys,
}


def is_spins(interface: str) -> bool:
    """Whether an import is of one of Spin's own interfaces."""
    return interface.startswith(_PACKAGES)


def function(interface: str, name: str) -> HostFunction:
    """A function of one of them."""
    found = _FUNCTIONS.get(name) if interface == SPIN else None
    return RefusedFunction(f"{interface}.{name}") if found is None else found
