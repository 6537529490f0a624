"""Providers that are wrong on purpose, in one process of a test. Nothing of this is in the product."""

from __future__ import annotations


def apply(name: str) -> None:
    """Make this process's stores wrong in the way `name` says."""
    raise ValueError(f"there is no mutant {name!r}")
