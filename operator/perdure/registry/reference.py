"""OCI image references: `registry[:port]/repository[:tag][@sha256:digest]`. Pure parsing.

Grammar: OCI distribution specification v1.1, "Pulling manifests"; names as in its regular expressions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from perdure.errors import ManifestError

_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Reference:
    """`version` is the digest where one is given, else the tag."""

    registry: str
    repository: str
    tag: str | None
    digest: str | None

    @property
    def version(self) -> str:
        return self.digest or self.tag or "latest"

    def __str__(self) -> str:
        text = f"{self.registry}/{self.repository}"
        if self.tag:
            text += f":{self.tag}"
        return f"{text}@{self.digest}" if self.digest else text


def parse_reference(text: str) -> Reference:
    """Parse an image reference. The registry must be named: there is no default one.

    Raises `ManifestError` that says which part is wrong.
    """
    rest, _, digest = text.partition("@")
    if digest and not _DIGEST.fullmatch(digest):
        raise ManifestError(f"image {text!r}: the digest must be sha256: and 64 hexadecimal digits")
    registry, slash, path = rest.partition("/")
    if not slash or not ("." in registry or ":" in registry or registry == "localhost"):
        raise ManifestError(f"image {text!r}: name the registry first, as in registry.example/team/app:1.0")
    repository, colon, tag = path.partition(":")
    if not _REPOSITORY.fullmatch(repository):
        raise ManifestError(f"image {text!r}: {repository!r} is not a repository name (lower case)")
    if colon and not _TAG.fullmatch(tag):
        raise ManifestError(f"image {text!r}: {tag!r} is not a tag")
    return Reference(registry, repository, tag or None, digest or None)
