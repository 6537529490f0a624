"""What the figures were measured on: processors, system, versions, and how busy the machine already was."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sqlite3
import subprocess
from importlib.metadata import version
from pathlib import Path

from support.postgres import programs

_PACKAGES = ("wasmtime", "redis", "hiredis", "asyncpg", "aiohttp")


def machine() -> dict[str, str]:
    """Name → value, in the order in which they are told."""
    cpus = len(os.sched_getaffinity(0))
    found = {
        "cpus": f"{cpus} ({_processor()})",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load": f"{os.getloadavg()[0]:.1f}",
        "python": platform.python_version(),
    }
    found.update({package: version(package) for package in _PACKAGES})
    found["redis-server"] = _redis_server()
    found["postgres"] = _postgres_server()
    found["sqlite"] = sqlite3.sqlite_version
    return found


def _processor() -> str:
    named = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return named[1].strip() if named else "unknown model"


def _redis_server() -> str:
    program = shutil.which("redis-server")
    return "none" if program is None else _version(program, r"v=(\S+)")


def _postgres_server() -> str:
    return _version(str(programs() / "postgres"), r"(\d+\.\d+)")


def _version(program: str, pattern: str) -> str:
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, timeout=10)
    named = re.search(pattern, done.stdout)
    return named[1] if named else "unknown"
