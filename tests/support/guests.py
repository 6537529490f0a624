"""The tests' guests, built from source by cargo (`.ci/build-guests`)."""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@functools.cache
def guests() -> Path:
    """The directory of the built components."""
    given = os.environ.get("PERDURE_GUESTS")
    if given:
        return Path(given)
    done = subprocess.run([ROOT / ".ci" / "build-guests"], capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


def guest(name: str) -> Path:
    """E.g. `kv-g4`."""
    return guests() / f"{name.replace('-', '_')}.wasm"
