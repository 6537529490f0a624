"""A small OCI registry client: resolve a tag to a digest, and pull a component's single layer.

Implements the pull half of the OCI distribution specification v1.1 with anonymous, basic and bearer
authentication. Every answer is bounded in size; digests are verified. Registry answers are hostile input.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import aiohttp

from perdure.errors import ComponentError
from perdure.registry.digest import require_digest
from perdure.registry.reference import Reference

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
WASM_LAYER_TYPES = ("application/wasm", "application/vnd.wasm.content.layer.v1+wasm")
MAX_MANIFEST = 4 * 1024 * 1024
MAX_COMPONENT = 512 * 1024 * 1024
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')
_TOKEN = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class Credentials:
    """A registry login. Never printed."""

    username: str
    password: str = field(repr=False)

    @property
    def basic(self) -> str:
        """The value of an Authorization header (RFC 7617)."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


@dataclass(frozen=True, slots=True)
class Resolved:
    """A component found in a registry. `digest` is the layer's, which is the component's own; `size` in bytes."""

    manifest_digest: str
    digest: str
    size: int


def credentials_from_docker_config(text: str) -> dict[str, Credentials]:
    """Logins by registry host from a `.dockerconfigjson`. Raises `ComponentError` when it is not one."""
    try:
        auths = json.loads(text)["auths"]
        found = {}
        for host, entry in auths.items():
            if "auth" in entry:
                user, _, password = base64.b64decode(entry["auth"], validate=True).decode().partition(":")
            else:
                user, password = entry["username"], entry["password"]
            found[host.removeprefix("https://").removeprefix("http://").split("/")[0]] = Credentials(user, password)
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error):
        raise ComponentError("the pull secret does not hold a .dockerconfigjson with `auths`") from None
    return found


class RegistryClient:
    """Pulls over `session`. `insecure`: registries (host:port) spoken to over plain HTTP."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        credentials: Mapping[str, Credentials] | None = None,
        insecure: Collection[str] = (),
    ) -> None:
        self._session = session
        self._credentials = dict(credentials or {})
        self._insecure = frozenset(insecure)
        self._tokens: dict[tuple[str, str], str] = {}

    async def resolve(self, ref: Reference) -> Resolved:
        """The component that `ref` points at now. Raises `ComponentError` that says what the registry lacks."""
        body = await self._get(ref, f"manifests/{ref.version}", MAX_MANIFEST, accept=MANIFEST_TYPE)
        manifest_digest = "sha256:" + hashlib.sha256(body).hexdigest()
        if ref.digest and ref.digest != manifest_digest:
            raise ComponentError(f"image {ref}: the registry answered with a manifest of another digest")
        return Resolved(manifest_digest, *_wasm_layer(ref, body))

    async def pull(self, ref: Reference, resolved: Resolved, progress: Callable[[str], None]) -> bytes:
        """The component's bytes, verified against `resolved.digest`."""
        progress(f"pulling {ref} ({resolved.size:,} bytes)")
        data = await self._get(ref, f"blobs/{resolved.digest}", max(resolved.size, 1), accept="*/*")
        require_digest(data, resolved.digest, name=f"image {ref}")
        return data

    async def _get(self, ref: Reference, path: str, limit: int, *, accept: str) -> bytes:
        scheme = "http" if ref.registry in self._insecure else "https"
        url = f"{scheme}://{ref.registry}/v2/{ref.repository}/{path}"
        try:
            for attempt in range(2):
                headers = {"Accept": accept, **self._authorization(ref)}
                async with self._session.get(url, headers=headers) as reply:
                    if reply.status == 401 and attempt == 0:
                        await self._authenticate(ref, reply.headers.get("WWW-Authenticate", ""))
                        continue
                    if reply.status == 404:
                        raise ComponentError(f"image {ref} was not found in its registry")
                    if reply.status in (401, 403):
                        raise ComponentError(
                            f"image {ref}: the registry refused the credentials (spec.component.pullSecrets)"
                        )
                    if reply.status != 200:
                        raise ComponentError(f"image {ref}: the registry answered {reply.status}")
                    return await _read_bounded(reply, limit, str(ref))
        except (TimeoutError, aiohttp.ClientError) as error:
            raise ComponentError(
                f"image {ref}: registry {ref.registry} was not reached ({type(error).__name__})"
            ) from error
        raise ComponentError(f"image {ref}: the registry refused the token it gave")

    def _authorization(self, ref: Reference) -> dict[str, str]:
        token = self._tokens.get((ref.registry, ref.repository))
        return {"Authorization": token} if token else {}

    async def _authenticate(self, ref: Reference, challenge: str) -> None:
        """Follow a WWW-Authenticate challenge (distribution spec, token authentication)."""
        login = self._credentials.get(ref.registry)
        scheme = challenge.split(" ", 1)[0].lower()
        key = (ref.registry, ref.repository)
        if scheme == "basic" and login is not None:
            self._tokens[key] = login.basic
        elif scheme == "bearer":
            self._tokens[key] = f"Bearer {await self._bearer(ref, dict(_CHALLENGE.findall(challenge)), login)}"
        else:
            raise ComponentError(f"image {ref}: the registry asks for credentials (spec.component.pullSecrets)")

    async def _bearer(self, ref: Reference, fields: dict[str, str], login: Credentials | None) -> str:
        """A token from the service that the registry names. It is the registry's word, so it may not lead to plain
        HTTP (a cloud's metadata service, an unencrypted password) unless the registry itself is spoken to that way."""
        realm = fields.get("realm", "")
        allowed = ("https://", "http://") if ref.registry in self._insecure else ("https://",)
        if not realm.startswith(allowed):
            raise ComponentError(f"image {ref}: the registry names a token service that is not https")
        headers = {"Authorization": login.basic} if login is not None else {}
        params = {"scope": f"repository:{ref.repository}:pull", "service": fields.get("service", "")}
        async with self._session.get(realm, params=params, headers=headers, allow_redirects=False) as reply:
            if reply.status != 200:
                raise ComponentError(f"image {ref}: the registry's token service answered {reply.status}")
            body = await _read_bounded(reply, MAX_MANIFEST, str(ref))
        try:
            answer = json.loads(body)
            token = answer.get("token") or answer.get("access_token")
        except (ValueError, AttributeError, RecursionError):
            token = None
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise ComponentError(f"image {ref}: the registry's token service answered without a token")
        return token


def _wasm_layer(ref: Reference, body: bytes) -> tuple[str, int]:
    try:
        layers = json.loads(body)["layers"]
        wasm = [layer for layer in layers if layer["mediaType"] in WASM_LAYER_TYPES]
        if len(wasm) == 1:
            digest, size = str(wasm[0]["digest"]), int(wasm[0]["size"])
            if re.fullmatch(r"sha256:[0-9a-f]{64}", digest) and 0 < size <= MAX_COMPONENT:
                return digest, size
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ComponentError(f"image {ref} is not an OCI artifact manifest") from None
    raise ComponentError(
        f"image {ref} holds {len(wasm)} WebAssembly layers; a component artifact has exactly one, "
        f"of media type {WASM_LAYER_TYPES[0]}"
    )


async def _read_bounded(reply: aiohttp.ClientResponse, limit: int, what: str) -> bytes:
    data = bytearray()
    async for chunk in reply.content.iter_chunked(1 << 16):
        data += chunk
        if len(data) > limit:
            raise ComponentError(f"{what}: the answer is longer than {limit:,} bytes")
    return bytes(data)
