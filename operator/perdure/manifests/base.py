"""What all models share: camel case outside, unknown fields refused, nothing changed after validation."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, Strict
from pydantic.alias_generators import to_camel

from perdure.manifests.units import parse_bytes, parse_factor, parse_milliseconds

API_VERSION = "perdure.dev/v1alpha1"


class Model(BaseModel):
    """Base of every part of a manifest."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True, hide_input_in_errors=True
    )


Whole = Annotated[int, Strict()]
"""A whole number, and nothing that could be read as one: the API takes neither `"3"` nor `true`."""

Flag = Annotated[bool, Strict()]
"""`true` or `false`."""

Bytes = Annotated[int, BeforeValidator(parse_bytes)]
"""A Kubernetes quantity (`64Ki`) as bytes."""

Milliseconds = Annotated[
    int, BeforeValidator(parse_milliseconds), PlainSerializer(lambda value: f"{value}ms", return_type=str)
]
"""A duration (`30s`) as milliseconds. It is written with its unit again."""

Factor = Annotated[float, BeforeValidator(parse_factor)]
"""A factor from 1 to 10; as text (`"1.5"`) where it is no whole number, since the API has no fractions."""


class Metadata(BaseModel):
    """As much of Kubernetes' object metadata as is used; the rest is kept out of the way."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True, alias_generator=to_camel)

    name: str
    namespace: str = "default"
    uid: str = ""
    generation: int = 0
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
