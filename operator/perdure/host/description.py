"""The document of `GET /v1/component`: what runs here and what it needs."""

from __future__ import annotations

from perdure.component.component import Component
from perdure.component.wit_text import format_func, format_type
from perdure.durable.store import ProviderInfo
from perdure.host.config import HostConfig
from perdure.keyvalue.generations import generations


def describe(config: HostConfig, component: Component, found: dict[str, ProviderInfo]) -> dict[str, object]:
    """Plain JSON values. `found`: what each provider said of itself."""
    imports = sorted({func.interface for func in component.plan.imports})
    return {
        "worker": {"namespace": config.worker.namespace, "name": config.worker.name},
        "digest": component.digest,
        "size": component.size,
        "keyvalue": list(generations(imports)),
        "exports": [
            {
                "name": func.path,
                "signature": format_func(func.type),
                "params": [{"name": name, "type": format_type(kind)} for name, kind in func.type.params],
                "result": None if func.type.result is None else format_type(func.type.result),
            }
            for func in component.exports
        ],
        "imports": imports,
        "providers": {
            name: {
                "kind": info.kind,
                "version": info.version,
                "durability": info.durability,
                "warnings": list(info.warnings),
                "home": name == config.effective.home.name,
            }
            for name, info in found.items()
        },
    }
