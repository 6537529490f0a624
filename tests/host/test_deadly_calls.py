"""A call that takes the whole process with it, in the same host call each time somebody goes on with it."""

from __future__ import annotations

import json
import signal
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from support.guests import guest
from support.hosts import HostProcess

WORKER = """
apiVersion: perdure.dev/v1alpha1
kind: Worker
metadata: {name: ledger}
spec:
  component: {url: "file:COMPONENT"}
  keyValue: {undeclaredBuckets: Allow}
  retry: {maxAttempts: ATTEMPTS}
"""
# Each is a gate: a commit, before which the process is killed.
STEPS = [[{"add": ["b", "n", 1]}, {"add": ["b", "n", 1]}]]
NEXT_COMMIT = "commit.before:1"


def ask(host: HostProcess, method: str, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(host.url + path, data=data, method=method, headers=named)
    try:
        with urllib.request.urlopen(request, timeout=20) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def dies(host: HostProcess) -> bool:
    """Whether a host that would be killed at its next commit is: it finds the call by itself, and goes on with it."""
    try:
        host.start(PERDURE_FAULTPOINT=NEXT_COMMIT)
    except AssertionError:
        # It was quicker than the one that waited for it.
        return host.wait() == -signal.SIGKILL
    assert host.process is not None
    limit = time.monotonic() + 20
    while time.monotonic() < limit:
        if host.process.poll() is not None:
            return host.wait() == -signal.SIGKILL
        try:
            if ask(host, "GET", "/v1/instances/deadly")[1]["state"] == "Quarantined":
                return False
        except OSError:
            pass
        time.sleep(0.05)
    raise AssertionError("the host neither ended nor gave the call up")


def begun(directory: Path, attempts: int) -> HostProcess:
    """A synchronous call whose host was killed before its second increment."""
    manifest = directory / "worker.yaml"
    manifest.write_text(WORKER.replace("COMPONENT", str(guest("ledger"))).replace("ATTEMPTS", str(attempts)))
    host = HostProcess(manifest, directory / "data", directory=directory)
    host.start(PERDURE_FAULTPOINT="commit.before:2")
    with pytest.raises(OSError):
        ask(host, "POST", "/v1/instances/deadly/functions/run", STEPS, Idempotency_Key="once")
    assert host.wait() == -signal.SIGKILL
    return host


def test_it_is_quarantined_and_can_be_resumed(tmp_path: Path) -> None:
    host = begun(tmp_path, 2)
    try:
        assert dies(host) and dies(host)
        assert not dies(host)
        status, problem = ask(host, "POST", "/v1/instances/deadly/functions/memory", [])
        assert (status, problem["code"]) == (503, "quarantined")
        assert (
            "the call 'once' has not ended, and 2 attempts to go on with it ended with their host" in problem["detail"]
        )
        host.stop()

        host.start()
        assert ask(host, "GET", "/v1/instances/deadly")[1]["key"] == "once"
        # The others run.
        assert ask(host, "POST", "/v1/instances/other/functions/memory", [])[0] == 200
        assert ask(host, "POST", "/v1/instances/deadly/resume")[0] == 200
        again = ask(host, "POST", "/v1/instances/deadly/functions/run", STEPS, Idempotency_Key="once")
        assert again == (200, [{"number": 1}, {"number": 2}])
    finally:
        host.stop()


def test_control_without_the_bound_it_takes_one_host_after_another(tmp_path: Path) -> None:
    host = begun(tmp_path, 100)
    try:
        assert all(dies(host) for _ in range(4))
    finally:
        host.stop()
