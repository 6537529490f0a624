"""Getting the component's bytes: a file, a URL or a registry, verified against the pinned digest before they run.

And whether instances of it can be at all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

import aiohttp

from perdure.component.about import About
from perdure.errors import ComponentError, ManifestError
from perdure.host.config import HostConfig
from perdure.registry.digest import require_component, require_digest
from perdure.registry.files import read_component
from perdure.registry.oci import MAX_COMPONENT, Credentials, RegistryClient, credentials_from_docker_config
from perdure.registry.reference import parse_reference

_TIMEOUT = aiohttp.ClientTimeout(total=300, connect=10)


async def fetch_component(config: HostConfig, progress: Callable[[str], None]) -> bytes:
    """The bytes, checked. Raises `ComponentError` in words for the Worker's status."""
    source = config.worker.spec.component
    if config.component_file is not None:
        name, data = str(config.component_file.name), await asyncio.to_thread(read_component, config.component_file)
    elif source.url is not None and source.url.startswith("file:"):
        path = config.base / unquote(urlsplit(source.url).path)
        name, data = path.name, await asyncio.to_thread(read_component, path)
    elif source.url is not None:
        name, data = source.url, await _download(source.url, progress)
    elif source.image is not None:
        name, data = source.image, await _pull(config, source.image, progress)
    else:
        raise ComponentError("the component's file was not given: use --component-file")
    for expected in (config.component_digest, source.sha256):
        if expected:
            require_digest(data, expected, name=name)
    require_component(data, name=name)
    return data


async def _download(url: str, progress: Callable[[str], None]) -> bytes:
    progress(f"downloading {url}")
    try:
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as session, session.get(url) as reply:
            if reply.status != 200:
                raise ComponentError(f"{url} answered {reply.status}")
            data = bytearray()
            async for chunk in reply.content.iter_chunked(1 << 16):
                data += chunk
                if len(data) > MAX_COMPONENT:
                    raise ComponentError(f"{url} is longer than {MAX_COMPONENT:,} bytes")
            return bytes(data)
    except (TimeoutError, aiohttp.ClientError, ValueError) as error:
        raise ComponentError(f"{url} cannot be fetched ({type(error).__name__})") from error


async def _pull(config: HostConfig, image: str, progress: Callable[[str], None]) -> bytes:
    credentials = await asyncio.to_thread(_pull_credentials, config.secrets)
    async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
        client = RegistryClient(session, credentials=credentials, insecure=config.insecure_registries)
        reference = parse_reference(image)
        return await client.pull(reference, await client.resolve(reference), progress)


def _pull_credentials(secrets: Path) -> dict[str, Credentials]:
    found: dict[str, Credentials] = {}
    for path in sorted(secrets.glob("pull-*/.dockerconfigjson")):
        found |= credentials_from_docker_config(path.read_text(encoding="utf-8"))
    return found


def describe_failure(error: ComponentError) -> str:
    """What goes into the pod's termination message, for the operator to read."""
    return json.dumps({"code": error.code, "detail": error.detail})


def check_memory(about: About, most: int) -> None:
    """No instance could be made whose memory begins with more than `limits.memory`. Raises `ManifestError`."""
    needed = max((memory.minimum * memory.page for memory in about.memories), default=0)
    if needed > most:
        raise ManifestError(
            f"the component's memory begins with {needed:,} bytes, more than {most:,}", field="spec.limits.memory"
        )
