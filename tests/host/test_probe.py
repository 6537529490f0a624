"""`perdure probe` against real servers: what it finds, what it says where a provider cannot be used, and what it must
never say."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from perdure.errors import ManifestError
from perdure.host import probe as probing
from perdure.host.probe import probe
from perdure.manifests.load import parse_provider
from perdure.manifests.report import MAX_BYTES, ProbeReport, ServerFound
from support.cluster.processes import run
from support.postgres import PostgresServer, postgres_server
from support.servers import RedisServer, free_port, redis_replica, redis_sentinels, redis_server
from support.store_servers import EtcdServer, NatsServer, nats_server

SECRET = "s3cret-correct-horse"


def document(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "perdure.dev/v1alpha1",
        "kind": "KeyValueProvider",
        "metadata": {"name": "main"},
        "spec": spec,
    }


async def found(folder: Path, *, timeout: float = 20, **spec: Any) -> ProbeReport:
    provider = parse_provider(document(**spec))
    report = await probe(provider, data=folder / "data", secrets=folder / "secrets", timeout=timeout)
    assert ProbeReport.read(report.document()) == report
    return report


def password(folder: Path, value: str, username: str | None = None) -> dict[str, str]:
    """A mounted Secret, and the reference to it."""
    secret = folder / "secrets" / "main"
    secret.mkdir(parents=True, exist_ok=True)
    (secret / "password").write_text(value)
    if username is not None:
        (secret / "username").write_text(username)
    return {"name": "auth"}


def said(report: ProbeReport) -> tuple[bool, str | None]:
    return report.usable, report.cause


async def test_redis(redis: RedisServer, tmp_path: Path) -> None:
    keys = set(redis.do("KEYS", "*"))
    report = await found(tmp_path, redis={"url": redis.url})
    assert said(report) == (True, None)
    assert (report.kind, report.durability, report.guarantee) == ("redis", "D2", "exactly-once")
    assert report.server is not None
    # Valkey names the Redis that it is compatible with, too.
    assert (
        redis.info("valkey_version" if report.server.version.startswith("Valkey") else "redis_version")
        in report.server.version
    )
    expected = {"role": "primary", "mode": "standalone", "appendonly": "yes", "appendfsync": "always",
                "maxmemory-policy": "noeviction"}  # fmt: skip
    assert expected.items() <= report.server.settings.items()
    assert set(redis.do("KEYS", "*")) <= keys, "no data is written"


@pytest.mark.parametrize(
    ("options", "more", "cause", "words"),
    [
        (("--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru"), {}, "unsuitable", "set maxmemory-policy"),
        ((), {"cluster": True}, "refused", "cluster"),
        ((), {"waitReplicas": 1}, "unsuitable", "waitReplicas asks for 1"),
        (("--requirepass", "another"), {}, "credentials", "credentialsSecretRef"),
    ],
)
async def test_a_redis_that_cannot_be_used(
    tmp_path: Path, options: tuple[str, ...], more: dict[str, Any], cause: str, words: str
) -> None:
    with redis_server(*options) as server:
        reference = password(tmp_path, SECRET) if options[:1] == ("--requirepass",) else None
        spec = {"url": server.url, **more, **({} if reference is None else {"credentialsSecretRef": reference})}
        report = await found(tmp_path, redis=spec)
    assert said(report) == (False, cause)
    assert words in report.message
    assert SECRET not in report.document()


async def test_weak_settings_are_told_with_the_level(tmp_path: Path) -> None:
    with redis_server("--appendonly", "no") as server:
        report = await found(tmp_path, redis={"url": server.url})
    assert (report.usable, report.durability) == (True, "D0")
    assert "appendonly is off" in report.warnings[0]


async def test_a_replica_and_its_primary_behind_sentinels(redis: RedisServer, tmp_path: Path) -> None:
    with redis_server() as primary, redis_replica(primary) as replica, redis_sentinels(primary) as (sentinel,):
        report = await found(tmp_path, redis={"url": replica.url})
        assert said(report) == (False, "unsuitable") and "is a replica" in report.message
        addresses = [f"127.0.0.1:{sentinel.port}"]
        report = await found(tmp_path, redis={"sentinel": {"masterName": "main", "addresses": addresses}})
        assert report.usable and report.server is not None
        assert {"mode": "sentinel", "replicas": "1"}.items() <= report.server.settings.items()
        sentinel.stop()
        report = await found(tmp_path, redis={"sentinel": {"masterName": "main", "addresses": addresses}})
        assert said(report) == (False, "no-answer")


async def test_a_member_of_a_cluster(redis_nodes: list[RedisServer], tmp_path: Path) -> None:
    report = await found(tmp_path, redis={"url": redis_nodes[0].url, "cluster": True})
    assert report.usable and report.server is not None and report.server.settings["mode"] == "cluster"
    report = await found(tmp_path, redis={"url": redis_nodes[0].url})
    assert said(report) == (False, "unsuitable") and "set `cluster`" in report.message


@pytest.mark.parametrize(
    "spec",
    [
        {"redis": {"url": "redis://127.0.0.1:PORT/0", "timeout": "300ms"}},
        {"postgres": {"url": "postgres://127.0.0.1:PORT/app", "timeout": "300ms"}},
        {"etcd": {"endpoints": ["http://127.0.0.1:PORT"], "timeout": "300ms"}},
        {"nats": {"servers": ["nats://127.0.0.1:PORT"], "timeout": "300ms"}},
    ],
    ids=lambda spec: next(iter(spec)),
)
async def test_nobody_listens(tmp_path: Path, spec: dict[str, Any]) -> None:
    report = await found(tmp_path, **json.loads(json.dumps(spec).replace("PORT", str(free_port()))))
    assert said(report) == (False, "no-answer")
    assert "does not answer" in report.message


async def test_a_silent_server_takes_no_longer_than_it_may(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        report = await asyncio.wait_for(found(tmp_path, timeout=0.3, redis={"url": url, "timeout": "10m"}), 30)
    assert said(report) == (False, "no-answer")
    assert "0.3 s" in report.message


async def test_one_lost_answer_is_no_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that comes up between two attempts is usable; with one attempt it is not (the control)."""
    server = RedisServer(free_port(), tmp_path)
    look, asked = probing._look, 0

    async def starting(*arguments: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked == 2:
            await asyncio.to_thread(server.start)
        return await look(*arguments)

    monkeypatch.setattr(probing, "_look", starting)
    monkeypatch.setattr(probing, "_PAUSE", 0.0)
    try:
        assert said(await found(tmp_path, redis={"url": server.url})) == (True, None)
        server.stop()
        asked = 10
        monkeypatch.setattr(probing, "_ATTEMPTS", 1)
        assert said(await found(tmp_path, redis={"url": server.url})) == (False, "no-answer")
    finally:
        server.stop()


async def test_postgres(postgres: PostgresServer, tmp_path: Path) -> None:
    url, reference = f"postgres://127.0.0.1:{postgres.port}/postgres", password(tmp_path, "", "postgres")
    report = await found(tmp_path, postgres={"url": url, "schema": "probed", "credentialsSecretRef": reference})
    assert (report.usable, report.durability) == (True, "D0"), report
    assert report.server is not None and report.server.settings["fsync"] == "off"
    assert "fsync is off" in report.warnings[0]


async def test_a_postgres_that_refuses(tmp_path: Path) -> None:
    with postgres_server("fsync=off", password="the real one") as server:
        url = f"postgres://127.0.0.1:{server.port}"
        reference = password(tmp_path, SECRET, "postgres")
        report = await found(tmp_path, postgres={"url": f"{url}/postgres", "credentialsSecretRef": reference})
        assert said(report) == (False, "credentials")
        assert SECRET not in report.document()
        password(tmp_path, "the real one")
        report = await found(tmp_path, postgres={"url": f"{url}/nowhere", "credentialsSecretRef": reference})
        assert said(report) == (False, "unsuitable") and "no such database" in report.message
        report = await found(tmp_path, postgres={"url": f"{url}/postgres", "credentialsSecretRef": reference})
        assert report.usable


async def test_etcd(etcd: EtcdServer, tmp_path: Path) -> None:
    report = await found(tmp_path, etcd={"endpoints": [etcd.url]})
    assert (report.usable, report.durability, report.guarantee) == (True, "D2", "exactly-once")
    assert report.server is not None and report.server.settings == {"voting members": "1"}


async def test_nats(nats: NatsServer, tmp_path: Path) -> None:
    report = await found(tmp_path, nats={"servers": [nats.url]})
    assert (report.usable, report.durability) == (True, "D1")
    assert report.server is not None and report.server.settings == {"storage": "file", "replicas": "1"}


async def test_a_nats_that_refuses(tmp_path: Path) -> None:
    with nats_server(config='authorization { users = [ {user: "wk", password: "right"} ] }') as server:
        reference = password(tmp_path, SECRET, "wk")
        report = await found(tmp_path, nats={"servers": [server.url], "credentialsSecretRef": reference})
        assert said(report) == (False, "credentials")
        assert SECRET not in report.document()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `main-ca/ca.crt` as a mounted Secret has it, and key.pem."""
    folder = tmp_path_factory.mktemp("tls")
    (folder / "main-ca").mkdir()
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout",
        str(folder / "key.pem"), "-out", str(folder / "main-ca" / "ca.crt"), "-days", "2", "-subj", "/CN=127.0.0.1",
        "-addext", "subjectAltName=IP:127.0.0.1")  # fmt: skip
    return folder


async def test_tls(certificate: Path, tmp_path: Path) -> None:
    port, authority = free_port(), str(certificate / "main-ca" / "ca.crt")
    options = ("--tls-port", str(port), "--tls-cert-file", authority, "--tls-key-file", str(certificate / "key.pem"),
               "--tls-ca-cert-file", authority, "--tls-auth-clients", "no")  # fmt: skip
    spec: dict[str, Any] = {"url": f"rediss://127.0.0.1:{port}/0"}
    with redis_server(*options):
        report = await found(tmp_path, redis=spec)
        assert said(report) == (False, "tls") and "TLS failed" in report.message
        (tmp_path / "secrets").symlink_to(certificate)
        assert (await found(tmp_path, redis={**spec, "tls": {"caSecretRef": {"name": "ca"}}})).usable
        report = await found(tmp_path, redis={**spec, "tls": {"caSecretRef": {"name": "ca", "key": "mine.pem"}}})
        assert said(report) == (False, "tls")
        assert "the key 'mine.pem' of Secret ca is not there" in report.message


async def test_an_sqlite_file_is_neither_made_nor_changed(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    report = await found(tmp_path, sqlite={})
    assert (report.usable, report.durability) == (True, "D2")
    assert report.server is not None and report.server.settings["journal_mode"] == "wal"
    assert list(tmp_path.iterdir()) == []
    folder.mkdir()
    path = folder / "main.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version=1")
    connection.close()
    before = path.read_bytes()
    assert (await found(tmp_path, sqlite={})).usable
    assert path.read_bytes() == before, "a file of an older version is upgraded by its host only"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version=99")
    connection.close()
    report = await found(tmp_path, sqlite={})
    assert said(report) == (False, "unsuitable") and "newer Perdure" in report.message
    path.write_bytes(b"no database at all" * 100)
    assert said(await found(tmp_path, sqlite={})) == (False, "refused")
    path.unlink()
    folder.rmdir()
    folder.write_text("a file in the way")
    report = await found(tmp_path, sqlite={})
    assert said(report) == (False, "refused") and "nothing can be written" in report.message


async def test_memory(tmp_path: Path) -> None:
    report = await found(tmp_path, memory={})
    assert (report.usable, report.durability) == (True, "D0")


@contextmanager
def answering(reply: Callable[[bytes], bytes]) -> Iterator[int]:
    """A server that answers whatever it is sent."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                while data := connection.recv(65536):
                    connection.sendall(reply(data))

    thread = Thread(target=serve)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()


@pytest.mark.parametrize("padding", [0, 115, 143])
async def test_what_a_server_repeats_is_hidden(tmp_path: Path, padding: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long answer is cut off in the middle of it."""

    def echo(data: bytes) -> bytes:
        if b"AUTH" in data:
            return b"+OK\r\n"
        return b"-ERR unknown command, with args beginning with: " + b"x" * padding + SECRET.encode() + b"\r\n"

    with answering(echo) as port:
        spec = {"url": f"redis://127.0.0.1:{port}/0", "credentialsSecretRef": password(tmp_path, SECRET)}
        report = await found(tmp_path, redis=spec)
        assert not report.usable
        assert "unknown command" in report.message
        assert SECRET[:6] not in report.document()
        # The control: it is the scrubbing that hides it.
        monkeypatch.setattr(probing, "_scrubbed", lambda text, hidden: text)
        assert SECRET[:6] in (await found(tmp_path, redis=spec)).document()


def test_a_report_fits_a_termination_message_whatever_a_server_says() -> None:
    wild = '\U0001f4a5\\"\n' * 2000
    report = ProbeReport(
        provider=wild,
        kind="redis",
        usable=True,
        message=wild,
        server=ServerFound(version=wild, settings={f"{number}{wild}": wild for number in range(16)}),
        warnings=(wild,) * 8,
    )
    assert len(report.document().encode()) <= MAX_BYTES
    assert ProbeReport.read(report.document()).message == report.message
    for broken in ("", "[]", "{}", "provider-unavailable: no", report.document()[:-10]):
        with pytest.raises(ManifestError, match="not a probe's report"):
            ProbeReport.read(broken)
    # What a newer version adds does not matter.
    assert ProbeReport.read(report.document()[:-1] + ', "more": 1}') == ProbeReport.read(report.document())


def command(folder: Path, *arguments: str, **spec: Any) -> subprocess.CompletedProcess[str]:
    (folder / "app.yaml").write_text(json.dumps(document(**spec)))
    environment = {**os.environ, "PERDURE_MAIN_PASSWORD": SECRET}
    return subprocess.run(
        [sys.executable, "-m", "perdure", "probe", "--manifest", str(folder / "app.yaml"), *arguments],
        capture_output=True, text=True, env=environment, timeout=60, check=False,
    )  # fmt: skip


def test_the_command(tmp_path: Path) -> None:
    with redis_server("--requirepass", SECRET) as server:
        done = command(tmp_path, redis={"url": server.url})
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["durability"] == "D2"
        assert done.stdout.count("\n") == 1, "one document"
        done = command(tmp_path, "--output", "text", redis={"url": server.url})
        assert "main (redis): usable" in done.stdout and "appendfsync" in done.stdout
        server.stop()
        done = command(tmp_path, redis={"url": server.url, "timeout": "200ms"})
        assert done.returncode == 3
        report = tmp_path / "report"
        done = command(tmp_path, "--report", str(report), redis={"url": server.url, "timeout": "200ms"})
        assert done.returncode == 0, "what it had to find out, it has"
        assert ProbeReport.read(report.read_text()).cause == "no-answer"
    assert SECRET not in done.stdout + done.stderr + report.read_text()


def test_a_command_that_cannot_begin(tmp_path: Path) -> None:
    secret = f"redis://:{SECRET}@redis:6379/0"
    report = tmp_path / "report"
    done = command(tmp_path, "--report", str(report), redis={"url": secret})
    assert done.returncode == 1 and "must not hold credentials" in done.stderr
    assert report.read_text().startswith("bad-manifest: ")
    assert SECRET not in done.stdout + done.stderr + report.read_text()
    done = command(tmp_path, "--provider", "other", memory={})
    assert done.returncode == 1 and "no KeyValueProvider other (found: main)" in done.stderr
    done = command(tmp_path, "--timeout", "0", memory={})
    assert done.returncode == 1 and "--timeout" in done.stderr
