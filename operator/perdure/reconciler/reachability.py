"""What is known of a provider, when it is looked at again, and how a probe's outcome becomes conditions. Pure.

What is known lives in the KeyValueProvider's status, so that an operator that starts anew goes on where the former one
was: it does not probe everything at once.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, get_args

from perdure.errors import Cause, ManifestError
from perdure.manifests.provider import KeyValueProvider, Level
from perdure.manifests.report import ProbeReport
from perdure.reconciler.api import Object
from perdure.reconciler.conditions import Reason, Verdict
from perdure.reconciler.objects.probe import CONTAINER
from perdure.reconciler.observation import container_status, why_waiting
from perdure.reconciler.ownership import owned

REACHABLE = "Reachable"
DURABLE = "Durable"
_OF_CAUSE: dict[Cause, Reason] = {
    "no-answer": Reason.NO_ANSWER,
    "credentials": Reason.CREDENTIALS_REFUSED,
    "tls": Reason.TLS_FAILED,
    "unsuitable": Reason.UNSUITABLE,
    "refused": Reason.REFUSED,
}
_OUTCOMES = {*_OF_CAUSE.values(), Reason.ANSWERS, Reason.PROBE_FAILED}
"""Reasons that a probe gave. Others say why there is none."""
_LEVELS: tuple[Level, ...] = get_args(Level)
_FIRST_RETRY = 10.0
_SPACING = 5.0
_SKEW = datetime.timedelta(minutes=1)
_FOUND = ("server", "durability", "guarantee", "warnings")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one probe ended. `report` None: it could not look, and `failure` says why."""

    report: ProbeReport | None = None
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Known:
    """`at`: when the last outcome came. `checksum`: of what was looked at. `job`: the uid of the Job that did.
    `failures`: in a row. `found`: the status' fields about the server."""

    at: datetime.datetime | None = None
    checksum: str = ""
    job: str = ""
    failures: int = 0
    verdict: Verdict | None = None
    found: Any = None

    @classmethod
    def of(cls, status: Object) -> Known:
        """Whatever does not parse is as if nothing were known."""
        probe = status.get("probe") or {}
        verdict = next((_verdict(old) for old in status.get("conditions", []) if old["type"] == REACHABLE), None)
        found = {field: status[field] for field in _FOUND if field in status}
        try:
            at = datetime.datetime.fromisoformat(status["lastProbeTime"])
        except (KeyError, TypeError, ValueError):
            return cls(verdict=verdict, found=found)
        checksum, job = str(probe.get("checksum", "")), str(probe.get("job", ""))
        return cls(at, checksum, job, int(probe.get("failures", 0)), verdict, found)

    def fields(self) -> Object:
        """For the status."""
        if self.at is None:
            return dict(self.found or {})
        return {
            **(self.found or {}),
            "lastProbeTime": self.at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "probe": {"checksum": self.checksum, "job": self.job, "failures": self.failures},
        }

    def elsewhere(self, place: str) -> bool:
        """Whether what is known is about another server."""
        return self.checksum.partition(".")[0] != place

    def after(self, outcome: Outcome, *, checksum: str, job: str, now: datetime.datetime, namespace: str) -> Known:
        """With one more outcome."""
        report = outcome.report
        usable = report is not None and report.usable
        failures = 0 if usable else self.failures + 1 if self.checksum == checksum else 1
        verdict = verdict_of(outcome, namespace)
        if report is None and failures == 1 and self.checksum == checksum:
            # An evicted pod says nothing of the server; the next probe comes soon.
            verdict = self.verdict or verdict
        known = Known(now, checksum, job, failures, verdict, self.found)
        if report is not None and report.usable:
            return replace(known, found=_fields(report))
        # What answered before has not changed for being silent now; a server that refuses may be another one.
        kept = self.checksum == checksum and (report is None or report.cause == "no-answer")
        return known if kept else replace(known, found={})

    def wait(self, checksum: str, interval: float, now: datetime.datetime, *, doubted: bool = False) -> float:
        """Seconds until it is looked at again, 0: now. `interval` in seconds. Failures come back sooner, at growing
        distances; `doubted` ones at once, as often as is sensible."""
        if self.at is None or self.at - now > _SKEW:  # written by a clock that was wrong
            return 0.0
        return max(0.0, (self._due(self.at, checksum, interval, doubted) - now).total_seconds())

    def _due(self, at: datetime.datetime, checksum: str, interval: float, doubted: bool) -> datetime.datetime:
        if self.verdict is None or self.checksum != checksum:
            return at + datetime.timedelta(seconds=_SPACING)
        if doubted:
            return at + datetime.timedelta(seconds=_FIRST_RETRY)
        wait = min(interval, _FIRST_RETRY * 2.0 ** min(self.failures - 1, 20)) if self.failures else interval
        return at + datetime.timedelta(seconds=wait * self._jitter())

    def _jitter(self) -> float:
        """Providers that were made together are not looked at together for ever; the same at each look."""
        seed = hashlib.sha256(f"{self.job} {self.at}".encode()).digest()
        return 0.9 + 0.2 * seed[0] / 255


def _verdict(condition: Object) -> Verdict | None:
    if condition.get("reason") not in _OUTCOMES:
        return None
    reason = Reason(condition["reason"])
    return Verdict(REACHABLE, str(condition["status"]), reason, str(condition.get("message", "")))


def verdict_of(outcome: Outcome, namespace: str) -> Verdict:
    """`Reachable` by a probe's outcome. `namespace`: where it ran."""
    report = outcome.report
    if report is None:
        return Verdict(REACHABLE, "Unknown", Reason.PROBE_FAILED, outcome.failure)
    if report.usable:
        return Verdict(REACHABLE, "True", Reason.ANSWERS, "; ".join([report.message, *report.warnings]))
    reason, message = _OF_CAUSE[report.cause or "refused"], report.message
    if reason is Reason.NO_ANSWER:
        message += f". Asked from namespace {namespace}: is the server up, and do network policies let pods in?"
    return Verdict(REACHABLE, "False", reason, message)


def _fields(report: ProbeReport) -> Object:
    """Of a usable provider."""
    found: Object = {"warnings": list(report.warnings)} if report.warnings else {}
    if report.server is not None:
        found["server"] = {"version": report.server.version, "settings": dict(report.server.settings)}
    if report.durability is not None:
        found["durability"] = report.durability
    if report.guarantee is not None:
        found["guarantee"] = report.guarantee
    return found


def durable(provider: KeyValueProvider, found: Object) -> Verdict | None:
    """`Durable`, where the specification says what is counted on."""
    wanted, level = provider.spec.min_durability, found.get("durability")
    if wanted is None:
        return None
    if level not in _LEVELS:
        return Verdict(
            DURABLE, "Unknown", Reason.PROBING, f"minDurability is {wanted}; what there is, is not known yet"
        )
    if _LEVELS.index(level) >= _LEVELS.index(wanted):
        return Verdict(DURABLE, "True", Reason.AS_DECLARED, f"durability is {level}, minDurability {wanted}")
    why = "; ".join(["", *map(str, found.get("warnings", []))])
    message = f"durability is {level}, weaker than minDurability {wanted}: change the server's settings{why}"
    return Verdict(DURABLE, "False", Reason.WEAKER_THAN_DECLARED, message)


def outcome_of(job: Object, pods: Iterable[Object]) -> Outcome | None:
    """What a Job has found; None while it works."""
    mine = [pod for pod in pods if owned(pod, job["metadata"]["uid"])]
    message = next((text for pod in mine if (text := _last_words(pod)) is not None), None)
    ended = next((found for found in job.get("status", {}).get("conditions", []) if _ends(found)), None)
    if message is None and ended is None:
        return None
    name = f"Job {job['metadata']['name']} in namespace {job['metadata']['namespace']}"
    if message is None or not message.strip():
        why = f" ({ended.get('reason', '')} {ended.get('message', '')})".rstrip() if ended is not None else ""
        waiting = next((reason for pod in mine if (reason := why_waiting(pod, CONTAINER)) is not None), None)
        return Outcome(failure=f"{name} ended without a word{why}" + (f": {waiting}" if waiting else ""))
    try:
        return Outcome(ProbeReport.read(message))
    except ManifestError:
        code, colon, sentence = message.partition(": ")
        known = bool(colon) and code.islower() and code.replace("-", "").isalpha()
        said = sentence if known else "it left no report, its image may be of another version"
        return Outcome(failure=f"{name}: {said[:500]}")


def _last_words(pod: Object) -> str | None:
    ended = container_status(pod, CONTAINER).get("state", {}).get("terminated")
    return None if ended is None else str(ended.get("message", ""))


def _ends(condition: Object) -> bool:
    return condition["type"] in ("Complete", "Failed") and condition["status"] == "True"
