"""Components in files."""

from __future__ import annotations

from pathlib import Path

from perdure.errors import ComponentError
from perdure.registry.oci import MAX_COMPONENT


def read_component(path: Path) -> bytes:
    """Its bytes, at most `MAX_COMPONENT`: what is read may be a device. Raises `ComponentError`."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_COMPONENT + 1)
    except OSError as error:
        raise ComponentError(f"the component {path} cannot be read: {error.strerror}") from error
    if len(data) > MAX_COMPONENT:
        raise ComponentError(f"{path} is longer than a component may be ({MAX_COMPONENT:,} bytes)")
    return data
