"""What a host gives to a component: functions and resources for its imports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from perdure.component.traps import HostTrap
from perdure.component.types import FuncType

__all__ = ["Context", "HostFunction", "HostResource", "HostTrap", "ImportResolver", "RefusedFunction"]

Context: TypeAlias = object
"""The object given to `BoundComponent.instantiate`; each host function gets it first."""

HostFunction: TypeAlias = Callable[..., object]
"""`fn(context, *arguments)` → the result, or a coroutine: then the guest's fiber waits while others run. A coroutine's
first step is taken at once, within the guest's call, as a plain function is.

Values are those of `perdure.component.types`. A `HostTrap` ends the guest's call; any other exception reaches the
caller of `Instance.call` unchanged. Either way the instance is not usable any more.
"""


@dataclass(frozen=True, slots=True)
class HostResource:
    """A resource type the host provides. `drop(context, representation)` runs when the guest drops an own handle."""

    drop: Callable[..., object] | None = None


@dataclass(frozen=True, slots=True)
class RefusedFunction:
    """A `HostFunction` that is there to be imported and traps, by name, when it is called.

    Many toolchains import what they never call.
    """

    name: str

    def __call__(self, context: object, *arguments: object) -> object:
        raise HostTrap(f"the guest called {self.name}, which Perdure does not support")


class ImportResolver(Protocol):
    """Resolves a component's imports once, before any instance exists. None: this resolver does not have it."""

    def function(self, interface: str, name: str, type: FuncType) -> HostFunction | None:  # noqa: A002
        """E.g. ("wasi:io/streams@0.2.6", "[method]output-stream.write", …); `interface` "" at the top level."""

    def resource(self, interface: str, name: str) -> HostResource | None:
        """E.g. ("wasi:io/streams@0.2.6", "output-stream")."""
