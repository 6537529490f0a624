"""Finding an exported function by the name in a request. Pure.

`golem:examples/api.set` always works; the version may be left out (`golem:examples/api@1.0.0.set` too), and the
bare `set` works where one function only has that name.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from perdure.component.plan import ExportedFunc
from perdure.errors import NoSuchFunction
from perdure.keyvalue.watcher import is_watcher


class FunctionIndex:
    """Looks functions up by full, unversioned or bare name."""

    def __init__(self, exports: Sequence[ExportedFunc]) -> None:
        self._by_name: dict[str, list[ExportedFunc]] = {}
        self._not_for_callers: set[str] = set()
        callable_ = [func for func in exports if not is_watcher(func)]
        for func in callable_:
            for name in _names(func):
                self._by_name.setdefault(name, []).append(func)
        for func in filter(is_watcher, exports):
            self._not_for_callers |= _names(func)
        self._paths = sorted(func.path for func in callable_)

    def find(self, name: str) -> ExportedFunc:
        """Raises `NoSuchFunction` with the near matches or the choices."""
        found = self._by_name.get(name, [])
        if len(found) == 1:
            return found[0]
        if found:
            choices = ", ".join(sorted(func.path for func in found))
            raise NoSuchFunction(f"{name!r} is ambiguous: name one of {choices}")
        if name in self._not_for_callers:
            raise NoSuchFunction(
                f"{name!r} is not for callers: it is called for the changes of watched buckets "
                "(spec.keyValue.buckets[].watch)"
            )
        near = difflib.get_close_matches(name, list(self._by_name), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        listed = ", ".join(self._paths[:20]) or "nothing"
        raise NoSuchFunction(f"the component exports no function {name!r}{hint} It exports {listed}")


def _names(func: ExportedFunc) -> set[str]:
    return {func.path, _unversioned(func), func.name}


def _unversioned(func: ExportedFunc) -> str:
    interface = func.interface.partition("@")[0]
    return f"{interface}.{func.name}" if interface else func.name
