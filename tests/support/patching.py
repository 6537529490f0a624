"""Modules whose parts are replaced for good, in a process of a test's own."""

from __future__ import annotations

from types import ModuleType


def put(module: ModuleType, **parts: object) -> None:
    """Under names that it has, those of what it imports included: a stale one would change nothing."""
    for name, part in parts.items():
        if not hasattr(module, name):
            raise AttributeError(f"{module.__name__} has no {name}: bring what replaces it up to date")
        setattr(module, name, part)
