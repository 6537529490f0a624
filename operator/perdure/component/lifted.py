"""Calling a lifted core function of a running component (`CanonicalABI.md`, "canon lift")."""

from __future__ import annotations

from dataclasses import dataclass
from inspect import isgeneratorfunction
from typing import TYPE_CHECKING

from perdure.component.canonical.functions import ExportCode
from perdure.component.canonical.layout import has_borrows
from perdure.component.context import CallContext
from perdure.component.entry import Arrays
from perdure.component.handles import BorrowScope
from perdure.component.plan import ExportedFunc, Lift
from perdure.component.steps import Steps
from perdure.component.traps import AbiTrap
from perdure.errors import TypeMismatch

if TYPE_CHECKING:
    from perdure.component.canonical.lower import Lowering
    from perdure.component.instance import Instance


LOWERING, RUNNING, CLEANING = 0, 1, 2
"""How far a call came: it lowers arguments, runs, has a result and runs its post-return."""


def misfit(func: ExportedFunc, error: Exception) -> TypeMismatch:
    """The error for `error`, which is one of MISFIT."""
    wanted = ", ".join(name for name, _ in func.type.params)
    about = "a field is missing, or a value is none of its type's: " if isinstance(error, KeyError) else ""
    return TypeMismatch(f"the arguments do not fit {func.path}({wanted}): {about}{error}", parameter=wanted)


@dataclass(frozen=True, slots=True)
class Callee:
    """A lifted function as it is once for each component, and each way to call it.

    `entering`: the component instances that a call from the host enters; empty where no component instance could be
    entered twice. `transcodes`: the result's strings go to a component with another encoding.
    """

    number: int
    lift: Lift
    code: ExportCode
    entering: tuple[int, ...]
    transcodes: bool


class Lifted:
    """A lifted function of one running component. Made when it is first called: its core function exists by then."""

    __slots__ = ("_code", "_core", "_cx", "_instance", "_params", "_post_return", "_results", "_takes")

    def __init__(self, instance: Instance, callee: Callee, cx: CallContext, core: int, post_return: int | None) -> None:
        self._instance = instance
        self._code = callee.code
        self._cx = cx
        self._core = core
        self._post_return = post_return
        params, results = callee.code.core
        self._params, self._results = len(params), len(results)
        self._takes = [kind for _, kind in callee.lift.type.params]

    def offer(self, path: str) -> None:
        """The next call may go the short way (`State.call_at_once`), unless it needs what only the generators do."""
        code, cx = self._code, self._cx
        if any(map(has_borrows, self._takes)) or (isgeneratorfunction(code.lower_params) and not cx.realloc):
            return
        lower = code.lower_params if self._takes else None
        lift = code.lift_result if self._results else None
        self._instance.offer(
            path, self._core, self._params, self._results, self._post_return or 0, cx.realloc, lower, lift, cx
        )

    def begin(self) -> BorrowScope:
        """A new call. The scope will hold what it borrows."""
        scope = self._cx.scope = BorrowScope()
        return scope

    def lower(self, arrays: Arrays, values: tuple[object, ...]) -> Steps[None] | None:
        """Write the arguments: None when it is done, or the steps that are left."""
        lowering = self._code.lower_params(self._cx, arrays.args, values)
        return None if lowering is None else self._instance.allocator.lower(self._cx.realloc, lowering)

    def take_back(self) -> None:
        """The arguments did not fit: what was lowered of them is undone, as far as it can be seen from outside."""
        self._cx.take_back()

    def enter(self, arrays: Arrays) -> Steps[None] | None:
        """Call the core function, as `Instance.run`."""
        return self._instance.run(self._core, arrays, arrays.args, self._params, self._results)

    def lowering(self, lowering: Lowering, left: int) -> Steps[None]:
        """What is left of lowering that `State.call_at_once` has begun."""
        return self._instance.allocator.go_on(self._cx.realloc, lowering, left)

    def result(self, arrays: Arrays, scope: BorrowScope) -> object:
        """What the core function has returned."""
        value = self._code.lift_result(self._cx, arrays.results)
        if scope.borrowed:
            raise AbiTrap(f"{scope.borrowed} borrowed handles were not dropped by the end of the call")
        return value

    def post_return(self, arrays: Arrays) -> Steps[None] | None:
        """Let the guest clean up what its result pointed to, as `Instance.run`; it may not call out meanwhile."""
        if self._post_return is None:
            return None
        instance = self._instance
        instance.may_leave = False
        rest = instance.run(self._post_return, arrays, arrays.results, self._results, 0)
        if rest is not None:
            return self.cleaning(rest)
        instance.may_leave = True
        return None

    def cleaning(self, rest: Steps[None]) -> Steps[None]:
        """What is left of the clean-up."""
        yield from rest
        self._instance.may_leave = True
