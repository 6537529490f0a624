"""The pool of connections of guests' requests."""

from __future__ import annotations

import asyncio

from perdure.host.outgoing import OutgoingHttp
from perdure.manifests.worker import Http
from perdure.wasi.http.messages import HttpRequest
from perdure.wasi.recorder import Plain

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def test_a_connection_that_the_server_has_closed() -> None:
    """It takes one request, and closes the connection upon the second: a new one is used. A fresh connection that is
    closed is an error, for the request may have been carried out."""
    requests: list[int] = []
    refusing = False

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            for number in range(2):
                await reader.readuntil(b"\r\n\r\n")
                requests.append(number)
                if number or refusing:
                    return
                writer.write(ANSWER)
                await writer.drain()
        except asyncio.IncompleteReadError:
            return
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = OutgoingHttp(Http(allow=(f"127.0.0.1:{port}",)))

    async def ask() -> Plain:
        return await client.send(HttpRequest("POST", "http", f"127.0.0.1:{port}", "/", (), b""))

    for _ in range(3):
        answer = await ask()
        assert isinstance(answer, dict) and answer.get("body") == b"ok", answer
    assert requests == [0, 1, 0, 1, 0]
    refusing = True
    requests.clear()
    assert await ask() == {"error": ["connection-terminated", None]}
    assert requests == [1, 0], "once on the one that was there, once on one of its own"
    await client.close()
    server.close()
    await server.wait_closed()
