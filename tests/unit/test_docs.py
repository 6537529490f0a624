"""What the pages say is there: links lead somewhere, every metric and every field of the manifests is explained."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry

from perdure import errors
from perdure.errors import PerdureError
from perdure.host.metrics import HostMetrics
from perdure.reconciler.metrics import OperatorMetrics

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def prose(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Of its headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def broken_links(page: Path, text: str) -> list[str]:
    found = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        leads_to = (page.parent / path).resolve() if path else page
        if not leads_to.exists() or (anchor and anchor not in anchors(leads_to)):
            found.append(target)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert broken_links(page, re.sub(r"\]\(([^)]*)\)", lambda m: re.sub(r"\s", "", m[0]), prose(page))) == []


def test_a_broken_link_is_found() -> None:
    text = "[a](docs/none.md) [b](docs/keyvalue.md#none) [c](docs/keyvalue.md#watching) [d](#licence)"
    assert broken_links(ROOT / "README.md", text) == ["docs/none.md", "docs/keyvalue.md#none"]


def names(registry: CollectorRegistry) -> set[str]:
    return {f"{metric.name}_total" if metric.type == "counter" else metric.name for metric in registry.collect()}


def test_every_metric_is_explained_and_no_other() -> None:
    told = set(re.findall(r"`(perdure_\w+)`", (ROOT / "docs" / "metrics.md").read_text()))
    assert told == names(HostMetrics().registry) | names(OperatorMetrics().registry)


def test_every_error_code_is_in_the_api_s_page() -> None:
    text = (ROOT / "docs" / "http-api.md").read_text()
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, PerdureError)]
    assert [kind.code for kind in kinds if f"`{kind.code}`" not in text] == []


@pytest.mark.parametrize(("resource", "page"), [("workers", "worker.md"), ("keyvalueproviders", "providers.md")])
def test_every_field_of_the_manifests_is_named(resource: str, page: str) -> None:
    crd = yaml.safe_load((ROOT / "crds" / f"{resource}.yaml").read_text())
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    text = (ROOT / "docs" / page).read_text()
    two_levels = [
        name
        for key, field in spec["properties"].items()
        if key not in ("podTemplate", "files", "http")
        for name in (key, *field.get("properties", {}), *field.get("items", {}).get("properties", {}))
    ]
    if resource == "workers":
        two_levels += spec["properties"]["keyValue"]["properties"]["buckets"]["items"]["properties"]
    assert [name for name in two_levels if not re.search(rf"\b{name}\b", text)] == []
