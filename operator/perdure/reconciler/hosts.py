"""What hosts tell of providers and of instances in quarantine, and what of it is in a Worker's status. Pure.

Hosts run foreign code: what they say is bounded and checked.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from perdure.manifests.provider import KeyValueProvider
from perdure.reconciler.api import Object

_MAX_NAME = 128
_MAX_MESSAGE = 300
_NAMED = 5
_MOST = 1 << 31


@dataclass(frozen=True, slots=True)
class ProviderReport:
    """`reachable` None: not known. `message`: why it cannot be used."""

    reachable: bool | None = None
    durability: str | None = None
    guarantee: str | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class HostReport:
    """`quarantined`: how many instances a host has met in quarantine; `latest`: names of a few."""

    providers: Mapping[str, ProviderReport]
    quarantined: int = 0
    latest: tuple[str, ...] = ()


def read_report(data: bytes, providers: Collection[str]) -> HostReport | None:
    """Of a host's `/status`; None for what is none. Only `providers`, which the Worker has, are looked at."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None
    told = document.get("providers") if isinstance(document, dict) else None
    if not isinstance(told, dict):
        return None
    found = {name: _provider(told[name]) for name in providers if isinstance(told.get(name), dict)}
    quarantined = document.get("quarantined")
    count = quarantined.get("count") if isinstance(quarantined, dict) else None
    latest = quarantined.get("latest") if isinstance(quarantined, dict) else None
    names = [_text(name, _MAX_NAME) for name in latest[:_NAMED]] if isinstance(latest, list) else []
    number = min(max(count, 0), _MOST) if isinstance(count, int) else 0
    return HostReport(found, number, tuple(name for name in names if name))


def _provider(told: Mapping[str, object]) -> ProviderReport:
    reachable = told.get("reachable")
    return ProviderReport(
        reachable if isinstance(reachable, bool) else None,
        _text(told.get("durability"), 16),
        _text(told.get("guarantee"), 64),
        _text(told.get("problem"), _MAX_MESSAGE),
    )


def _text(value: object, limit: int) -> str | None:
    if not isinstance(value, str):
        return None
    return "".join(char for char in value[:limit] if char.isprintable()) or None


def by_probe(status: Object) -> ProviderReport:
    """What a KeyValueProvider's own status says."""
    condition: Object = next((c for c in status.get("conditions", []) if c.get("type") == "Reachable"), {})
    reachable = {"True": True, "False": False}.get(condition.get("status", ""))
    message = _text(condition.get("message"), _MAX_MESSAGE) if reachable is False else None
    return ProviderReport(reachable, status.get("durability"), status.get("guarantee"), message)


def together(name: str, reports: Iterable[HostReport], probe: ProviderReport) -> ProviderReport:
    """Of one provider: hosts' words if there are any, else the probe's. One host that cannot reach it is enough."""
    told = [report.providers[name] for report in reports if name in report.providers]
    known = [report for report in told if report.reachable is not None]
    if not known:
        return probe
    failing = [report for report in known if not report.reachable]
    one = failing[0] if failing else known[0]
    message = one.message
    if failing and len(failing) < len(known):
        message = f"{len(failing)} of {len(known)} hosts: {message}"
    level = next((report.durability for report in known if report.durability), probe.durability)
    guarantee = next((report.guarantee for report in known if report.guarantee), probe.guarantee)
    return ProviderReport(not failing, level, guarantee, message)


def provider_entries(
    providers: Sequence[KeyValueProvider],
    home: str,
    reports: Sequence[HostReport],
    probes: Mapping[str, ProviderReport],
) -> list[Object]:
    """`status.providers`, the home first."""
    entries = []
    for provider in sorted(providers, key=lambda each: each.name != home):
        found = together(provider.name, reports, probes.get(provider.name, ProviderReport()))
        entry: Object = {"name": provider.name, "kind": provider.spec.kind, "home": provider.name == home}
        fields = {
            "durability": found.durability,
            "guarantee": found.guarantee,
            "reachable": found.reachable,
            "message": found.message,
        }
        entries.append(entry | {field: value for field, value in fields.items() if value is not None})
    return entries


def quarantined_entry(reports: Sequence[HostReport]) -> Object | None:
    """`status.quarantined`, where there are any."""
    count = sum(report.quarantined for report in reports)
    names = sorted({name for report in reports for name in report.latest})[:_NAMED]
    return {"count": count, "instances": names} if count else None


def unreachable(entries: Iterable[Object]) -> str | None:
    """A sentence about the first provider that cannot be used."""
    for entry in entries:
        if entry.get("reachable") is False:
            return f"KeyValueProvider {entry['name']}: {entry.get('message', 'it cannot be used')}"
    return None


def told_fields(
    providers: Sequence[KeyValueProvider],
    home: str,
    reports: Sequence[HostReport],
    probes: Mapping[str, ProviderReport],
    *,
    former: Object,
    ready: int,
) -> Object:
    """`providers` and `quarantined` of a Worker's status. `former`: the status before; `ready`: hosts that answer."""
    if ready and not reports and _names(former) == {provider.name for provider in providers}:
        # Hosts answer their callers, and merely not the operator: their word is the last one.
        return {field: former[field] for field in ("providers", "quarantined") if field in former}
    entries = provider_entries(providers, home, reports, probes)
    quarantined = quarantined_entry(reports)
    found: Object = {"providers": entries} if entries else {}
    return found | ({"quarantined": quarantined} if quarantined else {})


def changed_words(former: Object, told: Object) -> list[str]:
    """Providers of which hosts say now that they can be used, and said the contrary before, or the other way round."""
    before = {entry["name"]: entry.get("reachable") for entry in former.get("providers", [])}
    return [
        entry["name"]
        for entry in told.get("providers", [])
        if {before.get(entry["name"]), entry.get("reachable")} == {True, False}
    ]


def _names(status: Object) -> set[str]:
    return {entry["name"] for entry in status.get("providers", [])}
