"""Resolving imports of wasi:keyvalue, whatever generation the component was built with, and of Spin's interfaces.

What is not in the tables resolves to functions that trap by name: a component that imports them without calling them
runs.
"""

from __future__ import annotations

from collections.abc import Callable

from perdure.component.host import HostFunction, HostResource, RefusedFunction
from perdure.component.types import FuncType, PrimType
from perdure.keyvalue import atomics, cache, legacy, numbered, spin, store, values
from perdure.keyvalue.generations import generation, split

_Maker = Callable[[FuncType], HostFunction]


def _plain(function: HostFunction) -> _Maker:
    return lambda kind: function


_LEGACY: dict[tuple[str, str], _Maker] = {
    ("types", "[static]bucket.open-bucket"): _plain(legacy.open_bucket),
    ("types", "[static]outgoing-value.new-outgoing-value"): _plain(values.new_outgoing_value),
    ("types", "[method]outgoing-value.new-outgoing-value"): _plain(values.new_outgoing_value),
    ("types", "[method]outgoing-value.outgoing-value-write-body-sync"): _plain(values.write_body),
    ("types", "[method]outgoing-value.outgoing-value-write-body-async"): _plain(values.write_body_async),
    ("types", "[method]incoming-value.incoming-value-consume-sync"): _plain(values.consume_body),
    ("types", "[method]incoming-value.incoming-value-consume-async"): _plain(values.consume_body_async),
    ("types", "[method]incoming-value.size"): legacy.size_function,
    ("types", "[method]incoming-value.incoming-value-size"): legacy.size_function,
    ("wasi-cloud-error", "[method]error.trace"): _plain(values.trace),
    ("wasi-keyvalue-error", "[method]error.trace"): _plain(values.trace),
    **{
        (interface, name): maker
        for interface in ("readwrite", "eventual")
        for name, maker in (
            ("get", legacy.get_function),
            ("set", legacy.set_function),
            ("delete", _plain(legacy.delete)),
            ("exists", _plain(legacy.exists)),
        )
    },
    ("atomic", "increment"): _plain(legacy.increment),
    ("atomic", "compare-and-swap"): _plain(legacy.compare_and_swap),
    **{
        (interface, name): maker
        for interface in ("batch", "eventual-batch")
        for name, maker in (
            ("get-many", legacy.get_many_function),
            ("get-keys", legacy.keys_function),
            ("keys", legacy.keys_function),
            ("set-many", legacy.set_many_function),
            ("delete-many", _plain(legacy.delete_many)),
        )
    },
}

_CACHE: dict[tuple[str, str], _Maker] = {
    ("cache", "get"): _plain(cache.get),
    ("cache", "exists"): _plain(cache.exists),
    ("cache", "set"): cache.set_function,
    ("cache", "get-or-set"): _plain(cache.get_or_set),
    ("cache", "delete"): _plain(cache.delete),
    ("cache", "[method]vacancy.vacancy-fill"): _plain(cache.vacancy_fill),
    ("cache", "[method]future-get-or-set-result.future-get-or-set-result-get"): _plain(cache.got_entry),
    **{
        ("cache", f"[method]{future}.{future}-get"): cache.got_function
        for future in ("future-get-result", "future-exists-result", "future-result")
    },
    **{
        ("cache", f"[method]{future}.listen-to-{future}"): _plain(cache.listen_to)
        for future in ("future-get-result", "future-exists-result", "future-result", "future-get-or-set-result")
    },
}

_STORE: dict[tuple[str, str], _Maker] = {
    ("store", "open"): _plain(store.open_store),
    ("store", "[method]bucket.get"): _plain(store.get),
    ("store", "[method]bucket.set"): _plain(store.set_value),
    ("store", "[method]bucket.delete"): _plain(store.delete),
    ("store", "[method]bucket.exists"): _plain(store.exists),
    ("store", "[method]bucket.list-keys"): store.list_keys_function,
    ("atomics", "increment"): store.increment_function,
    ("atomics", "[static]cas.new"): _plain(atomics.new),
    ("atomics", "[method]cas.current"): _plain(atomics.current),
    ("atomics", "swap"): _plain(atomics.swap),
    ("batch", "get-many"): _plain(store.get_many),
    ("batch", "set-many"): _plain(store.set_many),
    ("batch", "delete-many"): _plain(store.delete_many),
}


_DROPS: dict[tuple[str, str], Callable[..., object]] = {
    ("types", "outgoing-value"): values.drop_outgoing,
    ("cache", "vacancy"): cache.drop_vacancy,
    ("cache", "future-get-or-set-result"): cache.drop_future,
}


class KeyValueResolver:
    """Implements `perdure.component.host.ImportResolver`."""

    def function(self, interface: str, name: str, type: FuncType) -> HostFunction | None:  # noqa: A002
        if spin.is_spins(interface):
            return spin.function(interface, name)
        made, found = generation(interface), split(interface)
        if made is None or found is None:
            return None
        table = _LEGACY if made in ("G1", "G2") else _STORE
        maker = table.get((found[0], name))
        if found[0] == "cache" and made in ("G1", "G2"):
            maker = _CACHE.get((found[0], name))
            if maker is None or isinstance(type.result, PrimType):
                return numbered.function(name, type) or RefusedFunction(f"{interface}.{name}")
        return RefusedFunction(f"{interface}.{name}") if maker is None else maker(type)

    def resource(self, interface: str, name: str) -> HostResource | None:
        if spin.is_spins(interface):
            return HostResource()
        found = split(interface)
        if generation(interface) is None or found is None:
            return None
        return HostResource(_DROPS.get((found[0], name)))
