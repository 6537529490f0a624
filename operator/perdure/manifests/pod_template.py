"""`podTemplate`: Kubernetes' own pod template, of which only the shape is checked that merging stands on.

Every other field passes through as it is; whether it makes sense is for the API server to say.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class Passing(BaseModel):
    """Fields that are not named here are kept."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="allow", frozen=True, hide_input_in_errors=True
    )


class Named(Passing):
    """An item of a list that is merged by name."""

    name: str = Field(min_length=1)


class Mount(Passing):
    """A volume mount; two may show the same volume."""

    mount_path: str = Field(min_length=1)


class Port(Passing):
    """A port of a container."""

    container_port: int


class TemplateContainer(Named):
    """A container; the host's is called `host`."""

    env: tuple[Named, ...] = ()
    ports: tuple[Port, ...] = ()
    volume_mounts: tuple[Mount, ...] = ()


class TemplateMetadata(Passing):
    """Labels and annotations of the pods."""

    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class TemplateSpec(Passing):
    """A PodSpec."""

    service_account_name: str = ""
    containers: tuple[TemplateContainer, ...] = ()
    init_containers: tuple[TemplateContainer, ...] = ()
    volumes: tuple[Named, ...] = ()


class PodTemplate(Passing):
    """Merged over the operator's own template."""

    metadata: TemplateMetadata = TemplateMetadata()
    spec: TemplateSpec = TemplateSpec()

    def document(self) -> dict[str, Any]:
        """What was given, as it was given."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)
