"""Typed models of the custom resources, shared by operator, host and command. The API is `perdure.dev/v1alpha1`."""

from perdure.manifests.load import Manifests, load_manifests
from perdure.manifests.provider import KeyValueProvider
from perdure.manifests.worker import Worker

__all__ = ["KeyValueProvider", "Manifests", "Worker", "load_manifests"]
