"""What an update would do to instances, by policy and by whether their component is kept."""

from __future__ import annotations

import pytest

from perdure.durable.settings import UpdatePolicy
from perdure.host.updates import preview

NEW, OLD, LOST = "sha256:new", "sha256:old", "sha256:lost"


@pytest.mark.parametrize(
    ("policy", "actions"),
    [
        (UpdatePolicy.RESTART, {NEW: "none", OLD: "restart", LOST: "restart", None: "none"}),
        (UpdatePolicy.PIN, {NEW: "none", OLD: "stay", LOST: "quarantine", None: "none"}),
        (UpdatePolicy.MIGRATE, {NEW: "none", OLD: "migrate", LOST: "quarantine", None: "none"}),
    ],
)
def test_actions(policy: UpdatePolicy, actions: dict[str | None, str]) -> None:
    found = preview(policy, NEW, {NEW: 1, OLD: 7, LOST: 3, "": 2}, frozenset({NEW, OLD}))
    components = found["components"]
    assert isinstance(components, list)
    assert {one["component"]: one["action"] for one in components} == actions
    assert [one["instances"] for one in components] == [7, 3, 2, 1]
    assert all(one["description"] for one in components)
