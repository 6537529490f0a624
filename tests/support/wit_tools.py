"""`wasm-tools` as a second opinion on WIT, where it is installed."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any


def wasm_tools() -> str | None:
    """The program in ${PERDURE_CACHE:-~/.cache/perdure}/bin or on the path; building it takes minutes, so no test does."""
    cache = Path(os.environ.get("PERDURE_CACHE") or Path.home() / ".cache" / "perdure")
    return shutil.which(cache / "bin" / "wasm-tools") or shutil.which("wasm-tools")


def resolved(source: Path) -> dict[str, Any]:
    """What `wasm-tools component wit` makes of a component or of WIT text, in a form that can be compared."""
    program = wasm_tools()
    assert program is not None
    command = [program, "component", "wit", "--json", str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return _Resolved(json.loads(done.stdout)).compared()


class _Resolved:
    """Indices are replaced by names, and order does not count."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.types = document["types"]
        self.interfaces = document["interfaces"]
        self.packages = document["packages"]
        self.world = next(world for world in document["worlds"] if world["name"] == "root")

    def compared(self) -> dict[str, Any]:
        named = {self.path(at): self.content(at) for at, found in enumerate(self.interfaces) if found["name"]}
        sides = {
            side: sorted(self.item(key, value) for key, value in self.world[side].items())
            for side in ("imports", "exports")
        }
        return {"interfaces": named, **sides}

    def path(self, at: int) -> str:
        found = self.interfaces[at]
        return f"{self.packages[found['package']]['name']}/{found['name']}"

    def item(self, key: str, value: dict[str, Any]) -> str:
        ((kind, content),) = value.items()
        if kind == "function":
            return f"{key}: {self.function(content)}"
        at = content["id"] if isinstance(content, dict) else content
        if kind == "type":
            return f"type {key} = {self.defined(at)}"
        return self.path(at) if self.interfaces[at]["name"] else f"{key}: {self.content(at)}"

    def content(self, at: int) -> str:
        found = self.interfaces[at]
        types = {name: self.defined(index) for name, index in found["types"].items()}
        functions = {name: self.function(func) for name, func in found["functions"].items()}
        return json.dumps([types, functions], sort_keys=True)

    def function(self, func: dict[str, Any]) -> str:
        params = [(param["name"], self.mentioned(param["type"])) for param in func["params"]]
        return f"{func['name']} {params} -> {self.mentioned(func.get('result'))}"

    def mentioned(self, t: int | str | None) -> str:
        if t is None or isinstance(t, str):
            return str(t)
        found = self.types[t]
        if not found["name"]:
            return self.defined(t)
        owner = found["owner"]
        where = self.path_or_own(owner["interface"]) if "interface" in owner else "the world"
        return f"{where}.{found['name']}"

    @functools.cached_property
    def _inline(self) -> frozenset[int]:
        return frozenset(at for at, found in enumerate(self.interfaces) if not found["name"])

    def path_or_own(self, at: int) -> str:
        return "its own" if at in self._inline else self.path(at)

    def defined(self, t: int | str) -> str:
        if isinstance(t, str):
            return t
        kind = self.types[t]["kind"]
        if isinstance(kind, str):
            return kind
        ((word, content),) = kind.items()
        return f"{word} {self._parts(word, content)}"

    def _parts(self, word: str, content: Any) -> Any:
        match word:
            case "record":
                return [(field["name"], self.mentioned(field["type"])) for field in content["fields"]]
            case "variant":
                return [(case["name"], self.mentioned(case["type"])) for case in content["cases"]]
            case "enum":
                return [case["name"] for case in content["cases"]]
            case "flags":
                return [flag["name"] for flag in content["flags"]]
            case "tuple":
                return [self.mentioned(t) for t in content["types"]]
            case "result":
                return [self.mentioned(content["ok"]), self.mentioned(content["err"])]
            case "handle":
                ((kind, t),) = content.items()
                return [kind, self.mentioned(t)]
            case _:
                return self.mentioned(content)
