"""Which providers a Worker uses, from the manifests alone. Pure; the same in operator, host and command."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from perdure.errors import ManifestError
from perdure.manifests.provider import FOREIGN_KINDS, HOME_KINDS, KeyValueProvider
from perdure.manifests.worker import Worker


class ProviderProblem(ManifestError):
    """A provider that the Worker needs is missing, not allowed, or not to be told from another."""


class ProviderMissing(ProviderProblem):
    """There is no such provider, or no default one."""


@dataclass(frozen=True, slots=True)
class EffectiveConfig:
    """`home`: the provider of the journal and of buckets without one of their own. `providers`: all that are used."""

    worker: Worker
    home: KeyValueProvider
    providers: tuple[KeyValueProvider, ...]

    def bucket_provider(self, name: str | None) -> KeyValueProvider:
        """The provider of a bucket that names `name`."""
        return next((found for found in self.providers if found.name == name), self.home)


def resolve(worker: Worker, providers: Iterable[KeyValueProvider]) -> EffectiveConfig:
    """Raises `ProviderProblem` in words for the Worker's status, e.g. `KeyValueProvider shared-redis not found`."""
    known = {provider.name: provider for provider in providers}
    wanted = worker.spec.key_value.provider
    home = _named(wanted, known, "spec.keyValue.provider") if wanted else _default(known.values())
    require_home(home)
    used = {home.name: home}
    for index, bucket in enumerate(worker.spec.key_value.buckets):
        if bucket.provider is not None:
            field = f"spec.keyValue.buckets[{index}].provider"
            used[bucket.provider] = found = _named(bucket.provider, known, field)
            if found.spec.kind in FOREIGN_KINDS and bucket.name == worker.spec.key_value.cache.bucket:
                raise ProviderProblem(
                    f"KeyValueProvider {found.name} ({found.spec.kind}) cannot have the cache's bucket: name another "
                    f"provider in {field}, or another bucket in spec.keyValue.cache.bucket"
                )
    _check_watches(worker, home, used)
    for provider in used.values():
        if not provider.spec.allows(worker.namespace):
            raise ProviderProblem(
                f"KeyValueProvider {provider.name} does not allow namespace {worker.namespace} (allowedNamespaces)"
            )
        if provider.spec.kind == "sqlite" and provider.name != home.name:
            raise ProviderProblem(
                f"KeyValueProvider {provider.name} is an SQLite file: it can serve a Worker as its home only"
            )
    if home.spec.kind == "sqlite" and worker.spec.replicas > 1:
        raise ProviderProblem(
            f"KeyValueProvider {home.name} is an SQLite file: one replica can use it, not {worker.spec.replicas}"
        )
    return EffectiveConfig(worker, home, tuple(used.values()))


def _check_watches(worker: Worker, home: KeyValueProvider, used: dict[str, KeyValueProvider]) -> None:
    """Raises `ProviderProblem`."""
    watched: dict[tuple[str, str, str], str] = {}
    for index, bucket in enumerate(worker.spec.key_value.buckets):
        if bucket.watch is None:
            continue
        provider = used[bucket.provider] if bucket.provider is not None else home
        if provider.spec.kind in FOREIGN_KINDS:
            raise ProviderProblem(
                f"KeyValueProvider {provider.name} ({provider.spec.kind}) keeps no feed of changes: the buckets that "
                f"can be watched are those of {', '.join(HOME_KINDS)} (spec.keyValue.buckets[{index}].watch)"
            )
        place = (provider.name, bucket.scope, bucket.physical_name or bucket.name)
        if place in watched:
            raise ProviderProblem(
                f"buckets {watched[place]!r} and {bucket.name!r} are one bucket of KeyValueProvider {provider.name}: "
                f"watch it under one of the names (spec.keyValue.buckets[{index}].watch)"
            )
        watched[place] = bucket.name


def require_home(provider: KeyValueProvider) -> None:
    """Raises `ProviderProblem` for a provider that can only have buckets."""
    if provider.spec.kind in FOREIGN_KINDS:
        raise ProviderProblem(
            f"KeyValueProvider {provider.name} ({provider.spec.kind}) serves buckets only, it cannot hold a Worker's "
            f"journal and results: name one of {', '.join(HOME_KINDS)} in spec.keyValue.provider, and this one in "
            "spec.keyValue.buckets[].provider"
        )


def _named(name: str, known: dict[str, KeyValueProvider], field: str) -> KeyValueProvider:
    found = known.get(name)
    if found is None:
        raise ProviderMissing(f"KeyValueProvider {name} not found ({field})")
    return found


def _default(known: Iterable[KeyValueProvider]) -> KeyValueProvider:
    defaults = [provider for provider in known if provider.spec.default]
    if len(defaults) == 1:
        return defaults[0]
    if not defaults:
        raise ProviderMissing("no KeyValueProvider is the default one: name one in spec.keyValue.provider")
    names = ", ".join(sorted(provider.name for provider in defaults))
    raise ProviderProblem(
        f"several KeyValueProviders are the default one ({names}): name one in spec.keyValue.provider"
    )
