"""A component's imports resolved and its functions' code generated, of its plan alone: nothing needs to be compiled."""

from __future__ import annotations

from perdure.component.canonical.functions import component_code, export_code, host_code
from perdure.component.host import HostFunction, ImportResolver
from perdure.component.imports import ComponentCall, CoreImport, HostCall, ResourceCall
from perdure.component.lifted import Callee
from perdure.component.plan import HostImport, Lift, LinkPlan, Lower, ResourceBuiltin
from perdure.errors import ComponentUnsupported


class Binding:
    """`imports`: what core modules import of the host, one for each of the plan's canons. `callees`: the lifted
    functions, by number; `exports`: those that are exported, by path. `reexported`: the host's own that are."""

    def __init__(self, plan: LinkPlan, resolver: ImportResolver) -> None:
        """Raises `ComponentUnsupported` naming the imports that nobody provides, or a type beyond measure."""
        self.callees: list[Callee] = []
        self.reexported: dict[HostImport, HostFunction] = {}
        self.imports: list[CoreImport] = []
        self._parents = plan.parents
        self._resolver = resolver
        self._missing: list[str] = []
        self._callee_of: dict[tuple[Lift, bool], Callee] = {}
        self._composed = any(not isinstance(canon, Lower) or isinstance(canon.func, Lift) for canon in plan.canons)
        for index, canon in enumerate(plan.canons):
            if isinstance(canon, ResourceBuiltin):
                self.imports.append(self._resource_call(canon))
            elif isinstance(canon.func, Lift):
                self.imports.append(self._component_call(index, canon, canon.func))
            elif (function := self._function(canon.func)) is not None:
                path = f"{canon.func.interface}.{canon.func.name}" if canon.func.interface else canon.func.name
                self.imports.append(HostCall(host_code(canon.func.type, path, index, function).begin))
        self.exports: dict[str, Callee] = {}
        for func in plan.exports:
            if isinstance(func.target, Lift):
                self.exports[func.path] = self._callee(func.target, transcodes=False)
            elif (function := self._function(func.target)) is not None:
                self.reexported[func.target] = function
        if self._missing:
            names = ", ".join(sorted(set(self._missing)))
            raise ComponentUnsupported(
                f"the component imports what Perdure does not provide: {names}", feature=self._missing[0]
            )

    def _function(self, wanted: HostImport) -> HostFunction | None:
        function = self._resolver.function(wanted.interface, wanted.name, wanted.type)
        if function is None:
            self._missing.append(f"{wanted.interface} {wanted.name}".strip())
        return function

    def _resource_call(self, canon: ResourceBuiltin) -> ResourceCall:
        resource = canon.resource
        if resource.interface is None:
            entering = self.entering(resource.component_instance, canon.component_instance)
            return ResourceCall(canon, None, entering)
        provided = self._resolver.resource(resource.interface, resource.name)
        if provided is None:
            self._missing.append(f"{resource.interface} {resource.name}".strip())
        return ResourceCall(canon, None if provided is None else provided.drop, ())

    def _component_call(self, index: int, canon: Lower, lift: Lift) -> ComponentCall:
        encodings = {canon.options.encoding, lift.options.encoding}
        transcodes = len(encodings) > 1 or "latin1+utf16" in encodings
        callee = self._callee(lift, transcodes=transcodes)
        entering = self.entering(lift.component_instance, canon.component_instance)
        return ComponentCall(index, component_code(lift.type), callee.number, entering, transcodes)

    def _callee(self, lift: Lift, *, transcodes: bool) -> Callee:
        found = self._callee_of.get((lift, transcodes))
        if found is None:
            entering = self.entering(lift.component_instance, None) if self._composed else ()
            found = Callee(len(self.callees), lift, export_code(lift.type), entering, transcodes)
            self.callees.append(found)
            self._callee_of[lift, transcodes] = found
        return found

    def entering(self, callee: int | None, caller: int | None) -> tuple[int, ...]:
        """The component instances that a call enters: the callee and those around it, unless around the caller too
        ("Component Instances", `entering_set`)."""
        around_caller = self._around(caller)
        return tuple(number for number in self._around(callee) if number not in around_caller)

    def _around(self, number: int | None) -> list[int]:
        found = []
        while number is not None:
            found.append(number)
            number = self._parents[number]
        return found
