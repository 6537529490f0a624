"""Real PostgreSQL servers for tests: each in a directory of its own on a free port, removed with everything it made.

PostgreSQL refuses to run as root; where the tests do (in containers), it runs as the user that its package made.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.servers import free_port

_MISSING = "PostgreSQL is not installed: run .ci/install-test-tools"


def programs() -> Path:
    """The directory of `postgres` and `initdb`: PERDURE_TEST_POSTGRES, or that of Debian, which keeps them out of PATH."""
    given = os.environ.get("PERDURE_TEST_POSTGRES")
    if given:
        return Path(given)
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4]))
    if found:
        return found[-1].parent
    program = shutil.which("postgres")
    assert program is not None, _MISSING
    return Path(program).resolve().parent


def _user() -> dict[str, Any]:
    """For `subprocess`: another user than root."""
    if os.geteuid() != 0:
        return {}
    try:
        entry = pwd.getpwnam("postgres")
    except KeyError:
        raise AssertionError(_MISSING) from None
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


@dataclass
class PostgresServer:
    """Its superuser is `postgres`, without a password unless one is given. `start` after `stop` or `crash` keeps its
    data, as far as the server had made it durable."""

    port: int
    directory: Path
    options: tuple[str, ...] = ()
    password: str | None = None
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def create(self) -> None:
        arguments = ["--auth=trust"]
        if self.password is not None:
            secret = self.directory / "password"
            secret.write_text(self.password)
            self.give(secret)
            arguments = ["--auth=scram-sha-256", f"--pwfile={secret}"]
        self.run("initdb", "-D", self.directory / "data", "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync",
                 *arguments)  # fmt: skip

    def give(self, path: Path) -> None:
        """Make a file the server's own, as it wants its secrets."""
        user = _user()
        if user:
            os.chown(path, user["user"], user["group"])
        path.chmod(0o600 if path.is_file() else 0o700)

    def start(self) -> None:
        # After a crash the former one's children may hold its memory for a moment.
        for _ in range(50):
            self.process = subprocess.Popen(
                [programs() / "postgres", "-D", self.directory / "data", "-p", str(self.port),
                 "-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={self.directory}",
                 "-c", "shared_buffers=32MB", "-c", "log_min_messages=fatal", *self.options],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                **_user(),
            )  # fmt: skip
            while self.process.poll() is None:
                if self._ready():
                    return
                time.sleep(0.02)
            time.sleep(0.1)
        raise AssertionError("PostgreSQL did not start")

    def stop(self) -> None:
        """At once, without a checkpoint: as `pg_ctl stop -m immediate`."""
        self._end(signal.SIGQUIT)

    def crash(self) -> None:
        """SIGKILL; its children notice and go."""
        self._end(signal.SIGKILL)

    def reconfigure(self, setting: str) -> None:
        """Add a line to postgresql.conf and have it read."""
        with (self.directory / "data" / "postgresql.conf").open("a") as file:
            file.write(setting + "\n")
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)

    def promote(self) -> None:
        self.run("pg_ctl", "promote", "-w", "-D", self.directory / "data")

    def run(self, program: str, *arguments: str | Path) -> None:
        subprocess.run([programs() / program, *arguments], check=True, stdout=subprocess.DEVNULL, **_user())

    def _end(self, how: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait()
            self.process = None

    def _ready(self) -> bool:
        program = str(programs() / "pg_isready")
        asked = [program, "-q", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres"]
        return subprocess.run(asked, check=False).returncode == 0


@contextlib.contextmanager
def postgres_server(*settings: str, password: str | None = None) -> Iterator[PostgresServer]:
    """`settings`: as of postgresql.conf, such as "fsync=off"."""
    options = tuple(part for setting in settings for part in ("-c", setting))
    with _server(options, password) as server:
        server.create()
        server.start()
        yield server


@contextlib.contextmanager
def standby_of(primary: PostgresServer) -> Iterator[PostgresServer]:
    """A hot standby that streams from `primary`."""
    with _server(primary.options, None) as server:
        server.run("pg_basebackup", "-D", server.directory / "data", "-h", "127.0.0.1", "-p", str(primary.port),
                   "-U", "postgres", "-R", "-X", "stream", "-c", "fast", "--no-sync")  # fmt: skip
        server.start()
        yield server


@contextlib.contextmanager
def _server(options: tuple[str, ...], password: str | None) -> Iterator[PostgresServer]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        server = PostgresServer(free_port(), Path(directory), options, password)
        server.give(server.directory)
        try:
            yield server
        finally:
            server.stop()
