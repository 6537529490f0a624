"""The few calls to the Kubernetes API that reconciling needs, over the official asyncio client.

Objects are plain dictionaries. Children are written by server-side apply under one field manager, so that what
others own (an autoscaler's replicas, a human's annotation) stays theirs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
from kubernetes.aio import client, config

FIELD_MANAGER = "perdure"
GROUP = "/apis/perdure.dev/v1alpha1"
Object = dict[str, Any]
_METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
_METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_TIMEOUT = 30
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
"""No object has another name (RFC 1123). Names come from manifests, and become a part of a path."""
UNREACHED = (aiohttp.ClientError, OSError, TimeoutError)
"""What a request raises when there was no answer."""


class ApiError(Exception):
    """The API server refused. `status`: the HTTP status; `reason`: its one word."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message

    @property
    def namespace_ends(self) -> bool:
        """Whether nothing can be made because the namespace is being deleted."""
        return self.status == 403 and "because it is being terminated" in self.message


@dataclass(frozen=True, slots=True)
class Kind:
    """Where objects of a kind live in the API."""

    prefix: str
    plural: str
    namespaced: bool = True

    def path(self, namespace: str | None, name: str | None = None, subresource: str = "") -> str:
        scope = f"/namespaces/{quote(namespace, safe='')}" if self.namespaced and namespace else ""
        tail = f"/{quote(name, safe='')}" if name else ""
        return f"{self.prefix}{scope}/{self.plural}{tail}{subresource}"


WORKER = Kind(GROUP, "workers")
PROVIDER = Kind(GROUP, "keyvalueproviders", namespaced=False)
KINDS = {
    "Worker": WORKER,
    "KeyValueProvider": PROVIDER,
    "ServiceAccount": Kind("/api/v1", "serviceaccounts"),
    "ConfigMap": Kind("/api/v1", "configmaps"),
    "Secret": Kind("/api/v1", "secrets"),
    "Service": Kind("/api/v1", "services"),
    "Pod": Kind("/api/v1", "pods"),
    "PersistentVolumeClaim": Kind("/api/v1", "persistentvolumeclaims"),
    "Event": Kind("/api/v1", "events"),
    "Deployment": Kind("/apis/apps/v1", "deployments"),
    "StatefulSet": Kind("/apis/apps/v1", "statefulsets"),
    "PodDisruptionBudget": Kind("/apis/policy/v1", "poddisruptionbudgets"),
    "Job": Kind("/apis/batch/v1", "jobs"),
    "Lease": Kind("/apis/coordination.k8s.io/v1", "leases"),
    "HorizontalPodAutoscaler": Kind("/apis/autoscaling/v2", "horizontalpodautoscalers"),
}


class Cluster:
    """A connection. Use `connect`, then `close`."""

    def __init__(self, api: client.ApiClient) -> None:
        self._api = api

    @classmethod
    async def connect(cls) -> Cluster:
        """In a pod by its service account, else by the kubeconfig."""
        try:
            config.load_incluster_config()
        except config.ConfigException:
            await config.load_kube_config()
        return cls(client.ApiClient())

    async def close(self) -> None:
        await self._api.close()

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Object | None:
        """The object, or None."""
        return await self._maybe("GET", kind.path(namespace, name)) if _NAME.fullmatch(name) else None

    async def get_metadata(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """Name, labels and resourceVersion only: the content (of a Secret) never leaves the server."""
        if not _NAME.fullmatch(name):
            return None
        return await self._maybe("GET", kind.path(namespace, name), accept=_METADATA)

    async def keys(self, kind: Kind) -> list[tuple[str, str]]:
        """(namespace, name) of all objects of a kind in the cluster, page by page and without their content."""
        found: list[tuple[str, str]] = []
        more = ""
        while True:
            query = {"limit": "500"} | ({"continue": more} if more else {})
            page = await self.request("GET", kind.path(None), query=query, accept=_METADATA_LIST)
            metadata = [item["metadata"] for item in page.get("items", [])]
            found += [(item.get("namespace", ""), item["name"]) for item in metadata]
            more = page.get("metadata", {}).get("continue", "")
            if not more:
                return found

    async def list(self, kind: Kind, namespace: str | None = None, selector: str = "") -> list[Object]:
        query = {"labelSelector": selector} if selector else {}
        found = await self.request("GET", kind.path(namespace), query=query)
        items: list[Object] = found.get("items", [])
        return items

    async def apply(self, obj: Object) -> Object:
        """Server-side apply as `perdure`, taking over fields that others changed."""
        kind, meta = KINDS[obj["kind"]], obj["metadata"]
        path = kind.path(meta.get("namespace"), meta["name"])
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        return await self.request("PATCH", path, query=query, body=obj, content="application/apply-patch+yaml")

    async def merge(
        self, kind: Kind, namespace: str | None, name: str, patch: Mapping[str, Any], *, subresource: str = ""
    ) -> Object:
        """JSON merge patch; with `metadata.resourceVersion` in it, only if nobody else wrote meanwhile."""
        path = kind.path(namespace, name, subresource)
        query = {"fieldManager": FIELD_MANAGER}
        return await self.request("PATCH", path, query=query, body=patch, content="application/merge-patch+json")

    async def create(self, kind: Kind, namespace: str, obj: Object) -> Object:
        return await self.request("POST", kind.path(namespace), query={"fieldManager": FIELD_MANAGER}, body=obj)

    async def replace(self, kind: Kind, namespace: str, name: str, obj: Object) -> Object:
        return await self.request("PUT", kind.path(namespace, name), query={"fieldManager": FIELD_MANAGER}, body=obj)

    async def delete(self, kind: Kind, namespace: str, name: str) -> None:
        """Gone, or already gone."""
        await self._maybe("DELETE", kind.path(namespace, name), query={"propagationPolicy": "Background"})

    async def _maybe(self, method: str, path: str, **options: Any) -> Object | None:
        try:
            return await self.request(method, path, **options)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content: str = "application/json",
        accept: str = "application/json",
    ) -> Object:
        """One request. Raises `ApiError` for a refusal, one of `UNREACHED` where there was no answer."""
        headers = {"Accept": accept, "Content-Type": content}
        await self._api.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        url = self._api.configuration.host + path + (f"?{urlencode(query)}" if query else "")
        reply = await self._api.call_api(method, url, headers, body=body, _request_timeout=_TIMEOUT)
        data = await reply.read()
        try:
            document: Object = json.loads(data) if data else {}
        except ValueError as error:  # a proxy in between answers with a page
            raise ApiError(reply.status, "", data[:200].decode("utf-8", "replace")) from error
        if not 200 <= reply.status < 300:
            raise ApiError(reply.status, document.get("reason", ""), document.get("message", ""))
        return document
