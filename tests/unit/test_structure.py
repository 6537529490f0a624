"""What keeps the code base readable, held by a machine."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from perdure.durable.records import HostRecord
from perdure.host.routing import preferred_host

SOURCE = Path(__file__).resolve().parents[2] / "operator" / "perdure"
FILES = sorted(SOURCE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_files_and_classes_stay_small_and_say_what_they_are(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 500
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "every module says what it is"
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            assert (node.end_lineno or 0) - node.lineno <= 300


def test_rendezvous_moves_only_the_instances_of_a_host_that_goes() -> None:
    hosts = [HostRecord(f"h{number}", f"http://{number}") for number in range(5)]
    before = {f"i{n}": preferred_host(f"i{n}", hosts) for n in range(500)}
    after = {name: preferred_host(name, hosts[1:]) for name in before}
    assert all(after[name] == host for name, host in before.items() if host != hosts[0])
    shares = [sum(1 for host in before.values() if host == one) for one in hosts]
    assert min(shares) > 50
    assert preferred_host("x", []) is None
