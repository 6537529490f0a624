"""The core modules that stand between a component's core modules and the host: one function for each canonical one.

A trampoline calls the host, and the guest's `realloc` where the host asks for memory, all on the guest's own fiber: to
enter the guest anew for each allocation costs several times what the rest of a host call does. It holds no state. In
the text format, for a function whose result needs memory:

    (func (param …) (local $outcome i32) (local $old i32) (local $old_size i32) (local $alignment i32) (local $size i32)
      (call $begin (local.get …))                  ;; sets the locals, as $next does
      (loop $again
        (if (local.get $outcome) (then             ;; 0: finished
          (call $next (if (result i32) (i32.eq (local.get $outcome) (i32.const 1))
            (then (call $realloc (local.get $old) (local.get $old_size) (local.get $alignment) (local.get $size)))
            (else (call $wait) (i32.const 0))))
          (br $again)))))

Others can only wait, and have their flat result, if any, in the place of the arguments for `realloc`. `crossing.py` is
the host's side. Trampolines are instantiated in groups, each just before the first core module that imports one of it:
the functions that they call exist by then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias, cast

from perdure.component.canonical.functions import allocates_result
from perdure.component.canonical.layout import core_signature
from perdure.component.coremodule import encoded_section, encoded_u32, encoded_vector, sized
from perdure.component.plan import Canon, CanonRef, CoreRef, HostImport, Lift, LinkPlan, Lower, ResourceBuiltin
from perdure.errors import ComponentError

CoreSignature: TypeAlias = tuple[tuple[str, ...], tuple[str, ...]]

FORMAT = 1
"""Changes with the modules that are made here: compiled code is kept under it."""
HOST, GUEST = "host", "guest"
"""The import spaces of a group: `host` has `wait`, `begin N` and `next KIND`; `guest` the `realloc`s, by number."""

_REQUEST = ("i32", "i32", "i32", "i32")
_REALLOC: CoreSignature = (_REQUEST, ("i32",))
_WAIT: CoreSignature = ((), ())
_TYPE = {"i32": 0x7F, "i64": 0x7E, "f32": 0x7D, "f64": 0x7C}
_IF, _IF_I32, _ELSE, _END, _LOOP, _REPEAT = b"\x04\x40", b"\x04\x7f", b"\x05", b"\x0b", b"\x03\x40", b"\x0c\x01"
_ZERO, _ONE, _EQUAL = b"\x41\x00", b"\x41\x01", b"\x46"


@dataclass(frozen=True, slots=True)
class GroupImport:
    """What a group imports of the host. `canon`: whose arguments it begins with; None: `next` or `wait`."""

    name: str
    signature: CoreSignature
    canon: int | None = None

    @property
    def suspends(self) -> bool:
        return self.signature == _WAIT


@dataclass(frozen=True, slots=True)
class Group:
    """The trampolines of `canons`, exported under their numbers, to be instantiated before step `before` of the plan
    as core instance `instance`. `reallocs`: what is imported of the guest, in the order of the names."""

    instance: int
    before: int
    canons: tuple[int, ...]
    reallocs: tuple[CoreRef, ...]
    imports: tuple[GroupImport, ...]
    binary: bytes


def trampoline_groups(plan: LinkPlan) -> tuple[Group, ...]:
    """Every canonical function that a core module imports, or that is called by what is one. Raises
    `ComponentError` for a function that lacks a `realloc`."""
    made: set[int] = set()
    groups: list[Group] = []
    lifts = [func.target for func in plan.exports if isinstance(func.target, Lift)]
    at_last = [*_of_lifts(lifts), *(cast("CoreRef | None", one.destructor) for one in plan.resources)]
    wanted: list[tuple[int, Iterable[CoreRef | None]]] = [(step.instance, step.imports) for step in plan.steps]
    for before, refs in [*wanted, (len(plan.steps), at_last)]:
        new: set[int] = set()
        _reach(plan, refs, made, new)
        if new:
            made |= new
            groups.append(_group(plan, len(plan.steps) + len(groups), before, tuple(sorted(new))))
    return tuple(groups)


def _reach(plan: LinkPlan, refs: Iterable[CoreRef | None], made: set[int], new: set[int]) -> None:
    left = list(refs)
    while left:
        ref = left.pop()
        if isinstance(ref, CanonRef) and ref.index not in made and ref.index not in new:
            new.add(ref.index)
            left += _called_by(plan.canons[ref.index])


def _called_by(canon: Canon) -> Iterator[CoreRef | None]:
    if isinstance(canon, ResourceBuiltin):
        yield cast("CoreRef | None", canon.resource.destructor)
        return
    yield canon.options.realloc
    if isinstance(canon.func, Lift):
        yield from _of_lifts([canon.func])


def _of_lifts(lifts: Iterable[Lift]) -> Iterator[CoreRef | None]:
    for lift in lifts:
        yield from (lift.core, lift.options.realloc, lift.options.post_return)


def signature(canon: Canon) -> CoreSignature:
    """(params, results) of a canonical function, as core types."""
    if isinstance(canon, Lower):
        return core_signature(canon.func.type, lowered=True)
    return (("i32",), ()) if canon.op == "drop" else (("i32",), ("i32",))


def _allocates(canon: Canon) -> bool:
    """Whether the host may ask for memory. (A call between components does its own lowering.)"""
    return isinstance(canon, Lower) and isinstance(canon.func, HostImport) and allocates_result(canon.func.type)


def _group(plan: LinkPlan, instance: int, before: int, canons: tuple[int, ...]) -> Group:
    imports = {"wait": GroupImport("wait", _WAIT)}
    reallocs: dict[CoreRef, int] = {}
    for number in canons:
        canon = plan.canons[number]
        params, results = signature(canon)
        if _allocates(canon):
            assert isinstance(canon, Lower)
            if canon.options.realloc is None:
                raise ComponentError("malformed component: a lowered function without the realloc that it needs")
            if not (isinstance(canon.options.realloc, CanonRef) and canon.options.realloc.index in canons):
                reallocs.setdefault(canon.options.realloc, len(reallocs))
            results = _REQUEST
        name = " ".join(("next", *results))
        imports[name] = GroupImport(name, (("i32",), ("i32", *results)))
        name = f"begin {number}"
        imports[name] = GroupImport(name, (params, ("i32", *results)), number)
    made = _Module(tuple(imports.values()), len(reallocs))
    for number in canons:
        canon = plan.canons[number]
        realloc: int | None = None
        if _allocates(canon):
            assert isinstance(canon, Lower)
            ref = canon.options.realloc
            if isinstance(ref, CanonRef) and ref.index in canons:
                realloc = made.imported + canons.index(ref.index)
            else:
                assert ref is not None
                realloc = len(imports) + reallocs[ref]
        made.add(number, signature(canon), realloc)
    return Group(instance, before, canons, tuple(reallocs), tuple(imports.values()), made.binary())


class _Module:
    """The binary of one group. Functions are numbered: the host's, the guest's, the trampolines."""

    def __init__(self, imports: tuple[GroupImport, ...], reallocs: int) -> None:
        self._types: dict[CoreSignature, int] = {}
        self._number = {one.name: number for number, one in enumerate(imports)}
        self._imports = [self._import(HOST, one.name, one.signature) for one in imports]
        self._imports += [self._import(GUEST, str(number), _REALLOC) for number in range(reallocs)]
        self.imported = len(self._imports)
        self._functions: list[bytes] = []
        self._exports: list[bytes] = []
        self._bodies: list[bytes] = []

    def add(self, canon: int, kind: CoreSignature, realloc: int | None) -> None:
        """The trampoline of `canon`; `realloc`: the number of a function."""
        number = self.imported + len(self._functions)
        self._functions.append(self._type(kind))
        self._exports.append(sized(b"%d" % canon) + b"\x00" + encoded_u32(number))
        self._bodies.append(sized(self._body(canon, kind, realloc)))

    def binary(self) -> bytes:
        types = [b"\x60" + _types(params) + _types(results) for params, results in self._types]
        sections = {1: types, 2: self._imports, 3: self._functions, 7: self._exports, 10: self._bodies}
        parts = [encoded_section(number, encoded_vector(items)) for number, items in sections.items()]
        return b"\x00asm\x01\x00\x00\x00" + b"".join(parts)

    def _import(self, space: str, name: str, kind: CoreSignature) -> bytes:
        return sized(space.encode()) + sized(name.encode()) + b"\x00" + self._type(kind)

    def _type(self, kind: CoreSignature) -> bytes:
        return encoded_u32(self._types.setdefault(kind, len(self._types)))

    def _call(self, name: str) -> bytes:
        return b"\x10" + encoded_u32(self._number[name])

    def _body(self, canon: int, kind: CoreSignature, realloc: int | None) -> bytes:
        params, results = kind
        others = results if realloc is None else _REQUEST
        outcome = len(params)
        values = range(outcome + 1, outcome + 1 + len(others))
        take = b"".join(_set(local) for local in (*reversed(values), outcome))
        answer = self._call("wait") + _ZERO
        if realloc is not None:
            allocate = b"".join(map(_get, values)) + b"\x10" + encoded_u32(realloc)
            answer = _get(outcome) + _ONE + _EQUAL + _IF_I32 + allocate + _ELSE + answer + _END
        return b"".join(
            (
                encoded_vector([b"\x01" + bytes([_TYPE[one]]) for one in ("i32", *others)]),
                *map(_get, range(outcome)),
                self._call(f"begin {canon}") + take,
                _LOOP + _get(outcome) + _IF,
                answer + self._call(" ".join(("next", *others))) + take,
                _REPEAT + _END + _END,
                *(map(_get, values) if results else ()),
                _END,
            )
        )


def _types(cores: tuple[str, ...]) -> bytes:
    return encoded_vector([bytes([_TYPE[core]]) for core in cores])


def _get(local: int) -> bytes:
    return b"\x20" + encoded_u32(local)


def _set(local: int) -> bytes:
    return b"\x21" + encoded_u32(local)
