"""Is a concurrent history of one key linearizable? An exact answer, for registers and counters. Pure.

An operation took effect at one moment between its call and its return. One whose outcome its caller never learnt
(`returned` is infinite) took effect at some moment after its call, or never. The search is that of Wing and Gong with
the memory of Lowe: what was linearized already, together with the state, is looked at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

UNKNOWN = object()
"""As `result`: the caller does not know it."""


@dataclass(frozen=True, slots=True)
class Operation:
    """`kind`: `add` (argument: the difference, result: the sum), `swap` (argument: the new value, result: the former
    one), `put` (argument: the value), `get` (result: the value). Times in seconds."""

    kind: str
    argument: object
    result: object
    called: float
    returned: float = math.inf


def linearizable(history: Sequence[Operation], initial: object = None, *, most: int = 2_000_000) -> bool:
    """Raises `OverflowError` when the search takes more than `most` steps."""
    operations = sorted(history, key=lambda one: one.called)
    return _search(operations, initial, most)


def _step(state: object, operation: Operation) -> tuple[bool, object]:
    """Whether the result fits the state, and the state after it."""
    result = operation.result
    match operation.kind:
        case "add":
            after: object = int(str(state or 0)) + int(str(operation.argument))
            return result is UNKNOWN or result == after, after
        case "swap":
            return result is UNKNOWN or result == state, operation.argument
        case "put":
            return True, operation.argument
        case "get":
            return result is UNKNOWN or result == state, state
    raise ValueError(f"{operation.kind!r} is no kind of operation")


def _search(operations: list[Operation], initial: object, most: int) -> bool:
    """Depth first. `low`: all before it are linearized; `done`: those beyond it that are."""
    total = len(operations)
    stack: list[tuple[int, frozenset[int], object]] = [(0, frozenset(), initial)]
    seen: set[tuple[int, frozenset[int], object]] = set()
    while stack:
        low, done, state = stack.pop()
        while low in done:
            done, low = done - {low}, low + 1
        if (low, done, state) in seen:
            continue
        seen.add((low, done, state))
        if len(seen) > most:
            raise OverflowError(f"{most} steps are not enough for a history of {total}")
        # The first return among the others: whatever is called after it comes after it.
        candidates, first = [], math.inf
        required = False
        for at in range(low, total):
            if at in done:
                continue
            operation = operations[at]
            if operation.called > first:
                break
            candidates.append(at)
            required = required or operation.returned != math.inf
            first = min(first, operation.returned)
        # Nothing is left, or only what may never have happened.
        rest = (operations[at] for at in range(low, total) if at not in done)
        if not required and all(one.returned == math.inf for one in rest):
            return True
        for at in reversed(candidates):
            fits, after = _step(state, operations[at])
            if fits:
                stack.append((low, done | {at}, after))
    return False
