"""Requests to etcd's JSON gateway (`/v3/…`): bounded in number and time, sent again while there is time.

Every request of this provider may be repeated: it reads, deletes, or is a transaction that its dedup record guards.
"""

from __future__ import annotations

import asyncio
import io
import json
import random
import ssl
from collections.abc import Mapping
from typing import Any

import aiohttp

from perdure.errors import InternalError, PerdureError, ProviderUnavailable
from perdure.providers.etcd.config import EtcdConfig
from perdure.providers.etcd.failures import Refusal, translate
from perdure.providers.line import Line, seen
from perdure.providers.turns import Turns

Json = dict[str, Any]
"""A message of etcd's API: 64-bit numbers are texts, bytes are base64, what is empty may be left out."""
_UNREACHED = (aiohttp.ClientError, OSError, TimeoutError, asyncio.IncompleteReadError)


class EtcdClient:
    """`call` sends a request. A client belongs to one event loop."""

    def __init__(self, config: EtcdConfig) -> None:
        self._config = config
        catch = (*_UNREACHED, PerdureError)
        self._line: Line[None] = Line(config.endpoints, config.tls, self._look, self._translate, catch)
        self._turns = Turns(config.connections, config.timeout, lambda: f"etcd at {self.where}", self._translate)
        self._session: aiohttp.ClientSession | None = None
        self._token: str | None = None
        self._login: asyncio.Task[str | None] | None = None

    @property
    def where(self) -> str:
        """The present member, without credentials."""
        return self._line.where

    async def call(self, path: str, body: Mapping[str, Any]) -> Json:
        """The answer. Raises `ProviderUnavailable` (the outcome is unknown), `Overloaded`, and `Refusal` for a lease
        that is gone."""
        async with self._turns.turn():
            return await self._insist(path, body)

    async def version(self) -> str:
        """Of the server."""
        status = await self.call("/v3/maintenance/status", {})
        return str(status.get("version", "?"))

    async def _insist(self, path: str, body: Mapping[str, Any]) -> Json:
        """Until the time is up, or the server has said something final."""
        logins = attempts = 0
        while True:
            if attempts:
                await asyncio.sleep(random.uniform(0, min(0.02 * attempts, 0.5)))  # noqa: S311 - jitter
            attempts += 1
            endpoint, _ = await self._line.take()
            try:
                return await self._send(endpoint, path, body, await self._authority(endpoint))
            except Refusal as refusal:
                if refusal.no_lease:
                    raise
                if refusal.logged_out and logins < 2:
                    logins += 1
                    self._token = None
                elif refusal.elsewhere and len(self._config.endpoints) > 1:
                    self._line.broken(endpoint)
                else:
                    raise self._translate(refusal) from refusal
            except _UNREACHED:
                self._line.broken(endpoint)
            except asyncio.CancelledError:
                # The time is up, most likely: a member that is silent must not be asked first again.
                self._line.broken(endpoint)
                raise

    async def _send(self, endpoint: str, path: str, body: Mapping[str, Any], token: str | None) -> Json:
        headers = {"Content-Type": "application/json"} | ({} if token is None else {"Authorization": token})
        # A large body is sent in pieces.
        content = io.BytesIO(json.dumps(body).encode())
        async with self._http().post(
            endpoint + path, data=content, headers=headers, ssl=self._line.tls or True
        ) as reply:
            data = await reply.read()
            try:
                document = json.loads(data)
            except ValueError as error:
                raise ProviderUnavailable(
                    f"etcd at {self.where} answers {path} with {reply.status} and no JSON: is its gateway on "
                    "(--enable-grpc-gateway)?"
                ) from error
            if not isinstance(document, dict):
                raise InternalError(f"etcd at {self.where} answered {path} with JSON of another kind")
            if reply.status != 200:
                raise Refusal(int(document.get("code", 2)), str(document.get("message") or document.get("error") or ""))
            return document

    async def _authority(self, endpoint: str) -> str | None:
        """The token of a session, or None without credentials. All callers share one login."""
        if self._token is None:
            if self._login is None or self._login.done():
                self._login = asyncio.create_task(self._log_in(endpoint), name="etcd-login")
                self._login.add_done_callback(seen)
            self._token = await asyncio.shield(self._login)
        return self._token

    async def _log_in(self, endpoint: str) -> str | None:
        username, password = await asyncio.to_thread(self._config.credentials)
        if username is None:
            return None
        found = await self._send(
            endpoint, "/v3/auth/authenticate", {"name": username, "password": password or ""}, None
        )
        return str(found["token"])

    async def _look(self, endpoint: str, tls: ssl.SSLContext | None) -> None:
        """Whether a member answers at all."""
        timeout = aiohttp.ClientTimeout(total=self._config.timeout / 2)
        async with self._http().get(f"{endpoint}/version", ssl=tls or True, timeout=timeout) as reply:
            await reply.read()

    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=self._config.connections + 1)
            # `call` and `_look` have the timeouts; a server in the cluster is not reached by a proxy.
            self._session = aiohttp.ClientSession(
                connector=connector, timeout=aiohttp.ClientTimeout(total=None), auto_decompress=True, trust_env=False
            )
        return self._session

    def _translate(self, error: Exception) -> PerdureError:
        return translate(error, self.where)

    async def close(self) -> None:
        """Idempotent."""
        self._turns.close()
        await self._line.close()
        if self._login is not None and not self._login.done():
            self._login.cancel()
            await asyncio.wait({self._login})
        if self._session is not None:
            await self._session.close()
            self._session = None
