"""Reading manifests from YAML: several documents a file, errors that name document and field."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from perdure.errors import ManifestError
from perdure.manifests.base import API_VERSION
from perdure.manifests.provider import KeyValueProvider
from perdure.manifests.worker import Worker

MAX_BYTES = 4 << 20
M = TypeVar("M", bound=BaseModel)
_WORDS = {
    "missing": "is required",
    "tuple_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "string_type": "must be text; numbers and booleans are with quotes",
    "int_type": "must be an integer, without quotes",
    "bool_type": "must be true or false, without quotes",
}
"""By pydantic's type of error, where its own words are about Python."""


@dataclass(frozen=True, slots=True)
class Manifests:
    """What a file holds of Perdure's kinds; documents of other kinds are skipped."""

    workers: tuple[Worker, ...]
    providers: tuple[KeyValueProvider, ...]


class _Loader(yaml.SafeLoader):
    """Safe, and without aliases: a few of them can stand for gigabytes."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not allowed in manifests")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Of a field that is given twice one value would be lost unseen."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.YAMLError(f"{key.value} is given twice{key.start_mark}")
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def load_manifests(text: str, *, source: str) -> Manifests:
    """Parse and validate. Raises `ManifestError` that begins with the source, document and field."""
    if len(text) > MAX_BYTES:
        raise ManifestError(f"{source} is longer than {MAX_BYTES:,} bytes")
    try:
        documents = list(yaml.load_all(text, Loader=_Loader))
    except (yaml.YAMLError, RecursionError) as error:
        raise ManifestError(f"{source} is not YAML: {error}") from error
    workers: list[Worker] = []
    providers: list[KeyValueProvider] = []
    for number, document in enumerate(documents, start=1):
        if document is None:
            continue
        where = f"{source} (document {number})" if len(documents) > 1 else source
        if not isinstance(document, dict):
            raise ManifestError(f"{where} is not an object")
        if not str(document.get("apiVersion", "")).startswith("perdure.dev/"):
            continue
        if document.get("apiVersion") != API_VERSION:
            raise ManifestError(f"must be {API_VERSION} [{where}]", field="apiVersion")
        if document.get("kind") == "Worker":
            workers.append(parse_worker(document, source=where))
        elif document.get("kind") == "KeyValueProvider":
            providers.append(parse_provider(document, source=where))
        else:
            raise ManifestError(f"must be Worker or KeyValueProvider [{where}]", field="kind")
    return Manifests(tuple(workers), tuple(providers))


def parse_worker(document: dict[str, Any], *, source: str = "Worker") -> Worker:
    """Raises `ManifestError` naming the field."""
    return _parse(Worker, document, source)


def parse_provider(document: dict[str, Any], *, source: str = "KeyValueProvider") -> KeyValueProvider:
    """Raises `ManifestError` naming the field."""
    return _parse(KeyValueProvider, document, source)


def _parse(model: type[M], document: dict[str, Any], source: str) -> M:
    try:
        return model.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        path = _path(first["loc"])
        message = _WORDS.get(first["type"]) or first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            message = "there is no such field" + _hint(model, first["loc"])
        more = error.error_count() - 1
        raise ManifestError(
            f"{message}" + (f" (and {more} more)" if more else "") + f" [{source}]", field=path
        ) from None


def _path(location: tuple[int | str, ...]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _hint(model: type[BaseModel], location: tuple[int | str, ...]) -> str:
    """The nearest field there is, for a misspelt one."""
    known = _fields_at(model, location[:-1])
    near = difflib.get_close_matches(str(location[-1]), known, n=1)
    if near:
        return f"; did you mean {near[0]}?"
    return f"; the fields are {', '.join(sorted(known))}" if known else ""


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    current: type[BaseModel] | None = model
    for part in location:
        if isinstance(part, int):
            continue
        field = next((f for f in current.model_fields.values() if f.alias == part), None) if current else None
        current = _model_in(field.annotation) if field is not None else None
    return [field.alias or name for name, field in current.model_fields.items()] if current else []


def _model_in(annotation: object) -> type[BaseModel] | None:
    """The model an annotation such as `tuple[Bucket, ...]` or `Redis | None` holds."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        found = _model_in(inner)
        if found is not None:
            return found
    return None
