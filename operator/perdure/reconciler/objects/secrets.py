"""The Secrets that a provider is reached with: which there are, and where pods have them."""

from __future__ import annotations

from dataclasses import dataclass

from perdure.manifests.provider import KeyValueProvider
from perdure.reconciler.objects.common import Object

_FOLDER = "/etc/perdure/secrets"


@dataclass(frozen=True, slots=True)
class SecretUse:
    """`why`: the field that names it. `fixed`: its content is read only when a pod starts."""

    name: str
    why: str
    fixed: bool = False


def secrets_of(provider: KeyValueProvider) -> list[SecretUse]:
    """All that a provider refers to. A password is not fixed: it is read at each connect."""
    server = provider.spec.server
    if server is None:
        return []
    of = f"of KeyValueProvider {provider.name}"
    found = []
    if server.tls is not None and server.tls.ca_secret_ref is not None:
        found.append(SecretUse(server.tls.ca_secret_ref.name, f"caSecretRef {of}", fixed=True))
    if server.credentials_secret_ref is not None:
        found.append(SecretUse(server.credentials_secret_ref.name, f"credentialsSecretRef {of}"))
    if server.client_certificate_ref is not None:
        found.append(SecretUse(server.client_certificate_ref.name, f"clientCertificateSecretRef {of}"))
    sentinel = provider.spec.redis.sentinel if provider.spec.redis is not None else None
    if sentinel is not None and sentinel.credentials_secret_ref is not None:
        found.append(SecretUse(sentinel.credentials_secret_ref.name, f"sentinel.credentialsSecretRef {of}"))
    return found


def secret_volumes(index: int, provider: KeyValueProvider) -> list[tuple[Object, Object]]:
    """(volume, mount) of each. `index`: the provider's number in its pod, which makes names that are valid."""
    server = provider.spec.server
    sentinel = provider.spec.redis.sentinel if provider.spec.redis is not None else None
    found: list[tuple[Object, Object]] = []

    def add(name: str, source: Object, folder: str) -> None:
        mount = {"name": name, "mountPath": f"{_FOLDER}/{folder}", "readOnly": True}
        found.append(({"name": name, "secret": source}, mount))

    if server is not None and server.credentials_secret_ref is not None:
        add(f"credentials-{index}", {"secretName": server.credentials_secret_ref.name}, provider.name)
    if sentinel is not None and sentinel.credentials_secret_ref is not None:
        source: Object = {"secretName": sentinel.credentials_secret_ref.name}
        add(f"credentials-sentinel-{index}", source, f"{provider.name}-sentinel")
    if server is not None and server.tls is not None and server.tls.ca_secret_ref is not None:
        reference = server.tls.ca_secret_ref
        items = [{"key": reference.key, "path": reference.key}]
        # Optional: a pod would wait for the key without a word, while what runs in it says what is missing.
        optional: Object = {"secretName": reference.name, "items": items, "optional": True}
        add(f"ca-{index}", optional, f"{provider.name}-ca")
    if server is not None and server.client_certificate_ref is not None:
        add(f"certificate-{index}", {"secretName": server.client_certificate_ref.name}, f"{provider.name}-tls")
    return found
