"""What hosts say in a Worker's status, and what probes say where no host does."""

from __future__ import annotations

import datetime
import json
from typing import Any

import pytest
from aiohttp import web

from perdure.manifests.load import parse_provider
from perdure.reconciler import probing
from perdure.reconciler.hosts import (
    HostReport,
    ProviderReport,
    by_probe,
    changed_words,
    read_report,
    told_fields,
    unreachable,
)
from perdure.reconciler.objects.pods import CHECKSUM
from perdure.reconciler.observation import observe
from perdure.reconciler.probing import ask_hosts
from support.plans import API, REDIS

Object = dict[str, Any]
NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
FINE = {"reachable": True, "durability": "D2", "guarantee": "exactly-once", "problem": None}
SILENT = {"reachable": False, "durability": "D2", "guarantee": "exactly-once", "problem": "it does not answer"}
STARTING = {"reachable": None, "durability": None, "guarantee": None, "problem": None}
PROVIDERS = tuple(
    parse_provider({"apiVersion": API, "kind": "KeyValueProvider", "metadata": {"name": name}, "spec": REDIS})
    for name in ("away", "main")
)
DOWN = {"main": ProviderReport(False, None, None, "refused the credentials")}


def report(main: Object, *, count: int = 0, latest: list[str] | None = None, **others: Object) -> HostReport:
    document = {"providers": {"main": main, **others}, "quarantined": {"count": count, "latest": latest or []}}
    found = read_report(json.dumps(document).encode(), ["main", "away"])
    assert found is not None
    return found


def told(*reports: HostReport, probes: Any = None, former: Object | None = None, ready: int = 1) -> Object:
    return told_fields(PROVIDERS, "main", reports, probes or {}, former=former or {}, ready=ready)


def test_the_home_comes_first_and_hosts_say_how_it_is() -> None:
    main, away = told(report(FINE, away=SILENT))["providers"]
    assert main == {"name": "main", "kind": "redis", "home": True, "durability": "D2", "guarantee": "exactly-once",
                    "reachable": True}  # fmt: skip
    assert (away["reachable"], away["message"]) == (False, "it does not answer")
    assert unreachable([main, away]) == "KeyValueProvider away: it does not answer"
    assert unreachable([main]) is None


def test_one_host_that_cannot_reach_it_is_enough() -> None:
    main = told(report(FINE), report(SILENT), report(STARTING))["providers"][0]
    assert (main["reachable"], main["message"]) == (False, "1 of 2 hosts: it does not answer")


def test_hosts_win_over_the_probe() -> None:
    assert told(report(FINE), probes=DOWN)["providers"][0]["reachable"] is True
    # The controls: with no host, and with one that does not know yet, the probe's word counts.
    for reports in ((), (report(STARTING),)):
        main = told(*reports, probes=DOWN, ready=0)["providers"][0]
        assert (main["reachable"], main["message"]) == (False, "refused the credentials")


def test_hosts_that_merely_do_not_answer_the_operator_change_nothing() -> None:
    former = told(report(FINE, count=2, latest=["a", "b"], away=FINE))
    assert told(probes=DOWN, former=former, ready=1) == former
    assert told(probes=DOWN, former=former, ready=0) != former
    assert told_fields(PROVIDERS[1:], "main", [], DOWN, former=former, ready=1) != former, "of other providers"


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        (FINE, SILENT, ["main"]),
        (SILENT, FINE, ["main"]),
        (FINE, FINE, []),
        (STARTING, SILENT, []),
        (SILENT, STARTING, []),
    ],
)
def test_a_change_of_what_hosts_say_is_noticed(before: Object, after: Object, changed: list[str]) -> None:
    assert changed_words(told(report(before)), told(report(after))) == changed


def test_where_nobody_knows_nothing_is_said() -> None:
    assert told(ready=0)["providers"][0] == {"name": "main", "kind": "redis", "home": True}


def test_instances_in_quarantine_are_counted_and_a_few_named() -> None:
    found = told(report(FINE, count=900, latest=list("fedcb")), report(FINE, count=1, latest=["a"]))["quarantined"]
    assert found == {"count": 901, "instances": list("abcde")}
    assert "quarantined" not in told(report(FINE))


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"status": "True", "message": "it answers"}, ProviderReport(True, "D1", "exactly-once", None)),
        ({"status": "False", "message": "no"}, ProviderReport(False, "D1", "exactly-once", "no")),
        ({"status": "Unknown", "message": "no"}, ProviderReport(None, "D1", "exactly-once", None)),
    ],
)
def test_what_a_provider_says_of_itself(condition: Object, expected: ProviderReport) -> None:
    status = {"durability": "D1", "guarantee": "exactly-once", "conditions": [{"type": "Reachable", **condition}]}
    assert by_probe(status) == expected
    assert by_probe({}) == ProviderReport()


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{}", b"null", b"\xff", b"[" * 20_000, b'{"providers": 1}', b'{"providers": {"main": 1}, "quarantined": 3}',
     b'{"providers": {}, "quarantined": {"count": "x", "latest": {"a": 1}}}',
     b'{"providers": {"main": {"reachable": "yes", "problem": 7}}, "quarantined": {"count": -1, "latest": [1, null]}}'],
)  # fmt: skip
def test_a_host_may_say_what_it_likes(data: bytes) -> None:
    found = read_report(data, ["main"])
    if found is not None:
        assert (found.quarantined, found.latest) == (0, ())
        assert found.providers.get("main", ProviderReport()) == ProviderReport()


def test_what_hosts_say_is_bounded() -> None:
    long = "x\n\x1b[31m" * 100_000
    main = {"reachable": False, "durability": long, "guarantee": long, "problem": long}
    found = report(main, count=10**30, latest=[long] * 100, stranger=FINE)
    assert len(json.dumps(told(found))) < 2500
    assert "stranger" not in found.providers
    assert "\x1b" not in json.dumps(told(found), ensure_ascii=False)


async def test_hosts_are_asked_at_their_second_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """A real answer, an error, a page that does not end soon, and nobody there."""
    documents: dict[str, Any] = {
        "good": {"providers": {"main": FINE}, "quarantined": {"count": 1, "latest": ["a"]}},
        "large": {"providers": {"main": FINE}, "more": "x" * (1 << 17)},
    }

    async def answer(request: web.Request) -> web.Response:
        document = documents.get(request.match_info["host"])
        return web.json_response(document, status=200 if document else 500)

    app = web.Application()
    app.router.add_get("/{host}/status", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    base = f"http://127.0.0.1:{runner.addresses[0][1]}"
    monkeypatch.setattr(
        probing, "_second_port", lambda name: f"{base}/{name}" if name != "gone" else "http://127.0.0.1:1"
    )
    try:
        found = await ask_hosts(["good", "broken", "large", "gone", *["good"] * 20], ["main"])
    finally:
        await runner.cleanup()
    assert len(found) == 1 + 4, "no more than eight are asked"
    assert found[0] == HostReport({"main": ProviderReport(True, "D2", "exactly-once", None)}, 1, ("a",))


def test_hosts_of_the_present_configuration_are_asked_first() -> None:
    def pod(address: str, *, current: bool, ready: bool, runs: bool = True) -> Object:
        state: Object = {"running": {}} if runs else {"waiting": {}}
        return {
            "metadata": {"name": address, "annotations": {CHECKSUM: "now" if current else "before"}},
            "status": {"podIP": address, "conditions": [{"type": "Ready", "status": str(ready)}],
                       "containerStatuses": [{"name": "host", "state": state}]},
        }  # fmt: skip

    former = [pod("1", current=False, ready=True)]
    assert observe(former, "now", NOW).addresses == ("1",)
    pods = [*former, pod("2", current=True, ready=False), pod("3", current=True, ready=True),
            pod("4", current=True, ready=False, runs=False)]  # fmt: skip
    assert observe(pods, "now", NOW).addresses == ("3", "2")
