"""Which component a Worker means, found once and pinned: a moved tag does not change running code.

The pin lives in `status.component` with the source it was made from; it is made anew only when the source in the
spec changes, or when `sha256` beside it asks for another component than the pinned one. (A ConfigMap is pinned to its
present content: changing it is how a component is updated there.)
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
from dataclasses import dataclass
from typing import Any

import aiohttp

from perdure.errors import ComponentError
from perdure.manifests.worker import ComponentSource
from perdure.reconciler.api import KINDS, Cluster, Object
from perdure.registry.digest import digest_of, require_component, require_digest
from perdure.registry.oci import Credentials, RegistryClient, credentials_from_docker_config
from perdure.registry.reference import parse_reference

_TIMEOUT = aiohttp.ClientTimeout(total=20, connect=5)


class ComponentRefused(ComponentError):
    """It was found, but it is none, or not the one that was asked for."""


@dataclass(frozen=True, slots=True)
class Pin:
    """`source`: what it was resolved from. `image_ref`: the OCI reference by digest. `size` 0: not known yet."""

    digest: str
    source: str
    size: int = 0
    image_ref: str | None = None


def source_text(source: ComponentSource) -> str:
    """One line that tells one source from another."""
    if source.image is not None:
        return f"image {source.image}"
    if source.url is not None:
        return f"url {source.url}"
    if source.config_map is not None:
        return f"configMap {source.config_map.name}/{source.config_map.key}"
    claim = source.persistent_volume_claim
    assert claim is not None
    return f"persistentVolumeClaim {claim.claim_name}/{claim.path}"


async def resolve_component(
    cluster: Cluster, namespace: str, source: ComponentSource, status: dict[str, Any], insecure: tuple[str, ...]
) -> Pin:
    """Raises `ComponentError` in words for the condition."""
    text = source_text(source)
    if source.config_map is not None:
        return await _from_config_map(cluster, namespace, source, text)
    if source.image is None:
        assert source.sha256 is not None
        return Pin(f"sha256:{source.sha256}", text)
    wanted = f"sha256:{source.sha256}" if source.sha256 is not None else None
    reference = parse_reference(source.image)
    pinned = status.get("component") or {}
    pinned_text, _, manifest = pinned.get("source", "").rpartition("@")
    if pinned_text == text and wanted in (None, pinned["digest"]):
        pin = Pin(pinned["digest"], pinned["source"], pinned.get("size", 0))
        return dataclasses.replace(pin, image_ref=str(dataclasses.replace(reference, tag=None, digest=manifest)))
    credentials = await _credentials(cluster, namespace, source)
    async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
        found = await RegistryClient(session, credentials=credentials, insecure=insecure).resolve(reference)
    if wanted not in (None, found.digest):
        raise ComponentRefused(f"image {source.image} holds {found.digest}, but {wanted} was expected")
    by_digest = dataclasses.replace(reference, tag=None, digest=found.manifest_digest)
    return Pin(found.digest, f"{text}@{found.manifest_digest}", found.size, str(by_digest))


async def _from_config_map(cluster: Cluster, namespace: str, source: ComponentSource, text: str) -> Pin:
    reference = source.config_map
    assert reference is not None
    found = await cluster.get(KINDS["ConfigMap"], namespace, reference.name)
    if found is None:
        raise ComponentError(f"ConfigMap {reference.name} not found in namespace {namespace}")
    data = _content(found, reference.name, reference.key)
    name = f"ConfigMap {reference.name} key {reference.key}"
    try:
        require_component(data, name=name)
        if source.sha256 is not None:
            require_digest(data, source.sha256, name=name)
    except ComponentError as error:
        raise ComponentRefused(error.detail) from error
    return Pin(digest_of(data), text, len(data))


def _content(found: Object, name: str, key: str) -> bytes:
    """kubectl puts a file that happens to be UTF-8 into `data`: what is wrong with it is then said below."""
    binary, text = found.get("binaryData") or {}, found.get("data") or {}
    if key in text:
        return str(text[key]).encode()
    if key not in binary:
        keys = ", ".join(sorted([*binary, *text])) or "none"
        raise ComponentError(f"ConfigMap {name} has no key {key} (found: {keys})")
    try:
        return base64.b64decode(binary[key])
    except binascii.Error as error:
        raise ComponentError(f"ConfigMap {name}: {key} is not base64") from error


async def _credentials(cluster: Cluster, namespace: str, source: ComponentSource) -> dict[str, Credentials]:
    """Registry logins: the only Secrets whose content the operator reads, and only those a Worker names for it."""
    found: dict[str, Credentials] = {}
    for reference in source.pull_secrets:
        secret = await cluster.get(KINDS["Secret"], namespace, reference.name)
        if secret is None:
            raise ComponentError(f"pull secret {reference.name} not found in namespace {namespace}")
        encoded = (secret.get("data") or {}).get(".dockerconfigjson")
        if encoded is None:
            raise ComponentError(f"pull secret {reference.name} is not of type kubernetes.io/dockerconfigjson")
        found |= credentials_from_docker_config(base64.b64decode(encoded).decode("utf-8", "replace"))
    return found
