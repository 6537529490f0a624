"""docs/examples.md: each command as it stands there, and what it prints."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from support.console import fits, sections, typed
from support.examples import EXAMPLES, data_directory, made_example
from support.hosts import ROOT, HostProcess

PAGE = sections((ROOT / "docs" / "examples.md").read_text())
# Where nothing was compiled or built before, the first test of an example pays for it.
pytestmark = pytest.mark.timeout(600)


def test_every_example_has_its_section() -> None:
    assert sorted(PAGE) == EXAMPLES


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_commands_of_the_page(name: str, tmp_path: Path) -> None:
    host = HostProcess(made_example(name, tmp_path), data_directory(tmp_path))
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": programs, "PERDURE_URL": host.url, "HOME": str(tmp_path)}
    try:
        host.start()
        for step in PAGE[name]:
            command = step.command.replace("http://127.0.0.1:8080", host.url)
            printed = typed(command, tmp_path, environment)
            assert fits(printed, step.printed), (step, printed)
    finally:
        host.stop()


def test_the_readmes_commands_are_among_them() -> None:
    block = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text().split("## Examples to copy")[1], re.DOTALL)[
        0
    ]
    lines = dict(re.findall(r"^(perdure \S.*?) +# (.*)$", block, re.MULTILINE))
    known = {step.command: step.printed for steps in PAGE.values() for step in steps}
    for line, comment in lines.items():
        if name := re.fullmatch(r"perdure run examples/([a-z-]+)/local\.yaml", line):
            assert name[1] in EXAMPLES
        else:
            assert comment.startswith(known[line]), line
    assert len(lines) > 1


def test_what_does_not_fit_is_noticed() -> None:
    assert fits('{"order":"7f","total":900}', '{"order":"…","total":900}')
    for printed in ('{"order":"7f","total":90}', '{"order":"7f","total":900}\nmore', "", "…"):
        assert not fits(printed, '{"order":"…","total":900}')
