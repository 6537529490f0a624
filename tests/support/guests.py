"""The tests' guests, built from source: in Rust by cargo (`.ci/build-guests`), in other languages by
`.ci/build-language-guest` and `.ci/build-example`. What has not changed is not built again."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMPILED = Path(os.environ.get("PERDURE_CACHE") or Path.home() / ".cache" / "perdure") / "compiled"
"""Where tests may keep compiled code, under the digest of its component: the Python example takes many seconds."""


@functools.cache
def guests() -> Path:
    """The directory of the built components."""
    given = os.environ.get("PERDURE_GUESTS")
    return Path(given) if given else Path(built("build-guests"))


def guest(name: str) -> Path:
    """E.g. `kv-g4`."""
    return guests() / f"{name.replace('-', '_')}.wasm"


@functools.cache
def example(name: str) -> Path:
    """The component of an example, e.g. `counter`."""
    source = ROOT / "examples" / name
    if name == "key-value":
        return source / "key-value.wasm"
    return guest(name) if (source / "Cargo.toml").exists() else Path(built("build-example", name))


@functools.cache
def language_guest(language: str, name: str) -> Path:
    """The guest `name` in Python, JavaScript (`js`) or Go."""
    return Path(built("build-language-guest", language, name))


def built(script: str, *args: str) -> str:
    """What a script of `.ci` prints: where it has put what it built."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "VENV": sys.prefix, "PATH": path}
    command = [str(ROOT / ".ci" / script), *args]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
