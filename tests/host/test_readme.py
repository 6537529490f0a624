"""The README's laptop commands, as they stand there."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.readme import ROOT, blocks, commands
from support.servers import free_port

BIN = Path(sys.executable).parent


def runs(line: str, port: int, environment: dict[str, str]) -> str:
    """The output of one of the README's commands, on another port than the README's."""
    if line.startswith("curl"):
        line = line.replace(":8080", f":{port}")
    done = subprocess.run(line, shell=True, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, (line, done.stdout, done.stderr)
    return done.stdout.strip()


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(tmp_path)}


@pytest.fixture
def port(environment: dict[str, str], tmp_path: Path) -> Iterator[int]:
    """The README's host, with its data elsewhere than in the checkout."""
    (activate, run) = commands(blocks("Run a component")[0])
    assert activate == ". .venv/bin/activate"
    chosen = free_port()
    environment["PERDURE_URL"] = f"http://127.0.0.1:{chosen}"
    words = [
        *run.split(),
        "--listen",
        f"127.0.0.1:{chosen}",
        "--metrics-listen",
        "127.0.0.1:0",
        "--data",
        str(tmp_path),
    ]
    process = subprocess.Popen(words, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{chosen}/v1/component", timeout=1).close()
                break
            except OSError:
                assert process.poll() is None
                time.sleep(0.05)
        yield chosen
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_run_a_component(port: int, environment: dict[str, str]) -> None:
    lines = commands(blocks("Run a component")[1])[1:]
    printed = [runs(line, port, environment) for line in lines]
    assert printed[:3] == ["null", '"Ymx1ZQ=="', '"Ymx1ZQ=="']
    assert printed[3:5] == ["3", ""]
    assert '"entries": 4' in printed[5]
    assert [line.split()[0] for line in printed[6].splitlines()] == ["1", "2", "3", "4"]
    assert printed[7] == "colour"
    assert printed[8] == "1 instances checked, 0 with findings"
    assert "export golem:examples/api;" in printed[9]
    assert re.search(r"^runs +yes$", printed[9], re.MULTILINE)


def test_the_commands_to_set_up_are_targets_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for line in commands(blocks("Two commands")[0]):
        assert f"\n{line.removeprefix('make ')}:" in makefile
