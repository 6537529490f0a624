"""The document of `GET /v1/component`: what runs here and what it needs."""

from __future__ import annotations

import json
from collections.abc import Mapping

from perdure.component.about import About
from perdure.component.component import Component
from perdure.component.describe import memory_json, toolchain_json, world_json
from perdure.component.interfaces import Function, Interface
from perdure.component.plan import ExportedFunc
from perdure.component.wit_text import format_func, format_type
from perdure.component.wit_world import function_text
from perdure.durable.records import ProviderInfo
from perdure.host.config import HostConfig
from perdure.host.ownership import Ownership
from perdure.keyvalue.generations import generations

NAMED = 5
"""Instances in quarantine whose names a host tells."""
MAX_WORLD = 512 * 1024
"""Bytes of `world`. The operator reads 1 MiB of the document, and must find the rest of it."""


def describe_component(component: Component, about: About) -> dict[str, object]:
    """What does not change while the host runs. Plain JSON values.

    The types of `exports` are written out; those of `world` are called by their names and defined there.
    """
    imports = sorted({func.interface for func in component.plan.imports})
    known = {interface.path_of(func): (interface, func) for interface, func in about.world.exported_functions()}
    world, notes = world_json(about.world), list(about.notes)
    if len(json.dumps(world)) > MAX_WORLD:
        world = {}
        notes.append(f"the world is left out: it would take more than {MAX_WORLD:,} bytes")
    return {
        "digest": component.digest,
        "size": component.size,
        "keyvalue": list(generations(imports)),
        "exports": [_export(func, about, known.get(func.path)) for func in component.exports],
        "imports": imports,
        "toolchain": toolchain_json(about),
        "memory": memory_json(about),
        "world": world,
        "notes": notes,
    }


def describe(config: HostConfig, component: dict[str, object], found: dict[str, ProviderInfo]) -> dict[str, object]:
    """The whole document. `component`: from `describe_component`; `found`: what each provider said of itself."""
    return {
        "worker": {"namespace": config.worker.namespace, "name": config.worker.name},
        **component,
        "providers": {
            name: {
                "kind": info.kind,
                "version": info.version,
                "durability": info.durability,
                "guarantee": info.guarantee,
                "warnings": list(info.warnings),
                "home": name == config.effective.home.name,
            }
            for name, info in found.items()
        },
    }


def describe_status(
    config: HostConfig, found: Mapping[str, ProviderInfo], problems: Mapping[str, str], ownership: Ownership
) -> dict[str, object]:
    """What the operator puts into the Worker's status. `problems`: of providers that cannot be used now."""
    providers = {}
    for provider in config.effective.providers:
        info, name = found.get(provider.name), provider.name
        providers[name] = {
            "kind": provider.spec.kind,
            "home": name == config.effective.home.name,
            "durability": info.durability if info else None,
            "guarantee": info.guarantee if info else None,
            "reachable": name not in problems if info or name in problems else None,
            "problem": problems.get(name),
        }
    quarantined = ownership.quarantined()
    told = {"count": len(quarantined), "latest": quarantined[:NAMED]}
    return {"providers": providers, "quarantined": told}


def _export(func: ExportedFunc, about: About, known: tuple[Interface, Function] | None) -> dict[str, object]:
    t = func.type
    return {
        "name": func.path,
        "signature": format_func(t),
        "params": [{"name": name, "type": format_type(kind)} for name, kind in t.params],
        "result": None if t.result is None else format_type(t.result),
        "interface": func.interface,
        "function": func.name,
        "kind": known[1].kind if known else "function",
        "wit": function_text(about.world, *known) if known else format_func(t),
        "docs": known[1].docs if known else "",
    }
