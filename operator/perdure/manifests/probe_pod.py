"""`spec.probe.pod` of a KeyValueProvider: what a cluster may ask of the pods that look at it.

Named fields, not a whole pod template: the Job runs in a namespace that the provider chooses, with the operator's right
to make it, and must not become a way to run anything else there.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from perdure.manifests.base import Model, Whole

Quantity = str | Whole
_Name = Annotated[str, Field(min_length=1, max_length=253)]


class Toleration(Model):
    """As of a PodSpec."""

    key: str | None = None
    operator: Literal["Equal", "Exists"] | None = None
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    toleration_seconds: Whole | None = None


class Affinity(BaseModel):
    """As of a PodSpec, and passed on as it is."""

    model_config = ConfigDict(extra="allow", frozen=True)


class Resources(Model):
    """Requests and limits by name (`cpu`, `memory`), laid over the operator's own."""

    requests: dict[str, Quantity] = {}
    limits: dict[str, Quantity] = {}


class PullSecret(Model):
    """A Secret of type kubernetes.io/dockerconfigjson in the probes' namespace."""

    name: _Name


class ProbePod(Model):
    """Labels, annotations, where it is scheduled, what it may use, and how its image is pulled."""

    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    node_selector: dict[str, str] = {}
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=64)] = ()
    affinity: Affinity | None = None
    priority_class_name: _Name | None = None
    resources: Resources = Resources()
    image_pull_secrets: Annotated[tuple[PullSecret, ...], Field(max_length=10)] = ()
