"""Our functions as a server gets them (`functions/*.lua`)."""

from __future__ import annotations

import functools
import hashlib
from importlib.resources import files

READS = frozenset(
    ("peek", "verify", "read", "list", "count", "pending", "inbox", "due", "result", "names", "info", "journal")
    + ("blobs", "private", "component", "components", "ping", "watching", "watches", "changes")
)
"""Functions that change nothing: they need not wait for replicas."""
KEEPS = frozenset(("claim", "commit", "foreign", "enqueue"))
"""Functions whose reply promises that something is kept."""


@functools.cache
def function_library() -> tuple[str, str]:
    """The version of our functions, which is part of their names, and the library that holds them."""
    folder = files("perdure.providers.redis").joinpath("functions")
    parts = sorted((part for part in folder.iterdir() if part.name.endswith(".lua")), key=lambda part: part.name)
    source = "\n".join(part.read_text(encoding="utf-8") for part in parts)
    version = hashlib.sha256(source.encode()).hexdigest()[:8]
    return version, f"#!lua name=perdure_{version}\n" + source.replace("_VERSION", f"_{version}")
