"""Where guests may send requests: the allow-list and what it never leads to."""

from __future__ import annotations

import pytest

from perdure.errors import ManifestError
from perdure.host.egress import Egress
from perdure.manifests.load import load_manifests

ALLOWED = Egress(["api.example.com", "*.example.org:8443", "10.0.0.7:8080", "[fd00::7]", "localhost:9", "127.0.0.2"])


@pytest.mark.parametrize(
    ("scheme", "authority"),
    [
        ("https", "api.example.com"), ("http", "API.Example.com:80"), ("https", "api.example.com.:443"),
        ("https", "a.example.org:8443"), ("http", "a.b.example.org:8443"), ("http", "10.0.0.7:8080"),
        ("https", "[fd00::7]"), ("https", "[FD00:0::7]:443"), ("http", "localhost:9"), ("http", "127.0.0.2"),
        ("http", "[::ffff:127.0.0.2]"),
    ],
)  # fmt: skip
def test_allowed(scheme: str, authority: str) -> None:
    assert ALLOWED.refusal(scheme, authority) is None


@pytest.mark.parametrize(
    ("scheme", "authority"),
    [
        ("https", "example.com"), ("https", "api.example.com:8443"), ("http", "api.example.com:443"),
        ("https", "evilapi.example.com"), ("https", "api.example.com.evil.test"), ("https", "example.org:8443"),
        ("https", ".example.org:8443"), ("https", "evilexample.org:8443"), ("https", "a.example.org"),
        ("http", "10.0.0.7"), ("http", "127.0.0.1:9"), ("http", "localhost"), ("https", "[fd00::8]"), ("http", "2130706434"),
    ],
)  # fmt: skip
def test_denied(scheme: str, authority: str) -> None:
    assert "spec.http.allow" in (ALLOWED.refusal(scheme, authority) or "")
    assert Egress([]).refusal(scheme, authority) is not None


NEAR = [
    "127.0.0.1", "127.8.9.10", "::1", "0.0.0.0", "::", "169.254.169.254", "169.254.1.1", "fe80::1", "fe80::1%eth0",
    "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "2002:7f00:1::", "fd00:ec2::254",
    "100.100.100.200", "224.0.0.1", "ff02::1", "255.255.255.255", "no address",
]  # fmt: skip


@pytest.mark.parametrize("address", NEAR)
def test_names_do_not_lead_here(address: str) -> None:
    assert not ALLOWED.may_reach("api.example.com", address)


@pytest.mark.parametrize("address", ["10.0.0.7", "192.168.1.1", "93.184.216.34", "2606:2800:220:1::1", "fd00::7"])
def test_names_lead_elsewhere(address: str) -> None:
    assert ALLOWED.may_reach("api.example.com", address)


def test_what_is_listed_itself() -> None:
    assert ALLOWED.may_reach("localhost", "127.0.0.1") and ALLOWED.may_reach("LOCALHOST", "::1")
    assert ALLOWED.may_reach("127.0.0.2", "127.0.0.2")
    assert not ALLOWED.may_reach("127.0.0.3", "127.0.0.3")
    assert not Egress(["*.0.0.1"]).may_reach("127.0.0.1", "127.0.0.1")


MANIFEST = """
apiVersion: perdure.dev/v1alpha1
kind: Worker
metadata: {name: carts}
spec:
  component: {url: "file:x.wasm"}
  http: {allow: ["%s"]}
"""


@pytest.mark.parametrize(
    "entry", ["api.example.com", "*.example.org:8443", "10.0.0.7", "[fd00::7]:80", "localhost:9", "svc"]
)
def test_entries(entry: str) -> None:
    assert load_manifests(MANIFEST % entry, source="w.yaml").workers[0].spec.http.allow == (entry,)


@pytest.mark.parametrize(
    "entry",
    [
        "",
        "*",
        "*.",
        "http://a.test",
        "a.test/x",
        "a.*.test",
        "a.test:0",
        "a.test:65536",
        "a.test:x",
        "a b",
        "u@a",
        "fd00::7",
    ],
)
def test_entries_that_are_none(entry: str) -> None:
    with pytest.raises(ManifestError, match=r"spec\.http\.allow"):
        load_manifests(MANIFEST % entry, source="w.yaml")
