"""From what was observed to status conditions: an ordered chain of pure policies, each with a verdict in words.

Reasons are a closed set, described in docs/conditions.md. `Ready` comes last and is derived: the first condition that
does not hold says why, or a host that refuses the manifest.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

from perdure.errors import ManifestError

Condition = dict[str, Any]


class Reason(enum.StrEnum):
    """Why a condition is as it is."""

    RESOLVED = "Resolved"
    RECONCILED = "Reconciled"
    INVALID_SPEC = "InvalidSpec"
    COMPONENT_NOT_FOUND = "ComponentNotFound"
    COMPONENT_REFUSED = "ComponentRefused"
    PROVIDER_NOT_FOUND = "ProviderNotFound"
    PROVIDER_REFUSED = "ProviderRefused"
    PROVIDER_UNAVAILABLE = "ProviderUnavailable"
    SECRET_NOT_FOUND = "SecretNotFound"  # noqa: S105 - a reason, not a secret
    CONFIG_MAP_NOT_FOUND = "ConfigMapNotFound"
    CLAIM_NOT_FOUND = "PersistentVolumeClaimNotFound"
    ACCOUNT_NOT_FOUND = "ServiceAccountNotFound"
    HOSTS_AVAILABLE = "HostsAvailable"
    HOSTS_NOT_READY = "HostsNotReady"
    SUSPENDED = "Suspended"
    ROLLING_OUT = "RollingOut"
    UP_TO_DATE = "UpToDate"
    BLOCKED = "Blocked"
    DELETING = "Deleting"
    ACCEPTED = "Accepted"
    ANSWERS = "Answers"
    NO_SERVER = "NoServer"
    NO_ANSWER = "NoAnswer"
    CREDENTIALS_REFUSED = "CredentialsRefused"
    TLS_FAILED = "TlsFailed"
    UNSUITABLE = "Unsuitable"
    REFUSED = "Refused"
    PROBING = "Probing"
    PROBE_FAILED = "ProbeFailed"
    NOT_PROBED = "NotProbed"
    AS_DECLARED = "AsDeclared"
    WEAKER_THAN_DECLARED = "WeakerThanDeclared"


@dataclass(frozen=True, slots=True)
class Problem:
    """Why an input cannot be used: one word for programs, a sentence for people."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """`status`: True, False or Unknown."""

    type: str
    status: str
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What one reconcile saw. Where there is no error there is None.

    `refusal`: (code, sentence) that a host of the present generation left when it ended. `waiting`: why a pod does
    not start. `stopping`: hosts of a former configuration that finish their calls. `unreachable`: of the
    Worker's providers, by a probe where no host says anything.
    """

    spec_error: str | None = None
    component_error: Problem | None = None
    digest: str | None = None
    provider_error: Problem | None = None
    reference_error: Problem | None = None
    provider: str | None = None
    desired: int = 0
    ready: int = 0
    updated: int = 0
    total: int = 0
    stopping: int = 0
    refusal: tuple[str, str] | None = None
    waiting: str | None = None
    unreachable: str | None = None


def verdicts(facts: Facts) -> list[Verdict]:
    """All conditions, `Ready` last."""
    found = [_component(facts), _provider(facts), _available(facts), _progressing(facts)]
    return [*found, _ready(facts, found)]


def _component(facts: Facts) -> Verdict:
    if facts.spec_error:
        return Verdict("ComponentResolved", "Unknown", Reason.INVALID_SPEC, facts.spec_error)
    if facts.component_error:
        return _says("ComponentResolved", facts.component_error)
    if facts.refusal and facts.refusal[0].startswith("component-"):
        return Verdict("ComponentResolved", "False", Reason.COMPONENT_REFUSED, facts.refusal[1])
    return Verdict("ComponentResolved", "True", Reason.RESOLVED, f"the component is {facts.digest}")


def _says(condition: str, problem: Problem) -> Verdict:
    return Verdict(condition, "False", problem.reason, problem.message)


def _provider(facts: Facts) -> Verdict:
    if facts.spec_error:
        return Verdict("ProviderReady", "Unknown", Reason.INVALID_SPEC, facts.spec_error)
    problem = facts.provider_error or facts.reference_error
    if problem:
        return _says("ProviderReady", problem)
    if facts.refusal and facts.refusal[0].startswith("provider-"):
        return Verdict("ProviderReady", "False", Reason.PROVIDER_UNAVAILABLE, facts.refusal[1])
    if facts.unreachable and facts.ready == 0:
        return Verdict("ProviderReady", "False", Reason.PROVIDER_UNAVAILABLE, facts.unreachable)
    return Verdict("ProviderReady", "True", Reason.RESOLVED, f"KeyValueProvider {facts.provider} is used")


def _available(facts: Facts) -> Verdict:
    if facts.desired == 0 and not facts.spec_error:
        return Verdict("Available", "False", Reason.SUSPENDED, "replicas is 0: no host runs, the data stays")
    if facts.ready > 0:
        message = f"{facts.ready} of {facts.desired} hosts answer"
        return Verdict("Available", "True", Reason.HOSTS_AVAILABLE, message)
    message = facts.waiting or (facts.refusal[1] if facts.refusal else "no host answers yet")
    return Verdict("Available", "False", Reason.HOSTS_NOT_READY, message)


def _progressing(facts: Facts) -> Verdict:
    problem = facts.component_error or facts.provider_error or facts.reference_error
    blocked = facts.spec_error or (problem.message if problem else None)
    if blocked:
        return Verdict("Progressing", "False", Reason.BLOCKED, blocked)
    if facts.updated == facts.desired == facts.ready == facts.total:
        if facts.stopping:
            message = f"{facts.stopping} hosts of a former configuration finish their calls"
            return Verdict("Progressing", "True", Reason.ROLLING_OUT, message)
        return Verdict("Progressing", "False", Reason.UP_TO_DATE, "all hosts run the present configuration")
    waiting = facts.waiting or _refused_manifest(facts)
    message = waiting or f"{facts.updated} of {facts.desired} hosts run the present configuration"
    return Verdict("Progressing", "True", Reason.ROLLING_OUT, message)


def _refused_manifest(facts: Facts) -> str | None:
    """What hosts alone can see: that it does not suit the component. Hosts of the former manifest may answer still."""
    return facts.refusal[1] if facts.refusal and facts.refusal[0] == ManifestError.code else None


def _ready(facts: Facts, found: list[Verdict]) -> Verdict:
    if facts.spec_error:
        return Verdict("Ready", "False", Reason.INVALID_SPEC, facts.spec_error)
    failing = next((verdict for verdict in found[:3] if verdict.status != "True"), None)
    refused = _refused_manifest(facts)
    if refused and (failing is None or failing.type == "Available"):
        return Verdict("Ready", "False", Reason.INVALID_SPEC, refused)
    if failing is not None:
        return Verdict("Ready", "False", failing.reason, failing.message)
    if facts.ready < facts.desired:
        message = facts.waiting or f"{facts.ready} of {facts.desired} hosts answer"
        return Verdict("Ready", "False", Reason.HOSTS_NOT_READY, message)
    return Verdict("Ready", "True", Reason.RECONCILED, f"{facts.ready} of {facts.desired} hosts answer")


def merged(found: list[Verdict], former: list[Condition], generation: int, now: str) -> list[Condition]:
    """Conditions for the status: the transition time changes with the status only."""
    times = {old["type"]: (old["status"], old.get("lastTransitionTime", now)) for old in former}
    result = []
    for verdict in found:
        before = times.get(verdict.type)
        result.append(
            {
                "type": verdict.type,
                "status": verdict.status,
                "observedGeneration": generation,
                "lastTransitionTime": before[1] if before and before[0] == verdict.status else now,
                "reason": verdict.reason.value,
                "message": verdict.message[:1024],
            }
        )
    return result


def transitions(before: list[Condition], after: list[Condition]) -> list[Condition]:
    """Conditions whose status or reason changed: each becomes one event."""
    known = {old["type"]: (old["status"], old["reason"]) for old in before}
    return [new for new in after if known.get(new["type"]) != (new["status"], new["reason"])]
