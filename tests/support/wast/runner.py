"""Carrying out the commands of one script, as `wasm-tools json-from-wast` writes them.

A component the runtime refuses by name makes its own commands "refused" with that feature, never "failed". "differs"
is what the runtime does otherwise on purpose; each such difference is a constant below that says why.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from perdure.component.component import BoundComponent, Component
from perdure.component.engine import Engine
from perdure.component.instance import Instance, InstanceLimits
from perdure.component.plan import ExportedFunc
from perdure.errors import ComponentError, ComponentUnsupported, GuestTrapped, InvocationTimeout
from support.wast.host import ScriptHost
from support.wast.values import Misfit, arguments, same, value

SECONDS = 20.0
Status = Literal["passed", "refused", "differs", "failed"]

# What wasmtime calls its own traps → the kind that `GuestTrapped.trap` names; any other text is the canonical ABI's.
_CORE_TRAPS = {
    "wasm `unreachable` instruction executed": "unreachable",
    "unreachable": "unreachable",
    "integer divide by zero": "integer-division-by-zero",
    "out of bounds memory access": "memory-out-of-bounds",
    "undefined element": "table-out-of-bounds",
    "uninitialized element": "indirect-call-to-null",
    "indirect call type mismatch": "bad-signature",
    "call stack exhausted": "stack-overflow",
    "uncaught exception": "uncaught-exception",
    "thrown Wasm exception": "uncaught-exception",
}
NOT_USABLE = "cannot enter component instance"
UNUSED_IMPORTS = "imports that nothing calls are not asked for"
MORE_THAN_WASMTIME = "a restriction of wasmtime's own, not of the specification"
AROUND = "calls between a component and those around it: the specification's text allows them, the suites do not yet"
LONG_STRINGS = "the specification's limit of 2^28 - 1 bytes, which wasmtime does not have"


@dataclass(frozen=True, slots=True)
class Case:
    line: int
    kind: str
    status: Status
    detail: str = ""


class Refused(Exception):
    """The runtime does not support what the command needs; the text names the feature."""


class Differs(Exception):
    """The runtime does something else on purpose; the text is one of the reasons above."""


class Failed(Exception):
    """The command did not do what the script says."""


@dataclass
class Script:
    engine: Engine
    folder: Path
    host: ScriptHost = field(default_factory=ScriptHost)
    definitions: dict[str | None, Component | Exception] = field(default_factory=dict)
    instances: dict[str | None, Instance | Exception] = field(default_factory=dict)

    async def run(self, commands: list[dict[str, Any]]) -> AsyncIterator[Case]:
        for command in commands:
            kind, line = command["type"], command["line"]
            try:
                await self._command(kind, command)
            except Refused as refused:
                yield Case(line, kind, "refused", str(refused))
            except Differs as differs:
                yield Case(line, kind, "differs", str(differs))
            except Failed as failed:
                yield Case(line, kind, "failed", str(failed))
            except Exception as error:  # noqa: BLE001 - a defect of the runtime is a result, and the script goes on
                yield Case(line, kind, "failed", f"{type(error).__name__}: {error}")
            else:
                yield Case(line, kind, "passed")
        for instance in self.instances.values():
            if isinstance(instance, Instance):
                instance.close()

    async def _command(self, kind: str, command: dict[str, Any]) -> None:
        match kind:
            case "module":
                await self._define(command.get("name"), command)
                await self._instantiate(command.get("name"), command.get("name"))
            case "module_definition":
                await self._define(command.get("name"), command)
            case "module_instance":
                await self._instantiate(command.get("instance"), command.get("module"))
            case "action":
                await self._invoke(command["action"])
            case "assert_return":
                await self._assert_return(command)
            case "assert_trap" | "assert_exhaustion" | "assert_exception":
                await self._assert_trap(self._invoke(command["action"]), command.get("text", "exception"))
            case "assert_uninstantiable":
                component = await self._load(command)
                await self._assert_trap(self._start(component), command["text"])
            case "assert_unlinkable":
                await self._assert_unlinkable(command)
            case "assert_invalid" | "assert_malformed":
                await self._assert_invalid(command)
            case _:
                raise Refused(f"the command {kind}")

    # --- components

    async def _load(self, command: dict[str, Any]) -> Component:
        name = command.get("binary_filename") or command["filename"]
        data = (self.folder / name).read_bytes()
        if data[:4] != b"\0asm":
            raise Refused("text format")
        if data[4:8] == b"\x01\0\0\0":
            raise Refused("core modules on their own")
        try:
            return await Component.load(self.engine, data)
        except ComponentUnsupported as error:
            raise Refused(error.feature) from None
        except ComponentError as error:
            # Nothing of ours says so: the verdict is that of the validator in the wasmtime that is installed.
            if command["type"].startswith("module") and "not a valid component" in str(error):
                raise Refused(f"by the validator of wasmtime {version('wasmtime')}: {str(error)[23:]}") from None
            raise

    async def _define(self, name: str | None, command: dict[str, Any]) -> None:
        self.definitions[name] = Refused("no component")
        try:
            self.definitions[name] = await self._load(command)
        except (Refused, ComponentError) as error:
            self.definitions[name] = self.instances[name] = self.instances[None] = error
            if isinstance(error, Refused):
                raise
            raise Failed(str(error)) from None

    async def _instantiate(self, name: str | None, definition: str | None) -> None:
        component = self.definitions.get(definition, Failed(f"there is no component {definition}"))
        if isinstance(component, Exception):
            raise component
        try:
            made = await self._start(component)
        except (Refused, Failed) as error:
            self.instances[name] = self.instances[None] = error
            raise
        except GuestTrapped as trapped:
            self.instances[name] = self.instances[None] = Failed("its instantiation trapped")
            raise Failed(f"trapped: {trapped}") from None
        self.instances[name] = self.instances[None] = made

    async def _start(self, component: Component) -> Instance:
        try:
            bound: BoundComponent = component.bind(self.host)
        except ComponentUnsupported as error:
            raise Refused(f"import {error.feature}") from None
        deadline = asyncio.get_running_loop().time() + SECONDS
        return await bound.instantiate(None, limits=InstanceLimits(memory=4 << 30, lifted=1 << 30), deadline=deadline)

    # --- calls

    async def _invoke(self, action: dict[str, Any]) -> tuple[ExportedFunc, object]:
        if action["type"] != "invoke":
            raise Refused(f"the action {action['type']}")
        instance = self.instances.get(action.get("module"), Failed("there is no instance"))
        if isinstance(instance, Exception):
            raise instance
        exports = {func.name: func for func in instance.bound.component.exports if not func.interface}
        func = exports.get(action["field"])
        if func is None:
            raise Failed(f"there is no function {action['field']!r}")
        if not instance.usable:
            raise GuestTrapped(NOT_USABLE, trap="not-usable")
        deadline = asyncio.get_running_loop().time() + SECONDS
        return func, await instance.call(func, arguments(func.type, action["args"]), deadline=deadline)

    async def _assert_return(self, command: dict[str, Any]) -> None:
        try:
            func, got = await self._invoke(command["action"])
        except GuestTrapped as trapped:
            raise Failed(f"trapped: {trapped}") from None
        wanted = command["expected"]
        if (func.type.result is not None) != bool(wanted):
            raise Misfit("a result where none is expected, or none where one is")
        if func.type.result is not None:
            expected = value(func.type.result, wanted[0])
            if not same(expected, got):
                raise Failed(f"{got!r} was returned, not {expected!r}")

    async def _assert_trap(self, running: Any, text: str) -> None:
        try:
            got = await running
        except GuestTrapped as trapped:
            if text == NOT_USABLE and trapped.trap == "not-usable":
                return
            core = [kind for said, kind in _CORE_TRAPS.items() if said in text]
            if core and "the ABI allows" in str(trapped):
                raise Differs(LONG_STRINGS) from None
            if trapped.trap not in (core or ["canonical-abi"]):
                raise Failed(f"expected {text!r}; got {trapped.trap}: {trapped}") from None
            return
        except InvocationTimeout:
            raise Failed("it ran past its time") from None
        if NOT_USABLE in text:
            raise Differs(AROUND)
        raise Failed(f"it did not trap, and gave {got!r}")

    async def _assert_unlinkable(self, command: dict[str, Any]) -> None:
        component = await self._load(command)
        try:
            component.bind(self.host)
        except ComponentUnsupported:
            return
        if not component.plan.imports:
            raise Differs(UNUSED_IMPORTS)
        raise Failed(f"it links; expected {command['text']!r}")

    async def _assert_invalid(self, command: dict[str, Any]) -> None:
        try:
            await self._load(command)
        except ComponentError:
            return
        except Refused:
            if "feature" in command["text"]:
                return
            raise
        if "not implemented" in command["text"] or "is not supported" in command["text"]:
            raise Differs(MORE_THAN_WASMTIME)
        raise Failed(f"it is accepted; expected {command['text']!r}")


async def run_script(wasm_tools: Path, script: Path, folder: Path) -> list[Case]:
    """All cases of a script; `folder` is for the files that are made from it."""
    made = folder / "script.json"
    command = [str(part) for part in (wasm_tools, "json-from-wast", script, "-o", made, "--wasm-dir", folder)]
    # Suites are older and newer than the tool: both ways to write an export's reference are read.
    environment = {**os.environ, "WAST_STRICT_COMPONENT_INDICES": "0"}
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode:
        return [Case(0, "script", "refused", f"not read by wasm-tools: {done.stderr.strip().splitlines()[0]}")]
    with Engine() as engine:
        return [case async for case in Script(engine, folder).run(json.loads(made.read_text())["commands"])]
