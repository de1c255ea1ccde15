"""Where models and data come from: the addresses of a spec, taken apart once, here."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import Field
from pydantic_core import PydanticCustomError

from tunesmith.api.base import Rule

Scheme = Literal["hf", "pvc", "configmap", "job", "file", "path"]
MODEL_SCHEMES: tuple[Scheme, ...] = ("hf", "pvc", "job", "file", "path")
DATA_SCHEMES: tuple[Scheme, ...] = ("hf", "pvc", "configmap", "file", "path")

Uri = Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^[^\s]+$")]
"""`hf://OWNER/NAME[@REVISION]`, `pvc://CLAIM/PATH`, `configmap://NAME/KEY`, `job://NAME`; here also a local path."""

DNS_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
DNS_SUBDOMAIN = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
DnsLabel = Annotated[str, Field(max_length=63, pattern=DNS_LABEL)]
DnsSubdomain = Annotated[str, Field(max_length=253, pattern=DNS_SUBDOMAIN)]


@dataclass(frozen=True)
class Location:
    """A source taken apart."""

    scheme: Scheme
    name: str
    """The repository, claim or ConfigMap; empty for a local path."""
    path: str
    """The path below it; for a local path the whole of it."""
    revision: str | None = None

    @classmethod
    def parse(cls, uri: str) -> Self:
        """Takes a source apart.

        Raises:
            ValueError: the scheme is unknown, or a part is missing; the message says what is expected.
        """
        scheme, separator, rest = uri.partition("://")
        if not separator:
            return cls(scheme="path", name="", path=uri)
        if scheme == "file":
            return cls(scheme="file", name="", path=rest)
        if scheme == "hf":
            name, _, revision = rest.partition("@")
            if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
                raise ValueError("should be hf://OWNER/NAME or hf://OWNER/NAME@REVISION")
            return cls(scheme="hf", name=name, path="", revision=revision or None)
        if scheme == "job":
            if not re.match(DNS_SUBDOMAIN, rest):
                raise ValueError("should be job://NAME")
            return cls(scheme="job", name=rest, path="")
        if scheme in ("pvc", "configmap"):
            name, _, path = rest.partition("/")
            if not re.match(DNS_SUBDOMAIN, name) or ".." in path.split("/"):
                raise ValueError(f"should be {scheme}://NAME/PATH, without .. in the path")
            if scheme == "configmap" and not path:
                raise ValueError("should be configmap://NAME/KEY")
            kind: Scheme = "pvc" if scheme == "pvc" else "configmap"
            return cls(scheme=kind, name=name, path=path)
        raise ValueError(f"unknown scheme {scheme}://; known: hf://, pvc://, configmap://, job://, file://")


def check_uri(*schemes: Scheme) -> Callable[[str], str]:
    """A validator that refuses an address that is not one of these schemes, in a sentence."""

    def check(uri: str) -> str:
        try:
            location = Location.parse(uri)
            if location.scheme not in schemes:
                allowed = " or ".join(f"{s}://" for s in schemes if s not in ("file", "path"))
                raise ValueError(f"{location.scheme}:// does not work here; use {allowed}")
        except ValueError as error:
            raise PydanticCustomError("source", "{text}", {"text": str(error)}) from None
        return uri

    return check


def cluster_rule(field: str, optional: bool = False) -> Rule:
    """The rule that `field` is an address that pods can reach."""

    def holds(value: Any) -> bool:
        uri = getattr(value, field)
        return uri is None or Location.parse(uri).scheme not in ("file", "path")

    return Rule(
        cel=(f"!has(self.{field}) || " if optional else "") + f"self.{field}.matches('^(hf|pvc|configmap|job)://')",
        message="is a local path, which works only with `tunesmith run`; "
        "use hf://, pvc:// or another address in the cluster",
        holds=holds,
        field=field,
        where="cluster",
    )
