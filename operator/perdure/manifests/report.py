"""What `perdure probe` says of a provider: printed as JSON, and read by the operator from the probe's pod.

A pod's termination message has at most 4,096 bytes, and what a server says of itself is in it: everything is bounded,
when it is written and when it is read.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from perdure.errors import Cause, ManifestError
from perdure.manifests.provider import Level

MAX_BYTES = 4000
_MAX_TEXT = 200
_MAX_MESSAGE = 700


def _text(limit: int) -> BeforeValidator:
    """One printable line of at most so many characters."""

    def shorten(value: object) -> object:
        if not isinstance(value, str):
            return value
        line = "".join(char if char.isprintable() else " " for char in value).strip()
        return line if len(line) <= limit else line[: limit - 1] + "…"

    return BeforeValidator(shorten)


Text = Annotated[str, _text(_MAX_TEXT)]
Message = Annotated[str, _text(_MAX_MESSAGE)]


class ServerFound(BaseModel):
    """`settings`: what the durability stands on, by the store's own names."""

    model_config = ConfigDict(extra="ignore", frozen=True, alias_generator=to_camel, populate_by_name=True)

    version: Text = ""
    settings: dict[Text, Text] = Field(default={}, max_length=16)


class ProbeReport(BaseModel):
    """`usable`: hosts could work with it. If not, `cause` is one word and `message` a sentence with the next step.

    `durability`: D0 to D4, as found. A later version may say more; what is not known is left out.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, alias_generator=to_camel, populate_by_name=True)

    provider: Text
    kind: Text
    usable: bool
    cause: Cause | None = None
    message: Message
    server: ServerFound | None = None
    durability: Level | None = None
    guarantee: Text | None = None
    warnings: tuple[Text, ...] = Field(default=(), max_length=8)

    def document(self) -> str:
        """Compact JSON of at most MAX_BYTES: what is least needed goes first where it would be longer."""
        for left_out in (set(), {"warnings"}):
            text = self.model_dump_json(by_alias=True, exclude_none=True, exclude=left_out)
            if len(text.encode()) <= MAX_BYTES:
                return text
        return self.model_dump_json(by_alias=True, exclude_none=True, exclude={"warnings", "server"})

    @classmethod
    def read(cls, text: str) -> ProbeReport:
        """Raises `ManifestError` for what is no report."""
        try:
            return cls.model_validate_json(text[: 2 * MAX_BYTES])
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"])) or "the text"
            raise ManifestError(f"not a probe's report: {where}: {first['msg']}") from None
