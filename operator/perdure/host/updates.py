"""What would become of existing instances if the Worker ran a component under an update policy. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from perdure.durable.settings import UpdatePolicy

_WORDS = {
    "none": "they run on this component already",
    "restart": "fresh memory at their next call; buckets, results and inbox stay",
    "stay": "they stay on their component, which is kept",
    "migrate": "at their next call the guest's state is handed over (perdure:durable/snapshot); where save or load "
    "fails they stay on their component",
    "quarantine": "their component is not kept: they are quarantined at their next call, until the former component "
    "runs again or they are reset",
}


def preview(
    policy: UpdatePolicy, target: str, instances: Mapping[str, int], available: frozenset[str]
) -> dict[str, object]:
    """`target`: the digest that would run. `instances`: how many run on which digest. `available`: digests whose
    component can still be loaded."""
    return {
        "policy": policy.value,
        "component": target,
        "components": [
            _component(policy, target, digest, count, digest in available)
            for digest, count in sorted(instances.items(), key=lambda item: (-item[1], item[0]))
        ],
    }


def _component(policy: UpdatePolicy, target: str, digest: str, count: int, available: bool) -> dict[str, object]:
    action = _action(policy, target, digest, available)
    return {
        "component": digest or None,
        "instances": count,
        "kept": available,
        "action": action,
        "description": _WORDS[action],
    }


def _action(policy: UpdatePolicy, target: str, digest: str, available: bool) -> str:
    if digest in ("", target):
        # Without a digest nothing of theirs was committed yet.
        return "none"
    if policy is UpdatePolicy.RESTART:
        return "restart"
    if not available:
        return "quarantine"
    return "stay" if policy is UpdatePolicy.PIN else "migrate"
