"""Looking at a provider as a host would, once: can it be used, and what is its acknowledgement worth?

It leaves what the first host leaves anyway (Perdure's functions in Redis, its schema in PostgreSQL, its stream in
NATS), and no data. Of an SQLite file, which only its own host should make or upgrade, not even that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from perdure.durable.records import ProviderInfo, WorkerId
from perdure.errors import PerdureError, ProviderUnavailable
from perdure.host.stores import open_foreign, passwords
from perdure.manifests.provider import KeyValueProvider
from perdure.manifests.report import ProbeReport, ServerFound
from perdure.providers.sqlite.look import look

_ATTEMPTS = 3
_PAUSE = 0.5
_HIDDEN = "***"


@dataclass(frozen=True, slots=True)
class _Surroundings:
    worker_id: WorkerId
    data: Path
    secrets: Path


async def probe(provider: KeyValueProvider, *, data: Path, secrets: Path, timeout: float) -> ProbeReport:
    """Takes `timeout` seconds, and as long at most to disconnect. One unanswered attempt may be an accident: only
    several in a row count.

    Raises `PerdureError` for what is no state of the provider's: a missing driver, a defect.
    """
    provider = _hurried(provider, int(timeout * 1000))
    found: ProviderInfo | None = None
    failure: ProviderUnavailable | None = None
    try:
        async with asyncio.timeout(timeout):
            for attempt in range(_ATTEMPTS):
                await asyncio.sleep(_PAUSE * attempt)
                try:
                    found = await _look(provider, _Surroundings(WorkerId("perdure", "probe"), data, secrets))
                    break
                except ProviderUnavailable as error:
                    failure = error
                    if error.cause != "no-answer":
                        break
    except TimeoutError:
        failure = failure or ProviderUnavailable(f"no answer within {timeout:g} s", cause="no-answer")
    hidden = await asyncio.to_thread(_hidden, provider, secrets)
    if found is not None:
        return _usable(provider, found, hidden)
    assert failure is not None
    return ProbeReport(
        provider=provider.name,
        kind=provider.spec.kind,
        usable=False,
        cause=failure.cause,
        message=_scrubbed(failure.detail, hidden),
    )


def _hurried(provider: KeyValueProvider, longest: int) -> KeyValueProvider:
    """With a timeout of its own of at most so many milliseconds."""
    server, kind = provider.spec.server, provider.spec.kind
    if server is None or server.timeout <= longest:
        return provider
    spec = provider.spec.model_copy(update={kind: server.model_copy(update={"timeout": max(1, longest)})})
    return provider.model_copy(update={"spec": spec})


async def _look(provider: KeyValueProvider, surroundings: _Surroundings) -> ProviderInfo:
    if provider.spec.sqlite is not None:
        return await asyncio.to_thread(look, surroundings.data / f"{provider.name}.sqlite")
    store = await open_foreign(provider, surroundings)
    try:
        return await store.ping()
    except ProviderUnavailable:
        raise
    except PerdureError as error:
        # Whatever else a server answers, hosts cannot work with it.
        raise ProviderUnavailable(error.detail) from error
    finally:
        await store.close()


def _usable(provider: KeyValueProvider, found: ProviderInfo, hidden: Iterable[str]) -> ProbeReport:
    settings = {name: _scrubbed(value, hidden) for name, value in found.settings if value}
    return ProbeReport(
        provider=provider.name,
        kind=provider.spec.kind,
        usable=True,
        message=_scrubbed(f"{found.kind} {found.version} answers; durability {found.durability}", hidden),
        server=ServerFound(version=_scrubbed(found.version, hidden), settings=settings),
        durability=found.durability,  # type: ignore[arg-type]
        guarantee=found.guarantee,
        warnings=tuple(_scrubbed(warning, hidden) for warning in found.warnings[:8]),
    )


def _hidden(provider: KeyValueProvider, secrets: Path) -> list[str]:
    try:
        return passwords(provider, secrets)
    except (OSError, UnicodeDecodeError):
        return []  # it could not be sent either


def _scrubbed(text: str, hidden: Iterable[str]) -> str:
    """A server may repeat in an error what it was sent; and the end of a long one is cut off."""
    for value in sorted(hidden, key=len, reverse=True):
        text = text.replace(value, _HIDDEN)
        begun = next((end for end in range(len(value) - 1, 3, -1) if text.endswith(value[:end])), 0)
        text = text[: len(text) - begun] + _HIDDEN if begun else text
    return text
