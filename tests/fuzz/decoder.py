"""Decoder, linker and everything that a component passes on its way to an instance, fed with spoiled components.

What may happen: a `ComponentError`, or a plan; the same where it is only to be described. A loaded component has been
through the validator before; here the decoder gets everything. A sample of the plans is loaded: what is valid must load,
bind (or be refused by name), and start (or trap). A sample of the refusals is validated as well: a valid component may be
called unsupported, never malformed.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

import wasmtime
from wasmtime.component import Component as StockComponent

from fuzz.binary import HEADER, section
from fuzz.bombs import bomb
from fuzz.command import main
from fuzz.corpus import corpus
from fuzz.grammar import component_of
from fuzz.harness import Fuzzer, Unexpected
from fuzz.mutations import Material, mutate
from perdure.component.about import about_component
from perdure.component.component import Component
from perdure.component.coremodule import read_module
from perdure.component.decode import decode_component
from perdure.component.engine import Engine, EngineConfig
from perdure.component.host import HostFunction, HostResource, HostTrap
from perdure.component.instance import InstanceLimits
from perdure.component.link import link
from perdure.component.types import FuncType
from perdure.component.validator import validate
from perdure.component.wit_world import format_world
from perdure.errors import ComponentError, ComponentUnsupported, GuestTrapped, InvocationTimeout
from support.generated.source import Seeded, one_in

_SECONDS = 0.3


class _Anything:
    """Provides every import; each function ends the guest's call."""

    def function(self, interface: str, name: str, type: FuncType) -> HostFunction | None:  # noqa: A002
        return _refuse

    def resource(self, interface: str, name: str) -> HostResource | None:
        return HostResource()


def _refuse(*_args: object) -> object:
    raise HostTrap("not here")


class DecoderFuzzer(Fuzzer):
    """`address_space_mb` bounds what a case can allocate."""

    name = "decoder"
    accepted = ("planned", "valid, started", "valid, trapped at its start")
    address_space_mb = 8 << 10

    def __init__(self) -> None:
        self._materials = [Material(data) for data in corpus()]
        self._runner = asyncio.Runner()
        self._engine = Engine(EngineConfig(memory_reservation=1 << 24))
        settings = wasmtime.Config()
        settings.cranelift_opt_level = "none"
        self._validator = wasmtime.Engine(settings)

    def close(self) -> None:
        self._engine.close()
        self._runner.close()

    def data(self, number: int, source: Seeded) -> bytes:
        if one_in(source, 200):
            return bomb(source)
        if one_in(source, 4):
            return component_of(source)
        return mutate(source, self._materials)

    def run(self, number: int, source: Seeded) -> tuple[str, ...]:
        data = self.data(number, source)
        return (self._outcome(data, source),)

    def _outcome(self, data: bytes, source: Seeded) -> str:
        if one_in(source, 8):
            self._read(data)
        try:
            for module in link(decode_component(data)).modules:
                read_module(module)
        except ComponentUnsupported:
            return "unsupported"
        except ComponentError as error:
            if one_in(source, 50):
                self._validate(data)
                if self._is_valid(data):
                    raise Unexpected(f"a valid component is called malformed: {error}") from error
            return "refused"
        return self._runner.run(self._load(data)) if one_in(source, 8) else "planned"

    def _read(self, data: bytes) -> None:
        """What `perdure inspect` makes of it: text, or a `ComponentError`."""
        try:
            about = about_component(data)
        except ComponentError:
            return
        format_world(about.world)

    def _validate(self, data: bytes) -> None:
        """What loading does before it decodes: nothing, or a `ComponentError`."""
        with contextlib.suppress(ComponentError):
            validate(data)

    def _is_valid(self, data: bytes) -> bool:
        """In full, within a component that does not instantiate it (docs/adr/0006)."""
        try:
            StockComponent(self._validator, HEADER + section(4, data))
        except wasmtime.WasmtimeError:
            return False
        return True

    async def _load(self, data: bytes) -> str:
        try:
            component = await Component.load(self._engine, data)
        except ComponentError as error:
            if not isinstance(error, ComponentUnsupported) and self._is_valid(data):
                raise Unexpected(f"a valid component does not load: {error}") from error
            return "planned, but not valid"
        try:
            bound = component.bind(_Anything())
        except ComponentUnsupported:
            return "valid, unsupported"
        deadline = asyncio.get_running_loop().time() + _SECONDS
        try:
            instance = await bound.instantiate(None, limits=InstanceLimits(memory=1 << 24), deadline=deadline)
        except (GuestTrapped, InvocationTimeout):
            return "valid, trapped at its start"
        instance.close()
        return "valid, started"


if __name__ == "__main__":
    sys.exit(main(DecoderFuzzer, "fuzz.decoder", (__doc__ or "").partition("\n")[0]))
