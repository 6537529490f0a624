"""A call with a megabyte of bytes there and back, in JSON and in CBOR.

The guest gives back the `list<u8>` that it was given; the host is a process over memory, so that what differs between
the two is what the formats take: base64, its bytes on the wire, and of client and host the time to write and read them.
The client's part is counted: it makes the body of the bytes and the bytes of the reply.
"""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Callable

import aiohttp
import cbor2

from harness.hosts import client_session, perdure_host
from harness.report import Cell, Options, Table, main
from harness.rounds import Contender, interleave, ratio, spread
from support.guests import guest

SIZES = (1_000, 100_000, 1_000_000)
ROUNDS = 7
COLUMNS = (
    "bytes",
    "JSON, ms",
    "CBOR, ms",
    "JSON ÷ CBOR",
    "the host's processor, JSON ÷ CBOR",
    "on the wire, JSON ÷ CBOR",
)


def _json(value: bytes) -> bytes:
    return json.dumps([base64.b64encode(value).decode()]).encode()


def _from_json(reply: bytes) -> bytes:
    return base64.b64decode(json.loads(reply))


def _cbor(value: bytes) -> bytes:
    return cbor2.dumps([value])


class Echo:
    """Sends the value in one format and wants it back; each call is a new one of the same instance."""

    def __init__(
        self,
        url: str,
        session: aiohttp.ClientSession,
        media: str,
        write: Callable[[bytes], bytes],
        read: Callable[[bytes], bytes],
        value: bytes,
    ) -> None:
        self._url = f"{url}/v1/instances/{media.rpartition('/')[2]}/functions/via-bytes"
        self._session = session
        self._headers = {"Content-Type": media, "Accept": media}
        self._write, self._read, self._value = write, read, value
        self.wire = 0

    async def run(self, count: int) -> None:
        for _ in range(count):
            body = self._write(self._value)
            async with self._session.post(self._url, data=io.BytesIO(body), headers=self._headers) as reply:
                data = await reply.read()
                if reply.status != 200 or self._read(data) != self._value:
                    raise RuntimeError(f"{self._url} answered {reply.status}: {data[:200]!r}")
            self.wire = len(body) + len(data)


async def _row(url: str, pid: int, size: int, options: Options) -> dict[str, Cell]:
    value = os.urandom(size)
    count = 3 if options.quick else max(10, 20_000_000 // (size + 100_000))
    async with client_session(1) as session:
        formats = {
            "JSON": Echo(url, session, "application/json", _json, _from_json, value),
            "CBOR": Echo(url, session, "application/cbor", _cbor, cbor2.loads, value),
        }
        contenders = [Contender(name, echo.run, count) for name, echo in formats.items()]
        rounds = options.rounds or (3 if options.quick else ROUNDS)
        found = await interleave(contenders, rounds, processes={"host": pid})
    one, other = found["JSON"], found["CBOR"]
    cells: list[Cell] = [
        size,
        spread([seconds * 1e3 for seconds in one.seconds]),
        spread([seconds * 1e3 for seconds in other.seconds]),
        ratio(one.seconds, other.seconds),
        ratio(one.processor["host"], other.processor["host"]),
        formats["JSON"].wire / formats["CBOR"].wire,
    ]
    return dict(zip(COLUMNS, cells, strict=True))


async def benchmark(options: Options) -> list[Table]:
    table = Table("A list<u8> there and back", COLUMNS)
    with perdure_host("formats", "memory: {}", component=guest("values")) as host:
        assert host.process is not None
        for size in SIZES:
            table.rows.append(await _row(host.url, host.process.pid, size, options))
    return [table]


if __name__ == "__main__":
    main("A call with many bytes, in JSON and in CBOR.", benchmark, has_quick=True)
