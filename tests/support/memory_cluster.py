"""The verbs of `reconciler.api.Cluster` over a dictionary, for tests of what is decided; e2e has the real API server."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from perdure.reconciler.api import KINDS, ApiError, Kind

Object = dict[str, Any]
_KIND_OF = {kind.plural: name for name, kind in KINDS.items()}


class MemoryCluster:
    """`calls`: what was written, in order, as `verb Kind/name`. `refusals`: an error to raise for such a call."""

    def __init__(self, *objects: Object) -> None:
        self.objects: dict[tuple[str, str], Object] = {}
        self.calls: list[str] = []
        self.refusals: dict[str, ApiError] = {}
        for obj in objects:
            self.put(obj)

    def put(self, obj: Object) -> None:
        self.objects[obj["kind"], obj["metadata"]["name"]] = copy.deepcopy(obj)

    def find(self, kind: str, name: str) -> Object | None:
        return self.objects.get((kind, name))

    def _note(self, call: str) -> None:
        self.calls.append(call)
        if call in self.refusals:
            raise self.refusals[call]

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Object | None:
        found = self.find(_KIND_OF[kind.plural], name)
        return copy.deepcopy(found)

    async def get_metadata(self, kind: Kind, namespace: str, name: str) -> Object | None:
        found = self.find(_KIND_OF[kind.plural], name)
        return None if found is None else {"metadata": copy.deepcopy(found["metadata"])}

    async def list(self, kind: Kind, namespace: str | None = None, selector: str = "") -> list[Object]:
        wanted = dict(part.split("=") for part in selector.split(",") if part)
        name = _KIND_OF[kind.plural]
        return [
            copy.deepcopy(obj)
            for (found, _), obj in self.objects.items()
            if found == name and wanted.items() <= obj["metadata"].get("labels", {}).items()
        ]

    async def apply(self, obj: Object) -> Object:
        self._note(f"apply {obj['kind']}/{obj['metadata']['name']}")
        self.put(obj)
        return copy.deepcopy(obj)

    async def create(self, kind: Kind, namespace: str, obj: Object) -> Object:
        name = obj["metadata"]["name"]
        self._note(f"create {obj['kind']}/{name if obj['kind'] != 'Event' else obj['reason']}")
        if (obj["kind"], name) in self.objects:
            raise ApiError(409, "AlreadyExists", name)
        self.put(obj)
        return copy.deepcopy(obj)

    async def merge(
        self, kind: Kind, namespace: str | None, name: str, patch: Mapping[str, Any], *, subresource: str = ""
    ) -> Object:
        self._note(f"merge {_KIND_OF[kind.plural]}/{name}{subresource}")
        found = self.objects[_KIND_OF[kind.plural], name]
        for section, changes in patch.items():
            found.setdefault(section, {}).update(changes)
        return copy.deepcopy(found)

    async def delete(self, kind: Kind, namespace: str, name: str) -> None:
        self._note(f"delete {_KIND_OF[kind.plural]}/{name}")
        self.objects.pop((_KIND_OF[kind.plural], name), None)
